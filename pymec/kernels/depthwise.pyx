"""Depthwise convolution: every input channel by itself, with k_c/G kernels of its own.

    O[n,y,x,m] = sum over a < k_h, b < k_w of
                 I[n, y·s_h - p_t + a·d_h, x·s_w - p_l + b·d_w, m·G/k_c] · K[a,b,0,m]

A lowered matrix would turn this into products with a vector: all the copying for no product to gain from it.
The channels of a pixel lie side by side in I, K and O, so the compiler makes vectors of them instead; a block of
sums stays in registers while the taps go by.  Taps on padding are skipped, before the loop over channels.

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

from pymec.kernels._geometry cimport Geometry, check_operands, check_threads, geometry
from pymec.kernels._patch cimport clip, positions_up_to

cdef enum:
    BLOCK = 32        # output channels summed at a time, at most
    BLOCK_BYTES = 128  # and what they take: half of the registers of a CPU that has 16 of 128 bits


cdef inline Py_ssize_t block_of(const floating* K) noexcept nogil:
    """Output channels in a block, a constant for each type: 32 float or 16 double."""
    return BLOCK_BYTES / sizeof(floating)


cdef struct Window:               # the taps of one output pixel that lie on the image
    Py_ssize_t a0, a1, b0, b1
    Py_ssize_t corner             # I[n, h, w, 0] under tap (0, 0), counted in elements; may be negative


cdef inline void sum_block(
    const floating* I, const floating* K, floating* O, const Window* w, const Geometry* g
) noexcept nogil:
    """A whole block of channels of one pixel, one kernel each: I, K and O point at the block's first."""
    cdef floating total[BLOCK]
    cdef const floating* pixel
    cdef const floating* weights
    cdef Py_ssize_t a, b, i
    for i in range(block_of(K)):
        total[i] = 0
    for a in range(w.a0, w.a1):
        for b in range(w.b0, w.b1):
            pixel = I + w.corner + (a * g.d_h * g.i_w + b * g.d_w) * g.i_c
            weights = K + (a * g.k_w + b) * g.k_c
            for i in range(block_of(K)):
                total[i] += pixel[i] * weights[i]
    for i in range(block_of(K)):
        O[i] = total[i]


cdef inline void sum_some(
    const floating* I, const floating* K, floating* O, Py_ssize_t m0, Py_ssize_t width, const Window* w,
    const Geometry* g
) noexcept nogil:
    """Up to a block of channels of one pixel, from m0 on, each from the input channel it belongs to."""
    cdef floating total[BLOCK]
    cdef Py_ssize_t channel[BLOCK]
    cdef const floating* pixel
    cdef const floating* weights
    cdef Py_ssize_t a, b, i
    for i in range(width):
        total[i] = 0
        channel[i] = (m0 + i) / g.k_cg
    for a in range(w.a0, w.a1):
        for b in range(w.b0, w.b1):
            pixel = I + w.corner + (a * g.d_h * g.i_w + b * g.d_w) * g.i_c
            weights = K + (a * g.k_w + b) * g.k_c + m0
            for i in range(width):
                total[i] += pixel[channel[i]] * weights[i]
    for i in range(width):
        O[m0 + i] = total[i]


cdef void convolve_row(
    const floating* I, const floating* K, floating* O, Py_ssize_t unit, Py_ssize_t blocks, const Geometry* g
) noexcept nogil:
    """One block of channels of one output row, counted through images, rows and blocks."""
    cdef Py_ssize_t block = block_of(K)
    # The last block reaches back over the one before it, so that no number of channels leaves a rest.
    cdef Py_ssize_t m0 = clip(unit % blocks * block, 0, max(g.k_c - block, 0))
    cdef Py_ssize_t y = unit / blocks % g.o_h
    cdef Py_ssize_t n = unit / blocks / g.o_h
    cdef Py_ssize_t top = y * g.s_h - g.p_t
    cdef Py_ssize_t x, left
    cdef floating* target
    cdef Window w
    w.a0 = clip(positions_up_to(-top, g), 0, g.k_h)
    w.a1 = clip(positions_up_to(g.i_h - top, g), w.a0, g.k_h)
    for x in range(g.o_w):
        left = x * g.s_w - g.p_l
        w.b0 = 0
        w.b1 = g.k_w
        while w.b0 < w.b1 and left + w.b0 * g.d_w < 0:
            w.b0 += 1
        while w.b0 < w.b1 and left + (w.b1 - 1) * g.d_w >= g.i_w:
            w.b1 -= 1
        w.corner = ((n * g.i_h + top) * g.i_w + left) * g.i_c
        target = O + ((n * g.o_h + y) * g.o_w + x) * g.k_c
        if g.k_cg == 1 and g.k_c >= block:
            sum_block(I + m0, K + m0, target + m0, &w, g)
        else:
            sum_some(I, K, target, m0, min(block, g.k_c - m0), &w, g)


def run(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
    floating[::1] workspace, shape, int n_threads=1,
):
    """Convolve channel by channel, blocks of channels of output rows shared among ``n_threads`` threads.

    ``workspace`` is not used.
    """
    cdef Geometry g = geometry(shape)
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
            convolve_row(I, K, O, unit, blocks, &g)
