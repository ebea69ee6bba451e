"""im2win: ``mec_w``'s lowered matrix, its windows multiplied directly (Lu, Chu & Liu, *Im2win: Memory Efficient
Convolution On SIMD Architectures*, 2022, arXiv:2306.14320).

The image is lowered vertically: for every output row, k_h image rows side by side, element by element.  The window
of an output pixel is then one contiguous run of k_w·k_h·i_c elements, and those of neighbouring columns
overlap.  Instead of a library's matrix product, loops over the windows themselves follow: here six windows by 16
output channels at a time, their sums in registers.

==========  ==================================================  =============================================
array       shape                                               role
==========  ==================================================  =============================================
x           (i_n, i_h, i_w, i_c)                                input I, n-h-w-c
kernel      (k_h, k_w, i_c/G, k_c)                              kernel K
prepared    (k_w, k_h, i_c/G, k_c)                              K', K in the order of a window
L           (G, i_n, o_h, r_w, k_h, i_c/G)                      the windows, as in ``mec_w``
out         (i_n, o_h, o_w, k_c)                                output O, n-h-w-c
==========  ==================================================  =============================================

Workspace, in elements:  i_n·o_h·r_w·k_h·i_c + |K|,  |K| = k_h·k_w·i_c/G·k_c, kept by a plan; less where ``mec_w``
needs less.  r_w, the image columns that some output reads, is i_w in the paper.

The paper's code is n-c-h-w and takes dot products along a window.  In n-h-w-c the output channels are adjacent:
vectors lie along them, and nothing is summed across a vector.  The six windows are those of six output rows at the
same column: they lie a strip apart, and the same taps of them lie on padding.

Any stride, padding, dilation and number of groups.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.mec.lowered_rows cimport Band, Partition, band_of_rows, partition
from pymec.kernels.shared.bias_relu cimport BiasRelu, bias_relu_of
from pymec.kernels.shared.geometry cimport Geometry, check_room, check_stage, geometry
from pymec.kernels.shared.interrupts cimport interrupted
from pymec.kernels.shared.microkernel cimport (
    CHANNELS, PIXELS, SUMS, ChannelBlock, begin_sums, channel_block, channel_blocks, end_sums, multiply_add, store,
)
from pymec.kernels.shared.spans cimport ceil_div, innermost

from pymec.kernels.mec.transposed import lower


cdef void multiply_windows(
    const floating* L, const floating* K, floating* O, Py_ssize_t strips, Py_ssize_t x, const ChannelBlock* block,
    const Band* band, const BiasRelu* bias_relu, const Geometry* g, const Geometry* t
) noexcept nogil:
    """Output column x of up to six strips: O_x (6 × 16) = P_x (6 × k_w·k_h·i_c) · K' (k_w·k_h·i_c × 16).

    L points at the first strip, O at its output row.  The band's rows are image columns: it belongs to t, the
    transposed geometry.
    """
    cdef Py_ssize_t kernel_column = g.k_h * g.i_cg
    cdef Partition p = partition(x, band, t)
    cdef const floating* window[PIXELS]
    cdef floating sums[SUMS]
    cdef Py_ssize_t i
    begin_sums(sums, block, bias_relu)
    if p.a0 < p.a1:  # otherwise the whole patch column lies on padding
        for i in range(PIXELS):
            window[i] = L + (min(i, strips - 1) * band.rows + p.start) * kernel_column
        multiply_add(window, 1, K + p.a0 * kernel_column * g.k_c + block.start, g.k_c,
                     (p.a1 - p.a0) * kernel_column, block.width, sums)
    end_sums(sums, bias_relu)
    for i in range(strips):
        store(sums + i * CHANNELS, O + (i * g.o_w + x) * g.k_c, 1, block, g)


cdef void multiply_task(
    const floating* L, const floating* K, floating* O, Py_ssize_t task, const Band* band,
    const BiasRelu* bias_relu, const Geometry* g, const Geometry* t
) noexcept nogil:
    """Six strips by 16 channels, counted through groups, strips and channels: a thread stays with its strips."""
    cdef Py_ssize_t strips = g.i_n * g.o_h
    cdef Py_ssize_t block = innermost(&task, channel_blocks(g))
    cdef Py_ssize_t first = innermost(&task, ceil_div(strips, PIXELS)) * PIXELS
    cdef Py_ssize_t group = task
    cdef ChannelBlock channels = channel_block(group, block, g)
    cdef Py_ssize_t x
    if interrupted():
        return
    L += (group * strips + first) * band.rows * g.k_h * g.i_cg
    O += first * g.o_w * g.k_c
    for x in range(g.o_w):
        multiply_windows(L, K, O, min(PIXELS, strips - first), x, &channels, band, bias_relu, g, t)


def multiply(const floating[::1] L, const floating[::1] prepared, floating[:, :, :, ::1] out, shape,
             int n_threads=1, const floating[::1] bias=None, bint relu=False):
    """Every window times K': ``L`` and ``prepared`` are what ``transposed`` writes."""
    cdef Geometry g = geometry(shape)
    cdef Geometry t = geometry(shape.transposed())
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef Band band = band_of_rows(0, g.o_w, &t)
    cdef Py_ssize_t tasks = g.groups * ceil_div(g.i_n * g.o_h, PIXELS) * channel_blocks(&g), task
    check_stage(&g, n_threads, NULL, NULL, out.shape)
    check_room("L", L.shape[0], shape.mec_w_size)
    check_room("prepared", prepared.shape[0], shape.kernel_size)
    if g.i_n == 0:
        return
    cdef const floating* lowered = &L[0] if L.shape[0] else NULL
    cdef const floating* K = &prepared[0]
    cdef floating* O = &out[0, 0, 0, 0]
    with nogil:
        for task in prange(tasks, num_threads=n_threads, schedule="static"):
            multiply_task(lowered, K, O, task, &band, &bias_relu, &g, &t)


def run(x, kernel, out, workspace, shape, n_threads, prepared, bias=None, relu=False):
    """Lower as ``mec_w`` does, then multiply by K', which ``prepared`` holds where it is not K."""
    if shape.permuted_kernel_size == 0:
        prepared = kernel.reshape(-1)
    if shape.is_row_of_taps:  # I is its own lowered matrix
        workspace = x.reshape(-1)
    else:
        lower(x, workspace, shape, n_threads)
    multiply(workspace, prepared, out, shape, n_threads, bias, relu)
