# Row-major GEMM.  The only door to BLAS: nobody else cimports scipy.linalg.cython_blas.

ctypedef float complex complex64
ctypedef double complex complex128

ctypedef fused complex_number:
    complex64
    complex128

ctypedef fused blas_number:
    float
    double
    complex64
    complex128

cdef void gemm_rowmajor(
    Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
    const blas_number* A, Py_ssize_t lda,
    const blas_number* B, Py_ssize_t ldb,
    blas_number beta, blas_number* C, Py_ssize_t ldc,
) noexcept nogil

cdef void row_times_matrix(
    Py_ssize_t n, Py_ssize_t k,
    const complex_number* a, const complex_number* B, Py_ssize_t ldb, complex_number* c,
) noexcept nogil

cdef void gemm_rowmajor_transposed(
    bint transpose_A, bint transpose_B, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
    const blas_number* A, Py_ssize_t lda,
    const blas_number* B, Py_ssize_t ldb,
    blas_number beta, blas_number* C, Py_ssize_t ldc,
) noexcept nogil
