"""im2win: MEC-w's lowered matrix, its windows multiplied directly (Lu, Chu & Liu, *Im2win: Memory Efficient
Convolution On SIMD Architectures*, 2022, arXiv:2306.14320).

The image is lowered vertically: for every output row, k_h image rows side by side, element by element.  The window
of an output pixel is then one contiguous run of k_w·k_h·i_c elements, and those of neighbouring columns
overlap.  No matrix product of a library follows, but loops over the windows themselves: here six windows at
a time by 16 output channels, their sums in registers.

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
that vectors lie along them and nothing is summed across a vector.  The six windows are those of six
output rows at the same column: they lie a strip apart and touch the padding alike.

Any stride, padding, dilation and number of groups.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.bias_relu cimport BiasRelu, bias_relu_of
from pymec.kernels.shared.geometry cimport Geometry, check_operands, check_room, check_threads, geometry
from pymec.kernels.mec.lowered_rows cimport Band, Partition, band_of_rows, partition
from pymec.kernels.shared.microkernel cimport (
    CHANNELS, PIXELS, SUMS, ChannelBlock, begin_sums, channel_block, channel_blocks, end_sums, multiply_add, store,
)

from pymec.kernels.mec.transposed import lower


cdef void multiply_windows(
    const floating* L, const floating* K, floating* O, Py_ssize_t strips, Py_ssize_t x, const ChannelBlock* block,
    const Band* band, const BiasRelu* bias_relu, const Geometry* g, const Geometry* t
) noexcept nogil:
    """Output column x of up to six strips: O_x (6 × 16) = P_x (6 × k_w·k_h·i_c) · K' (k_w·k_h·i_c × 16).

    L points at the first strip, O at its output row; the band counts columns and belongs to t, the transposed
    geometry.
    """
    cdef Py_ssize_t chunk = g.k_h * g.i_cg  # of one image column
    cdef Partition p = partition(x, band, t)
    cdef const floating* window[PIXELS]
    cdef floating sums[SUMS]
    cdef Py_ssize_t i
    begin_sums(sums, block, bias_relu)
    if p.a0 < p.a1:  # otherwise the whole patch column lies on padding
        for i in range(PIXELS):
            window[i] = L + (min(i, strips - 1) * band.rows + p.start) * chunk
        multiply_add(window, 1, K + p.a0 * chunk * g.k_c + block.start, g.k_c, (p.a1 - p.a0) * chunk,
                     block.width, sums)
    end_sums(sums, bias_relu)
    for i in range(strips):
        store(sums + i * CHANNELS, O + (i * g.o_w + x) * g.k_c, 1, block, g)


cdef void multiply_unit(
    const floating* L, const floating* K, floating* O, Py_ssize_t unit, const Band* band, const BiasRelu* bias_relu,
    const Geometry* g, const Geometry* t
) noexcept nogil:
    """Six strips and 16 channels, counted through groups, strips and channels: a thread stays with its strips."""
    cdef Py_ssize_t strips = g.i_n * g.o_h
    cdef Py_ssize_t tiles = (strips + PIXELS - 1) / PIXELS
    cdef Py_ssize_t blocks = channel_blocks(g)
    cdef Py_ssize_t group = unit / blocks / tiles
    cdef Py_ssize_t first = unit / blocks % tiles * PIXELS
    cdef ChannelBlock block = channel_block(group, unit % blocks, g)
    cdef Py_ssize_t x
    L += (group * strips + first) * band.rows * g.k_h * g.i_cg
    for x in range(g.o_w):
        multiply_windows(L, K, O + first * g.o_w * g.k_c, min(PIXELS, strips - first), x, &block, band, bias_relu, g, t)


def multiply(const floating[::1] L, const floating[::1] prepared, floating[:, :, :, ::1] out, shape,
             int n_threads=1, const floating[::1] bias=None, bint relu=False):
    """Stage 2: every window times K'.

    Parameters
    ----------
    L, prepared : arrays, one-dimensional
        What :func:`pymec.kernels.mec.transposed.lower` and :func:`pymec.kernels.mec.transposed.prepare` wrote.
    out : array (i_n, o_h, o_w, k_c)
    shape : pymec.ConvShape
    n_threads : int
    bias : array (k_c,), optional
        What every sum begins with.
    relu : bool
        Whether what ends below zero becomes zero, in the write that stores it.
    """
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef Geometry t = geometry(shape.transposed())
    cdef Band band = band_of_rows(0, g.o_w, &t)
    cdef Py_ssize_t strips = g.i_n * g.o_h
    cdef Py_ssize_t units = g.groups * ((strips + PIXELS - 1) / PIXELS) * channel_blocks(&g)
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
        for unit in prange(units, num_threads=n_threads, schedule="static"):
            multiply_unit(lowered, K, O, unit, &band, &bias_relu, &g, &t)


def run(x, kernel, out, workspace, shape, n_threads=1, prepared=None, bias=None, relu=False):
    """Lower as ``mec_w`` does, then multiply by K', which ``prepared`` holds.  Sums begin with the bias."""
    if shape.permuted_kernel_size == 0:
        prepared = kernel.reshape(-1)
    if shape.is_row_of_taps:
        workspace = x.reshape(-1)
    else:
        lower(x, workspace, shape, n_threads)
    multiply(workspace, prepared, out, shape, n_threads, bias, relu)
