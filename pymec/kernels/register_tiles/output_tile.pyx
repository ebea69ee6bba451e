"""One tile of the output of a direct convolution: the products of one block of the reduction with panels of K."""

from cython cimport floating

from pymec.kernels.register_tiles.pixels cimport pixels_with_tap, point_at_block, taps_on_padding
from pymec.kernels.register_tiles.tile cimport MOST_CHANNELS, MOST_SUMS, Tile, multiply_row, multiply_tile
from pymec.kernels.shared.bias_relu cimport BiasRelu, finish_pixels
from pymec.kernels.shared.geometry cimport Geometry
from pymec.kernels.shared.patch cimport copy, zero


cdef inline void multiply(
    const floating* K, Py_ssize_t ldk, const floating** pixel, const TileBlock* block, Py_ssize_t tiles,
    const floating* start, Py_ssize_t lds, floating* C, Py_ssize_t ldc
) noexcept nogil:
    """C = start + the products of one block, for whole tiles."""
    cdef const Tile* tile = &block.tile
    if block.runs.step > 0:
        multiply_row(tile, tiles, pixel[0], block.runs.step, block.runs.count, block.runs.run_step,
                     block.runs.length, K, ldk, start, lds, C, ldc, block.ends.relu)
    else:
        multiply_tile(tile, pixel, block.runs.count, block.runs.length, K, ldk, start, lds, C, ldc,
                      block.ends.relu)


cdef void add_partial_tile(
    const floating* K, Py_ssize_t ldk, floating* O, Py_ssize_t ldo, const floating** pixel, const TileBlock* block,
    Py_ssize_t overlap, const floating* bias
) noexcept nogil:
    """One tile of which O gets only the valid pixels, without the first channels: it is summed beside O."""
    cdef floating sums[MOST_SUMS]
    cdef floating line[MOST_CHANNELS]
    cdef const floating* start = NULL
    cdef Py_ssize_t width = block.tile.channels, lds = 0, p
    if block.ends.begins and bias != NULL:
        start = line
        zero(line, overlap)
        copy(line + overlap, bias + overlap, width - overlap)
    elif not block.ends.begins:
        start, lds = sums, width
        zero(sums, MOST_SUMS)
        for p in range(block.pixels.valid):
            copy(sums + p * width + overlap, O + p * ldo + overlap, width - overlap)
    multiply(K, ldk, pixel, block, 1, start, lds, sums, width)
    for p in range(block.pixels.valid):
        copy(O + p * ldo + overlap, sums + p * width + overlap, width - overlap)


cdef void add_block(
    const floating* K, Py_ssize_t ldk, floating* O, Py_ssize_t ldo, const floating** pixel, const TileBlock* block,
    Py_ssize_t overlap, const floating* bias
) noexcept nogil:
    """One tile and its repeats; K, O and bias point at the panel's first channel.

    The first ``overlap`` channels belong to the panel before: they are multiplied, but not written.
    """
    cdef const floating* row
    cdef Py_ssize_t size = block.tile.pixels, t
    if block.pixels.valid < size:
        add_partial_tile(K, ldk, O, ldo, pixel, block, overlap, bias)
    elif overlap > 0:
        for t in range(block.pixels.repeat):
            row = pixel[0] + t * size * block.runs.step
            add_partial_tile(K, ldk, O + t * size * ldo, ldo, &row if block.runs.step > 0 else pixel, block,
                             overlap, bias)
    elif block.ends.begins:
        multiply(K, ldk, pixel, block, block.pixels.repeat, bias, 0, O, ldo)
    else:
        multiply(K, ldk, pixel, block, block.pixels.repeat, <const floating*> O, ldo, O, ldo)


cdef void add_panel(
    const floating* K, floating* O, const floating** pixel, Py_ssize_t panel, const TileBlock* block,
    const OutputPart* part, const Geometry* g
) noexcept nogil:
    """:c:func:`add_block` for one panel of the part's group.

    K points at the group's panels, or at all of K in place; O at channel 0 of the tile's first pixel.
    """
    cdef Py_ssize_t overlap = max((panel + 1) * block.tile.channels - g.k_cg, 0)
    cdef Py_ssize_t channel = part.group * g.k_cg + panel * block.tile.channels - overlap
    cdef Py_ssize_t line = (block.reduction.a * g.k_w + block.reduction.b) * g.i_cg + block.reduction.c
    cdef const floating* bias = <const floating*> block.ends.bias
    K += (line - part.kernel.first_line) * part.kernel.line
    K += (panel - part.kernel.first_panel) * part.kernel.panel if part.kernel.panel else channel
    add_block(K, part.kernel.line, O + channel, part.out.pixel, pixel, block, overlap,
              bias + channel if bias != NULL else bias)


# A tile at an end of a row, tap by tap ------------------------------------------------------------------


cdef bint goes_tap_by_tap(const TileBlock* block, Py_ssize_t padding_products, const Geometry* g) noexcept nogil:
    """Whether a tile within one row has that many products with zeros in a kernel row."""
    if not block.pixels.in_rows or block.pixels.inside or block.pixels.valid < block.tile.pixels:
        return False
    return taps_on_padding(&block.pixels, g) * block.reduction.channels >= padding_products


cdef void begin_sums(
    floating* O, Py_ssize_t pixels, Py_ssize_t step, Py_ssize_t m0, Py_ssize_t m1, const floating* bias
) noexcept nogil:
    """The bias, or zeros, in channels m0 .. m1 of some pixels."""
    cdef Py_ssize_t p
    for p in range(pixels):
        if bias == NULL:
            zero(O + p * step + m0, m1 - m0)
        else:
            copy(O + p * step + m0, bias + m0, m1 - m0)


cdef void add_tap_by_tap(
    const floating* I, const floating* K, floating* O, const floating** pixel, const TileBlock* block,
    const OutputPart* part, const Geometry* g
) noexcept nogil:
    """All of the part's panels for one tile, at every tap only the pixels that have it inside the image.

    Sums are in O between the taps, which costs less than products with zeros where there are many channels.
    """
    cdef Py_ssize_t m0 = part.group * g.k_cg + part.first_panel * block.tile.channels
    cdef Py_ssize_t m1 = part.group * g.k_cg + min(part.end_panel * block.tile.channels, g.k_cg)
    cdef BiasRelu relu = BiasRelu(NULL, block.ends.relu)  # the bias is where sums begin
    cdef TileBlock tap = block[0]
    cdef Py_ssize_t a, b, panel
    if block.ends.begins:
        begin_sums(O, block.tile.pixels, part.out.pixel, m0, m1, <const floating*> block.ends.bias)
    tap.ends = TileEnds(NULL, False, False)
    tap.reduction.rows = tap.reduction.taps = 1
    for a in range(block.reduction.a, block.reduction.a + block.reduction.rows):
        for b in range(block.reduction.b, block.reduction.b + block.reduction.taps):
            tap.reduction.a, tap.reduction.b = a, b
            tap.pixels = pixels_with_tap(&block.pixels, block.tile.least, b, g)
            if tap.pixels.valid == 0:
                continue
            tap.tile.pixels = tap.pixels.valid
            tap.runs = point_at_block(I, &tap.pixels, tap.tile.pixels, &tap.reduction, pixel,
                                      <floating*> NULL, 0, g)
            for panel in range(part.first_panel, part.end_panel):
                add_panel(K, O + (tap.pixels.first.x - block.pixels.first.x) * part.out.pixel, pixel, panel, &tap,
                          part, g)
    finish_pixels(O, block.tile.pixels, part.out.pixel, m0, m1, &relu)
