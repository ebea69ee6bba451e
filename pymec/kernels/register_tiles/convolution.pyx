"""Direct convolution with a tile of the output in registers, after Georganas et al., *Anatomy of
High-Performance Deep Learning Convolutions on SIMD Architectures* (SC 2018, arXiv:1808.05567) and Zhang,
Franchetti & Low, *High Performance Zero-Memory Overhead Direct Convolutions* (ICML 2018, arXiv:1809.10170).

The definition's loops in another order: a tile of o_b output pixels by m_b output channels is summed in registers
over all taps and input channels.  Each step loads one line of K, m_b numbers, and one number of each pixel, and
does o_b·m_b multiply-adds.  Both papers keep their arrays in blocked layouts, so that what a step loads is
adjacent in memory; here all arrays are plain n-h-w-c and h-w-i-o, unless a plan has packed K.

==========  ==================================  =========================================================
array       shape                               role
==========  ==================================  =========================================================
x           (i_n, i_h, i_w, i_c)                input I
kernel      (k_h, k_w, i_c/G, k_c)              kernel K, read with a step of k_c
panels      (G, B, k_h, k_w, i_c/G, m_b)        or K packed in B = ⌈k_c/(G·m_b)⌉ panels: a tile reads one panel,
                                                adjacent in memory
out         (i_n, o_h, o_w, k_c)                output O, written in tiles of o_b pixels by m_b channels
==========  ==================================  =========================================================

Workspace, in elements:  0 for ``direct_blocked``; for ``direct_panels`` the panels, G·B·m_b·k_h·k_w·i_c/G, and for
``direct_packed`` a block of them for each thread, slices·lines·panels·m_b, both with a cache line for their
alignment, 64/itemsize

The tiles are those of :mod:`pymec.kernels.register_tiles.tile`, up to 14×32.  A group's last panel overlaps the
one before it, so that all have m_b channels.  The row of the table hands over the order of the work, a
:class:`pymec.kernels.register_tiles.schedule.TileSchedule`: which panels and pixels a thread takes, and in which
blocks the reduction is summed.  Every output is one sum in one order, so the schedule and the number of threads
never change the result (unless K has an infinity or NaN, which makes NaN with a zero of the padding).

Any stride, padding, dilation and number of groups.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.register_tiles.output_tile cimport (
    KernelStrides, OutputPart, TileBlock, TileEnds, add_panel, add_tap_by_tap, goes_tap_by_tap,
)
from pymec.kernels.register_tiles.panels cimport elements_of_panels, n_panels, pack_block, pack_turned_block
from pymec.kernels.register_tiles.pixels cimport (
    POINTERS, RUNS, WINDOW, ZEROS, Cursor, ReductionBlock, cursor_at, join_tiles, next_block,
    place_pixels, point_at_block, taps_adjacent, without_padding,
)
from pymec.kernels.register_tiles.tile cimport (
    CACHE_LINE, Tile, at_cache_line, n_equal_tiles, panel_tile, pixels_of_tile, tile_for_sums, widest_tile,
)
from pymec.kernels.shared.bias_relu cimport bias_relu_of
from pymec.kernels.shared.geometry cimport (
    Geometry, PixelStrides, check_room, check_stage, find_pixels, geometry, sizes_of,
)
from pymec.kernels.shared.interrupts cimport interrupted
from pymec.kernels.shared.spans cimport Span, share_of

MOST_RUNS = RUNS
MOST_ZEROS = ZEROS


cdef struct TileSchedule:
    Py_ssize_t channel_shares          # the threads that divide the panels; the others divide the pixels
    Py_ssize_t pixels                  # that pass through all of a thread's panels before the next ones do
    Py_ssize_t panels                  # that meet these pixels together
    ReductionBlock most                # the extent of a block of the reduction
    bint in_rows                       # whether tiles end where output rows do
    Py_ssize_t padding_products        # with zeros per kernel row of a tile, from which on it goes tap by tap
    Py_ssize_t window                  # elements of the largest window


# One block of the reduction -----------------------------------------------------------------------------


cdef void convolve_block(
    const floating* I, const floating* K, floating* O, const OutputPart* part, const ReductionBlock* reduction,
    const TileSchedule* schedule, const Tile* tile, const TileEnds* ends, const Geometry* g
) noexcept nogil:
    """All tiles and panels of the part; K points at the group's first panel, or at all of K in place."""
    cdef const floating* pixel[POINTERS]  # found once for a tile, and used with every panel
    cdef floating window[WINDOW]
    cdef bint last = (reduction.a + reduction.rows == g.k_h and reduction.b + reduction.taps == g.k_w
                      and reduction.c + reduction.channels == g.i_cg)
    cdef Py_ssize_t first = part.first, left, panel
    cdef floating* to
    cdef Cursor at = cursor_at(first, g)
    cdef TileBlock block
    block.tile = tile[0]
    block.ends = TileEnds(ends.bias, reduction.a == reduction.b == reduction.c == 0, ends.relu and last)
    pixel[0] = I
    while first < part.end and not interrupted():
        left = part.end - first
        if schedule.in_rows:
            left = min(left, g.o_w - at.x)
        block.tile.pixels = pixels_of_tile(left, tile)
        to = O + at.n * part.out.image + at.y * part.out.row + at.x * part.out.pixel
        place_pixels(&block.pixels, &part.image, min(block.tile.pixels, left), &at, part.group,
                     schedule.in_rows, g)
        block.reduction = without_padding(reduction, &block.pixels)
        if goes_tap_by_tap(&block, schedule.padding_products, g):
            add_tap_by_tap(I, K, to, pixel, &block, part, g)
            first += block.tile.pixels
            continue
        block.runs = point_at_block(I, &block.pixels, block.tile.pixels, &block.reduction, pixel, window,
                                    schedule.window, g)
        if schedule.in_rows and block.runs.step > 0 and block.pixels.inside:
            join_tiles(&block.pixels, block.tile.pixels, n_equal_tiles(left, tile), &at, g)
        for panel in range(part.first_panel, part.end_panel):
            add_panel(K, to, pixel, panel, &block, part, g)
        first += block.pixels.repeat * block.pixels.valid


# A thread's share ---------------------------------------------------------------------------------------


cdef void convolve_share(
    const floating* I, const floating* K, const Py_ssize_t* taps, floating* O, floating* slice,
    const OutputPart* whole, Py_ssize_t share, Py_ssize_t shares, const TileSchedule* schedule,
    const TileEnds* ends, const Geometry* g
) noexcept nogil:
    """Some pixels stay in cache while the share's panels pass; one block of these stays while the pixels do.

    With a ``slice`` of workspace each block of K is packed in it first: from another layer's K, if there are
    ``taps``.
    """
    cdef Py_ssize_t channels = max(g.k_cg, whole.kernel.width)  # of a panel, where the group has fewer
    cdef Tile tile = tile_for_sums(channels, sizeof(floating), g.k_h * g.k_w * g.i_cg, g.s_w * whole.image.pixel)
    cdef Py_ssize_t group_panels = n_panels(tile.channels, g), pixel_shares = shares / schedule.channel_shares
    cdef Span pixels = share_of(g.i_n * g.o_h * g.o_w, share % pixel_shares, pixel_shares)
    cdef Span panels = share_of(g.groups * group_panels, share / pixel_shares, schedule.channel_shares)
    cdef Py_ssize_t panel, line, lines, group_channel
    cdef OutputPart part = whole[0]
    cdef ReductionBlock block
    part.first = pixels.first
    while part.first < pixels.end:
        part.end = min(part.first + schedule.pixels, pixels.end)
        panel = panels.first
        while panel < panels.end:
            part.group = panel / group_panels
            part.first_panel = panel - part.group * group_panels
            part.end_panel = min(part.first_panel + min(schedule.panels, panels.end - panel), group_panels)
            block = ReductionBlock(0, 0, 0, 0, 0, 0)
            while next_block(&block, &schedule.most, g):
                if slice == NULL:
                    convolve_block(I, K + part.group * group_panels * part.kernel.panel, O, &part, &block,
                                   schedule, &tile, ends, g)
                    continue
                line = (block.a * g.k_w + block.b) * g.i_cg + block.c
                lines = block.rows * block.taps * block.channels
                group_channel = part.first_panel * tile.channels
                if taps == NULL:
                    pack_block(K + line * g.k_c + part.group * g.k_cg + group_channel, slice, lines,
                               part.end_panel - part.first_panel, tile.channels, g.k_cg - group_channel, g.k_c)
                else:
                    pack_turned_block(K + group_channel * g.i_c + part.group * g.i_cg + block.c,
                                      taps + block.a * g.k_w + block.b, block.rows * block.taps, slice, lines,
                                      part.end_panel - part.first_panel, tile.channels, g.k_cg - group_channel, g)
                part.kernel = KernelStrides(tile.channels, lines * tile.channels, 0, line, part.first_panel)
                convolve_block(I, <const floating*> slice, O, &part, &block, schedule, &tile, ends, g)
            panel += part.end_panel - part.first_panel
        part.first = part.end


# What Python calls --------------------------------------------------------------------------------------


cdef TileSchedule schedule_of(
    object schedule, int n_threads, bint padded, const PixelStrides* image, const Geometry* g
) except *:
    """A :class:`pymec.kernels.register_tiles.schedule.TileSchedule` as a struct; an error where it can't be.

    Of an image whose pixels are not adjacent, blocks have no more taps than there are pointers to them.
    """
    cdef TileSchedule found
    cdef Py_ssize_t rows, taps, channels
    cdef bint dense = not padded and g.d_w == 1 and g.groups == 1
    found.channel_shares, found.pixels, found.panels, rows, taps, channels, found.in_rows = schedule[:7]
    found.padding_products, found.window = schedule[7:]
    if (found.channel_shares < 1 or found.pixels < 1 or found.panels < 1 or rows < 1 or taps < 1 or channels < 1
            or n_threads % found.channel_shares):
        raise ValueError(f"schedule must be positive and begin with a divisor of {n_threads}, got {schedule}")
    rows, taps, channels = min(rows, g.k_h), min(taps, g.k_w), min(channels, g.i_cg)
    if (rows > 1 and taps < g.k_w) or (taps > 1 and channels < g.i_cg):
        raise ValueError(
            f"a block must have all taps of several rows and all channels of several taps, got {schedule}"
        )
    if dense and not taps_adjacent(image, g):
        taps = min(taps, RUNS)
        rows = min(rows, max(1, RUNS // taps))
    elif rows * (1 if dense else taps) > RUNS:
        raise ValueError(f"a block must have at most {RUNS} runs, got {rows} rows of {taps}")
    if padded and channels > ZEROS:
        raise ValueError(f"with padding a block must have at most {ZEROS} channels, got {channels}")
    if not 0 <= found.window <= WINDOW:
        raise ValueError(f"a window must have at most {WINDOW} elements, got {found.window}")
    found.most = ReductionBlock(0, 0, 0, rows, taps, channels)
    return found


cdef bint evenly_spaced(const PixelStrides* out, const Geometry* g) noexcept nogil:
    """Whether each output pixel is equally far from the one before it, across rows and images, too."""
    cdef bint rows = g.o_h == 1 or out.row == g.o_w * out.pixel
    return rows and (g.i_n == 1 or out.image == g.o_h * g.o_w * out.pixel)


cdef int check_taps(
    const Py_ssize_t[::1] taps, const Py_ssize_t* kernel, Py_ssize_t slices, const Geometry* g
) except -1:
    """Refuse taps of another layer's kernel that are not in it, or that nothing is packed from."""
    cdef Py_ssize_t tap
    if slices == 0:
        raise ValueError("slices must be at least 1 for the taps of another layer's kernel, which is packed")
    if kernel[2] != g.k_cg or kernel[3] != g.i_c:
        raise ValueError(f"kernel must have channels {g.k_cg} and {g.i_c}, got {kernel[2]} and {kernel[3]}")
    if taps.shape[0] != g.k_h * g.k_w:
        raise ValueError(f"taps must be {g.k_h * g.k_w}, got {taps.shape[0]}")
    for tap in taps:
        if not 0 <= tap < kernel[0] * kernel[1]:
            raise ValueError(f"taps must be below {kernel[0] * kernel[1]}, got {tap}")
    return 0


def packed_size(schedule, shape):
    """Elements of a block of K, packed by one thread: whole cache lines of them."""
    cdef Geometry g = sizes_of(shape)
    cdef Tile tile = widest_tile(g.k_cg, shape.itemsize)  # sums and steps change its pixels, not its channels
    panels = min(schedule.panels, n_panels(tile.channels, &g))
    lines = min(schedule.rows, g.k_h) * min(schedule.taps, g.k_w) * min(schedule.channels, g.i_cg)
    line = CACHE_LINE // shape.itemsize
    return -(-panels * lines * tile.channels // line) * line


def run(
    const floating[:, :, :, :] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, :] out,
    floating[::1] workspace, shape, int n_threads, schedule, const floating[::1] prepared=None,
    const floating[::1] bias=None, bint relu=False, Py_ssize_t slices=0, const Py_ssize_t[::1] taps=None,
):
    """Convolve tile by tile on ``n_threads`` threads.

    Parameters
    ----------
    x : array (i_n, i_h, i_w, i_c)
    out : array (i_n, o_h, o_w, k_c)
        The pixels of both may lie some distance apart, as those of a slice do.
    kernel : array (k_h, k_w, i_c/G, k_c), or None
        Not read if there is a prepared one.
    schedule : pymec.kernels.register_tiles.schedule.TileSchedule
        How the work is shared and ordered.
    prepared : array, optional
        K in panels, written by :func:`pymec.kernels.register_tiles.panels.pack`; without it K is read in place.
    bias : array (k_c,), optional
        Added to every output.
    relu : bool
        Whether ReLU is applied then.
    slices : int
        Of the workspace, each of :func:`packed_size` elements.  A thread has one, and packs every block of K in it
        before it multiplies with it; as many threads work as there are slices.  With 0 no workspace is used.
    taps : array of k_h·k_w integers, optional
        If this convolution is a gradient of another layer's input: where each of its taps is in the layer's
        ``kernel``, which has shape (., ., k_c/G, i_c) then and is transposed as it is packed.
    """
    cdef Geometry g = geometry(shape)
    cdef TileEnds ends = TileEnds(bias_relu_of(bias, relu, &g).bias, False, relu)
    cdef Py_ssize_t width = panel_tile(g.k_cg, sizeof(floating)).channels
    cdef Py_ssize_t share, shares = n_threads if slices == 0 else slices
    cdef OutputPart whole
    if not 0 <= slices <= n_threads:
        raise ValueError(f"slices must be from 0 to n_threads={n_threads}, got {slices}")
    if kernel is None and (prepared is None or taps is not None):
        raise ValueError("kernel must be an array, if there is no prepared one")
    check_stage(&g, n_threads, x.shape, NULL if kernel is None or taps is not None else kernel.shape, out.shape)
    if taps is not None:
        check_taps(taps, kernel.shape, slices, &g)
    find_pixels(&g, x.shape, x.strides, out.shape, out.strides, sizeof(floating))
    whole.image, whole.out = g.image, g.out
    cdef TileSchedule order = schedule_of(schedule, shares, shape.is_padded, &whole.image, &g)
    whole.kernel = KernelStrides(g.k_c, 0, 0, 0, 0)
    if not evenly_spaced(&whole.out, &g):
        order.in_rows = True
    if prepared is not None:
        check_room("prepared", prepared.shape[0], elements_of_panels(&g, sizeof(floating)))
        whole.kernel = KernelStrides(width, g.k_h * g.k_w * g.i_cg * width, width, 0, 0)
    if g.i_n == 0:
        return
    cdef Py_ssize_t size = 0
    cdef floating* room = NULL
    if slices > 0:
        if prepared is not None:
            raise ValueError("slices must be 0 if there is a prepared kernel, which is packed already")
        size = packed_size(schedule, shape)
        check_room("workspace", workspace.shape[0], slices * size + CACHE_LINE // sizeof(floating))
        room = at_cache_line(&workspace[0])
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0] if prepared is None else at_cache_line(&prepared[0])
    cdef floating* O = &out[0, 0, 0, 0]
    cdef const Py_ssize_t* places = NULL if taps is None else &taps[0]
    with nogil:
        for share in prange(shares, num_threads=n_threads, schedule="static", chunksize=1):
            convolve_share(I, K, places, O, room + share * size if slices > 0 else room, &whole, share, shares,
                           &order, &ends, &g)
