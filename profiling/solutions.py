"""Where Algorithm 2's Solution A pays: the measurement behind T, the widest output that takes it.

Solution A multiplies the strips of all images at once, in products i_n times taller, and repairs its output
at the end; Solution B multiplies image by image.  Line 8 takes A where o_w <= T and |O| <= |L|.  With one image
the two are the same o_h products, and nothing is left to repair: only a batch can show which is faster.

Both are timed here on the paper's layers, first as published (``mec_a``, ``mec_b``: whole BLAS products), then by
tuned MEC with products cut to BLAS's small-matrix path and with products by register tiles; each answer is checked
before.  The last lines give, for each kind of product, the T that loses least, and what T = 100 loses.  A loss is
the time of the chosen solution over that of the better one.

    python profiling/solutions.py --batch 8,32 --coretypes native,Haswell
    python profiling/solutions.py --quick

Prints Markdown tables and draws ``figures/solutions.svg``; records go to ``results/solutions.jsonl``, and what is
known there is not measured again.
"""

from __future__ import annotations

import argparse
import math
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _common import (
    comma_integers,
    comma_list,
    command_line,
    geometric_mean,
    machine_line,
    markdown_table,
    progress,
    save_figure,
)
from _in_turns import (
    Calls,
    Problem,
    add_options,
    cell_of,
    figure_of,
    in_processes,
    keep,
    kernels_in,
    newest,
    provenance,
    store_of,
)
from _store import Record, Store
from _timing import Canary, refuse_what_means_nothing

import pymec
from pymec import blas_kernel
from pymec.kernels.mec import tuned as mec
from pymec.kernels.register_tiles.schedule import gemm_blocking
from pymec.threads import single_threaded_blas

PUBLISHED = {"mec_a": ("published", "A"), "mec_b": ("published", "B")}
TUNED = ("small_blas", "register_tiles")
KINDS = ("published", *TUNED)
T_OF_THE_PAPER = 100

Row = dict[Any, Any]
"""A layer's ``layer``, ``o_w`` and ``fits``, and its speed by kind and solution."""


def main(arguments: list[str] | None = None) -> int:
    """Time both solutions on every layer that the store doesn't know, and print the tables."""
    options = parse(arguments)
    refuse_what_means_nothing(options.threads)
    if options.coretypes != ["here"]:
        status = in_processes("solutions.py", arguments, options.coretypes)
    else:
        status = measure(store_of("solutions", options), options)
    if not options.measure_only:
        records = newest(store_of("solutions", options))
        print(provenance(records) + "\n")
        for kernel in kernels_in(records):
            for batch, n_threads in sorted({(r.cell["batch"], r.cell["threads"]) for r in records}):
                rows = rows_of(records, kernel, batch, n_threads)
                if rows:
                    show(rows, f"BLAS's kernels: {kernel}; batch {batch}, float32, threads: {n_threads}")
        draw(records, figure_of("solutions", options))
    return status


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--layers", type=comma_list(pymec.layers.PAPER))
    parser.add_argument("--batch", type=comma_integers, default=[8, 32])
    add_options(parser, seconds=0.3)
    options = parser.parse_args(arguments)
    options.layers = options.layers or (["cv9", "cv12"] if options.quick else list(pymec.layers.PAPER))
    options.seconds = min(options.seconds, 0.03) if options.quick else options.seconds
    if 1 in options.batch:
        parser.error("with one image Solutions A and B are the same products: --batch takes 2 and more")
    return options


# Measuring ----------------------------------------------------------------------------------------------


def measure(store: Store, options: argparse.Namespace) -> int:
    """A record for each layer, batch and number of threads; 1 if one was disturbed."""
    canary = Canary(options.patience, options.share)
    status = 0
    print(machine_line(), file=sys.stderr)
    with progress(len(options.layers) * len(options.batch), "solutions") as step:
        for batch in options.batch:
            for name in options.layers:
                cells = [cell_of(name, batch, n_threads) for n_threads in options.threads]
                missing = [cell for cell in cells if not store.known(cell)]
                problem = Problem(pymec.layers.get(name).shape(batch)) if missing else None
                for cell in missing:
                    calls, algorithms = problem.calls(PUBLISHED, cell["threads"])
                    if blas_kernel.held_back() is None:
                        tuned = tuned_calls(problem, cell["threads"])
                        calls |= tuned
                        algorithms |= dict.fromkeys(tuned, "mec")
                    status |= not keep(store, cell, calls, algorithms, canary, options.seconds)
                step(f"{name}, batch {batch}")
    print(canary, file=sys.stderr)
    return status


def tuned_calls(problem: Problem, n_threads: int) -> Calls:
    """A checked call of each solution with each kind of tuned product."""
    shape = problem.shape
    L = np.empty(max(shape.mec_size, shape.output_size), np.float32)
    calls: Calls = {}
    for solution, columns in (("A", shape.i_n * shape.o_w), ("B", shape.o_w)):
        for kind in TUNED:
            blocking = gemm_blocking(kind, shape, columns, n_threads)
            label = f"{kind} {solution}"
            calls[label] = partial(
                mec.run, problem.x, problem.kernel, problem.out, L, shape, n_threads, solution, blocking
            )
            with single_threaded_blas():
                problem.checked(calls[label], "mec", f"solution {solution} with {kind} products")
    return calls


# Reading ------------------------------------------------------------------------------------------------


def rows_of(records: list[Record], kernel: str, batch: int, n_threads: int) -> list[Row]:
    """The GFLOP/s of both solutions by kind of product, a row for each layer, as :func:`best_T` reads them."""
    rows = []
    for record in records:
        cell = record.cell
        if (cell["blas"], cell["batch"], cell["threads"]) == (kernel, batch, n_threads):
            shape = pymec.layers.get(cell["layer"]).shape(batch)
            row: Row = {
                "layer": cell["layer"],
                "o_w": shape.o_w,
                "fits": shape.output_size <= shape.paper_mec_size,
            }
            for label, seconds in record.values["best"].items():
                row[PUBLISHED.get(label) or tuple(label.split())] = 2e-9 * shape.multiply_adds / seconds
            rows.append(row)
    return sorted(rows, key=lambda row: pymec.layers.PAPER.index(row["layer"]))


def loss(rows: list[Row], kind: str, T: float) -> float:
    """The time of the solutions that line 8 takes with this T over that of the better ones, in geometric mean."""
    chosen = ("A" if row["fits"] and row["o_w"] <= T else "B" for row in rows)
    return geometric_mean(
        max(row[kind, "A"], row[kind, "B"]) / row[kind, solution]
        for row, solution in zip(rows, chosen, strict=True)
    )


def T_that_loses_least(rows: list[Row], kind: str) -> tuple[float, float]:
    """The least and the largest T (excluded) of the best choices."""
    widths = sorted({0, *(row["o_w"] for row in rows if row["fits"])})
    T = min(widths, key=lambda width: loss(rows, kind, width))
    return T, next((width for width in widths if width > T), math.inf)


def best_T(rows: list[Row], kind: str) -> str:
    """The T whose choices lose least against the better solution, and how much that is."""
    T, following = T_that_loses_least(rows, kind)
    return f"T from {T} up to below {following} loses {loss(rows, kind, T) - 1:.1%} in geometric mean"


# Writing ------------------------------------------------------------------------------------------------


def show(rows: list[Row], title: str) -> None:
    """A row per layer, the better solution of each kind in bold, and the best T."""
    kinds = [kind for kind in KINDS if (kind, "A") in rows[0]]
    header = ["layer", "o_w", "O ≤ L", *(f"{kind} {solution}" for kind in kinds for solution in "AB")]
    lines = []
    for row in rows:
        cells = []
        for kind in kinds:
            better = max("AB", key=lambda solution, kind=kind: row[kind, solution])
            for solution in "AB":
                rate = f"{row[kind, solution]:.0f}"
                cells.append(f"**{rate}**" if solution == better else rate)
        lines.append([row["layer"], str(row["o_w"]), "yes" if row["fits"] else "no", *cells])
    print(f"{title}; GFLOP/s by the best call\n\n{markdown_table(header, lines)}\n")
    for kind in kinds:
        lost = loss(rows, kind, T_OF_THE_PAPER) - 1
        print(f"{kind} products: {best_T(rows, kind)}; T = {T_OF_THE_PAPER} loses {lost:.1%}")
    print()


def draw(records: list[Record], path: Path) -> None:
    """B's time over A's by the width of the output, a panel for each batch; hollow where O doesn't fit into L."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    kernel = kernels_in(records)[0]
    batches = sorted({record.cell["batch"] for record in records})
    fewest = min(record.cell["threads"] for record in records)
    looks = {"published": ("#00507f", "o"), "small_blas": ("#d55e00", "^"), "register_tiles": ("#009e73", "D")}
    figure, panels = plt.subplots(1, len(batches), figsize=(5.5 * len(batches), 3.8), sharey=True, squeeze=False)
    for axes, batch in zip(panels[0], batches, strict=True):
        rows = rows_of(records, kernel, batch, fewest)
        for kind, (colour, mark) in looks.items():
            points = [row for row in rows if (kind, "A") in row]
            for fits in (True, False):
                xy = [(row["o_w"], row[kind, "A"] / row[kind, "B"]) for row in points if row["fits"] is fits]
                if xy:
                    fill, label = (colour, kind.replace("_", " ")) if fits else ("none", None)
                    axes.plot(
                        *zip(*xy, strict=True), mark, color=colour, markerfacecolor=fill, markersize=6, label=label
                    )
        axes.axhline(1, color="0.5", linewidth=1, linestyle="--")
        axes.axvline(T_OF_THE_PAPER, color="0.5", linewidth=1, linestyle=":")
        axes.annotate("T = 100", (T_OF_THE_PAPER, 0.98), xycoords=("data", "axes fraction"), fontsize=8, va="top")
        axes.set(xscale="log", yscale="log", xlabel="width of the output, o_w")
        axes.set_title(f"batch {batch}, threads: {fewest}, {kernel} kernels", fontsize=10)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.tick_params(axis="y", which="minor", labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0, 0].set_ylabel("B's time ÷ A's: A pays above 1")
    panels[0, 0].legend(frameon=False, fontsize=8, title="hollow: |O| > |L|", title_fontsize=8)
    figure.tight_layout()
    save_figure(figure, path)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
