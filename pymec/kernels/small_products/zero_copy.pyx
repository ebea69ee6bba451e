"""Convolution by BLAS products on the image itself: nothing is lowered, nothing is stored (ours).

BLAS wants the rows of a matrix at one distance, and that distance no shorter than a row.  Patches side by side
overlap, so im2col and MEC copy them apart; but one pixel of each patch, or one kernel row of it taken down a
column of the image, is a legal matrix where it lies.  The convolution is the sum of such products.

* ``pixel_gemm``: for every tap and output row, row y of O += pixels under the tap · K[a, b];
* ``filter_row_gemm``: for every kernel row and output column, column x of O += k_w adjacent pixels · K[a];
  a 1×k_w kernel has one kernel row: with s_h = 1, one column through all images;
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

The first tap's products overwrite O, the others add to it.  A tap on the padding has no product; outputs whose
first tap is there begin with zeros.

``pixel_gemm`` does any stride, padding, dilation and number of groups; its sums are i_c/G long, so it wants many
channels.  ``filter_row_gemm`` sums k_w·i_c, which must be adjacent: d_w = 1 and, if k_w > 1, one group.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.blocked_product cimport blocked_gemm
from pymec.kernels.shared.blocking cimport GemmBlocking, blocking_of, check_block
from pymec.kernels.shared.geometry cimport Geometry, check_stage, geometry
from pymec.kernels.shared.spans cimport Span, ceil_div, innermost, inside
from pymec.kernels.small_products.sums cimport zero_beside

from dataclasses import replace
from functools import lru_cache


cdef struct ProductBlock:              # of one image's output, all of one group
    Py_ssize_t y, rows          # its first output row, and how many
    Py_ssize_t x, columns       # its first output column, and how many
    Py_ssize_t channels         # how many output channels


cdef void begin_block(
    floating* O, Span rows, Span columns, const ProductBlock* o, const Geometry* g
) noexcept nogil:
    """Zeros in the outputs of a block that the first tap does not reach: it reaches ``columns`` of ``rows``."""
    cdef Span none = Span(0, 0)
    cdef Py_ssize_t y
    for y in range(o.rows):
        zero_beside(O + y * g.o_w * g.k_c, g.k_c, columns if rows.first <= y < rows.end else none,
                    0, o.columns, o.channels)


# pixel_gemm: a product for every tap and output row -----------------------------------------------------


cdef void add_taps(
    const floating* I, const floating* K, floating* O, const ProductBlock* o, const GemmBlocking* blocking,
    const Geometry* g
) noexcept nogil:
    """The sum over all taps for one block.  I, K and O point at its first channel, O also at its first pixel."""
    cdef Py_ssize_t a, b, y, top, left
    cdef Span rows, columns     # the block's outputs whose tap (a, b) is inside the image
    for a in range(g.k_h):
        for b in range(g.k_w):
            top, left = o.y * g.s_h - g.p_t + a * g.d_h, o.x * g.s_w - g.p_l + b * g.d_w
            rows, columns = inside(top, g.s_h, g.i_h, o.rows), inside(left, g.s_w, g.i_w, o.columns)
            if a == b == 0:
                begin_block(O, rows, columns, o, g)
            for y in range(rows.first, rows.end):
                # O_y (columns × channels) += I_y (columns × i_c/G, s_w pixels apart) · K[a, b] (i_c/G × channels)
                blocked_gemm(
                    blocking, columns.end - columns.first, o.channels, g.i_cg,
                    I + ((top + y * g.s_h) * g.i_w + left + columns.first * g.s_w) * g.i_c, g.s_w * g.i_c,
                    K + (a * g.k_w + b) * g.i_cg * g.k_c, g.k_c,
                    a > 0 or b > 0, O + (y * g.o_w + columns.first) * g.k_c, g.k_c,
                )


cdef void pixel_task(
    const floating* I, const floating* K, floating* O, Py_ssize_t task, Py_ssize_t block,
    const GemmBlocking* blocking, const Geometry* g
) noexcept nogil:
    """One task, counted through groups, images, blocks of columns, of rows and of output channels."""
    cdef ProductBlock o
    cdef Py_ssize_t m = innermost(&task, ceil_div(g.k_cg, blocking.channels)) * blocking.channels
    o.y = innermost(&task, ceil_div(g.o_h, blocking.output_rows)) * blocking.output_rows
    o.x = innermost(&task, ceil_div(g.o_w, block)) * block
    o.rows, o.columns = min(blocking.output_rows, g.o_h - o.y), min(block, g.o_w - o.x)
    o.channels = min(blocking.channels, g.k_cg - m)
    cdef Py_ssize_t n = innermost(&task, g.i_n)
    cdef Py_ssize_t group = task
    add_taps(I + n * g.i_h * g.i_w * g.i_c + group * g.i_cg, K + group * g.k_cg + m,
             O + ((n * g.o_h + o.y) * g.o_w + o.x) * g.k_c + group * g.k_cg + m, &o, blocking, g)


def run_pixel_gemm(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
    workspace, shape, int n_threads=1, *, blocking, Py_ssize_t block,
):
    """A product for every tap and output row, cut by ``blocking``; ``workspace`` is not used.

    ``block`` is the most pixels of a row that a thread takes at a time, ``blocking.output_rows`` the most rows.
    """
    cdef Geometry g = geometry(shape)
    cdef GemmBlocking blocks = blocking_of(blocking)
    cdef Py_ssize_t task, tasks
    check_stage(&g, n_threads, x.shape, kernel.shape, out.shape)
    check_block(block)
    if g.i_n == 0:
        return
    tasks = (g.groups * g.i_n * ceil_div(g.o_w, block) * ceil_div(g.o_h, blocks.output_rows)
             * ceil_div(g.k_cg, blocks.channels))
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    with nogil:
        for task in prange(tasks, num_threads=n_threads, schedule="static"):
            pixel_task(I, K, O, task, block, &blocks, &g)


# pointwise: one tap ------------------------------------------------------------------------------------


def run_pointwise(x, kernel, out, workspace, shape, n_threads=1, *, blocking, block):
    """:func:`run_pixel_gemm` with a 1×1 kernel; where possible all pixels are one row."""
    joined = all_in_one_row(shape) or shape
    run_pixel_gemm(x.reshape(joined.input_shape), kernel, out.reshape(joined.output_shape), workspace, joined,
                   n_threads, blocking=blocking, block=block)


@lru_cache(maxsize=256)  # to make a shape takes longer than a small convolution
def all_in_one_row(shape):
    """The same 1×1 convolution with all pixels in one row, or None if stride or padding don't allow it."""
    padded = shape.p_t or shape.p_b or shape.p_l or shape.p_r
    if shape.i_n == 0 or padded or shape.s_h > 1 or shape.s_w > 1 or shape.k_h > 1 or shape.k_w > 1:
        return None
    return replace(shape, i_n=1, i_h=1, i_w=shape.i_n * shape.i_h * shape.i_w)


# filter_row_gemm: a product for every kernel row and output column --------------------------------------


cdef void add_kernel_rows(
    const floating* I, const floating* K, floating* O, const ProductBlock* o, const GemmBlocking* blocking,
    const Geometry* g
) noexcept nogil:
    """The sum over all kernel rows for one block.  I, K and O as in :func:`add_taps`."""
    cdef Py_ssize_t a, x, top, left
    cdef Span rows              # the block's output rows that have kernel row a inside the image
    cdef Span taps              # the taps of a kernel row that column x has inside it
    cdef Span columns = inside(o.x * g.s_w - g.p_l + g.k_w - 1, g.s_w, g.i_w + g.k_w - 1, o.columns)  # with any
    for a in range(g.k_h):
        top = o.y * g.s_h - g.p_t + a * g.d_h
        rows = inside(top, g.s_h, g.i_h, o.rows)
        if a == 0:
            begin_block(O, rows, columns, o, g)
        for x in range(columns.first, columns.end):
            left = (o.x + x) * g.s_w - g.p_l
            taps = inside(left, 1, g.i_w, g.k_w)
            # O_x (rows × channels) += I_x (rows × taps·i_c/G, s_h image rows apart) · K[a] (taps·i_c/G × channels)
            blocked_gemm(
                blocking, rows.end - rows.first, o.channels, (taps.end - taps.first) * g.i_cg,
                I + ((top + rows.first * g.s_h) * g.i_w + left + taps.first) * g.i_c, g.s_h * g.i_w * g.i_c,
                K + (a * g.k_w + taps.first) * g.i_cg * g.k_c, g.k_c,
                a > 0, O + (rows.first * g.o_w + x) * g.k_c, g.o_w * g.k_c,
            )


cdef void filter_row_task(
    const floating* I, const floating* K, floating* O, Py_ssize_t task, Py_ssize_t block,
    const GemmBlocking* blocking, const Geometry* g
) noexcept nogil:
    """One task, counted through groups, images, blocks of rows, of columns and of output channels."""
    cdef ProductBlock o
    cdef Py_ssize_t m = innermost(&task, ceil_div(g.k_cg, blocking.channels)) * blocking.channels
    o.x = innermost(&task, ceil_div(g.o_w, blocking.output_rows)) * blocking.output_rows
    o.y = innermost(&task, ceil_div(g.o_h, block)) * block
    o.rows, o.columns = min(block, g.o_h - o.y), min(blocking.output_rows, g.o_w - o.x)
    o.channels = min(blocking.channels, g.k_cg - m)
    cdef Py_ssize_t n = innermost(&task, g.i_n)
    cdef Py_ssize_t group = task
    add_kernel_rows(I + n * g.i_h * g.i_w * g.i_c + group * g.i_cg, K + group * g.k_cg + m,
                    O + ((n * g.o_h + o.y) * g.o_w + o.x) * g.k_c + group * g.k_cg + m, &o, blocking, g)


def add_filter_rows(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
    workspace, shape, int n_threads=1, *, blocking, Py_ssize_t block,
):
    """A product for every kernel row and output column, cut by ``blocking``; ``workspace`` is not used.

    ``block`` is the most pixels of a column that a thread takes at a time, ``blocking.output_rows`` the most
    columns.
    """
    cdef Geometry g = geometry(shape)
    cdef GemmBlocking blocks = blocking_of(blocking)
    cdef Py_ssize_t task, tasks
    check_stage(&g, n_threads, x.shape, kernel.shape, out.shape)
    check_block(block)
    if g.k_w > 1 and (g.d_w > 1 or g.groups > 1):
        raise ValueError("the pixels under a kernel row must be adjacent: d_w = 1 and one group")
    if g.i_n == 0:
        return
    tasks = (g.groups * g.i_n * ceil_div(g.o_h, block) * ceil_div(g.o_w, blocks.output_rows)
             * ceil_div(g.k_cg, blocks.channels))
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    with nogil:
        for task in prange(tasks, num_threads=n_threads, schedule="static"):
            filter_row_task(I, K, O, task, block, &blocks, &g)


def run_filter_row_gemm(x, kernel, out, workspace, shape, n_threads=1, *, blocking, block):
    """:func:`add_filter_rows`; where possible the columns of all images are one."""
    joined = images_in_one(shape)
    add_filter_rows(x.reshape(joined.input_shape), kernel, out.reshape(joined.output_shape), workspace, joined,
                    n_threads, blocking=blocking, block=block)


@lru_cache(maxsize=256)
def images_in_one(shape):
    """The same convolution of one image as high as all, if the kernel is one row and allows it; else ``shape``."""
    if shape.i_n == 0 or shape.k_h > 1 or shape.s_h > 1 or shape.p_t or shape.p_b:
        return shape
    return replace(shape, i_n=1, i_h=shape.i_n * shape.i_h)
