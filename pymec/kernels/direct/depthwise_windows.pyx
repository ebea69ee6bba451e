"""Depthwise convolution channel by channel: vectors of pixels, whatever the order of the axes in memory.

    O[n,y,x,m] = sum over a < k_h, b < k_w of
                 I[n, y·s_h - p_t + a·d_h, x·s_w - p_l + b·d_w, m·G/k_c] · K[a,b,0,m]

A vector holds neighbouring pixels of one channel, and one number of K multiplies all of them.  The rows of a small
image would fill few vectors.  So the rows that a tile of outputs reads are copied into a window, with zeros where
they lie on padding, and there they are one long row: neighbouring rows begin ``pitch`` numbers apart.  Each tap
reads the window from its own place on, and all sums of the tile are neighbours.  The sums between the last column
of an output row and the first of the next belong to no output; they are not stored.  The copy gathers the pixels
of a channel wherever they are: adjacent in n-c-h-w, i_c numbers apart in n-h-w-c.

With a stride, neighbouring outputs read rows s_h, and columns s_w, apart.  Taps that are P = s / gcd(s, d) apart
read the same rows (or columns), D = d / gcd(s, d) outputs further on.  So every tap (a, b) with a < P_h and
b < P_w has a window of its own, which it shares with those that are multiples of P away; with stride 1 there is
one.  For the tile of channel c whose first output is (y0, x0):

    W[a, b, h, w] = I[n, (y0 + h)·s_h - p_t + a·d_h, (x0 + w)·s_w - p_l + b·d_w, c]
    S[t] = sum over a, b, i, j of W[a, b][i·D_h·pitch + j·D_w + t] · K[a + i·P_h, b + j·P_w, 0, m]
    O[n, y0 + y, x0 + x, m] = S[y·pitch + x]

==========  ==============================  =====================================================
array       shape                           role
==========  ==============================  =====================================================
x           (i_n, i_h, i_w, G)              input I, i_c = G; positive strides
kernel      (k_h, k_w, 1, k_c)              kernel K, k_c/G kernels per channel; positive strides
W           (windows, lines, pitch)         windows of one tile, in each slice; 96 zeros follow
                                            them, for vectors that end beyond the last sum
out         (i_n, o_h, o_w, k_c)            output O; positive strides
==========  ==============================  =====================================================

Workspace, in elements, for tiles of ``rows`` × ``columns`` outputs:

    slices·(windows·lines·pitch + 96), slices <= n_threads
    windows = min(P_h, k_h)·min(P_w, k_w)
    lines = rows + ((k_h - 1) / P_h)·D_h,  pitch = columns + ((k_w - 1) / P_w)·D_w    (divisions rounded down)

Any stride, padding and dilation, and any multiplier k_c/G.  Not if a group has more than one input channel.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.direct.lanes cimport LANES, LINE, lanes, line
from pymec.kernels.shared.bias_relu cimport BiasRelu, bias_relu_of
from pymec.kernels.shared.geometry cimport Geometry, check_room, check_stage, check_strides, find_pixels, geometry
from pymec.kernels.shared.interrupts cimport interrupted
from pymec.kernels.shared.patch cimport copy, zero
from pymec.kernels.shared.per_cpu cimport compiled_per_cpu
from pymec.kernels.shared.spans cimport Span, ceil_div, innermost, inside, share_of, steps_to

from math import gcd


cdef struct WindowAxis:             # the windows along one axis of a tile
    Py_ssize_t outputs              # of the tile, at most
    Py_ssize_t period               # P: taps so far apart share a window
    Py_ssize_t step                 # D: from what one of them reads to what the next one reads
    Py_ssize_t windows, extent      # how many, and the rows, or columns, of each


cdef struct ChannelTile:            # some outputs of one channel of an image
    Span y, x


cdef struct ChannelTiles:
    WindowAxis down, across
    Py_ssize_t window               # numbers in each of the windows


cdef struct TapStrides:             # numbers of K from a tap, or a channel, to the next
    Py_ssize_t row, column, channel


cdef WindowAxis axis(Py_ssize_t outputs, Py_ssize_t k, Py_ssize_t s, Py_ssize_t d) except *:
    cdef Py_ssize_t period = s // gcd(s, d), step = d // gcd(s, d)
    return WindowAxis(outputs, period, step, min(period, k), outputs + (k - 1) // period * step)


cdef ChannelTiles tiles_of(Py_ssize_t rows, Py_ssize_t columns, const Geometry* g) except *:
    cdef ChannelTiles tiles
    tiles.down, tiles.across = axis(rows, g.k_h, g.s_h, g.d_h), axis(columns, g.k_w, g.s_w, g.d_w)
    tiles.window = tiles.down.extent * tiles.across.extent
    return tiles


def n_windows(shape):
    """Windows of a tile: one for each of the first P_h·P_w taps, if there are so many."""
    down, across = shape.s_h // gcd(shape.s_h, shape.d_h), shape.s_w // gcd(shape.s_w, shape.d_w)
    return min(down, shape.k_h) * min(across, shape.k_w)


def window_size(shape, rows, columns):
    """Elements of all windows of a tile of rows × columns outputs, with the zeros after them."""
    size = n_windows(shape)
    for outputs, k, s, d in (rows, shape.k_h, shape.s_h, shape.d_h), (columns, shape.k_w, shape.s_w, shape.d_w):
        size *= outputs + (k - 1) // (s // gcd(s, d)) * (d // gcd(s, d))
    return size + LANES


# Stage 1: the windows -----------------------------------------------------------------------------------


cdef compiled_per_cpu copy_every_second(floating* to, const floating* of, Py_ssize_t count) noexcept nogil:
    """A constant distance, for which the compiler has instructions."""
    cdef Py_ssize_t i
    for i in range(count):
        to[i] = of[2 * i]


cdef inline void copy_apart(
    floating* to, Py_ssize_t to_step, const floating* of, Py_ssize_t of_step, Py_ssize_t count
) noexcept nogil:
    """Copy numbers that lie some distance apart."""
    cdef Py_ssize_t i
    if to_step == of_step == 1:
        copy(to, of, count)
    elif to_step == 1 and of_step == 2:
        copy_every_second(to, of, count)
    else:
        for i in range(count):
            to[i * to_step] = of[i * of_step]


cdef void gather(
    const floating* channel, floating* W, const ChannelTile* tile, const ChannelTiles* tiles, const Geometry* g
) noexcept nogil:
    """All windows of a tile: zeros, and what of the image lies in them.  ``channel`` points at its first pixel."""
    cdef Py_ssize_t pitch = tiles.across.extent, step = g.s_w * g.image.pixel, a, b, h, top, left
    cdef const floating* numbers
    cdef Span rows, columns         # of a window that lie on the image
    for a in range(tiles.down.windows):
        top = tile.y.first * g.s_h - g.p_t + a * g.d_h
        rows = inside(top, g.s_h, g.i_h, tiles.down.extent)
        for b in range(tiles.across.windows):
            left = tile.x.first * g.s_w - g.p_l + b * g.d_w
            columns = inside(left, g.s_w, g.i_w, pitch)
            zero(W, tiles.window)
            numbers = channel + left * g.image.pixel
            for h in range(rows.first, rows.end):
                copy_apart(W + h * pitch + columns.first, 1,
                           numbers + (top + h * g.s_h) * g.image.row + columns.first * step, step,
                           columns.end - columns.first)
            W += tiles.window


# Stage 2: the sums --------------------------------------------------------------------------------------


cdef compiled_per_cpu add_taps(
    const floating* W, const floating* K, const TapStrides* k, const floating* bias, floating* sums,
    const ChannelTiles* tiles, const Geometry* g
) noexcept nogil:
    """96 neighbouring sums (48 in double precision), which begin with as many numbers ``bias``.

    The first one is S[t] if W points at W[0, 0][t].
    """
    cdef floating total[6][LINE]
    cdef const floating* of_row
    cdef const floating* numbers
    cdef const floating* weights_of_row
    cdef const floating* weights
    cdef Py_ssize_t width = line(K), step = tiles.across.step, k_step = tiles.across.period * k.column
    cdef Py_ssize_t below = tiles.down.step * tiles.across.extent  # from what a tap reads to the next one below it
    cdef Py_ssize_t a, b, taps, i, v, _
    for v in range(6):
        for i in range(line(K)):
            total[v][i] = bias[v * width + i]
    for a in range(tiles.down.windows):
        for b in range(tiles.across.windows):
            of_row, weights_of_row = W, K + a * k.row + b * k.column
            taps = steps_to(g.k_w - b, tiles.across.period)
            for _ in range(steps_to(g.k_h - a, tiles.down.period)):
                numbers, weights = of_row, weights_of_row
                for _ in range(taps):
                    # Six lines in place of a loop over v: gcc turns this form, and not the loop, into registers.
                    for i in range(line(K)):
                        total[0][i] += numbers[i] * weights[0]
                        total[1][i] += numbers[width + i] * weights[0]
                        total[2][i] += numbers[2 * width + i] * weights[0]
                        total[3][i] += numbers[3 * width + i] * weights[0]
                        total[4][i] += numbers[4 * width + i] * weights[0]
                        total[5][i] += numbers[5 * width + i] * weights[0]
                    numbers += step
                    weights += k_step
                of_row += below
                weights_of_row += tiles.down.period * k.row
            W += tiles.window
    for v in range(6):
        for i in range(line(K)):
            sums[v * width + i] = total[v][i]


cdef void store(
    const floating* sums, floating* O, Py_ssize_t first, Py_ssize_t end, Py_ssize_t columns, Py_ssize_t pitch,
    const Geometry* g
) noexcept nogil:
    """Sums first .. end of a tile, without those between its rows.  O points at the tile's first output."""
    cdef Py_ssize_t y = first // pitch, x = first - y * pitch, here = first
    while here < end:
        if x < columns:
            copy_apart(O + y * g.out.row + x * g.out.pixel, g.out.pixel, sums + here - first, 1,
                       min(columns - x, end - here))
        here += pitch - x
        y, x = y + 1, 0


cdef void sum_tile(
    const floating* W, const floating* K, const TapStrides* k, floating* O, floating bias, bint relu,
    const ChannelTile* tile, const ChannelTiles* tiles, const Geometry* g
) noexcept nogil:
    """All sums of a tile with one kernel.  O points at the tile's first output."""
    cdef floating biases[LANES]
    cdef floating sums[LANES]
    cdef Py_ssize_t columns = tile.x.end - tile.x.first, pitch = tiles.across.extent, first = 0
    cdef Py_ssize_t end = (tile.y.end - tile.y.first - 1) * pitch + columns, i
    for i in range(lanes(K)):
        biases[i] = bias
    while first < end and not interrupted():
        add_taps(W + first, K, k, biases, sums, tiles, g)
        if relu:
            for i in range(lanes(K)):
                sums[i] = 0 if sums[i] < 0 else sums[i]
        store(sums, O, first, min(first + lanes(K), end), columns, pitch, g)
        first += lanes(K)


# Channels -----------------------------------------------------------------------------------------------


cdef void convolve_tile(
    const floating* I, const floating* K, const TapStrides* k, floating* O, floating* W, Py_ssize_t task,
    const BiasRelu* bias_relu, const ChannelTiles* tiles, const Geometry* g
) noexcept nogil:
    """A tile of one input channel, with each of its kernels; tasks count images, rows, columns and channels."""
    cdef Py_ssize_t rows = tiles.down.outputs, columns = tiles.across.outputs, m
    cdef Py_ssize_t channel = innermost(&task, g.i_c), n
    cdef const floating* bias = <const floating*> bias_relu.bias
    cdef ChannelTile tile
    tile.x.first = innermost(&task, ceil_div(g.o_w, columns)) * columns
    tile.y.first = innermost(&task, ceil_div(g.o_h, rows)) * rows
    tile.x.end, tile.y.end = min(tile.x.first + columns, g.o_w), min(tile.y.first + rows, g.o_h)
    n = task
    gather(I + n * g.image.image + channel * g.image.channel, W, &tile, tiles, g)
    O += n * g.out.image + tile.y.first * g.out.row + tile.x.first * g.out.pixel
    for m in range(channel * g.k_cg, (channel + 1) * g.k_cg):
        sum_tile(W, K + m * k.channel, k, O + m * g.out.channel, bias[m] if bias != NULL else 0, bias_relu.relu,
                 &tile, tiles, g)


cdef void convolve_share(
    const floating* I, const floating* K, const TapStrides* k, floating* O, floating* W, Py_ssize_t share,
    Py_ssize_t shares, const BiasRelu* bias_relu, const ChannelTiles* tiles, const Geometry* g
) noexcept nogil:
    """Every tile of one thread's share, through its windows."""
    cdef Py_ssize_t of_image = ceil_div(g.o_h, tiles.down.outputs) * ceil_div(g.o_w, tiles.across.outputs) * g.i_c
    cdef Span mine = share_of(g.i_n * of_image, share, shares)
    cdef Py_ssize_t task
    zero(W + tiles.down.windows * tiles.across.windows * tiles.window, LANES)
    for task in range(mine.first, mine.end):
        if interrupted():
            return
        convolve_tile(I, K, k, O, W, task, bias_relu, tiles, g)


def run(
    const floating[:, :, :, :] x, const floating[:, :, :, :] kernel, floating[:, :, :, :] out,
    floating[::1] workspace, shape, int n_threads=1, const floating[::1] bias=None, bint relu=False, *,
    Py_ssize_t slices, Py_ssize_t rows, Py_ssize_t columns,
):
    """Convolve channel by channel, in tiles of at most ``rows`` × ``columns`` outputs.

    Each of ``slices`` threads has windows of its own.  Sums begin with the ``bias``; ReLU comes before the store.
    """
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef Py_ssize_t share, size, itemsize = sizeof(floating)
    cdef TapStrides k = TapStrides(
        kernel.strides[0] // itemsize, kernel.strides[1] // itemsize, kernel.strides[3] // itemsize
    )
    check_stage(&g, n_threads, x.shape, kernel.shape, out.shape)
    check_strides("kernel", kernel.shape, kernel.strides, itemsize)
    find_pixels(&g, x.shape, x.strides, out.shape, out.strides, itemsize, any_channels=True)
    if g.i_cg != 1:
        raise ValueError(f"each group must have one input channel, got {g.i_cg}")
    if not (1 <= slices <= 64 and rows >= 1 and columns >= 1):
        raise ValueError(f"slices must be 1 to 64, rows and columns at least 1, got {slices}, {rows}, {columns}")
    rows, columns = min(rows, g.o_h), min(columns, g.o_w)
    size = window_size(shape, rows, columns)
    check_room("workspace", workspace.shape[0], slices * size)
    cdef ChannelTiles tiles = tiles_of(rows, columns, &g)
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    cdef floating* W = &workspace[0]
    with nogil:
        for share in prange(slices, num_threads=slices, schedule="static", chunksize=1):
            convolve_share(I, K, &k, O, W + share * size, share, slices, &bias_relu, &tiles, &g)
