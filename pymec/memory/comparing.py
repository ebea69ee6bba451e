"""Two measurements side by side: who had more, and by how much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pymec.figures import aligned, factor, html_table, mib
from pymec.memory.measuring import MemoryReport
from pymec.memory.owners import OWNERS
from pymec.memory.tables import source_of
from pymec.memory.tracking import Track
from pymec.spelling import shown


class Pair(NamedTuple):
    """Bytes of one thing in two measurements."""

    what: str
    first: int
    second: int

    @property
    def difference(self) -> int:
        """Bytes that the second one has more."""
        return self.second - self.first


@dataclass(frozen=True)
class Comparison:
    """Two measurements side by side; made by :func:`compare`.

    Attributes
    ----------
    names : pair of str
    rows : tuple of Pair
        What was compared, bytes in the first, bytes in the second.
    """

    names: tuple[str, str]
    rows: tuple[Pair, ...]

    def table(self) -> str:
        """The rows as text."""
        return aligned(self._header(), [self._cells(row) for row in self.rows])

    __str__ = table

    def _header(self) -> tuple[str, ...]:
        return "", *self.names, "difference", "times"

    def _cells(self, row: Pair) -> tuple[str, ...]:
        sign = "-" if row.difference < 0 else "+" if row.difference else ""
        times = factor(row.second / row.first) if row.first else ""
        return row.what, mib(row.first), mib(row.second), f"{sign}{mib(abs(row.difference))}", times

    def _repr_html_(self) -> str:
        return html_table(self._header(), map(self._cells, self.rows))


def compare(
    first: MemoryReport | Track, second: MemoryReport | Track, names: tuple[str, str] | None = None
) -> Comparison:
    """Two measurements side by side, which memray has no command for.

    Parameters
    ----------
    first, second : MemoryReport or Track
        Two of the same kind: reports of calls (:func:`measure`), or what two blocks of code had in memory
        (:func:`track`, :func:`read`).
    names : pair of str, optional
        What the columns are called; by default the algorithms, or "first" and "second".

    Returns
    -------
    Comparison
        For reports every part of the peak, and the pages touched.  For tracks the peak, and each owner and line at
        its most; lines are the same if their text is, as their numbers change from one version to the next.

    Examples
    --------
    >>> reports = [pymec.memory.measure(x, kernel, algorithm=name) for name in ("im2col", "mec")]  # doctest: +SKIP
    >>> print(pymec.memory.compare(*reports))  # doctest: +SKIP
    """
    if names is not None and not (
        isinstance(names, (tuple, list)) and len(names) == 2 and all(isinstance(name, str) for name in names)
    ):
        raise ValueError(f"names must be two texts, got {shown(names)}")
    if isinstance(first, MemoryReport) and isinstance(second, MemoryReport):
        named = names or (first.algorithm, second.algorithm)
        return Comparison(named, _of_reports(first, second))
    if isinstance(first, Track) and isinstance(second, Track):
        return Comparison(names or ("first", "second"), _of_tracks(first, second))
    kinds = type(first).__name__, type(second).__name__
    raise TypeError(f"first and second must be two MemoryReports or two Tracks, got {kinds[0]} and {kinds[1]}")


def _of_reports(first: MemoryReport, second: MemoryReport) -> tuple[Pair, ...]:
    """The formula, the parts of the peak, the peak, and what was measured without memray."""
    parts = ("predicted", "workspace", "output", "blas", "fft", "other", "peak", "resident")
    return tuple(Pair(name, getattr(first, name), getattr(second, name)) for name in parts)


def _of_tracks(first: Track, second: Track) -> tuple[Pair, ...]:
    owners = [{OWNERS[name]: use.most for name, use in track.by_owner.items()} for track in (first, second)]
    lines = [_by_text(track) for track in (first, second)]
    return Pair("peak", first.peak, second.peak), *_pairs(*owners), *_pairs(*lines)


def _by_text(track: Track) -> dict[str, int]:
    """Bytes of each text of a line and owner, at their most; lines of the same text count together."""
    timeline, names = track.timeline, list(OWNERS)
    texts = [source_of(line) or str(line) for line in timeline.lines]
    numbers = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    of_line = np.array([numbers[text] for text in texts], np.int64)
    key = of_line[timeline.line] * len(names) + timeline.owner
    uses = timeline.uses(key, len(numbers) * len(names))
    return {
        f"{OWNERS[names[i % len(names)]]}: {list(numbers)[i // len(names)]}": use.most
        for i, use in enumerate(uses)
        if use.most > 0
    }


def _pairs(first: dict[str, int], second: dict[str, int]) -> list[Pair]:
    """What either of them has, the largest first."""
    rows = [Pair(what, first.get(what, 0), second.get(what, 0)) for what in {**first, **second}]
    return sorted(rows, key=lambda row: -max(row.first, row.second))
