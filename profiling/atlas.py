"""Every algorithm on every layer, forwards and backwards: how fast each one is, all in one run.

Calls are a trained layer's: the plan is made, the kernel prepared (transformed kernels and the like are not
timed), workspace and out are given.  The kernel's gradient has no kernel to prepare and is called as a
function.  Every answer is checked within the algorithm's own error bound before it is timed; algorithms take
turns in short bursts, guarded by a canary where there are several threads (see ``speed.py``).

    python profiling/atlas.py --json profiling/results/atlas.json
    python profiling/atlas.py --layers cv9 --operations conv2d --threads 1
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _common import (
    comma_integers,
    comma_list,
    command_line,
    machine,
    machine_line,
    markdown_table,
    progress,
)
from _timing import Canary, check, random_arrays, refuse_what_means_nothing, statistics_of, take_turns
from numpy.typing import NDArray

import pymec
from pymec import reference, registry

OPERATIONS = tuple(registry.TABLES)


def main(arguments: list[str] | None = None) -> int:
    """Time what is asked for; 1 if some call could not be timed undisturbed."""
    options = parse(arguments)
    refuse_what_means_nothing(options.threads)
    canary = Canary(options.patience, options.share)
    print(f"{machine_line()}\n")
    records = []
    with progress(len(options.layers) * len(options.operations) * len(options.threads), "atlas") as step:
        for layer in options.layers:
            shape = pymec.layers.get(layer).shape(options.batch)
            for operation in options.operations:
                problem = Problem(operation, shape)
                time.sleep(0.1)  # until NumPy's BLAS threads, which the reference used, have gone to sleep
                for n_threads in options.threads:
                    calls = problem.calls(n_threads)
                    for name, times in take_turns(calls, n_threads, options.seconds, canary).items():
                        record = {"layer": layer, "operation": operation, "algorithm": name}
                        record |= {"n_threads": n_threads, "flops": 2 * shape.multiply_adds}
                        records.append(record | statistics_of(times))
                    step(f"{layer} {operation} t{n_threads}")
    print_tables(records, options)
    print(canary)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        found = {"machine": machine(), "records": records, "canary": canary.as_dict()}
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if any(record["calls"] == 0 for record in records) else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--layers", type=comma_list(pymec.layers.names()), default=list(pymec.layers.PAPER))
    parser.add_argument("--operations", type=comma_list(OPERATIONS), default=list(OPERATIONS))
    parser.add_argument("--threads", type=comma_integers, default=[1, 2])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.15, help="timing of one call on one layer")
    parser.add_argument("--patience", type=int, default=300, help="dropped bursts before a layer is given up")
    parser.add_argument("--share", type=float, default=0.75, help="the canary's least share of its full rate")
    parser.add_argument("--json", type=Path, help="write every number here, too")
    return parser.parse_args(arguments)


class Problem:
    """One operation of a layer: its operands, its right answer, and how each algorithm is called."""

    def __init__(self, operation: str, shape: pymec.ConvShape) -> None:
        self.operation, self.shape = operation, shape
        x, kernel = random_arrays(shape)
        grad_out = np.random.default_rng(1).standard_normal(shape.output_shape, np.float32)
        self.operands, oracle, self.result_shape = {
            "conv2d": ((x, kernel), reference.conv2d, shape.output_shape),
            "conv2d_input_grad": ((grad_out, kernel), reference.input_grad, shape.input_shape),
            "conv2d_kernel_grad": ((x, grad_out), reference.kernel_grad, shape.kernel_shape),
        }[operation]
        self.expected = oracle(*self.operands, shape)
        self.bounds: dict[Callable[..., NDArray], NDArray] = {}

    def calls(self, n_threads: int) -> dict[str, Callable[[], NDArray]]:
        """A call by each algorithm that can do it, every answer checked."""
        made = {}
        for name in pymec.algorithms(self.operation):
            row = registry.get(name, self.operation)
            if row.unsupported(self.shape) is None:
                call = self.call(name, n_threads)
                if row.error_bound not in self.bounds:  # most algorithms have the same
                    self.bounds[row.error_bound] = row.error_bound(*self.operands, self.shape)
                bound = self.bounds[row.error_bound]
                check(call(), self.expected, bound, f"{self.operation} by {name} with {n_threads} threads")
                made[name] = call
        return made

    def call(self, name: str, n_threads: int) -> Callable[[], NDArray]:
        """``out`` and workspace are given, full of NaN before the first call."""
        arguments: dict[str, Any] = {
            **self.shape.arguments,
            "algorithm": name,
            "n_threads": n_threads,
        }
        out = np.full(self.result_shape, np.nan, np.float32)
        first, second = self.operands
        if self.operation == "conv2d_kernel_grad":
            nbytes = pymec.workspace_size(
                self.shape.input_shape, self.shape.kernel_shape, operation=self.operation, **arguments
            )
            workspace = np.full(nbytes // 4, np.nan, np.float32)
            function = pymec.conv2d_kernel_grad
            return partial(function, first, second, self.result_shape, out=out, workspace=workspace, **arguments)
        plan = pymec.plan(
            self.shape.input_shape, self.shape.kernel_shape, operation=self.operation, **arguments
        ).prepare(second)
        workspace = np.full(plan.workspace_nbytes // 4, np.nan, np.float32)
        return partial(plan, first, out=out, workspace=workspace)


def print_tables(records: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """A table per operation and thread count: algorithms down, layers across, the fastest in bold."""
    for operation in options.operations:
        for n_threads in options.threads:
            rates = {
                (record["layer"], record["algorithm"]): 1e-9 * record["flops"] / record["best"]
                for record in records
                if (record["operation"], record["n_threads"]) == (operation, n_threads) and record["calls"]
            }
            best = {
                layer: max((r for (at, _), r in rates.items() if at == layer), default=0)
                for layer in options.layers
            }
            print(f"{operation}, batch {options.batch}, float32, threads: {n_threads}; GFLOP/s by the best call\n")
            rows = [
                [f"`{name}`", *(entry(rates.get((layer, name)), best[layer]) for layer in options.layers)]
                for name in pymec.algorithms(operation)
            ]
            print(markdown_table(["algorithm", *options.layers], rows) + "\n")


def entry(rate: float | None, best: float) -> str:
    """A rate with two digits, or a dash."""
    if rate is None:
        return "-"
    text = f"{rate:.0f}" if rate >= 9.95 else f"{rate:.1f}"
    return f"**{text}**" if rate == best else text


if __name__ == "__main__":
    sys.exit(main())
