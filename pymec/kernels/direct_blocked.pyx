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

Workspace, in elements:  0 for ``direct_blocked``; G·B·m_b·k_h·k_w·i_c/G, the panels, for ``direct_panels``

Tiles are those of :mod:`pymec.kernels._register_tile`, up to 12×32.  The last panel of a group reaches back over the
one before it, so that it has m_b channels, too.  Any stride, padding, dilation and number of groups.  Taps on padding
are read from a constant line of zeros.  An output is one sum in one order, whoever computes it: the result is the
same for any number of threads.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels._geometry cimport Geometry, check_operands, check_room, check_threads, geometry
from pymec.kernels._patch cimport copy
from pymec.kernels._register_tile cimport (
    MOST_PIXELS, MOST_SUMS, POINTERS, TAPS, Tile, multiply_tile, pixels_of_tile, widest_tile,
)

cdef enum:
    ZEROS = 512  # input channels of padding that one call of the inner loop reads

cdef double zeros[ZEROS]  # never written: the zeros that a C compiler puts into static arrays


cdef struct Cursor:
    Py_ssize_t n, y, x     # an output pixel


cdef struct Pixels:                    # the output pixels of a tile
    Py_ssize_t top[MOST_PIXELS]        # where tap (0, 0) lies in the image; negative on padding
    Py_ssize_t left[MOST_PIXELS]
    Py_ssize_t offset[MOST_PIXELS]     # and in the array: elements from I's first one
    bint inside                        # whether all taps of all of them lie in images


cdef struct Lines:         # where K's lines are
    Py_ssize_t ldk         # elements from one to the next
    Py_ssize_t panel       # from one panel to the next; 0 if K is read in place


cdef struct Cut:           # how the work is cut
    Py_ssize_t channel_shares          # threads that share the panels; the others share the pixels
    Py_ssize_t pixels                  # go through all of a thread's panels before the next
    Py_ssize_t panels                  # of them together


cdef struct Part:          # of the work
    Py_ssize_t first, end              # output pixels of all images
    Py_ssize_t group
    Py_ssize_t first_block, end_block  # blocks of the group's output channels, a panel each


# The pixels of a tile -----------------------------------------------------------------------------------


cdef inline Cursor cursor_at(Py_ssize_t pixel, const Geometry* g) noexcept nogil:
    """Pixels are counted through images, rows and columns."""
    return Cursor(pixel / g.o_w / g.o_h, pixel / g.o_w % g.o_h, pixel % g.o_w)


cdef inline Py_ssize_t place_row(
    Pixels* pixels, Py_ssize_t done, Py_ssize_t wanted, const Cursor* at, Py_ssize_t group, const Geometry* g
) noexcept nogil:
    """Place pixels of one output row behind those that are placed; return how many are then."""
    cdef Py_ssize_t end = min(wanted, done + g.o_w - at.x)
    cdef Py_ssize_t top = at.y * g.s_h - g.p_t, left = at.x * g.s_w - g.p_l
    cdef Py_ssize_t offset = ((at.n * g.i_h + top) * g.i_w + left) * g.i_c + group * g.i_cg
    cdef Py_ssize_t right = left + (end - done - 1) * g.s_w + (g.k_w - 1) * g.d_w
    cdef Py_ssize_t p
    for p in range(done, end):
        pixels.top[p] = top
        pixels.left[p] = left + (p - done) * g.s_w
        pixels.offset[p] = offset + (p - done) * g.s_w * g.i_c
    if top < 0 or left < 0 or top + (g.k_h - 1) * g.d_h >= g.i_h or right >= g.i_w:
        pixels.inside = False
    return end


cdef inline void place_pixels(
    Pixels* pixels, Py_ssize_t count, Py_ssize_t wanted, Cursor* at, Py_ssize_t group, const Geometry* g
) noexcept nogil:
    """Place the next wanted pixels, and the last of them again until there are so many as counted."""
    cdef Py_ssize_t done = 0, before, p
    pixels.inside = True
    while done < wanted:
        before = done
        done = place_row(pixels, done, wanted, at, group, g)
        at.x += done - before
        if at.x == g.o_w:
            at.x, at.y = 0, at.y + 1
            if at.y == g.o_h:
                at.y, at.n = 0, at.n + 1
    for p in range(wanted, count):
        pixels.top[p], pixels.left[p] = pixels.top[wanted - 1], pixels.left[wanted - 1]
        pixels.offset[p] = pixels.offset[wanted - 1]


# One tile -----------------------------------------------------------------------------------------------


cdef struct Tap:
    Py_ssize_t a, b


cdef inline void point_at_tap(
    const floating* I, const Pixels* pixels, Py_ssize_t count, const Tap* tap, Py_ssize_t c,
    const floating** pixel, const Geometry* g
) noexcept nogil:
    """Point every pixel at what meets the lines of K from this tap and channel c on."""
    cdef Py_ssize_t step = (tap.a * g.d_h * g.i_w + tap.b * g.d_w) * g.i_c + c
    cdef Py_ssize_t h, w, p
    for p in range(count):
        pixel[p] = I + (pixels.offset[p] + step)
    if pixels.inside:
        return
    for p in range(count):
        h, w = pixels.top[p] + tap.a * g.d_h, pixels.left[p] + tap.b * g.d_w
        if not (0 <= h < g.i_h and 0 <= w < g.i_w):
            pixel[p] = <const floating*> zeros


cdef inline Py_ssize_t point_at_runs(
    const floating* I, const Pixels* pixels, Py_ssize_t count, Py_ssize_t adjacent, Tap* tap,
    const floating** pixel, const Geometry* g
) noexcept nogil:
    """The same from this tap on, for so many runs of adjacent taps as one call takes; return how many."""
    cdef Py_ssize_t runs = 0
    while tap.a < g.k_h and runs < TAPS:
        point_at_tap(I, pixels, count, tap, 0, pixel + runs * count, g)
        runs += 1
        tap.b += adjacent
        if tap.b == g.k_w:
            tap.a, tap.b = tap.a + 1, 0
    return runs


cdef void sum_taps(
    const floating* I, const floating* K, Py_ssize_t ldk, const Pixels* pixels, const Tile* tile,
    const floating* start, floating* C, Py_ssize_t ldc, const Geometry* g
) noexcept nogil:
    """A tile's sums tap by tap, of each no more channels at once than there are zeros for the padding."""
    cdef const floating* pixel[MOST_PIXELS]
    cdef Py_ssize_t lds = 0
    cdef Py_ssize_t c, length
    cdef Tap tap
    for tap.a in range(g.k_h):
        for tap.b in range(g.k_w):
            c = 0
            while c < g.i_cg:
                length = min(<Py_ssize_t> ZEROS, g.i_cg - c)
                point_at_tap(I, pixels, tile.pixels, &tap, c, pixel, g)
                multiply_tile(tile, pixel, 1, length, K, ldk, start, lds, C, ldc)
                start, lds = C, ldc
                K += length * ldk
                c += length


cdef void sum_runs(
    const floating* I, const floating* K, Py_ssize_t ldk, const Pixels* pixels, const Tile* tile,
    Py_ssize_t adjacent, const floating** pixel, Py_ssize_t runs,
    const floating* start, floating* C, Py_ssize_t ldc, const Geometry* g
) noexcept nogil:
    """A tile's sums in as few calls as can be; all ``runs`` are pointed at, if they are no more than one takes."""
    cdef Tap tap = Tap(0, 0)
    cdef Py_ssize_t length = adjacent * g.i_cg
    cdef Py_ssize_t some, lds = 0
    if runs <= TAPS:
        multiply_tile(tile, pixel, runs, length, K, ldk, start, lds, C, ldc)
        return
    while runs > 0:
        some = point_at_runs(I, pixels, tile.pixels, adjacent, &tap, pixel, g)
        runs -= some
        multiply_tile(tile, pixel, some, length, K, ldk, start, lds, C, ldc)
        start, lds = C, ldc
        K += some * length * ldk


cdef void clamp(floating* C, Py_ssize_t ldc, const Tile* tile) noexcept nogil:
    """What is below zero becomes zero (NaN is not below): while the tile is in the level-1 cache."""
    cdef Py_ssize_t p, m
    for p in range(tile.pixels):
        for m in range(tile.channels):
            C[p * ldc + m] = 0 if C[p * ldc + m] < 0 else C[p * ldc + m]


cdef void convolve_tile(
    const floating* I, const floating* K, const Lines* lines, floating* O, const Pixels* pixels,
    const Tile* tile, Py_ssize_t first, Py_ssize_t wanted, const Part* part,
    const floating* bias, bint relu, const Geometry* g
) noexcept nogil:
    """One tile of pixels, all panels of the part: what is pointed at for one of them serves for all."""
    cdef const floating* pixel[POINTERS]
    cdef floating sums[MOST_SUMS]
    cdef const floating* start
    cdef const floating* k
    cdef floating* C
    cdef bint side_by_side = pixels.inside and g.d_w == 1 and g.groups == 1
    cdef Py_ssize_t adjacent = g.k_w if side_by_side else 1
    cdef Py_ssize_t runs = g.k_h if side_by_side else g.k_h * g.k_w
    cdef Py_ssize_t block, channel, skip, p, ldc
    cdef Tap tap = Tap(0, 0)
    if runs <= TAPS:
        point_at_runs(I, pixels, tile.pixels, adjacent, &tap, pixel, g)
    for block in range(part.first_block, part.end_block):
        skip = max((block + 1) * tile.channels - g.k_cg, 0)
        channel = part.group * g.k_cg + block * tile.channels - skip
        k = K + (block * lines.panel if lines.panel else channel)
        start = bias + channel if bias != NULL else <const floating*> zeros
        C, ldc = O + first * g.k_c + channel, g.k_c
        if wanted < tile.pixels or skip > 0:
            C, ldc = sums, tile.channels
        if pixels.inside or g.i_cg <= ZEROS:
            sum_runs(I, k, lines.ldk, pixels, tile, adjacent, pixel, runs, start, C, ldc, g)
        else:
            sum_taps(I, k, lines.ldk, pixels, tile, start, C, ldc, g)
        if relu:
            clamp(C, ldc, tile)
        if C == sums:
            for p in range(wanted):
                copy(O + (first + p) * g.k_c + channel + skip, sums + p * ldc + skip, tile.channels - skip)


# All tiles of a share -----------------------------------------------------------------------------------


cdef inline Py_ssize_t blocks_of(Py_ssize_t width, const Geometry* g) noexcept nogil:
    """Blocks of output channels in a group."""
    return (g.k_cg + width - 1) / width


cdef void convolve_part(
    const floating* I, const floating* K, const Lines* lines, floating* O, const Part* part, const Tile* widest,
    const floating* bias, bint relu, const Geometry* g
) noexcept nogil:
    """Some pixels and some channels of one group; K points at the group's first panel, or at all of K."""
    cdef Pixels pixels
    cdef Tile tile = widest[0]
    cdef Cursor at = cursor_at(part.first, g)
    cdef Py_ssize_t first = part.first, wanted
    while first < part.end:
        tile.pixels = pixels_of_tile(part.end - first, widest)
        wanted = min(tile.pixels, part.end - first)
        place_pixels(&pixels, tile.pixels, wanted, &at, part.group, g)
        convolve_tile(I, K, lines, O, &pixels, &tile, first, wanted, part, bias, relu, g)
        first += wanted


cdef void convolve_share(
    const floating* I, const floating* K, const Lines* lines, floating* O,
    Py_ssize_t share, Py_ssize_t shares, const Cut* cut, const floating* bias, bint relu, const Geometry* g
) noexcept nogil:
    """A thread's share: some pixels stay in cache while all its panels go by, some panels while these do."""
    cdef Tile widest = widest_tile(g.k_cg, sizeof(floating))
    cdef Py_ssize_t blocks = blocks_of(widest.channels, g)
    cdef Py_ssize_t pixels = g.i_n * g.o_h * g.o_w, panels = g.groups * blocks
    cdef Py_ssize_t pixel_shares = shares / cut.channel_shares
    cdef Py_ssize_t i = share % pixel_shares, j = share / pixel_shares
    cdef Py_ssize_t end = (i + 1) * pixels / pixel_shares, end_panel = (j + 1) * panels / cut.channel_shares
    cdef Py_ssize_t panel
    cdef Part part
    part.first = i * pixels / pixel_shares
    while part.first < end:
        part.end = min(part.first + cut.pixels, end)
        panel = j * panels / cut.channel_shares
        while panel < end_panel:
            part.group = panel / blocks
            part.first_block = panel - part.group * blocks
            part.end_block = min(part.first_block + min(cut.panels, end_panel - panel), blocks)
            convolve_part(I, K + part.group * blocks * lines.panel, lines, O, &part, &widest, bias, relu, g)
            panel += part.end_block - part.first_block
        part.first = part.end


# What Python calls --------------------------------------------------------------------------------------


def panels_size(shape):
    """The elements of K in panels, channels counted twice where the last panel of a group reaches back."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t width = widest_tile(g.k_cg, shape.itemsize).channels
    return g.groups * blocks_of(width, &g) * width * shape.k_h * shape.k_w * shape.i_cg


cdef void pack_row(
    const floating* K, floating* panels, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t width, const Geometry* g
) noexcept nogil:
    """One row of K, all output channels, into its line of each panel."""
    cdef Py_ssize_t group, first
    for group in range(g.groups):
        first = 0
        while first < g.k_cg:
            copy(panels, K + row * g.k_c + group * g.k_cg + min(first, g.k_cg - width), width)
            panels += rows * width
            first += width


def pack(const floating[:, :, :, ::1] kernel, floating[::1] panels, shape, int n_threads=1):
    """Re-lay K in panels (``panels`` has :func:`panels_size` elements)."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t rows = g.k_h * g.k_w * g.i_cg
    cdef Py_ssize_t width = widest_tile(g.k_cg, sizeof(floating)).channels
    cdef Py_ssize_t row
    check_threads(n_threads)
    check_operands(&g, NULL, kernel.shape, NULL)
    check_room("panels", panels.shape[0], panels_size(shape))
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* to = &panels[0]
    with nogil:
        for row in prange(rows, num_threads=n_threads, schedule="static"):
            pack_row(K, to + row * width, row, rows, width, &g)


def run(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
    floating[::1] workspace, shape, int n_threads=1, cut=None,
    const floating[::1] prepared=None, const floating[::1] bias=None, bint relu=False,
):
    """Convolve tile by tile, on ``n_threads`` threads; ``workspace`` is not used.

    Parameters
    ----------
    cut : three ints, optional
        Among how many shares the panels are divided (a divisor of ``n_threads``, whose other factor is the shares
        of pixels); pixels that a thread takes through all of its panels before the next; panels that it takes
        through these pixels together.
    prepared : array, optional
        The panels that :func:`pack` has written; without them K is read in place.
    bias : array (k_c,), optional
        What every sum begins with.
    relu : bool
        Whether what ends below zero becomes zero.
    """
    cdef Geometry g = geometry(shape)
    cdef Lines lines = Lines(g.k_c, 0)
    cdef Cut pieces
    cdef Py_ssize_t share
    pieces.channel_shares, pieces.pixels, pieces.panels = cut = cut or (1, 2**31 - 1, 2**31 - 1)
    check_threads(n_threads)
    check_operands(&g, x.shape, kernel.shape, out.shape)
    if min(cut) < 1 or n_threads % pieces.channel_shares:
        raise ValueError(f"cut must be positive and begin with a divisor of {n_threads}, got {cut}")
    if bias is not None and bias.shape[0] != g.k_c:
        raise ValueError(f"bias has {bias.shape[0]} elements, but shape= speaks of {g.k_c} output channels")
    if prepared is not None:
        check_room("prepared", prepared.shape[0], panels_size(shape))
        lines.ldk = widest_tile(g.k_cg, sizeof(floating)).channels
        lines.panel = g.k_h * g.k_w * g.i_cg * lines.ldk
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0] if prepared is None else &prepared[0]
    cdef const floating* start = NULL if bias is None else &bias[0]
    cdef floating* O = &out[0, 0, 0, 0]
    with nogil:
        for share in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
            convolve_share(I, K, &lines, O, share, n_threads, &pieces, start, relu, &g)
