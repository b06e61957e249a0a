"""An entity type whose module loads everywhere but in the processes of its entities."""

from __future__ import annotations

import os

from cluster_app import Entity, entity, message

if "UNLOADABLE" in os.environ:
    raise LookupError("no such library here")


@entity(hosting="actor", runtime_env={"env_vars": {"UNLOADABLE": "1"}})
class Unloadable(Entity):
    @message
    def stand(self) -> None: ...
