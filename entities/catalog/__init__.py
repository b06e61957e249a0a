"""Entities ready to use: a counter, a database, and the aircraft and airports of ``cluster-app replay flights``.

None of them is ever passivated: what they hold lives in memory only, and to let one go would be to lose it.
"""

from entities.catalog.aircraft import Aircraft
from entities.catalog.airport import Airport
from entities.catalog.counter import Counter
from entities.catalog.database import Database

__all__ = ["Aircraft", "Airport", "Counter", "Database"]
