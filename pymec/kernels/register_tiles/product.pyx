"""Row-major C = A·B by register tiles, nothing packed: for products whose B stays in a cache.

A panel of B, as many columns as a tile has, meets all rows of A, a tile of them at a time.  What is no whole tile,
the last rows and the last columns, is summed up in a tile of its own, and what belongs to C goes there.
"""

from cython cimport floating

from pymec.kernels.shared.patch cimport copy, zero
from pymec.kernels.register_tiles.tile cimport (
    MOST_PIXELS, MOST_SUMS, Tile, multiply_row, multiply_tile, pixels_of_tile, tile_for_sums, tiles_alike,
)


cdef void part_of_tile(
    const Tile* tile, Py_ssize_t rows, Py_ssize_t skip, Py_ssize_t k, const floating* A, Py_ssize_t lda,
    const floating* B, Py_ssize_t ldb, bint add, floating* C, Py_ssize_t ldc
) noexcept nogil:
    """The first rows of a tile without its first columns: past the last row it takes that row again."""
    cdef const floating* row[MOST_PIXELS]
    cdef floating sums[MOST_SUMS]
    cdef Py_ssize_t width = tile.channels, i
    zero(sums, MOST_SUMS)
    for i in range(rows if add else 0):
        copy(sums + i * width + skip, C + i * ldc + skip, width - skip)
    for i in range(tile.pixels):
        row[i] = A + min(i, rows - 1) * lda
    multiply_tile(tile, row, 1, k, B, ldb, <const floating*> sums, width, sums, width, 0)
    for i in range(rows):
        copy(C + i * ldc + skip, sums + i * width + skip, width - skip)


cdef void tile_product(
    Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
    const floating* A, Py_ssize_t lda,
    const floating* B, Py_ssize_t ldb,
    bint add, floating* C, Py_ssize_t ldc,
) noexcept nogil:
    """C (m × n) = or += A (m × k) · B (k × n), each row-major with its leading dimension."""
    cdef Tile widest = tile_for_sums(n, sizeof(floating), k, 1)  # A is in a level-2 cache, whatever its step
    cdef Tile tile = widest
    cdef Py_ssize_t width = widest.channels, column = 0, row, skip, tiles
    while column < n:
        skip = max(column + width - n, 0)  # the last panel reaches back over the one before it
        row = 0
        while row < m:
            tile.pixels = pixels_of_tile(m - row, &widest)
            tiles = 1 if skip > 0 else tiles_alike(m - row, &widest)
            if skip > 0 or tiles == 0:
                tiles = 1
                part_of_tile(&tile, min(tile.pixels, m - row), skip, k, A + row * lda, lda, B + column - skip, ldb,
                             add, C + row * ldc + column - skip, ldc)
            elif add:
                multiply_row(&tile, tiles, A + row * lda, lda, 1, 0, k, B + column, ldb,
                             <const floating*> C + row * ldc + column, ldc, C + row * ldc + column, ldc, 0)
            else:
                multiply_row(&tile, tiles, A + row * lda, lda, 1, 0, k, B + column, ldb,
                             <const floating*> NULL, 0, C + row * ldc + column, ldc, 0)
            row += tiles * tile.pixels
        column += width
