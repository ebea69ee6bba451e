"""Row-major GEMM over ``scipy.linalg.cython_blas``, of real and complex numbers in single and double precision.

BLAS is column-major: what we store row by row it reads as the transpose.  So the row-major product
C = A·B is asked for as Cᵀ = Bᵀ·Aᵀ, the operands and their sizes changing places, and nothing is copied.

The integer that BLAS counts in (32 bits in every SciPy wheel, 64 in some builds) is known here alone.
Sizes arrive as ``Py_ssize_t``; :func:`pymec.algorithm.blas_limit` has refused any that does not fit
(:data:`BLAS_INT_MAX`) before a kernel starts.
"""

from cython cimport floating
from scipy.linalg.cython_blas cimport cgemm, cgemv, dgemm, sgemm, zgemm, zgemv

from pymec.kernels.shared.interrupts cimport enter_stage, interrupted
from pymec.kernels.shared.spans cimport ceil_div, innermost

include "_blas_int.pxi"

cdef Py_ssize_t LONG_PRODUCT = 2**33  # multiply-adds: a tenth of a second with wide registers, a second without
cdef Py_ssize_t LEAST_SIDE = 512      # rows or columns of a part: with fewer, packing B or A again would cost time

BLAS_INT_MAX = 2 ** (8 * sizeof(blas_int) - 1) - 1


cdef void gemm_rowmajor(
    Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
    const blas_number* A, Py_ssize_t lda,
    const blas_number* B, Py_ssize_t ldb,
    blas_number beta, blas_number* C, Py_ssize_t ldc,
) noexcept nogil:
    """C (m × n) = A (m × k) · B (k × n) + beta · C, each row-major with its leading dimension.

    A and B are only read, so they may overlap other matrices: MEC's partitions are windows of one matrix,
    each shifted by a few columns, lda a whole row of it.  With beta = 0 BLAS does not read C: it may hold
    anything, NaN included.
    """
    gemm_rowmajor_transposed(False, False, m, n, k, A, lda, B, ldb, beta, C, ldc)


cdef void gemm_rowmajor_transposed(
    bint transpose_A, bint transpose_B, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
    const blas_number* A, Py_ssize_t lda,
    const blas_number* B, Py_ssize_t ldb,
    blas_number beta, blas_number* C, Py_ssize_t ldc,
) noexcept nogil:
    """:c:func:`gemm_rowmajor`, with A stored as k × m, or B as n × k, where it is to be transposed.

    A long product is made in parts, so that Ctrl-C need not wait for all of it: some rows at a time, or some
    columns of these, or a part of the sums.
    """
    cdef Py_ssize_t rows = max(LEAST_SIDE, LONG_PRODUCT / max(1, n * k))
    cdef Py_ssize_t columns = max(LEAST_SIDE, LONG_PRODUCT / max(1, min(rows, m) * k))
    cdef Py_ssize_t depth = max(LEAST_SIDE, LONG_PRODUCT / max(1, min(rows, m) * min(columns, n)))
    cdef Py_ssize_t parts_across = ceil_div(n, columns), parts_deep = ceil_div(k, depth), i, j, p, part, task
    for task in range(ceil_div(m, rows) * parts_across * parts_deep):
        if interrupted():
            return
        part = task
        p = innermost(&part, parts_deep) * depth
        j = innermost(&part, parts_across) * columns
        i = part * rows
        call_gemm(transpose_A, transpose_B, min(rows, m - i), min(columns, n - j), min(depth, k - p),
                  A + (i + p * lda if transpose_A else i * lda + p), lda,
                  B + (p + j * ldb if transpose_B else p * ldb + j), ldb,
                  beta if p == 0 else 1, C + i * ldc + j, ldc)


cdef void call_gemm(
    bint transpose_A, bint transpose_B, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
    const blas_number* A, Py_ssize_t lda,
    const blas_number* B, Py_ssize_t ldb,
    blas_number beta, blas_number* C, Py_ssize_t ldc,
) noexcept nogil:
    """One call of BLAS."""
    cdef char* flags = b"NT"
    cdef blas_int m_ = <blas_int> m, n_ = <blas_int> n, k_ = <blas_int> k
    cdef blas_int lda_ = <blas_int> lda, ldb_ = <blas_int> ldb, ldc_ = <blas_int> ldc
    cdef blas_number one = 1
    # BLAS declares no const; it does not write A and B, so the casts take nothing away.
    cdef blas_number* A_ = <blas_number*> A
    cdef blas_number* B_ = <blas_number*> B
    if blas_number is float:
        sgemm(flags + transpose_B, flags + transpose_A, &n_, &m_, &k_, &one, B_, &ldb_, A_, &lda_, &beta, C, &ldc_)
    elif blas_number is double:
        dgemm(flags + transpose_B, flags + transpose_A, &n_, &m_, &k_, &one, B_, &ldb_, A_, &lda_, &beta, C, &ldc_)
    elif blas_number is complex64:
        cgemm(flags + transpose_B, flags + transpose_A, &n_, &m_, &k_, &one, B_, &ldb_, A_, &lda_, &beta, C, &ldc_)
    else:
        zgemm(flags + transpose_B, flags + transpose_A, &n_, &m_, &k_, &one, B_, &ldb_, A_, &lda_, &beta, C, &ldc_)


cdef void row_times_matrix(
    Py_ssize_t n, Py_ssize_t k,
    const complex_number* a, const complex_number* B, Py_ssize_t ldb, complex_number* c,
) noexcept nogil:
    """c (n) = a (k) · B (k × n, row-major): a product of one row, which GEMM would pack B for."""
    cdef blas_int n_ = <blas_int> n, k_ = <blas_int> k, ldb_ = <blas_int> ldb, adjacent = 1
    cdef complex_number one = 1, zero = 0
    cdef complex_number* a_ = <complex_number*> a
    cdef complex_number* B_ = <complex_number*> B
    if complex_number is complex64:
        cgemv(b"N", &n_, &k_, &one, B_, &ldb_, a_, &adjacent, &zero, c, &adjacent)
    else:
        zgemv(b"N", &n_, &k_, &one, B_, &ldb_, a_, &adjacent, &zero, c, &adjacent)


def gemm(const floating[:, :] A, const floating[:, :] B, floating[:, :] C, floating beta=0,
         bint transpose_A=False, bint transpose_B=False):
    """C = A·B + beta·C for row-major matrices (tests and lessons call this; kernels use the C function).

    Parameters
    ----------
    A, B, C : arrays of shapes (m, k), (k, n) and (m, n)
        float32 or float64.  The elements of a row are adjacent; rows may be any distance apart that is at
        least their length, and the rows of A and B may overlap those of another matrix.
    beta : float
        What C is multiplied with before the product is added.
    transpose_A, transpose_B : bool
        A of shape (k, m), or B of shape (n, k), is multiplied as its transpose, without a copy.

    Raises
    ------
    ValueError
        If the shapes do not fit each other, or a row's elements are not adjacent, or rows run into each other.
    """
    cdef Py_ssize_t m = A.shape[transpose_A], k = A.shape[not transpose_A], n = B.shape[not transpose_B]
    cdef Py_ssize_t size = sizeof(floating)
    if B.shape[transpose_B] != k or C.shape[0] != m or C.shape[1] != n:
        extents = (B.shape[transpose_B], n), (C.shape[0], C.shape[1])
        raise ValueError(f"A {(m, k)} times B {extents[0]} does not give C {extents[1]}")
    if m == 0 or n == 0 or k == 0:
        raise ValueError("an empty product is no work for BLAS")
    for name, rows, columns, row_stride, stride in (
        ("A", A.shape[0], A.shape[1], A.strides[0], A.strides[1]),
        ("B", B.shape[0], B.shape[1], B.strides[0], B.strides[1]),
        ("C", m, n, C.strides[0], C.strides[1]),
    ):
        if (columns > 1 and stride != size) or (rows > 1 and row_stride < columns * size) or row_stride % size:
            raise ValueError(f"{name} is not row-major: strides {(row_stride, stride)} for {columns} columns")
    cdef Py_ssize_t lda = max(A.strides[0] // size, A.shape[1])
    cdef Py_ssize_t ldb = max(B.strides[0] // size, B.shape[1])
    cdef Py_ssize_t ldc = max(C.strides[0] // size, n)
    if max(m, n, k, lda, ldb, ldc) > BLAS_INT_MAX:
        raise ValueError(f"a dimension passes BLAS's integer ({BLAS_INT_MAX})")
    enter_stage()
    with nogil:
        gemm_rowmajor_transposed(
            transpose_A, transpose_B, m, n, k, &A[0, 0], lda, &B[0, 0], ldb, beta, &C[0, 0], ldc
        )
