"""YaConv: image rows meet kernel rows, and what has no place in the output is spilled (Korostelev, de Carvalho,
Moreira & Amaral, *YaConv: Convolution with Low Cache Footprint*, ACM TACO 20(1), 2023).

A few image rows at a time stay in a cache.  For one kernel row and one output column, the k_w·i_c numbers under
the kernel are adjacent in each of those rows, so the inner loop of a matrix product multiplies them all with K[a]
at once; the sums belong to as many output rows, each the image row less a.  At the upper and lower edge some of
these rows don't exist: their sums are written all the same, into slack rows that nobody reads.

==========  ====================================  =========================================================
array       shape                                 role
==========  ====================================  =========================================================
x           (i_n, i_h, i_w, i_c)                  input I, six rows at a time
kernel      (k_h, k_w, i_c/G, k_c)                kernel K, read in blocks of 16 channels
spill       (above + below + extra, o_w, k_c)     slack: sums of output rows -above .. -1, o_h .. o_h + below - 1
                                                  and of image rows past the last one
out         (i_n, o_h, o_w, k_c)                  output O, the sum over the kernel rows
==========  ====================================  =========================================================

Workspace, in elements:  (above + below + extra)·o_w·k_c, where above = e_h - 1 - p_t, below = e_h - 1 - p_b (none
where that is negative), extra = -i_h mod 6, and e_h = (k_h - 1)·d_h + 1 is k_h without dilation.

What differs from the paper.  The authors call the inner loop of a matrix product unchanged.  It wants both
operands packed, so n_r image rows are packed for the level-3 cache and K[a] for level 2; and it stores whole
tiles, so O is allocated with slack before and after.  The inner loop here takes pointers and reads image rows
and K where they are: nothing is packed, and n_r is its 6.  O is the caller's array, so the slack is a workspace.
Taps on padding left and right are left out.  Threads share output columns and channels, so no two add to the same
sums.

Any padding, dilation and number of groups; stride 1 alone, as the output row is the image row less a.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.geometry cimport Geometry, check_room, check_stage, geometry, sizes_of
from pymec.kernels.shared.interrupts cimport interrupted
from pymec.kernels.shared.microkernel cimport (
    CHANNELS, PIXELS, POINTERS, SUMS, TAPS, ChannelBlock, channel_block, channel_blocks, multiply_add,
)
from pymec.kernels.shared.patch cimport zero
from pymec.kernels.shared.spans cimport Span, inside, share_of

ROWS = PIXELS  # image rows at a time: the pixels of a tile are of one column and six rows


# The slack rows -----------------------------------------------------------------------------------------


cdef inline Py_ssize_t rows_above(const Geometry* g) noexcept nogil:
    """Slack rows above the output: those that only an image row and a later kernel row have sums for."""
    return max(0, (g.k_h - 1) * g.d_h - g.p_t)


cdef inline Py_ssize_t rows_below(const Geometry* g) noexcept nogil:
    """Slack rows below the output."""
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


def spill_size(shape):
    """Elements of the slack rows."""
    cdef Geometry g = sizes_of(shape)
    return (rows_above(&g) + rows_below(&g) + -shape.i_h % ROWS) * g.o_w * g.k_c


# Stage 1: zeros -----------------------------------------------------------------------------------------


cdef void zero_row(floating* O, Py_ssize_t row, const Geometry* g) noexcept nogil:
    """One output row of one image."""
    zero(O + row * g.o_w * g.k_c, g.o_w * g.k_c)


def begin(floating[:, :, :, ::1] out, floating[::1] spill, shape, int n_threads=1):
    """Stage 1: zeros in ``out`` and in the spill."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t row
    check_stage(&g, n_threads, NULL, NULL, out.shape)
    check_room("spill", spill.shape[0], spill_size(shape))
    if g.i_n == 0:
        return
    cdef floating* O = &out[0, 0, 0, 0]
    if spill.shape[0]:
        zero(&spill[0], spill.shape[0])
    with nogil:
        for row in prange(g.i_n * g.o_h, num_threads=n_threads, schedule="static"):
            zero_row(O, row, &g)


# Stage 2: six image rows times every kernel row ---------------------------------------------------------


cdef inline void sum_pixels(
    const floating* I, const floating* K, Py_ssize_t n, Py_ssize_t h0, Py_ssize_t x, Py_ssize_t group,
    Py_ssize_t width, floating* sums, const Geometry* g
) noexcept nogil:
    """sums (6 × width) = I[n, h0:h0+6, x - p_l + b·d_w, c] · K[b, c] for all b and c; K points at a kernel row."""
    cdef const floating* pixel[POINTERS]
    cdef Py_ssize_t left = x - g.p_l
    cdef Span inner = inside(left, g.d_w, g.i_w, g.k_w)  # the taps that are not on padding
    # Without dilation and groups these are adjacent in the image row: one long tap.
    cdef Py_ssize_t adjacent = inner.end - inner.first if g.d_w == 1 and g.groups == 1 else 1
    cdef Py_ssize_t b = inner.first
    cdef Py_ssize_t h, p, t, taps
    zero(sums, SUMS)
    while b < inner.end:
        taps = min(TAPS, (inner.end - b) / adjacent)
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
    Py_ssize_t blocks, Py_ssize_t x0, Py_ssize_t x1, const Geometry* g
) noexcept nogil:
    """Six image rows, output columns x0 .. x1, a block of output channels counted through all groups."""
    cdef Py_ssize_t group = blocks / channel_blocks(g)
    cdef ChannelBlock block = channel_block(group, blocks - group * channel_blocks(g), g)
    cdef floating sums[SUMS]
    cdef floating* target
    cdef Py_ssize_t a, m, p, x
    for a in range(g.k_h):
        for x in range(x0, x1):
            sum_pixels(I, K + a * g.k_w * g.i_cg * g.k_c + block.start, n, h0, x, group, block.width, sums, g)
            for p in range(PIXELS):
                # O[h0 + p + p_t - a·d_h, x, m] += Σ_bc I[h0 + p, x - p_l + b·d_w, c] · K[a, b, c, m]
                target = row_of_sums(O, spill, n, h0 + p, a, g) + x * g.k_c + block.start
                for m in range(block.skip, block.width):
                    target[m] += sums[p * CHANNELS + m]


cdef void add_share(
    const floating* I, const floating* K, floating* O, floating* spill, Py_ssize_t n, Py_ssize_t h0,
    Py_ssize_t share, Py_ssize_t shares, const Geometry* g
) noexcept nogil:
    """One thread's share of the output columns, counted through blocks of channels."""
    cdef Span columns = share_of(g.groups * channel_blocks(g) * g.o_w, share, shares)
    cdef Py_ssize_t blocks, x0, x1
    while columns.first < columns.end and not interrupted():
        blocks = columns.first / g.o_w
        x0 = columns.first - blocks * g.o_w
        x1 = min(x0 + columns.end - columns.first, g.o_w)
        add_columns(I, K, O, spill, n, h0, blocks, x0, x1, g)
        columns.first += x1 - x0


def add_rows(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
    floating[::1] spill, shape, Py_ssize_t n, Py_ssize_t h0, int n_threads=1,
):
    """Stage 2: add the products of image rows h0 .. h0 + 6 of image n to ``out`` and to the spill.

    Parameters
    ----------
    x, kernel, out : arrays (i_n, i_h, i_w, i_c), (k_h, k_w, i_c/G, k_c) and (i_n, o_h, o_w, k_c)
        ``out`` holds the sums so far, at first the zeros of :func:`begin`.
    spill : array, one-dimensional, at least ``spill_size(shape)`` elements
    shape : pymec.ConvShape
    n, h0 : int
    n_threads : int
    """
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t share
    check_stage(&g, n_threads, x.shape, kernel.shape, out.shape)
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
            add_share(I, K, O, slack, n, h0, share, n_threads, &g)


def run(x, kernel, out, workspace, shape, n_threads=1):
    """Six image rows at a time; the workspace is the spill."""
    begin(out, workspace, shape, n_threads)
    for n in range(shape.i_n):
        for h0 in range(0, shape.i_h, ROWS):
            add_rows(x, kernel, out, workspace, shape, n, h0, n_threads)
