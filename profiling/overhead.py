"""What a call costs beyond its kernel: microseconds that ``conv2d`` and a plan add to the kernel's own run.

The layer has 5,184 multiply-adds, so that hardly anything but the call is timed: checks, choice, allocation, and
the guard that holds BLAS at one thread.  Answers are checked; the calls take turns on one thread.

    python profiling/overhead.py
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from _common import comma_list, command_line
from _store import Record, Store
from _tables import Table, best_and_median, show
from _timing import Contender, check, random_arrays, refuse_what_means_nothing, time_cells, timing_arguments
from numpy.typing import NDArray

import pymec
from pymec import reference, registry

WAYS = ("plan_reusing", "conv2d_reusing", "conv2d")


def main(arguments: list[str] | None = None) -> int:
    """Time the calls and print the table."""
    options = parse(arguments)
    refuse_what_means_nothing([1])
    store = Store("overhead", options.records)
    cells = [{"layer": "tiny", "n_threads": 1}]
    names = [f"{name}, conv2d" for name in options.algorithms]
    failed = time_cells(
        store, cells, options, partial(calls_of, algorithms=options.algorithms), names, how=lambda cell: {}
    )
    show(tables(store.here(cells)))
    return 1 if failed else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument(
        "--algorithms", type=comma_list(pymec.algorithms()), default=["im2col", "mec_b", "mec", "mec_banded"]
    )
    timing_arguments(parser, seconds=1.0)
    return parser.parse_args(arguments)


def calls_of(cell: dict[str, Any], algorithms: Sequence[str]) -> dict[str, Contender]:
    """The kernel's run, and each way to call it."""
    shape = pymec.ConvShape.from_shapes((1, 5, 5, 8), (3, 3, 8, 8))
    x, kernel = random_arrays(shape)
    expected, bound = reference.conv2d(x, kernel, shape), reference.error_bound(x, kernel, shape)
    made: dict[str, Contender] = {}
    for name in algorithms:
        row = registry.get(name)
        schedule = row.schedule(shape, 1, None)
        workspace = np.full(schedule.size, np.nan, shape.dtype)
        out = np.full(shape.output_shape, np.nan, shape.dtype)
        plan = pymec.plan(x.shape, kernel.shape, algorithm=name, n_threads=1).prepare(kernel)

        def run(row=row, out=out, workspace=workspace, schedule=schedule) -> NDArray:
            row.run(x, kernel, out, workspace, shape, 1, **schedule.options)
            return out

        def plan_reusing(plan=plan, out=out, workspace=workspace) -> NDArray:
            return plan(x, out=out, workspace=workspace)

        def conv2d_reusing(name=name, out=out, workspace=workspace) -> NDArray:
            return pymec.conv2d(x, kernel, algorithm=name, out=out, workspace=workspace, n_threads=1)

        def conv2d(name=name) -> NDArray:
            return pymec.conv2d(x, kernel, algorithm=name, n_threads=1)

        for call in (run, plan_reusing, conv2d_reusing, conv2d):
            out.fill(np.nan)
            check(call(), expected, bound, f"{name} ({call.__name__}) on the tiny layer")
            made[f"{name}, {call.__name__}"] = Contender(call, name)
    return made


def tables(records: Sequence[Record]) -> Iterator[Table]:
    """Microseconds of the kernel's run, and what each way to call adds to them."""
    header = ["algorithm", "kernel's run", "+ plan, all given", "+ conv2d, all given", "+ conv2d as called"]
    for record in records:
        names = dict.fromkeys(label.partition(", ")[0] for label in record.values)
        rows = []
        for name in names:
            added = (
                best_and_median(record, f"{name}, {way}", beyond, f"{name}, run", form="{:.1f}") for way in WAYS
            )
            run = best_and_median(record, f"{name}, run", microseconds, form="{:.1f}")
            rows.append([name, run, *added])
        title = "Input 1×5×5×8, kernel 3×3×8×8, 1 thread: microseconds, best / median"
        yield Table(title, header, rows, [record], "overhead")


def microseconds(record: Record, name: str, which: str) -> float:
    """Of one call."""
    return 1e6 * record.values[name][which]


def beyond(record: Record, run: str, name: str, which: str) -> float:
    """What a call takes beyond another one."""
    return microseconds(record, name, which) - microseconds(record, run, which)


if __name__ == "__main__":
    sys.exit(main())
