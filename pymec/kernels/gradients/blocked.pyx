"""The kernel's gradient in register tiles, straight from I and dO: ``direct_blocked`` (ours).

    dK[a, b, c, m] = sum over n, y, x of I[n, y·s_h - p_t + a·d_h, x·s_w - p_l + b·d_w, c] · dO[n, y, x, m]

A *tile* is a few input channels of a tap by a line of output channels (:mod:`~pymec.kernels.register_tiles.
outer_tiles`).  Where a pixel has few channels, taps beside each other are adjacent in memory, too, and one tile
has the channels of several taps:

    a pixel of I and its neighbour    R G B R G B
    dK[a]                             b = 0 | b = 1

The outputs are taken a block at a time.  A block of dO is copied line by line, and what a tile reads of I pixel by
pixel, before they meet all tiles and all lines: in memory pixels are far apart, and may share few sets of a cache.
Outputs whose tap lies on the padding are left out; a copy of several taps has zeros there.

==========  =========================  ================================
array       shape                      role
==========  =========================  ================================
x           (i_n, i_h, i_w, i_c)       input I
grad_out    (i_n, o_h, o_w, k_c)       the output's gradient dO
grad_kernel (k_h, k_w, i_c/G, k_c)     the kernel's gradient dK
==========  =========================  ================================

Workspace: 0.  Threads share the tiles, so no two write to the same place, and every sum has one order.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.gradients.copied_inputs cimport copy_inputs, copy_taps
from pymec.kernels.register_tiles.outer_tiles cimport Pixels, Steps, add_outer, outer_tile
from pymec.kernels.register_tiles.tile cimport CACHE_LINE, MOST_PIXELS, MOST_SUMS, Tile
from pymec.kernels.shared.geometry cimport Geometry, check_stage, geometry
from pymec.kernels.shared.interrupts cimport interrupted
from pymec.kernels.shared.patch cimport copy, zero
from pymec.kernels.shared.spans cimport Span, both, ceil_div, inside, share_of


cdef enum:
    BLOCK = 128         # outputs that go by together: a copy of a tile's part of I stays in a level-1 cache
    COPIED = 131072     # bytes of dO that go by together: in a level-2 cache
    COPIED_LINES = 3    # lines of output channels from which on a copy of a tile's part of I pays
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


cdef Tiles tiles_of(const Geometry* g, Py_ssize_t itemsize) noexcept nogil:
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


cdef Py_ssize_t line_width(
    Py_ssize_t line, const Tiles* tiles, Py_ssize_t itemsize, const Geometry* g
) noexcept nogil:
    """Channels of a line: those of a tile, or a cache line of them if no more are left."""
    cdef Py_ssize_t half = CACHE_LINE / itemsize
    return half if g.k_cg - line * tiles.line <= half < tiles.line else tiles.line


cdef Lines lines_in_place(Span span, const Tiles* tiles, const Geometry* g) noexcept nogil:
    """Lines of dO where they are."""
    cdef Lines lines
    lines.span, lines.step, lines.copied = span, tiles.line, False
    lines.steps.image, lines.steps.row, lines.steps.column = g.o_h * g.o_w * g.k_c, g.o_w * g.k_c, g.k_c
    return lines


cdef Lines copy_lines(
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
                output = dO + ((n * g.o_h + y) * g.o_w + block.columns.first) * g.k_c
                output += min(line * tiles.line, g.k_cg - width)
                for x in range(columns):
                    copy(copied + x * tiles.line, output + x * g.k_c, width)
                copied += columns * tiles.line
    lines.span, lines.copied = span, True
    lines.steps.column, lines.steps.row = tiles.line, columns * tiles.line
    lines.steps.image = rows * lines.steps.row
    lines.step = (block.images.end - block.images.first) * lines.steps.image
    return lines


cdef void add_line(
    const Pixels* over, const floating* I, const floating* dO, floating* dK, Py_ssize_t inputs, Py_ssize_t width,
    Py_ssize_t skip, Py_ssize_t least, const Geometry* g
) noexcept nogil:
    """The pixels, added to a tile of `width` output channels, of which the first `skip` do not belong to it.

    Such a tile, and one of fewer than `least` inputs, which zeros fill up, is summed apart.
    """
    cdef floating sums[MOST_SUMS]
    cdef Py_ssize_t r, m
    if skip == 0 and inputs >= least:
        add_outer(over, I, dO, dK, g.k_c, inputs, width)
        return
    zero(sums, max(inputs, least) * width)
    add_outer(over, I, dO, sums, width, max(inputs, least), width)
    for r in range(inputs):
        for m in range(width - skip):
            dK[r * g.k_c + m] += sums[r * width + skip + m]


cdef void add_block(
    const floating* I, const floating* dO, floating* dK, Py_ssize_t a, Span part, const Lines* lines,
    const Tiles* tiles, const Outputs* block, const Geometry* g
) noexcept nogil:
    """A block of outputs, added to some lines of the rows `part` of dK[a], counted through taps and channels.

    I and dK begin with the group's first channel, dO with the block's first output.
    """
    cdef floating copied[BLOCK * MOST_PIXELS]
    cdef Py_ssize_t inputs = part.end - part.first, step = max(inputs, tiles.least), b = part.first / g.i_cg
    cdef bint one_tap = (part.end - 1) / g.i_cg == b
    cdef Span rows = both(block.rows, inside(a * g.d_h - g.p_t, g.s_h, g.i_h, g.o_h)), columns = block.columns
    cdef Py_ssize_t line, width, skip
    cdef Pixels over
    if one_tap:
        columns = both(columns, inside(b * g.d_w - g.p_l, g.s_w, g.i_w, g.o_w))
    if rows.first == rows.end or columns.first == columns.end:
        return
    over.images, over.rows = block.images.end - block.images.first, rows.end - rows.first
    over.columns = columns.end - columns.first
    over.I.image, over.I.row, over.I.column = g.i_h * g.i_w * g.i_c, g.s_h * g.i_w * g.i_c, g.s_w * g.i_c
    I += (block.images.first * g.i_h + rows.first * g.s_h - g.p_t + a * g.d_h) * g.i_w * g.i_c
    if one_tap:
        I += (columns.first * g.s_w - g.p_l + b * g.d_w) * g.i_c + part.first - b * g.i_cg
    if not one_tap or inputs < step or lines.span.end - lines.span.first >= COPIED_LINES:
        if inputs < step:
            zero(copied, over.images * over.rows * over.columns * step)
        if one_tap:
            copy_inputs(&over, I, copied, inputs, step)
        else:
            copy_taps(&over, I, copied, part, step, columns.first, g)
        over.I.column, over.I.row, over.I.image = step, over.columns * step, over.rows * over.columns * step
        I = copied
    over.dO = lines.steps
    dO += (rows.first - block.rows.first) * over.dO.row + (columns.first - block.columns.first) * over.dO.column
    for line in range(lines.span.first, lines.span.end):
        width = line_width(line, tiles, sizeof(floating), g)
        skip = max(line * tiles.line + width - g.k_cg, 0)
        add_line(&over, I, dO if lines.copied else dO - skip, dK + part.first * g.k_c + line * tiles.line, inputs,
                 width, skip, tiles.least, g)
        dO += lines.step


cdef void add_to_group(
    const floating* I, const floating* dO, floating* dK, Span share, Span span, const Tiles* tiles,
    const Outputs* block, const Geometry* g
) noexcept nogil:
    """A block of outputs, added to a share of one group's tiles, to some lines of each."""
    cdef floating copied[COPIED / 4]
    cdef Lines lines
    cdef Py_ssize_t tile, tap, a, b, r, first = span.first * tiles.line, end = min(span.end * tiles.line, g.k_cg)
    cdef Span part
    if share.end - share.first >= COPIED_TILES:
        lines = copy_lines(dO, copied, span, block, tiles, g)
        dO = copied
    else:
        lines = lines_in_place(span, tiles, g)
        dO += ((block.images.first * g.o_h + block.rows.first) * g.o_w + block.columns.first) * g.k_c + first
    for tile in range(share.first, share.end):
        tap = tile / tiles.in_unit * (tiles.unit / g.i_cg)
        a = tap / g.k_w
        b = tap - a * g.k_w
        part = share_of(tiles.unit, tile % tiles.in_unit, tiles.in_unit)
        part.first += b * g.i_cg
        part.end += b * g.i_cg
        if block.images.first == 0 and block.rows.first == 0 and block.columns.first == 0:
            for r in range(part.first, part.end):
                zero(dK + (a * g.k_w * g.i_cg + r) * g.k_c + first, end - first)
        add_block(I, dO, dK + a * g.k_w * g.i_cg * g.k_c, a, part, &lines, tiles, block, g)


cdef void add_to_share(
    const floating* I, const floating* dO, floating* dK, Span share, Py_ssize_t line_shares, const Tiles* tiles,
    const Outputs* block, const Geometry* g
) noexcept nogil:
    """A block of outputs, added to a share of the tiles, counted through shares of the lines, groups and tiles."""
    cdef Py_ssize_t in_group = tiles.units * tiles.in_unit, i = share.first, group, line
    cdef Py_ssize_t outputs = (block.images.end - block.images.first) * (block.rows.end - block.rows.first) \
        * (block.columns.end - block.columns.first)
    cdef Py_ssize_t most = COPIED / (outputs * tiles.line * <Py_ssize_t> sizeof(floating))  # at least 8
    cdef Span own, lines, some
    while i < share.end:
        group = i / in_group
        own.first = i - group * in_group
        own.end = min(in_group, own.first + share.end - i)
        lines = share_of(tiles.lines, group / g.groups, line_shares)
        group = group % g.groups
        line = lines.first
        while line < lines.end:
            some.first, some.end = line, min(line + most, lines.end)
            add_to_group(I + group * g.i_cg, dO + group * g.k_cg, dK + group * g.k_cg, own, some, tiles, block, g)
            line += most
        i += own.end - own.first


cdef void add_share(
    const floating* I, const floating* dO, floating* dK, Span share, Py_ssize_t line_shares, const Tiles* tiles,
    const Geometry* g
) noexcept nogil:
    """All outputs, block by block, added to a share of the tiles."""
    cdef Outputs block
    cdef Py_ssize_t columns = ceil_div(g.o_w, ceil_div(g.o_w, BLOCK)), rows = min(BLOCK / columns, g.o_h)
    cdef Py_ssize_t images = BLOCK / (rows * columns) if rows == g.o_h and columns == g.o_w else 1, n, y, x
    n = 0
    while n < g.i_n:
        block.images.first, block.images.end = n, min(n + images, g.i_n)
        y = 0
        while y < g.o_h:
            block.rows.first, block.rows.end = y, min(y + rows, g.o_h)
            x = 0
            while x < g.o_w:
                if interrupted():
                    return
                block.columns.first, block.columns.end = x, min(x + columns, g.o_w)
                add_to_share(I, dO, dK, share, line_shares, tiles, &block, g)
                x += columns
            y += rows
        n += images


def run_kernel_grad(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] grad_out, floating[:, :, :, ::1] grad_kernel,
    floating[::1] workspace, shape, int n_threads=1,
):
    """The kernel's gradient, its tiles shared among threads; ``workspace`` is not used."""
    cdef Geometry g = geometry(shape)
    cdef Tiles tiles = tiles_of(&g, sizeof(floating))
    cdef Py_ssize_t tasks = g.groups * tiles.units * tiles.in_unit, line_shares = 1, share
    check_stage(&g, n_threads, x.shape, grad_kernel.shape, grad_out.shape)
    if tasks % n_threads and tasks < 8 * n_threads:  # uneven shares: the lines are shared, too
        line_shares = min(tiles.lines, n_threads)
    cdef floating* dK = &grad_kernel[0, 0, 0, 0]
    if g.i_n == 0:
        zero(dK, g.k_h * g.k_w * g.i_cg * g.k_c)
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* dO = &grad_out[0, 0, 0, 0]
    with nogil:
        for share in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
            add_share(I, dO, dK, share_of(tasks * line_shares, share, n_threads), line_shares, &tiles, &g)
