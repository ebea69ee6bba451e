"""How numbers are written, on the page and in the terminal."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence

MIB = 2**20
ABSENT = "–"


def factor(value: float | None) -> str:
    """A saving: 3.4×, 218×, or ∞ for an algorithm that needs nothing."""
    if value is None:
        return ABSENT
    if value == math.inf:
        return "∞"
    return f"{value:.0f}×" if value >= 99.95 else f"{value:.1f}×" if value >= 9.995 else f"{value:.2f}×"


def times(value: float | None) -> str:
    """A time in units of im2col's: 0.42, 5.3, 170."""
    if value is None:
        return ABSENT
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def mib(nbytes: int | None) -> str:
    """Bytes in MiB to three digits, and 0 as it is."""
    if nbytes is None:
        return ABSENT
    if nbytes == 0:
        return "0"
    size = nbytes / MIB
    return f"{size:,.0f} MiB" if size >= 100 else f"{size:#.3g} MiB"


def bare_mib(nbytes: int | None) -> str:
    """As :func:`mib`, without the unit, for a table whose heading has it."""
    return mib(nbytes).removesuffix(" MiB")


def milliseconds(seconds: float) -> str:
    """Seconds in ms to three digits."""
    value = seconds * 1000
    return f"{value:,.0f} ms" if value >= 100 else f"{value:#.3g} ms"


def counted(count: int, thing: str) -> str:
    """1 thread, 2 threads."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


# Tables -------------------------------------------------------------------------------------------------


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as text; columns of numbers, which begin with a digit or a sign or are none, stand to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    numbers = [_are_numbers(column) for column in zip(*rows, strict=True)] or [False] * len(header)
    lines = []
    for row in (header, *rows):
        cells = (
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, numbers, strict=True)
        )
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def html_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table for a notebook."""
    lines = ["".join(f"<th>{html.escape(cell)}</th>" for cell in header)]
    lines += ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _are_numbers(column: Sequence[str]) -> bool:
    return all(cell[:1] in "0123456789+-∞–" for cell in column)
