# The output pixels of a register tile, and where in the image the taps of the kernel find theirs.
#
# A tile takes pixels as they follow each other in O, across the ends of rows and images.  A chunk of the reduction
# is a number of kernel rows, or of taps in a row, or of channels of a tap; in it every pixel reads runs of
# adjacent numbers, all of one length: a run is a kernel row (or a piece of one) where its taps lie side by side in
# the image, and otherwise a tap.

from cython cimport floating

from pymec.kernels._geometry cimport Geometry
from pymec.kernels._register_tile cimport MOST_PIXELS

cdef enum:
    RUNS = 49         # the most that one chunk has: all taps of a 7x7 kernel
    POINTERS = 600    # RUNS + 1 times MOST_PIXELS, written out: the checked build multiplies no constants here
    ZEROS = 512       # the longest run where there is padding

cdef extern from *:
    """
    static const double pymec_zeros[512];  /* what C gives a static array to begin with; ZEROS of them */
    """
    const double zeros "pymec_zeros"[512]


cdef struct Cursor:
    Py_ssize_t n, y, x                 # an output pixel


cdef struct Pixels:
    Cursor first
    Py_ssize_t wanted                  # so many are pixels of the tile, the others repeat the last of them
    Py_ssize_t tiles                   # so many like it stand side by side, this being the first
    Py_ssize_t offset[MOST_PIXELS]     # of tap (0, 0), in elements from I's first; anywhere if that is on padding
    bint inside                        # whether all taps of all of them lie in images
    bint in_a_row                      # whether all of them are of one row


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
    Pixels* pixels, Py_ssize_t wanted, Cursor* at, Py_ssize_t group, const Geometry* g
) noexcept nogil:
    """The next wanted pixels, row by row; the cursor then stands behind them."""
    cdef Py_ssize_t step = g.s_w * g.i_c
    cdef Py_ssize_t done = 0, end, top, left, right, offset, p
    pixels.first, pixels.wanted, pixels.tiles = at[0], wanted, 1
    pixels.inside, pixels.in_a_row = True, at.x + wanted <= g.o_w
    while done < wanted:
        end = min(wanted, done + g.o_w - at.x)
        top, left = at.y * g.s_h - g.p_t, at.x * g.s_w - g.p_l
        right = left + (end - done - 1) * g.s_w
        if top < 0 or left < 0 or top + (g.k_h - 1) * g.d_h >= g.i_h or right + (g.k_w - 1) * g.d_w >= g.i_w:
            pixels.inside = False
        offset = ((at.n * g.i_h + top) * g.i_w + left) * g.i_c + group * g.i_cg
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


cdef inline Runs point_at_chunk(
    const floating* I, const Pixels* pixels, Py_ssize_t count, const Chunk* chunk, const floating** pixel,
    const Geometry* g
) noexcept nogil:
    """All runs of a chunk: count pointers each, run after run, or one for all where all are at one distance."""
    cdef bint side_by_side = pixels.inside and g.d_w == 1 and g.groups == 1
    cdef Py_ssize_t taps = chunk.taps if side_by_side else 1
    cdef Runs runs = Runs(0, taps * chunk.channels, 0, 0)
    cdef Py_ssize_t a, b
    if side_by_side and pixels.in_a_row and pixels.wanted == count:
        pixel[0] = I + (pixels.offset[0] + (chunk.a * g.d_h * g.i_w + chunk.b) * g.i_c + chunk.c)
        runs.count, runs.step, runs.run_step = chunk.rows, g.s_w * g.i_c, g.d_h * g.i_w * g.i_c
        return runs
    for a in range(chunk.a, chunk.a + chunk.rows):
        b = chunk.b
        while b < chunk.b + chunk.taps:
            point_at(I, pixels, count, a, b, chunk.c, pixel + runs.count * count, g)
            runs.count += 1
            b += taps
    return runs


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
