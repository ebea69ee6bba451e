"""From the published MEC to the machine's limit, one change a step, every step's speed from the same run.

im2col             one product per image, as large as possible: what MEC is compared with
published          Algorithm 2 (Solution B), one whole BLAS product for each output row
small products     tuned MEC: products cut to the size that BLAS multiplies without packing
registers          the same products by tiles of sums in registers; what ``mec`` does
bands              L of a few output rows at a time; what ``mec_banded`` does
no lowering        the tiles read the image itself: no workspace; ``direct_blocked``
panels             K re-laid once beforehand, so that a tile reads one piece of memory; ``direct_panels``
Winograd           fewer products, where they pay: what a plan with ``accuracy="fast"`` takes

Every answer is checked before it is timed.  The steps take turns, by bursts under the canary's watch (see
``speed.py``); workspace and output are given, and the kernel is prepared if the algorithm has a prepared form
of it.

    python profiling/ladder.py --threads 1,2
    python profiling/ladder.py --layers cv9 --threads 1
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
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
from numpy.typing import NDArray

import pymec
from pymec import reference, registry
from pymec.kernels.mec import tuned as mec
from pymec.kernels.register_tiles.schedule import gemm_blocking
from pymec.threads import single_threaded_blas

PRODUCTS = {"small products": "small_blas", "registers": "register_tiles"}
ALGORITHMS = {
    "im2col": "im2col",
    "published": "mec_b",
    "bands": "mec_banded",
    "no lowering": "direct_blocked",
    "panels": "direct_panels",
    "Winograd": "auto",
}
STEPS = ("im2col", "published", *PRODUCTS, "bands", "no lowering", "panels", "Winograd")


def main(arguments: list[str] | None = None) -> int:
    """Time every step; 1 if some step could not be timed undisturbed."""
    options = parse(arguments)
    refuse_what_means_nothing(options.threads)
    canary = Canary(options.patience, options.share)
    print(f"{machine_line()}\n")
    status = 0
    for n_threads in options.threads:
        rates: dict[str, dict[str, float]] = {step: {} for step in STEPS}
        with progress(len(options.layers), f"ladder t{n_threads}") as step_on, single_threaded_blas():
            for layer in options.layers:
                shape = pymec.layers.get(layer).shape()
                times = take_turns(calls(shape, n_threads), n_threads, options.seconds, canary)
                status |= not all(times.values())
                for step, found in times.items():
                    if found:
                        rates[step][layer] = 2e-9 * shape.multiply_adds / min(found)
                step_on(layer)
        print(f"GFLOP/s by the best call, batch 1, float32, threads: {n_threads}\n")
        print(table(rates, options.layers) + "\n")
    print(canary)
    return status


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--layers", type=comma_list(pymec.layers.names()), default=list(pymec.layers.PAPER))
    parser.add_argument("--threads", type=comma_integers, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=0.4, help="timing of one step on one layer")
    parser.add_argument("--patience", type=int, default=300, help="dropped bursts before a layer is given up")
    parser.add_argument("--share", type=float, default=0.75, help="as in speed.py")
    return parser.parse_args(arguments)


def calls(shape: pymec.ConvShape, n_threads: int) -> dict[str, Callable[[], object]]:
    """A call of every step, its answer checked."""
    x, kernel = random_arrays(shape)
    expected = reference.conv2d(x, kernel, shape)
    out = np.empty(shape.output_shape, np.float32)
    L = np.empty(shape.mec_size, np.float32)
    made: dict[str, Callable[[], object]] = {}
    for step in STEPS:
        if step in PRODUCTS:
            blocking = gemm_blocking(PRODUCTS[step], shape, shape.o_w, n_threads)
            made[step] = partial(mec.run, x, kernel, out, L, shape, n_threads, "B", blocking)
            row = registry.get("mec")
        else:
            made[step], row = planned(shape, x, kernel, out, ALGORITHMS[step], n_threads)
        out.fill(np.nan)
        made[step]()
        check(out, expected, row.error_bound(x, kernel, shape), f"{step} on {shape}")
    return made


def planned(
    shape: pymec.ConvShape, x: NDArray, kernel: NDArray, out: NDArray, algorithm: str, n_threads: int
) -> tuple[Callable[[], object], registry.Algorithm]:
    """A plan's call, and the row of its algorithm."""
    plan = pymec.plan(
        x.shape, kernel.shape, algorithm=algorithm, accuracy="fast", n_threads=n_threads,
        **shape.arguments,
    ).prepare(kernel)  # fmt: skip
    workspace = np.full(plan.workspace_nbytes, 255, np.uint8)  # NaN
    return partial(plan, x, out=out, workspace=workspace), registry.get(plan.algorithm)


def table(rates: dict[str, dict[str, float]], layers: list[str]) -> str:
    """A row per step, and how many times as fast as im2col it is in geometric mean."""
    lines = []
    for step, of in rates.items():
        both = [layer for layer in of if layer in rates["im2col"]]
        gain = geometric_mean(of[layer] / rates["im2col"][layer] for layer in both) if both else float("nan")
        cells = [f"{of[layer]:.0f}" if layer in of else "-" for layer in layers]
        lines.append([step, *cells, f"{gain:.2f}"])
    return markdown_table(["step", *layers, "÷ im2col"], lines)


if __name__ == "__main__":
    sys.exit(main())
