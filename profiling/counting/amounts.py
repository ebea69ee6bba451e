"""What one call holds and moves."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from pymec.kernels.shared.blas_library import known_small_product
from pymec.shapes import ConvShape

from .products import Product


class Stage(NamedTuple):
    """Elements that one pass over arrays reads and writes."""

    read: int = 0
    written: int = 0


NOTHING = Stage()


@dataclass(frozen=True)
class Traffic:
    """What one call of an algorithm holds and moves, in elements; the properties ``..._nbytes`` are in bytes."""

    shape: ConvShape
    products: Counter[Product]
    """How many there are of each size."""
    held: int = 0
    """Workspace."""
    lowering: Stage = NOTHING
    after: Stage = NOTHING
    """What follows the products, or fills with zeros what none of them reaches."""
    scratch: int = 0
    """Elements written to workspace and read from there again, over the whole call."""
    piece: int = 0
    """As many of them as are written before the first is read."""
    returns: int = 0
    """Elements of O written before its last pass, and read again by a later one."""
    loaded: int = 0
    """Elements of K, each block counted once for each run of products that share it."""
    blas: bool = True
    """Whether BLAS multiplies."""

    @property
    def calls(self) -> int:
        """Products in all."""
        return sum(self.products.values())

    @property
    def multiplied(self) -> Stage:
        """What the products read and write."""
        read = sum(n * (p.m * p.k + p.k * p.n + p.adds * p.m * p.n) for p, n in self.products.items())
        return Stage(read, sum(n * p.m * p.n for p, n in self.products.items()))

    def packed(self, small: int | None = None) -> int:
        """Elements of A and B that BLAS packs: of products of more than ``small`` multiply-adds.

        By default that is the limit of the BLAS at hand.  Each is written once and read once.
        """
        small = known_small_product() or 0 if small is None else small
        large = [(p, n) for p, n in self.products.items() if p.m * p.n * p.k > small]
        return sum(n * (p.m * p.k + p.k * p.n) for p, n in large) if self.blas else 0

    @property
    def moved_nbytes(self) -> int:
        """All bytes read and written, without those that BLAS packs."""
        return self.shape.itemsize * sum(map(sum, (self.lowering, self.multiplied, self.after)))

    def far_nbytes(self, cache: int) -> int:
        """An estimate of the bytes that pass between one thread's cache and what lies behind it.

        I is read once and O is written once.  K is read once if it is smaller than the cache, and otherwise as
        often as its blocks return, or, if these aren't smaller either, with every product.  What lowering writes,
        or a product writes to workspace, goes out and comes back unless the piece that is written before it is
        read is smaller than the cache; so does what is written to O more than once, unless O is smaller.

        That is a cache in which a line may have any place.  ``simulated_cache.py`` shows what others do.
        """
        s = self.shape
        elements = s.input_size + s.output_size
        if s.kernel_size * s.itemsize < cache:
            elements += s.kernel_size
        elif max(p.k * p.n for p in self.products) * s.itemsize < cache:
            elements += self.loaded
        else:
            elements += sum(count * p.k * p.n for p, count in self.products.items())
        elements += 2 * self.scratch * (self.piece * s.itemsize >= cache)
        elements += self.returns * (s.output_nbytes >= cache)
        return s.itemsize * elements

    def intensity(self, nbytes: int) -> float:
        """Operations of the definition, two for each multiply-add, per byte."""
        return 2 * self.shape.multiply_adds / nbytes
