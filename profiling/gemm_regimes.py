"""The largest product that the BLAS at hand multiplies without packing, for ``small_products.json``.

A BLAS packs both operands of a product into buffers before it multiplies them, which does not pay for a small
product.  Some builds multiply small products without packing, up to a limit of m·n·k.  To find it, this
script times products of a few shapes, as MEC makes them, at many sizes on one thread, and checks every
answer.  As in MEC, B is a part of each row of K, and the rows of A overlap.  The limit lies between the two
sizes where the rate falls most; bisection brings them closer together.  The last line gives the limit, the
roundest number between the two sizes of every shape, and says whether pymec knows it.  ``--write`` stores it
where pymec reads it, and pymec then cuts its products for it.

    python profiling/gemm_regimes.py
    python profiling/gemm_regimes.py --write
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from _common import comma_list, command_line, progress
from _store import Record, Store
from _tables import Table, groups, show
from _timing import (
    Canary,
    refuse_what_means_nothing,
    statistics_of,
    take_turns,
    timing_arguments,
)
from numpy.typing import NDArray

from pymec.kernels.shared import blas as _blas
from pymec.kernels.shared import blas_library as blas_limits
from pymec.threads import single_threaded_blas

SHAPES = ((28, 64), (32, 128), (55, 96), (110, 64))
"""Output pixels and channels of a product; the length of its reduction varies."""

SIZES = tuple(round(1_000_000 * 2 ** (i / 2)) for i in range(-8, 5))
"""Values of m·n·k; the products have a little less, as k is rounded down."""

FALL = 1.1
"""The least fall of the rate between two sizes that shows a limit, as a ratio."""

STEPS = 4
"""Steps of the bisection, after which the two sizes around a limit are within 2 % of each other."""


def main(arguments: list[str] | None = None) -> int:
    """Time the products and print the tables; 1 if they disagree, or pymec has another limit."""
    options = parse(arguments)
    refuse_what_means_nothing([1])
    store = Store("gemm_regimes", options.records)
    cells = [{"dtype": dtype, "m": m, "n": n, "n_threads": 1} for dtype in options.dtype for m, n in SHAPES]
    wanted = [cell for cell in cells if options.again or not store.known(cell, seconds=options.seconds)]
    with progress(len(wanted), "gemm_regimes") as step:
        for cell in wanted:
            case = cell["m"], cell["n"], cell["dtype"]
            values = timed_products(*case, SIZES, options.seconds)
            between = narrowed(case, limit_of(rates(*case[:2], values)), options.seconds)
            store.add(cell, values, how={"seconds": options.seconds, "between": between})
            step(" ".join(map(str, case)))
    found = store.here(cells)
    show(tables(found))
    return conclude(limit_between([record.how["between"] for record in found]), options.write)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    kinds = ("float32", "float64")
    parser.add_argument("--dtype", type=comma_list(kinds), default=list(kinds))
    parser.add_argument("--write", action="store_true", help="store the limit where pymec reads it")
    timing_arguments(parser, seconds=0.2)
    return parser.parse_args(arguments)


def conclude(limit: int | None, write: bool) -> int:
    """Print the limit, and store it for pymec if ``write`` is true."""
    name, known = blas_limits.blas_name(), blas_limits.known_small_product()
    if limit is None:
        print(f"the shapes disagree, so nothing is known of {name}; run it again on a quiet machine")
        return 1
    said = f"multiplies up to {limit:,} without packing" if limit else "has no such limit"
    print(f"{name} {said}; pymec {'knows it' if known == limit else f'has {known}'}")
    if write and known != limit:
        blas_limits.remember_small_product(limit)
        print(f"written to {blas_limits.SMALL_PRODUCTS}")
    return 0 if write or known == limit else 1


def timed_products(m: int, n: int, dtype: str, sizes: Sequence[int], seconds: float) -> dict[str, Any]:
    """Best and median seconds of m × k × n for every size, all taking turns."""
    with single_threaded_blas():
        times = take_turns({size: product(m, n, size // (m * n), dtype) for size in sizes}, 1, seconds, Canary(1))
    return {str(size): statistics_of(of) for size, of in times.items()}


def rates(m: int, n: int, values: dict[str, Any]) -> dict[int, float]:
    """GFLOP/s of every size."""
    return {int(size): 2e-9 * (int(size) // (m * n) * m * n) / of["best"] for size, of in values.items()}


def product(m: int, n: int, k: int, dtype: str) -> Any:
    """A call of one product, its answer checked: a window of L times some channels of K."""
    rng = np.random.default_rng(0)
    lowered = rng.standard_normal((m, k + k // 2)).astype(dtype)
    kernel = rng.standard_normal((k, 2 * n)).astype(dtype)
    A, B = lowered[:, k // 4 : k // 4 + k], kernel[:, :n]
    out: NDArray = np.full((m, n), np.nan, dtype)
    _blas.gemm(A, B, out)
    exact = A.astype("float64") @ B.astype("float64")
    bound = 2 * k * np.finfo(dtype).eps * (np.abs(A).astype("float64") @ np.abs(B).astype("float64"))
    if not (np.abs(out - exact) <= bound).all():
        sys.exit(f"wrong answer: {m} × {k} × {n} in {dtype}")
    return partial(_blas.gemm, A, B, out)


def limit_of(rate: dict[int, float]) -> tuple[int, int] | None:
    """The two neighbouring sizes between which the rate falls most, or None where it hardly falls."""
    falls = {(low, high): rate[low] / rate[high] for low, high in pairwise(rate)}
    steepest = max(falls, key=lambda pair: falls[pair])
    return steepest if falls[steepest] >= FALL else None


def narrowed(case: tuple[int, int, str], around: tuple[int, int] | None, seconds: float) -> tuple[int, int] | None:
    """The two sizes brought closer by bisection: one between them is about as fast as one of the two."""
    m, n, _ = case
    if around is None:
        return None
    low, high = (size // (m * n) * m * n for size in around)  # the sizes that were multiplied
    for _ in range(STEPS):
        middle = math.isqrt(low * high) // (m * n) * m * n
        if middle <= low:
            break
        rate = rates(m, n, timed_products(*case, (low, middle, high), seconds))
        low, high = (middle, high) if rate[middle] ** 2 > rate[low] * rate[high] else (low, middle)
    return low, high


def limit_between(around: Sequence[Sequence[int] | None]) -> int | None:
    """The roundest number between the sizes of every pair; 0 if no shape has one, None if they disagree."""
    if not any(around):
        return 0
    if not all(around):
        return None
    low, high = max(pair[0] for pair in around if pair), min(pair[1] for pair in around if pair)
    for digits in range(len(str(high)), -1, -1):
        round_number = (high - 1) // 10**digits * 10**digits  # high was packed
        if 0 < low <= round_number:
            return round_number
    return None


def tables(records: Sequence[Record]) -> Iterator[Table]:
    """A table for each dtype, a row for each shape."""
    for (dtype,), found in groups(records, "dtype").items():
        rows, notes = [], []
        for record in found:
            m, n = record.cell["m"], record.cell["n"]
            name, between = f"{m} × k × {n}", record.how["between"]
            rows.append([name, *(f"{rate:.0f}" for rate in rates(m, n, record.values).values())])
            said = f"most from {between[0]:,} to {between[1]:,}" if between else "by less than a tenth"
            notes.append(f"{name}: falls {said}")
        header = ["product", *(f"{int(size) / 1000:.0f}" for size in found[0].values)]
        title = f"GFLOP/s by the best call, {dtype}, 1 thread; m·n·k in thousands"
        yield Table(title, header, rows, found, "gemm_regimes", notes)


if __name__ == "__main__":
    sys.exit(main())
