"""Speed against peers, by rules that leave no excuse: what ``cluster-app bench`` runs.

A benchmark is a module of `rows`: which sides it has, how they become figures, and the goal. A side is a module here
that runs as a program, sends by one of the loops (`pipeline`, `closed_loop`, `latency`) and prints one JSON line;
`rounds` has the sides take turns, and a `report` keeps all they said.

All sides do the same work: every reply's value is checked, the same number is in flight. Each round of each side is
a process of its own, with a Ray of its own where it needs one; only `overhead` and `instrument` let their sides take
turns on one Ray, so that small differences show. All rounds are shown; medians and their ratio are quoted.
"""
