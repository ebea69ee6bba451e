"""The inner loop of everything that multiplies without BLAS: an outer product whose sums stay in registers.

At every step of the reduction some output pixels meet a line of output channels, and all their sums are in
registers.  How many pixels and channels depends on those of the CPU:

===========================  =====================  ==================  ==================
CPU                          pixels of a tile       channels, float32   channels, float64
===========================  =====================  ==================  ==================
AVX-512: 32 of 64 bytes      5 to 14                32 or 16            16 or 8
AVX2: 16 of 32 bytes         4 to 6                 16                  8
any                          4                      16                  8
fewer than that, in place    4                      all there are
===========================  =====================  ==================  ==================

Many networks' images are 7, 14, 28, 56 pixels wide: rows of whole tiles.  With AVX-512 a line of K is two
registers, which each number of the image is loaded for once; where that would take many channels twice, it is one.
"""

from cython cimport floating

from pymec.kernels.register_tiles.registers cimport PYMEC_HAS_NARROW, PYMEC_HAS_WIDE, RELU
from pymec.kernels.register_tiles.tile_kinds cimport half_row, half_tile, narrow_row, narrow_tile, wide_row, wide_tile

cdef bint has_wide = PYMEC_HAS_WIDE
cdef bint has_narrow = PYMEC_HAS_NARROW


cdef Tile widest_tile(Py_ssize_t channels, Py_ssize_t itemsize) noexcept nogil:
    """The tile for a group's output channels on this CPU."""
    cdef Py_ssize_t half = 64 / itemsize, halves = (channels + half - 1) / half
    if channels < half:
        return Tile(4, 4, channels)
    if not has_wide:
        return Tile(6 if has_narrow else 4, 4, half)
    # By loads: 16 for a step of 14 pixels and a whole line, 15 for half of one.  A last panel that reaches back by
    # half a line, where there is an odd number of halves, is worth that among 14 and more.
    return Tile(14, 5, half if channels < 2 * half or (halves % 2 and halves < 14) else 2 * half)


cdef Tile panel_tile(Py_ssize_t channels, Py_ssize_t itemsize) noexcept nogil:
    """The same where K is in panels: those of fewer channels than a cache line has are filled up with zeros."""
    return widest_tile(max(channels, 64 / itemsize), itemsize)


cdef Tile tile_for_sums(
    Py_ssize_t channels, Py_ssize_t itemsize, Py_ssize_t length, Py_ssize_t step
) noexcept nogil:
    """The tile for sums of so many products, and for pixels that many elements apart.

    A tile begins and ends with a burst of loads and stores.  Where sums are short, the CPU works on two tiles at a
    time, and the better the smaller they are: 8 pixels were 2 to 8 % faster than 14 for 27 to 600 products.

    Pixels a multiple of 4 KiB apart share one set of a level-1 cache, which has 8 lines or 12 for them and for K.
    They must then come from further away at each step: a tile takes 7 of them at most.
    """
    cdef Tile widest = widest_tile(channels, itemsize)
    if step * itemsize % SAME_SET == 0:
        widest.pixels = min(widest.pixels, IN_A_SET)
    elif length <= SHORT:
        widest.pixels = min(widest.pixels, SHORT_TILE)
    return widest


def tile_for(Py_ssize_t channels, Py_ssize_t itemsize, Py_ssize_t length=SHORT + 1, Py_ssize_t step=1):
    """The most pixels and the channels of the tile that a group of so many output channels gets on this CPU.

    ``length`` and ``step`` are those of :c:func:`tile_for_sums`: for some there is a smaller one.
    """
    cdef Tile tile = tile_for_sums(channels, itemsize, length, step)
    return tile.pixels, tile.channels


cdef Py_ssize_t pixels_of_tile(Py_ssize_t left, const Tile* widest) noexcept nogil:
    """How many pixels the next tile takes, if so many are left: all tiles alike, or one less, or the fewest."""
    cdef Py_ssize_t tiles = (left + widest.pixels - 1) / widest.pixels
    cdef Py_ssize_t pixels = (left + tiles - 1) / tiles
    return max(widest.least, pixels)


cdef Py_ssize_t tiles_alike(Py_ssize_t left, const Tile* widest) noexcept nogil:
    """How many tiles in succession take as many pixels, each of them all."""
    cdef Py_ssize_t pixels = pixels_of_tile(left, widest), tiles = 0
    while left >= pixels and pixels_of_tile(left, widest) == pixels:
        tiles += 1
        left -= pixels
    return tiles


cdef Py_ssize_t all_taken(Py_ssize_t pixels, const Tile* widest) noexcept nogil:
    """The pixels of all tiles that so many pixels take, those in vain counted."""
    cdef Py_ssize_t taken = 0
    while taken < pixels:
        taken += pixels_of_tile(pixels - taken, widest)
    return taken


def line_cycles(Py_ssize_t channels, Py_ssize_t itemsize):
    """What a pixel and a line of channels take, where a CPU does two multiply-adds of registers in a cycle."""
    cdef Tile widest = widest_tile(channels, itemsize)
    return 0.5 if has_wide and widest.channels * itemsize == 64 else 1.0


def taken_pixels(
    Py_ssize_t pixels, Py_ssize_t channels, Py_ssize_t itemsize, Py_ssize_t length=SHORT + 1, Py_ssize_t step=1
):
    """The pixels of all tiles that so many pixels take, those in vain counted; the others as :func:`tile_for`."""
    cdef Tile widest = tile_for_sums(channels, itemsize, length, step)
    return all_taken(pixels, &widest)


cdef inline floating ended(floating total, int ending) noexcept nogil:
    """What is below zero becomes zero, if so asked; NaN is not below."""
    return 0 if ending & RELU and total < 0 else total


cdef void four_plain(
    const floating** pixel, Py_ssize_t runs, Py_ssize_t length, const floating* K, Py_ssize_t ldk,
    const floating* start, Py_ssize_t lds, floating* C, Py_ssize_t ldc, int ending
) noexcept nogil:
    """Four pixels by 64 bytes of channels, in loops of fixed length: the compiler makes of them what it can."""
    cdef floating total[4][16]
    cdef floating v0, v1, v2, v3
    cdef Py_ssize_t c, m, p, _
    for p in range(4):
        for m in range(<Py_ssize_t> (64 / sizeof(floating))):
            total[p][m] = 0 if start == NULL else start[p * lds + m]
    for _ in range(runs):
        for c in range(length):
            v0, v1, v2, v3 = pixel[0][c], pixel[1][c], pixel[2][c], pixel[3][c]
            for m in range(<Py_ssize_t> (64 / sizeof(floating))):
                total[0][m] += v0 * K[m]
                total[1][m] += v1 * K[m]
                total[2][m] += v2 * K[m]
                total[3][m] += v3 * K[m]
            K += ldk
        pixel += 4
    for p in range(4):
        for m in range(<Py_ssize_t> (64 / sizeof(floating))):
            C[p * ldc + m] = ended(total[p][m], ending)


cdef void few_channels(
    const Tile* tile, const floating** pixel, Py_ssize_t runs, Py_ssize_t length, const floating* K,
    Py_ssize_t ldk, const floating* start, Py_ssize_t lds, floating* C, Py_ssize_t ldc, int ending
) noexcept nogil:
    """Any tile, pixel by pixel.

    Channels are the inner loop: along a run, compilers round some products before they add them, and others not.
    """
    cdef floating total[16]
    cdef const floating* line
    cdef floating v
    cdef Py_ssize_t p, m, t, c
    for p in range(tile.pixels):
        for m in range(tile.channels):
            total[m] = 0 if start == NULL else start[p * lds + m]
        line = K
        for t in range(runs):
            for c in range(length):
                v = pixel[t * tile.pixels + p][c]
                for m in range(tile.channels):
                    total[m] += v * line[m]
                line += ldk
        for m in range(tile.channels):
            C[p * ldc + m] = ended(total[m], ending)


cdef void any_row(
    const Tile* tile, const floating* pixel, Py_ssize_t step, Py_ssize_t runs, Py_ssize_t run_step,
    Py_ssize_t length, const floating* K, Py_ssize_t ldk,
    const floating* start, Py_ssize_t lds, floating* C, Py_ssize_t ldc, int ending
) noexcept nogil:
    """Pixels at one distance as pixels anywhere, run after run."""
    cdef const floating* pixels[MOST_PIXELS]
    cdef Py_ssize_t p, run
    if runs == 0:
        multiply_tile(tile, pixels, 0, length, K, ldk, start, lds, C, ldc, ending)
    for run in range(runs):
        for p in range(tile.pixels):
            pixels[p] = pixel + p * step
        multiply_tile(tile, pixels, 1, length, K, ldk, start, lds, C, ldc, ending if run == runs - 1 else 0)
        start, lds = C, ldc
        pixel += run_step
        K += length * ldk


cdef void multiply_tile(
    const Tile* tile, const floating** pixel, Py_ssize_t runs, Py_ssize_t length,
    const floating* K, Py_ssize_t ldk,
    const floating* start, Py_ssize_t lds, floating* C, Py_ssize_t ldc, int ending
) noexcept nogil:
    """C[p, m] = start[p, m] + sum over t < runs and c < length of pixel[t, p][c] · K[t·length + c, m].

    ``start`` may be NULL for zeros, C itself, or with lds = 0 one line for all pixels: a bias.  ``ending`` is what
    else is done to the sums: RELU, STREAM (only where C and ldc are whole cache lines), both, or nothing.
    """
    cdef Py_ssize_t line = tile.channels * sizeof(floating)
    if line == 128:
        wide_tile(tile.pixels, pixel, runs, length, K, ldk, start, lds, C, ldc, ending)
    elif line == 64 and has_wide:
        half_tile(tile.pixels, pixel, runs, length, K, ldk, start, lds, C, ldc, ending)
    elif line < 64:
        few_channels(tile, pixel, runs, length, K, ldk, start, lds, C, ldc, ending)
    elif has_narrow:
        narrow_tile(tile.pixels, pixel, runs, length, K, ldk, start, lds, C, ldc, ending)
    else:
        four_plain(pixel, runs, length, K, ldk, start, lds, C, ldc, ending)


cdef void multiply_row(
    const Tile* tile, Py_ssize_t tiles, const floating* pixel, Py_ssize_t step, Py_ssize_t runs,
    Py_ssize_t run_step, Py_ssize_t length, const floating* K, Py_ssize_t ldk,
    const floating* start, Py_ssize_t lds, floating* C, Py_ssize_t ldc, int ending
) noexcept nogil:
    """The same for so many tiles of pixels ``step`` elements apart, whose runs are ``run_step`` apart."""
    cdef Py_ssize_t line = tile.channels * sizeof(floating), t
    if line == 128:
        wide_row(tile.pixels, tiles, pixel, step, runs, run_step, length, K, ldk, start, lds, C, ldc, ending)
    elif line == 64 and has_wide:
        half_row(tile.pixels, tiles, pixel, step, runs, run_step, length, K, ldk, start, lds, C, ldc, ending)
    elif line == 64 and has_narrow:
        narrow_row(tile.pixels, tiles, pixel, step, runs, run_step, length, K, ldk, start, lds, C, ldc, ending)
    else:
        for t in range(tiles):
            any_row(tile, pixel + t * tile.pixels * step, step, runs, run_step, length, K, ldk,
                    start, lds, C + t * tile.pixels * ldc, ldc, ending)
            if start != NULL:
                start += tile.pixels * lds
