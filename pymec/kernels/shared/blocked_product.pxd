# A product by BLAS, cut into blocks: what tuned kernels call in the place of one gemm_rowmajor.
#
# register_tiles/blocked_product.pxd is the same where the blocks may also be multiplied by register tiles.

from cython cimport floating

from pymec.kernels.shared.blas cimport gemm_rowmajor
from pymec.kernels.shared.blocking cimport GemmBlocking


cdef inline void blocked_gemm(
    const GemmBlocking* blocking, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
    const floating* A, Py_ssize_t lda, const floating* B, Py_ssize_t ldb,
    bint add, floating* C, Py_ssize_t ldc,
) noexcept nogil:
    """C (m x n) = or += A (m x k) * B (k x n): `reduction` of k at a time, `columns` of the m rows at a time."""
    cdef Py_ssize_t q = 0, row
    while q < k:
        row = 0
        while row < m:
            gemm_rowmajor(min(blocking.columns, m - row), n, min(blocking.reduction, k - q),
                          A + row * lda + q, lda, B + q * ldb, ldb,
                          <floating> (add or q > 0), C + row * ldc, ldc)
            row += blocking.columns
        q += blocking.reduction
