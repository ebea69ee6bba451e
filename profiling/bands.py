"""MEC in a fraction of its bytes: ``mec`` beside ``mec_banded`` with a limit of |L| / 8, and im2col.

Plans with workspace and output given, in turns in one process, every answer checked; the bytes are the plans' own.
Where no band fits that limit, the row shows dashes and a note gives the bytes of the smallest.

    python profiling/bands.py --threads 1,2
    python profiling/bands.py --layers cv6,cv11 --fraction 10
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from _common import comma_integers, comma_list, command_line
from _store import Record, Store
from _tables import Table, groups, mean_of, number, plural, rate, ratio, show
from _timing import Contender, check, random_arrays, refuse_what_means_nothing, time_cells, timing_arguments

import pymec
from pymec import reference
from pymec.workspace import allocate_output, allocate_workspace


def main(arguments: list[str] | None = None) -> int:
    """Time every layer and print a table for each number of threads; 1 if some cell could not be timed."""
    options = parse(arguments)
    refuse_what_means_nothing(options.threads)
    store = Store("bands", options.records)
    cells = [
        {"layer": layer, "fraction": options.fraction, "n_threads": n_threads}
        for n_threads, layer in itertools.product(options.threads, options.layers)
    ]
    failed = time_cells(store, cells, options, contenders, how=bytes_of)
    show(tables(store.here(cells)))
    return 1 if failed else 0


def positive(text: str) -> int:
    """A number of one or more, from the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of 1 or more, got {text!r}")
    return int(text)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--layers", type=comma_list(pymec.layers.PAPER), default=list(pymec.layers.PAPER))
    parser.add_argument("--threads", type=comma_integers, default=[1, 2])
    parser.add_argument("--fraction", type=positive, default=8, help="the limit is L's bytes divided by this")
    timing_arguments(parser, seconds=1.5)
    return parser.parse_args(arguments)


def banded(cell: dict[str, Any]) -> pymec.ConvPlan:
    """The plan of ``mec_banded`` within the cell's limit; ValueError if no band fits."""
    shape = pymec.layers.get(cell["layer"]).shape()
    limit = shape.mec_size * shape.itemsize // cell["fraction"]
    return planned(shape, "mec_banded", cell["n_threads"], limit)


def planned(shape: pymec.ConvShape, algorithm: str, n_threads: int, limit: int | None = None) -> pymec.ConvPlan:
    """A plan of a layer."""
    return pymec.plan(
        shape.input_shape, shape.kernel_shape, algorithm=algorithm, workspace_limit=limit, n_threads=n_threads,
        **shape.arguments,
    )  # fmt: skip


def contenders(cell: dict[str, Any]) -> dict[str, Contender]:
    """im2col, mec and, where a band fits, mec_banded, their answers checked."""
    shape, n_threads = pymec.layers.get(cell["layer"]).shape(), cell["n_threads"]
    x, kernel = random_arrays(shape)
    expected, bound = reference.conv2d(x, kernel, shape), reference.error_bound(x, kernel, shape)
    plans = [planned(shape, algorithm, n_threads) for algorithm in ("im2col", "mec")]
    try:
        plans.append(banded(cell))
    except ValueError as error:
        print(f"{cell['layer']}: {error}", file=sys.stderr)
    made = {}
    for plan in plans:
        out = allocate_output(shape.output_shape, np.dtype("float32"))
        call = partial(plan.prepare(kernel), x, out=out, workspace=allocate_workspace(plan.workspace_nbytes))
        check(call(), expected, bound, f"{plan.algorithm} on {cell['layer']} with {n_threads} threads")
        made[plan.algorithm] = Contender(call, plan.algorithm)
    return made


def bytes_of(cell: dict[str, Any]) -> dict[str, Any]:
    """The bytes of a band ÷ L, or why there is none, and the operations."""
    shape = pymec.layers.get(cell["layer"]).shape()
    try:
        found: dict[str, Any] = {"of_L": banded(cell).workspace_nbytes / (shape.mec_size * shape.itemsize)}
    except ValueError as error:
        found = {"refused": str(error)}
    return {"flops": 2 * shape.multiply_adds, **found}


def tables(records: Sequence[Record]) -> Iterator[Table]:
    """A table for each limit and number of threads, a row per layer."""
    header = ["layer", "im2col", "mec", "mec_banded", "mec_banded ÷ mec", "banded bytes ÷ L"]
    names = header[1:4]
    for (fraction, n_threads), found in groups(records, "fraction", "n_threads").items():
        rows = []
        for record in found:
            rates = [number(rate(record, name), record, name) for name in names if name in record.values]
            rates += ["-"] * (len(names) - len(rates))
            gain, of_L = ratio(record, "mec", "mec_banded"), record.how.get("of_L")
            both = number(gain, record, *names[1:] if gain else (), form="{:.2f}")
            rows.append([record.cell["layer"], *rates, both, f"{of_L:.3f}" if of_L else "-"])
        notes = [f"mec_banded ÷ mec: {mean_of(found, lambda record: ratio(record, 'mec', 'mec_banded'))}"]
        notes += [f"{r.cell['layer']}: {r.how['refused']}" for r in found if "refused" in r.how]
        title = (
            f"mec_banded within L / {fraction}: GFLOP/s by the best call, batch 1, float32, {plural(n_threads)}"
        )
        yield Table(title, header, rows, found, "bands", notes)


if __name__ == "__main__":
    sys.exit(main())
