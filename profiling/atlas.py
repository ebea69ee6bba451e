"""Every algorithm on every layer, forwards and backwards: how fast each one is, all in one run.

Calls are a trained layer's: the plan is made, the kernel prepared (transformed kernels and the like are not
timed), workspace and out are given.  The kernel's gradient has no kernel to prepare and is called as a
function.  Every answer is checked within the algorithm's own error bound before it is timed; algorithms take
turns in short bursts, guarded by a canary where there are several threads (see ``speed.py``).

    python profiling/atlas.py
    python profiling/atlas.py --layers cv9 --operations conv2d --threads 1
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
from _common import comma_integers, comma_list, command_line
from _store import Record, Store
from _tables import Table, contenders, entries, groups, plural, rate, show
from _timing import Contender, check, random_arrays, refuse_what_means_nothing, time_cells, timing_arguments
from numpy.typing import NDArray

import pymec
from pymec import reference, registry

OPERATIONS = tuple(registry.TABLES)


def main(arguments: list[str] | None = None) -> int:
    """Time what is asked for; 1 if some cell could not be timed undisturbed."""
    options = parse(arguments)
    refuse_what_means_nothing(options.threads)
    store = Store("atlas", options.records)
    cells = [
        {"layer": layer, "operation": operation, "i_n": options.batch, "n_threads": n_threads}
        for layer, operation, n_threads in itertools.product(options.layers, options.operations, options.threads)
    ]
    failed = time_cells(store, cells, options, lambda cell: problem_of(cell).contenders(cell["n_threads"]))
    show(tables(store.here(cells)))
    return 1 if failed else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--layers", type=comma_list(pymec.layers.names()), default=list(pymec.layers.PAPER))
    parser.add_argument("--operations", type=comma_list(OPERATIONS), default=list(OPERATIONS))
    parser.add_argument("--threads", type=comma_integers, default=[1, 2])
    parser.add_argument("--batch", type=int, default=1)
    timing_arguments(parser, seconds=0.15)
    return parser.parse_args(arguments)


def problem_of(cell: dict[str, Any]) -> Problem:
    """The problem of a cell, made once for all thread counts."""
    return problem(cell["operation"], pymec.layers.get(cell["layer"]).shape(cell["i_n"]))


@lru_cache(1)
def problem(operation: str, shape: pymec.ConvShape) -> Problem:
    """The last problem is kept."""
    return Problem(operation, shape)


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

    def contenders(self, n_threads: int) -> dict[str, Contender]:
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
                made[name] = Contender(call, f"{name}:{self.operation}")
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


def tables(records: Sequence[Record]) -> Iterator[Table]:
    """A table per operation, batch and thread count: algorithms down, layers across, the fastest in bold."""
    for (operation, i_n, n_threads), found in groups(records, "operation", "i_n", "n_threads").items():
        at = {record.cell["layer"]: record for record in found}
        layers = entries(found, "layer")
        best = {layer: max(rate(record, name) or 0 for name in record.values) for layer, record in at.items()}
        rows = [
            [f"`{name}`", *(entry(at[layer], name, best[layer]) for layer in layers)] for name in contenders(found)
        ]
        title = f"{operation}, GFLOP/s by the best call, batch {i_n}, float32, {plural(n_threads)}"
        yield Table(title, ["algorithm", *layers], rows, found, "atlas")


def entry(record: Record, name: str, best: float) -> str:
    """A rate with two digits and its marks, or a dash."""
    value = rate(record, name)
    if value is None:
        return "-"
    text = f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"
    return (f"**{text}**" if value == best else text) + record.marks(name)


if __name__ == "__main__":
    sys.exit(main())
