"""Depthwise convolution: every input channel by itself, with k_c/G kernels of its own.

    O[n,y,x,m] = sum over a < k_h, b < k_w of
                 I[n, y·s_h - p_t + a·d_h, x·s_w - p_l + b·d_w, m·G/k_c] · K[a,b,0,m]

A lowered matrix would turn this into products with a vector: all the copying for no product to gain from it.
The channels of a pixel lie side by side in I, K and O, so the compiler makes vectors of them instead; a block of
sums stays in registers while the taps go by.  Taps on padding are skipped, before the loop over channels; along a
row of 3×3 taps (:mod:`pymec.kernels.register_tiles.depthwise_rows`) kernel rows on padding are multiplied with zeros.

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

from pymec.kernels.register_tiles.depthwise_four cimport DepthwiseStrides, depthwise_four
from pymec.kernels.register_tiles.depthwise_rows cimport RowColumns, depthwise_row
from pymec.kernels.shared.bias_relu cimport BiasRelu, bias_relu_of
from pymec.kernels.shared.geometry cimport Geometry, check_operands, check_threads, geometry
from pymec.kernels.shared.patch cimport clip, positions_up_to
from pymec.kernels.shared.per_cpu cimport compiled_per_cpu

cdef extern from *:
    """
    static const double pymec_line_of_zeros[16];  /* what C gives a static array to begin with */
    """
    const double zeros "pymec_line_of_zeros"[16]

cdef enum:
    BLOCK = 32        # output channels summed at a time, at most
    BLOCK_BYTES = 128  # and what they take: half of the registers of a CPU that has 16 of 128 bits


cdef inline Py_ssize_t block_of(const floating* K) noexcept nogil:
    """Output channels in a block, a constant for each type: 32 float or 16 double."""
    return BLOCK_BYTES / sizeof(floating)


cdef struct Window:               # the taps of one output pixel that lie on the image
    Py_ssize_t a0, a1, b0, b1
    Py_ssize_t corner             # I[n, h, w, 0] under tap (0, 0), counted in elements; may be negative


cdef inline const floating* bias_at(Py_ssize_t m, const BiasRelu* bias_relu, const floating* K) noexcept nogil:
    """What the sums of a block of channels begin with."""
    return <const floating*> zeros if bias_relu.bias == NULL else <const floating*> bias_relu.bias + m


cdef inline void sum_block(
    const floating* I, const floating* K, floating* O, const floating* bias, bint relu, const Window* w,
    const Geometry* g
) noexcept nogil:
    """A whole block of channels of one pixel, one kernel each: I, K, O and bias point at the block's first."""
    cdef floating total[BLOCK]
    cdef const floating* pixel
    cdef const floating* weights
    cdef Py_ssize_t a, b, i
    for i in range(block_of(K)):
        total[i] = bias[i]
    for a in range(w.a0, w.a1):
        for b in range(w.b0, w.b1):
            pixel = I + w.corner + (a * g.d_h * g.i_w + b * g.d_w) * g.i_c
            weights = K + (a * g.k_w + b) * g.k_c
            for i in range(block_of(K)):
                total[i] += pixel[i] * weights[i]
    for i in range(block_of(K)):
        O[i] = 0 if relu and total[i] < 0 else total[i]


cdef inline void sum_some(
    const floating* I, const floating* K, floating* O, Py_ssize_t m0, Py_ssize_t width, const floating* bias,
    bint relu, const Window* w, const Geometry* g
) noexcept nogil:
    """Up to a block of channels of one pixel, from m0 on, each from the input channel it belongs to."""
    cdef floating total[BLOCK]
    cdef Py_ssize_t channel[BLOCK]
    cdef const floating* pixel
    cdef const floating* weights
    cdef Py_ssize_t a, b, i
    for i in range(width):
        total[i] = bias[i]
        channel[i] = (m0 + i) / g.k_cg
    for a in range(w.a0, w.a1):
        for b in range(w.b0, w.b1):
            pixel = I + w.corner + (a * g.d_h * g.i_w + b * g.d_w) * g.i_c
            weights = K + (a * g.k_w + b) * g.k_c + m0
            for i in range(width):
                total[i] += pixel[channel[i]] * weights[i]
    for i in range(width):
        O[m0 + i] = 0 if relu and total[i] < 0 else total[i]


# Several pixels at a time, where the CPU has registers for them ------------------------------------------------


cdef bint sum_four(
    const floating* I, const floating* K, floating* O, const floating* bias, bint relu, const Window* w,
    const Geometry* g
) noexcept nogil:
    """A whole block of channels of four pixels whose taps lie on the image alike; False if the CPU can't."""
    cdef Py_ssize_t size = sizeof(floating)
    cdef DepthwiseStrides s = DepthwiseStrides(
        g.s_w * g.i_c * size, g.d_h * g.i_w * g.i_c * size, g.d_w * g.i_c * size, g.k_w * g.k_c * size,
        g.k_c * size, g.k_c * size)
    return depthwise_four(I + w.corner + w.a0 * g.d_h * g.i_w * g.i_c, &s, w.a1 - w.a0, g.k_w,
                          K + w.a0 * g.k_w * g.k_c, O, bias, relu)


cdef bint sum_row(
    const floating* I, const floating* K, floating* O, const floating* bias, bint relu, const Window* w,
    const Geometry* g
) noexcept nogil:
    """A whole block of channels of a row of outputs with 3×3 taps; False if the CPU can't."""
    cdef Py_ssize_t size = sizeof(floating), a
    cdef RowColumns columns
    columns.first, columns.i_w = -g.p_l, g.i_w
    for a in range(3):
        if w.a0 <= a < w.a1:
            columns.row[a] = <const char*> (I + w.corner + (a * g.d_h * g.i_w + g.p_l) * g.i_c)
            columns.step[a] = g.i_c * size
        else:
            columns.row[a], columns.step[a] = <const char*> zeros, 0
    return depthwise_row(&columns, g.s_w, K, g.k_c * size, O, g.k_c * size, g.o_w, bias, relu)


# Rows ---------------------------------------------------------------------------------------------------


cdef compiled_per_cpu convolve_row(
    const floating* I, const floating* K, floating* O, Py_ssize_t unit, Py_ssize_t blocks, const BiasRelu* bias_relu,
    const Geometry* g
) noexcept nogil:
    """One block of channels of one output row, counted through images, rows and blocks."""
    cdef Py_ssize_t block = block_of(K)
    # The last block reaches back over the one before it, so that no number of channels leaves a rest.  Where two
    # threads take these two blocks, both write the same numbers to some channels.
    cdef Py_ssize_t m0 = clip(unit % blocks * block, 0, max(g.k_c - block, 0))
    cdef Py_ssize_t y = unit / blocks % g.o_h
    cdef Py_ssize_t n = unit / blocks / g.o_h
    cdef Py_ssize_t top = y * g.s_h - g.p_t
    cdef Py_ssize_t x, left
    cdef floating* target
    cdef const floating* bias = bias_at(m0, bias_relu, K)
    cdef bint alike
    cdef Window w
    w.a0 = clip(positions_up_to(-top, g), 0, g.k_h)
    w.a1 = clip(positions_up_to(g.i_h - top, g), w.a0, g.k_h)
    x = 0
    if g.k_cg == 1 and g.k_c >= block and g.k_h == g.k_w == 3 and g.d_w == 1 and g.s_w <= 2:
        w.corner = ((n * g.i_h + top) * g.i_w - g.p_l) * g.i_c
        target = O + (n * g.o_h + y) * g.o_w * g.k_c
        if sum_row(I + m0, K + m0, target + m0, bias, bias_relu.relu, &w, g):
            return
    while x < g.o_w:
        left = x * g.s_w - g.p_l
        w.b0 = 0
        w.b1 = g.k_w
        while w.b0 < w.b1 and left + w.b0 * g.d_w < 0:
            w.b0 += 1
        while w.b0 < w.b1 and left + (w.b1 - 1) * g.d_w >= g.i_w:
            w.b1 -= 1
        w.corner = ((n * g.i_h + top) * g.i_w + left) * g.i_c
        target = O + ((n * g.o_h + y) * g.o_w + x) * g.k_c
        alike = left >= 0 and x + 4 <= g.o_w and left + 3 * g.s_w + (g.k_w - 1) * g.d_w < g.i_w
        if g.k_cg == 1 and g.k_c >= block and alike and sum_four(
                I + m0, K + m0, target + m0, bias, bias_relu.relu, &w, g):
            x += 3
        elif g.k_cg == 1 and g.k_c >= block:
            sum_block(I + m0, K + m0, target + m0, bias, bias_relu.relu, &w, g)
        else:
            sum_some(I, K, target, m0, min(block, g.k_c - m0), bias, bias_relu.relu, &w, g)
        x += 1


def run(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
    floating[::1] workspace, shape, int n_threads=1, const floating[::1] bias=None, bint relu=False,
):
    """Convolve channel by channel, blocks of channels of output rows shared among ``n_threads`` threads.

    ``workspace`` is not used.

    Parameters
    ----------
    bias : array (k_c,), optional
        What every sum begins with.
    relu : bool
        Whether what ends below zero becomes zero.
    """
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef Py_ssize_t unit, blocks
    check_threads(n_threads)
    check_operands(&g, x.shape, kernel.shape, out.shape)
    if g.i_cg != 1:
        raise ValueError(f"each group must have one input channel, got {g.i_cg}")
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    blocks = (g.k_c + block_of(K) - 1) / block_of(K)
    with nogil:
        for unit in prange(g.i_n * g.o_h * blocks, num_threads=n_threads, schedule="static"):
            convolve_row(I, K, O, unit, blocks, &bias_relu, &g)
