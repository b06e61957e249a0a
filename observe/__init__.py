"""Metrics of every message: what is counted, where it is kept, how it adds up over a cluster.

The lowest floor: it imports neither `entities` nor `cluster_app`. Users import `observe.metrics`. Importing
this package is cheap: it loads neither Ray nor OpenTelemetry.
"""
