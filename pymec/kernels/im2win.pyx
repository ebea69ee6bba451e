"""im2win: MEC-w's lowered matrix, its windows multiplied directly (Lu, Chu & Liu, *Im2win: Memory Efficient
Convolution On SIMD Architectures*, 2022, arXiv:2306.14320).

The image is lowered vertically: for every output row, k_h image rows side by side, element by element.  The window
of an output pixel is then one contiguous run of k_w·k_h·i_c elements, and those of neighbouring columns
overlap.  No matrix product of a library follows, but loops over the windows themselves: here four windows at
a time by 64 output channels, the sums of both in a register tile.

==========  ==================================================  =============================================
array       shape                                               role
==========  ==================================================  =============================================
x           (i_n, i_h, i_w, i_c)                                input I, n-h-w-c
kernel      (k_h, k_w, i_c/G, k_c)                              kernel K
prepared    (k_w, k_h, i_c/G, k_c)                              K', K in the order of a window
L           (G, i_n, o_h, r_w, k_h, i_c/G)                      the windows, as in ``mec_w``
out         (i_n, o_h, o_w, k_c)                                output O, n-h-w-c
==========  ==================================================  =============================================

Workspace, in elements:  i_n·o_h·r_w·k_h·i_c + |K|,  |K| = k_h·k_w·i_c/G·k_c, kept by a plan: ``mec_w``'s, which
says where it is less.  r_w, the image columns that some output reads, is i_w in the paper.

The paper's code is n-c-h-w and takes dot products along a window; in n-h-w-c the output channels are adjacent, so
that vectors lie along them and nothing is summed across a vector.  The four windows are those of four
output rows at the same column: they lie a strip apart and touch the padding alike.

Any stride, padding, dilation and number of groups.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels._geometry cimport Geometry, check_operands, check_room, check_threads, geometry
from pymec.kernels._lowered_rows cimport Band, Partition, band_of_rows, partition
from pymec.kernels._patch cimport zero
from pymec.kernels._register_tile cimport TILE_COLUMNS, TILE_ROWS, multiply_tile

from pymec.kernels.mec_w import lower


cdef enum:
    DEPTH = 512  # rows of K' that go through all windows of a strip before the next: 128 KiB of 64 channels


cdef void multiply_strips(
    const floating* L, const floating* K, floating* O, Py_ssize_t rows, Py_ssize_t columns,
    const Band* band, const Geometry* g, const Geometry* t
) noexcept nogil:
    """All windows of up to four strips, ``columns`` output channels.

    L points at the first strip, K and O at the first channel; the band counts columns and belongs to t, the
    transposed geometry.
    """
    cdef Py_ssize_t chunk = g.k_h * g.i_cg
    cdef Py_ssize_t ldl = band.rows * chunk
    cdef Py_ssize_t ldo = g.o_w * g.k_c
    cdef Py_ssize_t q, lo, hi, x, row
    cdef Partition p
    q = 0
    while q < g.k_w * chunk:
        for x in range(g.o_w):
            p = partition(x, band, t)
            if p.a1 <= p.a0:  # the whole patch column lies on padding
                for row in range(rows):
                    zero(O + row * ldo + x * g.k_c, columns)
                continue
            lo, hi = max(q, p.a0 * chunk), min(q + DEPTH, p.a1 * chunk)
            if lo < hi:
                # O_x (4 × 64) = P_x (4 × k_w·k_h·i_c) · K' (k_w·k_h·i_c × 64), P_x = L from column x·s_w on;
                # in parts of the sum, which add up.
                multiply_tile(rows, columns, hi - lo, L + (p.start - p.a0) * chunk + lo, ldl,
                              K + lo * g.k_c, g.k_c, lo > p.a0 * chunk, O + x * g.k_c, ldo)
        q += DEPTH


cdef void multiply_unit(
    const floating* L, const floating* K, floating* O, Py_ssize_t unit, const Band* band,
    const Geometry* g, const Geometry* t
) noexcept nogil:
    """Four strips and 64 channels, counted through groups, strips and channels: a thread stays with its strips."""
    cdef Py_ssize_t strips = g.i_n * g.o_h
    cdef Py_ssize_t row_blocks = (strips + TILE_ROWS - 1) / TILE_ROWS
    cdef Py_ssize_t channel_blocks = (g.k_cg + TILE_COLUMNS - 1) / TILE_COLUMNS
    cdef Py_ssize_t group = unit / channel_blocks / row_blocks
    cdef Py_ssize_t row = unit / channel_blocks % row_blocks * TILE_ROWS
    cdef Py_ssize_t m = unit % channel_blocks * TILE_COLUMNS
    multiply_strips(L + (group * strips + row) * band.rows * g.k_h * g.i_cg, K + group * g.k_cg + m,
                    O + row * g.o_w * g.k_c + group * g.k_cg + m,
                    min(TILE_ROWS, strips - row), min(TILE_COLUMNS, g.k_cg - m), band, g, t)


def multiply(const floating[::1] L, const floating[::1] prepared, floating[:, :, :, ::1] out, shape,
             int n_threads=1):
    """Stage 2: every window times K'.

    Parameters
    ----------
    L, prepared : arrays, one-dimensional
        What :func:`pymec.kernels.mec_w.lower` and :func:`pymec.kernels.mec_w.prepare` wrote.
    out : array (i_n, o_h, o_w, k_c)
    shape : pymec.ConvShape
    n_threads : int
    """
    cdef Geometry g = geometry(shape)
    cdef Geometry t = geometry(shape.transposed())
    cdef Band band = band_of_rows(0, g.o_w, &t)
    cdef Py_ssize_t row_blocks = (g.i_n * g.o_h + TILE_ROWS - 1) / TILE_ROWS
    cdef Py_ssize_t channel_blocks = (g.k_cg + TILE_COLUMNS - 1) / TILE_COLUMNS
    cdef Py_ssize_t unit
    check_threads(n_threads)
    check_room("L", L.shape[0], shape.mec_w_size)
    check_room("prepared", prepared.shape[0], shape.kernel_size)
    check_operands(&g, NULL, NULL, out.shape)
    if g.i_n == 0:
        return
    cdef const floating* lowered = &L[0] if L.shape[0] else NULL
    cdef const floating* K = &prepared[0]
    cdef floating* O = &out[0, 0, 0, 0]
    with nogil:
        for unit in prange(g.groups * row_blocks * channel_blocks, num_threads=n_threads, schedule="static"):
            multiply_unit(lowered, K, O, unit, &band, &g, &t)


def run(x, kernel, out, workspace, shape, n_threads=1, prepared=None):
    """Lower as ``mec_w`` does, then multiply window by window; ``prepared`` holds K'."""
    if shape.permuted_kernel_size == 0:
        prepared = kernel.reshape(-1)
    if shape.is_row_of_taps:
        workspace = x.reshape(-1)
    else:
        lower(x, workspace, shape, n_threads)
    multiply(workspace, prepared, out, shape, n_threads)
