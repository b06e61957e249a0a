"""What an entity's own process asks of the node it runs on.

Decides which demands have a meaning. Where they can be met is the scheduler's business.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

__all__ = ["NO_DEMAND", "Demand"]

_INSTEAD = {"CPU": "num_cpus", "GPU": "num_gpus"}


@dataclasses.dataclass(frozen=True, slots=True)
class Demand:
    """The resources and the environment of one process, as `@entity` was told; None is not to ask for any.

    :ivar resources: amounts by name; ``"memory"`` is in bytes, every other name is one that nodes were started with.
    """

    num_cpus: float | None = None
    num_gpus: float | None = None
    resources: Mapping[str, float] | None = None
    runtime_env: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in ("num_cpus", "num_gpus"):
            _check_amount(name, getattr(self, name))
        if self.num_gpus is not None and self.num_gpus > 1 and self.num_gpus != int(self.num_gpus):
            raise ValueError(
                f"@entity(num_gpus={self.num_gpus!r}): a part of one GPU, or a whole number of them"
            )
        if self.resources is not None:
            if not isinstance(self.resources, Mapping):
                raise ValueError(f"@entity(resources={self.resources!r}): a dict of amounts by name")
            for name, amount in self.resources.items():
                if not isinstance(name, str) or not name:
                    raise ValueError(
                        f"@entity(resources={self.resources!r}): {name!r} is no name of a resource"
                    )
                if name in _INSTEAD:
                    raise ValueError(f"@entity(resources=...): ask for {name!r} with {_INSTEAD[name]}")
                if amount is None:
                    raise ValueError(f"@entity(resources=...): {name!r} is not an amount: None")
                _check_amount(f"resources[{name!r}]", amount)
            # The same demand written in another order is the same code.
            object.__setattr__(self, "resources", dict(sorted(self.resources.items())))
        if self.runtime_env is not None and not (
            isinstance(self.runtime_env, Mapping) and all(isinstance(key, str) for key in self.runtime_env)
        ):
            raise ValueError(
                f"@entity(runtime_env={self.runtime_env!r}): a dict, as ray.init(runtime_env=...) takes"
            )

    def given(self) -> dict[str, Any]:
        """What was asked for, by the option's name."""
        fields = ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
        return {name: value for name, value in fields if value is not None}

    def amounts(self) -> dict[str, float]:
        """How much of what, by the names that nodes use."""
        amounts = {"CPU": self.num_cpus, "GPU": self.num_gpus, **(self.resources or {})}
        return {name: float(amount) for name, amount in amounts.items() if amount}

    def __str__(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.given().items()) or "nothing"


def _check_amount(name: str, amount: Any) -> None:
    if amount is None:
        return
    if isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 <= amount < math.inf:
        raise ValueError(f"@entity({name}={amount!r}): an amount, 0 or more")


NO_DEMAND = Demand()
