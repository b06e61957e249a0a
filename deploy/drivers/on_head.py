"""A driver on the head node, or on any other node of the cluster: it joins the Ray that runs there.

python on_head.py
"""

from __future__ import annotations

import ray
from counting import count_visits

import cluster_app

if __name__ == "__main__":
    ray.init(address="auto", log_to_driver=False)  # fails where no Ray runs, rather than to start one
    with cluster_app.connect() as cluster:
        count_visits(cluster, "head")
    ray.shutdown()
