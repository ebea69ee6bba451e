"""How fast the algorithms are on the paper's layers, beside im2col.

GFLOP/s (2 × the multiply-adds of the definition) of ``pymec.conv2d`` as a user calls it and, with --reuse, also
with ``workspace`` and ``out`` given; and the ratios to im2col.

Every answer is checked within its error bound before it is timed.  Calls are timed one by one, in short bursts,
the algorithms taking turns; tables give the best and the median call.  Before and after each burst on several
threads a fixed product, the canary, must run nearly n times as fast on n threads as on one.  If it doesn't, the
threads didn't have a core each: the burst is dropped and repeated, up to --patience times per layer and thread
count.

    python profiling/speed.py --reuse
    python profiling/speed.py --layers cv4,cv5 --algorithms im2col,mec,mec_banded --threads 1
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
from _tables import Table, best_and_median, contenders, groups, mean_of, plural, rate, ratio, show
from _timing import Contender, check, random_arrays, refuse_what_means_nothing, time_cells, timing_arguments

import pymec
from pymec import reference

BASELINE = "im2col"
REUSING = ", reusing"
TITLES = {"": "conv2d as called", REUSING: "conv2d with workspace and out given"}


def main(arguments: list[str] | None = None) -> int:
    """Time every layer; 1 if some cell could not be timed undisturbed."""
    options = parse(arguments)
    refuse_what_means_nothing(options.threads)
    store = Store("speed", options.records)
    cells = [
        {"layer": layer, "i_n": options.batch, "n_threads": n_threads}
        for layer, n_threads in itertools.product(options.layers, options.threads)
    ]
    ways = ("", REUSING) if options.reuse else ("",)
    names = [name + way for way in ways for name in options.algorithms]
    failed = time_cells(store, cells, options, partial(calls_of, names=names), names)
    show(tables(store.here(cells)))
    return 1 if failed else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--layers", type=comma_list(pymec.layers.names()), default=list(pymec.layers.PAPER))
    parser.add_argument(
        "--algorithms",
        type=comma_list(pymec.algorithms()),
        default=[BASELINE, "im2col_blocked", "mec_b", "mec", "mec_banded"],
        help="im2col is always among them",
    )
    parser.add_argument("--threads", type=comma_integers, default=[1, 2])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--reuse", action="store_true", help="time calls with workspace and out given, too")
    timing_arguments(parser, seconds=1.0)
    options = parser.parse_args(arguments)
    options.algorithms = list(dict.fromkeys([BASELINE, *options.algorithms]))
    return options


def calls_of(cell: dict[str, Any], names: Sequence[str]) -> dict[str, Contender]:
    """``conv2d`` by each algorithm, answers checked: as a user calls it, or with workspace and out given.

    These are full of NaN before the first call, so that the check finds elements that were not written.
    """
    shape, n_threads = pymec.layers.get(cell["layer"]).shape(cell["i_n"]), cell["n_threads"]
    x, kernel = random_arrays(shape)
    expected, bound = reference.conv2d(x, kernel, shape), reference.error_bound(x, kernel, shape)
    made = {}
    for name in names:
        algorithm = name.removesuffix(REUSING)
        arguments: dict[str, Any] = {**shape.arguments, "algorithm": algorithm, "n_threads": n_threads}
        if name.endswith(REUSING):
            nbytes = pymec.workspace_size(x.shape, kernel.shape, **arguments)
            arguments["workspace"] = np.full(nbytes // shape.itemsize, np.nan, shape.dtype)
            arguments["out"] = np.full(shape.output_shape, np.nan, shape.dtype)
        call = partial(pymec.conv2d, x, kernel, **arguments)
        check(call(), expected, bound, f"{algorithm} on {cell['layer']} with {n_threads} threads")
        made[name] = Contender(call, algorithm)
    return made


def tables(records: Sequence[Record]) -> Iterator[Table]:
    """A table per batch, thread count and way to call: GFLOP/s and the ratios to im2col."""
    for (i_n, n_threads), found in groups(records, "i_n", "n_threads").items():
        for way, title in TITLES.items():
            names = [name for name in contenders(found) if name.endswith(REUSING) == bool(way)]
            if names:
                title = f"{title}, batch {i_n}, float32, {plural(n_threads)}; GFLOP/s, best / median"
                yield table(title, found, [name.removesuffix(REUSING) for name in names], way)


def table(title: str, found: Sequence[Record], algorithms: Sequence[str], way: str) -> Table:
    """A row per layer."""
    baseline, others = BASELINE + way, [name for name in algorithms if name != BASELINE]
    header = ["layer", *algorithms, *(f"{name} ÷ {BASELINE}" for name in others)]
    rows = []
    for record in found:
        row = [record.cell["layer"]]
        row += [best_and_median(record, name + way, rate, form="{:.0f}") for name in algorithms]
        row += [best_and_median(record, name + way, ratio, baseline) for name in others]
        rows.append(row)
    notes = []
    for name, which in itertools.product(others, ("best", "median")):
        mean = mean_of(found, lambda record, n=name + way, w=which: ratio(record, baseline, n, w))
        notes.append(f"{name} ÷ {BASELINE}, {which}: {mean}")
    return Table(title, header, rows, found, "speed", notes)


if __name__ == "__main__":
    sys.exit(main())
