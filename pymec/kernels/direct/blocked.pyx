"""Direct convolution by register tiles, in plain loops (after Zhang, Franchetti & Low, *High Performance
Zero-Memory Overhead Direct Convolutions*, ICML 2018, and Georganas et al., *Anatomy of High-Performance Deep
Learning Convolutions on SIMD Architectures*, SC 2018).  ``register_tiles/convolution.pyx`` is the same idea for
the CPU at hand, made to run; this one is to be read.

A tile of the output, P pixels by M channels, is summed up whole before it is stored.  Taps and input channels
are the outer loops; inside, P numbers of I meet M numbers of K in an outer product, which
``shared/microkernel.pxd`` computes:

    O[p, m] = sum over a < k_h, b < k_w, c < i_c/G of  I[pixel p under tap (a, b), c] · K[a, b, c, m]

==========  =========================  ==========================
array       shape                      role
==========  =========================  ==========================
x           (i_n, i_h, i_w, i_c)       input I
kernel      (k_h, k_w, i_c/G, k_c)     kernel K
out         (i_n, o_h, o_w, k_c)       output O
==========  =========================  ==========================

Workspace, in elements:  0

Why 6 × 16.  An outer product loads P + M numbers for P·M multiply-adds.  The definition by itself, P = M = 1,
loads two numbers for each of them, and a CPU loads no more vectors in a cycle than it can multiply and add: it
waits for loads.  Tall and wide tiles load little, but all P·M sums have to fit the registers, beside a row of K
and a number of I:

    A CPU with AVX2 has 16 registers of 8 floats.  The sums of 6 pixels by 16 channels (2 registers) take 12,
    the row of K takes 2 and the number of I one: 15 of 16.  For each input channel 2 vectors and 6 single
    numbers are loaded for 12 multiply-adds of vectors: 2/3 of a load for each, in place of 2.

A multiply-add takes about four cycles and two may begin in each, so eight that don't wait for each other must be
under way at once: twelve sums are enough.  With wider or more registers, larger tiles load less still;
6 × 16 needs no more than every x86 CPU of the last ten years has.

Tiles go on from the end of an output row to the start of the next.  A pixel on padding is a pointer to zeros; of
these there are no more than 256, so that longer taps are summed in parts.  Any stride, padding, dilation and
number of groups.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.bias_relu cimport BiasRelu, bias_relu_of
from pymec.kernels.shared.geometry cimport Geometry, check_stage, geometry
from pymec.kernels.shared.interrupts cimport interrupted
from pymec.kernels.shared.microkernel cimport (
    PIXELS, SUMS, ChannelBlock, begin_sums, channel_block, channel_blocks, end_sums, multiply_add, store,
)
from pymec.kernels.shared.spans cimport ceil_div, innermost

cdef enum:
    ZEROS = 256
cdef double zeros[ZEROS]        # what pixels on padding point to; C fills it with zeros, and nobody writes it


cdef struct PixelTile:
    Py_ssize_t corner[PIXELS]       # I[n, h, w, first channel of the group] under tap (0, 0), in elements from I
    Py_ssize_t h[PIXELS]            # the image row under it, and the column; below 0 on padding
    Py_ssize_t w[PIXELS]


cdef PixelTile tile_at(
    Py_ssize_t n, Py_ssize_t first, Py_ssize_t pixels, Py_ssize_t group, const Geometry* g
) noexcept nogil:
    """Where the pixels of a tile lie, of which `first` is counted through the rows of image n."""
    cdef PixelTile tile
    cdef Py_ssize_t p, pixel
    for p in range(PIXELS):
        pixel = first + min(p, pixels - 1)  # past the tile's last pixel, that one again
        tile.h[p] = pixel / g.o_w * g.s_h - g.p_t
        tile.w[p] = pixel % g.o_w * g.s_w - g.p_l
        tile.corner[p] = ((n * g.i_h + tile.h[p]) * g.i_w + tile.w[p]) * g.i_c + group * g.i_cg
    return tile


cdef inline void add_tap(
    const floating* I, const floating* K, floating* sums, const PixelTile* tile, Py_ssize_t a, Py_ssize_t b,
    const ChannelBlock* channels, const Geometry* g
) noexcept nogil:
    """The contribution of kernel tap (a, b) to a tile: all input channels of its group."""
    cdef const floating* pixel[PIXELS]
    cdef Py_ssize_t tap = (a * g.d_h * g.i_w + b * g.d_w) * g.i_c  # its distance from tap (0, 0) in the image
    cdef Py_ssize_t c = 0, length, p
    while c < g.i_cg:
        length = min(ZEROS, g.i_cg - c)
        for p in range(PIXELS):
            pixel[p] = <const floating*> zeros
            if 0 <= tile.h[p] + a * g.d_h < g.i_h and 0 <= tile.w[p] + b * g.d_w < g.i_w:
                pixel[p] = I + tile.corner[p] + tap + c
        # sums (6 × 16) += I under the tap (6 × i_c/G) · K[a, b] (i_c/G × 16): an outer product for each channel
        multiply_add(pixel, 1, K + ((a * g.k_w + b) * g.i_cg + c) * g.k_c + channels.start, g.k_c, length,
                     channels.width, sums)
        c += length


cdef void convolve_tile(
    const floating* I, const floating* K, floating* O, Py_ssize_t task, const BiasRelu* bias_relu,
    const Geometry* g
) noexcept nogil:
    """One tile, from the bias to the last store.  Tiles count fastest, so a block's part of K stays in cache."""
    cdef Py_ssize_t first = innermost(&task, ceil_div(g.o_h * g.o_w, PIXELS)) * PIXELS
    cdef Py_ssize_t pixels = min(PIXELS, g.o_h * g.o_w - first)
    cdef Py_ssize_t n = innermost(&task, g.i_n), block = innermost(&task, channel_blocks(g)), group = task
    cdef ChannelBlock channels = channel_block(group, block, g)
    cdef PixelTile tile = tile_at(n, first, pixels, group, g)
    cdef floating sums[SUMS]
    cdef Py_ssize_t a, b
    if interrupted():
        return
    begin_sums(sums, &channels, bias_relu)  # the bias, or zeros
    for a in range(g.k_h):
        for b in range(g.k_w):
            add_tap(I, K, sums, &tile, a, b, &channels, g)
    end_sums(sums, bias_relu)  # ReLU
    store(sums, O + (n * g.o_h * g.o_w + first) * g.k_c, pixels, &channels, g)


def run(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
    workspace, shape, int n_threads=1, const floating[::1] bias=None, bint relu=False,
):
    """Convolve tile by tile, on ``n_threads`` threads; ``workspace`` is not used.

    Sums begin with the ``bias``; ReLU is applied as they are stored.
    """
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef Py_ssize_t tasks = g.groups * channel_blocks(&g) * g.i_n * ceil_div(g.o_h * g.o_w, PIXELS), task
    check_stage(&g, n_threads, x.shape, kernel.shape, out.shape)
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    with nogil:
        for task in prange(tasks, num_threads=n_threads, schedule="static"):
            convolve_tile(I, K, O, task, &bias_relu, &g)
