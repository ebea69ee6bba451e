"""The products of a convolution by Fourier transforms: one for every frequency.

    Y[f, n, m] = sum over c < i_c/G of  X[f, n, γ·i_c/G + c] · Q[f, c, m],   γ = ⌊m·G/k_c⌋

Transforms are SciPy's (:mod:`pymec.kernels.fourier.fft`); threads share the frequencies.

==========  ===============================  =====================================
array       shape                            role
==========  ===============================  =====================================
X           (F_h, ⌊F_w/2⌋ + 1, n, i_c)       spectra of planes of I, complex
Q           (F_h, ⌊F_w/2⌋ + 1, i_c/G, k_c)   conjugate spectra of planes of K
Y           (F_h, ⌊F_w/2⌋ + 1, n, k_c)       spectra of planes of O
==========  ===============================  =====================================
"""

from cython.parallel import prange

from pymec.kernels.shared.blas cimport complex_number, gemm_rowmajor, row_times_matrix
from pymec.kernels.shared.geometry cimport check_threads
from pymec.kernels.shared.interrupts cimport enter_stage

cdef enum:
    FEW_PRODUCTS = 64  # take less time in a loop than a call of BLAS does (AMD EPYC, Zen 5, 30 November 2026)
    FEW_OF_A_ROW = 16  # the same of a single image, for which BLAS multiplies a matrix with a vector


def multiply(
    const complex_number[:, :, :, ::1] X, const complex_number[:, :, :, ::1] Q, complex_number[:, :, :, ::1] Y,
    Py_ssize_t groups=1, int n_threads=1,
):
    """Y = X · Q for every frequency and group, frequencies shared among ``n_threads`` threads.

    Parameters
    ----------
    X, Q, Y : arrays (F_h, ⌊F_w/2⌋ + 1, n, i_c), (…, i_c/G, k_c) and (…, n, k_c)
        complex64 or complex128.
    groups : int
        G.

    Raises
    ------
    ValueError
        If the extents do not fit each other.
    """
    cdef Py_ssize_t frequencies = X.shape[0] * X.shape[1], n = X.shape[2], i_c = X.shape[3]
    cdef Py_ssize_t i_cg = Q.shape[2], k_c = Q.shape[3], k_cg, f, group
    if groups < 1 or k_c % groups or groups * i_cg != i_c:
        raise ValueError(f"{groups} groups of {i_cg} input channels don't divide X's {i_c} and Q's {k_c} channels")
    expected = X.shape[0], X.shape[1], n, k_c
    if (Q.shape[0], Q.shape[1]) != expected[:2] or (Y.shape[0], Y.shape[1], Y.shape[2], Y.shape[3]) != expected:
        raise ValueError(f"Q and Y must have X's {expected[:2]} frequencies, and Y the shape {expected}")
    check_threads(n_threads)
    enter_stage()
    if Y.shape[0] * Y.shape[1] * n * k_c == 0:
        return
    k_cg = k_c / groups
    cdef const complex_number* X_ = &X[0, 0, 0, 0]
    cdef const complex_number* Q_ = &Q[0, 0, 0, 0]
    cdef complex_number* Y_ = &Y[0, 0, 0, 0]
    with nogil:
        for f in prange(frequencies, num_threads=n_threads, schedule="static"):
            for group in range(groups):
                multiply_frequency(
                    n, k_cg, i_cg, X_ + f * n * i_c + group * i_cg, i_c, Q_ + f * i_cg * k_c + group * k_cg, k_c,
                    Y_ + f * n * k_c + group * k_cg,
                )
    enter_stage()  # if it was cut short, no transform back


cdef inline void multiply_frequency(
    Py_ssize_t n, Py_ssize_t k_cg, Py_ssize_t i_cg, const complex_number* X, Py_ssize_t i_c,
    const complex_number* Q, Py_ssize_t k_c, complex_number* Y,
) noexcept nogil:
    """Y (n × k_c/G) = X (n × i_c/G) · Q (i_c/G × k_c/G) of one frequency and group; one image is a row."""
    cdef complex_number zero = 0, total
    cdef Py_ssize_t i, m, c
    if n * k_cg * i_cg <= (FEW_PRODUCTS if n > 1 else FEW_OF_A_ROW):
        for i in range(n):
            for m in range(k_cg):
                total = 0
                for c in range(i_cg):
                    total = total + X[i * i_c + c] * Q[c * k_c + m]
                Y[i * k_c + m] = total
    elif n == 1:
        row_times_matrix(k_cg, i_cg, X, Q, k_c, Y)
    else:
        gemm_rowmajor(n, k_cg, i_cg, X, i_c, Q, k_c, zero, Y, k_c)
