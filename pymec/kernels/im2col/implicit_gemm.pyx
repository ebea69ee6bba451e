"""Implicit GEMM: im2col's matrix exists only in packed blocks, written where a GEMM packs anyway (after CONVGEMM:
San Juan, Castelló, Dolz, Alonso-Jordá & Quintana-Ortí, *High Performance and Portable Convolution Operators for
(ARM-based) Multicore Processors*, SBAC-PAD 2020, arXiv:2005.06410).

A fast matrix product copies blocks of both operands into buffers before it multiplies them.  Whoever owns that
copy can take the block from the image itself: row r of im2col's matrix is an output pixel (n, y, x), column q a
tap and channel (a, b, c).  So the lowered matrix costs no more than the buffers of the product; those are
counted here.

==========  ==============================  =================================================================
array       shape                           role
==========  ==============================  =================================================================
x           (i_n, i_h, i_w, i_c)            input I
kernel      (k_h, k_w, i_c/G, k_c)          kernel K; a matrix (k_h·k_w·i_c/G) × k_c
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

from pymec.kernels.shared.geometry cimport Geometry, check_room, check_stage, geometry
from pymec.kernels.shared.interrupts cimport interrupted
from pymec.kernels.shared.microkernel cimport CHANNELS, PIXELS, SUMS, ChannelBlock, load, multiply_add, store
from pymec.kernels.shared.patch cimport copy, zero
from pymec.kernels.shared.spans cimport Span, ceil_div, innermost, share_of


cdef struct Block:
    Py_ssize_t group
    Py_ssize_t q0, depth        # rows of K, columns of im2col's matrix
    Py_ssize_t a, b, c          # the tap and channel of column q0
    Py_ssize_t m0, columns      # output channels, counted within the group
    Py_ssize_t width            # columns of a panel of B


cdef Block block_at(Py_ssize_t group, Py_ssize_t q0, Py_ssize_t depth, Py_ssize_t m0, Py_ssize_t columns,
                    const Geometry* g) noexcept nogil:
    """The block that begins at row q0 and column m0 of a group's K, no larger than what K has there."""
    cdef Py_ssize_t tap = q0, c = innermost(&tap, g.i_cg), b = innermost(&tap, g.k_w), a = tap
    return Block(group, q0, min(depth, g.k_h * g.k_w * g.i_cg - q0), a, b, c, m0, min(columns, g.k_cg - m0),
                 min(columns, <Py_ssize_t> CHANNELS))


cdef Py_ssize_t packed_columns(const Block* block) noexcept nogil:
    """The columns of all panels of the block."""
    return ceil_div(block.columns, block.width) * block.width


cdef int check_block(group, q0, depth, m0, columns, const Geometry* g) except -1:
    """Refuse a block that does not begin within a group's K."""
    if not (0 <= group < g.groups and 0 <= q0 < g.k_h * g.k_w * g.i_cg and 0 <= m0 < g.k_cg):
        raise ValueError(f"a block can't begin at group {group}, row {q0} and column {m0} of K")
    if depth < 1 or columns < 1:
        raise ValueError(f"a block must have rows and columns, got {depth} × {columns}")
    return 0


# Stage 1: a block of K, in panels of the columns of one register tile -----------------------------------


cdef void pack_row(
    const floating* K, floating* B, Py_ssize_t q, const Block* block, const Geometry* g
) noexcept nogil:
    """Row q of the block into each panel; the last panel is filled up with zeros."""
    cdef const floating* row = K + (block.q0 + q) * g.k_c + block.group * g.k_cg + block.m0
    cdef Py_ssize_t m = 0, columns
    while m < block.columns:
        columns = min(block.width, block.columns - m)
        copy(B + m * block.depth + q * block.width, row + m, columns)
        zero(B + m * block.depth + q * block.width + columns, block.width - columns)
        m += block.width


def pack_kernel(const floating[:, :, :, ::1] kernel, floating[::1] B, shape, group, q0, depth, m0, columns,
                int n_threads=1):
    """Stage 1: copy ``depth`` rows from q0 on and ``columns`` from m0 on of a group's K into B, 1-d."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t q
    check_stage(&g, n_threads, NULL, kernel.shape, NULL)
    check_block(group, q0, depth, m0, columns, &g)
    cdef Block block = block_at(group, q0, depth, m0, columns, &g)
    check_room("B", B.shape[0], block.depth * packed_columns(&block))
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* packed = &B[0]
    with nogil:
        for q in prange(block.depth, num_threads=n_threads, schedule="static"):
            pack_row(K, packed, q, &block, &g)


# Stage 2: a block of im2col's matrix, out of the image --------------------------------------------------


cdef void pack_pixel(
    const floating* I, floating* row, Py_ssize_t n, Py_ssize_t y, Py_ssize_t x, const Block* block,
    const Geometry* g
) noexcept nogil:
    """row[q - q0] = I[n, y·s_h - p_t + a·d_h, x·s_w - p_l + b·d_w, c], or 0 on padding; q counts (a, b, c)."""
    cdef Py_ssize_t a = block.a, b = block.b, c = block.c, left = block.depth
    cdef bint adjacent = g.d_w == 1 and g.groups == 1  # taps of a kernel row are adjacent in the image
    cdef Py_ssize_t h, w, taps, run
    while left > 0:
        h = y * g.s_h - g.p_t + a * g.d_h
        w = x * g.s_w - g.p_l + b * g.d_w
        taps = g.k_w - b if adjacent and 0 <= w <= g.i_w - (g.k_w - b) else 1
        run = min(taps * g.i_cg - c, left)
        if 0 <= h < g.i_h and 0 <= w < g.i_w:
            copy(row, I + ((n * g.i_h + h) * g.i_w + w) * g.i_c + block.group * g.i_cg + c, run)
        else:
            zero(row, run)
        row += run
        left -= run
        c = 0
        b += taps
        if b == g.k_w:
            b = 0
            a += 1


cdef void pack_pixels(
    const floating* I, floating* A, Py_ssize_t first, Py_ssize_t end, const Block* block, const Geometry* g
) noexcept nogil:
    """Rows first .. end of im2col's matrix, the block's columns of them."""
    cdef Py_ssize_t rest = first, x = innermost(&rest, g.o_w), y = innermost(&rest, g.o_h), n = rest, row
    for row in range(end - first):
        pack_pixel(I, A + row * block.depth, n, y, x, block, g)
        x += 1  # the next pixel, without a division
        if x == g.o_w:
            x = 0
            y += 1
            if y == g.o_h:
                y = 0
                n += 1


def pack_patches(const floating[:, :, :, ::1] x, floating[::1] A, shape, first, end, group, q0, depth):
    """Stage 2: rows first .. end of a group's im2col matrix, ``depth`` columns from q0 on, into A, row by row."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t r0 = first, r1 = end
    check_stage(&g, 1, x.shape, NULL, NULL)
    check_block(group, q0, depth, 0, 1, &g)
    cdef Block block = block_at(group, q0, depth, 0, 1, &g)
    if not 0 <= r0 <= r1 <= g.i_n * g.o_h * g.o_w:
        raise ValueError(f"rows {first} to {end} are not among the {g.i_n * g.o_h * g.o_w} output pixels")
    check_room("A", A.shape[0], (r1 - r0) * block.depth)
    if r0 == r1:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef floating* packed = &A[0]
    with nogil:
        pack_pixels(I, packed, r0, r1, &block, &g)


# Stage 3: the product of the packed blocks --------------------------------------------------------------


cdef void multiply_tile(
    const floating* A, const floating* B, floating* O, Py_ssize_t pixels, const Block* block,
    const ChannelBlock* panel, const Geometry* g
) noexcept nogil:
    """Up to six pixels by a panel; A and O point at the first pixel.  Later parts of a sum go on from O."""
    cdef const floating* row[PIXELS]
    cdef floating sums[SUMS]
    cdef Py_ssize_t p
    for p in range(PIXELS):  # past the last pixel, that one again
        row[p] = A + min(p, pixels - 1) * block.depth
    zero(sums, SUMS)
    if block.q0 > 0:
        load(sums, O, pixels, panel, g)
    # sums (6 × 16) += A (6 × d_c) · panel of B (d_c × 16)
    multiply_add(row, 1, B, block.width, block.depth, block.width, sums)
    store(sums, O, pixels, panel, g)


cdef void multiply_packed(
    const floating* A, const floating* B, floating* O, Py_ssize_t pixels, const Block* block, const Geometry* g
) noexcept nogil:
    """O (m_c × n_c) = or += A (m_c × d_c) · B (d_c × n_c), panel by panel; O points at the first pixel."""
    cdef ChannelBlock panel
    cdef Py_ssize_t m = 0, first
    while m < block.columns:
        panel = ChannelBlock(block.group * g.k_cg + block.m0 + m, min(block.width, block.columns - m), 0)
        first = 0
        while first < pixels:
            multiply_tile(A + first * block.depth, B + m * block.depth, O + first * g.k_c,
                          min(PIXELS, pixels - first), block, &panel, g)
            first += PIXELS
        m += block.width


cdef void convolve_share(
    const floating* I, floating* A, const floating* B, floating* O, Py_ssize_t share, Py_ssize_t shares,
    Py_ssize_t rows, const Block* block, const Geometry* g
) noexcept nogil:
    """One thread's share of the pixels, m_c at a time through its own slice A."""
    cdef Span pixels = share_of(g.i_n * g.o_h * g.o_w, share, shares)
    cdef Py_ssize_t first = pixels.first, end
    while first < pixels.end and not interrupted():
        end = min(first + rows, pixels.end)
        pack_pixels(I, A, first, end, block, g)
        multiply_packed(A, B, O + first * g.k_c, end - first, block, g)
        first = end


def run(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
    floating[::1] workspace, shape, int n_threads, Py_ssize_t rows, Py_ssize_t depth, Py_ssize_t columns,
    Py_ssize_t slices,
):
    """The product in blocks: ``columns`` (n_c) by ``depth`` (d_c) of K, then ``rows`` (m_c) pixels at a time."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t group, m0, q0, q, share
    cdef Block block
    check_stage(&g, n_threads, x.shape, kernel.shape, out.shape)
    if rows < 1 or not 1 <= slices <= 64:
        raise ValueError(f"rows must be positive and slices from 1 to 64, got {rows} and {slices}")
    check_block(0, 0, depth, 0, columns, &g)
    if columns > CHANNELS and columns % CHANNELS:
        raise ValueError(f"columns must be a multiple of {CHANNELS}, or less, got {columns}")
    block = block_at(0, 0, depth, 0, columns, &g)
    depth, columns = block.depth, packed_columns(&block)
    rows = max(1, min(rows, g.i_n * g.o_h * g.o_w))
    check_room("workspace", workspace.shape[0], depth * columns + slices * rows * depth)
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    cdef floating* B = &workspace[0]
    cdef floating* A = B + depth * columns
    with nogil:
        for group in range(g.groups):
            m0 = 0
            while m0 < g.k_cg:
                q0 = 0
                while q0 < g.k_h * g.k_w * g.i_cg:
                    block = block_at(group, q0, depth, m0, columns, &g)
                    for q in prange(block.depth, num_threads=slices, schedule="static"):
                        pack_row(K, B, q, &block, &g)
                    for share in prange(slices, num_threads=slices, schedule="static", chunksize=1):
                        convolve_share(I, A + share * rows * depth, B, O, share, slices, rows, &block, &g)
                    q0 += depth
                m0 += columns
