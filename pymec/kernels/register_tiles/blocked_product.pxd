# A product by register tiles or by BLAS, cut into blocks: what tuned kernels call in place of one gemm_rowmajor.

from cython cimport floating

from pymec.kernels.register_tiles.product cimport tile_product
from pymec.kernels.shared.blocked_product cimport blocked_gemm
from pymec.kernels.shared.blocking cimport GemmBlocking


cdef inline void blocked_product(
    const GemmBlocking* blocking, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
    const floating* A, Py_ssize_t lda, const floating* B, Py_ssize_t ldb,
    bint add, floating* C, Py_ssize_t ldc,
) noexcept nogil:
    """C (m x n) = or += A (m x k) * B (k x n).  Register tiles take all m rows with `reduction` of k at a time."""
    cdef Py_ssize_t q = 0
    if not blocking.registers:
        blocked_gemm(blocking, m, n, k, A, lda, B, ldb, add, C, ldc)
        return
    while q < k:
        tile_product(m, n, min(blocking.reduction, k - q), A + q, lda, B + q * ldb, ldb, add or q > 0, C, ldc)
        q += blocking.reduction
