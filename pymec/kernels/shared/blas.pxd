# Row-major GEMM.  The only door to BLAS: nobody else cimports scipy.linalg.cython_blas.

from cython cimport floating

cdef void gemm_rowmajor(
    Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
    const floating* A, Py_ssize_t lda,
    const floating* B, Py_ssize_t ldb,
    floating beta, floating* C, Py_ssize_t ldc,
) noexcept nogil

cdef void gemm_rowmajor_transposed(
    bint transpose_A, bint transpose_B, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
    const floating* A, Py_ssize_t lda,
    const floating* B, Py_ssize_t ldb,
    floating beta, floating* C, Py_ssize_t ldc,
) noexcept nogil
