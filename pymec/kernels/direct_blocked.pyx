"""Direct convolution with a tile of the output in registers, after Georganas et al., *Anatomy of
High-Performance Deep Learning Convolutions on SIMD Architectures* (SC 2018, arXiv:1808.05567) and Zhang,
Franchetti & Low, *High Performance Zero-Memory Overhead Direct Convolutions* (ICML 2018, arXiv:1809.10170).

The definition's loops in another order: for o_b output pixels and m_b output channels at a time, all sums stay in
registers while the taps and input channels go by.  One step loads one line of K and one number of each pixel and
does o_b·m_b multiply-adds with them.  Both papers keep their arrays in blocked layouts, so that all this lies
adjacent in memory; here the arrays are plain n-h-w-c and h-w-i-o, and K is read with a step of k_c.

==========  =========================  ==================================================
array       shape                      role
==========  =========================  ==================================================
x           (i_n, i_h, i_w, i_c)       input I
kernel      (k_h, k_w, i_c/G, k_c)     kernel K, read in blocks of m_b = 16 channels
out         (i_n, o_h, o_w, k_c)       output O, written in tiles of o_b = 6 pixels
==========  =========================  ==================================================

Workspace, in elements:  0

Any stride, padding, dilation and number of groups.  Taps on padding are read from a constant line of zeros.  With
fewer than 16 output channels in a group the sums are not kept in registers, and it is slow.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels._geometry cimport Geometry, check_operands, check_threads, geometry
from pymec.kernels._microkernel cimport (
    PIXELS, POINTERS, SUMS, TAPS, ChannelBlock, channel_block, channel_blocks, multiply_add, store,
)
from pymec.kernels._patch cimport zero

cdef enum:
    ZEROS = 256            # input channels of padding that one call of the inner loop reads
    SMALL_KERNEL = 262144  # bytes of K that stay in a level-2 cache beside what else is read

cdef double zeros[ZEROS]  # never written: the zeros that a C compiler puts into static arrays


cdef struct Pixel:
    Py_ssize_t top, left  # where tap (0, 0) lies in the image; negative on padding
    Py_ssize_t offset     # and in the array: elements from I's first one


cdef inline void place_pixels(Pixel* tile, Py_ssize_t first, Py_ssize_t group, const Geometry* g) noexcept nogil:
    """The pixels of a tile, counted through images, rows and columns; past the last one, the last one again."""
    cdef Py_ssize_t pixels = g.i_n * g.o_h * g.o_w
    cdef Py_ssize_t x = first % g.o_w
    cdef Py_ssize_t y = first / g.o_w % g.o_h
    cdef Py_ssize_t n = first / g.o_w / g.o_h
    cdef Py_ssize_t p
    for p in range(PIXELS):
        tile[p].top = y * g.s_h - g.p_t
        tile[p].left = x * g.s_w - g.p_l
        tile[p].offset = ((n * g.i_h + tile[p].top) * g.i_w + tile[p].left) * g.i_c + group * g.i_cg
        if first + p + 1 >= pixels:
            continue
        x += 1
        if x == g.o_w:
            x, y = 0, y + 1
        if y == g.o_h:
            y, n = 0, n + 1


cdef inline Py_ssize_t adjacent_taps(const Pixel* tile, const Geometry* g) noexcept nogil:
    """How many taps of a kernel row can be summed up in one go: all, where they lie side by side in the image."""
    cdef Py_ssize_t p
    if g.d_w > 1 or g.groups > 1:
        return 1
    for p in range(PIXELS):
        if tile[p].left < 0 or tile[p].left + g.k_w > g.i_w:
            return 1
    return g.k_w


cdef inline Py_ssize_t point_at_tap(
    const floating* I, const Pixel* tile, Py_ssize_t a, Py_ssize_t b, const floating** pixel, const Geometry* g
) noexcept nogil:
    """Point every pixel at what tap (a, b) multiplies it with; return how many of them lie in the image."""
    cdef Py_ssize_t tap = (a * g.d_h * g.i_w + b * g.d_w) * g.i_c
    cdef Py_ssize_t inside = 0
    cdef Py_ssize_t h, w, p
    for p in range(PIXELS):
        h, w = tile[p].top + a * g.d_h, tile[p].left + b * g.d_w
        if 0 <= h < g.i_h and 0 <= w < g.i_w:
            pixel[p] = I + tile[p].offset + tap
            inside += 1
        else:
            pixel[p] = <const floating*> zeros
    return inside


cdef void add_padded_tap(
    const floating** pixel, const floating* K, Py_ssize_t length, Py_ssize_t width, floating* sums,
    const Geometry* g
) noexcept nogil:
    """One tap of which some pixels lie on padding, and whose channels are more than the zeros there are."""
    cdef const floating* part[PIXELS]
    cdef Py_ssize_t c, p
    c = 0
    while c < length:
        for p in range(PIXELS):
            part[p] = pixel[p] if pixel[p] == <const floating*> zeros else pixel[p] + c
        multiply_add(part, 1, K + c * g.k_c, g.k_c, min(ZEROS, length - c), width, sums)
        c += ZEROS


cdef void sum_tile(
    const floating* I, const floating* K, const Pixel* tile, Py_ssize_t width, floating* sums, const Geometry* g
) noexcept nogil:
    """All taps of a tile, gathered for the inner loop as long as their rows of K follow each other."""
    cdef const floating* pixel[POINTERS]
    cdef Py_ssize_t adjacent = adjacent_taps(tile, g)
    cdef Py_ssize_t length = adjacent * g.i_cg
    cdef Py_ssize_t gathered = 0
    cdef Py_ssize_t a, b, inside
    for a in range(g.k_h):
        b = 0
        while b < g.k_w:
            inside = point_at_tap(I, tile, a, b, pixel + gathered * PIXELS, g)
            if inside == PIXELS or length <= ZEROS:
                gathered += 1
                if gathered == TAPS:
                    multiply_add(pixel, gathered, K, g.k_c, length, width, sums)
                    K += gathered * length * g.k_c
                    gathered = 0
            else:
                multiply_add(pixel, gathered, K, g.k_c, length, width, sums)
                K += gathered * length * g.k_c
                add_padded_tap(pixel + gathered * PIXELS, K, length, width, sums, g)
                K += length * g.k_c
                gathered = 0
            b += adjacent
    multiply_add(pixel, gathered, K, g.k_c, length, width, sums)


cdef void convolve_tile(
    const floating* I, const floating* K, floating* O, Py_ssize_t unit, const Geometry* g
) noexcept nogil:
    """One tile of pixels and channels, counted through groups and then so that K is read from a cache.

    A small K stays there whole, and the blocks of channels follow each other: lines of O are written while they
    are at hand.  Of a larger K one block stays, and all tiles of pixels pass by.
    """
    cdef Py_ssize_t pixels = g.i_n * g.o_h * g.o_w
    cdef Py_ssize_t tiles = (pixels + PIXELS - 1) / PIXELS
    cdef Py_ssize_t blocks = channel_blocks(g)
    cdef Py_ssize_t group = unit / (tiles * blocks)
    cdef Py_ssize_t rest = unit - group * tiles * blocks
    cdef bint small = g.k_h * g.k_w * g.i_cg * g.k_cg * <Py_ssize_t> sizeof(floating) <= SMALL_KERNEL
    cdef Py_ssize_t first = (rest / blocks if small else rest % tiles) * PIXELS
    cdef ChannelBlock block = channel_block(group, rest % blocks if small else rest / tiles, g)
    cdef Pixel tile[PIXELS]
    cdef floating sums[SUMS]
    place_pixels(tile, first, group, g)
    zero(sums, SUMS)
    sum_tile(I, K + block.start, tile, block.width, sums, g)
    store(sums, O + first * g.k_c, min(PIXELS, pixels - first), &block, g)


def run(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
    floating[::1] workspace, shape, int n_threads=1,
):
    """Convolve in tiles of 6 pixels by 16 channels, on ``n_threads`` threads; ``workspace`` is not used."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t tiles = (g.i_n * g.o_h * g.o_w + PIXELS - 1) / PIXELS
    cdef Py_ssize_t units = g.groups * channel_blocks(&g) * tiles
    cdef Py_ssize_t unit
    check_threads(n_threads)
    check_operands(&g, x.shape, kernel.shape, out.shape)
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    with nogil:
        for unit in prange(units, num_threads=n_threads, schedule="static"):
            convolve_tile(I, K, O, unit, &g)
