# How the kernel's gradient is cut into tiles and blocks, and what is copied for them of I and dO.

from cython cimport floating

from pymec.kernels.register_tiles.outer_tiles cimport Pixels, Steps, outer_tile
from pymec.kernels.register_tiles.tile cimport CACHE_LINE, Tile
from pymec.kernels.shared.geometry cimport Geometry
from pymec.kernels.shared.patch cimport clip, copy, zero
from pymec.kernels.shared.spans cimport Span, both, ceil_div, inside


cdef enum:
    BLOCK = 128         # outputs that go by together: a copy of a tile's part of I stays in a level-1 cache
    BLOCK_LINES = 1024  # bytes of their output channels that do: 128 KiB of dO stay in a level-2 cache
    WINDOW = 512        # pixels of the largest copy of what a tile reads of I: 28 KiB
    COPIED_PASSES = 6   # passes of a tile over its pixels, one for each tap and line, from which on the copy pays
    COPIED_TILES = 6    # tiles from which on a copy of a block of dO pays


cdef struct Tiles:
    Py_ssize_t unit         # rows of dK that may share a tile: input channels of a tap, or of a kernel row
    Py_ssize_t units        # of a group
    Py_ssize_t in_unit      # tiles of a unit
    Py_ssize_t least        # rows of the smallest tile
    Py_ssize_t line         # output channels of a tile
    Py_ssize_t lines        # of a group


cdef struct Outputs:        # a block of them
    Span images, rows, columns


cdef struct Lines:          # of output channels, in dO or in a copy
    Span span
    Py_ssize_t step         # from one line to the next
    Steps steps             # from one output to another
    bint copied             # a copy of the last line has reached back, if the line is not full


cdef inline Tiles tiles_of(const Geometry* g, Py_ssize_t itemsize) noexcept nogil:
    """How dK is cut into tiles."""
    cdef Tile tile = outer_tile(g.k_cg, itemsize)
    cdef Tiles tiles
    cdef bint taps_are_adjacent = g.groups == 1 and g.d_w == 1 and g.i_cg < tile.most
    tiles.unit = g.k_w * g.i_cg if taps_are_adjacent else g.i_cg
    tiles.units = g.k_h if taps_are_adjacent else g.k_h * g.k_w
    tiles.in_unit = ceil_div(tiles.unit, tile.most)
    tiles.least = tile.least
    tiles.line = min(tile.channels, g.k_cg)
    tiles.lines = ceil_div(g.k_cg, tiles.line)
    return tiles


cdef inline Py_ssize_t line_width(
    Py_ssize_t line, const Tiles* tiles, Py_ssize_t itemsize, const Geometry* g
) noexcept nogil:
    """Channels of a line: those of a tile, or a cache line of them if no more are left."""
    cdef Py_ssize_t half = CACHE_LINE // itemsize
    return half if g.k_cg - line * tiles.line <= half < tiles.line else tiles.line


cdef inline Lines lines_in_place(Span span, const Tiles* tiles, const Geometry* g) noexcept nogil:
    """Lines of dO where they are."""
    cdef Lines lines
    lines.span, lines.step, lines.copied = span, tiles.line, False
    lines.steps.image, lines.steps.row, lines.steps.column = g.out.image, g.out.row, g.out.pixel
    return lines


cdef inline Lines copy_lines(
    const floating* dO, floating* copied, Span span, const Outputs* block, const Tiles* tiles, const Geometry* g
) noexcept nogil:
    """Copy a block of dO line by line, so that the outputs of a line are adjacent."""
    cdef Lines lines
    cdef Py_ssize_t columns = block.columns.end - block.columns.first, rows = block.rows.end - block.rows.first
    cdef Py_ssize_t line, width, n, y, x
    cdef const floating* output
    for line in range(span.first, span.end):
        width = line_width(line, tiles, sizeof(floating), g)
        for n in range(block.images.first, block.images.end):
            for y in range(block.rows.first, block.rows.end):
                output = dO + n * g.out.image + y * g.out.row + block.columns.first * g.out.pixel
                output += min(line * tiles.line, g.k_cg - width)
                for x in range(columns):
                    copy(copied + x * tiles.line, output + x * g.out.pixel, width)
                copied += columns * tiles.line
    lines.span, lines.copied = span, True
    lines.steps.column, lines.steps.row = tiles.line, columns * tiles.line
    lines.steps.image = rows * lines.steps.row
    lines.step = (block.images.end - block.images.first) * lines.steps.image
    return lines


cdef struct Window:         # the part of the image under a block of outputs, the padding around it included
    Py_ssize_t top, left
    Py_ssize_t rows, columns


cdef inline Window window_under(const Outputs* block, const Geometry* g) noexcept nogil:
    cdef Window window
    window.top, window.left = block.rows.first * g.s_h - g.p_t, block.columns.first * g.s_w - g.p_l
    window.rows = (block.rows.end - block.rows.first - 1) * g.s_h + (g.k_h - 1) * g.d_h + 1
    window.columns = (block.columns.end - block.columns.first - 1) * g.s_w + (g.k_w - 1) * g.d_w + 1
    return window


cdef inline void copy_window(
    const floating* I, floating* copied, Py_ssize_t inputs, Py_ssize_t step, const Window* window,
    const Outputs* block, const Geometry* g
) noexcept nogil:
    """A few input channels of a window of some images, its pixels `step` elements apart; not those on padding."""
    cdef Py_ssize_t first = max(window.left, 0), end = min(window.left + window.columns, g.i_w), n, h, w
    cdef const floating* image_row
    for n in range(block.images.first, block.images.end):
        for h in range(window.top, window.top + window.rows):
            if 0 <= h < g.i_h:
                image_row = I + n * g.image.image + h * g.image.row
                for w in range(first, end):
                    copy(copied + (w - window.left) * step, image_row + w * g.image.pixel, inputs)
            copied += window.columns * step


cdef inline Span columns_on_image(Span part, const Outputs* block, const Geometry* g) noexcept nogil:
    """The block's columns with all numbers of `part` of a kernel row on the image; without any, its empty end.
    """
    cdef Py_ssize_t first = part.first - g.p_l * g.i_c, last = part.end - 1 - g.p_l * g.i_c
    cdef Span begun = inside(first, g.s_w * g.i_c, g.i_w * g.i_c, g.o_w)
    cdef Span whole = both(both(begun, inside(last, g.s_w * g.i_c, g.i_w * g.i_c, g.o_w)), block.columns)
    return whole if whole.first < whole.end else Span(block.columns.end, block.columns.end)


cdef inline void copy_taps(
    const Pixels* over, const floating* I, floating* copied, Span part, Py_ssize_t step, Py_ssize_t x,
    const Geometry* g
) noexcept nogil:
    """`part` of the kernel row, adjacent taps, at every output from column x on; zeros on padding."""
    cdef Py_ssize_t inputs = part.end - part.first, image, row, column, first, before, end, i
    cdef const floating* image_row
    for image in range(over.images):
        for row in range(over.rows):
            image_row = I + image * over.input.image + row * over.input.row
            for column in range(x, x + over.columns):
                # Numbers of a row whose pixels are adjacent: of `inputs` from `first` on, some lie on the image.
                first = (column * g.s_w - g.p_l) * g.i_c + part.first
                before = clip(-first, 0, inputs)
                end = clip(g.i_w * g.i_c - first, before, inputs)
                if end - before < inputs:
                    zero(copied, inputs)
                if g.image.pixel > g.i_c:
                    for i in range(before, end):
                        copied[i] = image_row[(first + i) // g.i_c * g.image.pixel + (first + i) % g.i_c]
                elif before < end:
                    copy(copied + before, image_row + first + before, end - before)
                copied += step
