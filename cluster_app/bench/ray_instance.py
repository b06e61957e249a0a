"""A Ray of its own for one side of a comparison.

It decides how that Ray is started: the same for every side, and never one that runs already.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["fresh_ray"]


@contextmanager
def fresh_ray() -> Iterator[None]:
    """Start a Ray on this machine for the length of a block, and end that one alone."""
    import ray

    ray.init(address="local", include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()
