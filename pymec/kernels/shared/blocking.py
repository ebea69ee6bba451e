"""How the products of MEC are cut so that each one runs at the speed of its BLAS.

One partition of L times K is a product of o_w × (k_h·k_w·i_c) × k_c.  OpenBLAS, in its builds for AVX-512 CPUs,
multiplies without packing as long as rows·reduction·columns is at most 100³; past that it packs the same K again
for each output row.  The rule below keeps every product under the limit of the BLAS at hand
(:mod:`pymec.kernels.shared.blas_library`) and reads K as few times as it can: arithmetic on sizes, nothing is
measured here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pymec.kernels.shared.blas_library import small_product
from pymec.kernels.shared.machine import (
    HALF_L2_BYTES,
    PRODUCT_CHANNELS,
    PRODUCT_PIXELS,
    PRODUCT_ROUND,
    UNEVEN_ROWS,
)

if TYPE_CHECKING:
    from pymec.shapes import ConvShape


class GemmBlocking(NamedTuple):
    """The largest block of a product, and how many output rows meet one block of K before the next.

    ``registers`` asks for tiles of sums in registers in place of BLAS.
    """

    reduction: int
    columns: int
    channels: int
    output_rows: int
    registers: bool = False


def whole_product(shape: ConvShape) -> GemmBlocking:
    """The paper's own products: one per partition, each output row a unit of parallel work."""
    columns = max(shape.i_n * shape.o_w, 1)  # no product is wider, in either solution
    return GemmBlocking(shape.k_h * shape.k_w * shape.i_cg, columns, shape.k_cg, 1)


def small_blas_products(
    shape: ConvShape, columns: int, n_threads: int, reduction: int | None = None
) -> GemmBlocking:
    """Cut products of ``columns`` output pixels into even blocks that BLAS does not pack.

    Parameters
    ----------
    shape : ConvShape
    columns : int
        Output pixels in one product: o_w, or i_n·o_w where the images stand side by side.
    n_threads : int
    reduction : int, optional
        Elements of a patch in one product, if not all k_h·k_w·i_c/G of them.

    Returns
    -------
    GemmBlocking
    """
    patch = reduction or shape.k_h * shape.k_w * shape.i_cg
    channels = (
        shape.k_cg if shape.k_cg <= PRODUCT_CHANNELS else _rounded(even_part(shape.k_cg, PRODUCT_CHANNELS), 16)
    )
    columns = max(columns, 1)  # there are none without an image
    most = min(small_product() // min(columns, PRODUCT_PIXELS), HALF_L2_BYTES // shape.itemsize) // channels
    reduction = even_part(patch, most)
    most = small_product() // (channels * reduction)
    return GemmBlocking(
        reduction,
        columns
        if columns <= most
        else _rounded(even_part(columns, most // PRODUCT_ROUND * PRODUCT_ROUND), PRODUCT_ROUND),
        channels,
        output_rows(shape, columns, channels, n_threads),
    )


class GradBlocking(NamedTuple):
    """A block of dK, reduction by channels, and the output pixels that go into it at once."""

    reduction: int
    columns: int
    channels: int


def grad_blocking(shape: ConvShape, rows: int, taps: int, n_threads: int) -> GradBlocking:
    """Cut the products of the kernel's gradient: blocks of dK that stay in cache, some for every thread.

    Parameters
    ----------
    shape : ConvShape
    rows : int
        Rows of dK in the whole product: a patch, or the input channels of one tap.
    taps : int
        How many such products there are.
    n_threads : int

    Returns
    -------
    GradBlocking
    """
    channels = (
        shape.k_cg if shape.k_cg <= PRODUCT_CHANNELS else _rounded(even_part(shape.k_cg, PRODUCT_CHANNELS), 16)
    )
    blocks = shape.groups * taps * -(-shape.k_cg // channels)
    row_blocks = max(-(-rows // PRODUCT_CHANNELS), 1)
    while blocks * row_blocks % n_threads and blocks * row_blocks < 4 * n_threads:
        row_blocks += 1
    reduction = -(-rows // row_blocks)
    return GradBlocking(reduction, even_part(shape.o_w, small_product() // (channels * reduction)), channels)


class InputGradBlocking(NamedTuple):
    """The largest piece of a product dO·Kᵀ: columns of it, and output pixels.  Its reduction is k_c/G."""

    columns: int
    pixels: int


def input_grad_blocking(shape: ConvShape, columns: int) -> InputGradBlocking:
    """Cut products of o_w output pixels by ``columns`` elements of dI or dL into small ones."""
    pixels = min(shape.o_w, PRODUCT_PIXELS)
    columns = even_part(columns, small_product() // (pixels * shape.k_cg))
    return InputGradBlocking(columns, even_part(shape.o_w, small_product() // (columns * shape.k_cg)))


def pixel_block(shape: ConvShape, pixels: int, channel_units: int, n_threads: int) -> int:
    """Pixels that a thread takes at a time where all of them could be one product's rows.

    No more than stay in cache while the sum goes on, and an even share for each thread; but pixels that all
    stay in cache are left together if there are channels to share: each thread then reads its own part of K.
    """
    most = max(HALF_L2_BYTES // (2 * shape.i_cg * shape.itemsize), PRODUCT_PIXELS)
    shared_by_channels = pixels <= most and channel_units % n_threads == 0
    share = pixels if shared_by_channels else -(-pixels // n_threads)
    return _rounded(even_part(share, most), PRODUCT_ROUND)


def even_part(whole: int, most: int) -> int:
    """The size of equal parts of a whole, none longer than ``most``."""
    parts = -(-whole // max(most, 1))
    return -(-whole // max(parts, 1))


def _rounded(size: int, unit: int) -> int:
    """The size, up to a multiple of a unit."""
    return -(-size // unit) * unit


def row_share(shape: ConvShape, columns: int, n_threads: int) -> int:
    """A thread's share of all output rows; 0 if it would be uneven, or too few pixels for reading all of K."""
    rows = shape.groups * shape.i_n * shape.o_w // max(columns, 1) * shape.o_h
    share = -(-rows // n_threads)
    return share if share * columns >= PRODUCT_PIXELS and share * n_threads <= UNEVEN_ROWS * rows else 0


def output_rows(shape: ConvShape, columns: int, channels: int, n_threads: int) -> int:
    """Output rows per unit of work: one, where a row has work enough for what it reads of K.

    Where it hasn't, rows are taken through each piece of K together: a thread's share of all rows.  Threads
    share channels instead where there is no such share.
    """
    channel_blocks = -(-shape.k_cg // channels)
    panel_nbytes = shape.k_h * shape.k_w * shape.i_cg * channels * shape.itemsize
    if channel_blocks == 1 and (columns >= PRODUCT_PIXELS or panel_nbytes <= HALF_L2_BYTES):
        return 1
    share = row_share(shape, columns, n_threads)
    if share:
        return even_part(shape.o_h, share)
    images = shape.groups * shape.i_n * shape.o_w // max(columns, 1)
    row_blocks, units = 1, images * channel_blocks
    while units * row_blocks % n_threads and units * row_blocks < 4 * n_threads:
        row_blocks += 1
    return even_part(shape.o_h, -(-shape.o_h // row_blocks))
