"""Where Algorithm 2's Solution A pays: the measurement behind T, the widest output that takes it.

Solution A multiplies the strips of all images at once, in products i_n times taller, and repairs its output
at the end; Solution B multiplies image by image.  Line 8 takes A where o_w <= T and |O| <= |L|.  Both are
timed here on the paper's layers with several images, by tuned MEC with whole products, with products cut to
BLAS's small-matrix path and with products by register tiles; each answer is checked first.  The last lines give,
for each kind of product, the T that loses least.  A loss is the time of the chosen solution over that of the
better one.

    python profiling/solutions.py --batch 4 --threads 1,2
    python profiling/solutions.py --batch 32 --threads 2 --layers cv5,cv6,cv9,cv10,cv11,cv12
"""

from __future__ import annotations

import argparse
import math
import sys
from functools import partial

import numpy as np
from _common import (
    comma_integers,
    comma_list,
    command_line,
    geometric_mean,
    machine_line,
    markdown_table,
    progress,
)
from _timing import Canary, check, random_arrays, refuse_what_means_nothing, take_turns

import pymec
from pymec import reference
from pymec.kernels.mec import tuned as mec
from pymec.kernels.register_tiles.schedule import gemm_blocking
from pymec.threads import single_threaded_blas

KINDS = ("blas", "small_blas", "register_tiles")


def main(arguments: list[str] | None = None) -> int:
    """Time both solutions on every layer and print the tables."""
    options = parse(arguments)
    refuse_what_means_nothing(options.threads)
    canary = Canary(options.patience, options.share)
    print(f"{machine_line()}\n")
    status = 0
    for n_threads in options.threads:
        with progress(len(options.layers), f"solutions t{n_threads}") as step, single_threaded_blas():
            rows = []
            for name in options.layers:
                rows.append(time_layer(name, options.batch, n_threads, options.seconds, canary))
                step(name)
        rows = [row for row in rows if row is not None]
        status |= len(rows) < len(options.layers)
        print(f"GFLOP/s by the best call, batch {options.batch}, float32, threads: {n_threads}\n")
        print(table(rows, options.batch))
        for kind in KINDS:
            print(f"{kind} products: {best_T(rows, kind)}")
        print()
    print(canary)
    return status


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--layers", type=comma_list(pymec.layers.PAPER), default=list(pymec.layers.PAPER))
    parser.add_argument("--threads", type=comma_integers, default=[1, 2])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=0.6, help="timing of one solution on one layer")
    parser.add_argument("--patience", type=int, default=300, help="dropped bursts before a layer is given up")
    parser.add_argument("--share", type=float, default=0.75, help="as in speed.py")
    return parser.parse_args(arguments)


def time_layer(name: str, batch: int, n_threads: int, seconds: float, canary: Canary) -> dict | None:
    """GFLOP/s of A and B with each kind of product; None if the canary never allowed it."""
    shape = pymec.layers.get(name).shape(batch)
    x, kernel = random_arrays(shape)
    expected = reference.conv2d(x, kernel, shape)
    bound = reference.error_bound(x, kernel, shape)
    out = np.empty(shape.output_shape, np.float32)
    L = np.empty(max(shape.mec_size, shape.output_size), np.float32)
    calls = {}
    for solution, columns in (("A", batch * shape.o_w), ("B", shape.o_w)):
        for kind in KINDS:
            blocking = gemm_blocking(kind, shape, columns, n_threads)
            calls[kind, solution] = partial(mec.run, x, kernel, out, L, shape, n_threads, solution, blocking)
            out.fill(np.nan)
            calls[kind, solution]()
            check(out, expected, bound, f"solution {solution} with {kind} products on {name}")
    times = take_turns(calls, n_threads, seconds, canary)
    if not all(times.values()):
        print(f"{name}: no undisturbed turn", file=sys.stderr)
        return None
    rates = {label: 2e-9 * shape.multiply_adds / min(found) for label, found in times.items()}
    return {"layer": name, "o_w": shape.o_w, "fits": shape.output_size <= shape.mec_size, **rates}


def table(rows: list[dict], batch: int) -> str:
    """A row per layer, the better solution of each kind in bold."""
    header = ["layer", "o_w", "O ≤ L", *(f"{kind} {solution}" for kind in KINDS for solution in "AB")]
    lines = []
    for row in rows:
        cells = []
        for kind in KINDS:
            better = max("AB", key=lambda solution, kind=kind: row[kind, solution])
            for solution in "AB":
                rate = f"{row[kind, solution]:.0f}"
                cells.append(f"**{rate}**" if solution == better else rate)
        lines.append([row["layer"], str(row["o_w"]), "yes" if row["fits"] else "no", *cells])
    return markdown_table(header, lines)


def best_T(rows: list[dict], kind: str) -> str:
    """The T whose choices lose least against the better solution, and how much that is."""

    def loss(T: int) -> float:
        chosen = ("A" if row["fits"] and row["o_w"] <= T else "B" for row in rows)
        return geometric_mean(
            max(row[kind, "A"], row[kind, "B"]) / row[kind, solution]
            for row, solution in zip(rows, chosen, strict=True)
        )

    widths = sorted({0, *(row["o_w"] for row in rows if row["fits"])})
    losses = {T: loss(T) for T in widths}
    T = min(losses, key=lambda width: losses[width])
    following = next((width for width in widths if width > T), math.inf)
    return f"T from {T} up to below {following} loses {losses[T] - 1:.1%} in geometric mean"


if __name__ == "__main__":
    sys.exit(main())
