"""Where MEC stops paying: one layer at every stride from 1 to the height of its kernel, in memory and in time.

MEC saves what vertically neighbouring patches share, so its gain falls with k_h ÷ s_h.  The paper's L
(``mec_paper``) has all i_h image rows, also those below the last patch; pymec's tuned ``mec`` leaves out rows
that no output row reads.  memray measures both, and im2col, in fresh processes.

Then the same layers are timed: im2col, published MEC with its whole BLAS products, and beside them tuned MEC and
blocked im2col, which multiply by the same register tiles.

    python profiling/stride_sweep.py                  # the paper's cv1, an 11 × 11 kernel: strides 1 to 11
    python profiling/stride_sweep.py --coretypes native,Haswell,Sandybridge
    python profiling/stride_sweep.py --layer cv3 --what memory

Prints Markdown tables and draws ``figures/stride_sweep.svg``; each stride is a record of
``results/stride_sweep.jsonl`` as soon as it is measured, and what is known there is not measured again: an
interrupted sweep goes on where it stopped.  The exit status is 1 if a formula and memray differ by a byte, a
process failed, or a stride could not be timed undisturbed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from _common import (
    BLUE,
    GREEN,
    ORANGE,
    comma_list,
    command_line,
    geometric_mean,
    markdown_table,
    mib,
    save_figure,
    usable_cpus,
)
from _in_turns import (
    Problem,
    add_options,
    cell_of,
    figure_of,
    hurry,
    in_processes,
    kernels_in,
    newest,
    own_kernels,
    store_of,
    time_layers,
)
from _measured_bytes import bytes_known, measure_bytes
from _store import Record, Store
from _tables import Table, groups, number, plural, ratio, show
from _timing import refuse_what_means_nothing

import pymec

MEASURED = ("im2col", "mec_paper", "mec")
PUBLISHED = ("im2col", "mec_paper")
TIMED = (*PUBLISHED, "mec", "im2col_blocked")


def main(arguments: list[str] | None = None) -> int:
    """Measure what is missing, print and draw; the exit status."""
    options = parse(arguments)
    layer = pymec.layers.get(options.layer)
    shapes = shapes_of(options.layer)
    status = 0
    if "memory" in options.what and not options.measure_only:
        status = measure_memory(store_of("stride_sweep", options), options, shapes)
    if "time" in options.what:
        refuse_what_means_nothing(options.threads)
        if options.coretypes != ["here"]:
            status |= in_processes("stride_sweep.py", arguments, options.coretypes)
        else:
            status |= measure_time(store_of("stride_sweep", options), options, shapes)
    if not options.measure_only:
        records = newest(store_of("stride_sweep", options), layer=options.layer)
        status |= show_memory(layer, shapes, [record for record in records if record.cell["what"] == "memory"])
        timed = [record for record in records if record.cell["what"] == "time"]
        if timed:
            print()
            show(times(timed))
        draw(shapes, timed, options.layer, figure_of("stride_sweep", options))
    return status


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--layer", choices=pymec.layers.names())
    parser.add_argument("--what", type=comma_list(("memory", "time")), default=["memory", "time"])
    parser.add_argument("--workers", type=int, default=usable_cpus(), help="processes at once")
    add_options(parser, seconds=0.4)
    options = parser.parse_args(arguments)
    options.layer = options.layer or ("cv12" if options.quick else "cv1")
    hurry(options)
    return options


def shapes_of(name: str) -> list[pymec.ConvShape]:
    """A layer at every stride up to the height of its kernel."""
    layer = pymec.layers.get(name)
    return [replace(layer, s_h=s, s_w=s).shape() for s in range(1, layer.k_h + 1)]


# Memory -------------------------------------------------------------------------------------------------


def measure_memory(store: Store, options: argparse.Namespace, shapes: list[pymec.ConvShape]) -> int:
    """A record for each stride that the store doesn't know; 1 if a process failed."""
    cells = {
        f"s={shape.s_h}": ({"what": "memory", "layer": options.layer, "stride": shape.s_h}, shape)
        for shape in shapes
    }
    missing = {
        name: (cell, shape)
        for name, (cell, shape) in cells.items()
        if options.again or not bytes_known(store, cell)
    }
    return measure_bytes(store, missing, MEASURED, options.workers, "strides")


def show_memory(layer: pymec.layers.Layer, shapes: list[pymec.ConvShape], records: list[Record]) -> int:
    """Print the table of bytes; 1 if a formula and memray differ."""
    measured = {
        (record.cell["stride"], name): value["workspace"]
        for record in records
        for name, value in record.values.items()
    }
    known = [shape for shape in shapes if (shape.s_h, "im2col") in measured]
    if not known:
        return 0
    sizes = f"{layer.i_h}×{layer.i_w}×{layer.i_c}, kernel {layer.k_h}×{layer.k_w}"
    print(f"{layer.name} at all its strides: {sizes}, batch 1, float32, MiB\n")
    print(table(known, measured))
    print(f"\n{verdict(known)}")
    differing = [
        f"s={record.cell['stride']} {name}"
        for record in records
        for name, value in record.values.items()
        if value["workspace"] != value["predicted"]
    ]
    print(f"predicted == measured, to the byte: {len(measured) - len(differing)} of {len(measured)} cells")
    print("".join(f"different: {what}\n" for what in differing), end="")
    return int(bool(differing))


def table(shapes: list[pymec.ConvShape], measured: dict[tuple[int, str], int]) -> str:
    """A row per stride: the three measured matrices, and how much smaller than im2col's each L is."""
    header = ["stride", "k ÷ s", "output", "im2col", "L, all rows (paper)", "im2col ÷ L"]
    header += ["L, rows read (tuned)", "im2col ÷ L"]
    rows = []
    for s in shapes:
        im2col, mec = measured[s.s_h, "im2col"], measured[s.s_h, "mec"]
        paper = measured[s.s_h, "mec_paper"]
        row = [str(s.s_h), f"{s.k_h / s.s_h:.2f}", f"{s.o_h}×{s.o_w}", mib(im2col), mib(paper)]
        rows.append([*row, f"{im2col / paper:.3f}", mib(mec), f"{im2col / mec:.3f}"])
    return markdown_table(header, rows)


def verdict(shapes: list[pymec.ConvShape]) -> str:
    """The first strides at which MEC saves nothing, in both ways to store L."""
    parts = []
    for name, size in (("with all rows", "paper_mec_size"), ("with the rows that are read", "mec_size")):
        losing = [s.s_h for s in shapes if getattr(s, size) > s.im2col_size]
        even = [s.s_h for s in shapes if getattr(s, size) == s.im2col_size]
        parts.append(
            f"{name} L is larger than im2col's matrix at {listed(losing)} and equal to it at {listed(even)}"
        )
    return "; ".join(parts) + "."


def listed(strides: list[int]) -> str:
    """Strides as words."""
    return f"s = {', '.join(map(str, strides))}" if strides else "no stride"


# Time ---------------------------------------------------------------------------------------------------


def measure_time(store: Store, options: argparse.Namespace, shapes: list[pymec.ConvShape]) -> int:
    """A record for each stride and number of threads that the store doesn't know; 1 if one was disturbed."""
    cells = [
        cell_of(options.layer, 1, n_threads, what="time", stride=shape.s_h)
        for shape in shapes
        for n_threads in options.threads
    ]
    algorithms = TIMED if own_kernels() else PUBLISHED
    return time_layers(store, cells, options, partial(Problem.contenders, algorithms=algorithms))


def times(records: Sequence[Record]) -> Iterator[Table]:
    """How many times as fast as im2col each algorithm was, by stride."""
    for kernel in kernels_in(records):
        under = [record for record in records if record.cell["blas"] == kernel]
        for (layer, n_threads), found in groups(under, "layer", "n_threads").items():
            of = {record.cell["stride"]: record for record in found}
            header = ["algorithm", *map(str, sorted(of)), "mean"]
            rows = []
            for label in TIMED[1:]:
                ratios = {stride: ratio(record, "im2col", label) for stride, record in sorted(of.items())}
                if any(ratios.values()):
                    cells = [number(value, of[stride], label, form="{:.2f}") for stride, value in ratios.items()]
                    mean = geometric_mean(value for value in ratios.values() if value)
                    rows.append([f"`{label}`", *cells, f"{mean:.2f}"])
            title = f"im2col's time ÷ it, {layer} by stride, {plural(n_threads)}, {kernel} kernels"
            yield Table(title, header, rows, found, "stride_sweep")


# Figure -------------------------------------------------------------------------------------------------


def draw(shapes: list[pymec.ConvShape], timed: list[Record], layer: str, path: Path) -> None:
    """im2col ÷ MEC over the stride, in bytes and in time, and the lines where nothing is gained."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    strides = [s.s_h for s in shapes]
    figure, panels = plt.subplots(1, 2 if timed else 1, figsize=(11 if timed else 6.5, 3.8), squeeze=False)
    axes = panels[0, 0]
    for size, colour, marker, label in (
        ("paper_mec_size", ORANGE, "s", "all rows stored (paper)"),
        ("mec_size", BLUE, "o", "only rows that are read (tuned)"),
    ):
        ratios = [s.im2col_size / getattr(s, size) for s in shapes]
        axes.plot(strides, ratios, color=colour, marker=marker, markersize=5, label=label)
    axes.plot(strides, [s.k_h / s.s_h for s in shapes], color=GREEN, linestyle=":", label="k ÷ s")
    axes.set(ylabel="im2col ÷ L, times less memory", title=f"{layer}: memory")
    if timed:
        draw_times(panels[0, 1], timed, layer)
    for axes in panels[0]:
        axes.axhline(1, color="0.5", linewidth=1, linestyle="--")
        axes.set(yscale="log", xlabel="stride s, and k ÷ s below it", xticks=strides)
        axes.set_xticklabels([f"{s.s_h}\n{s.k_h / s.s_h:.1f}" for s in shapes], fontsize=8)
        low, high = axes.get_ylim()
        ticks = [tick for tick in (0.2, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10) if low <= tick <= high]
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    save_figure(figure, path)
    plt.close(figure)


def draw_times(axes: Any, timed: list[Record], layer: str) -> None:
    """im2col's time ÷ MEC's on one thread: published under every kernel of BLAS, tuned under the CPU's own."""
    colours = (ORANGE, "#56b4e9", "#cc79a7", "0.4")
    fewest = min(record.cell["n_threads"] for record in timed)
    for kernel, colour in zip(kernels_in(timed), colours, strict=False):
        of = [r for r in timed if (r.cell["blas"], r.cell["n_threads"]) == (kernel, fewest)]
        for label, line in (("mec_paper", "-"), ("mec", "--")):
            points = sorted((r.cell["stride"], ratio(r, "im2col", label)) for r in of if label in r.values)
            if points:
                named = f"published, {kernel} kernels" if label == "mec_paper" else "tuned: register tiles"
                axes.plot(*zip(*points, strict=True), line, marker="o", markersize=4, color=colour, label=named)
    axes.set(ylabel="im2col's time ÷ MEC's", title=f"{layer}: time, {plural(fewest)}")


def redraw(path: Path) -> bool:
    """Draw what the store has of the paper's cv1, if it has anything."""
    records = newest(Store("stride_sweep"), layer="cv1")
    if records:
        draw(shapes_of("cv1"), [record for record in records if record.cell["what"] == "time"], "cv1", path)
    return bool(records)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from here")
