"""The figures of the paper's experiments: layers from left to right, a mark for each algorithm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from _common import save_figure

import pymec

LOOKS = {
    "im2col": ("#d55e00", "s"),
    "im2col_per_image": ("#e69f00", "P"),
    "im2col_blocked": ("#b8860b", "^"),
    "mec_a": ("#3d8fc4", "<"),
    "mec_b": ("#7fa9c9", ">"),
    "mec_paper": ("#00507f", "o"),
    "mec": ("#009e73", "D"),
    "mec_banded": ("#66c2a5", "d"),
    "winograd_f2": ("#cc79a7", "p"),
    "winograd_f4": ("#9467bd", "h"),
    "winograd_f4_banded": ("#c5b0d5", "H"),
    "fft": ("#7f7f7f", "X"),
    "fft_lean": ("#bcbd22", "v"),
    "auto": ("#000000", "*"),
}
"""The colour and the mark of an algorithm, in every figure; published MEC is blue, tuned MEC green."""

Series = Mapping[str, Mapping[str, float]]


def by_layer(panels: Mapping[str, Series], axis: str, path: Path, title: str) -> None:
    """A panel for each entry, two in a row: a value for each algorithm and layer, on a logarithmic axis."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    rows = -(-len(panels) // 2)
    figure, grid = plt.subplots(
        rows, min(2, len(panels)), figsize=(11, 0.9 + 3.4 * rows), squeeze=False, layout="constrained"
    )
    layers = [
        name
        for name in pymec.layers.PAPER
        if any(name in of for series in panels.values() for of in series.values())
    ]
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    for axes, (name, series) in zip(grid.flat, panels.items(), strict=False):
        shown = {label: of for label, of in series.items() if of}
        for place, (label, of) in enumerate(shown.items()):
            colour, mark = LOOKS[label]
            shift = 0.6 * ((place + 0.5) / len(shown) - 0.5)  # beside each other, so that none hides another
            columns = [layers.index(layer) + shift for layer in of]
            axes.plot(columns, list(of.values()), mark, color=colour, markersize=5, label=label)
        for column in range(1, len(layers)):
            axes.axvline(column - 0.5, color="0.9", linewidth=0.8, zorder=0)
        axes.set(yscale="log", ylabel=axis, xticks=range(len(layers)))
        axes.set_xticklabels(layers)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_title(name, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    handles: dict[str, object] = {}
    for axes in grid.flat[: len(panels)]:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=10)
    save_figure(figure, path)
    plt.close(figure)
