"""Feeding a stream to entities: what ``cluster-app replay`` does.

Rows come from a `Source`, a `Workload` makes them messages, a `Feeder` sends them with back-pressure, and
`run` puts what came of it into a `Summary`. The cluster is reached through the port alone: nothing here knows
Ray.
"""
