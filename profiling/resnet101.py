"""The paper's layers as often as ResNet-101 has them: memory and run time of MEC against im2col.

ResNet-101 begins with a 7 × 7 layer and has 3, 4, 23 and 3 blocks in its four stages (He et al. 2015), each with
a 3 × 3 layer: in the paper's list they are cv4 once, and cv9, cv10, cv11 and cv12 as often as there are blocks.
Every layer's bytes and seconds count that many times.  (In the network itself cv4 has 3 input channels, and the
3 × 3 layers are padded; the paper's list has 64 channels and no padding.)

Nothing is measured here: the numbers are the records of ``paper_memory.py`` and ``paper_time.py``.

    python profiling/resnet101.py --batch 1

Prints Markdown tables and draws ``figures/resnet101.svg``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from _common import MIB, command_line, save_figure
from _figures import LOOKS
from _in_turns import add_store_options, figure_of, kernels_in, newest, store_of
from _store import Record, Store
from _tables import Table, groups, plural, show

WEIGHTS = {"cv4": 1, "cv9": 3, "cv10": 4, "cv11": 23, "cv12": 3}
"""How often ResNet-101 has each layer."""

Weighted = dict[str, dict[str, float]]
"""For each algorithm its value on each layer, times the layer's weight."""

ALGORITHMS = ("im2col", "mec_paper", "mec", "mec_banded", "im2col_blocked", "auto")


def main(arguments: list[str] | None = None) -> int:
    """Print the tables and draw; 1 if records are missing."""
    parser = command_line(__doc__)
    parser.add_argument("--batch", type=int, default=1)
    add_store_options(parser)
    options = parser.parse_args(arguments)
    sizes = newest(store_of("paper_memory", options), i_n=options.batch, n_threads=1)
    times = newest(store_of("paper_time", options), i_n=options.batch)
    memory, found = weighted(sizes, "workspace"), by_threads(times)
    if memory:
        title = f"MiB of workspace × how often ResNet-101 has the layer, batch {options.batch}, float32"
        show([table(memory, 1 / MIB, title, sizes, "paper_memory")])
    for name, (seconds, of) in found.items():
        title = f"ms by the best call × how often ResNet-101 has the layer, batch {options.batch}, {name}"
        show([table(seconds, 1000, title, of, "paper_time")])
    for what, script, there in (("memory", "paper_memory.py", memory), ("time", "paper_time.py", found)):
        if not there:
            print(f"no {what}: run {script} for batch {options.batch} first", file=sys.stderr)
    draw(memory, found, figure_of("resnet101", options))
    return int(not memory or not found)


def redraw(path: Path) -> bool:
    """Draw what the stores have, if they have anything."""
    memory = weighted(newest(Store("paper_memory"), i_n=1, n_threads=1), "workspace")
    times = by_threads(newest(Store("paper_time"), i_n=1))
    if memory or times:
        draw(memory, times, path)
    return bool(memory or times)


def by_threads(records: list[Record]) -> dict[str, tuple[Weighted, list[Record]]]:
    """The weighted seconds under each kernel of BLAS on each number of threads, and their records."""
    found = {}
    for kernel in kernels_in(records):
        under = [record for record in records if record.cell["blas"] == kernel]
        for (n_threads,), of in groups(under, "n_threads").items():
            seconds = weighted(of, "best")
            if seconds:
                found[f"{plural(n_threads)}, {kernel} kernels"] = (seconds, of)
    return found


def weighted(records: list[Record], what: str) -> Weighted:
    """Each algorithm's values on the five layers, times their weights; empty if a layer is missing."""
    of = {record.cell["layer"]: record.values for record in records if record.cell["layer"] in WEIGHTS}
    if set(of) != set(WEIGHTS):
        return {}
    able = [name for name in ALGORITHMS if all(name in values for values in of.values())]
    return {name: {layer: weight * of[layer][name][what] for layer, weight in WEIGHTS.items()} for name in able}


def total(found: Weighted, algorithm: str) -> float:
    """An algorithm's sum over the layers."""
    return sum(found[algorithm].values())


def table(found: Weighted, unit: float, title: str, records: list[Record], script: str) -> Table:
    """A row for each layer with its weight, the sum, and im2col's sum over each algorithm's."""
    rows = []
    for layer, weight in WEIGHTS.items():
        rows.append([layer, str(weight), *(f"{unit * of[layer]:.3f}" for of in found.values())])
    rows.append(["sum", str(sum(WEIGHTS.values())), *(f"{unit * total(found, of):.3f}" for of in found)])
    ratios = [total(found, "im2col") / total(found, of) if total(found, of) else float("inf") for of in found]
    rows.append(["im2col's ÷ it", "", *(f"{ratio:.2f}" for ratio in ratios)])
    used = [record for record in records if record.cell["layer"] in WEIGHTS]
    stale = sorted({name for record in used for name in record.stale} & {*found})
    notes = [f"{', '.join(stale)}: measured before the kernel last changed †"] if stale else []
    return Table(title, ["layer", "times", *(f"`{of}`" for of in found)], rows, used, script, notes)


def draw(memory: Weighted, times: dict[str, tuple[Weighted, list[Record]]], path: Path) -> None:
    """A bar for each algorithm, made of its layers: MiB, and milliseconds under each kernel."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    panels = {"memory, MiB": (memory, 1 / MIB)} if memory else {}
    panels |= {f"time, ms ({name})": (seconds, 1000) for name, (seconds, _) in times.items()}
    if not panels:
        return
    rows = -(-len(panels) // 2)
    figure, grid = plt.subplots(rows, 2, figsize=(11, 2.6 * rows), squeeze=False, layout="constrained")
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    for axes, (title, (found, unit)) in zip(grid.flat, panels.items(), strict=False):
        for place, (name, of) in enumerate(found.items()):
            left = 0.0
            for shade, (layer, value) in enumerate(of.items()):
                colour = LOOKS[name][0]
                axes.barh(place, unit * value, left=left, color=colour, alpha=1 - 0.17 * shade, edgecolor="white")
                if place == 0:
                    axes.annotate(layer, (left + unit * value / 2, -0.62), ha="center", fontsize=7, color="0.35")
                left += unit * value
            axes.annotate(f" {left:.3g}", (left, place), va="center", fontsize=8)
        axes.set_yticks(range(len(found)), list(found))
        axes.set_ylim(len(found) - 0.4, -0.9)
        axes.set_title(title, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
