"""Large images, thin layers and double precision: limited by multiply-adds or by memory?

The paper's layers fit a cache.  An image of 1080 or 2160 rows doesn't, a pointwise or depthwise layer has
little to do with each byte of it, and double precision has half the numbers in a register.  A plan with
``out`` given takes turns with the peers of ``_peers.py`` that are asked for, every answer checked.  GB/s
counts the bytes of input, kernel and output per second.  Beside it stands the rate of copying an array that
no cache holds, bytes read and bytes written added up.  A layer near that rate waits for memory.

    python profiling/large.py --threads 1,2
    python profiling/large.py --cases 1080p_depthwise --peers "torch channels-last"
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import numpy as np
from _common import comma_integers, comma_list, command_line
from _peers import PEERS, CannotDo
from _store import Record, Store
from _tables import Table, contenders, groups, number, plural, show
from _timing import Contender, check, random_arrays, refuse_what_means_nothing, time_cells, timing_arguments
from lowering import copy_on_threads
from numpy.typing import NDArray

import pymec
from pymec import reference

CASES = {
    "1080p_3x3": ((1, 1080, 1920, 16), (3, 3, 16, 16), {"padding": 1}),
    "1080p_3x3_wide": ((1, 1080, 1920, 16), (3, 3, 16, 32), {"padding": 1}),
    "1080p_pointwise": ((1, 1080, 1920, 16), (1, 1, 16, 32), {}),
    "1080p_depthwise": ((1, 1080, 1920, 32), (3, 3, 1, 32), {"padding": 1, "groups": 32}),
    "4k_first": ((1, 2160, 3840, 3), (3, 3, 3, 32), {"padding": 1}),
    "4k_3x3": ((1, 2160, 3840, 16), (3, 3, 16, 16), {"padding": 1}),
    "cv1_float64": ((1, 227, 227, 3), (11, 11, 3, 96), {"stride": 4, "dtype": "float64"}),
    "cv9_float64": ((1, 56, 56, 64), (3, 3, 64, 64), {"dtype": "float64"}),
    "cv12_float64": ((1, 7, 7, 512), (3, 3, 512, 512), {"dtype": "float64"}),
}
COPIED = 128 * 2**20


def main(arguments: list[str] | None = None) -> int:
    """Time every case and print a table for each number of threads."""
    options = parse(arguments)
    refuse_what_means_nothing(options.threads)
    store = Store("large", options.records)
    cells = [{"case": case, "n_threads": n} for case, n in itertools.product(options.cases, options.threads)]
    with ThreadPoolExecutor(max(options.threads)) as pool:
        failed = time_cells(store, cells, options, partial(calls_of, peers=options.peers, pool=pool), how=work_of)
    show(tables(store.here(cells)))
    return 1 if failed else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--cases", type=comma_list(tuple(CASES)), default=list(CASES))
    parser.add_argument("--peers", type=comma_list(tuple(PEERS)), default=[])
    parser.add_argument("--threads", type=comma_integers, default=[1, 2])
    timing_arguments(parser, seconds=1.0, patience=100)
    return parser.parse_args(arguments)


def shape_of(cell: dict[str, Any]) -> pymec.ConvShape:
    """The layer of a case."""
    x_shape, kernel_shape, options = CASES[cell["case"]]
    return pymec.ConvShape.from_shapes(x_shape, kernel_shape, **options)


def work_of(cell: dict[str, Any]) -> dict[str, int]:
    """Operations, and the bytes of input, kernel and output."""
    shape = shape_of(cell)
    sizes = map(np.prod, (shape.input_shape, shape.kernel_shape, shape.output_shape))
    return {"flops": 2 * shape.multiply_adds, "bytes": int(sum(sizes)) * shape.itemsize}


@lru_cache(1)
def problem_of(shape: pymec.ConvShape) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Input, kernel, the right answer and its error bound, made once for all thread counts."""
    x, kernel = (array.astype(shape.dtype, copy=False) for array in random_arrays(shape))
    return x, kernel, reference.conv2d(x, kernel, shape), reference.error_bound(x, kernel, shape)


def calls_of(cell: dict[str, Any], peers: Sequence[str], pool: ThreadPoolExecutor) -> dict[str, Contender]:
    """A plan's call, the peers' calls, their answers checked, and plain copying."""
    shape, n_threads = shape_of(cell), cell["n_threads"]
    x, kernel, expected, bound = problem_of(shape)
    plan, out, call = planned(shape, x, kernel, n_threads)
    call()
    check(out, expected, bound, cell["case"])
    made = {"plan": Contender(call, plan.algorithm, chosen=True)}
    for peer in peers:
        try:
            theirs = PEERS[peer][0](shape, x, kernel, n_threads)
        except (ImportError, CannotDo):
            continue
        check(np.asarray(theirs.as_nhwc(theirs.run())), expected, 4 * bound, f"{peer} on {cell['case']}")
        made[peer] = Contender(theirs.run)
    source = np.ones(COPIED // 8)
    made["copying"] = Contender(partial(copy_on_threads, pool, source, np.empty_like(source), n_threads))
    return made


def planned(
    shape: pymec.ConvShape, x: NDArray, kernel: NDArray, n_threads: int
) -> tuple[pymec.ConvPlan, NDArray, Callable[[], object]]:
    """A plan, the output that pymec has allocated for it, and its call."""
    plan = pymec.plan(x.shape, kernel.shape, dtype=shape.dtype, n_threads=n_threads, **shape.arguments).prepare(
        kernel
    )
    workspace = np.full(plan.workspace_nbytes, 255, np.uint8)  # NaN
    out = plan(x, workspace=workspace)
    out[:] = np.nan
    return plan, out, partial(plan, x, out=out, workspace=workspace)


def tables(records: Sequence[Record]) -> Iterator[Table]:
    """A table for each number of threads, a row per case."""
    for (n_threads,), found in groups(records, "n_threads").items():
        peers = [name for name in contenders(found) if name not in ("plan", "copying")]
        rows = []
        for record in found:
            rates = [
                per_second(record, "plan", record.how["flops"]),
                per_second(record, "plan", record.how["bytes"]),
                per_second(record, "copying", 2 * COPIED),
                *(per_second(record, peer, record.how["flops"]) for peer in peers),
            ]
            rows.append([record.cell["case"], f"`{record.values['plan']['by']}`", *rates])
        header = ["case", "algorithm", "GFLOP/s", "GB/s", "copying, GB/s", *peers]
        title = f"Best call, batch 1, float32 unless the case says float64, {plural(n_threads)}"
        yield Table(title, header, rows, found, "large")


def per_second(record: Record, name: str, amount: float) -> str:
    """10⁹ of an amount per second, with two digits or more, or a dash."""
    if name not in record.values:
        return "-"
    value = 1e-9 * amount / record.values[name]["best"]
    return number(value, record, name, form="{:.0f}" if value >= 10 else "{:.2g}")


if __name__ == "__main__":
    sys.exit(main())
