"""im2col: lower the whole convolution into one matrix, then one product (Chellapilla, Puri & Simard 2006).

Every output pixel gets a row of L that holds its whole patch; a product of all rows with K is the convolution.
Neighbouring patches overlap, so each input element is stored up to k_h·k_w times: the k²-expansion that MEC is
measured against.  In NHWC the form is also called im2row.

==========  ===========================================  ==========================================
array       shape                                        role
==========  ===========================================  ==========================================
x           (i_n, i_h, i_w, i_c)                         input I
kernel      (k_h, k_w, i_c/G, k_c)                       kernel K; a matrix (k_h·k_w·i_c/G) × k_c
L           (G, i_n, o_h, o_w, k_h, k_w, i_c/G)          lowered matrix, a row per output pixel
out         (i_n, o_h, o_w, k_c)                         output O; a matrix (i_n·o_h·o_w) × k_c
==========  ===========================================  ==========================================

Workspace, in elements:  i_n·o_h·o_w·k_h·k_w·i_c
(``im2col_per_image`` reuses that of one image: o_h·o_w·k_h·k_w·i_c;  none for a 1×1 kernel with stride
1, no padding and one group, where I is its own lowered matrix).

Any stride, padding, dilation and number of groups.  Each group is one big product.  With several threads each
computes a block of its rows or columns by a BLAS of one thread.  Left to OpenBLAS's own threads, lowering and
product of the paper's layers took 1.2 to 2.4 times as long on two CPUs: its threads and OpenMP's wait for the
same cores.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.blas cimport gemm_rowmajor
from pymec.kernels.shared.geometry cimport Geometry, check_room, check_stage, geometry
from pymec.kernels.shared.interrupts cimport interrupted
from pymec.kernels.shared.patch cimport copy_patch_rows, zero
from pymec.kernels.shared.spans cimport Span, innermost, inside, share_of

# Stage 1: the lowered matrix ----------------------------------------------------------------------------


cdef void lower_pixel(const floating* I, floating* patch, Py_ssize_t row, const Geometry* g) noexcept nogil:
    """The patch of one output pixel; ``row`` is its number in L, counted through groups, images, y and x."""
    cdef Py_ssize_t x = innermost(&row, g.o_w), y = innermost(&row, g.o_h), n = innermost(&row, g.i_n), group = row
    cdef Py_ssize_t top = y * g.s_h - g.p_t  # the image row under kernel row 0
    cdef Span a = inside(top, g.d_h, g.i_h, g.k_h)  # the kernel rows that lie on the image, not on padding
    cdef Py_ssize_t image_row = g.i_w * g.i_c, kernel_row = g.k_w * g.i_cg
    # L[group, n, y, x, a, b, c] = I[n, top + a·d_h, x·s_w - p_l + b·d_w, group·i_c/G + c], or 0 on padding
    zero(patch, a.first * kernel_row)
    copy_patch_rows(I + (n * g.i_h + top + a.first * g.d_h) * image_row, g.d_h * image_row, a.end - a.first,
                    patch + a.first * kernel_row, x, group, g)
    zero(patch + a.end * kernel_row, (g.k_h - a.end) * kernel_row)


cdef void lower_pixels(
    const floating* I, floating* L, Py_ssize_t first, Py_ssize_t end, const Geometry* g
) noexcept nogil:
    """Rows first .. end of the lowered matrix; L points at the first of them."""
    cdef Py_ssize_t row
    if interrupted():
        return
    for row in range(first, end):
        lower_pixel(I, L + (row - first) * g.k_h * g.k_w * g.i_cg, row, g)


cdef void lower_row(const floating* I, floating* L, Py_ssize_t row, const Geometry* g) noexcept nogil:
    """The patches of one output row, counted through groups, images and y."""
    lower_pixels(I, L + row * g.o_w * g.k_h * g.k_w * g.i_cg, row * g.o_w, (row + 1) * g.o_w, g)


def lower(const floating[:, :, :, ::1] x, floating[::1] L, shape, int n_threads=1):
    """Stage 1: copy every patch into its row of L.

    Parameters
    ----------
    x : array (i_n, i_h, i_w, i_c)
    L : array, one-dimensional, at least ``shape.im2col_size`` elements
        Afterwards, read as (G, i_n·o_h·o_w, k_h·k_w·i_c/G).
    shape : pymec.ConvShape
    n_threads : int
    """
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t row
    check_stage(&g, n_threads, x.shape, NULL, NULL)
    check_room("L", L.shape[0], shape.im2col_size)
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef floating* lowered = &L[0]
    with nogil:
        for row in prange(g.groups * g.i_n * g.o_h, num_threads=n_threads, schedule="static"):
            lower_row(I, lowered, row, &g)


# Stage 2: the product -----------------------------------------------------------------------------------


cdef void multiply_share(
    const floating* L, const floating* K, floating* O, Py_ssize_t group, Py_ssize_t share, Py_ssize_t shares,
    const Geometry* g
) noexcept nogil:
    """One thread's share of a group's product: a block of its rows, or of its columns where these are more."""
    cdef Py_ssize_t pixels = g.i_n * g.o_h * g.o_w, patch = g.k_h * g.k_w * g.i_cg
    cdef Span rows = Span(0, pixels), columns = Span(0, g.k_cg)
    if pixels >= g.k_cg:
        rows = share_of(pixels, share, shares)
    else:
        columns = share_of(g.k_cg, share, shares)
    if rows.first == rows.end or columns.first == columns.end:
        return
    # O_g (i_n·o_h·o_w × k_c/G) = L_g (i_n·o_h·o_w × k_h·k_w·i_c/G) · K_g (k_h·k_w·i_c/G × k_c/G), or a block of it
    gemm_rowmajor(
        rows.end - rows.first, columns.end - columns.first, patch,
        L + (group * pixels + rows.first) * patch, patch,
        K + group * g.k_cg + columns.first, g.k_c,
        <floating> 0, O + rows.first * g.k_c + group * g.k_cg + columns.first, g.k_c,
    )


def multiply(const floating[::1] L, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out, shape,
             int n_threads=1):
    """Stage 2: O (i_n·o_h·o_w × k_c) = L · K, one product per group, each thread a share of it."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t group, share
    check_stage(&g, n_threads, NULL, kernel.shape, out.shape)
    check_room("L", L.shape[0], shape.im2col_size)
    if g.i_n == 0:
        return
    cdef const floating* lowered = &L[0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    with nogil:
        for group in range(g.groups):
            for share in prange(n_threads, num_threads=n_threads, schedule="static"):
                multiply_share(lowered, K, O, group, share, n_threads, &g)


# The algorithms -----------------------------------------------------------------------------------------


def run(x, kernel, out, workspace, shape, n_threads=1):
    """``im2col``: the whole batch in one lowered matrix."""
    if shape.is_pointwise:  # the image is its own lowered matrix
        return multiply(x.reshape(-1), kernel, out, shape, n_threads)
    lower(x, workspace, shape, n_threads)
    multiply(workspace, kernel, out, shape, n_threads)


def run_per_image(x, kernel, out, workspace, shape, n_threads=1):
    """``im2col_per_image``: one image after another through the lowered matrix of one."""
    image = shape.single_image()
    for n in range(shape.i_n):
        run(x[n:n + 1], kernel, out[n:n + 1], workspace, image, n_threads)
