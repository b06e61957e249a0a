"""A driver that Ray runs on the cluster, from a copy of its folder, with its output sent back.

ray job submit --address http://127.0.0.1:8265 --working-dir deploy/drivers -- python as_job.py
"""

from __future__ import annotations

from counting import count_visits

import cluster_app

if __name__ == "__main__":
    with cluster_app.connect() as cluster:  # a job is told by Ray which cluster is its own
        count_visits(cluster, "job")
