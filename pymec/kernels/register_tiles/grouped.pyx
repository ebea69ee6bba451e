"""Direct convolution of many small groups: a line of output channels is of several of them.

    O[n,y,x,m] = sum over a < k_h, b < k_w, c < i_c/G of
                 I[n, y·s_h - p_t + a·d_h, x·s_w - p_l + b·d_w, γ·i_c/G + c] · K[a,b,c,m],   γ = ⌊m·G/k_c⌋

A group of four channels has a product of four by four at every tap: too small for BLAS, and for a line of
registers all of the same group.  But lines of K and O go on from group to group, and so does a line of I; only
that every output channel wants the channels of its own group.  So for each c the line of I is shuffled, in
registers, to hold the c-th channel of the group at every place of that group.

==========  =========================  =====================================
array       shape                      role
==========  =========================  =====================================
x           (i_n, i_h, i_w, i_c)       input I
kernel      (k_h, k_w, i_c/G, k_c)     kernel K
out         (i_n, o_h, o_w, k_c)       output O
==========  =========================  =====================================

Workspace, in elements:  0

Groups of 1, 2, 4, 8 or 16 output channels and no more input channels; any stride, padding and dilation.  Where a
line of registers is not whole (groups too large for it, too few channels of all), or the CPU has none, channels
are summed up a group at a time in plain loops.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.bias_relu cimport BiasRelu, bias_relu_of
from pymec.kernels.shared.geometry cimport Geometry, check_operands, check_threads, geometry
from pymec.kernels.register_tiles.group_lines cimport (
    PLACES, WINDOW, Line, check_groups, gather, gathers, line_at, lines_of, place_groups,
)
from pymec.kernels.register_tiles.group_tiles cimport GroupTile, add_groups, line_bytes, most_outputs
from pymec.kernels.shared.patch cimport clip, positions_up_to
from pymec.kernels.shared.per_cpu cimport compiled_per_cpu


def whole_lines(shape, bint swapped=False):
    """Whether this CPU has registers for lines of these groups' output channels, or if swapped, input channels."""
    cdef Py_ssize_t width = line_bytes() // shape.itemsize
    return width >= (shape.i_cg if swapped else shape.k_cg) and min(shape.i_c, shape.k_c) >= width


# By lines -----------------------------------------------------------------------------------------------


cdef struct Outputs:       # of a row, that are summed up together
    Py_ssize_t count
    Py_ssize_t left                    # image column under the first one's tap (0, 0), below 0 on padding
    Py_ssize_t a0, rows                # of K: on the image
    Py_ssize_t image                   # elements from I[0, 0, 0, 0] to that column under kernel row a0
    Py_ssize_t first                   # and from O[0, 0, 0, 0] to the first output


cdef inline Py_ssize_t tiles_of_row(const Geometry* g) noexcept nogil:
    """Tiles that take about as many outputs each."""
    return (g.o_w + most_outputs() - 1) / most_outputs()


cdef inline Py_ssize_t columns_of(Py_ssize_t outputs, const Geometry* g) noexcept nogil:
    """Image columns from the first that so many outputs read to the last."""
    return (outputs - 1) * g.s_w + (g.k_w - 1) * g.d_w + 1


cdef Outputs outputs_at(Py_ssize_t i, const Geometry* g) noexcept nogil:
    """Those of one tile, counted through images, rows and tiles."""
    cdef Outputs at
    cdef Py_ssize_t tiles = tiles_of_row(g)
    cdef Py_ssize_t x = i % tiles * g.o_w / tiles, y = i / tiles % g.o_h, n = i / tiles / g.o_h
    cdef Py_ssize_t top = y * g.s_h - g.p_t
    at.count = (i % tiles + 1) * g.o_w / tiles - x
    at.left = x * g.s_w - g.p_l
    at.a0 = clip(positions_up_to(-top, g), 0, g.k_h)
    at.rows = clip(positions_up_to(g.i_h - top, g), at.a0, g.k_h) - at.a0
    at.image = ((n * g.i_h + top + at.a0 * g.d_h) * g.i_w + at.left) * g.i_c
    at.first = ((n * g.o_h + y) * g.o_w + x) * g.k_c
    return at


cdef GroupTile tile_of(Py_ssize_t size, bint gathered, const Geometry* g) noexcept nogil:
    """What all tiles have in common; where I is gathered its lines are adjacent, and rows as long as needed."""
    cdef GroupTile tile
    cdef Py_ssize_t pixel = line_bytes() if gathered else g.i_c * size
    tile.taps = 3 if g.k_w % 3 == 0 and g.d_w == 1 and g.s_w <= 2 else 1
    tile.blocks = g.k_w / tile.taps
    tile.block_columns = tile.taps * g.d_w
    tile.stride = g.s_w
    tile.column = (1 if tile.taps == 3 else g.s_w) * pixel
    tile.row = (columns_of(most_outputs(), g) if gathered else g.d_h * g.i_w) * pixel
    tile.block = tile.block_columns * pixel
    tile.channel = g.k_c * size
    tile.tap = g.i_cg * tile.channel
    tile.kernel_row = g.k_w * tile.tap
    tile.pixel = g.k_c * size
    tile.i_w, tile.i_cg = g.i_w, g.i_cg
    place_groups(tile.place, size, g)
    return tile


cdef void convolve_lines(
    const floating* I, const floating* K, floating* O, Py_ssize_t begin, Py_ssize_t end, const BiasRelu* bias_relu,
    const Geometry* g
) noexcept nogil:
    """Some lines of tiles, counted through tiles and the lines of one.

    Where shares meet at a last line, which reaches back, two threads write the same numbers to some channels.
    """
    cdef Py_ssize_t width = line_bytes() / sizeof(floating), lines = lines_of(width, g), unit
    cdef Py_ssize_t pitch = columns_of(most_outputs(), g)
    cdef bint gathered = gathers(g.k_h * pitch, g.i_cg, g.i_c * sizeof(floating))
    cdef GroupTile tile = tile_of(sizeof(floating), gathered, g)
    cdef const floating* bias = <const floating*> bias_relu.bias
    cdef const floating* numbers
    cdef floating window[WINDOW * PLACES]
    cdef Outputs at = outputs_at(begin / lines, g)
    cdef Line line
    for unit in range(begin, end):
        if unit % lines == 0:
            at = outputs_at(unit / lines, g)
        line = line_at(unit % lines, width, g)
        numbers = I + at.image + line.c
        if gathered:
            gather(numbers, window, width, at.left, columns_of(at.count, g), pitch, at.rows, g.d_h * g.i_w * g.i_c,
                   g.i_w, g.i_c)
            numbers = window
        add_groups(&tile, numbers, at.left, line.shift, K + at.a0 * g.k_w * g.i_cg * g.k_c + line.m, at.rows,
                   bias + line.m if bias != NULL else bias, O + at.first + line.m, at.count, bias_relu.relu)


# By groups ----------------------------------------------------------------------------------------------


cdef compiled_per_cpu convolve_pixel(
    const floating* I, const floating* K, floating* O, Py_ssize_t pixel, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """One output pixel, group by group, counted through images, rows and columns."""
    cdef floating total[16]
    cdef const floating* bias = <const floating*> bias_relu.bias
    cdef const floating* weights
    cdef const floating* numbers
    cdef Py_ssize_t x = pixel % g.o_w, y = pixel / g.o_w % g.o_h, n = pixel / g.o_w / g.o_h
    cdef Py_ssize_t top = y * g.s_h - g.p_t, left = x * g.s_w - g.p_l
    cdef Py_ssize_t group, a, b, c, m
    for group in range(g.groups):
        for m in range(g.k_cg):
            total[m] = 0 if bias == NULL else bias[group * g.k_cg + m]
        for a in range(g.k_h):
            if top + a * g.d_h < 0 or top + a * g.d_h >= g.i_h:
                continue
            for b in range(g.k_w):
                if left + b * g.d_w < 0 or left + b * g.d_w >= g.i_w:
                    continue
                numbers = I + ((n * g.i_h + top + a * g.d_h) * g.i_w + left + b * g.d_w) * g.i_c + group * g.i_cg
                weights = K + (a * g.k_w + b) * g.i_cg * g.k_c + group * g.k_cg
                for c in range(g.i_cg):
                    for m in range(g.k_cg):
                        total[m] += numbers[c] * weights[c * g.k_c + m]
        for m in range(g.k_cg):
            O[pixel * g.k_c + group * g.k_cg + m] = 0 if bias_relu.relu and total[m] < 0 else total[m]


# What Python calls --------------------------------------------------------------------------------------


def run(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
    floating[::1] workspace, shape, int n_threads=1, const floating[::1] bias=None, bint relu=False,
):
    """Convolve line by line, even shares of them on ``n_threads`` threads; ``workspace`` is not used.

    Parameters
    ----------
    bias : array (k_c,), optional
        What every sum begins with.
    relu : bool
        Whether what ends below zero becomes zero.
    """
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef Py_ssize_t units, share, pixel
    check_threads(n_threads)
    check_operands(&g, x.shape, kernel.shape, out.shape)
    check_groups(g.k_cg, "output", g.i_cg, "input")
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    if whole_lines(shape):
        units = g.i_n * g.o_h * tiles_of_row(&g) * lines_of(line_bytes() / sizeof(floating), &g)
        with nogil:
            for share in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
                convolve_lines(I, K, O, share * units / n_threads, (share + 1) * units / n_threads, &bias_relu, &g)
    else:
        with nogil:
            for pixel in prange(g.i_n * g.o_h * g.o_w, num_threads=n_threads, schedule="static"):
                convolve_pixel(I, K, O, pixel, &bias_relu, &g)
