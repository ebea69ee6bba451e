"""Depthwise convolution: every input channel by itself, with k_c/G kernels of its own.

    O[n,y,x,m] = sum over a < k_h, b < k_w of
                 I[n, y·s_h - p_t + a·d_h, x·s_w - p_l + b·d_w, m·G/k_c] · K[a,b,0,m]

A lowered matrix would turn this into products with a vector: all the copying for no product to gain from it.
The channels of a pixel lie side by side in I, K and O, so the compiler makes vectors of them instead; a block of
sums stays in registers while the taps go by.  Taps on padding are skipped, before the loop over channels; along
a row of 3×3 taps (:mod:`pymec.kernels.register_tiles.depthwise_rows`) kernel rows on padding are multiplied with
zeros.  Rows of pixels with fewer channels than a block are another matter: :mod:`pymec.kernels.direct.flat_rows`.

==========  =========================  =====================================
array       shape                      role
==========  =========================  =====================================
x           (i_n, i_h, i_w, G)         input I, i_c = G
kernel      (k_h, k_w, 1, k_c)         kernel K, k_c/G kernels per channel
out         (i_n, o_h, o_w, k_c)       output O
==========  =========================  =====================================

Workspace, in elements:  0

Any stride, padding and dilation, and any multiplier k_c/G.  Not if a group has more than one input channel.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.direct.flat_rows cimport convolve_rows, rows_pay
from pymec.kernels.register_tiles.depthwise_four cimport DepthwiseStrides, depthwise_four
from pymec.kernels.register_tiles.depthwise_rows cimport RowColumns, depthwise_row
from pymec.kernels.shared.bias_relu cimport BiasRelu, bias_relu_of
from pymec.kernels.shared.geometry cimport Geometry, PixelStrides, check_stage, find_pixels, geometry
from pymec.kernels.shared.interrupts cimport interrupted
from pymec.kernels.shared.per_cpu cimport compiled_per_cpu
from pymec.kernels.shared.spans cimport Span, ceil_div, innermost, inside, share_of, share_of_blocks

cdef enum:
    BLOCK = 32         # output channels summed at a time, at most
    BLOCK_BYTES = 128  # and their bytes: half of the registers of a CPU that has 16 of 128 bits

cdef double zeros[16]  # BLOCK_BYTES of them: in place of a bias, and of image rows on padding


cdef inline Py_ssize_t block_of(const floating* K) noexcept nogil:
    """Output channels in a block, a constant for each type: 32 float or 16 double."""
    return BLOCK_BYTES / sizeof(floating)


cdef struct Row:                # one output row of an image
    Py_ssize_t corner           # I[n, y·s_h - p_t, -p_l, 0], counted in elements; may be negative
    Py_ssize_t output           # O[n, y, 0, 0]
    Span a                      # the kernel rows that lie on the image


# One pixel: the definition ------------------------------------------------------------------------------


cdef inline void sum_block(
    const floating* I, const floating* K, floating* O, const floating* bias, bint relu, const Row* row,
    Py_ssize_t x, const Geometry* g
) noexcept nogil:
    """A whole block of channels of pixel x, one kernel for each: I, K, O and bias point at the block."""
    cdef floating total[BLOCK]
    cdef const floating* pixel
    cdef const floating* weights
    cdef Span columns = inside(x * g.s_w - g.p_l, g.d_w, g.i_w, g.k_w)
    cdef Py_ssize_t a, b, i
    for i in range(block_of(K)):
        total[i] = bias[i]
    for a in range(row.a.first, row.a.end):
        for b in range(columns.first, columns.end):
            pixel = I + row.corner + a * g.d_h * g.image.row + (x * g.s_w + b * g.d_w) * g.image.pixel
            weights = K + (a * g.k_w + b) * g.k_c
            for i in range(block_of(K)):
                total[i] += pixel[i] * weights[i]
    for i in range(block_of(K)):
        O[row.output + x * g.out.pixel + i] = 0 if relu and total[i] < 0 else total[i]


cdef inline void sum_some(
    const floating* I, const floating* K, floating* O, Py_ssize_t m0, Py_ssize_t width, const floating* bias,
    bint relu, const Row* row, Py_ssize_t x, const Geometry* g
) noexcept nogil:
    """The same for any multiplier and up to a block of channels, from m0 on; I, K and O point at channel 0."""
    cdef floating total[BLOCK]
    cdef Py_ssize_t channel[BLOCK]  # the input channel of each
    cdef const floating* pixel
    cdef const floating* weights
    cdef Span columns = inside(x * g.s_w - g.p_l, g.d_w, g.i_w, g.k_w)
    cdef Py_ssize_t a, b, i
    for i in range(width):
        total[i] = bias[i]
        channel[i] = (m0 + i) / g.k_cg
    for a in range(row.a.first, row.a.end):
        for b in range(columns.first, columns.end):
            pixel = I + row.corner + a * g.d_h * g.image.row + (x * g.s_w + b * g.d_w) * g.image.pixel
            weights = K + (a * g.k_w + b) * g.k_c + m0
            for i in range(width):
                total[i] += pixel[channel[i]] * weights[i]
    for i in range(width):
        O[row.output + x * g.out.pixel + m0 + i] = 0 if relu and total[i] < 0 else total[i]


# Several pixels of a block, where the CPU has registers for them ----------------------------------------


cdef bint sum_four(
    const floating* I, const floating* K, floating* O, const floating* bias, bint relu, const Row* row,
    Py_ssize_t x, const Geometry* g
) noexcept nogil:
    """Pixels x to x + 3, whose columns of taps all lie on the image; False if the CPU can't."""
    cdef Py_ssize_t size = sizeof(floating)
    cdef DepthwiseStrides s = DepthwiseStrides(
        g.s_w * g.image.pixel * size, g.d_h * g.image.row * size, g.d_w * g.image.pixel * size,
        g.k_w * g.k_c * size, g.k_c * size, g.out.pixel * size)
    I += row.corner + row.a.first * g.d_h * g.image.row + x * g.s_w * g.image.pixel
    return depthwise_four(I, &s, row.a.end - row.a.first, g.k_w, K + row.a.first * g.k_w * g.k_c,
                          O + row.output + x * g.out.pixel, bias, relu)


cdef bint sum_row(
    const floating* I, const floating* K, floating* O, const floating* bias, bint relu, const Row* row,
    const Geometry* g
) noexcept nogil:
    """A whole row of outputs with 3×3 taps; False if the CPU can't."""
    cdef Py_ssize_t size = sizeof(floating), a
    cdef RowColumns columns
    columns.first, columns.i_w = -g.p_l, g.i_w
    for a in range(3):
        if row.a.first <= a < row.a.end:
            columns.row[a] = <const char*> (I + row.corner + a * g.d_h * g.image.row + g.p_l * g.image.pixel)
            columns.step[a] = g.image.pixel * size
        else:
            columns.row[a], columns.step[a] = <const char*> zeros, 0
    return depthwise_row(&columns, g.s_w, K, g.k_c * size, O + row.output, g.out.pixel * size, g.o_w, bias, relu)


# Rows ---------------------------------------------------------------------------------------------------


cdef compiled_per_cpu convolve_row(
    const floating* I, const floating* K, floating* O, Py_ssize_t task, const BiasRelu* bias_relu,
    const Geometry* g
) noexcept nogil:
    """One block of channels of one output row."""
    cdef Py_ssize_t block = block_of(K), width = min(block, g.k_c), x = 0
    # The last block reaches back over the one before it, so that no number of channels leaves a rest.
    cdef Py_ssize_t m0 = min(innermost(&task, ceil_div(g.k_c, block)) * block, g.k_c - width)
    cdef Py_ssize_t y = innermost(&task, g.o_h), n = task
    cdef Py_ssize_t first, end
    cdef const floating* bias = <const floating*> zeros
    cdef bint relu = bias_relu.relu
    cdef Row row
    if bias_relu.bias != NULL:
        bias = <const floating*> bias_relu.bias + m0
    row.corner = n * g.image.image + (y * g.s_h - g.p_t) * g.image.row - g.p_l * g.image.pixel
    row.output = n * g.out.image + y * g.out.row
    row.a = inside(y * g.s_h - g.p_t, g.d_h, g.i_h, g.k_h)
    if g.k_cg > 1 or g.k_c < block:
        for x in range(g.o_w):
            sum_some(I, K, O, m0, width, bias, relu, &row, x, g)
        return
    I, K, O = I + m0, K + m0, O + m0
    if g.k_h == g.k_w == 3 and g.d_w == 1 and g.s_w <= 2 and sum_row(I, K, O, bias, relu, &row, g):
        return
    # Outputs first .. end have no tap left or right of the image.
    first = inside(-g.p_l, g.s_w, g.i_w, g.o_w).first
    end = inside((g.k_w - 1) * g.d_w - g.p_l, g.s_w, g.i_w, g.o_w).end
    while x < g.o_w:
        if first <= x and x + 4 <= end and sum_four(I, K, O, bias, relu, &row, x, g):
            x += 4
        else:
            sum_block(I, K, O, bias, relu, &row, x, g)
            x += 1


cdef void convolve_share(
    const floating* I, const floating* K, floating* O, Py_ssize_t share, Py_ssize_t shares,
    const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """One thread's share of the blocks, counted through images, rows and the blocks of a row."""
    cdef Span rows = share_of(g.i_n * g.o_h, share, shares)
    if g.k_cg == 1 and g.k_c < block_of(K) and rows_pay(sizeof(floating), g):
        convolve_rows(I, K, O, rows.first, rows.end, bias_relu, g)
        return
    cdef Span mine = share_of_blocks(g.i_n * g.o_h, g.k_c, block_of(K), share, shares)
    cdef Py_ssize_t task
    for task in range(mine.first, mine.end):
        if interrupted():
            return
        convolve_row(I, K, O, task, bias_relu, g)


def run(
    const floating[:, :, :, :] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, :] out,
    workspace, shape, int n_threads=1, const floating[::1] bias=None, bint relu=False,
):
    """Convolve channel by channel, blocks of channels of output rows shared among ``n_threads`` threads.

    ``workspace`` is not used.  Sums begin with the ``bias``; ReLU is applied as they are stored.  The pixels of
    ``x`` and ``out`` may lie some distance apart, as those of a slice do.
    """
    cdef Geometry g = geometry(shape)
    cdef PixelStrides image, to
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef Py_ssize_t share
    cdef const floating* K = &kernel[0, 0, 0, 0]
    check_stage(&g, n_threads, x.shape, kernel.shape, out.shape)
    find_pixels(&g, x.shape, x.strides, out.shape, out.strides, sizeof(floating))
    if g.i_w == g.k_w == g.o_w == 1:  # a column is a row whose pixels are as far apart as rows
        image, to = g.image, g.out
        g = geometry(shape.transposed())
        g.image = PixelStrides(image.image, image.image, image.row, 1)
        g.out = PixelStrides(to.image, to.image, to.row, 1)
    if g.i_cg != 1:
        raise ValueError(f"each group must have one input channel, got {g.i_cg}")
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    with nogil:
        for share in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
            convolve_share(I, K, O, share, n_threads, &bias_relu, &g)
