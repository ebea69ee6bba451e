"""Direct convolution of many small groups: one vector of output channels belongs to several of them.

    O[n,y,x,m] = sum over a < k_h, b < k_w, c < i_c/G of
                 I[n, y·s_h - p_t + a·d_h, x·s_w - p_l + b·d_w, γ·i_c/G + c] · K[a,b,c,m],   γ = ⌊m·G/k_c⌋

A group of four channels is a product of four by four at every tap: too small for BLAS, and for a vector of one
group's channels.  But vectors of K and O continue from group to group, and so do those of I, except that every
output channel needs the input channels of its own group.  So for each c a vector of I is shuffled, in registers,
until every place of a group holds that group's c-th channel.

==========  =========================  =====================================
array       shape                      role
==========  =========================  =====================================
x           (i_n, i_h, i_w, i_c)       input I
kernel      (k_h, k_w, i_c/G, k_c)     kernel K
out         (i_n, o_h, o_w, k_c)       output O
==========  =========================  =====================================

Workspace, in elements:  0

Groups of 1, 2, 4, 8 or 16 output channels and no more input channels; any stride, padding and dilation.  Where
there is no whole vector (groups too large for one, too few channels in all), or the CPU has no such registers,
channels are summed group by group in plain loops.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.register_tiles.group_tiles cimport GroupTile, add_groups, most_outputs, vector_bytes
from pymec.kernels.register_tiles.group_vectors cimport (
    PLACES, WINDOW, ChannelVector, check_groups, gather, gathers, n_vectors, place_groups, vector_at,
)
from pymec.kernels.shared.bias_relu cimport BiasRelu, bias_relu_of
from pymec.kernels.shared.geometry cimport Geometry, check_stage, find_pixels, geometry
from pymec.kernels.shared.interrupts cimport interrupted
from pymec.kernels.shared.per_cpu cimport compiled_per_cpu
from pymec.kernels.shared.spans cimport Span, ceil_div, innermost, inside, share_of, share_of_blocks


def whole_vectors(shape, bint swapped=False):
    """Whether this CPU has registers for vectors of these groups' output (if swapped, input) channels."""
    cdef Py_ssize_t width = vector_bytes() // shape.itemsize
    return width >= (shape.i_cg if swapped else shape.k_cg) and min(shape.i_c, shape.k_c) >= width


# By vectors ---------------------------------------------------------------------------------------------


cdef struct RowOutputs:    # adjacent outputs of one row, summed in one tile
    Py_ssize_t count
    Py_ssize_t left                    # image column under the first one's tap (0, 0), below 0 on padding
    Span taps                          # kernel rows inside the image
    Py_ssize_t image                   # elements from I[0, 0, 0, 0] to that column under kernel row taps.first
    Py_ssize_t first                   # elements from O[0, 0, 0, 0] to the first output


cdef inline Py_ssize_t tiles_of_row(const Geometry* g) noexcept nogil:
    """Tiles of a row; their sizes differ by at most one."""
    return ceil_div(g.o_w, most_outputs())


cdef inline Py_ssize_t columns_of(Py_ssize_t outputs, const Geometry* g) noexcept nogil:
    """Image columns from the first to the last that ``outputs`` adjacent outputs read."""
    return (outputs - 1) * g.s_w + (g.k_w - 1) * g.d_w + 1


cdef RowOutputs outputs_of(Py_ssize_t tile, const Geometry* g) noexcept nogil:
    """The outputs of one tile, counted through images, rows and tiles."""
    cdef RowOutputs at
    cdef Py_ssize_t tiles = tiles_of_row(g)
    cdef Span columns = share_of(g.o_w, innermost(&tile, tiles), tiles)
    cdef Py_ssize_t y = innermost(&tile, g.o_h), n = tile
    cdef Py_ssize_t top = y * g.s_h - g.p_t
    at.count = columns.end - columns.first
    at.left = columns.first * g.s_w - g.p_l
    at.taps = inside(top, g.d_h, g.i_h, g.k_h)
    at.image = n * g.image.image + (top + at.taps.first * g.d_h) * g.image.row + at.left * g.image.pixel
    at.first = n * g.out.image + y * g.out.row + columns.first * g.out.pixel
    return at


cdef GroupTile tile_of(Py_ssize_t size, bint gathered, const Geometry* g) noexcept nogil:
    """What all tiles have in common; vectors gathered from I are adjacent, in rows as long as a tile needs."""
    cdef GroupTile tile
    cdef Py_ssize_t pixel = vector_bytes() if gathered else g.image.pixel * size
    tile.taps = 3 if g.k_w % 3 == 0 and g.d_w == 1 and g.s_w <= 2 else 1
    tile.blocks = g.k_w / tile.taps
    tile.block_columns = tile.taps * g.d_w
    tile.stride = g.s_w
    tile.column = (1 if tile.taps == 3 else g.s_w) * pixel
    tile.row = columns_of(most_outputs(), g) * pixel if gathered else g.d_h * g.image.row * size
    tile.block = tile.block_columns * pixel
    tile.channel = g.k_c * size
    tile.tap = g.i_cg * tile.channel
    tile.kernel_row = g.k_w * tile.tap
    tile.pixel = g.out.pixel * size
    tile.i_w, tile.i_cg = g.i_w, g.i_cg
    place_groups(tile.place, size, g)
    return tile


cdef void convolve_share(
    const floating* I, const floating* K, floating* O, Py_ssize_t share, Py_ssize_t shares,
    const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """One thread's share of all vectors, counted through tiles and the vectors of a tile."""
    cdef Py_ssize_t width = vector_bytes() / sizeof(floating), vectors = n_vectors(width, g), task
    cdef Span mine = share_of_blocks(g.i_n * g.o_h * tiles_of_row(g), g.k_c, width, share, shares)
    cdef Py_ssize_t pitch = columns_of(most_outputs(), g)
    cdef bint gathered = gathers(g.k_h * pitch, g.i_cg, g.image.pixel * sizeof(floating))
    cdef GroupTile tile = tile_of(sizeof(floating), gathered, g)
    cdef const floating* bias = <const floating*> bias_relu.bias
    cdef const floating* numbers
    cdef floating window[WINDOW * PLACES]
    cdef RowOutputs at = outputs_of(mine.first / vectors, g)
    cdef ChannelVector vector
    for task in range(mine.first, mine.end):
        if task % vectors == 0:
            if interrupted():
                return
            at = outputs_of(task / vectors, g)
        vector = vector_at(task % vectors, width, g)
        numbers = I + at.image + vector.c
        if gathered:
            gather(numbers, window, width, at.left, columns_of(at.count, g), pitch, at.taps.end - at.taps.first,
                   g.d_h * g.image.row, g.i_w, g.image.pixel)
            numbers = window
        add_groups(&tile, numbers, at.left, vector.shift, K + at.taps.first * g.k_w * g.i_cg * g.k_c + vector.m,
                   at.taps.end - at.taps.first, bias + vector.m if bias != NULL else bias,
                   O + at.first + vector.m, at.count, bias_relu.relu)


# By groups ----------------------------------------------------------------------------------------------


cdef compiled_per_cpu convolve_pixel(
    const floating* I, const floating* K, floating* O, Py_ssize_t pixel, const BiasRelu* bias_relu,
    const Geometry* g
) noexcept nogil:
    """One output pixel, counted through images, rows and columns: its groups one by one."""
    cdef floating total[16]
    cdef const floating* bias = <const floating*> bias_relu.bias
    cdef const floating* weights
    cdef const floating* numbers
    cdef Py_ssize_t x = innermost(&pixel, g.o_w), y = innermost(&pixel, g.o_h), n = pixel
    cdef floating* to = O + n * g.out.image + y * g.out.row + x * g.out.pixel
    cdef Py_ssize_t top = y * g.s_h - g.p_t, left = x * g.s_w - g.p_l
    cdef Span down = inside(top, g.d_h, g.i_h, g.k_h), across = inside(left, g.d_w, g.i_w, g.k_w)
    cdef Py_ssize_t group, a, b, c, m
    if interrupted():
        return
    for group in range(g.groups):
        for m in range(g.k_cg):
            total[m] = 0 if bias == NULL else bias[group * g.k_cg + m]
        for a in range(down.first, down.end):
            for b in range(across.first, across.end):
                numbers = I + n * g.image.image + (top + a * g.d_h) * g.image.row
                numbers += (left + b * g.d_w) * g.image.pixel + group * g.i_cg
                weights = K + (a * g.k_w + b) * g.i_cg * g.k_c + group * g.k_cg
                for c in range(g.i_cg):
                    for m in range(g.k_cg):
                        total[m] += numbers[c] * weights[c * g.k_c + m]
        for m in range(g.k_cg):
            to[group * g.k_cg + m] = 0 if bias_relu.relu and total[m] < 0 else total[m]


# What Python calls --------------------------------------------------------------------------------------


def run(
    const floating[:, :, :, :] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, :] out,
    workspace, shape, int n_threads=1, const floating[::1] bias=None, bint relu=False,
):
    """Convolve vector by vector, even shares of them on ``n_threads`` threads; ``workspace`` is not used.

    Parameters
    ----------
    x : array (i_n, i_h, i_w, i_c)
    out : array (i_n, o_h, o_w, k_c)
        The pixels of both may lie some distance apart, as those of a slice do.
    bias : array (k_c,), optional
        Added to every output.
    relu : bool
        Whether ReLU is applied then.
    """
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef Py_ssize_t share, pixel
    check_stage(&g, n_threads, x.shape, kernel.shape, out.shape)
    find_pixels(&g, x.shape, x.strides, out.shape, out.strides, sizeof(floating))
    check_groups(g.k_cg, "output", g.i_cg, "input")
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    if whole_vectors(shape):
        with nogil:
            for share in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
                convolve_share(I, K, O, share, n_threads, &bias_relu, &g)
    else:
        with nogil:
            for pixel in prange(g.i_n * g.o_h * g.o_w, num_threads=n_threads, schedule="static"):
                convolve_pixel(I, K, O, pixel, &bias_relu, &g)
