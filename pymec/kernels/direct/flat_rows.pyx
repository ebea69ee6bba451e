"""Rows of a depthwise convolution whose pixels have fewer channels than a block; one channel is the extreme.

The channels of a row lie side by side, and so do its pixels: a row of O is o_w·G numbers, and with stride 1 each
tap reads a row of I as long, b·d_w·G numbers further on.

    O[n,y][j] = sum over a < k_h, b < k_w of I[n, y·s_h - p_t + a·d_h][j + (b·d_w - p_l)·G] · K[a,b][j mod G]

So 96 neighbouring sums of j (48 in double precision) stay in registers while the taps go by.  K[a,b] is repeated
along them beforehand, a few taps at a time; of a single channel it is one number.  Where a tap reads beyond the
row, and with a stride or pixels that lie apart as a slice's do, the numbers that the sums need are gathered in
windows first: zeros beyond the row, and columns s_w apart brought together.
"""

from pymec.kernels.direct.lanes cimport LANES, LINE, LINE_BYTES, lanes, line
from pymec.kernels.shared.interrupts cimport interrupted
from pymec.kernels.shared.patch cimport copy, zero
from pymec.kernels.shared.per_cpu cimport compiled_per_cpu
from pymec.kernels.shared.spans cimport Span, ceil_div, innermost, inside

cdef enum:
    TAPS = 32            # whose numbers of K are repeated at a time
    REPEATED = 3072      # TAPS * LANES, written out: with all its checks on, Cython multiplies no constants here
    ROWS = 8             # output rows that meet these taps before the next ones
    WINDOW = 8192        # elements that the windows of a tile may have together
    LEAST_SUMS = 8       # of a row: fewer do not pay for a tile


cdef struct Taps:                # the taps of one turn, of kernel rows a and columns b
    Span a, b
    bint begins, ends            # the first turn begins with the bias, the last one applies ReLU


cdef struct RowTile:                # neighbouring sums of one output row
    Py_ssize_t x                 # the pixel of the first one
    Py_ssize_t skip, end         # the lanes that are stored
    bint gathered


# Windows ------------------------------------------------------------------------------------------------


cdef inline Py_ssize_t pixels_of(Py_ssize_t n_lanes, const Geometry* g) noexcept nogil:
    """Pixels that some lanes belong to, the last one perhaps in part."""
    return ceil_div(n_lanes, g.i_c)


cdef inline Py_ssize_t window_pixels(Py_ssize_t n_lanes, const Geometry* g) noexcept nogil:
    """Pixels in a window of columns s_w apart; there are s_w such windows."""
    return pixels_of(n_lanes, g) + (g.k_w - 1) * g.d_w / g.s_w


cdef bint rows_pay(Py_ssize_t itemsize, const Geometry* g) noexcept nogil:
    """Whether a row has some sums, and the windows of a tile have room: else its taps are too far apart."""
    return g.o_w * g.k_c >= LEAST_SUMS and g.s_w * window_pixels(6 * LINE_BYTES / itemsize, g) * g.i_c <= WINDOW


cdef inline void copy_pixels(
    floating* to, Py_ssize_t to_step, const floating* of, Py_ssize_t of_step, Py_ssize_t pixels,
    Py_ssize_t channels,
) noexcept nogil:
    """Copy pixels some distance apart; adjacent ones at once."""
    cdef Py_ssize_t i
    if to_step == of_step == channels:
        copy(to, of, pixels * channels)
        return
    for i in range(pixels):
        copy(to + i * to_step, of + i * of_step, channels)


cdef void gather(
    const floating* image_row, floating* window, Py_ssize_t x, Py_ssize_t pixels, const Geometry* g
) noexcept nogil:
    """s_w windows of columns s_w apart, from the first column that output x reads; zeros beyond the row."""
    cdef Py_ssize_t phase, first
    cdef Span within
    for phase in range(min(g.s_w, (g.k_w - 1) * g.d_w + 1)):
        first = x * g.s_w - g.p_l + phase
        within = inside(first, g.s_w, g.i_w, pixels)
        zero(window, within.first * g.i_c)
        copy_pixels(window + within.first * g.i_c, g.i_c,
                    image_row + (first + within.first * g.s_w) * g.image.pixel, g.s_w * g.image.pixel,
                    within.end - within.first, g.i_c)
        zero(window + within.end * g.i_c, (pixels - within.end) * g.i_c)
        window += pixels * g.i_c


# Sums ---------------------------------------------------------------------------------------------------


cdef compiled_per_cpu repeat(const floating* numbers, floating* repeated, Py_ssize_t channels) noexcept nogil:
    """repeated[i] = numbers[i mod channels] for every lane."""
    cdef Py_ssize_t i, c = 0
    for i in range(lanes(numbers)):
        repeated[i] = numbers[c]
        c = c + 1 if c + 1 < channels else 0


cdef compiled_per_cpu add_taps(
    const floating* numbers, Py_ssize_t step, Py_ssize_t taps, const floating* repeated, floating* sums
) noexcept nogil:
    """sums[i] += sum over t < taps of numbers[t·step + i] · repeated[t, i], for every lane."""
    cdef floating total[6][LINE]
    cdef Py_ssize_t width = line(numbers), i, v, _
    for v in range(6):
        for i in range(line(numbers)):
            total[v][i] = sums[v * width + i]
    for _ in range(taps):
        # Six lines in place of a loop over v: gcc turns this form, and not the loop, into registers.
        for i in range(line(numbers)):
            total[0][i] += numbers[i] * repeated[i]
            total[1][i] += numbers[width + i] * repeated[width + i]
            total[2][i] += numbers[2 * width + i] * repeated[2 * width + i]
            total[3][i] += numbers[3 * width + i] * repeated[3 * width + i]
            total[4][i] += numbers[4 * width + i] * repeated[4 * width + i]
            total[5][i] += numbers[5 * width + i] * repeated[5 * width + i]
        numbers += step
        repeated += 6 * width
    for v in range(6):
        for i in range(line(numbers)):
            sums[v * width + i] = total[v][i]


cdef compiled_per_cpu add_taps_of_one_channel(
    const floating* numbers, Py_ssize_t step, Py_ssize_t taps, const floating* K, floating* sums
) noexcept nogil:
    """The same for a single channel: every lane is multiplied with the same number of K."""
    cdef floating total[6][LINE]
    cdef Py_ssize_t width = line(numbers), i, v, _
    for v in range(6):
        for i in range(line(numbers)):
            total[v][i] = sums[v * width + i]
    for _ in range(taps):
        for i in range(line(numbers)):
            total[0][i] += numbers[i] * K[0]
            total[1][i] += numbers[width + i] * K[0]
            total[2][i] += numbers[2 * width + i] * K[0]
            total[3][i] += numbers[3 * width + i] * K[0]
            total[4][i] += numbers[4 * width + i] * K[0]
            total[5][i] += numbers[5 * width + i] * K[0]
        numbers += step
        K += 1
    for v in range(6):
        for i in range(line(numbers)):
            sums[v * width + i] = total[v][i]


cdef inline void begin_sums(
    floating* sums, const floating* O, const RowTile* tile, const Taps* taps, const BiasRelu* bias_relu,
    const Geometry* g
) noexcept nogil:
    """Zeros or the bias; in later turns what O holds."""
    if not taps.begins:
        zero(sums, lanes(O))
        copy_pixels(sums + tile.skip, g.k_c, O + tile.skip / g.k_c * g.out.pixel, g.out.pixel,
                    (tile.end - tile.skip) / g.k_c, g.k_c)
    elif bias_relu.bias != NULL:
        repeat(<const floating*> bias_relu.bias, sums, g.k_c)
    else:
        zero(sums, lanes(O))


cdef inline void store(
    floating* sums, floating* O, const RowTile* tile, const Taps* taps, const BiasRelu* bias_relu,
    const Geometry* g
) noexcept nogil:
    """The tile's own lanes; with the last turn, after ReLU."""
    cdef Py_ssize_t i
    if taps.ends and bias_relu.relu:
        for i in range(tile.skip, tile.end):
            sums[i] = 0 if sums[i] < 0 else sums[i]
    copy_pixels(O + tile.skip / g.k_c * g.out.pixel, g.out.pixel, sums + tile.skip, g.k_c,
                (tile.end - tile.skip) / g.k_c, g.k_c)


# Rows ---------------------------------------------------------------------------------------------------


cdef RowTile tile_at(Py_ssize_t x, Py_ssize_t n_lanes, Span inner, const Geometry* g) noexcept nogil:
    """The tile whose first new pixel is x; outputs `inner` have all columns of taps on the image.

    The last tile of the inner ones reaches back over the one before it, rather than gather a window.
    """
    cdef RowTile tile
    cdef Py_ssize_t needed = pixels_of(n_lanes, g), whole = n_lanes / g.i_c, stop
    tile.x = min(x, inner.end - needed)
    tile.gathered = g.s_w > 1 or g.image.pixel > g.i_c  # what a tap reads is not adjacent
    tile.gathered |= tile.x < inner.first or x >= tile.x + whole  # or the tile has no new pixel
    if tile.gathered:
        tile.x = x
    stop = min(tile.x + whole, g.o_w)
    tile.skip = (x - tile.x) * g.i_c
    tile.end = (stop - tile.x) * g.i_c
    return tile


cdef void add_row(
    const floating* numbers, const floating* weights, floating* sums, Span columns, Py_ssize_t pixels,
    const Geometry* g
) noexcept nogil:
    """The taps of some columns of one kernel row; with a stride they lie in windows of so many pixels."""
    cdef Py_ssize_t at_once = columns.end - columns.first if g.s_w == 1 else 1, b = columns.first, start
    while b < columns.end:
        start = b * g.d_w % g.s_w * pixels + b * g.d_w / g.s_w
        if g.i_c == 1:
            add_taps_of_one_channel(numbers + start, g.d_w, at_once, weights, sums)
            weights += at_once
        else:
            add_taps(numbers + start * g.i_c, g.d_w * g.i_c, at_once, weights, sums)
            weights += at_once * lanes(numbers)
        b += at_once


cdef void convolve_row(
    const floating* I, const floating* weights, floating* O, Py_ssize_t row, const Taps* taps,
    const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """Some taps of one output row, counted through images; `weights` are their numbers of K, perhaps repeated."""
    cdef floating window[WINDOW]
    cdef floating sums[LANES]
    cdef Py_ssize_t y = innermost(&row, g.o_h), n = row, top = y * g.s_h - g.p_t
    cdef Py_ssize_t n_taps = taps.b.end - taps.b.first, pixels = window_pixels(lanes(I), g)
    cdef Py_ssize_t a, x = 0
    cdef Span rows = inside(top, g.d_h, g.i_h, g.k_h)
    cdef Span inner
    cdef const floating* image_row
    cdef const floating* numbers
    cdef const floating* of_row  # the weights of kernel row a
    cdef RowTile tile
    inner.first = inside(-g.p_l, g.s_w, g.i_w, g.o_w).first
    inner.end = inside((g.k_w - 1) * g.d_w - g.p_l, g.s_w, g.i_w, g.o_w).end
    O += n * g.out.image + y * g.out.row
    while x < g.o_w:
        tile = tile_at(x, lanes(I), inner, g)
        begin_sums(sums, O + tile.x * g.out.pixel, &tile, taps, bias_relu, g)
        for a in range(max(rows.first, taps.a.first), min(rows.end, taps.a.end)):
            image_row = I + n * g.image.image + (top + a * g.d_h) * g.image.row
            numbers = image_row + (tile.x * g.s_w - g.p_l) * g.i_c
            if tile.gathered:
                gather(image_row, window, tile.x, pixels, g)
                numbers = window
            of_row = weights + (a - taps.a.first) * (g.k_w if g.i_c == 1 else n_taps * lanes(I))
            add_row(numbers, of_row, sums, taps.b, pixels, g)
        store(sums, O + tile.x * g.out.pixel, &tile, taps, bias_relu, g)
        x = tile.x + tile.end / g.i_c


cdef bint next_taps(Taps* taps, const Geometry* g) noexcept nogil:
    """Move on to the taps of the next turn: all of a single channel, else whole kernel rows or a part of one."""
    cdef Py_ssize_t columns = g.k_w if g.i_c == 1 else min(g.k_w, TAPS)
    taps.begins = taps.b.end == 0
    if taps.begins or taps.b.end == g.k_w:
        if not taps.begins and taps.a.end == g.k_h:
            return False
        taps.a.first = taps.a.end
        taps.a.end = g.k_h if g.i_c == 1 else min(taps.a.first + TAPS / columns, g.k_h)
        taps.b.end = 0
    taps.b.first = taps.b.end
    taps.b.end = min(taps.b.first + columns, g.k_w)
    taps.ends = taps.a.end == g.k_h and taps.b.end == g.k_w
    return True


cdef void convolve_rows(
    const floating* I, const floating* K, floating* O, Py_ssize_t first, Py_ssize_t end,
    const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """Output rows first .. end, counted through images; every channel has one kernel."""
    cdef floating repeated[REPEATED]
    cdef const floating* weights
    cdef floating* target
    cdef Taps taps
    cdef Py_ssize_t row, last, a, b
    while first < end and not interrupted():
        last = min(first + ROWS, end)
        taps.a, taps.b = Span(0, 0), Span(0, 0)
        while next_taps(&taps, g):
            weights = K + (taps.a.first * g.k_w + taps.b.first) * g.k_c
            if g.i_c > 1:
                target = repeated
                for a in range(taps.a.first, taps.a.end):
                    for b in range(taps.b.first, taps.b.end):
                        repeat(K + (a * g.k_w + b) * g.k_c, target, g.k_c)
                        target += lanes(K)
                weights = repeated
            for row in range(first, last):
                convolve_row(I, weights, O, row, &taps, bias_relu, g)
        first = last
