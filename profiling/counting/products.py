"""Products of matrices, and into which blocks kernels cut them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from pymec.kernels.shared.blocking import GemmBlocking
from pymec.shapes import ConvShape

LONG_PRODUCT, LEAST_SIDE = 2**33, 512
"""Longer products than this are several calls of BLAS, as in ``pymec/kernels/shared/blas.pyx``."""


class Product(NamedTuple):
    """C (m × n) = A (m × k) · B (k × n), or, if it adds, C += A · B."""

    m: int
    n: int
    k: int
    adds: bool


def parts(whole: int, most: int) -> list[int]:
    """A loop's blocks: as many of the size ``most`` as there are, then the rest."""
    return [min(most, whole - first) for first in range(0, whole, most)]


def shares(whole: int, count: int) -> list[int]:
    """The sizes of ``count`` contiguous shares, as ``share_of`` in ``shared/spans.pxd`` cuts them."""
    return [(i + 1) * whole // count - i * whole // count for i in range(count)]


def inside(offset: int, step: int, extent: int, count: int) -> int:
    """How many i < count have 0 <= offset + i·step < extent."""
    return sum(0 <= offset + i * step < extent for i in range(count))


def taps_inside(shape: ConvShape) -> tuple[list[int], list[int]]:
    """Kernel rows of each output row, and kernel columns of each output column, that lie on the image."""
    s = shape
    rows = [inside(y * s.s_h - s.p_t, s.d_h, s.i_h, s.k_h) for y in range(s.o_h)]
    columns = [inside(x * s.s_w - s.p_l, s.d_w, s.i_w, s.k_w) for x in range(s.o_w)]
    return rows, columns


def gemm(m: int, n: int, k: int, adds: bool = False) -> Iterator[Product]:
    """The calls of BLAS for one product: one, unless it is long."""
    rows = max(LEAST_SIDE, LONG_PRODUCT // (n * k))
    columns = max(LEAST_SIDE, LONG_PRODUCT // (min(rows, m) * k))
    depth = max(LEAST_SIDE, LONG_PRODUCT // (min(rows, m) * min(columns, n)))
    for part_m in parts(m, rows):
        for part_n in parts(n, columns):
            for i, part_k in enumerate(parts(k, depth)):
                yield Product(part_m, part_n, part_k, adds or i > 0)


def blocked(blocking: GemmBlocking, m: int, n: int, k: int, adds: bool = False) -> Iterator[Product]:
    """A product in blocks of the reduction, and for BLAS of rows, too."""
    for i, part_k in enumerate(parts(k, blocking.reduction)):
        if blocking.registers:
            yield Product(m, n, part_k, adds or i > 0)
            continue
        for part_m in parts(m, blocking.columns):
            yield from gemm(part_m, n, part_k, adds or i > 0)


def repeated(products: Iterator[Product] | Counter[Product], times: int) -> Counter[Product]:
    """Each of them so many times as often."""
    return Counter({product: times * count for product, count in Counter(products).items()})


def kernel_loads(shape: ConvShape, reduction: int, channels: int, times: int, taps: int = 1) -> int:
    """Elements of K that are loaded if all its blocks return ``times`` times; a single block stays.

    The blocks are of ``reduction`` by ``channels``, of each of so many ``taps`` that are multiplied by themselves.
    """
    lines = shape.k_h * shape.k_w * shape.i_cg // taps
    single = taps == 1 and lines <= reduction and shape.k_cg <= channels
    return shape.kernel_size * (1 if single else times)
