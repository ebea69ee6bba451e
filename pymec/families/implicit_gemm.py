"""im2col without its matrix: a product that packs its blocks from the image."""

from __future__ import annotations

from pymec.families._row import Algorithm, Schedule, any_shape, thread_slices
from pymec.kernels import implicit_gemm
from pymec.kernels._pieces import even_part
from pymec.shapes import ConvShape

ROWS_AT_A_TIME = 64
"""m_c, pixels in a thread's block: the block and a panel of K's share the level-2 cache."""

DEPTH = 256
"""d_c, how much of the sum a block holds: a panel of K's with 16 columns is 16 KiB."""

COLUMNS = 512
"""n_c, output channels of a block of K: with fewer, the patches would be packed more often."""

TILE = 6, 16
"""Pixels and output channels of a register tile: with less, blocks are not worth their packing."""

STEPS = 4
"""The depth of a block is a multiple of this: rows of A begin where vectors do, or nearly."""

SHALLOW = 16
"""Threads do without a slice of their own before the sums of a tile become shorter than this."""


def _implicit_gemm(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    pixels = max(1, shape.i_n * shape.o_h * shape.o_w)
    slices = thread_slices(-(-pixels // TILE[0]), n_threads, SHALLOW * sum(TILE), limit)
    rows = min(-(-pixels // slices), ROWS_AT_A_TIME)
    patch = shape.k_h * shape.k_w * shape.i_cg
    depth = min(patch, -(-even_part(patch, DEPTH) // STEPS) * STEPS)
    columns = -(-even_part(shape.k_cg, COLUMNS) // TILE[1]) * TILE[1]
    if limit is not None and depth * (columns + slices * rows) > limit:
        rows, depth, columns = _within(limit, slices, rows, depth, columns)
    options = {"rows": rows, "depth": depth, "columns": columns, "slices": slices}
    return Schedule(depth * (columns + slices * rows), options)


def _within(limit: int, slices: int, rows: int, depth: int, columns: int) -> tuple[int, int, int]:
    """Blocks that fit, of one element if need be: first narrower, then lower, to a tile; then shallower."""
    columns = max(min(columns, TILE[1]), _panels(min(columns, limit // depth - slices * rows)))
    rows = max(min(rows, TILE[0]), min(rows, (limit // depth - columns) // slices))
    depth = max(1, min(depth, limit // (columns + slices * rows)))
    columns = max(1, _panels(min(columns, limit // depth - slices * rows)))
    rows = max(1, min(rows, (limit // depth - columns) // slices))
    return rows, depth, columns


def _panels(columns: int) -> int:
    return columns - columns % TILE[1] if columns > TILE[1] else columns


ROWS = (
    Algorithm(
        name="implicit_gemm",
        idea="a product that packs its blocks of im2col's matrix from the image, without BLAS",
        source=(
            "after San Juan et al., High Performance and Portable Convolution Operators for (ARM-based) "
            "Multicore Processors, SBAC-PAD 2020"
        ),
        formula="d_c·n_c + slices·m_c·d_c",
        order="bounded",
        unsupported=any_shape,
        schedule=_implicit_gemm,
        run=implicit_gemm.run,
        uses_blas=False,
    ),
)
