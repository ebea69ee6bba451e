"""YaConv: image rows meet kernel rows, and what has no place in the output is spilled (Korostelev, de Carvalho,
Moreira & Amaral, *YaConv: Convolution with Low Cache Footprint*, ACM TACO 20(1), 2023).

A few image rows at a time stay in a cache.  For one kernel row and one output column, the k_w·i_c numbers under
the kernel lie side by side in each of those rows, so the inner loop of a matrix product multiplies them all with
K[a] at once; the sums belong to as many output rows, each the image row less a.  Some of these rows don't exist:
at the upper and lower edge the sums are written all the same, into slack rows that nobody reads.

==========  ====================================  =========================================================
array       shape                                 role
==========  ====================================  =========================================================
x           (i_n, i_h, i_w, i_c)                  input I, six rows at a time
kernel      (k_h, k_w, i_c/G, k_c)                kernel K, read in blocks of 16 channels
spill       (above + below + extra, o_w, k_c)     sums of output rows -above .. -1 and of o_h .. o_h + below - 1,
                                                  and of image rows past the last one
out         (i_n, o_h, o_w, k_c)                  output O, added up over the kernel rows
==========  ====================================  =========================================================

Workspace, in elements:  (above + below + extra)·o_w·k_c, where above = e_h - 1 - p_t, below = e_h - 1 - p_b (none
where that is negative), extra = -i_h mod 6, and e_h = (k_h - 1)·d_h + 1 is k_h without dilation.

What differs from the paper.  The authors call the inner loop of a matrix product unchanged.  It wants both
operands packed, so n_r image rows are packed for the level-3 cache and K[a] for level 2; and it stores whole
tiles, so O is allocated with slack before and after.  The inner loop here takes pointers and reads image rows
and K where they are, so nothing is packed, and n_r is its 6; O is the caller's array, so the slack is a
workspace.  Taps on padding left and right are left out.  Threads share output columns and channels, so no two
add to the same sums.

Any padding, dilation and number of groups; stride 1 alone, as the output row is the image row less a.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.bias_relu cimport BiasRelu, apply_relu, bias_relu_of, write_bias_or_zeros
from pymec.kernels.shared.geometry cimport Geometry, check_operands, check_room, check_threads, geometry
from pymec.kernels.shared.microkernel cimport (
    CHANNELS, PIXELS, POINTERS, SUMS, TAPS, ChannelBlock, channel_block, channel_blocks, multiply_add,
)
from pymec.kernels.shared.patch cimport clip, zero

ROWS = PIXELS  # image rows at a time: the pixels of a tile are of one column and six rows


cdef inline Py_ssize_t rows_above(const Geometry* g) noexcept nogil:
    """Output rows before the first one that some image row and kernel row would have sums for."""
    return max(0, (g.k_h - 1) * g.d_h - g.p_t)


cdef inline Py_ssize_t rows_below(const Geometry* g) noexcept nogil:
    """And those past the last one."""
    return max(0, g.i_h + g.p_t - g.o_h)


cdef inline floating* row_of_sums(
    floating* O, floating* spill, Py_ssize_t n, Py_ssize_t h, Py_ssize_t a, const Geometry* g
) noexcept nogil:
    """Where image row h times kernel row a belongs: in O, or in the spill."""
    cdef Py_ssize_t row = g.o_w * g.k_c
    cdef Py_ssize_t y = h + g.p_t - a * g.d_h
    if h >= g.i_h:
        return spill + (rows_above(g) + rows_below(g) + h - g.i_h) * row
    if y < 0:
        return spill + (rows_above(g) + y) * row
    if y >= g.o_h:
        return spill + (rows_above(g) + y - g.o_h) * row
    return O + (n * g.o_h + y) * row


cdef inline Py_ssize_t last_image_row(Py_ssize_t y, const Geometry* g) noexcept nogil:
    """The last image row that output row y reads; where it reads none, the one nearest to it."""
    cdef Py_ssize_t top = y - g.p_t
    cdef Py_ssize_t a = clip((g.i_h - 1 - top) / g.d_h, 0, g.k_h - 1)
    return clip(top + a * g.d_h, 0, g.i_h - 1)


cdef inline void sum_pixels(
    const floating* I, const floating* K, Py_ssize_t n, Py_ssize_t h0, Py_ssize_t x, Py_ssize_t group,
    Py_ssize_t width, floating* sums, const Geometry* g
) noexcept nogil:
    """sums (6 × width) = I[n, h0:h0+6, x - p_l + b·d_w, c] · K[b, c] for all b and c; K points at a kernel row."""
    cdef const floating* pixel[POINTERS]
    cdef Py_ssize_t left = x - g.p_l
    # Taps before b and from b1 on lie on padding.
    cdef Py_ssize_t b = clip((g.d_w - 1 - left) / g.d_w if left < 0 else 0, 0, g.k_w)
    cdef Py_ssize_t b1 = clip((g.i_w - left + g.d_w - 1) / g.d_w if left < g.i_w else 0, b, g.k_w)
    # Without dilation and groups all taps are one run of numbers in the image row.
    cdef Py_ssize_t adjacent = b1 - b if g.d_w == 1 and g.groups == 1 else 1
    cdef Py_ssize_t h, p, t, taps
    zero(sums, SUMS)
    while b < b1:
        taps = min(TAPS, (b1 - b) / adjacent)
        for t in range(taps):
            for p in range(PIXELS):
                h = min(h0 + p, g.i_h - 1)  # past the image its last row again, for the spill
                pixel[t * PIXELS + p] = (
                    I + ((n * g.i_h + h) * g.i_w + left + (b + t) * g.d_w) * g.i_c + group * g.i_cg
                )
        multiply_add(pixel, taps, K + b * g.i_cg * g.k_c, g.k_c, adjacent * g.i_cg, width, sums)
        b += taps * adjacent


cdef void add_columns(
    const floating* I, const floating* K, floating* O, floating* spill, Py_ssize_t n, Py_ssize_t h0,
    Py_ssize_t blocks, Py_ssize_t x0, Py_ssize_t x1, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """Six image rows, output columns x0 .. x1, a block of output channels counted through all groups.

    Output rows that read none of the image rows to come end here.
    """
    cdef Py_ssize_t group = blocks / channel_blocks(g)
    cdef ChannelBlock block = channel_block(group, blocks - group * channel_blocks(g), g)
    cdef floating sums[SUMS]
    cdef floating* target
    cdef Py_ssize_t a, m, p, x, y
    for a in range(g.k_h):
        for x in range(x0, x1):
            sum_pixels(I, K + a * g.k_w * g.i_cg * g.k_c + block.start, n, h0, x, group, block.width, sums, g)
            for p in range(PIXELS):
                target = row_of_sums(O, spill, n, h0 + p, a, g) + x * g.k_c + block.start
                for m in range(block.skip, block.width):
                    target[m] += sums[p * CHANNELS + m]
    for y in range(g.o_h if bias_relu.relu else 0):
        if h0 <= last_image_row(y, g) < h0 + PIXELS:
            apply_relu(O + ((n * g.o_h + y) * g.o_w + x0) * g.k_c, x1 - x0, g.k_c,
                       block.start + block.skip, block.start + block.width, bias_relu)


cdef void add_share(
    const floating* I, const floating* K, floating* O, floating* spill, Py_ssize_t n, Py_ssize_t h0,
    Py_ssize_t share, Py_ssize_t shares, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """One thread's share of the output columns, counted through blocks of channels."""
    cdef Py_ssize_t columns = g.groups * channel_blocks(g) * g.o_w
    cdef Py_ssize_t first = share * columns / shares, end = (share + 1) * columns / shares
    cdef Py_ssize_t blocks, x0, x1
    while first < end:
        blocks = first / g.o_w
        x0 = first - blocks * g.o_w
        x1 = min(x0 + end - first, g.o_w)
        add_columns(I, K, O, spill, n, h0, blocks, x0, x1, bias_relu, g)
        first += x1 - x0


# What Python calls -------------------------------------------------------------------------------------

def spill_size(shape):
    """Elements of the slack rows."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t extra = (PIXELS - g.i_h % PIXELS) % PIXELS
    return (rows_above(&g) + rows_below(&g) + extra) * g.o_w * g.k_c


def begin(floating[:, :, :, ::1] out, floating[::1] spill, shape, int n_threads=1, const floating[::1] bias=None):
    """Stage 1: what sums begin with, the bias or zeros, in ``out``, and zeros in the spill."""
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = bias_relu_of(bias, False, &g)
    cdef Py_ssize_t row
    check_threads(n_threads)
    check_operands(&g, NULL, NULL, out.shape)
    check_room("spill", spill.shape[0], spill_size(shape))
    if g.i_n == 0:
        return
    cdef floating* O = &out[0, 0, 0, 0]
    if spill.shape[0]:
        zero(&spill[0], spill.shape[0])
    with nogil:
        for row in prange(g.i_n * g.o_h, num_threads=n_threads, schedule="static"):
            write_bias_or_zeros(O + row * g.o_w * g.k_c, g.o_w, g.k_c, 0, g.k_c, &bias_relu)


def add_rows(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
    floating[::1] spill, shape, Py_ssize_t n, Py_ssize_t h0, int n_threads=1, bint relu=False,
):
    """Stage 2: add what image rows h0 .. h0 + 6 of image n contribute, to ``out`` and to the spill.

    Parameters
    ----------
    x, kernel, out : arrays (i_n, i_h, i_w, i_c), (k_h, k_w, i_c/G, k_c) and (i_n, o_h, o_w, k_c)
        ``out`` holds sums so far, at first what :func:`begin` wrote.
    spill : array, one-dimensional, at least ``spill_size(shape)`` elements
    shape : pymec.ConvShape
    n, h0 : int
    n_threads : int
    relu : bool
        Whether what is below zero becomes zero in output rows that read none of the image rows to come.
    """
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = BiasRelu(NULL, relu)
    cdef Py_ssize_t share
    check_threads(n_threads)
    check_operands(&g, x.shape, kernel.shape, out.shape)
    check_room("spill", spill.shape[0], spill_size(shape))
    if g.s_h > 1 or g.s_w > 1:
        raise ValueError(f"the stride must be 1×1, got {g.s_h}×{g.s_w}")
    if not (0 <= n < g.i_n and 0 <= h0 < g.i_h and h0 % PIXELS == 0):
        raise ValueError(f"there are no {PIXELS} rows from {h0} on in image {n} of {shape}")
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    cdef floating* slack = &spill[0] if spill.shape[0] else NULL
    with nogil:
        for share in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
            add_share(I, K, O, slack, n, h0, share, n_threads, &bias_relu, &g)


def run(x, kernel, out, workspace, shape, n_threads=1, bias=None, relu=False):
    """Six image rows after the other; the spill takes what has no place in ``out``.  Sums begin with the bias."""
    begin(out, workspace, shape, n_threads, bias)
    for n in range(shape.i_n):
        for h0 in range(0, shape.i_h, ROWS):
            add_rows(x, kernel, out, workspace, shape, n, h0, n_threads, relu)
