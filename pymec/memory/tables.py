"""What :class:`pymec.memory.Track` prints: owners, lines and calls, as text."""

from __future__ import annotations

import linecache
from typing import TYPE_CHECKING

from pymec.figures import aligned, mib
from pymec.memory.owners import OWNERS, Line

if TYPE_CHECKING:
    from pymec.memory.timeline import Call, Use

LEAST_SHARE = 0.005
"""Of the peak: lines that never have so much are left out of a table, and counted."""


def source_of(line: Line) -> str:
    """The text of a line, if its file can be read."""
    return linecache.getline(line.file, line.number).strip()


def of_owners(uses: dict[str, Use]) -> str:
    """The owners, by name."""
    rows = [(OWNERS[name], mib(use.at_peak), mib(use.most)) for name, use in uses.items()]
    return aligned(("whose", "at the peak", "at its most"), sorted(rows, key=lambda row: row[0]))


def of_lines(uses: dict[tuple[Line, str], Use], peak: int) -> str:
    """The lines, the one that had most first."""
    large = large_ones(uses, peak)
    rows = [
        (str(line), OWNERS[owner], mib(use.at_peak), mib(use.most), source_of(line))
        for (line, owner), use in large.items()
    ]
    text = aligned(("line", "whose", "at the peak", "at its most", ""), rows)
    left_out = len(uses) - len(large)
    return text + (f"\n({left_out} with less than {LEAST_SHARE:.1%} of the peak)" if left_out else "")


def large_ones(uses: dict[tuple[Line, str], Use], peak: int) -> dict[tuple[Line, str], Use]:
    """The lines that a table has."""
    return {key: use for key, use in uses.items() if use.most >= LEAST_SHARE * peak}


def of_calls(calls: list[Call]) -> str:
    """The calls of each line together: how many, and the most that one of them took."""
    of_line: dict[Line, list[Call]] = {}
    for call in calls:
        of_line.setdefault(call.line, []).append(call)
    rows = [
        (str(line), str(len(made)), mib(max(c.workspace for c in made)), mib(max(c.peak for c in made)))
        for line, made in of_line.items()
    ]
    return aligned(("calls with workspace", "calls", "largest workspace", "highest peak meanwhile"), rows)
