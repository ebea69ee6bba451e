"""A tile of the output of a direct convolution: a chunk of the reduction, with K's panels one after the other."""

from cython cimport floating

from pymec.kernels.shared.geometry cimport Geometry
from pymec.kernels.shared.patch cimport copy, zero
from pymec.kernels.register_tiles.pixels cimport Chunk, Pixels, Runs, point_at_chunk, without_zeros, zeros_beside
from pymec.kernels.register_tiles.tile cimport MOST_CHANNELS, MOST_SUMS, Tile, multiply_row, multiply_tile
from pymec.kernels.register_tiles.registers cimport RELU

cdef enum:
    MANY_ZEROS = 512       # of a tile's kernel row: having sums in O between taps takes less time than these


# One tile -----------------------------------------------------------------------------------------------


cdef inline void multiply(
    const floating* K, Py_ssize_t ldk, const floating** pixel, const Runs* runs, const Tile* tile,
    Py_ssize_t tiles, const floating* start, Py_ssize_t lds, floating* C, Py_ssize_t ldc, int ending
) noexcept nogil:
    """C = start + the chunk's products of whole tiles."""
    if runs.step > 0:
        multiply_row(tile, tiles, pixel[0], runs.step, runs.count, runs.run_step, runs.length, K, ldk,
                     start, lds, C, ldc, ending)
    else:
        multiply_tile(tile, pixel, runs.count, runs.length, K, ldk, start, lds, C, ldc, ending)


cdef void add_part(
    const floating* K, Py_ssize_t ldk, floating* O, const floating** pixel, const Runs* runs, const Tile* tile,
    Py_ssize_t wanted, Py_ssize_t skip, bint begins, const floating* bias, int ending, Py_ssize_t ldo
) noexcept nogil:
    """A tile of which O gets not all pixels, or not the first channels: its sums have a place of their own."""
    cdef floating sums[MOST_SUMS]
    cdef floating line[MOST_CHANNELS]
    cdef const floating* start = NULL
    cdef Py_ssize_t width = tile.channels, lds = 0, p
    if begins and bias != NULL:
        start = line
        zero(line, skip)
        copy(line + skip, bias + skip, width - skip)
    elif not begins:
        start, lds = sums, width
        zero(sums, MOST_SUMS)
        for p in range(wanted):
            copy(sums + p * width + skip, O + p * ldo + skip, width - skip)
    multiply(K, ldk, pixel, runs, tile, 1, start, lds, sums, width, ending & RELU)
    for p in range(wanted):
        copy(O + p * ldo + skip, sums + p * width + skip, width - skip)


cdef void add_chunk(
    const floating* K, Py_ssize_t ldk, floating* O, const floating** pixel, const Runs* runs, const Tile* tile,
    const Pixels* pixels, Py_ssize_t skip, bint begins, const floating* bias, int ending, Py_ssize_t ldo
) noexcept nogil:
    """A chunk's products of a tile, and of those joined to it, with one panel; O points at the first pixel.

    Sums begin with a line of the bias, or zeros if that is NULL, or go on from what O holds.  Channels to skip
    belong to the panel before.
    """
    cdef const floating* row
    cdef Py_ssize_t t
    if pixels.wanted < tile.pixels:
        add_part(K, ldk, O, pixel, runs, tile, pixels.wanted, skip, begins, bias, ending, ldo)
    elif skip > 0:
        for t in range(pixels.tiles):
            row = pixel[0] + t * tile.pixels * runs.step
            add_part(K, ldk, O + t * tile.pixels * ldo, &row if runs.step > 0 else pixel, runs, tile,
                     tile.pixels, skip, begins, bias, ending, ldo)
    elif begins:
        multiply(K, ldk, pixel, runs, tile, pixels.tiles, bias, 0, O, ldo, ending)
    else:
        multiply(K, ldk, pixel, runs, tile, pixels.tiles, <const floating*> O, ldo, O, ldo, ending)


cdef void add_panel(
    const floating* K, const Lines* lines, floating* O, const Part* part, Py_ssize_t block, const Chunk* chunk,
    const floating** pixel, const Runs* runs, const Tile* tile, const Pixels* pixels, bint begins,
    const floating* bias, int ending, const Geometry* g
) noexcept nogil:
    """:c:func:`add_chunk` with one of the part's panels; K and O point at all of their channels."""
    cdef Py_ssize_t skip = max((block + 1) * tile.channels - g.k_cg, 0)
    cdef Py_ssize_t channel = part.group * g.k_cg + block * tile.channels - skip
    cdef Py_ssize_t line = (chunk.a * g.k_w + chunk.b) * g.i_cg + chunk.c
    add_chunk(K + (block * lines.panel if lines.panel else channel) + line * lines.ldk, lines.ldk, O + channel,
              pixel, runs, tile, pixels, skip, begins, bias + channel if bias != NULL else bias, ending,
              part.out.pixel)


# A tile at the end of a row, tap by tap -----------------------------------------------------------------


cdef bint leaves_zeros_out(
    const Pixels* pixels, const Tile* tile, Py_ssize_t channels, const Geometry* g
) noexcept nogil:
    """Whether a tile is of one row, and has at an end of it zeros enough."""
    if not pixels.clipped or pixels.inside or pixels.wanted < tile.pixels:
        return False
    return zeros_beside(pixels, g) * channels >= MANY_ZEROS


cdef void begin_sums(
    floating* O, Py_ssize_t wanted, const Part* part, Py_ssize_t width, const floating* bias, const Geometry* g
) noexcept nogil:
    """The bias, or zeros, in all channels of the part's panels."""
    cdef Py_ssize_t channel = part.group * g.k_cg + part.first_block * width
    cdef Py_ssize_t count = min(part.end_block * width, g.k_cg) - part.first_block * width, p
    for p in range(wanted):
        if bias == NULL:
            zero(O + p * part.out.pixel + channel, count)
        else:
            copy(O + p * part.out.pixel + channel, bias + channel, count)


cdef void clamp_sums(
    floating* O, Py_ssize_t wanted, const Part* part, Py_ssize_t width, const Geometry* g
) noexcept nogil:
    """What is below zero becomes zero, in all channels of the part's panels; NaN is not below."""
    cdef Py_ssize_t channel = part.group * g.k_cg + part.first_block * width
    cdef Py_ssize_t count = min(part.end_block * width, g.k_cg) - part.first_block * width, p, m
    for p in range(wanted):
        for m in range(channel, channel + count):
            if O[p * part.out.pixel + m] < 0:
                O[p * part.out.pixel + m] = 0


cdef void add_tap_by_tap(
    const floating* I, const floating* K, const Lines* lines, floating* O, const Part* part, const Chunk* chunk,
    const Tile* tile, const Pixels* pixels, const floating** pixel, floating* window, const Geometry* g
) noexcept nogil:
    """A chunk's products of a tile, without those on padding: at every tap the pixels that have it in the image.

    Their sums are in O between the taps, which costs less than the zeros where a tap has channels enough.
    """
    cdef Chunk tap = chunk[0]
    cdef Tile some = tile[0]
    cdef Pixels found
    cdef Runs runs
    cdef Py_ssize_t a, b, block
    tap.rows = tap.taps = 1
    for a in range(chunk.a, chunk.a + chunk.rows):
        for b in range(chunk.b, chunk.b + chunk.taps):
            tap.a, tap.b = a, b
            found = without_zeros(pixels, tile.least, b, g)
            if found.wanted == 0:
                continue
            some.pixels = found.wanted
            runs = point_at_chunk(I, &found, some.pixels, &tap, pixel, window, g)
            for block in range(part.first_block, part.end_block):
                add_panel(K, lines, O + (found.first.x - pixels.first.x) * part.out.pixel, part, block, &tap,
                          pixel, &runs, &some, &found, False, <const floating*> NULL, 0, g)


cdef void add_without_zeros(
    const floating* I, const floating* K, const Lines* lines, floating* O, const Part* part, const Chunk* chunk,
    const Tile* tile, const Pixels* pixels, const floating** pixel, floating* window, bint begins,
    const floating* bias, int ending, const Geometry* g
) noexcept nogil:
    """A chunk's products of a tile that leaves zeros out, with all of the part's panels."""
    if begins:
        begin_sums(O, tile.pixels, part, tile.channels, bias, g)
    add_tap_by_tap(I, K, lines, O, part, chunk, tile, pixels, pixel, window, g)
    if ending & RELU:
        clamp_sums(O, tile.pixels, part, tile.channels, g)
