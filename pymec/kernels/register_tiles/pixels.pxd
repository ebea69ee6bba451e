# The output pixels of a register tile, and where in the image their taps find what they multiply.
#
# A tile takes pixels as they follow each other in O, across the ends of rows and images.  The reduction is summed
# block by block (ReductionBlock): some kernel rows, or some taps of one row, or some channels of one tap.  In a
# block every pixel reads runs of adjacent numbers, all of one length: a run is a kernel row, or a part of one,
# where its taps are adjacent in the image, and otherwise one tap.
#
# The image's pixels may lie a constant distance apart, as those of a slice do (PixelStrides): a crop of rows and
# columns, every second column, some of the channels.  The channels of a pixel are adjacent.
#
# Padding.  A tile within one output row skips kernel rows on padding.  At the ends of the row it goes tap by tap,
# each with the pixels that have it inside the image, if that skips many products with zeros (output_tile.pyx); or
# it reads a window, a copy of its part of the image with the padding's zeros, if that is small enough.  Elsewhere
# a tap on padding is a pointer to zeros.

from cython cimport floating

from pymec.kernels.register_tiles.tile cimport MOST_PIXELS
from pymec.kernels.shared.geometry cimport Geometry, PixelStrides
from pymec.kernels.shared.patch cimport copy, zero
from pymec.kernels.shared.spans cimport Span, inside

cdef enum:
    RUNS = 49         # the most runs of one block: all taps of a 7x7 kernel
    POINTERS = 700    # RUNS + 1 times MOST_PIXELS, written out: the checked build multiplies no constants here
    ZEROS = 512       # elements of the longest run where there is padding
    WINDOW = 2048     # elements of the largest window that a schedule may ask for

cdef extern from *:
    """
    static const double pymec_zeros[512];  /* ZEROS of them: C clears a static array */
    """
    const double zeros "pymec_zeros"[512]


cdef struct Cursor:                    # an output pixel
    Py_ssize_t n, y, x


cdef struct TilePixels:
    PixelStrides strides               # of I
    Cursor first
    Py_ssize_t valid                   # pixels of the tile that exist; further slots repeat the last one
    Py_ssize_t repeat                  # adjacent tiles of this size, all read with one pointer and a step
    Py_ssize_t offset[MOST_PIXELS]     # of tap (0, 0), in elements of I; meaningless where that is on padding
    bint in_one_row                    # whether all pixels belong to one output row
    bint in_rows                       # whether tiles end with output rows, and skip kernel rows on padding
    Span rows                          # kernel rows to multiply: all, or those inside the image
    bint inside                        # whether all taps of these rows are inside the image, for all pixels


cdef struct ReductionBlock:
    Py_ssize_t a, b, c                 # its first kernel row, tap and channel
    Py_ssize_t rows, taps, channels    # several rows only with all taps, several taps only with all channels


cdef struct PatchRuns:                 # what every pixel of a tile reads of a block
    Py_ssize_t count, length
    Py_ssize_t step, run_step          # elements from pixel to pixel and from run to run; 0: a pointer for each


cdef inline Cursor cursor_at(Py_ssize_t pixel, const Geometry* g) noexcept nogil:
    """The output pixel with this number, counted through images, rows and columns."""
    return Cursor(pixel // g.o_w // g.o_h, pixel // g.o_w % g.o_h, pixel % g.o_w)


cdef inline void advance(Cursor* at, Py_ssize_t pixels, const Geometry* g) noexcept nogil:
    """Move on by some pixels, at most to the start of the next row."""
    at.x += pixels
    if at.x == g.o_w:
        at.x, at.y = 0, at.y + 1
        if at.y == g.o_h:
            at.y, at.n = 0, at.n + 1


cdef inline void place_pixels(
    TilePixels* pixels, const PixelStrides* strides, Py_ssize_t valid, Cursor* at, Py_ssize_t group, bint in_rows,
    const Geometry* g
) noexcept nogil:
    """Fill in the next `valid` pixels, row by row, and move the cursor past them.

    Whether kernel rows on padding are skipped depends on the pixels alone, not on the thread that computes them.
    """
    cdef Py_ssize_t step = g.s_w * strides.pixel
    cdef Py_ssize_t done = 0, end, top, left, right, offset, p
    pixels.strides, pixels.first, pixels.valid, pixels.repeat = strides[0], at[0], valid, 1
    pixels.in_one_row, pixels.in_rows = at.x + valid <= g.o_w, in_rows
    pixels.rows = Span(0, g.k_h)
    if in_rows:
        pixels.rows = inside(at.y * g.s_h - g.p_t, g.d_h, g.i_h, g.k_h)
    pixels.inside = True
    while done < valid:
        end = min(valid, done + g.o_w - at.x)
        top, left = at.y * g.s_h - g.p_t, at.x * g.s_w - g.p_l
        right = left + (end - done - 1) * g.s_w + (g.k_w - 1) * g.d_w
        if left < 0 or right >= g.i_w:
            pixels.inside = False
        if top + pixels.rows.first * g.d_h < 0 or top + (pixels.rows.end - 1) * g.d_h >= g.i_h:
            pixels.inside = False
        offset = at.n * strides.image + top * strides.row + left * strides.pixel + group * g.i_cg
        for p in range(done, end):
            pixels.offset[p] = offset
            offset += step
        advance(at, end - done, g)
        done = end
    for p in range(valid, MOST_PIXELS):
        pixels.offset[p] = pixels.offset[valid - 1]


cdef inline void join_tiles(
    TilePixels* pixels, Py_ssize_t size, Py_ssize_t most, Cursor* at, const Geometry* g
) noexcept nogil:
    """Add neighbouring tiles of the row whose taps are all inside the image, up to `most` tiles in all."""
    cdef Py_ssize_t right = (pixels.first.x + size - 1) * g.s_w - g.p_l + (g.k_w - 1) * g.d_w  # of the last pixel
    while pixels.repeat < most and at.x != 0 and at.x + size <= g.o_w and right + size * g.s_w < g.i_w:
        pixels.repeat += 1
        right += size * g.s_w
        advance(at, size, g)


cdef inline void point_at_tap(
    const floating* I, const TilePixels* pixels, Py_ssize_t size, Py_ssize_t a, Py_ssize_t b, Py_ssize_t c,
    const floating** pixel, const Geometry* g
) noexcept nogil:
    """Point every pixel at channel c of its tap (a, b); all MOST_PIXELS pointers are written."""
    cdef Py_ssize_t step = a * g.d_h * pixels.strides.row + b * g.d_w * pixels.strides.pixel + c
    cdef Cursor at = pixels.first
    cdef Py_ssize_t h, w, p
    for p in range(MOST_PIXELS):  # a constant count: a few unused pointers cost less than counting
        pixel[p] = I + (pixels.offset[p] + step)
    if pixels.inside:
        return
    for p in range(pixels.valid):
        h, w = at.y * g.s_h - g.p_t + a * g.d_h, at.x * g.s_w - g.p_l + b * g.d_w
        if not (0 <= h < g.i_h and 0 <= w < g.i_w):
            pixel[p] = <const floating*> zeros
        advance(&at, 1, g)
    for p in range(pixels.valid, size):
        pixel[p] = pixel[pixels.valid - 1]


cdef inline ReductionBlock without_padding(const ReductionBlock* block, const TilePixels* pixels) noexcept nogil:
    """The block without its kernel rows on padding; it may be empty then."""
    cdef Py_ssize_t a = min(max(block.a, pixels.rows.first), block.a + block.rows)
    cdef Py_ssize_t end = max(a, min(block.a + block.rows, pixels.rows.end))
    return ReductionBlock(a, block.b, block.c, end - a, block.taps, block.channels)


cdef inline bint taps_adjacent(const PixelStrides* strides, const Geometry* g) noexcept nogil:
    """Whether the taps of a kernel row that lie inside the image read adjacent numbers of I."""
    return g.d_w == 1 and g.groups == 1 and strides.pixel == g.i_c


cdef inline Py_ssize_t window_columns(
    Py_ssize_t size, const TilePixels* pixels, const ReductionBlock* block, Py_ssize_t room, const Geometry* g
) noexcept nogil:
    """Columns of the window of a tile within one row; 0 if it has none, because ``room`` elements are too few."""
    cdef Py_ssize_t columns = (size - 1) * g.s_w + g.k_w
    if not taps_adjacent(&pixels.strides, g) or block.taps < g.k_w or block.channels < g.i_c:
        return 0
    return columns if block.rows * columns * g.i_c <= room else 0


cdef inline void copy_window(
    const floating* I, const TilePixels* pixels, Py_ssize_t columns, const ReductionBlock* block, floating* window,
    const Geometry* g
) noexcept nogil:
    """Copy the block's kernel rows, all inside the image, with zeros in the columns that are on padding."""
    cdef Py_ssize_t top = pixels.first.y * g.s_h - g.p_t, left = pixels.first.x * g.s_w - g.p_l, a
    cdef Span span = inside(left, 1, g.i_w, columns)
    cdef const floating* line
    for a in range(block.a, block.a + block.rows):
        line = I + (pixels.first.n * pixels.strides.image + (top + a * g.d_h) * pixels.strides.row + left * g.i_c)
        zero(window, span.first * g.i_c)
        copy(window + span.first * g.i_c, line + span.first * g.i_c, (span.end - span.first) * g.i_c)
        zero(window + span.end * g.i_c, (columns - span.end) * g.i_c)
        window += columns * g.i_c


cdef inline PatchRuns point_at_block(
    const floating* I, const TilePixels* pixels, Py_ssize_t size, const ReductionBlock* block,
    const floating** pixel, floating* window, Py_ssize_t room, const Geometry* g
) noexcept nogil:
    """Point at all runs of a block: one pointer and a step if pixels are evenly spaced, else `size` for each run.

    The block is one :c:func:`without_padding`; a window has ``room`` elements.
    """
    cdef bint adjacent = pixels.inside and (block.taps == 1 or taps_adjacent(&pixels.strides, g))
    cdef Py_ssize_t taps = block.taps if adjacent else 1
    cdef Py_ssize_t columns = 0
    cdef Py_ssize_t a, b
    cdef PatchRuns runs = PatchRuns(0, taps * block.channels, 0, 0)
    if adjacent and pixels.in_one_row and pixels.valid == size:
        pixel[0] = I + (pixels.offset[0] + block.a * g.d_h * pixels.strides.row
                        + block.b * g.d_w * pixels.strides.pixel + block.c)
        return PatchRuns(block.rows, runs.length, g.s_w * pixels.strides.pixel, g.d_h * pixels.strides.row)
    if pixels.in_rows and not pixels.inside:
        columns = window_columns(size, pixels, block, room, g)
    if columns > 0:
        copy_window(I, pixels, columns, block, window, g)
        pixel[0] = window
        return PatchRuns(block.rows, g.k_w * g.i_c, g.s_w * g.i_c, columns * g.i_c)
    for a in range(block.a, block.a + block.rows):
        b = block.b
        while b < block.b + block.taps:
            point_at_tap(I, pixels, size, a, b, block.c, pixel + runs.count * size, g)
            runs.count += 1
            b += taps
    return runs


cdef inline Span with_tap(const TilePixels* pixels, Py_ssize_t b, const Geometry* g) noexcept nogil:
    """The pixels of a tile within one row that have tap b of a kernel row inside the image."""
    return inside(pixels.first.x * g.s_w - g.p_l + b * g.d_w, g.s_w, g.i_w, pixels.valid)


cdef inline Py_ssize_t taps_on_padding(const TilePixels* pixels, const Geometry* g) noexcept nogil:
    """Taps of a kernel row left or right of the image, counted over the pixels of a tile within one row."""
    cdef Py_ssize_t count = 0, b
    cdef Span span
    for b in range(g.k_w):
        span = with_tap(pixels, b, g)
        count += pixels.valid - (span.end - span.first)
    return count


cdef inline TilePixels pixels_with_tap(
    const TilePixels* pixels, Py_ssize_t least, Py_ssize_t b, const Geometry* g
) noexcept nogil:
    """The tile's pixels that have tap b; all of them where fewer than ``least`` do, but not none."""
    cdef Span span = with_tap(pixels, b, g)
    cdef TilePixels found = pixels[0]
    cdef Py_ssize_t p
    if 0 < span.end - span.first < least:
        return found
    found.first.x += span.first
    found.valid = span.end - span.first
    found.inside = True
    for p in range(found.valid):
        found.offset[p] = pixels.offset[span.first + p]
    return found


cdef inline bint next_block(ReductionBlock* block, const ReductionBlock* most, const Geometry* g) noexcept nogil:
    """Move on to the next block, of at most the extent of `most`; False after the last."""
    block.c += block.channels
    if block.c == g.i_cg:
        block.c, block.b = 0, block.b + block.taps
    if block.b == g.k_w:
        block.b, block.a = 0, block.a + block.rows
    block.rows = min(most.rows, g.k_h - block.a)
    block.taps = min(most.taps, g.k_w - block.b)
    block.channels = min(most.channels, g.i_cg - block.c)
    return block.a < g.k_h
