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

from _common import MIB, command_line, markdown_table, save_figure
from _figures import LOOKS
from _in_turns import add_store_options, figure_of, kernels_in, newest, provenance, store_of
from _store import Record

WEIGHTS = {"cv4": 1, "cv9": 3, "cv10": 4, "cv11": 23, "cv12": 3}
"""How often ResNet-101 has each layer."""

ALGORITHMS = ("im2col", "mec_paper", "mec", "mec_banded", "im2col_blocked", "auto")


def main(arguments: list[str] | None = None) -> int:
    """Print the tables and draw; 1 if records are missing."""
    parser = command_line(__doc__)
    parser.add_argument("--batch", type=int, default=1)
    add_store_options(parser)
    options = parser.parse_args(arguments)
    sizes = newest(store_of("paper_memory", options), batch=options.batch, threads=1)
    times = newest(store_of("paper_time", options), batch=options.batch)
    memory = weighted(sizes, "workspace")
    if memory:
        print(f"Workspace, batch {options.batch}, float32, MiB × how often ResNet-101 has the layer\n")
        print(table(memory, 1 / MIB, "MiB") + "\n")
    found = {}
    for kernel in kernels_in(times):
        for n_threads in sorted({record.cell["threads"] for record in times}):
            of = [r for r in times if (r.cell["blas"], r.cell["threads"]) == (kernel, n_threads)]
            seconds = weighted(of, "best")
            if seconds:
                found[f"{kernel} kernels, threads: {n_threads}"] = seconds
                print(f"{provenance(of)}\n")
                print(f"Best call, batch {options.batch}, float32, BLAS's kernels: {kernel}, ", end="")
                print(f"threads: {n_threads}; ms × how often ResNet-101 has the layer\n")
                print(table(seconds, 1000, "ms") + "\n")
    for what, script, there in (("memory", "paper_memory.py", memory), ("time", "paper_time.py", found)):
        if not there:
            print(f"no {what}: run {script} for batch {options.batch} first", file=sys.stderr)
    draw(memory, found, figure_of("resnet101", options))
    return int(not memory or not found)


def weighted(records: list[Record], what: str) -> dict[str, dict[str, float]]:
    """Each algorithm's values on the five layers, times their weights; empty if a layer is missing."""
    of = {record.cell["layer"]: record.values[what] for record in records if record.cell["layer"] in WEIGHTS}
    if set(of) != set(WEIGHTS):
        return {}
    able = [name for name in ALGORITHMS if all(name in values for values in of.values())]
    return {name: {layer: weight * of[layer][name] for layer, weight in WEIGHTS.items()} for name in able}


def total(found: dict[str, dict[str, float]], algorithm: str) -> float:
    """An algorithm's sum over the layers."""
    return sum(found[algorithm].values())


def table(found: dict[str, dict[str, float]], unit: float, name: str) -> str:
    """A row for each layer with its weight, the sum, and im2col's sum over each algorithm's."""
    rows = []
    for layer, weight in WEIGHTS.items():
        rows.append([layer, str(weight), *(f"{unit * of[layer]:.3f}" for of in found.values())])
    rows.append(["sum", str(sum(WEIGHTS.values())), *(f"{unit * total(found, of):.3f}" for of in found)])
    ratios = [total(found, "im2col") / total(found, of) if total(found, of) else float("inf") for of in found]
    rows.append(["im2col's ÷ it", "", *(f"{ratio:.2f}" for ratio in ratios)])
    return markdown_table([f"layer ({name})", "times", *(f"`{of}`" for of in found)], rows)


def draw(memory: dict[str, dict[str, float]], times: dict[str, dict[str, dict[str, float]]], path: Path) -> None:
    """A bar for each algorithm, made of its layers: MiB, and milliseconds under each kernel."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    panels = {"memory, MiB": (memory, 1 / MIB)} if memory else {}
    panels |= {f"time, ms ({name})": (found, 1000) for name, found in times.items()}
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
