"""The inner loop of everything that multiplies without BLAS: an outer product whose sums stay in registers.

At every step of the reduction some output pixels meet a line of output channels, and all their sums are in
registers.  How many pixels and channels depends on the CPU's registers:

===========================  =====================  ==================  ==================
CPU                          pixels of a tile       channels, float32   channels, float64
===========================  =====================  ==================  ==================
AVX-512: 32 of 64 bytes      5 to 14                32 or 16            16 or 8
AVX2: 16 of 32 bytes         4 to 6                 16                  8
any                          4                      16                  8
fewer channels, in place     4                      all of them
===========================  =====================  ==================  ==================

Many networks' images are 7, 14, 28 or 56 pixels wide: rows of whole tiles.  With AVX-512 a line of K is two
registers, for which each number of the image is loaded once.  It is one register where the overlap of the last
panel would make two slower.
"""

from cython cimport floating

from pymec.kernels.register_tiles.registers cimport PYMEC_HAS_NARROW, PYMEC_HAS_WIDE
from pymec.kernels.register_tiles.tile_kinds cimport (
    half_row, half_tile, narrow_row, narrow_tile, wide_row, wide_tile,
)
from pymec.kernels.shared.spans cimport ceil_div

cdef bint has_wide = PYMEC_HAS_WIDE
cdef bint has_narrow = PYMEC_HAS_NARROW


cdef Tile widest_tile(Py_ssize_t channels, Py_ssize_t itemsize) noexcept nogil:
    """The tile for a group's output channels on this CPU."""
    cdef Py_ssize_t half = 64 / itemsize, halves = ceil_div(channels, half)
    if channels < half:
        return Tile(4, 4, 4, channels)
    if not has_wide:
        return Tile(6 if has_narrow else 4, 6 if has_narrow else 4, 4, half)
    # A step of 14 pixels loads 16 registers with a whole line, 15 with half of one.  With an odd number of halves
    # the last panel of whole lines overlaps by half a line, which pays among 14 halves and more.
    return Tile(14, 14, 5, half if channels < 2 * half or (halves % 2 and halves < 14) else 2 * half)


cdef Tile panel_tile(Py_ssize_t channels, Py_ssize_t itemsize) noexcept nogil:
    """The same where K is in panels, which zeros fill up to a cache line."""
    return widest_tile(max(channels, 64 / itemsize), itemsize)


cdef Tile tile_for_sums(
    Py_ssize_t channels, Py_ssize_t itemsize, Py_ssize_t length, Py_ssize_t step
) noexcept nogil:
    """The tile for sums of ``length`` products, and for pixels ``step`` elements apart.

    A tile begins and ends with a burst of loads and stores.  Where sums are short, the CPU works on two tiles at a
    time, which goes better with smaller ones: 8 pixels were 2 to 8 % faster than 14 for 27 to 600 products.

    Pixels a multiple of 4 KiB apart share one set of a level-1 cache, whose 8 or 12 lines K needs, too.  More than
    7 of them would evict each other at every step.
    """
    cdef Tile widest = widest_tile(channels, itemsize)
    if step * itemsize % SET_PITCH == 0:
        widest.most = min(widest.most, SET_PIXELS)
    elif length <= SHORT_SUM:
        widest.most = min(widest.most, SHORT_SUM_PIXELS)
    widest.pixels = widest.most
    return widest


def tile_for(Py_ssize_t channels, Py_ssize_t itemsize, Py_ssize_t length=SHORT_SUM + 1, Py_ssize_t step=1):
    """The most pixels, and the channels, of the tile for a group of ``channels`` output channels on this CPU.

    ``length`` and ``step`` are those of :c:func:`tile_for_sums`; by default they ask for no smaller tile.
    """
    cdef Tile tile = tile_for_sums(channels, itemsize, length, step)
    return tile.most, tile.channels


cdef Py_ssize_t pixels_of_tile(Py_ssize_t left, const Tile* tile) noexcept nogil:
    """Size of the next tile when ``left`` pixels remain: sizes differ by at most one, none is below ``least``."""
    return max(tile.least, ceil_div(left, ceil_div(left, tile.most)))


cdef Py_ssize_t n_equal_tiles(Py_ssize_t left, const Tile* tile) noexcept nogil:
    """Number of consecutive full tiles of that same size."""
    cdef Py_ssize_t pixels = pixels_of_tile(left, tile), tiles = 0
    while left >= pixels and pixels_of_tile(left, tile) == pixels:
        tiles += 1
        left -= pixels
    return tiles


cdef Py_ssize_t slots_of(Py_ssize_t pixels, const Tile* tile) noexcept nogil:
    """Tile slots that ``pixels`` outputs occupy, unused slots included."""
    return max(pixels, tile.least * ceil_div(pixels, tile.most))


def register_nbytes():
    """Bytes of the widest register that tiles use on this CPU."""
    return 64 if has_wide else 32 if has_narrow else 16


def taken_pixels(
    Py_ssize_t pixels, Py_ssize_t channels, Py_ssize_t itemsize, Py_ssize_t length=SHORT_SUM + 1, Py_ssize_t step=1
):
    """Tile slots that ``pixels`` outputs occupy, unused slots included; the others as in :func:`tile_for`."""
    cdef Tile widest = tile_for_sums(channels, itemsize, length, step)
    return slots_of(pixels, &widest)


cdef inline floating finished(floating total, bint relu) noexcept nogil:
    """ReLU, if asked for; NaN stays NaN."""
    return 0 if relu and total < 0 else total


cdef void tile_4_portable(
    const floating** pixel, Py_ssize_t runs, Py_ssize_t length, const floating* K, Py_ssize_t ldk,
    const floating* start, Py_ssize_t lds, floating* C, Py_ssize_t ldc, bint relu
) noexcept nogil:
    """Four pixels by 64 bytes of channels in loops of fixed length, for the compiler to vectorise."""
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
            C[p * ldc + m] = finished(total[p][m], relu)


cdef void tile_scalar(
    const Tile* tile, const floating** pixel, Py_ssize_t runs, Py_ssize_t length, const floating* K,
    Py_ssize_t ldk, const floating* start, Py_ssize_t lds, floating* C, Py_ssize_t ldc, bint relu
) noexcept nogil:
    """Any tile, pixel by pixel.

    Channels are the inner loop: of a loop along a run compilers fuse some multiply-adds and not others, and then
    results would depend on the schedule.
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
            C[p * ldc + m] = finished(total[m], relu)


cdef void row_by_tiles(
    const Tile* tile, const floating* pixel, Py_ssize_t step, Py_ssize_t runs, Py_ssize_t run_step,
    Py_ssize_t length, const floating* K, Py_ssize_t ldk,
    const floating* start, Py_ssize_t lds, floating* C, Py_ssize_t ldc, bint relu
) noexcept nogil:
    """One tile of evenly spaced pixels by :c:func:`multiply_tile`, run after run."""
    cdef const floating* pixels[MOST_PIXELS]
    cdef Py_ssize_t p, run
    if runs == 0:
        multiply_tile(tile, pixels, 0, length, K, ldk, start, lds, C, ldc, relu)
    for run in range(runs):
        for p in range(tile.pixels):
            pixels[p] = pixel + p * step
        multiply_tile(tile, pixels, 1, length, K, ldk, start, lds, C, ldc, relu and run == runs - 1)
        start, lds = C, ldc
        pixel += run_step
        K += length * ldk


cdef void multiply_tile(
    const Tile* tile, const floating** pixel, Py_ssize_t runs, Py_ssize_t length,
    const floating* K, Py_ssize_t ldk,
    const floating* start, Py_ssize_t lds, floating* C, Py_ssize_t ldc, bint relu
) noexcept nogil:
    """C[p, m] = start[p, m] + sum over t < runs and c < length of pixel[t, p][c] · K[t·length + c, m].

    ``start`` may be NULL for zeros, C itself, or with lds = 0 one line for all pixels: a bias.  ``relu`` applies
    ReLU.
    """
    cdef Py_ssize_t line = tile.channels * sizeof(floating)
    if line == 128:
        wide_tile(tile.pixels, pixel, runs, length, K, ldk, start, lds, C, ldc, relu)
    elif line == 64 and has_wide:
        half_tile(tile.pixels, pixel, runs, length, K, ldk, start, lds, C, ldc, relu)
    elif line < 64:
        tile_scalar(tile, pixel, runs, length, K, ldk, start, lds, C, ldc, relu)
    elif has_narrow:
        narrow_tile(tile.pixels, pixel, runs, length, K, ldk, start, lds, C, ldc, relu)
    else:
        tile_4_portable(pixel, runs, length, K, ldk, start, lds, C, ldc, relu)


cdef void multiply_row(
    const Tile* tile, Py_ssize_t tiles, const floating* pixel, Py_ssize_t step, Py_ssize_t runs,
    Py_ssize_t run_step, Py_ssize_t length, const floating* K, Py_ssize_t ldk,
    const floating* start, Py_ssize_t lds, floating* C, Py_ssize_t ldc, bint relu
) noexcept nogil:
    """The same for ``tiles`` tiles of pixels ``step`` elements apart, whose runs are ``run_step`` apart."""
    cdef Py_ssize_t line = tile.channels * sizeof(floating), t
    if line == 128:
        wide_row(tile.pixels, tiles, pixel, step, runs, run_step, length, K, ldk, start, lds, C, ldc, relu)
    elif line == 64 and has_wide:
        half_row(tile.pixels, tiles, pixel, step, runs, run_step, length, K, ldk, start, lds, C, ldc, relu)
    elif line == 64 and has_narrow:
        narrow_row(tile.pixels, tiles, pixel, step, runs, run_step, length, K, ldk, start, lds, C, ldc, relu)
    else:
        for t in range(tiles):
            row_by_tiles(tile, pixel + t * tile.pixels * step, step, runs, run_step, length, K, ldk,
                         start, lds, C + t * tile.pixels * ldc, ldc, relu)
            if start != NULL:
                start += tile.pixels * lds
