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
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from _common import comma_integers, comma_list, command_line, geometric_mean
from _store import Record, Store
from _tables import Table, entries, groups, number, plural, rate, ratio, show
from _timing import Contender, check, random_arrays, refuse_what_means_nothing, time_cells, timing_arguments
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
    """Time every step; 1 if some cell could not be timed undisturbed."""
    options = parse(arguments)
    refuse_what_means_nothing(options.threads)
    store = Store("ladder", options.records)
    cells = [{"layer": layer, "n_threads": n} for n, layer in itertools.product(options.threads, options.layers)]
    with single_threaded_blas():
        failed = time_cells(store, cells, options, contenders, STEPS)
    show(tables(store.here(cells)))
    return 1 if failed else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--layers", type=comma_list(pymec.layers.names()), default=list(pymec.layers.PAPER))
    parser.add_argument("--threads", type=comma_integers, default=[1, 2])
    timing_arguments(parser, seconds=0.4)
    return parser.parse_args(arguments)


def contenders(cell: dict[str, Any]) -> dict[str, Contender]:
    """A call of every step, its answer checked."""
    shape, n_threads = pymec.layers.get(cell["layer"]).shape(), cell["n_threads"]
    x, kernel = random_arrays(shape)
    expected = reference.conv2d(x, kernel, shape)
    out = np.empty(shape.output_shape, np.float32)
    L = np.empty(shape.mec_size, np.float32)
    made: dict[str, Contender] = {}
    for step in STEPS:
        if step in PRODUCTS:
            blocking = gemm_blocking(PRODUCTS[step], shape, shape.o_w, n_threads)
            call = partial(mec.run, x, kernel, out, L, shape, n_threads, "B", blocking)
            row = registry.get("mec")
        else:
            call, row = planned(shape, x, kernel, out, ALGORITHMS[step], n_threads)
        out.fill(np.nan)
        call()
        check(out, expected, row.error_bound(x, kernel, shape), f"{step} on {shape}")
        made[step] = Contender(call, row.name, chosen=ALGORITHMS.get(step) == "auto")
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


def tables(records: Sequence[Record]) -> Iterator[Table]:
    """A row per step, and how many times as fast as im2col it is in geometric mean."""
    for (n_threads,), found in groups(records, "n_threads").items():
        layers = {record.cell["layer"]: record for record in found}
        header = ["step", *entries(found, "layer"), "÷ im2col"]
        rows = []
        for step in STEPS:
            gain = geometric_mean(ratio(record, "im2col", step) for record in found)
            rates = [number(rate(layers[name], step), layers[name], step) for name in header[1:-1]]
            rows.append([step, *rates, f"{gain:.2f}"])
        title = f"GFLOP/s by the best call, batch 1, float32, {plural(n_threads)}"
        yield Table(title, header, rows, found, "ladder")


if __name__ == "__main__":
    sys.exit(main())
