"""Direct convolution with a tile of the output in registers, after Georganas et al., *Anatomy of
High-Performance Deep Learning Convolutions on SIMD Architectures* (SC 2018, arXiv:1808.05567) and Zhang,
Franchetti & Low, *High Performance Zero-Memory Overhead Direct Convolutions* (ICML 2018, arXiv:1809.10170).

The definition's loops in another order: for o_b output pixels and m_b output channels at a time, all sums stay in
registers while the taps and input channels go by.  One step loads one line of K and one number of each pixel and
does o_b·m_b multiply-adds with them.  Both papers keep their arrays in blocked layouts, so that all this lies
adjacent in memory; here the arrays are plain n-h-w-c, and K is, too, unless a plan has re-laid it.

==========  ==================================  =========================================================
array       shape                               role
==========  ==================================  =========================================================
x           (i_n, i_h, i_w, i_c)                input I
kernel      (k_h, k_w, i_c/G, k_c)              kernel K, read with a step of k_c
panels      (G, B, k_h, k_w, i_c/G, m_b)        or K re-laid in B = ⌈k_c/(G·m_b)⌉ panels: what a tile reads
                                                is one piece of memory
out         (i_n, o_h, o_w, k_c)                output O, written in tiles of o_b pixels by m_b channels
==========  ==================================  =========================================================

Workspace, in elements:  0 for ``direct_blocked``; for ``direct_panels`` the panels and a cache line for their
alignment, G·B·m_b·k_h·k_w·i_c/G + 64/itemsize

Tiles are those of :mod:`pymec.kernels.register_tiles.tile`, up to 14×32.  The last panel of a group reaches back over
the one before it, so that it has m_b channels, too.  Any stride, padding, dilation and number of groups.  Where
tiles end with rows, kernel rows on padding are left out, and other taps on padding where they are many; elsewhere
they are multiplied with zeros.  An output is one sum in one order, whoever computes it: the result is the same for
any number of threads (unless there is an infinity or NaN in K for zeros to meet).

An O too large for the caches is written past them: memory then has no line of it to read before the write, and the
image stays cached.  That takes whole cache lines, so an O that starts with one (pymec allocates such arrays).
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.bias_relu cimport bias_relu_of
from pymec.kernels.shared.geometry cimport Geometry, check_operands, check_room, check_threads, geometry
from pymec.kernels.register_tiles.output_tile cimport Lines, Part, Steps, add_panel, add_without_zeros, leaves_zeros_out
from pymec.kernels.register_tiles.panels cimport blocks_of
from pymec.kernels.register_tiles.pixels cimport (
    POINTERS, RUNS, WINDOW, ZEROS, Chunk, Cursor, Pixels, Runs, cursor_at, join_tiles, next_chunk, place_pixels,
    point_at_chunk, without_padding,
)
from pymec.kernels.register_tiles.tile cimport (
    CACHE_LINE, Tile, at_cache_line, panel_tile, pixels_of_tile, tile_for_sums, tiles_alike,
)
from pymec.kernels.register_tiles.registers cimport RELU, STREAM, streamed

from pymec.kernels.register_tiles.panels import panels_size
from pymec.kernels.register_tiles.schedule import tile_cut


cdef struct Cut:           # how the work is cut
    Py_ssize_t channel_shares          # threads that share the panels; the others share the pixels
    Py_ssize_t pixels                  # go through all of a thread's panels before the next do
    Py_ssize_t panels                  # meet these pixels together
    Chunk most                         # of the reduction, before its next chunk
    bint in_rows                       # tiles end where rows end
    bint streamed                      # sums go to memory past the caches


cdef struct TileEnding:          # where sums begin and end
    const void* bias                   # of all output channels, or NULL for zeros
    int ending                         # how a sum of one chunk ends: RELU, STREAM, both or 0


# All tiles of a share -----------------------------------------------------------------------------------


cdef void convolve_chunk(
    const floating* I, const floating* K, const Lines* lines, floating* O, const Part* part, const Chunk* chunk,
    bint in_rows, const Tile* widest, const TileEnding* ends, const Geometry* g
) noexcept nogil:
    """One chunk of the reduction for all tiles and panels of the part.

    K points at the group's first panel, or at all of K; what is pointed at for one panel serves for all.
    """
    cdef const floating* pixel[POINTERS]
    cdef floating window[WINDOW]
    cdef const floating* bias = <const floating*> ends.bias
    cdef bint begins = chunk.a == 0 and chunk.b == 0 and chunk.c == 0
    cdef bint ends_here = (chunk.a + chunk.rows == g.k_h and chunk.b + chunk.taps == g.k_w
                           and chunk.c + chunk.channels == g.i_cg)
    cdef int ending = ends.ending if begins and ends_here else (ends.ending & RELU if ends_here else 0)
    cdef Py_ssize_t first = part.first, left, block
    cdef floating* to
    cdef Tile tile = widest[0]
    cdef Cursor at = cursor_at(first, g)
    cdef Pixels pixels
    cdef Chunk inside
    cdef Runs runs
    pixel[0] = I
    while first < part.end:
        left = part.end - first
        if in_rows:
            left = min(left, g.o_w - at.x)
        tile.pixels = pixels_of_tile(left, widest)
        to = O + at.n * part.out.image + at.y * part.out.row + at.x * part.out.pixel
        place_pixels(&pixels, min(tile.pixels, left), &at, part.group, in_rows, g)
        inside = without_padding(chunk, &pixels)
        if leaves_zeros_out(&pixels, &tile, inside.channels, g):
            add_without_zeros(I, K, lines, to, part, &inside, &tile, &pixels, pixel, window, begins, bias, ending,
                              g)
            first += tile.pixels
            continue
        runs = point_at_chunk(I, &pixels, tile.pixels, &inside, pixel, window, g)
        if in_rows and runs.step > 0 and pixels.inside:
            join_tiles(&pixels, tile.pixels, tiles_alike(left, widest), &at, g)
        for block in range(part.first_block, part.end_block):
            add_panel(K, lines, to, part, block, &inside, pixel, &runs, &tile, &pixels, begins, bias, ending, g)
        first += pixels.tiles * pixels.wanted


cdef void convolve_share(
    const floating* I, const floating* K, const Lines* lines, floating* O, const Steps* out,
    Py_ssize_t share, Py_ssize_t shares, const Cut* cut, const TileEnding* ends, const Geometry* g
) noexcept nogil:
    """A thread's share: some pixels stay in cache while its panels go by, a chunk of these while the pixels do."""
    cdef Py_ssize_t channels = max(g.k_cg, lines.width)  # a panel's, where the group has fewer
    cdef Py_ssize_t length = g.k_h * g.k_w * g.i_cg
    cdef Tile widest = tile_for_sums(channels, sizeof(floating), length, g.s_w * g.i_c)
    cdef Py_ssize_t blocks = blocks_of(widest.channels, g)
    cdef Py_ssize_t pixels = g.i_n * g.o_h * g.o_w, panels = g.groups * blocks
    cdef Py_ssize_t pixel_shares = shares / cut.channel_shares
    cdef Py_ssize_t i = share % pixel_shares, j = share / pixel_shares
    cdef Py_ssize_t end = (i + 1) * pixels / pixel_shares, end_panel = (j + 1) * panels / cut.channel_shares
    cdef Py_ssize_t panel
    cdef Part part
    cdef Chunk chunk
    part.out = out[0]
    part.first = i * pixels / pixel_shares
    while part.first < end:
        part.end = min(part.first + cut.pixels, end)
        panel = j * panels / cut.channel_shares
        while panel < end_panel:
            part.group = panel / blocks
            part.first_block = panel - part.group * blocks
            part.end_block = min(part.first_block + min(cut.panels, end_panel - panel), blocks)
            chunk = Chunk(0, 0, 0, 0, 0, 0)
            while next_chunk(&chunk, &cut.most, g):
                convolve_chunk(I, K + part.group * blocks * lines.panel, lines, O, &part, &chunk, cut.in_rows,
                               &widest, ends, g)
            panel += part.end_block - part.first_block
        part.first = part.end
    streamed()


# What Python calls --------------------------------------------------------------------------------------


cdef Cut cut_of(object cut, int n_threads, bint padded, const Geometry* g) except *:
    """A :class:`pymec.kernels.register_tiles.schedule.TileCut` as a struct, or an error where it can't be."""
    cdef Cut found
    cdef Py_ssize_t rows, taps, channels
    cdef bint side_by_side = not padded and g.d_w == 1 and g.groups == 1
    found.channel_shares, found.pixels, found.panels, rows, taps, channels, found.in_rows, found.streamed = cut
    if min(cut[:6]) < 1 or n_threads % found.channel_shares:
        raise ValueError(f"cut must be positive and begin with a divisor of {n_threads}, got {cut}")
    rows, taps, channels = min(rows, g.k_h), min(taps, g.k_w), min(channels, g.i_cg)
    if (rows > 1 and taps < g.k_w) or (taps > 1 and channels < g.i_cg):
        raise ValueError(f"a chunk must have all taps of several rows and all channels of several taps, got {cut}")
    if rows * (1 if side_by_side else taps) > RUNS:
        raise ValueError(f"a chunk must have at most {RUNS} runs, got {rows} rows of {taps}")
    if padded and channels > ZEROS:
        raise ValueError(f"with padding a chunk must have at most {ZEROS} channels, got {channels}")
    found.most = Chunk(0, 0, 0, rows, taps, channels)
    return found


cdef Steps steps_of(const Py_ssize_t* strides, Py_ssize_t itemsize) except *:
    """The steps of an output whose pixels may lie anywhere, each with its channels adjacent."""
    cdef Py_ssize_t i
    for i in range(3):
        if strides[i] % itemsize:
            raise ValueError(f"out must have strides of whole elements, got {strides[i]} for {itemsize} bytes")
    if strides[3] != itemsize:
        raise ValueError(f"out must have the channels of a pixel adjacent, got a stride of {strides[3]} bytes")
    return Steps(strides[0] // itemsize, strides[1] // itemsize, strides[2] // itemsize)


cdef bint one_step(const Steps* out, const Geometry* g) noexcept nogil:
    """Whether every pixel of the output is as far from the one before."""
    cdef bint rows = g.o_h == 1 or out.row == g.o_w * out.pixel
    return rows and (g.i_n == 1 or out.image == g.o_h * g.o_w * out.pixel)


cdef bint in_lines(const void* O, const Steps* out, const Geometry* g, Py_ssize_t itemsize) noexcept nogil:
    """Whether every pixel's channels, of each group, begin with a cache line."""
    cdef Py_ssize_t line = CACHE_LINE / itemsize
    cdef bint steps = out.pixel % line == 0 and out.row % line == 0 and out.image % line == 0
    return <size_t> O % CACHE_LINE == 0 and g.k_cg % line == 0 and steps


def run(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, :] out,
    floating[::1] workspace, shape, int n_threads=1, cut=None, const floating[::1] prepared=None,
    const floating[::1] bias=None, bint relu=False,
):
    """Convolve tile by tile, on ``n_threads`` threads; ``workspace`` is not used.

    Parameters
    ----------
    out : array (i_n, o_h, o_w, k_c)
        Its pixels may lie anywhere, as those of a slice do.
    cut : pymec.kernels.register_tiles.schedule.TileCut, optional
        How the work is shared and ordered; by default as :func:`pymec.kernels.register_tiles.schedule.tile_cut` says.
    prepared : array, optional
        The panels that :func:`pack` has written; without them K is read in place.
    bias : array (k_c,), optional
        What every sum begins with.
    relu : bool
        Whether what ends below zero becomes zero.
    """
    cdef Geometry g = geometry(shape)
    cdef TileEnding ends = TileEnding(bias_relu_of(bias, relu, &g).bias, RELU if relu else 0)
    cdef Lines lines = Lines(g.k_c, 0, 0)
    cdef Py_ssize_t width = panel_tile(g.k_cg, sizeof(floating)).channels
    cdef Py_ssize_t share
    check_threads(n_threads)
    check_operands(&g, x.shape, kernel.shape, out.shape)
    cut = cut or tile_cut(shape, n_threads, prepared is not None)
    cdef Cut blocking = cut_of(cut, n_threads, shape.is_padded, &g)
    cdef Steps steps = steps_of(out.strides, sizeof(floating))
    if not one_step(&steps, &g):
        blocking.in_rows = True  # from a row's end to the next row is another step
    if prepared is not None:
        check_room("prepared", prepared.shape[0], panels_size(shape))
        lines = Lines(width, g.k_h * g.k_w * g.i_cg * width, width)
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0] if prepared is None else at_cache_line(&prepared[0])
    cdef floating* O = &out[0, 0, 0, 0]
    if blocking.streamed and in_lines(O, &steps, &g, sizeof(floating)):
        ends.ending |= STREAM
    with nogil:
        for share in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
            convolve_share(I, K, &lines, O, &steps, share, n_threads, &blocking, &ends, &g)
