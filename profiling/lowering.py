"""How fast tuned MEC's first stage lowers an image, beside this machine's own copying.

Bytes per second count 2 × |L|: as many bytes are read from the image as are written to L.  All layers, and copying
an array of four times the last-level cache, take turns, as in ``speed.py``; every L is checked to the bit.

    python profiling/lowering.py
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from _common import comma_integers, comma_list, command_line, mib
from _limits import caches
from _store import Record, Store
from _tables import Table, best_and_median, entries, groups, plural, show
from _timing import Contender, random_arrays, refuse_what_means_nothing, time_cells, timing_arguments
from numpy.typing import NDArray

import pymec
from pymec.kernels.mec import tuned as mec

COPY = "copying"


def main(arguments: list[str] | None = None) -> int:
    """Time lowering; 1 if it could not be timed undisturbed."""
    options = parse(arguments)
    refuse_what_means_nothing(options.threads)
    store = Store("lowering", options.records)
    cells = [{"i_n": options.batch, "n_threads": n_threads} for n_threads in options.threads]
    with ThreadPoolExecutor(max(options.threads)) as pool:
        make = partial(calls_of, layers=options.layers, pool=pool)
        failed = time_cells(store, cells, options, make, options.layers, partial(bytes_of, layers=options.layers))
    show(tables(store.here(cells)))
    return 1 if failed else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--layers", type=comma_list(pymec.layers.PAPER), default=list(pymec.layers.PAPER))
    parser.add_argument("--threads", type=comma_integers, default=[1, 2])
    parser.add_argument("--batch", type=int, default=1)
    timing_arguments(parser, seconds=1.0)
    return parser.parse_args(arguments)


def bytes_of(cell: dict[str, Any], layers: Sequence[str]) -> dict[str, Any]:
    """Bytes of each layer's L, and of what is copied."""
    shapes = {layer: pymec.layers.get(layer).shape(cell["i_n"]) for layer in layers}
    found = {layer: shape.mec_size * shape.itemsize for layer, shape in shapes.items()}
    return {"bytes": {**found, COPY: 4 * max(caches().values())}}


def calls_of(cell: dict[str, Any], layers: Sequence[str], pool: ThreadPoolExecutor) -> dict[str, Contender]:
    """The lowering of each layer, its L checked to the bit, and copying."""
    n_threads = cell["n_threads"]
    made = {}
    for layer in layers:
        shape = pymec.layers.get(layer).shape(cell["i_n"])
        x, L = random_arrays(shape)[0], np.full(shape.mec_size, np.nan, shape.dtype)
        call = partial(mec.lower, x, L, shape, n_threads)
        call()
        if not np.array_equal(L, lowered_by_numpy(x, shape)):
            sys.exit(f"wrong answer: L of {layer} with {n_threads} threads")
        made[layer] = Contender(call, "mec")
    source = np.ones(4 * max(caches().values()), np.uint8)
    target = np.zeros_like(source)
    copy = partial(copy_on_threads, pool, source, target, n_threads)
    copy()
    if not np.array_equal(source, target):
        sys.exit(f"wrong answer: copying with {n_threads} threads")
    return {**made, COPY: Contender(copy)}


def copy_on_threads(pool: ThreadPoolExecutor, source: NDArray, target: NDArray, n_threads: int) -> None:
    """Copy, a slice per thread; NumPy lets go of the interpreter lock for it."""
    list(pool.map(np.copyto, np.array_split(target, n_threads), np.array_split(source, n_threads)))


def lowered_by_numpy(x: NDArray, shape: pymec.ConvShape) -> NDArray:
    """L of a layer without padding, by NumPy's windows: (i_n, o_w, r_h, k_w, i_c), flat."""
    windows = np.lib.stride_tricks.sliding_window_view(x, shape.k_w, axis=2)  # (i_n, i_h, ., i_c, k_w)
    return windows[:, : shape.lowered_rows(), :: shape.s_w].transpose(0, 2, 1, 4, 3).reshape(-1)


def tables(records: Sequence[Record]) -> Iterator[Table]:
    """GB/s of each layer, and the share of what copying reaches, for each batch."""
    for (i_n,), found in groups(records, "i_n").items():
        header = ["layer", "L, MiB"]
        for n_threads in entries(found, "n_threads"):
            header += [f"GB/s, {plural(n_threads)}", "of copying"]
        rows = []
        for name in found[0].values:
            row = [name, mib(found[0].how["bytes"][name])]
            for record in found:
                row += [best_and_median(record, name, gigabytes, form="{:.1f}")]
                row += [best_and_median(record, name, of_copying, form="{:.0%}")]
            rows.append(row)
        title = f"Tuned MEC's lowering, 2 × |L| bytes, batch {i_n}, float32, best / median"
        yield Table(title, header, rows, found, "lowering")


def gigabytes(record: Record, name: str, which: str) -> float:
    """GB/s, bytes read and bytes written."""
    return 2e-9 * record.how["bytes"][name] / record.values[name][which]


def of_copying(record: Record, name: str, which: str) -> float:
    """The same as a share of copying's."""
    return gigabytes(record, name, which) / gigabytes(record, COPY, which)


if __name__ == "__main__":
    sys.exit(main())
