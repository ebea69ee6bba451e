"""Row-major C = A·B by register tiles, nothing packed: for products whose B stays in a cache.

A panel of B, as many columns as a tile has, meets all rows of A, a tile of them at a time.  The last rows and
columns, where they are less than a tile, are summed beside C and then copied into it.
"""

from cython cimport floating

from pymec.kernels.shared.interrupts cimport interrupted
from pymec.kernels.shared.patch cimport copy, zero
from pymec.kernels.register_tiles.tile cimport (
    MOST_PIXELS, MOST_SUMS, Tile, multiply_row, multiply_tile, n_equal_tiles, pixels_of_tile, tile_for_sums,
)


cdef void partial_tile(
    const Tile* tile, Py_ssize_t rows, Py_ssize_t overlap, Py_ssize_t k, const floating* A, Py_ssize_t lda,
    const floating* B, Py_ssize_t ldb, bint add, floating* C, Py_ssize_t ldc
) noexcept nogil:
    """The first ``rows`` rows of a tile, without its first ``overlap`` columns; the rest repeat the last row."""
    cdef const floating* row[MOST_PIXELS]
    cdef floating sums[MOST_SUMS]
    cdef Py_ssize_t width = tile.channels, i
    zero(sums, MOST_SUMS)
    for i in range(rows if add else 0):
        copy(sums + i * width + overlap, C + i * ldc + overlap, width - overlap)
    for i in range(tile.pixels):
        row[i] = A + min(i, rows - 1) * lda
    multiply_tile(tile, row, 1, k, B, ldb, <const floating*> sums, width, sums, width, False)
    for i in range(rows):
        copy(C + i * ldc + overlap, sums + i * width + overlap, width - overlap)


cdef void tile_product(
    Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
    const floating* A, Py_ssize_t lda,
    const floating* B, Py_ssize_t ldb,
    bint add, floating* C, Py_ssize_t ldc,
) noexcept nogil:
    """C (m × n) = or += A (m × k) · B (k × n), each row-major with its leading dimension."""
    cdef Tile tile = tile_for_sums(n, sizeof(floating), k, 1)  # A is in a level-2 cache, whatever its step
    cdef Py_ssize_t width = tile.channels, column = 0, row, overlap, tiles
    while column < n and not interrupted():
        overlap = max(column + width - n, 0)  # the last panel overlaps the one before it
        row = 0
        while row < m:
            tile.pixels = pixels_of_tile(m - row, &tile)
            tiles = 1 if overlap > 0 else n_equal_tiles(m - row, &tile)
            if overlap > 0 or tiles == 0:
                tiles = 1
                partial_tile(&tile, min(tile.pixels, m - row), overlap, k, A + row * lda, lda,
                             B + column - overlap, ldb, add, C + row * ldc + column - overlap, ldc)
            elif add:
                multiply_row(&tile, tiles, A + row * lda, lda, 1, 0, k, B + column, ldb,
                             <const floating*> C + row * ldc + column, ldc, C + row * ldc + column, ldc, False)
            else:
                multiply_row(&tile, tiles, A + row * lda, lda, 1, 0, k, B + column, ldb,
                             <const floating*> NULL, 0, C + row * ldc + column, ldc, False)
            row += tiles * tile.pixels
        column += width
