# A matrix product cut into blocks, each by BLAS or by register tiles: what tuned kernels call in the place of one
# gemm_rowmajor.

from cython cimport floating

from pymec.kernels.register_tiles.product cimport tile_product
from pymec.kernels.shared.blas cimport gemm_rowmajor
from pymec.kernels.shared.blocking cimport GemmBlocking


cdef inline void product_block(
    bint register_tiles, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
    const floating* A, Py_ssize_t lda, const floating* B, Py_ssize_t ldb,
    bint add, floating* C, Py_ssize_t ldc,
) noexcept nogil:
    """C (m x n) = or += A (m x k) * B (k x n), by register tiles or by BLAS."""
    if register_tiles:
        tile_product(m, n, k, A, lda, B, ldb, add, C, ldc)
    else:
        gemm_rowmajor(m, n, k, A, lda, B, ldb, <floating> add, C, ldc)


cdef inline void blocked_product(
    const GemmBlocking* blocking, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
    const floating* A, Py_ssize_t lda, const floating* B, Py_ssize_t ldb,
    bint add, floating* C, Py_ssize_t ldc,
) noexcept nogil:
    """C (m x n) = or += A (m x k) * B (k x n): `reduction` of k at a time, `columns` of the m rows at a time."""
    cdef Py_ssize_t q = 0, row, rows, depth
    while q < k:
        depth = min(blocking.reduction, k - q)
        row = 0
        while row < m:
            rows = min(blocking.columns, m - row)
            product_block(blocking.registers, rows, n, depth, A + row * lda + q, lda, B + q * ldb, ldb,
                          add or q > 0, C + row * ldc, ldc)
            row += rows
        q += depth
