"""The kernel's gradient in register tiles, straight from I and dO: ``direct_blocked`` (ours).

    dK[a, b, c, m] = sum over n, y, x of I[n, y·s_h - p_t + a·d_h, x·s_w - p_l + b·d_w, c] · dO[n, y, x, m]

A *tile* is a few input channels of a tap by a line of output channels.  Where a pixel has few channels, taps
beside each other are adjacent in memory, too, and one tile has the channels of several taps:

    a pixel of I and its neighbour    R G B R G B
    dK[a]                             b = 0 | b = 1

The outputs are taken a block at a time.  A block of dO is copied line by line, and the window of the image under
it a few channels at a time, before they meet: in memory pixels are far apart, and may share few sets of a cache.
Several taps of an output are copied if some of them lie on the padding, or if they are too few for a tile.
Outputs whose tap lies on the padding are left out; a copy of several taps has zeros there (``blocks.pxd``).

===========  =========================  ================================
array        shape                      role
===========  =========================  ================================
x            (i_n, i_h, i_w, i_c)       input I
grad_out     (i_n, o_h, o_w, k_c)       the output's gradient dO
grad_kernel  (k_h, k_w, i_c/G, k_c)     the kernel's gradient dK
===========  =========================  ================================

Workspace, in elements:  slices·(512·14 + 128·min(1024/itemsize, M)) + 64/itemsize, slices = n_threads, M = k_c/G
rounded up to 128 bytes: what each thread copies of I and of dO, and a cache line to begin with one.  It is 0 under
a limit that has no room for that: then nothing is copied but adjacent taps.

Threads share the tiles, so no two write to the same place, and every sum has one order.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.gradients.blocks cimport (
    BLOCK, BLOCK_LINES, COPIED_PASSES, COPIED_TILES, WINDOW, Lines, Outputs, Tiles, Window, columns_on_image,
    copy_lines, copy_taps, copy_window, line_width, lines_in_place, tiles_of, window_under,
)
from pymec.kernels.register_tiles.outer_tiles cimport Pixels, Steps, add_outer
from pymec.kernels.register_tiles.tile cimport CACHE_LINE, MOST_PIXELS, MOST_SUMS, at_cache_line
from pymec.kernels.shared.geometry cimport Geometry, check_room, check_stage, find_pixels, geometry
from pymec.kernels.shared.interrupts cimport interrupted
from pymec.kernels.shared.patch cimport zero
from pymec.kernels.shared.spans cimport Span, both, ceil_div, inside, share_of


cdef void add_line(
    const Pixels* over, const floating* I, const floating* dO, floating* dK, Py_ssize_t inputs, Py_ssize_t width,
    Py_ssize_t skip, Py_ssize_t filled, const Geometry* g
) noexcept nogil:
    """The pixels, added to a tile of `width` output channels, of which the first `skip` do not belong to it.

    Such a tile, and one whose inputs are `filled` up with zeros, is summed apart.
    """
    cdef floating sums[MOST_SUMS]
    cdef Py_ssize_t r, m
    if skip == 0 and filled == inputs:
        add_outer(over, I, dO, dK, g.k_c, inputs, width)
        return
    zero(sums, filled * width)
    add_outer(over, I, dO, sums, width, filled, width)
    for r in range(inputs):
        for m in range(width - skip):
            dK[r * g.k_c + m] += sums[r * width + skip + m]


cdef void add_lines(
    Pixels* over, const floating* I, const floating* dO, floating* dK, Py_ssize_t inputs, Py_ssize_t filled,
    const Lines* lines, const Tiles* tiles, const Geometry* g
) noexcept nogil:
    """The pixels, added to some lines of `inputs` rows of dK."""
    cdef Py_ssize_t line, width, skip
    cdef const floating* start
    over.output = lines.steps
    for line in range(lines.span.first, lines.span.end):
        width = line_width(line, tiles, sizeof(floating), g)
        skip = max(line * tiles.line + width - g.k_cg, 0)
        start = dO if lines.copied else dO - skip
        add_line(over, I, start, dK + line * tiles.line, inputs, width, skip, filled, g)
        dO += lines.step


cdef void add_columns(
    const Pixels* over, const floating* I, const floating* dO, floating* dK, Span columns, bint on_image,
    Span part, const Lines* lines, const Tiles* tiles, const Geometry* g
) noexcept nogil:
    """Some columns of outputs, added to the rows `part` of dK[a]; I and dK begin with the kernel row.

    `on_image` is whether none of the columns' taps lies on the padding.
    """
    cdef floating copied[BLOCK * MOST_PIXELS]
    cdef Py_ssize_t inputs = part.end - part.first, step = max(inputs, tiles.least)
    cdef Pixels these = over[0]
    these.columns = columns.end - columns.first
    if these.columns == 0:
        return
    if on_image and inputs == step and g.image.pixel == g.i_c:
        I += (columns.first * g.s_w - g.p_l) * g.i_c + part.first
        these.input.column = g.s_w * g.i_c
    else:
        if inputs < step:
            zero(copied, these.images * these.rows * these.columns * step)
        copy_taps(&these, I, copied, part, step, columns.first, g)
        I = copied
        these.input.column, these.input.row = step, these.columns * step
        these.input.image = these.rows * these.input.row
    add_lines(&these, I, dO, dK + part.first * g.k_c, inputs, step, lines, tiles, g)


cdef void add_kernel_row(
    const floating* I, const floating* dO, floating* dK, Py_ssize_t a, Span part, const Lines* lines,
    const Tiles* tiles, const Outputs* block, const Geometry* g
) noexcept nogil:
    """A block of outputs, added to the rows `part` of dK[a]: channels of several adjacent taps."""
    cdef Span rows = both(block.rows, inside(a * g.d_h - g.p_t, g.s_h, g.i_h, g.o_h))
    cdef Span on_image = columns_on_image(part, block, g)
    cdef Span before = Span(block.columns.first, on_image.first), behind = Span(on_image.end, block.columns.end)
    cdef Pixels over
    over.images, over.rows = block.images.end - block.images.first, rows.end - rows.first
    over.input.image, over.input.row = g.image.image, g.s_h * g.image.row
    I += block.images.first * g.image.image + (rows.first * g.s_h - g.p_t + a * g.d_h) * g.image.row
    dO += (rows.first - block.rows.first) * lines.steps.row
    add_columns(&over, I, dO, dK, before, False, part, lines, tiles, g)
    dO += (on_image.first - before.first) * lines.steps.column
    add_columns(&over, I, dO, dK, on_image, True, part, lines, tiles, g)
    dO += (on_image.end - on_image.first) * lines.steps.column
    add_columns(&over, I, dO, dK, behind, False, part, lines, tiles, g)


cdef void add_taps(
    const floating* I, const floating* dO, floating* dK, floating* copied, Span taps, Py_ssize_t inputs,
    const Lines* lines, const Tiles* tiles, const Outputs* block, const Geometry* g
) noexcept nogil:
    """A block of outputs, added to a few input channels of some taps; I and dK begin with these channels.

    `copied` has room for a window, or is NULL.
    """
    cdef Window window = window_under(block, g)
    cdef Py_ssize_t pixels = (block.images.end - block.images.first) * window.rows * window.columns
    cdef Py_ssize_t passes = (taps.end - taps.first) * (lines.span.end - lines.span.first)
    cdef Py_ssize_t filled = inputs, top = 0, left = 0, tap, a, b
    cdef const floating* i
    cdef const floating* o
    cdef Span rows, columns
    cdef Pixels over
    cdef Steps image            # of what is read: the image, or a copy of the window
    over.images = block.images.end - block.images.first
    image.image, image.row, image.column = g.image.image, g.image.row, g.image.pixel
    if copied != NULL and pixels <= WINDOW and (inputs < tiles.least or passes >= COPIED_PASSES):
        filled = max(inputs, tiles.least)
        if inputs < filled:
            zero(copied, pixels * filled)
        copy_window(I, copied, inputs, filled, &window, block, g)
        I = copied
        image.column, image.row = filled, window.columns * filled
        image.image = window.rows * image.row
        top, left = window.top, window.left
    else:
        I += block.images.first * image.image
    over.input.image, over.input.row, over.input.column = image.image, g.s_h * image.row, g.s_w * image.column
    for tap in range(taps.first, taps.end):
        a = tap / g.k_w
        b = tap - a * g.k_w
        rows = both(block.rows, inside(a * g.d_h - g.p_t, g.s_h, g.i_h, g.o_h))
        columns = both(block.columns, inside(b * g.d_w - g.p_l, g.s_w, g.i_w, g.o_w))
        over.rows, over.columns = rows.end - rows.first, columns.end - columns.first
        if over.rows == 0 or over.columns == 0:
            continue
        i = I + (rows.first * g.s_h - g.p_t + a * g.d_h - top) * image.row
        i += (columns.first * g.s_w - g.p_l + b * g.d_w - left) * image.column
        o = dO + (rows.first - block.rows.first) * lines.steps.row
        o += (columns.first - block.columns.first) * lines.steps.column
        add_lines(&over, i, o, dK + tap * g.i_cg * g.k_c, inputs, filled, lines, tiles, g)


cdef void add_to_group(
    const floating* I, const floating* dO, floating* dK, floating* slice, Span share, Span span,
    const Tiles* tiles, const Outputs* block, const Geometry* g
) noexcept nogil:
    """A block of outputs, added to a share of one group's tiles, to some lines of each.

    `slice` is this thread's workspace, a window and some lines of dO, or NULL.  Tiles are counted through parts of
    a unit's rows, and for each part through the units: kernel rows, or taps.
    """
    cdef Lines lines
    cdef Py_ssize_t tile = share.first, first = span.first * tiles.line, end = min(span.end * tiles.line, g.k_cg)
    cdef Py_ssize_t inputs, i, r
    cdef bint afresh = block.images.first == 0 and block.rows.first == 0 and block.columns.first == 0
    cdef Span part, units
    if slice != NULL and share.end - share.first >= COPIED_TILES:
        lines = copy_lines(dO, slice + WINDOW * MOST_PIXELS, span, block, tiles, g)
        dO = slice + WINDOW * MOST_PIXELS
    else:
        lines = lines_in_place(span, tiles, g)
        dO += block.images.first * g.out.image + block.rows.first * g.out.row
        dO += block.columns.first * g.out.pixel + first
    while tile < share.end:
        i = tile / tiles.units
        part = share_of(tiles.unit, i, tiles.in_unit)
        units.first = tile - i * tiles.units
        units.end = min(tiles.units, units.first + share.end - tile)
        if afresh:
            for i in range(units.first, units.end):
                for r in range(part.first, part.end):
                    zero(dK + (i * tiles.unit + r) * g.k_c + first, end - first)
        inputs = part.end - part.first
        if tiles.unit == g.i_cg:
            add_taps(I + part.first, dO, dK + part.first * g.k_c, slice, units, inputs, &lines, tiles, block, g)
        else:
            for i in range(units.first, units.end):
                add_kernel_row(I, dO, dK + i * tiles.unit * g.k_c, i, part, &lines, tiles, block, g)
        tile += units.end - units.first


cdef void add_to_share(
    const floating* I, const floating* dO, floating* dK, floating* slice, Span share, Py_ssize_t line_shares,
    const Tiles* tiles, const Outputs* block, const Geometry* g
) noexcept nogil:
    """A block of outputs, added to a share of the tiles, counted through shares of the lines, groups and tiles."""
    cdef Py_ssize_t in_group = tiles.units * tiles.in_unit, i = share.first, group, line
    cdef Py_ssize_t outputs = (block.images.end - block.images.first) * (block.rows.end - block.rows.first) \
        * (block.columns.end - block.columns.first)
    cdef Py_ssize_t most = BLOCK * BLOCK_LINES / (outputs * tiles.line * <Py_ssize_t> sizeof(floating))
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
            add_to_group(I + group * g.i_cg, dO + group * g.k_cg, dK + group * g.k_cg, slice, own, some, tiles,
                         block, g)
            line += most
        i += own.end - own.first


cdef void add_share(
    const floating* I, const floating* dO, floating* dK, floating* slice, Span share, Py_ssize_t line_shares,
    const Tiles* tiles, const Geometry* g
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
                add_to_share(I, dO, dK, slice, share, line_shares, tiles, &block, g)
                x += columns
            y += rows
        n += images


def slice_size(shape):
    """The elements of a thread's slice of the workspace."""
    line = 2 * CACHE_LINE // shape.itemsize
    return WINDOW * MOST_PIXELS + BLOCK * min(BLOCK_LINES // shape.itemsize, -(-shape.k_cg // line) * line)


def run_kernel_grad(
    const floating[:, :, :, :] x, const floating[:, :, :, :] grad_out, floating[:, :, :, ::1] grad_kernel,
    floating[::1] workspace, shape, int n_threads=1, *, bint copies,
):
    """The kernel's gradient, its tiles shared among threads.

    ``copies`` is whether there is workspace: n_threads slices of :func:`slice_size` elements, and a cache line.
    """
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t line_shares = 1, size = slice_size(shape), share
    cdef floating* slices = NULL
    if copies:
        check_room("workspace", workspace.shape[0], n_threads * size + CACHE_LINE / sizeof(floating))
        slices = at_cache_line(&workspace[0])
    check_stage(&g, n_threads, x.shape, grad_kernel.shape, grad_out.shape)
    find_pixels(&g, x.shape, x.strides, grad_out.shape, grad_out.strides, sizeof(floating))
    cdef Tiles tiles = tiles_of(&g, sizeof(floating))
    cdef Py_ssize_t tasks = g.groups * tiles.units * tiles.in_unit
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
            add_share(I, dO, dK, slices + share * size if copies else slices,
                      share_of(tasks * line_shares, share, n_threads), line_shares, &tiles, &g)
