"""Bytes held and bytes moved: how much a call of an algorithm reads and writes, counted from its schedule.

Counted are an algorithm's own reads and writes, each element once per touch:

* lowering reads elements of I and writes elements of L, the zeros of the padding included;
* a product C (m × n) = A (m × k) · B (k × n) reads A and B once and writes C once; if it adds, it reads C, too;
* what follows the products: Solution A's repair, the planes of kn2row, shifted and added, the rows of shift-GEMM.

A product keeps its operands in a cache while it works, and how often registers load them from there is its own
affair.  BLAS packs A and B of a product first, unless the product is small.  That is counted beside the rest
(:meth:`Traffic.packed`), once for each call, as OpenBLAS's loops do it; no test observes it.  Not counted are
what a last panel of output channels repeats or fills up with zeros, and what a plan has prepared.

Cache misses are another question.  :meth:`Traffic.far_nbytes` estimates how many bytes pass a cache of a given
size, and ``simulated_cache.py`` compares the estimate with a simulation.

``lowered.py`` and ``in_place.py`` say again, in Python, in which order the kernels multiply.
``tests/test_traffic.py`` compares them with the calls that BLAS and register tiles really get, and with what
lowering really writes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pymec import registry
from pymec.shapes import ConvShape, UnsupportedShape

from .amounts import Stage, Traffic
from .in_place import direct_blocked, direct_panels, filter_row_gemm, kn2row, kn2row_aa, pixel_gemm, shift_gemm
from .lowered import (
    im2col,
    im2col_blocked,
    im2col_per_image,
    implicit_gemm,
    mec,
    mec_a,
    mec_b,
    mec_banded,
    mec_paper,
    mec_vanilla,
)
from .products import Product

__all__ = ["COUNTED", "Product", "Stage", "Traffic", "traffic"]

COUNTED: dict[str, Callable[..., Traffic]] = {
    "im2col": im2col,
    "im2col_per_image": im2col_per_image,
    "im2col_blocked": im2col_blocked,
    "implicit_gemm": implicit_gemm,
    "mec_vanilla": mec_vanilla,
    "mec_a": mec_a,
    "mec_b": mec_b,
    "mec_paper": mec_paper,
    "mec": mec,
    "mec_banded": mec_banded,
    "kn2row": kn2row,
    "kn2row_aa": kn2row_aa,
    "shift_gemm": shift_gemm,
    "pixel_gemm": pixel_gemm,
    "filter_row_gemm": filter_row_gemm,
    "direct_blocked": direct_blocked,
    "direct_panels": direct_panels,
}
"""The algorithms that are counted, and how."""

WITHOUT_PADDING = ("direct_blocked", "direct_panels")
"""Skip products on padding, and are counted without padding alone."""


def traffic(algorithm: str, shape: ConvShape, n_threads: int = 1, **options: Any) -> Traffic:
    """What one call without a limit moves; ``options`` replace some of those that its schedule chooses.

    Raises
    ------
    pymec.UnsupportedShape
        If the algorithm can't do the shape.
    ValueError
        If the image is padded and the algorithm leaves products on padding out: how many depends on its tiles.
    """
    row = registry.get(algorithm)
    reason = row.unsupported(shape)
    if reason:
        raise UnsupportedShape(f"{algorithm} can't do {shape}: {reason}")
    if shape.is_padded and algorithm in WITHOUT_PADDING:
        raise ValueError(
            f"shape must have no padding for {algorithm}, which leaves out products on padding, got "
            f"{shape.p_t, shape.p_b, shape.p_l, shape.p_r}; count a layer without padding"
        )
    schedule = row.schedule(shape, n_threads, None)
    found = COUNTED[algorithm](shape, n_threads, **{**schedule.options, **options})
    return replace(found, held=schedule.size)
