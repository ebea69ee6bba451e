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
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from _common import (
    comma_integers,
    comma_list,
    command_line,
    machine_line,
    markdown_table,
    progress,
)
from _peers import PEERS, CannotDo
from _timing import Canary, check, random_arrays, refuse_what_means_nothing, take_turns
from numpy.typing import NDArray
from speed import copy_on_threads

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
    canary = Canary(options.patience)
    print(f"{machine_line()}\n")
    missing = False
    for n_threads in options.threads:
        rows = []
        with progress(len(options.cases), f"large t{n_threads}") as step:
            for name in options.cases:
                rows.append(row_of(name, n_threads, options.peers, options.seconds, canary))
                missing |= "-" in rows[-1][2:4]
                step(name)
        print(f"float32 unless the case says float64, threads: {n_threads}; best call\n")
        headings = ["case", "algorithm", "GFLOP/s", "GB/s", "copying, GB/s", *options.peers]
        print(markdown_table(headings, rows) + "\n")
    print(canary)
    return 1 if missing else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--cases", type=comma_list(tuple(CASES)), default=list(CASES))
    parser.add_argument("--peers", type=comma_list(tuple(PEERS)), default=[])
    parser.add_argument("--threads", type=comma_integers, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=1.0, help="timing of one contender on one case")
    parser.add_argument("--patience", type=int, default=100, help="dropped bursts before a case is given up")
    return parser.parse_args(arguments)


def row_of(name: str, n_threads: int, peers: list[str], seconds: float, canary: Canary) -> list[str]:
    """A case's algorithm, rates, and the peers' GFLOP/s."""
    x_shape, kernel_shape, options = CASES[name]
    shape = pymec.ConvShape.from_shapes(x_shape, kernel_shape, **options)
    x, kernel = (array.astype(shape.dtype, copy=False) for array in random_arrays(shape))
    expected = reference.conv2d(x, kernel, shape)
    bound = reference.error_bound(x, kernel, shape)
    plan, out, call = planned(shape, x, kernel, n_threads)
    call()
    check(out, expected, bound, name)
    calls: dict[str, Callable[[], object]] = {"plan": call}
    for peer in peers:
        try:
            theirs = PEERS[peer][0](shape, x, kernel, n_threads)
        except (ImportError, CannotDo):
            continue
        check(np.asarray(theirs.as_nhwc(theirs.run())), expected, 4 * bound, f"{peer} on {name}")
        calls[peer] = theirs.run
    source = np.ones(COPIED // 8)
    target = np.empty_like(source)
    with ThreadPoolExecutor(n_threads) as pool:
        calls["copy"] = partial(copy_on_threads, pool, source, target, n_threads)
        best = {who: min(of) if of else None for who, of in take_turns(calls, n_threads, seconds, canary).items()}
    return [
        name,
        f"`{plan.algorithm}`",
        rate(2e-9 * shape.multiply_adds, best["plan"]),
        rate(1e-9 * (x.nbytes + kernel.nbytes + out.nbytes), best["plan"]),
        rate(2e-9 * COPIED, best["copy"]),
        *(rate(2e-9 * shape.multiply_adds, best.get(peer)) for peer in peers),
    ]


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


def rate(amount: float, seconds: float | None) -> str:
    """An amount per second to two digits or more, or a dash if there was no undisturbed call."""
    if seconds is None:
        return "-"
    return f"{amount / seconds:.0f}" if amount >= 10 * seconds else f"{amount / seconds:.2g}"


if __name__ == "__main__":
    sys.exit(main())
