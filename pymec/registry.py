"""The one table that names every algorithm: what it needs, what it can't do, and what runs it.

To add an algorithm, write its kernel file and a row in its family's module; the public door, the formulas'
tests, the memory measurements and the report find it by themselves.
"""

from __future__ import annotations

from pymec.families import FAMILIES
from pymec.families._row import Algorithm, Schedule

__all__ = ["ALGORITHMS", "Algorithm", "Schedule", "get", "names"]

ALGORITHMS: dict[str, Algorithm] = {row.name: row for family in FAMILIES for row in family.ROWS}


def names() -> tuple[str, ...]:
    """The names of all algorithms, in the table's order."""
    return tuple(ALGORITHMS)


def get(name: str) -> Algorithm:
    """The row of that name, or a ValueError that lists the names."""
    try:
        return ALGORITHMS[name]
    except (KeyError, TypeError):
        raise ValueError(f"algorithm must be 'auto' or one of {', '.join(ALGORITHMS)}; got {name!r}") from None
