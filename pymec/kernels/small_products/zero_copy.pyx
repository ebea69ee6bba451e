"""Convolution by plain BLAS products on the image itself: nothing is lowered, nothing is stored (ours).

BLAS wants the rows of a matrix at one distance, and that distance no shorter than a row.  Patches side by side
overlap, so im2col and MEC copy them apart; but one pixel of each patch, or one kernel row of it taken down a
column of the image, is a legal matrix where it lies.  The convolution is the sum of such products.

* ``pixel_gemm``: for every output row and tap, row y of O += pixels under the tap · K[a, b];
* ``filter_row_gemm``: for every output column and kernel row, column x of O += k_w pixels side by side · K[a];
  a 1×k_w kernel has one kernel row: with no stride down, one column through all images;
* ``pointwise``: a 1×1 kernel has one tap: with stride 1 and no padding, one product of all pixels.

The second splits a convolution as YaConv does (Korostelev, de Carvalho, Moreira & Amaral, *YaConv: Convolution
with Low Cache Footprint*, ACM TACO 2023), which packs inside a BLAS of its own; here it is calls to any BLAS.

==========  =========================  =====================================================
array       shape                      role
==========  =========================  =====================================================
x           (i_n, i_h, i_w, i_c)       input I; as o_w × i_c/G with leading dimension s_w·i_c,
                                       or as o_h × k_w·i_c with leading dimension s_h·i_w·i_c
kernel      (k_h, k_w, i_c/G, k_c)     kernel K; one product reads K[a, b] or K[a]
out         (i_n, o_h, o_w, k_c)       output O, the sum of all products
==========  =========================  =====================================================

Workspace, in elements:  0

``pixel_gemm`` does any stride, padding, dilation and number of groups; its sums are i_c/G long, so it wants many
channels.  ``filter_row_gemm`` sums k_w·i_c, which must lie side by side: d_w = 1 and, if k_w > 1, one group.

Sums begin with the bias, if there is one, written just before their first product (beta = 1); ReLU clears them
right after the last, piece by piece, while they are in a cache.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.bias_relu cimport BiasRelu, bias_relu_of
from pymec.kernels.shared.geometry cimport Geometry, check_operands, check_threads, geometry
from pymec.kernels.shared.patch cimport clip, positions_up_to
from pymec.kernels.shared.blocking cimport GemmBlocking, check_block, blocking_of
from pymec.kernels.small_products.pixel_runs cimport Line, add_tap, begin_beside, column_line, end_beside, first_tap, row_line

from dataclasses import replace


# pixel_gemm: lines are output rows ----------------------------------------------------------------------


cdef void add_rows(
    const floating* I, const floating* K, floating* O, Py_ssize_t y0, Py_ssize_t y1, Py_ssize_t group,
    const Line* line, const GemmBlocking* blocking, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """Output rows y0 .. y1 of one image, channels of one group: each piece of K meets all rows before the next."""
    cdef Py_ssize_t b0 = first_tap(line)
    cdef Py_ssize_t o_row = g.o_w * g.k_c
    cdef Py_ssize_t y, a, b, c, h, a0
    cdef bint first, last
    for y in range(y0, y1):
        a0 = positions_up_to(g.p_t - y * g.s_h, g)  # the first kernel row that isn't above the image
        if a0 < g.k_h and y * g.s_h - g.p_t + a0 * g.d_h < g.i_h:
            begin_beside(O + y * o_row, b0, line, bias_relu)
        else:
            begin_beside(O + y * o_row, g.k_w, line, bias_relu)
    for a in range(g.k_h):
        for b in range(b0, g.k_w):
            c = 0
            while c < g.i_cg:
                last = a == g.k_h - 1 and b == g.k_w - 1 and c + blocking.reduction >= g.i_cg
                for y in range(y0, y1):
                    h = y * g.s_h - g.p_t + a * g.d_h
                    if 0 <= h < g.i_h:
                        first = a == positions_up_to(g.p_t - y * g.s_h, g) and b == b0 and c == 0
                        add_tap(I + h * g.i_w * g.i_c + group * g.i_cg + c,
                                K + ((a * g.k_w + b) * g.i_cg + c) * g.k_c, O + y * o_row,
                                b, min(blocking.reduction, g.i_cg - c), first, last, line, blocking, bias_relu, g)
                    if last:
                        end_beside(O + y * o_row, b if 0 <= h < g.i_h else g.k_w, line, bias_relu)
                c += blocking.reduction


cdef void pixel_unit(
    const floating* I, const floating* K, floating* O, Py_ssize_t unit, Py_ssize_t block,
    const GemmBlocking* blocking, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """One unit of parallel work, counted through groups, images, blocks of pixels, of rows and of channels."""
    cdef Py_ssize_t channel_blocks = (g.k_cg + blocking.channels - 1) / blocking.channels
    cdef Py_ssize_t pixel_blocks = (g.o_w + block - 1) / block
    cdef Py_ssize_t row_blocks = (g.o_h + blocking.output_rows - 1) / blocking.output_rows
    cdef Py_ssize_t m0 = unit % channel_blocks * blocking.channels
    cdef Py_ssize_t m1 = min(m0 + blocking.channels, g.k_cg)
    cdef Py_ssize_t y0 = unit / channel_blocks % row_blocks * blocking.output_rows
    cdef Py_ssize_t lines = unit / channel_blocks / row_blocks
    cdef Py_ssize_t n = lines / pixel_blocks % g.i_n
    cdef Py_ssize_t group = lines / pixel_blocks / g.i_n
    cdef Line line = row_line(lines % pixel_blocks * block, block, group * g.k_cg + m0, group * g.k_cg + m1, g)
    add_rows(I + n * g.i_h * g.i_w * g.i_c, K, O + n * g.o_h * g.o_w * g.k_c,
             y0, min(y0 + blocking.output_rows, g.o_h), group, &line, blocking, bias_relu, g)


def run_pixel_gemm(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
    floating[::1] workspace, shape, int n_threads=1, blocking=None, Py_ssize_t block=2**31 - 1,
    const floating[::1] bias=None, bint relu=False,
):
    """One product per output row and tap, cut into ``blocking``, ``block`` pixels of a row at a time.

    Sums begin with the ``bias``, if there is one; with ``relu`` what ends below zero becomes zero.
    """
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef GemmBlocking cut = blocking_of(blocking or (g.i_cg, g.o_w, g.k_cg, 1))
    cdef Py_ssize_t unit, units
    check_threads(n_threads)
    check_operands(&g, x.shape, kernel.shape, out.shape)
    check_block(block)
    if g.i_n == 0:
        return
    units = (g.groups * g.i_n * ((g.o_h + cut.output_rows - 1) / cut.output_rows)
             * ((g.o_w + block - 1) / block) * ((g.k_cg + cut.channels - 1) / cut.channels))
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    with nogil:
        for unit in prange(units, num_threads=n_threads, schedule="static"):
            pixel_unit(I, K, O, unit, block, &cut, &bias_relu, &g)


def run_pointwise(
    x, kernel, out, workspace, shape, n_threads=1, blocking=None, block=2**31 - 1, bias=None, relu=False,
):
    """A 1×1 kernel, its only tap; with stride 1 and no padding all pixels are one row."""
    joined = all_in_one_row(shape)
    run_pixel_gemm(x.reshape(joined.input_shape), kernel, out.reshape(joined.output_shape), workspace,
                   joined, n_threads, blocking, block, bias, relu)


def all_in_one_row(shape):
    """The same 1×1 convolution with all pixels in one row, if stride and padding allow; else as it is."""
    padded = shape.p_t or shape.p_b or shape.p_l or shape.p_r
    if shape.i_n == 0 or padded or shape.s_h > 1 or shape.s_w > 1 or shape.k_h > 1 or shape.k_w > 1:
        return shape
    return replace(shape, i_n=1, i_h=1, i_w=shape.i_n * shape.i_h * shape.i_w)


# filter_row_gemm: lines are output columns --------------------------------------------------------------


cdef void add_columns(
    const floating* I, const floating* K, floating* O, Py_ssize_t x0, Py_ssize_t x1, Py_ssize_t group,
    const Line* line, const GemmBlocking* blocking, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """Output columns x0 .. x1 of one image, channels of one group: each piece of K meets all columns in turn.

    Taps beside the image shorten the sum: kernel columns b0 .. b1 lie on it, and q counts their elements.
    """
    cdef Py_ssize_t a0 = first_tap(line)
    cdef Py_ssize_t chunk = g.k_w * g.i_cg
    cdef Py_ssize_t x, a, q, b0, b1, lo, hi
    cdef bint last
    for x in range(x0, x1):
        b0 = clip(g.p_l - x * g.s_w, 0, g.k_w)
        b1 = clip(g.i_w + g.p_l - x * g.s_w, 0, g.k_w)
        begin_beside(O + x * g.k_c, a0 if b0 < b1 else g.k_h, line, bias_relu)
    for a in range(a0, g.k_h):
        q = 0
        while q < chunk:
            last = a == g.k_h - 1 and q + blocking.reduction >= chunk
            for x in range(x0, x1):
                b0 = clip(g.p_l - x * g.s_w, 0, g.k_w)
                b1 = clip(g.i_w + g.p_l - x * g.s_w, 0, g.k_w)
                lo, hi = max(q, b0 * g.i_cg), min(q + blocking.reduction, b1 * g.i_cg)
                if lo < hi:
                    add_tap(I + (x * g.s_w - g.p_l) * g.i_c + group * g.i_cg + lo,
                            K + (a * chunk + lo) * g.k_c, O + x * g.k_c, a, hi - lo,
                            a == a0 and lo == b0 * g.i_cg, last, line, blocking, bias_relu, g)
                if last:
                    end_beside(O + x * g.k_c, a if lo < hi else g.k_h, line, bias_relu)
            q += blocking.reduction


cdef void filter_row_unit(
    const floating* I, const floating* K, floating* O, Py_ssize_t unit, Py_ssize_t block,
    const GemmBlocking* blocking, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """One unit of parallel work, counted through groups, images, blocks of pixels, of columns and of channels."""
    cdef Py_ssize_t channel_blocks = (g.k_cg + blocking.channels - 1) / blocking.channels
    cdef Py_ssize_t pixel_blocks = (g.o_h + block - 1) / block
    cdef Py_ssize_t column_blocks = (g.o_w + blocking.output_rows - 1) / blocking.output_rows
    cdef Py_ssize_t m0 = unit % channel_blocks * blocking.channels
    cdef Py_ssize_t m1 = min(m0 + blocking.channels, g.k_cg)
    cdef Py_ssize_t x0 = unit / channel_blocks % column_blocks * blocking.output_rows
    cdef Py_ssize_t lines = unit / channel_blocks / column_blocks
    cdef Py_ssize_t n = lines / pixel_blocks % g.i_n
    cdef Py_ssize_t group = lines / pixel_blocks / g.i_n
    cdef Line line = column_line(lines % pixel_blocks * block, block, group * g.k_cg + m0, group * g.k_cg + m1, g)
    add_columns(I + n * g.i_h * g.i_w * g.i_c, K, O + n * g.o_h * g.o_w * g.k_c,
                x0, min(x0 + blocking.output_rows, g.o_w), group, &line, blocking, bias_relu, g)


def add_filter_rows(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
    floating[::1] workspace, shape, int n_threads=1, blocking=None, Py_ssize_t block=2**31 - 1,
    const floating[::1] bias=None, bint relu=False,
):
    """One product per output column and kernel row; ``workspace`` is not used.

    ``blocking`` cuts the products, its ``output_rows`` here counting output columns; ``block`` is the most
    pixels of a column that one thread takes at a time.  Sums begin with the ``bias``, if there is one; with
    ``relu`` what ends below zero becomes zero.
    """
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef GemmBlocking cut = blocking_of(blocking or (g.k_w * g.i_cg, g.o_h, g.k_cg, 1))
    cdef Py_ssize_t unit, units
    check_threads(n_threads)
    check_operands(&g, x.shape, kernel.shape, out.shape)
    check_block(block)
    if g.k_w > 1 and (g.d_w > 1 or g.groups > 1):
        raise ValueError("the pixels under a kernel row must lie side by side: d_w = 1 and one group")
    if g.i_n == 0:
        return
    units = (g.groups * g.i_n * ((g.o_w + cut.output_rows - 1) / cut.output_rows)
             * ((g.o_h + block - 1) / block) * ((g.k_cg + cut.channels - 1) / cut.channels))
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    with nogil:
        for unit in prange(units, num_threads=n_threads, schedule="static"):
            filter_row_unit(I, K, O, unit, block, &cut, &bias_relu, &g)


def run_filter_row_gemm(
    x, kernel, out, workspace, shape, n_threads=1, blocking=None, block=2**31 - 1, bias=None, relu=False,
):
    """All columns; those of several images are one where no kernel row reaches past its own image row."""
    joined = images_in_one(shape)
    add_filter_rows(x.reshape(joined.input_shape), kernel, out.reshape(joined.output_shape), workspace,
                    joined, n_threads, blocking, block, bias, relu)


def images_in_one(shape):
    """The same convolution of one image as high as all, if the kernel is one row that allows it; or as it is."""
    if shape.i_n == 0 or shape.k_h > 1 or shape.s_h > 1 or shape.p_t or shape.p_b:
        return shape
    return replace(shape, i_n=1, i_h=shape.i_n * shape.i_h)
