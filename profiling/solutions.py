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
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _common import comma_integers, comma_list, command_line, geometric_mean, save_figure
from _in_turns import (
    Contenders,
    Problem,
    add_options,
    cells_of,
    experiment,
    hurry,
    kernels_in,
    newest,
    own_kernels,
    time_layers,
)
from _store import Record, Store
from _tables import Table, entries, groups, plural, rate
from _timing import refuse_what_means_nothing

import pymec
from pymec.kernels.mec import tuned as mec
from pymec.kernels.register_tiles.schedule import gemm_blocking

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
    return experiment("solutions", arguments, options, measure, tables, draw)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--layers", type=comma_list(pymec.layers.PAPER))
    parser.add_argument("--batch", type=comma_integers, default=[8, 32])
    add_options(parser, seconds=0.3)
    options = parser.parse_args(arguments)
    options.layers = options.layers or (["cv9", "cv12"] if options.quick else list(pymec.layers.PAPER))
    hurry(options)
    if 1 in options.batch:
        parser.error("with one image Solutions A and B are the same products: --batch takes 2 and more")
    return options


# Measuring ----------------------------------------------------------------------------------------------


def measure(store: Store, options: argparse.Namespace) -> int:
    """A record for each layer, batch and number of threads that the store doesn't know; 1 if one was disturbed."""
    cells = cells_of(options)
    return time_layers(store, cells, options, contenders)


def contenders(problem: Problem, n_threads: int) -> Contenders:
    """Both solutions as published, and under the CPU's own kernels with each kind of tuned product."""
    made = problem.contenders(n_threads, PUBLISHED)
    if not own_kernels():
        return made
    shape = problem.shape
    L = np.empty(max(shape.mec_size, shape.output_size), np.float32)
    for solution, columns in (("A", shape.i_n * shape.o_w), ("B", shape.o_w)):
        for kind in TUNED:
            blocking = gemm_blocking(kind, shape, columns, n_threads)
            given = (problem.x, problem.kernel, problem.out, L, shape, n_threads, solution, blocking)
            label = f"{kind} {solution}"
            made[label] = problem.checked(partial(mec.run, *given), "mec", label)
    return made


# Reading ------------------------------------------------------------------------------------------------


def rows_of(records: Iterable[Record]) -> list[Row]:
    """The GFLOP/s of both solutions by kind of product, a row for each layer, as :func:`best_T` reads them."""
    rows = []
    for record in records:
        shape = pymec.layers.get(record.cell["layer"]).shape(record.cell["i_n"])
        fits = shape.output_size <= shape.paper_mec_size
        row: Row = {"layer": record.cell["layer"], "o_w": shape.o_w, "fits": fits}
        for label in record.values:
            row[PUBLISHED.get(label) or tuple(label.split())] = rate(record, label)
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


def tables(records: Sequence[Record]) -> Iterator[Table]:
    """A row per layer, the better solution of each kind in bold, and the best T of each kind."""
    for kernel in kernels_in(records):
        under = [record for record in records if record.cell["blas"] == kernel]
        for (i_n, n_threads), found in groups(under, "i_n", "n_threads").items():
            rows = rows_of(found)
            kinds = [kind for kind in KINDS if (kind, "A") in rows[0]]
            notes = [
                f"{kind} products: {best_T(rows, kind)}; "
                f"T = {T_OF_THE_PAPER} loses {loss(rows, kind, T_OF_THE_PAPER) - 1:.1%}"
                for kind in kinds
            ]
            header = ["layer", "o_w", "O ≤ L", *(f"{kind} {solution}" for kind in kinds for solution in "AB")]
            lines = [line(row, kinds) for row in rows]
            title = f"GFLOP/s by the best call, batch {i_n}, float32, {plural(n_threads)}, {kernel} kernels"
            yield Table(title, header, lines, found, "solutions", notes + stale(found))


def line(row: Row, kinds: Sequence[str]) -> list[str]:
    """A layer's cells."""
    cells = [row["layer"], str(row["o_w"]), "yes" if row["fits"] else "no"]
    for kind in kinds:
        better = max("AB", key=lambda solution: row[kind, solution])
        for solution in "AB":
            cells.append(f"**{row[kind, solution]:.0f}**" if solution == better else f"{row[kind, solution]:.0f}")
    return cells


def stale(records: Iterable[Record]) -> list[str]:
    """A note where a kernel has changed since, or bursts were disturbed."""
    marks = "".join(sorted({mark for record in records for mark in record.marks()}))
    return [f"some of these numbers {marks}"] if marks else []


def draw(records: list[Record], path: Path) -> None:
    """B's time over A's by the width of the output, a panel for each batch; hollow where O doesn't fit into L."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    kernel = kernels_in(records)[0]
    batches = entries(records, "i_n")
    fewest = entries(records, "n_threads")[0]
    looks = {"published": ("#00507f", "o"), "small_blas": ("#d55e00", "^"), "register_tiles": ("#009e73", "D")}
    figure, panels = plt.subplots(1, len(batches), figsize=(5.5 * len(batches), 3.8), sharey=True, squeeze=False)
    for axes, batch in zip(panels[0], batches, strict=True):
        asked = (kernel, batch, fewest)
        rows = rows_of(r for r in records if (r.cell["blas"], r.cell["i_n"], r.cell["n_threads"]) == asked)
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
        axes.set_title(f"batch {batch}, {plural(fewest)}, {kernel} kernels", fontsize=10)
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


def redraw(path: Path) -> bool:
    """Draw what the store has, if it has anything."""
    records = newest(Store("solutions"))
    if records:
        draw(records, path)
    return bool(records)


if __name__ == "__main__":
    sys.exit(main())
