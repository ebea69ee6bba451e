# The output pixels of a register tile, and where in the image the taps of the kernel find theirs.
#
# A tile takes pixels as they follow each other in O, across the ends of rows and images.  A chunk of the reduction
# is a number of kernel rows, or of taps in a row, or of channels of a tap; in it every pixel reads runs of
# adjacent numbers, all of one length: a run is a kernel row (or a piece of one) where its taps lie side by side in
# the image, and otherwise a tap.
#
# Padding costs little.  A tile that is part of one output row leaves out the kernel rows that lie on it.  At the
# ends of a row it also leaves out the taps beside the image, each pixel its own, if that saves more than it costs,
# or reads a small window, a copy of its part of the image with the zeros around it, if that fits.  A pixel
# elsewhere has a constant line of zeros for each tap on padding.

from cython cimport floating

from pymec.kernels.shared.geometry cimport Geometry
from pymec.kernels.shared.patch cimport copy, positions_up_to, zero
from pymec.kernels.register_tiles.tile cimport MOST_PIXELS

cdef enum:
    RUNS = 49         # the most that one chunk has: all taps of a 7x7 kernel
    POINTERS = 700    # RUNS + 1 times MOST_PIXELS, written out: the checked build multiplies no constants here
    ZEROS = 512       # the longest run where there is padding
    WINDOW = 2048     # the largest window, in elements

cdef extern from *:
    """
    static const double pymec_zeros[512];  /* what C gives a static array to begin with; ZEROS of them */
    """
    const double zeros "pymec_zeros"[512]


cdef struct Cursor:
    Py_ssize_t n, y, x                 # an output pixel


cdef struct Range:
    Py_ssize_t begin, end


cdef struct Pixels:
    Cursor first
    Py_ssize_t wanted                  # so many are pixels of the tile, the others repeat the last of them
    Py_ssize_t tiles                   # so many like it stand side by side, this being the first
    Py_ssize_t offset[MOST_PIXELS]     # of tap (0, 0), in elements from I's first; anywhere if that is on padding
    bint in_a_row                      # whether all of them are of one row
    bint clipped                       # whether kernel rows on padding are left out, all pixels being of one row
    Py_ssize_t top, bottom             # kernel rows to multiply: all, or those in the image
    bint inside                        # whether all taps of these rows lie in images, for all pixels


cdef struct Chunk:
    Py_ssize_t a, b, c                 # kernel row, tap and channel it begins with
    Py_ssize_t rows, taps, channels    # what it has of them; all taps with several rows, all channels with taps


cdef struct Runs:                      # what every pixel of a tile reads of a chunk
    Py_ssize_t count, length
    Py_ssize_t step, run_step          # elements from pixel to pixel and from run to run; 0 if all have pointers


cdef inline Cursor cursor_at(Py_ssize_t pixel, const Geometry* g) noexcept nogil:
    """Pixels are counted through images, rows and columns."""
    return Cursor(pixel / g.o_w / g.o_h, pixel / g.o_w % g.o_h, pixel % g.o_w)


cdef inline void step_on(Cursor* at, Py_ssize_t pixels, const Geometry* g) noexcept nogil:
    """Some pixels on, no further than to the start of the next row."""
    at.x += pixels
    if at.x == g.o_w:
        at.x, at.y = 0, at.y + 1
        if at.y == g.o_h:
            at.y, at.n = 0, at.n + 1


cdef inline void place_pixels(
    Pixels* pixels, Py_ssize_t wanted, Cursor* at, Py_ssize_t group, bint in_rows, const Geometry* g
) noexcept nogil:
    """The next wanted pixels, row by row; the cursor then stands behind them.

    Kernel rows on padding are left out where tiles end with rows: for the same pixels, whoever computes them.
    """
    cdef Py_ssize_t step = g.s_w * g.i_c
    cdef Py_ssize_t done = 0, end, first, left, right, offset, p
    pixels.first, pixels.wanted, pixels.tiles = at[0], wanted, 1
    pixels.in_a_row, pixels.clipped = at.x + wanted <= g.o_w, in_rows
    pixels.top, pixels.bottom = 0, g.k_h
    if in_rows:
        first = at.y * g.s_h - g.p_t
        pixels.top = min(g.k_h, positions_up_to(-first, g))
        pixels.bottom = max(pixels.top, min(g.k_h, positions_up_to(g.i_h - first, g)))
    pixels.inside = True
    while done < wanted:
        end = min(wanted, done + g.o_w - at.x)
        first, left = at.y * g.s_h - g.p_t, at.x * g.s_w - g.p_l
        right = left + (end - done - 1) * g.s_w + (g.k_w - 1) * g.d_w
        if left < 0 or right >= g.i_w:
            pixels.inside = False
        if first + pixels.top * g.d_h < 0 or first + (pixels.bottom - 1) * g.d_h >= g.i_h:
            pixels.inside = False
        offset = ((at.n * g.i_h + first) * g.i_w + left) * g.i_c + group * g.i_cg
        for p in range(done, end):
            pixels.offset[p] = offset
            offset += step
        step_on(at, end - done, g)
        done = end
    for p in range(wanted, MOST_PIXELS):
        pixels.offset[p] = pixels.offset[wanted - 1]


cdef inline void join_tiles(
    Pixels* pixels, Py_ssize_t count, Py_ssize_t most, Cursor* at, const Geometry* g
) noexcept nogil:
    """As many tiles more of a tile's row as lie in the image with all their taps, up to so many in all."""
    cdef Py_ssize_t right = (pixels.first.x + count - 1) * g.s_w - g.p_l + (g.k_w - 1) * g.d_w  # of the last pixel
    while pixels.tiles < most and at.x != 0 and at.x + count <= g.o_w and right + count * g.s_w < g.i_w:
        pixels.tiles += 1
        right += count * g.s_w
        step_on(at, count, g)


cdef inline void point_at(
    const floating* I, const Pixels* pixels, Py_ssize_t count, Py_ssize_t a, Py_ssize_t b, Py_ssize_t c,
    const floating** pixel, const Geometry* g
) noexcept nogil:
    """Where every pixel's tap (a, b) has its channel c; all MOST_PIXELS pointers are written."""
    cdef Py_ssize_t step = (a * g.d_h * g.i_w + b * g.d_w) * g.i_c + c
    cdef Cursor at = pixels.first
    cdef Py_ssize_t h, w, p
    for p in range(MOST_PIXELS):  # a constant: some in vain cost less than counting
        pixel[p] = I + (pixels.offset[p] + step)
    if pixels.inside:
        return
    for p in range(pixels.wanted):
        h, w = at.y * g.s_h - g.p_t + a * g.d_h, at.x * g.s_w - g.p_l + b * g.d_w
        if not (0 <= h < g.i_h and 0 <= w < g.i_w):
            pixel[p] = <const floating*> zeros
        step_on(&at, 1, g)
    for p in range(pixels.wanted, count):
        pixel[p] = pixel[pixels.wanted - 1]


cdef inline Chunk without_padding(const Chunk* chunk, const Pixels* pixels) noexcept nogil:
    """The chunk without the kernel rows that lie on padding; it may then have none."""
    cdef Py_ssize_t a = min(max(chunk.a, pixels.top), chunk.a + chunk.rows)
    cdef Py_ssize_t end = max(a, min(chunk.a + chunk.rows, pixels.bottom))
    return Chunk(a, chunk.b, chunk.c, end - a, chunk.taps, chunk.channels)


cdef inline Py_ssize_t window_columns(Py_ssize_t count, const Chunk* chunk, const Geometry* g) noexcept nogil:
    """Of a tile of a row, with its taps side by side; 0 if there is no window for this chunk."""
    cdef Py_ssize_t columns = (count - 1) * g.s_w + g.k_w
    if g.d_w > 1 or g.groups > 1 or chunk.taps < g.k_w or chunk.channels < g.i_c:
        return 0
    return columns if chunk.rows * columns * g.i_c <= WINDOW else 0


cdef inline void copy_window(
    const floating* I, const Pixels* pixels, Py_ssize_t columns, const Chunk* chunk, floating* window,
    const Geometry* g
) noexcept nogil:
    """Some columns of the kernel rows of the chunk, all in the image; what is beside the image becomes zero."""
    cdef Py_ssize_t first = pixels.first.y * g.s_h - g.p_t, left = pixels.first.x * g.s_w - g.p_l
    cdef Py_ssize_t begin = min(max(-left, 0), columns), end = max(begin, min(columns, g.i_w - left))
    cdef Py_ssize_t a
    cdef const floating* line
    for a in range(chunk.a, chunk.a + chunk.rows):
        line = I + (((pixels.first.n * g.i_h + first + a * g.d_h) * g.i_w + left) * g.i_c)
        zero(window, begin * g.i_c)
        copy(window + begin * g.i_c, line + begin * g.i_c, (end - begin) * g.i_c)
        zero(window + end * g.i_c, (columns - end) * g.i_c)
        window += columns * g.i_c


cdef inline Runs point_at_chunk(
    const floating* I, const Pixels* pixels, Py_ssize_t count, const Chunk* chunk, const floating** pixel,
    floating* window, const Geometry* g
) noexcept nogil:
    """All runs of a chunk: count pointers each, run after run, or one for all where all are at one distance.

    ``chunk`` is :func:`without_padding`.
    """
    cdef bint side_by_side = pixels.inside and g.d_w == 1 and g.groups == 1
    cdef Py_ssize_t taps = chunk.taps if side_by_side else 1
    cdef Py_ssize_t columns = 0
    cdef Py_ssize_t a, b
    cdef Runs runs = Runs(0, taps * chunk.channels, 0, 0)
    if side_by_side and pixels.in_a_row and pixels.wanted == count:
        pixel[0] = I + (pixels.offset[0] + (chunk.a * g.d_h * g.i_w + chunk.b) * g.i_c + chunk.c)
        return Runs(chunk.rows, runs.length, g.s_w * g.i_c, g.d_h * g.i_w * g.i_c)
    if pixels.clipped and not pixels.inside:
        columns = window_columns(count, chunk, g)
    if columns > 0:
        copy_window(I, pixels, columns, chunk, window, g)
        pixel[0] = window
        return Runs(chunk.rows, g.k_w * g.i_c, g.s_w * g.i_c, columns * g.i_c)
    for a in range(chunk.a, chunk.a + chunk.rows):
        b = chunk.b
        while b < chunk.b + chunk.taps:
            point_at(I, pixels, count, a, b, chunk.c, pixel + runs.count * count, g)
            runs.count += 1
            b += taps
    return runs


cdef inline Range in_the_image(const Pixels* pixels, Py_ssize_t b, const Geometry* g) noexcept nogil:
    """The pixels of a tile of a row whose taps of a column of the kernel are not left or right of the image."""
    cdef Py_ssize_t left = pixels.first.x * g.s_w - g.p_l + b * g.d_w
    cdef Py_ssize_t begin = min((g.s_w - 1 - left) / g.s_w, pixels.wanted) if left < 0 else 0
    cdef Py_ssize_t end = min((g.i_w - left + g.s_w - 1) / g.s_w, pixels.wanted) if left < g.i_w else 0
    return Range(begin, max(begin, end))


cdef inline Py_ssize_t zeros_beside(const Pixels* pixels, const Geometry* g) noexcept nogil:
    """How many taps of a kernel row lie left or right of the image, for all pixels of a tile of a row."""
    cdef Py_ssize_t zeros = 0, b
    cdef Range inside
    for b in range(g.k_w):
        inside = in_the_image(pixels, b, g)
        zeros += pixels.wanted - (inside.end - inside.begin)
    return zeros


cdef inline Pixels without_zeros(
    const Pixels* pixels, Py_ssize_t least, Py_ssize_t b, const Geometry* g
) noexcept nogil:
    """Only the pixels of :c:func:`in_the_image`, or none; all of the tile if they are some, but too few."""
    cdef Range inside = in_the_image(pixels, b, g)
    cdef Pixels found = pixels[0]
    cdef Py_ssize_t p
    if 0 < inside.end - inside.begin < least:
        return found
    found.first.x += inside.begin
    found.wanted = inside.end - inside.begin
    found.inside = True
    for p in range(found.wanted):
        found.offset[p] = pixels.offset[inside.begin + p]
    return found


cdef inline bint next_chunk(Chunk* chunk, const Chunk* most, const Geometry* g) noexcept nogil:
    """The chunk that follows, of at most so many rows, taps and channels; False behind the last."""
    chunk.c += chunk.channels
    if chunk.c == g.i_cg:
        chunk.c, chunk.b = 0, chunk.b + chunk.taps
    if chunk.b == g.k_w:
        chunk.b, chunk.a = 0, chunk.a + chunk.rows
    chunk.rows = min(most.rows, g.k_h - chunk.a)
    chunk.taps = min(most.taps, g.k_w - chunk.b)
    chunk.channels = min(most.channels, g.i_cg - chunk.c)
    return chunk.a < g.k_h
