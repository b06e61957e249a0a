"""Entities ready to use: a counter, and the aircraft and airports of ``cluster-app replay flights``.

None of them is ever passivated: their totals live in memory only, and to let one go would be to lose them.
"""

from entities.catalog.aircraft import Aircraft
from entities.catalog.airport import Airport
from entities.catalog.counter import Counter

__all__ = ["Aircraft", "Airport", "Counter"]
