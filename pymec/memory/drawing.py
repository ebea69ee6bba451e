"""What :class:`pymec.memory.Track` shows: a plot of all events, and tables and plot as HTML."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pymec import figures, svg
from pymec.memory.owners import OWNERS
from pymec.memory.tables import large_ones, source_of
from pymec.memory.timeline import Timeline

if TYPE_CHECKING:
    from pymec.memory.tracking import Track

COLOURS = {
    "workspace": "#d55e00",
    "output": "#0072b2",
    "plans": "#009e73",
    "blas": "#e69f00",
    "fft": "#f0e442",
    "numpy": "#56b4e9",
    "torch": "#cc79a7",
    "python": "#999999",
    "other": "#5a6370",
}
"""Of the owners, after Okabe & Ito: they can be told apart with any kind of colour vision."""

MOST_POINTS = 1000
"""Of a plot: of more events than that, each stretch shows the one at which memory is fullest."""

MOST_LINES = 40
"""Of the table of lines on a page."""


def draw(timeline: Timeline, ax: Axes | None = None) -> Axes:
    """What was in memory after each event, stacked by owner, the peak marked with what was asked for there."""
    axes = _new_axes() if ax is None else ax
    events = _shown(timeline.in_memory)
    uses = timeline.by_owner()
    if uses:
        axes.stackplot(
            events,
            [timeline.of_owner(name)[events] / figures.MIB for name in uses],
            step="post",
            labels=[OWNERS[name] for name in uses],
            colors=[COLOURS[name] for name in uses],
        )
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize="small", frameon=False)
    if timeline.peak_event >= 0:
        event, height = timeline.peak_event, timeline.peak / figures.MIB
        line = timeline.lines[timeline.line[event]]
        axes.plot(event, height, marker="v", color=svg.INK if ax is None else "black", markersize=5)
        side = "right" if event > len(timeline.delta) / 2 else "left"
        axes.annotate(
            f" {figures.mib(timeline.peak)}, {line} ", (event, height), ha=side, va="bottom", fontsize="small"
        )
        axes.set_ylim(0, 1.15 * height)
    axes.set_xlim(0, max(len(timeline.delta) - 1, 1))
    axes.set_xlabel("allocations and releases, in order")
    axes.set_ylabel("MiB in memory")
    return axes


def page(track: Track, whole: bool, title: str = "memory") -> str:
    """Tables and plot as a page, or as a part of one (a notebook's)."""
    with mpl.rc_context(svg.STYLE):
        axes = draw(track.timeline)
    figure = axes.figure
    assert isinstance(figure, Figure)
    large = large_ones(track.by_line, track.peak)
    lines = [(line, source_of(line), OWNERS[owner], use) for (line, owner), use in large.items()][:MOST_LINES]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(mib=figures.mib)
    return environment.get_template("track.html.jinja").render(
        title=title,
        whole=whole,
        track=track,
        owners={OWNERS[name]: (use, COLOURS[name]) for name, use in track.by_owner.items()},
        lines=lines,
        left_out=len(track.by_line) - len(lines),
        plot=Markup(svg.inline(figure, "track", "What was in memory, by owner")),
    )


def _new_axes() -> Axes:
    return Figure(figsize=(8, 3.2), layout="constrained").add_subplot()


def _shown(in_memory: NDArray[np.int64]) -> NDArray[np.int64]:
    """The events of a plot: all, or of each stretch of them the one at which memory is fullest."""
    count = in_memory.size
    if count <= MOST_POINTS:
        return np.arange(count)
    firsts = np.linspace(0, count, MOST_POINTS + 1).astype(np.int64)
    return np.array([first + np.argmax(in_memory[first:end]) for first, end in pairwise(firsts)])
