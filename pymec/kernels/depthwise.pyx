"""Depthwise convolution: every input channel by itself, with k_c/G kernels of its own.

    O[n,y,x,m] = sum over a < k_h, b < k_w of
                 I[n, y·s_h - p_t + a·d_h, x·s_w - p_l + b·d_w, m·G/k_c] · K[a,b,0,m]

A lowered matrix would turn this into products with a vector: all the copying for no product to gain from it.
The channels of a pixel lie side by side in I, K and O, so the compiler makes vectors of them instead; a block of
sums stays in registers while the taps go by.  Taps on padding are skipped, before the loop over channels; along a
row of 3×3 taps (:mod:`pymec.kernels._depthwise_rows`) kernel rows on padding are multiplied with zeros.

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

from pymec.kernels._depthwise_rows cimport Columns, depthwise_row
from pymec.kernels._geometry cimport Geometry, check_operands, check_threads, geometry
from pymec.kernels._patch cimport clip, positions_up_to
from pymec.kernels._registers cimport (
    PYMEC_HAS_NARROW, PYMEC_HAS_WIDE, compiled_narrow, compiled_per_cpu, compiled_wide, inlined, load_narrow,
    load_wide, narrow, narrow_doubles, narrow_floats, store_narrow, store_wide, wide, wide_doubles, wide_floats,
)

cdef extern from *:
    """
    static const char pymec_line_of_zeros[128];  /* what C gives a static array to begin with */
    """
    const char zeros "pymec_line_of_zeros"[128]

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


# Four pixels at a time, where the CPU has registers for them --------------------------------------------------


cdef struct Steps:                # bytes from one to the next
    Py_ssize_t pixel, row, tap    # under neighbouring outputs, kernel rows and taps, in I
    Py_ssize_t kernel_row, kernel_tap
    Py_ssize_t output


cdef inline inlined add_line_wide(
    wide* l, wide* r, const wide* line, Py_ssize_t step, const wide* left, const wide* right
) noexcept nogil:
    """Sums of two registers of channels: numbers of a pixel, some bytes further on, times those of K."""
    line = <const wide*> (<const char*> line + step)
    l[0] += line[0] * left[0]
    r[0] += line[1] * right[0]


cdef inline inlined add_line_narrow(
    narrow* l, narrow* r, const narrow* line, Py_ssize_t step, const narrow* left, const narrow* right
) noexcept nogil:
    """Sums of two registers of channels: numbers of a pixel, some bytes further on, times those of K."""
    line = <const narrow*> (<const char*> line + step)
    l[0] += line[0] * left[0]
    r[0] += line[1] * right[0]


cdef compiled_wide four_wide(
    const wide* pixel, const Steps* s, Py_ssize_t rows, Py_ssize_t taps, const wide* K, wide* O
) noexcept nogil:
    """Two registers of channels of four output pixels side by side: a line of K is loaded once for all of them."""
    cdef wide l0, l1, l2, l3, r0, r1, r2, r3, left, right
    cdef const wide* p
    cdef Py_ssize_t a, b
    load_wide(&l0, &r0, <const wide*> zeros, 0)
    load_wide(&l1, &r1, <const wide*> zeros, 0)
    load_wide(&l2, &r2, <const wide*> zeros, 0)
    load_wide(&l3, &r3, <const wide*> zeros, 0)
    for a in range(rows):
        for b in range(taps):
            load_wide(&left, &right, K, a * s.kernel_row + b * s.kernel_tap)
            p = <const wide*> (<const char*> pixel + a * s.row + b * s.tap)
            add_line_wide(&l0, &r0, p, 0 * s.pixel, &left, &right)
            add_line_wide(&l1, &r1, p, 1 * s.pixel, &left, &right)
            add_line_wide(&l2, &r2, p, 2 * s.pixel, &left, &right)
            add_line_wide(&l3, &r3, p, 3 * s.pixel, &left, &right)
    store_wide(O, 0 * s.output, &l0, &r0)
    store_wide(O, 1 * s.output, &l1, &r1)
    store_wide(O, 2 * s.output, &l2, &r2)
    store_wide(O, 3 * s.output, &l3, &r3)


cdef compiled_narrow four_narrow(
    const narrow* pixel, const Steps* s, Py_ssize_t rows, Py_ssize_t taps, const narrow* K, narrow* O
) noexcept nogil:
    """Two registers of channels of four output pixels side by side: a line of K is loaded once for all of them."""
    cdef narrow l0, l1, l2, l3, r0, r1, r2, r3, left, right
    cdef const narrow* p
    cdef Py_ssize_t a, b
    load_narrow(&l0, &r0, <const narrow*> zeros, 0)
    load_narrow(&l1, &r1, <const narrow*> zeros, 0)
    load_narrow(&l2, &r2, <const narrow*> zeros, 0)
    load_narrow(&l3, &r3, <const narrow*> zeros, 0)
    for a in range(rows):
        for b in range(taps):
            load_narrow(&left, &right, K, a * s.kernel_row + b * s.kernel_tap)
            p = <const narrow*> (<const char*> pixel + a * s.row + b * s.tap)
            add_line_narrow(&l0, &r0, p, 0 * s.pixel, &left, &right)
            add_line_narrow(&l1, &r1, p, 1 * s.pixel, &left, &right)
            add_line_narrow(&l2, &r2, p, 2 * s.pixel, &left, &right)
            add_line_narrow(&l3, &r3, p, 3 * s.pixel, &left, &right)
    store_narrow(O, 0 * s.output, &l0, &r0)
    store_narrow(O, 1 * s.output, &l1, &r1)
    store_narrow(O, 2 * s.output, &l2, &r2)
    store_narrow(O, 3 * s.output, &l3, &r3)


cdef bint sum_four(
    const floating* I, const floating* K, floating* O, const Window* w, const Geometry* g
) noexcept nogil:
    """A whole block of channels of four pixels whose taps lie on the image alike; False if the CPU can't."""
    cdef Py_ssize_t size = sizeof(floating), half
    cdef Steps s = Steps(g.s_w * g.i_c * size, g.d_h * g.i_w * g.i_c * size, g.d_w * g.i_c * size,
                         g.k_w * g.k_c * size, g.k_c * size, g.k_c * size)
    I += w.corner + w.a0 * g.d_h * g.i_w * g.i_c
    K += w.a0 * g.k_w * g.k_c
    if PYMEC_HAS_WIDE:
        if floating is float:
            four_wide(<const wide_floats*> I, &s, w.a1 - w.a0, g.k_w, <const wide_floats*> K, <wide_floats*> O)
        else:
            four_wide(<const wide_doubles*> I, &s, w.a1 - w.a0, g.k_w, <const wide_doubles*> K, <wide_doubles*> O)
    elif PYMEC_HAS_NARROW:
        for half in range(2):
            if floating is float:
                four_narrow(<const narrow_floats*> (I + half * 64 / size), &s, w.a1 - w.a0, g.k_w,
                            <const narrow_floats*> (K + half * 64 / size), <narrow_floats*> (O + half * 64 / size))
            else:
                four_narrow(<const narrow_doubles*> (I + half * 64 / size), &s, w.a1 - w.a0, g.k_w,
                            <const narrow_doubles*> (K + half * 64 / size),
                            <narrow_doubles*> (O + half * 64 / size))
    else:
        return False
    return True


# Rows ---------------------------------------------------------------------------------------------------


cdef bint sum_row(
    const floating* I, const floating* K, floating* O, const Window* w, const Geometry* g
) noexcept nogil:
    """A whole block of channels of a row of outputs with 3×3 taps; False if the CPU can't."""
    cdef Py_ssize_t size = sizeof(floating), a
    cdef Columns columns
    columns.first, columns.i_w = -g.p_l, g.i_w
    for a in range(3):
        if w.a0 <= a < w.a1:
            columns.row[a] = <const char*> (I + w.corner + (a * g.d_h * g.i_w + g.p_l) * g.i_c)
            columns.step[a] = g.i_c * size
        else:
            columns.row[a], columns.step[a] = zeros, 0
    return depthwise_row(&columns, g.s_w, K, g.k_c * size, O, g.k_c * size, g.o_w)


cdef compiled_per_cpu convolve_row(
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
    cdef bint alike
    cdef Window w
    w.a0 = clip(positions_up_to(-top, g), 0, g.k_h)
    w.a1 = clip(positions_up_to(g.i_h - top, g), w.a0, g.k_h)
    x = 0
    if g.k_cg == 1 and g.k_c >= block and g.k_h == g.k_w == 3 and g.d_w == 1 and g.s_w <= 2:
        w.corner = ((n * g.i_h + top) * g.i_w - g.p_l) * g.i_c
        target = O + (n * g.o_h + y) * g.o_w * g.k_c
        if sum_row(I + m0, K + m0, target + m0, &w, g):
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
        if g.k_cg == 1 and g.k_c >= block and alike and sum_four(I + m0, K + m0, target + m0, &w, g):
            x += 3
        elif g.k_cg == 1 and g.k_c >= block:
            sum_block(I + m0, K + m0, target + m0, &w, g)
        else:
            sum_some(I, K, target, m0, min(block, g.k_c - m0), &w, g)
        x += 1


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
