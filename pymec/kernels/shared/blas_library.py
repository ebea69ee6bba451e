"""The BLAS at hand: its libraries, and up to what size it multiplies without packing.

``small_products.json`` has a number for every BLAS that ``profiling/gemm_regimes.py --write`` has measured, by the
name and the CPU architecture of its build.  OpenBLAS has such a limit in its builds for AVX-512 CPUs.
"""

from __future__ import annotations

import json
import os
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from threadpoolctl import ThreadpoolController

SMALL_PRODUCTS = Path(__file__).with_name("small_products.json")

UNKNOWN = 1_000_000
"""The m·n·k that products are cut for where nothing better is known: OpenBLAS's own limit, 100³."""


@cache
def blas_libraries() -> tuple[Any, ...]:
    """threadpoolctl's controllers of the BLAS that SciPy calls (scanning takes a while: once).

    SciPy's wheels bring a BLAS of their own; elsewhere NumPy's may be the same.
    """
    found = [lib for lib in ThreadpoolController().lib_controllers if lib.user_api == "blas"]
    if not found:
        warnings.warn(
            "pymec found no BLAS that threadpoolctl knows and can't hold it to one thread: "
            "several threads may be slow (see pymec.show_versions())",
            RuntimeWarning,
            stacklevel=2,
        )
    own = [lib for lib in found if "scipy" in os.path.basename(os.path.dirname(lib.filepath)).lower()]
    return tuple(own or found)


@cache
def blas_name() -> str:
    """SciPy's BLAS as the table names it."""
    libraries = [(lib.internal_api, getattr(lib, "architecture", None)) for lib in blas_libraries()]
    return ", ".join(f"{name} {architecture or 'unknown'}" for name, architecture in libraries)


@cache
def known_small_product() -> int | None:
    """The largest m·n·k that this BLAS multiplies without packing: 0 if it packs all, None if nothing is known."""
    limit: int | None = json.loads(SMALL_PRODUCTS.read_text(encoding="utf-8")).get(blas_name())
    return limit


def small_product() -> int:
    """The largest m·n·k of a product that is cut to be small."""
    return known_small_product() or UNKNOWN


def blas_multiplies_small_products_unpacked() -> bool:
    """Whether this BLAS has the path that :mod:`pymec.kernels.shared.blocking` cuts its products for."""
    return bool(known_small_product())


def remember_small_product(limit: int) -> None:
    """Write what was measured of this BLAS into the table, for shapes that no call has planned yet."""
    table = json.loads(SMALL_PRODUCTS.read_text(encoding="utf-8"))
    table[blas_name()] = limit
    SMALL_PRODUCTS.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    known_small_product.cache_clear()
