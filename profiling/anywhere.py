"""Is what "auto" takes the best that pymec has, and that others have, on shapes far from the paper's?

Some 300 convolutions in families, each family with its motive.  On every one of them all of pymec's algorithms
that can do it are called.  Those within twice the time of the fastest then take turns with "auto", called and
planned, with ``accuracy="fast"``, and with what SciPy and torch offer for the same; every answer is checked.
The worst ratios are printed first.

    python profiling/anywhere.py --threads 1
    python profiling/anywhere.py --families grey,signals
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
from _common import comma_integers, comma_list, command_line, geometric_mean
from _families import FAMILIES, described
from _peers_anywhere import Call, peers
from _store import Record, Store
from _tables import Table, entries, plural, show
from _timing import Contender, random_arrays, refuse_what_means_nothing, time_cells, timing_arguments
from numpy.typing import NDArray

import pymec
from pymec import layouts, registry
from pymec.operations import OPERATIONS

CONTENDER = 2.0
"""An algorithm takes part if its first calls were no slower than this many times the fastest one's."""

HOPELESS = 10.0
"""Its first call is not repeated if it took this many times as long as the fastest so far."""


# One shape ----------------------------------------------------------------------------------------------


class Problem:
    """An operation on a shape: its operands, its answer in double precision, and the ways to get it."""

    def __init__(self, operation: str, s: pymec.ConvShape) -> None:
        self.operation, self.shape = operation, s
        x, kernel = random_arrays(s)
        grad_out = np.random.default_rng(1).standard_normal(s.output_shape, np.float32)
        arrays = {"input": x, "kernel": kernel, "output": grad_out}
        self.roles = OPERATIONS[operation].roles
        self.operands = arrays[self.roles[0]], arrays[self.roles[1]]  # in n-h-w-c and h-w-i-o
        self.function = getattr(pymec, operation)
        # In double precision by another algorithm than those that win; and the same of absolute values.
        name = "im2col_blocked" if operation == "conv2d" else "pixel_gemm"
        exact, absolute = (
            self.function(
                *(change(array).astype(np.float64) for array in self.operands),
                *self.shape_of_result("NHWC"),
                algorithm=name,
                **s.arguments,
            )
            for change in (np.asarray, np.abs)
        )
        self.expected, self.scale = exact, float(absolute.max())
        self.products = (
            math.prod(s.kernel_shape[:3]) if operation != "conv2d_kernel_grad" else s.i_n * s.o_h * s.o_w
        )

    def extents(self, role: str, layout: str) -> tuple[int, ...]:
        """The shape of an array in a layout."""
        return layouts.outer_extents(role, replace(self.shape, layout=layout))

    def shape_of_result(self, layout: str) -> tuple[Any, ...]:
        """What a gradient is told besides its operands."""
        return () if self.operation == "conv2d" else (self.extents(self.roles[2], layout),)

    def given(self, layout: str) -> list[NDArray]:
        """The operands in a layout, C-contiguous."""
        in_layout = replace(self.shape, layout=layout)
        return [
            np.ascontiguousarray(layouts.outer_view(array, role, in_layout))
            for array, role in zip(self.operands, self.roles, strict=False)
        ]

    def call(self, algorithm: str, n_threads: int, layout: str | None = None, **options: Any) -> Call:
        """A plain call, which allocates its workspace, with ``out`` given."""
        layout = layout or self.shape.layout
        out = np.full(self.extents(self.roles[2], layout), np.nan, np.float32)
        return partial(
            self.function,
            *self.given(layout),
            *self.shape_of_result(layout),
            out=out,
            algorithm=algorithm,
            n_threads=n_threads,
            layout=layout,
            **self.shape.arguments,
            **options,
        )

    def plan(self, algorithm: str, n_threads: int, layout: str | None = None, **options: Any) -> Call:
        """A call of a plan whose kernel is prepared and whose workspace is given."""
        layout = layout or self.shape.layout
        made = pymec.plan(
            self.extents("input", layout),
            self.extents("kernel", layout),
            algorithm=algorithm,
            n_threads=n_threads,
            operation=self.operation,
            layout=layout,
            **self.shape.arguments,
            **options,
        )
        operands = self.given(layout)
        if isinstance(made, pymec.ConvPlan):
            made.prepare(operands.pop())
        out = np.full(self.extents(self.roles[2], layout), np.nan, np.float32)
        return partial(made, *operands, out=out, workspace=np.empty(made.workspace_nbytes, np.uint8))

    def check(self, answer: NDArray, what: str, layout: str) -> None:
        """Exit at an answer that rounding does not explain."""
        answer = layouts.inner_view(answer, self.roles[2], replace(self.shape, layout=layout))
        off = float(np.max(np.abs(answer - self.expected), initial=0))
        if not off <= self.scale * max(1e-5, 2e-7 * math.sqrt(self.products)):
            sys.exit(f"wrong answer: {what} is off by {off:.3g} of {self.scale:.3g}; nothing was timed after that")


# Measuring ----------------------------------------------------------------------------------------------


def screened(makers: dict[Any, Callable[[], Call]], problem: Problem, layout: str) -> dict[Any, Call]:
    """The calls no slower than CONTENDER times the fastest, by three first calls of each; answers checked."""
    kept: dict[Any, tuple[float, Call]] = {}
    fastest = math.inf
    for label, make in makers.items():
        call = make()
        best = math.inf
        for _ in range(3):
            start = time.perf_counter()
            answer = call()
            best = min(best, time.perf_counter() - start)
            if best > HOPELESS * fastest:
                break
        problem.check(answer, f"{label} on {described(problem.shape)}", layout)
        fastest = min(fastest, best)
        kept[label] = best, call
        kept = {name: entry for name, entry in kept.items() if entry[0] <= CONTENDER * fastest}
    return {label: call for label, (_, call) in kept.items()}


def contenders(problem: Problem, n_threads: int) -> dict[str, Contender]:
    """A call of every way that takes part, by what it is compared with: "call mec", "peer torch", "NHWC plan"."""
    s, operation = problem.shape, problem.operation
    able = [name for name, row in registry.TABLES[operation].items() if row.unsupported(s) is None]
    calls: dict[Any, Call] = {}
    for way in ("call", "plan"):
        makers = {name: partial(getattr(problem, way), name, n_threads) for name in able}
        calls |= {(way, name): call for name, call in screened(makers, problem, s.layout).items()}
        calls[way, "auto"] = getattr(problem, way)("auto", n_threads)
        if operation == "conv2d":
            calls[way, "fast"] = getattr(problem, way)("auto", n_threads, accuracy="fast")
    if operation == "conv2d":
        others = {name: (lambda call=call: call) for name, call in peers(s, *problem.operands, n_threads).items()}
        calls |= {("peer", name): call for name, call in screened(others, problem, "NHWC").items()}
    if s.layout != "NHWC":
        calls |= {("NHWC", way): getattr(problem, way)("auto", n_threads, "NHWC") for way in ("call", "plan")}
    for (way, name), call in calls.items():
        problem.check(call(), f"{way} {name} on {described(s)}", s.layout if way in ("call", "plan") else "NHWC")
    return {" ".join(label): contender(problem, n_threads, *label, call) for label, call in calls.items()}


def contender(problem: Problem, n_threads: int, way: str, name: str, call: Call) -> Contender:
    """A call and the algorithm that does it: of pymec's the one that was named, or that its rule chooses."""
    operation = problem.operation
    if way == "peer":
        return Contender(call)
    if way == "NHWC":
        way, name, layout = name, "auto", "NHWC"
    else:
        layout = problem.shape.layout
    if name not in ("auto", "fast"):
        return Contender(call, f"{name}:{operation}")
    found = pymec.explain(
        problem.extents("input", layout),
        problem.extents("kernel", layout),
        operation=operation,
        accuracy="fast" if name == "fast" else "exact",
        layout=layout,
        n_threads=n_threads,
        **problem.shape.arguments,
    )
    return Contender(call, f"{found.planned if way == 'plan' else found.chosen}:{operation}", chosen=True)


def ratios_of(best: dict[Any, float], operation: str) -> dict[str, tuple[float, str]]:
    """For each question the ratio and the fastest rival.

    Among pymec's own no ratio is below 1, as the choice is one of them: what noise there is makes means larger.
    """
    exact = {name for name, row in registry.TABLES[operation].items() if row.accuracy == "exact"}
    found = {}
    for way in ("call", "plan"):
        own = {name: t for (kind, name), t in best.items() if kind == way and name not in ("auto", "fast")}
        for choice, allowed in (("auto", exact), ("fast", set(own))):
            rivals = {name: t for name, t in own.items() if name in allowed}
            if (way, choice) in best and rivals:
                name = min(rivals, key=lambda key: rivals[key])
                found[f"{choice} {way}"] = (best[way, choice] / min(rivals[name], best[way, choice]), name)
        if ("NHWC", way) in best and (way, "auto") in best:
            found[f"{way} beside NHWC"] = (best[way, "auto"] / best["NHWC", way], "NHWC")
    for choice, names in (("auto", ("torch", "ndimage", "scipy direct")), ("fast", ("scipy oaconvolve",))):
        rivals = {name: best["peer", name] for name in names if ("peer", name) in best}
        if rivals and ("call", choice) in best:
            name = min(rivals, key=lambda key: rivals[key])
            found[f"{choice} beside others"] = (best["call", choice] / rivals[name], name)
    return found


# The script ---------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Time every shape, print the worst ratios and each family's geometric mean; 1 if a shape is missing."""
    options = parse(arguments)
    refuse_what_means_nothing(options.threads)
    store = Store("anywhere", options.records)
    shapes = {(name, described(s)): s for name in options.families for s in FAMILIES[name].shapes()}
    cells = [
        {"family": family, "shape": shape, "operation": operation, "n_threads": n_threads}
        for (family, shape), s in shapes.items()
        if s.multiply_adds <= options.largest
        for operation, n_threads in itertools.product(options.operations, options.threads)
    ]

    def of_cell(cell: dict[str, Any]) -> dict[str, Contender]:
        problem = problem_of(cell["operation"], shapes[cell["family"], cell["shape"]])
        return contenders(problem, cell["n_threads"])

    failed = time_cells(store, cells, options, of_cell, how=lambda cell: {})
    show(tables(store.here(cells), options.worst))
    return 1 if failed else 0


@lru_cache(1)
def problem_of(operation: str, s: pymec.ConvShape) -> Problem:
    """A problem, made once for all thread counts."""
    return Problem(operation, s)


def tables(records: Sequence[Record], rows: int = 20) -> Iterator[Table]:
    """The worst ratios of each question, then the families."""
    yield from worst(records, rows)
    yield from summary(records)


def worst(records: Sequence[Record], count: int = 10) -> Iterator[Table]:
    """The worst ratios of each question."""
    found = asked(records)
    header = ["family", "shape", "operation", "n_threads", "ratio", "best"]
    for question in dict.fromkeys(question for _, question, *_ in found):
        ratios = sorted((one for one in found if one[1] == question), key=lambda one: -one[2])
        rows = [
            [*(str(record.cell[name]) for name in header[:4]), f"{ratio:.2f}{record.marks()}", rival]
            for record, _, ratio, rival in ratios[:count]
        ]
        title = f"{question}: time ÷ that of the best, the worst of {len(ratios)}"
        yield Table(title, header, rows, [record for record, *_ in ratios], "anywhere")


def summary(records: Sequence[Record]) -> Iterator[Table]:
    """Geometric means of the ratios: a row per family and thread count."""
    found = asked(records)
    questions = list(dict.fromkeys(question for _, question, *_ in found))
    rows = []
    for family, n_threads in itertools.product(entries(records, "family"), entries(records, "n_threads")):
        row = [family, plural(n_threads)]
        for question in questions:
            ratios = [
                (ratio, record.marks())
                for record, asks, ratio, _ in found
                if asks == question and (record.cell["family"], record.cell["n_threads"]) == (family, n_threads)
            ]
            marks = "".join(sorted(set("".join(marks for _, marks in ratios))))
            row.append(f"{geometric_mean(ratio for ratio, _ in ratios):.2f}{marks}" if ratios else "-")
        rows.append(row)
    if rows:
        title = "Time of what auto takes ÷ that of the best, geometric means, float32"
        yield Table(title, ["family", "threads", *questions], rows, records, "anywhere")


def asked(records: Sequence[Record]) -> list[tuple[Record, str, float, str]]:
    """Every record's questions, ratios and fastest rivals."""
    found = []
    for record in records:
        best = {tuple(label.split(" ", 1)): value["best"] for label, value in record.values.items()}
        for question, (ratio, rival) in ratios_of(best, record.cell["operation"]).items():
            found.append((record, question, ratio, rival))
    return found


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--families", type=comma_list(list(FAMILIES)), default=list(FAMILIES))
    parser.add_argument("--operations", type=comma_list(list(registry.TABLES)), default=["conv2d"])
    parser.add_argument("--threads", type=comma_integers, default=[1, 2])
    parser.add_argument("--largest", type=float, default=1e9, help="multiply-adds of the largest shape")
    parser.add_argument("--worst", type=int, default=20, help="rows of each table")
    timing_arguments(parser, seconds=0.05, patience=40)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
