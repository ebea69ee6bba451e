"""The roofline of ``traffic.py``: rates over the operations of a byte, under what the machine can do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _common import BLUE, GREEN, ORANGE, save_figure
from _limits import FMA_LIMIT
from _store import Record
from matplotlib.ticker import LogLocator, NullLocator

COLOURS = {"im2col": ORANGE, "mec": BLUE, "direct": GREEN}
"""Of an algorithm's family, by the beginning of its name."""

PER_BYTE = 0.5, 500
"""The horizontal axis of every panel."""

LEAST_GAP = 0.075
"""Between two labels, as a share of the panel's height."""


def draw(records: list[Record], algorithms: Sequence[str], path: Path) -> None:
    """A panel per layer: filled marks count the bytes behind the level-2 cache, hollow ones all that move."""
    from matplotlib.figure import Figure

    columns = min(2, len(records))
    rows = -(-len(records) // columns)
    figure = Figure(figsize=(5.8 * columns, 3.6 * rows), layout="constrained")
    for i, record in enumerate(records, 1):
        axes = figure.add_subplot(rows, columns, i)
        found = record.values["algorithms"]
        draw_layer(axes, record, [name for name in algorithms if found.get(name, {}).get("best")])
        if i > len(records) - columns:
            axes.set_xlabel("operations a byte")
        if i % columns == 1 or columns == 1:
            axes.set_ylabel("GFLOP/s")
    save_figure(figure, path)


def draw_layer(axes: Any, record: Record, names: list[str]) -> None:
    """Roofs, marks, and a label for each mark in the margin."""
    limits, found = dict(record.values["limits"]), record.values["algorithms"]
    rates = {name: 1e-9 * found[name]["operations"] / found[name]["best"] for name in names}
    peak = limits.pop(FMA_LIMIT)
    bottom, top = min(rates.values()) / 1.5, 1.5 * peak
    axes.set(xscale="log", yscale="log", xlim=PER_BYTE, ylim=(bottom, top), title=record.cell["layer"])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
    small = {"textcoords": "offset points", "fontsize": "x-small", "color": "0.4"}
    axes.axhline(peak, color="0.3", linewidth=1)
    axes.annotate("multiply-adds in registers", (PER_BYTE[1], peak), (-3, 3), ha="right", **small)
    for name, rate in limits.items():
        if name != "level 1":  # products keep their operands further away
            axes.plot([bottom / rate, peak / rate], [bottom, peak], color="0.6", linewidth=1, linestyle="--")
            low = max(PER_BYTE[0], 1.1 * bottom / rate)
            axes.annotate(name, (low, rate * low), (4, 0), **small)
    names = sorted(rates, key=rates.__getitem__)
    for name, height in zip(names, label_heights([rates[name] for name in names], bottom, top), strict=True):
        colour = next((of for family, of in COLOURS.items() if name.startswith(family)), "0.2")
        moved, far = (found[name]["operations"] / found[name][of] for of in ("moved", "far"))
        axes.plot([moved, far], [rates[name]] * 2, color=colour, linewidth=0.8, alpha=0.6)
        axes.plot(moved, rates[name], "o", color=colour, markersize=4, markerfacecolor="white")
        axes.plot(far, rates[name], "o", color=colour, markersize=5)
        line = {"arrowstyle": "-", "color": colour, "linewidth": 0.4}
        beside = (1.02 * PER_BYTE[1], height)
        axes.annotate(name, (far, rates[name]), beside, fontsize="small", color=colour, va="center",
                      arrowprops=line, annotation_clip=False)  # fmt: skip


def label_heights(rates: Sequence[float], bottom: float, top: float) -> list[float]:
    """Heights of labels near these rising rates, far enough apart on the logarithmic axis."""
    gap = (top / bottom) ** LEAST_GAP
    heights = list(rates)
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] * gap)
    limit = top / gap
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], limit)
        limit = heights[i] / gap
    return heights
