"""The kernel's gradient in register tiles, straight from I and dO: ``direct_blocked`` (ours).

    dK[a, b, c, m] = sum over n, y, x of I[n, y·s_h - p_t + a·d_h, x·s_w - p_l + b·d_w, c] · dO[n, y, x, m]

A *tile* is a few input channels of a tap by a line of output channels (:mod:`~pymec.kernels.register_tiles.
outer_tiles`).  Where a pixel has few channels, taps beside each other are adjacent in memory, too, and one tile
has the channels of several taps:

    a pixel of I and its neighbour    R G B R G B
    dK[a]                             b = 0 | b = 1

The outputs are taken a block at a time.  What a tile reads of I is copied once, pixel by pixel, and then meets all
lines of output channels: in memory pixels may be so far apart that they share few sets of a cache.  Outputs whose
tap lies on the padding are left out; a copy of several taps has zeros there.

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

from pymec.kernels.register_tiles.outer_tiles cimport Pixels, add_outer, outer_tile
from pymec.kernels.register_tiles.tile cimport CACHE_LINE, MOST_PIXELS, MOST_SUMS, Tile
from pymec.kernels.shared.geometry cimport Geometry, check_stage, geometry
from pymec.kernels.shared.interrupts cimport interrupted
from pymec.kernels.shared.patch cimport clip, copy, zero
from pymec.kernels.shared.spans cimport Span, ceil_div, innermost, inside, share_of


cdef enum:
    BLOCK = 128         # outputs that go by together: a copy of a tile's part of I stays in a level-1 cache
    COPIED_LINES = 3    # lines of output channels from which on the copy pays


cdef struct Tiles:
    Py_ssize_t unit         # rows of dK that may share a tile: input channels of a tap, or of a kernel row
    Py_ssize_t units        # of a group
    Py_ssize_t in_unit      # tiles of a unit
    Py_ssize_t least        # rows of the smallest tile
    Py_ssize_t line         # output channels of a tile
    Py_ssize_t lines        # of a group


cdef struct Outputs:
    Span images, rows, columns


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


cdef Span both(Span one, Span other) noexcept nogil:
    """What lies in both spans."""
    cdef Span span
    span.first = max(one.first, other.first)
    span.end = max(span.first, min(one.end, other.end))
    return span


cdef void copy_inputs(
    const Pixels* over, const floating* I, floating* copied, Py_ssize_t inputs, Py_ssize_t step
) noexcept nogil:
    """A few input channels of all pixels, `step` elements apart."""
    cdef Py_ssize_t image, row, _
    cdef const floating* pixel
    for image in range(over.images):
        for row in range(over.rows):
            pixel = I + image * over.I.image + row * over.I.row
            for _ in range(over.columns):
                copy(copied, pixel, inputs)
                copied += step
                pixel += over.I.column


cdef void copy_taps(
    const Pixels* over, const floating* I, floating* copied, Span part, Py_ssize_t step, Py_ssize_t x,
    const Geometry* g
) noexcept nogil:
    """The same for adjacent taps: `part` of the kernel row at every output from column x on, zeros on padding."""
    cdef Py_ssize_t inputs = part.end - part.first, image, row, column, first, before, end
    cdef const floating* image_row
    for image in range(over.images):
        for row in range(over.rows):
            image_row = I + image * over.I.image + row * over.I.row
            for column in range(x, x + over.columns):
                first = (column * g.s_w - g.p_l) * g.i_c + part.first
                before = clip(-first, 0, inputs)
                end = clip(g.i_w * g.i_c - first, before, inputs)
                if end - before < inputs:
                    zero(copied, inputs)
                if before < end:
                    copy(copied + before, image_row + first + before, end - before)
                copied += step


cdef void add_line(
    const Pixels* over, const floating* I, const floating* dO, floating* dK, Py_ssize_t inputs, Py_ssize_t line,
    Py_ssize_t left, Py_ssize_t least, const Geometry* g
) noexcept nogil:
    """The pixels, added to a tile of `line` output channels, of which `left` are left in the group.

    A line with fewer reaches back over the one before it, and fewer than `least` inputs are filled up with zeros.
    Such a tile is summed apart, and what belongs to it is added.
    """
    cdef floating sums[MOST_SUMS]
    cdef Py_ssize_t half = CACHE_LINE / sizeof(floating), skip, r, m
    if left >= line and inputs >= least:
        add_outer(over, I, dO, dK, g.k_c, inputs, line)
        return
    if left <= half < line:
        line = half
    left = min(left, line)
    skip = line - left
    zero(sums, max(inputs, least) * line)
    add_outer(over, I, dO - skip, sums, line, max(inputs, least), line)
    for r in range(inputs):
        for m in range(left):
            dK[r * g.k_c + m] += sums[r * line + skip + m]


cdef void add_block(
    const floating* I, const floating* dO, floating* dK, Py_ssize_t a, Span part, Span lines, const Tiles* tiles,
    const Outputs* block, const Geometry* g
) noexcept nogil:
    """A block of outputs, added to some lines of the rows `part` of dK[a], counted through taps and channels."""
    cdef floating copied[BLOCK * MOST_PIXELS]
    cdef Py_ssize_t inputs = part.end - part.first, step = max(inputs, tiles.least), b = part.first / g.i_cg, line
    cdef bint one_tap = (part.end - 1) / g.i_cg == b
    cdef Span rows = both(block.rows, inside(a * g.d_h - g.p_t, g.s_h, g.i_h, g.o_h)), columns = block.columns
    cdef Pixels over
    if one_tap:
        columns = both(columns, inside(b * g.d_w - g.p_l, g.s_w, g.i_w, g.o_w))
    if rows.first == rows.end or columns.first == columns.end:
        return
    over.images, over.rows = block.images.end - block.images.first, rows.end - rows.first
    over.columns = columns.end - columns.first
    over.I.image, over.I.row, over.I.column = g.i_h * g.i_w * g.i_c, g.s_h * g.i_w * g.i_c, g.s_w * g.i_c
    over.dO.image, over.dO.row, over.dO.column = g.o_h * g.o_w * g.k_c, g.o_w * g.k_c, g.k_c
    I += (block.images.first * g.i_h + rows.first * g.s_h - g.p_t + a * g.d_h) * g.i_w * g.i_c
    dO += ((block.images.first * g.o_h + rows.first) * g.o_w + columns.first) * g.k_c
    dK += part.first * g.k_c
    if one_tap:
        I += (columns.first * g.s_w - g.p_l + b * g.d_w) * g.i_c + part.first - b * g.i_cg
    if not one_tap or inputs < step or lines.end - lines.first >= COPIED_LINES:
        if inputs < step:
            zero(copied, over.images * over.rows * over.columns * step)
        if one_tap:
            copy_inputs(&over, I, copied, inputs, step)
        else:
            copy_taps(&over, I, copied, part, step, columns.first, g)
        over.I.column, over.I.row, over.I.image = step, over.columns * step, over.rows * over.columns * step
        I = copied
    for line in range(lines.first, lines.end):
        add_line(&over, I, dO + line * tiles.line, dK + line * tiles.line, inputs, tiles.line,
                 g.k_cg - line * tiles.line, tiles.least, g)


cdef void add_to_tiles(
    const floating* I, const floating* dO, floating* dK, Py_ssize_t task, Py_ssize_t line_shares,
    const Tiles* tiles, const Outputs* block, const Geometry* g
) noexcept nogil:
    """A block of outputs, added to some lines of a few rows of dK."""
    cdef Span lines = share_of(tiles.lines, innermost(&task, line_shares), line_shares)
    cdef Span part = share_of(tiles.unit, innermost(&task, tiles.in_unit), tiles.in_unit)
    cdef Py_ssize_t unit = innermost(&task, tiles.units), group = task
    cdef Py_ssize_t tap = unit * (tiles.unit / g.i_cg), a = tap / g.k_w, b = tap - a * g.k_w, r
    cdef Py_ssize_t first = lines.first * tiles.line, end = min(lines.end * tiles.line, g.k_cg)
    part.first += b * g.i_cg
    part.end += b * g.i_cg
    dK += a * g.k_w * g.i_cg * g.k_c + group * g.k_cg
    if block.images.first == 0 and block.rows.first == 0 and block.columns.first == 0:
        for r in range(part.first, part.end):
            zero(dK + r * g.k_c + first, end - first)
    add_block(I + group * g.i_cg, dO + group * g.k_cg, dK, a, part, lines, tiles, block, g)


cdef void add_share(
    const floating* I, const floating* dO, floating* dK, Span share, Py_ssize_t line_shares, const Tiles* tiles,
    const Geometry* g
) noexcept nogil:
    """All outputs, block by block, added to a share of the tiles."""
    cdef Outputs block
    cdef Py_ssize_t columns = ceil_div(g.o_w, ceil_div(g.o_w, BLOCK)), rows = min(BLOCK / columns, g.o_h)
    cdef Py_ssize_t images = BLOCK / (rows * columns) if rows == g.o_h and columns == g.o_w else 1, n, y, x, task
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
                for task in range(share.first, share.end):
                    add_to_tiles(I, dO, dK, task, line_shares, tiles, &block, g)
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
