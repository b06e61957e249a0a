"""A driver on a machine that is no node of the cluster, through Ray Client.

python through_client.py ray://127.0.0.1:10001
"""

from __future__ import annotations

import sys

from counting import count_visits

import cluster_app

if __name__ == "__main__":
    with cluster_app.connect(sys.argv[1]) as cluster:
        count_visits(cluster, "client")
