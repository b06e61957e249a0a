"""The fixtures of the Ray room, for this one too."""

from tests.ray.conftest import config, file_cluster, namespace

__all__ = ["config", "file_cluster", "namespace"]
