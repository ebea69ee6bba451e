"""MEC-w, the transposed twin of MEC: lower vertically, slide horizontally (ours, after Cho & Brand 2017).

For every output row y, a horizontal strip of the image, k_h pixels high, is copied once into L.  The patches of
output column x are then a window of that matrix, starting at x·s_w·k_h·i_c, and the windows of neighbouring
columns overlap.  The rows (n, y) of O lie o_w·k_c apart throughout the batch: one product takes them all,
as tall as Solution A's, and writes n-h-w-c at once, without a repair.

==========  ==================================================  =============================================
array       shape                                               role
==========  ==================================================  =============================================
x           (i_n, i_h, i_w, i_c)                                input I, n-h-w-c
kernel      (k_h, k_w, i_c/G, k_c)                              kernel K
prepared    (k_w, k_h, i_c/G, k_c)                              K', K in the order of a window of L
L           (G, i_n, o_h, r_w, k_h, i_c/G)                      lowered matrix, i_n·o_h rows of r_w·k_h·i_c
out         (i_n, o_h, o_w, k_c)                                output O, n-h-w-c
==========  ==================================================  =============================================

r_w, the image columns that some output column reads, is MEC's r_h of the transposed image: the arithmetic of
``_lowered_rows`` serves both, called here with rows and columns changed about.  So horizontal padding takes no
memory.

Workspace, in elements:  i_n·o_h·r_w·k_h·i_c + |K|,  |K| = k_h·k_w·i_c/G·k_c, kept by a plan
(no |K| where k_h or k_w is 1, which leaves nothing to permute; nothing at all for a 1×k kernel that reads
every column, with vertical stride 1, no vertical padding, no dilation and one group: I is its own lowered matrix).

Any stride, padding, dilation and number of groups.  What it pays: the image is copied in pieces of i_c elements,
where MEC copies k_w·i_c at a time.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.bias_relu cimport BiasRelu, bias_relu_of
from pymec.kernels.shared.geometry cimport Geometry, check_operands, check_room, check_threads, geometry
from pymec.kernels.mec.lowered_rows cimport Band, RowClass, band_of_rows, image_row, row_class
from pymec.kernels.shared.patch cimport clip, copy, positions_up_to, zero
from pymec.kernels.shared.blocking cimport GemmBlocking, blocking_of
from pymec.kernels.mec.tuned cimport Places, multiply_unit

from pymec.kernels.shared.blocking import whole_product
from pymec.kernels.register_tiles.schedule import gemm_blocking


# Before all: K in the order of a window (it depends on the kernel alone) --------------------------------


cdef void permute_tap(const floating* K, floating* prepared, Py_ssize_t tap, const Geometry* g) noexcept nogil:
    """K'[b, a, :, :] = K[a, b, :, :]."""
    cdef Py_ssize_t size = g.i_cg * g.k_c
    cdef Py_ssize_t b = tap / g.k_h
    cdef Py_ssize_t a = tap - b * g.k_h
    copy(prepared + tap * size, K + (a * g.k_w + b) * size, size)


def prepare(const floating[:, :, :, ::1] kernel, floating[::1] prepared, shape, int n_threads=1, cut="small_blas"):
    """Stage 0: K (k_h, k_w, i_c/G, k_c) to K' (k_w, k_h, i_c/G, k_c); nothing where these are the same."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t tap
    check_threads(n_threads)
    check_operands(&g, NULL, kernel.shape, NULL)
    check_room("prepared", prepared.shape[0], shape.permuted_kernel_size)
    if shape.permuted_kernel_size == 0:
        return
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* to = &prepared[0]
    with nogil:
        for tap in prange(g.k_h * g.k_w, num_threads=n_threads, schedule="static"):
            permute_tap(K, to, tap, &g)


# Stage 1: lowering ---------------------------------------------------------------------------------------


cdef void lower_strip(
    const floating* I, floating* strip, Py_ssize_t n, Py_ssize_t y, Py_ssize_t group,
    const Band* band, const Geometry* g, const Geometry* t
) noexcept nogil:
    """L[n, y, w, 0:k_h, 0:i_c] = I[n, y·s_h : y·s_h + k_h, w, 0:i_c] for all columns that the band keeps.

    The band counts columns: it belongs to t, the transposed geometry.
    """
    cdef Py_ssize_t row = g.i_w * g.i_c
    cdef Py_ssize_t top = y * g.s_h - g.p_t  # the image row under kernel row 0
    # Kernel rows before a0 and from a1 on lie on padding.
    cdef Py_ssize_t a0 = clip(positions_up_to(-top, g), 0, g.k_h)
    cdef Py_ssize_t a1 = clip(positions_up_to(g.i_h - top, g), 0, g.k_h)
    cdef const floating* image = I + (n * g.i_h + top) * row + group * g.i_cg
    cdef Py_ssize_t j, slot, column, a
    cdef RowClass kept
    for j in range(band.n_classes):
        kept = row_class(j, band, t)
        for slot in range(kept.first, kept.end):
            column = image_row(slot, &kept, band, t)
            zero(strip, a0 * g.i_cg)
            for a in range(a0, a1):
                copy(strip + a * g.i_cg, image + a * g.d_h * row + column * g.i_c, g.i_cg)
            zero(strip + a1 * g.i_cg, (g.k_h - a1) * g.i_cg)
            strip += g.k_h * g.i_cg


cdef void lower_unit(
    const floating* I, floating* L, Py_ssize_t unit, const Band* band, const Geometry* g, const Geometry* t
) noexcept nogil:
    """One strip of L, counted through groups, images and output rows."""
    lower_strip(I, L + unit * band.rows * g.k_h * g.i_cg, unit / g.o_h % g.i_n, unit % g.o_h,
                unit / g.o_h / g.i_n, band, g, t)


def lower(const floating[:, :, :, ::1] x, floating[::1] L, shape, int n_threads=1):
    """Stage 1: copy the horizontal strips of every image into L.

    Parameters
    ----------
    x : array (i_n, i_h, i_w, i_c)
    L : array, one-dimensional, at least ``shape.mec_w_size`` elements
        Afterwards, read as (G, i_n, o_h, r_w, k_h, i_c/G) with r_w = ``shape.lowered_columns()``.
    shape : pymec.ConvShape
    n_threads : int
    """
    cdef Geometry g = geometry(shape)
    cdef Geometry t = geometry(shape.transposed())
    cdef Band band = band_of_rows(0, g.o_w, &t)
    cdef Py_ssize_t unit
    check_threads(n_threads)
    check_operands(&g, x.shape, NULL, NULL)
    check_room("L", L.shape[0], shape.mec_w_size)
    if g.i_n == 0 or band.rows == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef floating* to = &L[0]
    with nogil:
        for unit in prange(g.groups * g.i_n * g.o_h, num_threads=n_threads, schedule="static"):
            lower_unit(I, to, unit, &band, &g, &t)


# Stage 2: the products -----------------------------------------------------------------------------------


def multiply(const floating[::1] L, const floating[::1] prepared, floating[:, :, :, ::1] out, shape,
             blocking=None, int n_threads=1, const floating[::1] bias=None, bint relu=False):
    """Stage 2: o_w products of i_n·o_h rows (:mod:`pymec.kernels.shared.blocking` cuts them smaller).

    O_x (i_n·o_h × k_c, rows o_w·k_c apart) = P_x (i_n·o_h × k_w·k_h·i_c) · K', P_x = L from column x·s_w of
    every strip on, its leading dimension a whole strip.

    Parameters
    ----------
    L, prepared : arrays, one-dimensional
        What :func:`lower` and :func:`prepare` wrote.
    out : array (i_n, o_h, o_w, k_c)
    shape : pymec.ConvShape
    blocking : pymec.kernels.shared.blocking.GemmBlocking, optional
        Of the transposed shape.
    n_threads : int
    bias : array (k_c,), optional
        What every sum begins with.
    relu : bool
        Whether what ends below zero becomes zero.
    """
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef Geometry t = geometry(shape.transposed())
    cdef Band band = band_of_rows(0, g.o_w, &t)
    cdef GemmBlocking cut = blocking_of(blocking or whole_product(shape.transposed()))
    cdef Places at = Places(
        columns=g.i_n * g.o_h, row_step=g.k_c, ldo=g.o_w * g.k_c, ldk=g.k_c, add=bias_relu.bias != NULL)
    cdef Py_ssize_t column_blocks = (g.o_w + cut.output_rows - 1) / cut.output_rows
    cdef Py_ssize_t channel_blocks = (g.k_cg + cut.channels - 1) / cut.channels
    cdef Py_ssize_t unit
    check_threads(n_threads)
    check_room("L", L.shape[0], shape.mec_w_size)
    check_room("prepared", prepared.shape[0], shape.kernel_size)
    check_operands(&g, NULL, NULL, out.shape)
    if g.i_n == 0:
        return
    cdef const floating* lowered = &L[0] if L.shape[0] else NULL
    cdef const floating* K = &prepared[0]
    cdef floating* O = &out[0, 0, 0, 0]
    with nogil:
        # The images stand side by side, as in Solution A; an output column is the twin's output row.
        for unit in prange(g.groups * channel_blocks * column_blocks, num_threads=n_threads, schedule="static"):
            multiply_unit(lowered, K, O, unit, 1, &at, &band, &cut, &bias_relu, &t)


def run(x, kernel, out, workspace, shape, n_threads=1, prepared=None, cut="small_blas", bias=None, relu=False):
    """Lower the batch and multiply, the products cut as ``mec`` cuts them; ``prepared`` holds K'."""
    if shape.i_n == 0:
        return
    if shape.permuted_kernel_size == 0:
        prepared = kernel.reshape(-1)
    if shape.is_row_of_taps:
        workspace = x.reshape(-1)
    else:
        lower(x, workspace, shape, n_threads)
    blocking = gemm_blocking(cut, shape.transposed(), shape.i_n * shape.o_h, n_threads)
    multiply(workspace, prepared, out, shape, blocking, n_threads, bias, relu)
