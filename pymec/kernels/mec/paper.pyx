"""MEC as published: Algorithms 1 and 2 of Cho & Brand, *MEC: Memory-efficient Convolution for Deep Neural Network*
(ICML 2017, arXiv:1706.06873), line by line.  ``tuned.pyx`` is the same method, made faster.

For every output column w, lowering copies a strip of the image, k_w pixels wide and as high as the image, to a row
of L.  The patches of output row h are then k_h·k_w·i_c adjacent columns of L, from column s_h·k_w·i_c·h on.  BLAS
multiplies them with K where they lie, although those of neighbouring output rows overlap: it gets a pointer to the
first of them, and the length of a row of L as leading dimension.

=======  ========================  ===================================================
array    shape                     role
=======  ========================  ===================================================
x        (i_n, i_h, i_w, i_c)      input I, n-h-w-c
kernel   (k_h, k_w, i_c, k_c)      kernel K; as a matrix k_h·k_w·i_c × k_c
L        (i_n, o_w, H, k_w, i_c)   lowered matrix; as a matrix i_n·o_w × H·k_w·i_c
out      (i_n, o_h, o_w, k_c)      output O, n-h-w-c
=======  ========================  ===================================================

H is the paper's i_h.  The paper has no padding; with padding L also stores its zeros, and H = i_h + p_t + p_b.
Dilation and groups are not in the paper either; ``tuned.pyx`` has them.

Workspace, in elements:  |L| = i_n·o_w·H·k_w·i_c (``shape.paper_mec_size``);  Algorithm 1, image by image: |L|/i_n;
Solution A of several images: max(|L|, |O|), because L takes a copy of O.  The caller allocates L and ``out``.
"""

from cython cimport floating
from cython.parallel import prange
from libc.string cimport memcpy

from pymec.kernels.shared.blas cimport gemm_rowmajor
from pymec.kernels.shared.geometry cimport Geometry, check_room, check_stage, geometry
from pymec.kernels.shared.patch cimport copy_padded_patch_row

# Lowering: Algorithm 1, lines 4-6; Algorithm 2, lines 4-6 -----------------------------------------------


cdef void copy_strip(const floating* I, floating* L, Py_ssize_t n, Py_ssize_t w, const Geometry* g) noexcept nogil:
    """The strip of image n at output column w, row by row."""
    cdef Py_ssize_t h
    for h in range(g.H):
        # line 5:  L[n, w, h, 0:k_w, 0:i_c] = I[n, h, s_w·w : s_w·w + k_w, 0:i_c]; zeros where that is padding
        copy_padded_patch_row(I, n, h, w, L + ((n * g.o_w + w) * g.H + h) * g.k_w * g.i_c, g)


def lower(const floating[:, :, :, ::1] x, floating[::1] L, shape, int n_threads=1):
    """Lines 4-6: the strips of every image n and output column w, in parallel."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t strip
    check_stage(&g, n_threads, x.shape, NULL, NULL)
    check_room("L", L.shape[0], shape.paper_mec_size)
    if g.i_n == 0:
        return
    with nogil:
        for strip in prange(g.i_n * g.o_w, num_threads=n_threads, schedule="static"):
            copy_strip(&x[0, 0, 0, 0], &L[0], strip // g.o_w, strip % g.o_w, &g)


# The choice: Algorithm 2, line 8 ------------------------------------------------------------------------


def choose_solution(shape, int T=100):
    """Line 8: ``"A"`` if o_w <= T and \\|O\\| <= \\|L\\|, otherwise ``"B"``.

    A's products are i_n times taller, which pays while o_w is small; its repair needs room for O in L.
    """
    return "A" if shape.o_w <= T and shape.output_size <= shape.paper_mec_size else "B"


# Solution A: Algorithm 2, lines 9-13 --------------------------------------------------------------------

# gemm_rowmajor(m, n, k, A, lda, B, ldb, beta, C, ldc):  C (m × n) = A (m × k) · B (k × n) + beta · C, row-major

cdef void row_a(const floating* L, const floating* K, floating* O, Py_ssize_t h, const Geometry* g) noexcept nogil:
    """Output row h of all images.  L is i_n·o_w × H·k_w·i_c (line 9), O is o_h × i_n·o_w × k_c (line 10)."""
    # line 12:  O[h, 0:i_n·o_w, 0:k_c] = L[0:i_n·o_w, s_h·k_w·i_c·h : s_h·k_w·i_c·h + k_h·k_w·i_c] × K
    gemm_rowmajor(
        g.i_n * g.o_w, g.k_c, g.k_h * g.k_w * g.i_c,
        L + g.s_h * g.k_w * g.i_c * h, g.H * g.k_w * g.i_c,  # the leading dimension is a whole row of L
        K, g.k_c, <floating> 0, O + h * g.i_n * g.o_w * g.k_c, g.k_c,
    )


# Solution B: Algorithm 2, lines 21-25; for a single image, Algorithm 1, lines 7-11 ----------------------


cdef void row_b(
    const floating* L, const floating* K, floating* O, Py_ssize_t n, Py_ssize_t h, const Geometry* g
) noexcept nogil:
    """Output row h of image n.  L is i_n × o_w × H·k_w·i_c (line 21), O is i_n × o_h × o_w × k_c (line 22)."""
    # line 24:  O[n, h, 0:o_w, 0:k_c] = L[n, 0:o_w, s_h·k_w·i_c·h : s_h·k_w·i_c·h + k_h·k_w·i_c] × K
    gemm_rowmajor(
        g.o_w, g.k_c, g.k_h * g.k_w * g.i_c,
        L + n * g.o_w * g.H * g.k_w * g.i_c + g.s_h * g.k_w * g.i_c * h, g.H * g.k_w * g.i_c,
        K, g.k_c, <floating> 0, O + (n * g.o_h + h) * g.o_w * g.k_c, g.k_c,
    )


def multiply(const floating[::1] L, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out, shape,
             solution="B", int n_threads=1):
    """Output rows in parallel: with ``"A"`` lines 11-13, which leave O in h-n-w-c; with ``"B"`` lines 23-25."""
    cdef Geometry g = geometry(shape)
    cdef bint solution_a = solution == "A"
    cdef Py_ssize_t row
    if solution not in ("A", "B"):
        raise ValueError(f"solution must be 'A' or 'B', got {solution!r}")
    check_stage(&g, n_threads, NULL, kernel.shape, out.shape)
    check_room("L", L.shape[0], shape.paper_mec_size)
    if g.i_n == 0:
        return
    with nogil:
        if solution_a:
            for row in prange(g.o_h, num_threads=n_threads, schedule="static"):
                row_a(&L[0], &kernel[0, 0, 0, 0], &out[0, 0, 0, 0], row, &g)
        else:
            for row in prange(g.i_n * g.o_h, num_threads=n_threads, schedule="static"):
                row_b(&L[0], &kernel[0, 0, 0, 0], &out[0, 0, 0, 0], row // g.o_h, row % g.o_h, &g)


# Solution A's repair: Algorithm 2, lines 14-19 ----------------------------------------------------------


cdef void repair_row(const floating* L, floating* O, Py_ssize_t n, Py_ssize_t h, const Geometry* g) noexcept nogil:
    """Output row h of image n.  L, a copy of O, read as o_h × i_n × o_w × k_c (line 15)."""
    cdef Py_ssize_t row_size = g.o_w * g.k_c
    # line 18:  O[n, h, 0:o_w, 0:k_c] = L[h, n, 0:o_w, 0:k_c], O again i_n × o_h × o_w × k_c (line 16)
    memcpy(O + (n * g.o_h + h) * row_size, L + (h * g.i_n + n) * row_size, row_size * sizeof(floating))


def repair(floating[:, :, :, ::1] out, floating[::1] L, shape, int n_threads=1):
    """Lines 14-19: O from h-n-w-c to n-h-w-c, through L, which is no longer needed."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t row
    check_stage(&g, n_threads, NULL, NULL, out.shape)
    check_room("L", L.shape[0], shape.output_size)
    if g.i_n == 0:
        return
    with nogil:
        memcpy(&L[0], &out[0, 0, 0, 0], g.i_n * g.o_h * g.o_w * g.k_c * sizeof(floating))  # line 14:  L = O
        for row in prange(g.i_n * g.o_h, num_threads=n_threads, schedule="static"):
            repair_row(&L[0], &out[0, 0, 0, 0], row // g.o_h, row % g.o_h, &g)


# The algorithms -----------------------------------------------------------------------------------------


def run_vanilla(x, kernel, out, L, shape, n_threads=1):
    """Algorithm 1, image after image in the same L, but for i_c and k_c channels in the place of one."""
    for n in range(shape.i_n):
        run_b(x[n:n + 1], kernel, out[n:n + 1], L, shape.single_image(), n_threads)


def run_a(x, kernel, out, L, shape, n_threads=1):
    """Algorithm 2 with Solution A; for one image h-n-w-c is n-h-w-c, and there is nothing to repair."""
    lower(x, L, shape, n_threads)
    multiply(L, kernel, out, shape, "A", n_threads)
    if shape.i_n > 1:
        repair(out, L, shape, n_threads)


def run_b(x, kernel, out, L, shape, n_threads=1):
    """Algorithm 2 with Solution B."""
    lower(x, L, shape, n_threads)
    multiply(L, kernel, out, shape, "B", n_threads)


def run(x, kernel, out, L, shape, n_threads=1):
    """Algorithm 2 whole."""
    if choose_solution(shape) == "A":
        run_a(x, kernel, out, L, shape, n_threads)
    else:
        run_b(x, kernel, out, L, shape, n_threads)
