"""Up to what size the BLAS at hand multiplies without packing: the measurement behind SMALL_PRODUCT.

A BLAS copies both operands of a product into buffers before it multiplies them, which a small product has too
little work to pay for.  Some builds have a second way for these, without copies, up to some m·n·k.  Products of a
few shapes as MEC makes them are timed here below and above the limit that ``pymec/kernels/_pieces.py`` names, on
one thread, every answer checked; B is read with a step, as K is, and the rows of A overlap, as MEC's windows do.
The last lines say between which sizes the rate falls most, and whether pymec's constant agrees.

    python profiling/gemm_regimes.py
    python profiling/gemm_regimes.py --dtype float64 --json profiling/results/gemm_regimes.json
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from _common import comma_list, command_line, machine, machine_line, markdown_table, progress
from _timing import Canary, refuse_what_means_nothing, take_turns
from numpy.typing import NDArray

from pymec.kernels import _blas
from pymec.kernels._pieces import SMALL_PRODUCT
from pymec.threads import blas_multiplies_small_products_unpacked, single_threaded_blas

SHAPES = ((28, 64), (32, 128), (55, 96), (110, 64))
"""Output pixels and channels of a product; what varies is its reduction."""

SIZES = (0.25, 0.5, 0.8, 0.95, 1.05, 1.25, 2.0, 4.0)
"""m·n·k, in units of SMALL_PRODUCT."""

FALL = 1.1
"""A rate that falls by less between two sizes shows no limit."""


def main(arguments: list[str] | None = None) -> int:
    """Time the products and print the tables; 1 if pymec's constant is wrong for this BLAS."""
    options = parse(arguments)
    refuse_what_means_nothing([1])
    print(f"{machine_line()}\n")
    found = {}
    with progress(len(options.dtype) * len(SHAPES), "gemm_regimes") as step:
        for dtype in options.dtype:
            for m, n in SHAPES:
                found[dtype, m, n] = rates(m, n, dtype, options.seconds)
                step(f"{dtype} {m}×k×{n}")
    agreed = True
    expected = blas_multiplies_small_products_unpacked()
    for dtype in options.dtype:
        of_dtype = {(m, n): rate for (name, m, n), rate in found.items() if name == dtype}
        print(f"GFLOP/s by the best call, {dtype}, one thread; m·n·k in units of {SMALL_PRODUCT:,}\n")
        print(table(of_dtype) + "\n")
        limits = {shape: limit_of(rate) for shape, rate in of_dtype.items()}
        for (m, n), limit in limits.items():
            said = "no size" if limit is None else f"{limit[0]} to {limit[1]}"
            print(f"- {m} × k × {n}: falls most from {said}")
        right = all((limit == (0.95, 1.05)) == expected for limit in limits.values())
        agreed &= right
        path = "has" if expected else "does not have"
        print(f"- pymec expects that this BLAS {path} such a limit at 1: {'so it is' if right else 'WRONG'}\n")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        records = [
            {"dtype": dtype, "m": m, "n": n, "size": size, "gflops": rate}
            for (dtype, m, n), of in found.items()
            for size, rate in of.items()
        ]
        text = json.dumps({"machine": machine(), "unit": SMALL_PRODUCT, "records": records}, indent=1)
        options.json.write_text(text + "\n")
    return 0 if agreed else 1


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    kinds = ("float32", "float64")
    parser.add_argument("--dtype", type=comma_list(kinds), default=list(kinds))
    parser.add_argument("--seconds", type=float, default=0.2, help="timing of each product")
    parser.add_argument("--json", type=Path, help="write every number here, too")
    return parser.parse_args(arguments)


def rates(m: int, n: int, dtype: str, seconds: float) -> dict[float, float]:
    """GFLOP/s of m × k × n for every size, all taking turns."""
    calls, flops = {}, {}
    for size in SIZES:
        k = round(size * SMALL_PRODUCT / (m * n))
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


def limit_of(rate: dict[float, float]) -> tuple[float, float] | None:
    """The two neighbouring sizes between which the rate falls most, or None where it hardly falls."""
    sizes = list(rate)
    falls = {(low, high): rate[low] / rate[high] for low, high in pairwise(sizes)}
    steepest = max(falls, key=lambda pair: falls[pair])
    return steepest if falls[steepest] >= FALL else None


def table(found: dict[tuple[int, int], dict[float, float]]) -> str:
    """A row for each shape."""
    rows = [[f"{m} × k × {n}", *(f"{rate[size]:.0f}" for size in SIZES)] for (m, n), rate in found.items()]
    return markdown_table(["product", *(f"{size:g}" for size in SIZES)], rows)


if __name__ == "__main__":
    sys.exit(main())
