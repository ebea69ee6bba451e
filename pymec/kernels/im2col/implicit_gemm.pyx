"""Implicit GEMM: im2col's matrix exists only in packed blocks, written where a GEMM packs anyway (after CONVGEMM:
San Juan, Castelló, Dolz, Alonso-Jordá & Quintana-Ortí, *High Performance and Portable Convolution Operators for
(ARM-based) Multicore Processors*, SBAC-PAD 2020, arXiv:2005.06410).

A fast matrix product copies blocks of both operands into buffers before it multiplies them.  Whoever owns that
copy can take the block from the image itself: row r of im2col's matrix is an output pixel (n, y, x), column q a
tap and channel (a, b, c), and both are counted on, not divided out, from one element to the next.  So the lowered
matrix costs no more than the buffers of the product; those are counted here.

==========  ==============================  =================================================================
array       shape                           role
==========  ==============================  =================================================================
x           (i_n, i_h, i_w, i_c)            input I
kernel      (k_h, k_w, i_c/G, k_c)          kernel K; a matrix (k_h·k_w·i_c) × k_c
B           (n_c/16, d_c, 16)               d_c rows and n_c columns of K in panels; all threads read it
A           (slices, m_c, d_c)              for each thread m_c pixels by d_c columns of im2col's matrix
out         (i_n, o_h, o_w, k_c)            output O
==========  ==============================  =================================================================

Workspace, in elements:  d_c·n_c + slices·m_c·d_c, slices <= n_threads  (d_c is the k_c of GEMM's authors, a
name that the output channels have here)

n_c is a multiple of 16, the last panel filled up with zeros; or less than 16, where a limit is that tight.

Any stride, padding, dilation and number of groups.  The product is our own, of register tiles of 6 pixels by 16
channels, and as fast as the vectors that the compiler makes of it: a BLAS written for the CPU is faster.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.bias_relu cimport BiasRelu, bias_relu_of
from pymec.kernels.shared.geometry cimport Geometry, check_operands, check_room, check_threads, geometry
from pymec.kernels.shared.microkernel cimport (
    CHANNELS, PIXELS, SUMS, ChannelBlock, begin_sums, end_sums, load, multiply_add, store,
)
from pymec.kernels.shared.patch cimport copy, zero


cdef struct Block:
    Py_ssize_t group
    Py_ssize_t q0, depth        # columns of im2col's matrix, rows of K
    Py_ssize_t m0, columns      # output channels, counted within the group
    Py_ssize_t width            # columns of a panel of B


# Stage 1: a block of K, in panels of the columns of one register tile ----------------------------------------


cdef void pack_row(
    const floating* K, floating* B, Py_ssize_t q, const Block* block, const Geometry* g
) noexcept nogil:
    """Row q of the block into each panel, and zeros into what the last panel has too much."""
    cdef const floating* row = K + (block.q0 + q) * g.k_c + block.group * g.k_cg + block.m0
    cdef Py_ssize_t m = 0, columns
    while m < block.columns:
        columns = min(block.width, block.columns - m)
        copy(B + m * block.depth + q * block.width, row + m, columns)
        zero(B + m * block.depth + q * block.width + columns, block.width - columns)
        m += block.width


# Stage 2: a block of im2col's matrix, out of the image -------------------------------------------------------


cdef void pack_pixels(
    const floating* I, floating* A, Py_ssize_t first, Py_ssize_t end, const Block* block, const Geometry* g
) noexcept nogil:
    """A[r - first, q - q0] = I[n, y·s_h + a·d_h - p_t, x·s_w + b·d_w - p_l, c], or 0 outside the image."""
    # The only divisions: where the first row and the first column are.
    cdef Py_ssize_t x = first % g.o_w
    cdef Py_ssize_t y = first / g.o_w % g.o_h
    cdef Py_ssize_t n = first / g.o_w / g.o_h
    cdef Py_ssize_t a0 = block.q0 / g.i_cg / g.k_w
    cdef Py_ssize_t b0 = block.q0 / g.i_cg % g.k_w
    cdef Py_ssize_t c0 = block.q0 % g.i_cg
    cdef bint adjacent = g.d_w == 1 and g.groups == 1  # taps of a kernel row are adjacent in the image
    cdef Py_ssize_t _pixel, a, b, c, h, w, left, taps, run
    for _pixel in range(first, end):
        a, b, c, left = a0, b0, c0, block.depth
        while left > 0:
            h = y * g.s_h - g.p_t + a * g.d_h
            w = x * g.s_w - g.p_l + b * g.d_w
            taps = g.k_w - b if adjacent and 0 <= w <= g.i_w - (g.k_w - b) else 1
            run = min(taps * g.i_cg - c, left)
            if 0 <= h < g.i_h and 0 <= w < g.i_w:
                copy(A, I + ((n * g.i_h + h) * g.i_w + w) * g.i_c + block.group * g.i_cg + c, run)
            else:
                zero(A, run)
            A += run
            left -= run
            c = 0
            b += taps
            if b == g.k_w:
                b = 0
                a += 1
        x += 1
        if x == g.o_w:
            x = 0
            y += 1
            if y == g.o_h:
                y = 0
                n += 1


# Stage 3: the product of the packed blocks -------------------------------------------------------------------


cdef void multiply_packed(
    const floating* A, const floating* B, floating* O, Py_ssize_t pixels, const Block* block, const BiasRelu* bias_relu,
    const Geometry* g
) noexcept nogil:
    """O (m_c × n_c) = or += A (m_c × d_c) · B (d_c × n_c), panel by panel; O points at the first pixel.

    The first part of a sum begins with the bias, the last one ends with ReLU.
    """
    cdef bint last = block.q0 + block.depth == g.k_h * g.k_w * g.i_cg
    cdef const floating* row[PIXELS]
    cdef floating sums[SUMS]
    cdef ChannelBlock panel
    cdef Py_ssize_t m = 0, first, i
    while m < block.columns:
        panel = ChannelBlock(block.group * g.k_cg + block.m0 + m, min(block.width, block.columns - m), 0)
        first = 0
        while first < pixels:
            for i in range(PIXELS):
                row[i] = A + min(first + i, pixels - 1) * block.depth
            if block.q0 == 0:
                begin_sums(sums, &panel, bias_relu)
            else:
                zero(sums, SUMS)
                load(sums, O + first * g.k_c, min(PIXELS, pixels - first), &panel, g)
            multiply_add(row, 1, B + m * block.depth, block.width, block.depth, block.width, sums)
            if last:
                end_sums(sums, bias_relu)
            store(sums, O + first * g.k_c, min(PIXELS, pixels - first), &panel, g)
            first += PIXELS
        m += block.width


cdef void convolve_share(
    const floating* I, floating* A, const floating* B, floating* O, Py_ssize_t share, Py_ssize_t shares,
    Py_ssize_t rows, const Block* block, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """One thread's share of the pixels, m_c at a time through its own slice A."""
    cdef Py_ssize_t pixels = g.i_n * g.o_h * g.o_w
    cdef Py_ssize_t first = share * pixels / shares, end = (share + 1) * pixels / shares
    cdef Py_ssize_t last
    while first < end:
        last = min(first + rows, end)
        pack_pixels(I, A, first, last, block, g)
        multiply_packed(A, B, O + first * g.k_c, last - first, block, bias_relu, g)
        first = last


# What Python calls -------------------------------------------------------------------------------------------


cdef Block block_of(Py_ssize_t group, Py_ssize_t q0, Py_ssize_t depth, Py_ssize_t m0, Py_ssize_t columns,
                    const Geometry* g) noexcept nogil:
    """The block that begins at row q0 and column m0 of a group's K, cut where K bias_relu."""
    return Block(group, q0, min(depth, g.k_h * g.k_w * g.i_cg - q0), m0, min(columns, g.k_cg - m0),
                 min(columns, <Py_ssize_t> CHANNELS))


cdef Py_ssize_t packed_columns(const Block* block) noexcept nogil:
    """The columns that the block's panels have together."""
    return (block.columns + block.width - 1) / block.width * block.width


def pack_kernel(const floating[:, :, :, ::1] kernel, floating[::1] B, shape, group=0, q0=0, depth=256, m0=0,
                columns=512, int n_threads=1):
    """Stage 1: copy a block of a group's K into panels of 16 columns; B is one-dimensional."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t q
    check_threads(n_threads)
    check_operands(&g, NULL, kernel.shape, NULL)
    check_block(group, q0, depth, m0, columns, &g)
    cdef Block block = block_of(group, q0, depth, m0, columns, &g)
    check_room("B", B.shape[0], block.depth * packed_columns(&block))
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* to = &B[0]
    with nogil:
        for q in prange(block.depth, num_threads=n_threads, schedule="static"):
            pack_row(K, to, q, &block, &g)


def pack_patches(const floating[:, :, :, ::1] x, floating[::1] A, shape, first, end, group=0, q0=0, depth=256):
    """Stage 2: rows first .. end of a group's im2col matrix, ``depth`` columns from q0 on, into A, row by row."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t r0 = first, r1 = end
    check_operands(&g, x.shape, NULL, NULL)
    check_block(group, q0, depth, 0, 1, &g)
    cdef Block block = block_of(group, q0, depth, 0, 1, &g)
    if not 0 <= r0 <= r1 <= g.i_n * g.o_h * g.o_w:
        raise ValueError(f"rows {first} to {end} are not among the {g.i_n * g.o_h * g.o_w} output pixels")
    check_room("A", A.shape[0], (r1 - r0) * block.depth)
    if r0 == r1:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef floating* to = &A[0]
    with nogil:
        pack_pixels(I, to, r0, r1, &block, &g)


cdef int check_block(group, q0, depth, m0, columns, const Geometry* g) except -1:
    """Refuse a block that does not begin within a group's K."""
    if not (0 <= group < g.groups and 0 <= q0 < g.k_h * g.k_w * g.i_cg and 0 <= m0 < g.k_cg):
        raise ValueError(f"a block can't begin at group {group}, row {q0} and column {m0} of K")
    if depth < 1 or columns < 1:
        raise ValueError(f"a block must have rows and columns, got {depth} × {columns}")
    return 0


def run(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
    floating[::1] workspace, shape, int n_threads=1, Py_ssize_t rows=64, Py_ssize_t depth=256,
    Py_ssize_t columns=512, Py_ssize_t slices=1, const floating[::1] bias=None, bint relu=False,
):
    """The product in blocks: ``columns`` (n_c) by ``depth`` (d_c) of K, then ``rows`` (m_c) pixels at a time.

    Sums begin with the ``bias``, if there is one.
    """
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef Py_ssize_t patch = g.k_h * g.k_w * g.i_cg
    cdef Py_ssize_t group, part, q, share, parts, bands
    cdef Block block
    check_threads(n_threads)
    check_operands(&g, x.shape, kernel.shape, out.shape)
    if rows < 1 or not 1 <= slices <= 64:
        raise ValueError(f"rows must be positive and slices from 1 to 64, got {rows} and {slices}")
    check_block(0, 0, depth, 0, columns, &g)
    if columns > CHANNELS and columns % CHANNELS:
        raise ValueError(f"columns must be a multiple of {CHANNELS}, or less, got {columns}")
    block = block_of(0, 0, depth, 0, columns, &g)
    depth, columns = block.depth, packed_columns(&block)
    rows = max(1, min(rows, g.i_n * g.o_h * g.o_w))
    check_room("workspace", workspace.shape[0], depth * columns + slices * rows * depth)
    if g.i_n == 0:
        return
    parts = (patch + depth - 1) / depth
    bands = (g.k_cg + columns - 1) / columns
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    cdef floating* B = &workspace[0]
    cdef floating* A = B + depth * columns
    with nogil:
        for group in range(g.groups):
            for part in range(parts * bands):  # the parts of the sum count fastest: O's columns stay the same
                block = block_of(group, part % parts * depth, depth, part / parts * columns, columns, &g)
                for q in prange(block.depth, num_threads=slices, schedule="static"):
                    pack_row(K, B, q, &block, &g)
                for share in prange(slices, num_threads=slices, schedule="static", chunksize=1):
                    convolve_share(I, A + share * rows * depth, B, O, share, slices, rows, &block, &bias_relu, &g)
