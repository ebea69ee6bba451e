# A product without BLAS: what stays in registers, and what goes by.
#
# Four rows of A by four steps of the sum are sixteen numbers that registers (or the nearest cache) hold, while
# four rows of B and four of sums go by once: sixteen multiply-adds for twelve loads and stores, so that arithmetic
# is what takes the time.  The loop over the columns has no other work and its sums are in arrays of its own: every
# compiler makes vectors of it, of whatever length the CPU it builds for has.

from cython cimport floating


cdef enum:
    TILE_ROWS = 4        # rows of a tile: output pixels
    TILE_COLUMNS = 64    # the most columns of one: output channels; four rows of sums are 1 KiB in float32


cdef inline void multiply_tile(
    Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t depth, const floating* A, Py_ssize_t lda,
    const floating* B, Py_ssize_t ldb, bint add, floating* C, Py_ssize_t ldc
) noexcept nogil:
    """C (rows × columns) = A (rows × depth) · B (depth × columns), or C += A · B; at most 4 rows, 64 columns."""
    cdef floating c0[TILE_COLUMNS]
    cdef floating c1[TILE_COLUMNS]
    cdef floating c2[TILE_COLUMNS]
    cdef floating c3[TILE_COLUMNS]
    # Rows that a tile hasn't are computed from its first and dropped: no second loop for the rest.
    cdef const floating* a0 = A
    cdef const floating* a1 = A + (lda if rows > 1 else 0)
    cdef const floating* a2 = A + (2 * lda if rows > 2 else 0)
    cdef const floating* a3 = A + (3 * lda if rows > 3 else 0)
    cdef const floating* b0 = B
    cdef const floating* b1
    cdef const floating* b2
    cdef const floating* b3
    cdef Py_ssize_t q = 0, m
    for m in range(columns):
        c0[m] = c1[m] = c2[m] = c3[m] = 0
    while q + 4 <= depth:
        b1, b2, b3 = b0 + ldb, b0 + 2 * ldb, b0 + 3 * ldb
        for m in range(columns):
            c0[m] += a0[q] * b0[m] + a0[q + 1] * b1[m] + a0[q + 2] * b2[m] + a0[q + 3] * b3[m]
            c1[m] += a1[q] * b0[m] + a1[q + 1] * b1[m] + a1[q + 2] * b2[m] + a1[q + 3] * b3[m]
            c2[m] += a2[q] * b0[m] + a2[q + 1] * b1[m] + a2[q + 2] * b2[m] + a2[q + 3] * b3[m]
            c3[m] += a3[q] * b0[m] + a3[q + 1] * b1[m] + a3[q + 2] * b2[m] + a3[q + 3] * b3[m]
        b0 += 4 * ldb
        q += 4
    while q < depth:
        for m in range(columns):
            c0[m] += a0[q] * b0[m]
            c1[m] += a1[q] * b0[m]
            c2[m] += a2[q] * b0[m]
            c3[m] += a3[q] * b0[m]
        b0 += ldb
        q += 1
    store_row(c0, columns, add, C)
    if rows > 1:
        store_row(c1, columns, add, C + ldc)
    if rows > 2:
        store_row(c2, columns, add, C + 2 * ldc)
    if rows > 3:
        store_row(c3, columns, add, C + 3 * ldc)


cdef inline void store_row(const floating* sums, Py_ssize_t columns, bint add, floating* C) noexcept nogil:
    cdef Py_ssize_t m
    for m in range(columns):
        C[m] = C[m] + sums[m] if add else sums[m]
