"""Speed against peers, by rules that leave no excuse: what ``cluster-app bench`` runs.

Both sides do the same work: every reply's value is checked, the same number is in flight, each side runs in a
process and a Ray of its own, so neither pollutes the other. All rounds are shown; medians and their ratio are
quoted.
"""
