"""MEC as published: Algorithms 1 and 2 of Cho & Brand, *MEC: Memory-efficient Convolution for Deep Neural Network*
(ICML 2017, arXiv:1706.06873), line by line.  ``tuned.pyx`` is the same method, made faster.

For every output column w, a strip of the image, k_w pixels wide and as high as the image, is copied into a row of L.
The patches of output row h are then k_h·k_w·i_c adjacent columns of L, from column s_h·k_w·i_c·h on.  The columns of
neighbouring output rows overlap, but they are only read: each row is one product of L, where it lies, with K.

=======  ==========================  ===========================================================================
array    shape                       role
=======  ==========================  ===========================================================================
x        (i_n, i_h, i_w, i_c)        input I, n-h-w-c
kernel   (k_h, k_w, i_c, k_c)        kernel K; as a matrix k_h·k_w·i_c × k_c
L        (i_n, o_w, i_h, k_w, i_c)   lowered matrix; as a matrix i_n·o_w × i_h·k_w·i_c
out      (i_n, o_h, o_w, k_c)        output O, n-h-w-c
=======  ==========================  ===========================================================================

Workspace, in elements:  |L| = i_n·o_w·i_h·k_w·i_c  (``mec_vanilla``, one image at a time: |L|/i_n;  ``mec_a`` with
several images: max(|L|, |O|), because L takes a copy of O).

Any batch and stride.  The paper has no padding: here its zeros are stored in L, whose i_h then counts the rows of the
padded image, H = i_h + p_t + p_b in the code.  Dilation and groups are not in the paper: ``mec`` has them.
"""

from cython cimport floating
from cython.parallel import prange
from libc.string cimport memcpy

from pymec.kernels.shared.blas cimport gemm_rowmajor
from pymec.kernels.shared.geometry cimport Geometry, check_room, check_stage, geometry
from pymec.kernels.shared.patch cimport copy_padded_patch_row

# Lowering: Algorithm 1, lines 4-6; Algorithm 2, lines 4-6 -----------------------------------------------


cdef void lower_strip(const floating* I, floating* L, Py_ssize_t strip, const Geometry* g) noexcept nogil:
    """Every row h of the strip of image n at output column w."""
    cdef Py_ssize_t n = strip / g.o_w, w = strip % g.o_w, h
    for h in range(g.H):
        # line 5:  L[n, w, h, 0:k_w, 0:i_c] = I[n, h, s_w·w : s_w·w + k_w, 0:i_c]
        copy_padded_patch_row(I, n, h, w, L + (strip * g.H + h) * g.k_w * g.i_c, g)


def lower(const floating[:, :, :, ::1] x, floating[::1] L, shape, int n_threads=1):
    """Lines 4-6: copy the strip of every image n and output column w into L, for all of them in parallel."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t strip
    check_stage(&g, n_threads, x.shape, NULL, NULL)
    check_room("L", L.shape[0], shape.paper_mec_size)
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef floating* lowered = &L[0]
    with nogil:
        for strip in prange(g.i_n * g.o_w, num_threads=n_threads, schedule="static"):
            lower_strip(I, lowered, strip, &g)


# Line 8 -------------------------------------------------------------------------------------------------


def choose_solution(shape, int T=100):
    """Line 8: Solution ``"A"`` if o_w <= T and \\|O\\| <= \\|L\\|, otherwise ``"B"``.

    A's products are taller, but its output has to be repaired, with room for a copy of it in L.
    """
    return "A" if shape.o_w <= T and shape.output_size <= shape.paper_mec_size else "B"


# Solution A: Algorithm 2, lines 9-13 --------------------------------------------------------------------


cdef void multiply_row_a(
    const floating* L, const floating* K, floating* O, Py_ssize_t h, const Geometry* g
) noexcept nogil:
    """Output row h of all images at once: L is read as i_n·o_w × i_h·k_w·i_c (line 9), O as o_h × i_n·o_w × k_c (10)."""
    # line 12:  O[h, 0:i_n·o_w, 0:k_c] = L[0:i_n·o_w, s_h·k_w·i_c·h : s_h·k_w·i_c·h + k_h·k_w·i_c] × K
    gemm_rowmajor(
        g.i_n * g.o_w, g.k_c, g.k_h * g.k_w * g.i_c,
        L + g.s_h * g.k_w * g.i_c * h, g.H * g.k_w * g.i_c,  # the leading dimension is a whole row of L
        K, g.k_c,
        <floating> 0, O + h * g.i_n * g.o_w * g.k_c, g.k_c,
    )


# Solution B: Algorithm 2, lines 21-25; for one image, Algorithm 1, lines 7-11 ---------------------------


cdef void multiply_row_b(
    const floating* L, const floating* K, floating* O, Py_ssize_t row, const Geometry* g
) noexcept nogil:
    """Output row h of image n alone: L is read as i_n × o_w × i_h·k_w·i_c (line 21), O as it is (22)."""
    cdef Py_ssize_t n = row / g.o_h, h = row % g.o_h
    # line 24:  O[n, h, 0:o_w, 0:k_c] = L[n, 0:o_w, s_h·k_w·i_c·h : s_h·k_w·i_c·h + k_h·k_w·i_c] × K
    gemm_rowmajor(
        g.o_w, g.k_c, g.k_h * g.k_w * g.i_c,
        L + n * g.o_w * g.H * g.k_w * g.i_c + g.s_h * g.k_w * g.i_c * h, g.H * g.k_w * g.i_c,
        K, g.k_c,
        <floating> 0, O + (n * g.o_h + h) * g.o_w * g.k_c, g.k_c,
    )


def multiply(const floating[::1] L, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out, shape,
             solution="B", int n_threads=1):
    """All output rows in parallel: lines 11-13 with Solution ``"A"``, which leaves O in h-n-w-c; 23-25 with ``"B"``."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t row
    if solution not in ("A", "B"):
        raise ValueError(f"solution must be 'A' or 'B', got {solution!r}")
    check_stage(&g, n_threads, NULL, kernel.shape, out.shape)
    check_room("L", L.shape[0], shape.paper_mec_size)
    if g.i_n == 0:
        return
    cdef const floating* lowered = &L[0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    if solution == "A":
        with nogil:
            for row in prange(g.o_h, num_threads=n_threads, schedule="static"):
                multiply_row_a(lowered, K, O, row, &g)
    else:
        with nogil:
            for row in prange(g.i_n * g.o_h, num_threads=n_threads, schedule="static"):
                multiply_row_b(lowered, K, O, row, &g)


# Solution A's repair: Algorithm 2, lines 14-19 ----------------------------------------------------------


cdef void repair_row(const floating* L, floating* O, Py_ssize_t row, const Geometry* g) noexcept nogil:
    """Output row h of image n: L, which holds O's copy, is read as o_h × i_n × o_w × k_c (line 15)."""
    cdef Py_ssize_t n = row / g.o_h, h = row % g.o_h
    # line 18:  O[n, h, 0:o_w, 0:k_c] = L[h, n, 0:o_w, 0:k_c]
    memcpy(O + (n * g.o_h + h) * g.o_w * g.k_c, L + (h * g.i_n + n) * g.o_w * g.k_c, g.o_w * g.k_c * sizeof(floating))


def repair(floating[:, :, :, ::1] out, floating[::1] L, shape, int n_threads=1):
    """Lines 14-19: from h-n-w-c to n-h-w-c, through L, which nothing reads any more."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t row
    check_stage(&g, n_threads, NULL, NULL, out.shape)
    check_room("L", L.shape[0], shape.output_size)
    if g.i_n == 0:
        return
    cdef floating* O = &out[0, 0, 0, 0]
    cdef floating* copy = &L[0]
    with nogil:
        memcpy(copy, O, g.i_n * g.o_h * g.o_w * g.k_c * sizeof(floating))  # line 14:  L = O
        for row in prange(g.i_n * g.o_h, num_threads=n_threads, schedule="static"):
            repair_row(copy, O, row, &g)


# The algorithms -----------------------------------------------------------------------------------------


def run_vanilla(x, kernel, out, L, shape, n_threads=1):
    """Algorithm 1, image after image in the same L; each pixel carries its i_c channels along."""
    for n in range(shape.i_n):
        run_b(x[n:n + 1], kernel, out[n:n + 1], L, shape.single_image(), n_threads)


def run_a(x, kernel, out, L, shape, n_threads=1):
    """Algorithm 2 with Solution A: o_h products of i_n·o_w rows, then the repair."""
    lower(x, L, shape, n_threads)
    multiply(L, kernel, out, shape, "A", n_threads)
    if shape.i_n > 1:  # for one image h-n-w-c is n-h-w-c
        repair(out, L, shape, n_threads)


def run_b(x, kernel, out, L, shape, n_threads=1):
    """Algorithm 2 with Solution B: i_n·o_h products of o_w rows, straight into n-h-w-c."""
    lower(x, L, shape, n_threads)
    multiply(L, kernel, out, shape, "B", n_threads)


def run(x, kernel, out, L, shape, n_threads=1):
    """Algorithm 2 whole, with T = 100, the paper's value."""
    run_solution = run_a if choose_solution(shape) == "A" else run_b
    run_solution(x, kernel, out, L, shape, n_threads)
