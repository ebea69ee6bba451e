"""Bytes held and bytes moved, beside time: what lowering costs, and where a piece of L that stays in a cache wins.

For each layer and algorithm, on one thread:

bytes      held as workspace; read and written by lowering, by products, and after them (``counting/`` says what
           is counted, ``tests/test_traffic.py`` how it is checked); those that BLAS packs; and an estimate of
           those that pass between the level-2 cache and what lies behind it
products   how many, and the size of the most frequent one
time       of a plan's call with workspace and output given, every answer checked first
limits     multiply-adds in registers, and copying in each cache and in memory, in turns with the algorithms

The records are in ``results/traffic.jsonl``, and tables and the figure are made of them alone.  What this machine
has measured already, of kernels that haven't changed since, is not measured again.

    python profiling/traffic.py --figure profiling/figures/traffic.svg
    python profiling/traffic.py --layers cv1,cv4 --algorithms im2col,im2col_blocked,mec,mec_banded
    python profiling/traffic.py --print
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _common import MIB, comma_integers, comma_list, command_line, machine_line, markdown_table, mib, progress
from _limits import FMA_LIMIT, caches, copy_calls, peak_call
from _store import Record, Store
from _timing import Canary, check, random_arrays, refuse_what_means_nothing, statistics_of, take_turns
from _traffic_figure import draw
from counting import COUNTED, WITHOUT_PADDING, Traffic, traffic

import pymec
from pymec import reference, registry

ALGORITHMS = tuple(name for name in COUNTED if name not in ("mec_vanilla", "mec_paper", "kn2row_aa"))
RIVALS = ("im2col", "mec_b", "im2col_blocked", "mec", "mec_banded", "direct_blocked")
"""The algorithms of the short table: both whole matrices, both in pieces, and no matrix."""

MOST_HELD = 512 * MIB
"""Bytes of workspace from which on an algorithm is counted but not timed."""

FASTER = 1.03
"""How much faster one of two algorithms must be, by best and by median call, to be called so."""


def main(arguments: list[str] | None = None) -> int:
    """Measure what is missing, then print; 1 if a layer has no record."""
    options = parse(arguments)
    store = Store("traffic", options.records)
    cells = [{"layer": layer, "batch": batch, "threads": 1} for batch in options.batch for layer in options.layers]
    if not options.print:
        refuse_what_means_nothing([1])
        with progress(len(cells), "traffic") as step:
            for cell in cells:
                if options.again or not complete(store, cell, options.algorithms, options.seconds):
                    measure(store, cell, options)
                step(f"{cell['layer']} n{cell['batch']}")
    print(f"{machine_line()}\n")
    records = [record for cell in cells for record in store.here([cell]) or store.find(**cell)]
    print_records(records, options.algorithms)
    if options.figure and records:
        draw([record for record in records if record.cell["layer"] in options.drawn], RIVALS, options.figure)
    return 0 if len(records) == len(cells) else 1


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--layers", type=comma_list(pymec.layers.names()), default=list(pymec.layers.PAPER))
    parser.add_argument("--algorithms", type=comma_list(tuple(COUNTED)), default=list(ALGORITHMS))
    parser.add_argument("--batch", type=comma_integers, default=[1])
    parser.add_argument("--seconds", type=float, default=0.3, help="timing of one algorithm on one layer")
    parser.add_argument("--again", action="store_true", help="measure what has been measured before, too")
    parser.add_argument("--print", action="store_true", help="print records, measure nothing")
    parser.add_argument("--figure", type=Path, help="draw rates over intensities here")
    parser.add_argument("--drawn", type=comma_list(pymec.layers.names()), default=["cv1", "cv4", "cv9", "cv12"])
    parser.add_argument(
        "--records", type=Path, default=Path(__file__).parent / "results", help="folder of records"
    )
    return parser.parse_args(arguments)


# Measuring ----------------------------------------------------------------------------------------------


def complete(store: Store, cell: dict[str, Any], algorithms: list[str], seconds: float) -> bool:
    """Whether today's kernels of these algorithms have been measured on this machine, for as long."""
    asked = [record.values["asked"] for record in store.here([cell])]
    return store.known(cell, seconds=seconds) and set(algorithms) <= set(asked[-1])


def measure(store: Store, cell: dict[str, Any], options: argparse.Namespace) -> Record:
    """Count and time the algorithms on one layer, in turns with the machine's limits, and keep the record."""
    shape = pymec.layers.get(cell["layer"]).shape(cell["batch"])
    counts = {name: traffic(name, shape) for name in options.algorithms if counted(name, shape)}
    limits = {FMA_LIMIT: peak_call(1), **copy_calls()}
    calls: dict[str, Callable[[], object]] = {name: call for name, (call, _) in limits.items()}
    x, kernel = random_arrays(shape)
    expected, bound = reference.conv2d(x, kernel, shape), reference.error_bound(x, kernel, shape)
    for name, found in counts.items():
        if found.held * shape.itemsize <= MOST_HELD:
            calls[name], out = call_of(name, shape, x, kernel)
            calls[name]()
            check(out, expected, bound, f"{name} on {cell['layer']}")
    times = take_turns(calls, 1, options.seconds, Canary(0))
    values = {
        "asked": options.algorithms,
        "caches": caches(),
        "limits": {name: 1e-9 * amount / min(times[name]) for name, (_, amount) in limits.items()},
        "algorithms": {
            name: amounts(found, caches()["level 2"]) | (statistics_of(times[name]) if name in times else {})
            for name, found in counts.items()
        },
    }
    return store.add(cell, values, counts, how={"seconds": options.seconds})


def counted(name: str, shape: pymec.ConvShape) -> bool:
    """Whether an algorithm can do the shape, and its order is counted."""
    return registry.get(name).unsupported(shape) is None and not (shape.is_padded and name in WITHOUT_PADDING)


def call_of(name: str, shape: pymec.ConvShape, x: Any, kernel: Any) -> tuple[Callable[[], object], Any]:
    """A plan's call, workspace and output given and full of NaN, and the output."""
    plan = pymec.plan(x.shape, kernel.shape, algorithm=name, n_threads=1, **shape.arguments).prepare(kernel)
    workspace = np.full(plan.workspace_nbytes, 255, np.uint8)
    out = np.full(shape.output_shape, np.nan, shape.dtype)
    return partial(plan, x, out=out, workspace=workspace), out


def amounts(found: Traffic, level_2: int) -> dict[str, Any]:
    """Bytes, the number of products, and the most frequent one."""
    size = found.shape.itemsize
    (m, n, k, _), _ = found.products.most_common(1)[0]
    return {
        "held": size * found.held,
        "lowering": [size * count for count in found.lowering],
        "products": found.calls,
        "frequent": [m, n, k],
        "multiplied": [size * count for count in found.multiplied],
        "after": [size * count for count in found.after],
        "packed": 2 * size * found.packed(),
        "moved": found.moved_nbytes,
        "far": found.far_nbytes(level_2),
        "arrays": size * (found.shape.input_size + found.shape.kernel_size + found.shape.output_size),
        "operations": 2 * found.shape.multiply_adds,
    }


# What comes out -----------------------------------------------------------------------------------------


def print_records(records: list[Record], algorithms: list[str]) -> None:
    """Bytes, times, and who is faster."""
    print("Bytes of one call, MiB: held; read + written by lowering, by products, after them; packed by BLAS\n")
    print(markdown_table(*bytes_table(records, algorithms)) + "\n")
    print(f"Bytes behind the level-2 cache, and milliseconds, one thread; rivals: {', '.join(RIVALS)}\n")
    print(markdown_table(*times_table(records, algorithms)) + "\n")
    print("\n".join(f"- {line}" for line in verdicts(records)))
    stale = [f"{record.cell['layer']}: {', '.join(record.stale)}" for record in records if record.stale]
    if stale:
        print(f"- measured by kernels that have changed since: {'; '.join(stale)}")


def bytes_table(records: list[Record], algorithms: list[str]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: what was counted."""
    header = ["layer", "algorithm", "held", "lowering", "products", "m × n × k", "by products", "after", "packed"]
    rows = []
    for record, name, found in each(records, algorithms):
        pairs = (f"{mib(read)} + {mib(written)}" for read, written in (found["lowering"], found["multiplied"]))
        lowered, multiplied = pairs
        sizes = " × ".join(map(str, found["frequent"]))
        after, packed = mib(sum(found["after"])), mib(found["packed"])
        row = [record.cell["layer"], f"`{name}`", mib(found["held"]), lowered, str(found["products"]), sizes]
        rows.append([*row, multiplied, after, packed])
    return header, rows


def times_table(records: list[Record], algorithms: list[str]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: what passes the level-2 cache, how long that and the multiply-adds take, and the call."""
    header = ["layer", "algorithm", "held, MiB", "behind level 2, MiB", "operations a byte"]
    header += ["copying, ms", "multiply-adds, ms", "call, ms", "call ÷ both"]
    rows = []
    for record, name, found in each(records, algorithms):
        copying, multiplying = least_seconds(record, found)
        row = [record.cell["layer"], f"`{name}`", mib(found["held"]), mib(found["far"])]
        row += [f"{found['operations'] / found['far']:.0f}", f"{1e3 * copying:.3f}", f"{1e3 * multiplying:.3f}"]
        best = found.get("best")
        rows.append(
            [*row, f"{1e3 * best:.3f}", f"{best / (copying + multiplying):.2f}"] if best else [*row, "-", "-"]
        )
    return header, rows


def each(records: list[Record], algorithms: list[str]) -> list[tuple[Record, str, dict[str, Any]]]:
    """Every record's algorithms, of those asked for."""
    return [
        (record, name, record.values["algorithms"][name])
        for record in records
        for name in algorithms
        if name in record.values["algorithms"]
    ]


def least_seconds(record: Record, found: dict[str, Any]) -> tuple[float, float]:
    """What the bytes behind the level-2 cache take at the rate of copying, and the multiply-adds at their limit.

    The rate is that of the last cache if all arrays and the workspace fit it together, otherwise that of memory.
    """
    limits, last = record.values["limits"], list(record.values["caches"])[-1]
    fits = found["held"] + found["arrays"] <= record.values["caches"][last]
    rate = limits[last] if fits else limits["memory"]
    return 1e-9 * found["far"] / rate, 1e-9 * found["operations"] / limits[FMA_LIMIT]


def verdicts(records: list[Record]) -> list[str]:
    """Which of two algorithms is faster on which layers, for the pairs that matter here."""
    pairs = [("mec_b", "im2col"), ("mec_banded", "im2col_blocked"), ("mec", "im2col_blocked"), ("mec", "im2col")]
    lines = []
    for one, other in [*pairs, ("direct_blocked", "im2col_blocked")]:
        faster: dict[str, list[str]] = {one: [], other: [], "neither": []}
        for record in records:
            times = [record.values["algorithms"].get(name, {}) for name in (one, other)]
            if all(time.get("best") for time in times):
                faster[winner(one, other, *times)].append(record.cell["layer"])
        told = [f"{name} on {', '.join(layers)}" for name, layers in faster.items() if layers]
        lines.append(f"{one} or {other}, faster by {FASTER - 1:.0%}: {'; '.join(told)}")
    return [line for line in lines if not line.endswith(": ")]


def winner(one: str, other: str, first: dict[str, Any], second: dict[str, Any]) -> str:
    """The name of the faster one, if it is so by the best and by the median call; otherwise ``neither``."""
    ratios = [second[which] / first[which] for which in ("best", "median")]
    if min(ratios) >= FASTER:
        return one
    return other if max(ratios) <= 1 / FASTER else "neither"


if __name__ == "__main__":
    sys.exit(main())
