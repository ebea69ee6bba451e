"""The plots, as SVG: memory and Pareto front of each layer; memory and time of all layers.

The first colours are those of Okabe & Ito, which can be told apart with any kind of colour vision; an algorithm
has the same colour in every plot.  Text and axes have the colour of the page's text, in light and dark mode.
"""

from __future__ import annotations

import math

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from pymec import svg
from pymec.figures import MIB, factor, mib
from pymec.report.records import LayerRun, Run

LOOKS = {
    "direct": ("#8c8c8c", "X"),
    "im2col": ("#d55e00", "s"),
    "im2col_per_image": ("#e69f00", "P"),
    "im2col_blocked": ("#b8860b", "^"),
    "mec": ("#0072b2", "o"),
    "mec_vanilla": ("#56b4e9", "v"),
    "mec_a": ("#3d8fc4", "<"),
    "mec_b": ("#7fa9c9", ">"),
    "mec_paper": ("#00507f", "P"),
    "mec_banded": ("#009e73", "D"),
}
"""The colour and the mark of an algorithm; one that is not listed takes the next of :data:`OTHERS`."""

OTHERS = (
    ("#cc79a7", "p"),
    ("#9467bd", "h"),
    ("#a6761d", "*"),
    ("#17a2b8", "d"),
    ("#9a9a1f", "H"),
    ("#e377c2", "8"),
)

MOST_MARKS = len(LOOKS) + len(OTHERS)


def look(algorithm: str, algorithms: tuple[str, ...]) -> tuple[str, str]:
    """The algorithm's colour and mark, the same in every plot of a run."""
    unlisted = [name for name in algorithms if name not in LOOKS]
    return LOOKS.get(algorithm) or OTHERS[unlisted.index(algorithm) % len(OTHERS)]


# What is drawn ------------------------------------------------------------------------------------------


def memory_overview(run: Run) -> Figure:
    """Workspace on every layer, and im2col's ÷ tuned MEC's; if algorithms are many, those in :data:`LOOKS`."""
    with mpl.rc_context(svg.STYLE):
        figure, axes = _rows(run, extra=1.1)
        for row, layer in enumerate(run.layers):
            _span(axes, row, layer)
        series = _same_bytes(run, _drawn(run))
        # mec and im2col are drawn on the line between them, the others a little off it, so as not to hide them.
        aside = [names for names in series if names[0] not in ("im2col", "mec", "direct")]
        for names in series:
            shift = _shift(aside.index(names), len(aside)) if names in aside else 0
            points = [
                (cell.memory.workspace / MIB, row + shift)
                for row, layer in enumerate(run.layers)
                if (cell := layer.cell(names[0])) and cell.memory and cell.memory.workspace
            ]
            if points:
                _dots(axes, points, names, run)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("workspace, MiB (measured; logarithmic axis)")
        axes.margins(x=0.1)
        _legend(figure, axes)
    return figure


def time_overview(run: Run) -> Figure:
    """Time of every algorithm on every layer, divided by im2col's."""
    with mpl.rc_context(svg.STYLE):
        figure, axes = _rows(run, extra=1.5)
        axes.axvline(1, color=look("im2col", run.algorithms)[0], linewidth=1.5, label="im2col")
        drawn = _drawn(run)
        for i, name in enumerate(drawn):
            points = [
                (slowdown, row + _shift(i, len(drawn)))
                for row, layer in enumerate(run.layers)
                if name != "im2col" and (slowdown := layer.slowdown(name)) is not None
            ]
            if points:
                _dots(axes, points, (name,), run)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel("time ÷ im2col's time (left is faster; logarithmic axis)")
        _legend(figure, axes)
    return figure


def memory_of_layer(layer: LayerRun, run: Run) -> Figure:
    """Workspace of every algorithm on one layer: measured as a bar, predicted as a line across its end."""
    with mpl.rc_context(svg.STYLE):
        cells = layer.cells[::-1]  # the first on top
        figure = Figure(figsize=(5.4, 0.5 + 0.27 * len(cells)), layout="constrained")
        axes = figure.add_subplot()
        axes.set_yticks(range(len(cells)), [cell.algorithm for cell in cells])
        axes.tick_params(axis="y", length=0)
        for row, cell in enumerate(cells):
            if cell.memory is None:
                axes.annotate("can't", (0, row), (4, 0), textcoords="offset points", va="center", style="italic")
                continue
            size = cell.memory.workspace / MIB
            axes.barh(row, size, height=0.7, color=look(cell.algorithm, run.algorithms)[0])
            predicted = cell.memory.predicted / MIB
            axes.plot([predicted, predicted], [row - 0.42, row + 0.42], color=svg.INK, linewidth=1.5)
            end = max(size, predicted)
            axes.annotate(mib(cell.memory.workspace), (end, row), (5, 0), textcoords="offset points", va="center")
        axes.set_xlabel("workspace, MiB (bar: measured, line: predicted)")
        axes.set_xlim(left=0)
        axes.margins(x=0.18)
        axes.grid(axis="x")
    return figure


def pareto_of_layer(layer: LayerRun, run: Run) -> Figure:
    """Time against bytes on one layer; no algorithm is better in both than one on the line (the Pareto front)."""
    with mpl.rc_context(svg.STYLE):
        figure = Figure(figsize=(5.4, 3.4), layout="constrained")
        axes = figure.add_subplot()
        found = {
            c.algorithm: (c.memory.workspace / MIB, c.timing.fastest * 1e3)
            for c in layer.cells
            if c.memory and c.timing
        }
        smallest = min((size for size, _ in found.values() if size), default=1.0)
        axes.set_xscale("symlog", linthresh=smallest, linscale=0.5)
        axes.set_yscale("log")
        for name, point in found.items():
            colour, mark = look(name, run.algorithms)
            on_front = name in layer.front
            axes.plot(*point, mark, color=colour, alpha=1 if on_front else 0.35, markersize=7 if on_front else 5)
            if on_front:
                axes.annotate(name, point, (7, 4), textcoords="offset points", fontsize=9)
        front = [found[name] for name in layer.front]
        if front:
            axes.step(*zip(*front, strict=True), where="post", color=svg.INK, alpha=0.4, zorder=0)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(left=-smallest / 3)
        axes.set_xlabel("workspace, MiB (measured; 0, then a logarithmic axis)")
        axes.set_ylabel("time, ms")
        axes.margins(x=0.12, y=0.12)
        axes.grid()
    return figure


def _rows(run: Run, extra: float) -> tuple[Figure, Axes]:
    """Axes with a row per layer, the first on top."""
    figure = Figure(figsize=(6.6, extra + 0.36 * len(run.layers)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_yticks(range(len(run.layers)), [layer.name for layer in run.layers])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(run.layers) - 0.5, -0.5)
    axes.grid(axis="x")
    return figure, axes


def _span(axes: Axes, row: int, layer: LayerRun) -> None:
    """A line from tuned MEC to im2col, and how many times smaller tuned MEC's workspace is."""
    saving, cell = layer.saving("mec"), layer.cell("mec")
    if saving is None or saving == math.inf or cell is None or cell.memory is None:
        return
    ends = cell.memory.workspace / MIB, layer.im2col_nbytes / MIB
    axes.plot(ends, (row, row), color=svg.INK, alpha=0.35, linewidth=3, solid_capstyle="butt", zorder=1)
    axes.annotate(factor(saving), (ends[1], row), (9, 0), textcoords="offset points", va="center")


def _shift(index: int, count: int) -> float:
    """The distance of a dot from the middle of its row."""
    return 0.5 * ((index + 0.5) / count - 0.5)


def _dots(axes: Axes, points: list[tuple[float, float]], names: tuple[str, ...], run: Run) -> None:
    colour, mark = look(names[0], run.algorithms)
    axes.plot(
        *zip(*points, strict=True),
        linestyle="none",
        marker=mark,
        markersize=7 if names[0] in ("im2col", "mec") else 5.5,
        color=colour,
        label=" = ".join(names),
    )


def _drawn(run: Run) -> tuple[str, ...]:
    """The algorithms in the plots of all layers, no more than can be told apart."""
    if len(run.algorithms) <= MOST_MARKS:
        return run.algorithms
    return tuple(name for name in run.algorithms if name in LOOKS)


def _same_bytes(run: Run, names_drawn: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Algorithms whose bytes are the same on every layer share their dots: ("mec", "mec_a", ...)."""
    together: dict[tuple[int | None, ...], list[str]] = {}
    for name in names_drawn:
        cells = [layer.cell(name) for layer in run.layers]
        nbytes = tuple(cell.memory.workspace if cell and cell.memory else None for cell in cells)
        together.setdefault(nbytes, []).append(name)
    # The shortest name stands for all: it is the one without a variant's suffix.
    return [tuple(sorted(names, key=len)) for names in together.values()]


def _legend(figure: Figure, axes: Axes) -> None:
    entries = len(axes.get_legend_handles_labels()[0])
    if entries:
        figure.legend(loc="outside upper left", ncols=2 if entries <= 6 else 3, handletextpad=0.2, borderpad=0)
