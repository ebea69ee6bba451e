"""The largest product that the BLAS at hand multiplies without packing, for ``small_products.json``.

A BLAS packs both operands of a product into buffers before it multiplies them, which does not pay for a small
product.  Some builds multiply small products without packing, up to a limit of m·n·k.  To find it, this
script times products of a few shapes, as MEC makes them, at many sizes on one thread, and checks every
answer.  As in MEC, B is a part of each row of K, and the rows of A overlap.  The limit lies between the two
sizes where the rate falls most; bisection brings them closer together.  The last line gives the limit, the
roundest number between the two sizes of every shape, and says whether pymec knows it.  ``--write`` stores it
where pymec reads it, and pymec then cuts its products for it.

    python profiling/gemm_regimes.py
    python profiling/gemm_regimes.py --write --json profiling/results/gemm_regimes.json
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from _common import comma_list, command_line, machine, machine_line, markdown_table, progress
from _timing import Canary, refuse_what_means_nothing, take_turns
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
    print(f"{machine_line()}\n")
    found, around = {}, {}
    with progress(len(options.dtype) * len(SHAPES), "gemm_regimes") as step:
        for dtype in options.dtype:
            for m, n in SHAPES:
                case = m, n, dtype
                found[case] = rates(*case, SIZES, options.seconds)
                around[case] = narrowed(case, limit_of(found[case]), options.seconds)
                step(f"{dtype} {m}×k×{n}")
    for dtype in options.dtype:
        of_dtype = {(m, n): rate for (m, n, name), rate in found.items() if name == dtype}
        print(f"GFLOP/s by the best call, {dtype}, one thread; m·n·k in thousands\n\n{table(of_dtype)}\n")
        for m, n in SHAPES:
            sizes = around[m, n, dtype]
            said = "by less than a tenth" if sizes is None else f"most from {sizes[0]:,} to {sizes[1]:,}"
            print(f"- {m} × k × {n}: falls {said}")
        print()
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        records = [
            {"dtype": dtype, "m": m, "n": n, "k": size // (m * n), "gflops": rate}
            for (m, n, dtype), of in found.items()
            for size, rate in of.items()
        ]
        options.json.write_text(json.dumps({"machine": machine(), "records": records}, indent=1) + "\n")
    return conclude(limit_between(list(around.values())), options.write)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    kinds = ("float32", "float64")
    parser.add_argument("--dtype", type=comma_list(kinds), default=list(kinds))
    parser.add_argument("--seconds", type=float, default=0.2, help="timing of each product")
    parser.add_argument("--json", type=Path, help="write every number here, too")
    parser.add_argument("--write", action="store_true", help="store the limit where pymec reads it")
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


def rates(m: int, n: int, dtype: str, sizes: tuple[int, ...], seconds: float) -> dict[int, float]:
    """GFLOP/s of m × k × n for every size, all taking turns."""
    calls, flops = {}, {}
    for size in sizes:
        k = size // (m * n)
        calls[size] = product(m, n, k, dtype)
        flops[size] = 2e-9 * m * n * k
    with single_threaded_blas():
        times = take_turns(calls, 1, seconds, Canary(1))
    return {size: flops[size] / min(of) for size, of in times.items()}


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
        rate = rates(*case, (low, middle, high), seconds)
        low, high = (middle, high) if rate[middle] ** 2 > rate[low] * rate[high] else (low, middle)
    return low, high


def limit_between(around: list[tuple[int, int] | None]) -> int | None:
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


def table(found: dict[tuple[int, int], dict[int, float]]) -> str:
    """A row for each shape."""
    rows = [[f"{m} × k × {n}", *(f"{rate[size]:.0f}" for size in SIZES)] for (m, n), rate in found.items()]
    return markdown_table(["product", *(f"{size / 1000:.0f}" for size in SIZES)], rows)


if __name__ == "__main__":
    sys.exit(main())
