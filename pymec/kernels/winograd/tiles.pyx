"""A tile between pixels and points: U = G·g·Gᵀ, V = Bᵀ·d·B and Y = Aᵀ·M·A, of every channel.

All three are Y = A·X·Aᵀ, a one-dimensional transform of the columns of X and then one of the rows of A·X, for
:data:`LANES` adjacent channels at a time, so that what is half transformed stays in the level-1 cache.  Padding
becomes zeros in X; what lies past the edge of the output is not written.  The last write adds the bias and applies
ReLU, where asked.
"""

from cython cimport floating

from pymec.kernels.shared.bias_relu cimport BiasRelu
from pymec.kernels.shared.geometry cimport Geometry
from pymec.kernels.shared.interrupts cimport interrupted
from pymec.kernels.shared.patch cimport copy, zero
from pymec.kernels.shared.per_cpu cimport compiled_per_cpu, inlined
from pymec.kernels.shared.spans cimport Span, ceil_div, innermost, inside
from pymec.kernels.winograd.transforms cimport input_points, kernel_points, outputs_of_points

cdef enum:
    LANES = 16         # channels transformed together, in vectors
    ROW = 128          # a row of the largest tile, 8 · LANES (the checked build multiplies no constants here)
    TILE = 1024        # and the tile, 8 · ROW


cdef int check_tiles(const Geometry* g, Py_ssize_t t_o) except -1:
    """Refuse what Winograd's tiles can't do."""
    if t_o != 2 and t_o != 4 and t_o != 6:
        raise ValueError(f"t_o must be 2, 4 or 6, got {t_o}")
    if (g.k_h, g.k_w, g.s_h, g.s_w, g.d_h, g.d_w) != (3, 3, 1, 1, 1, 1):
        raise ValueError("Winograd's tiles are for 3×3 kernels with stride 1 and dilation 1")
    return 0


# Y = A·X·Aᵀ ---------------------------------------------------------------------------------------------


cdef enum Matrix:               # A
    KERNEL, INPUT, OUTPUT       # G, Bᵀ, Aᵀ


cdef struct Square:             # X or Y: rows and columns of vectors of channels
    Py_ssize_t row, column      # elements from a row to the next, and from a column to the next
    Span rows, columns          # those that exist: the others are zeros in X, and not written in Y


cdef inline Square square(Py_ssize_t row, Py_ssize_t column, Py_ssize_t n) noexcept nogil:
    """All n × n vectors of a square."""
    return Square(row, column, Span(0, n), Span(0, n))


cdef inline inlined multiply_vector(
    Matrix A, Py_ssize_t t_o, const floating* x, Py_ssize_t x_step, floating* y, Py_ssize_t y_step,
    Py_ssize_t lanes
) noexcept nogil:
    """y = A·x: the one-dimensional transform, for `lanes` channels; elements of x and y are a step apart."""
    if A == KERNEL:
        kernel_points(t_o, x, x_step, y, y_step, lanes)
    elif A == INPUT:
        input_points(t_o, x, x_step, y, y_step, lanes)
    else:
        outputs_of_points(t_o, x, x_step, y, y_step, lanes)


cdef inline inlined transform_lanes(
    Matrix A, Py_ssize_t t_o, Py_ssize_t n, const floating* X, const Square* x, floating* Y, const Square* y,
    const floating* bias, bint relu, Py_ssize_t lanes
) noexcept nogil:
    """Y = A·X·Aᵀ for `lanes` channels, then their bias and ReLU; X is n × n."""
    cdef floating[TILE] filled      # X with its zeros
    cdef floating[TILE] half        # A·X
    cdef floating[ROW] whole        # a row of A·X·Aᵀ: of small arrays the compiler knows that none overlap
    cdef Square source = x[0], target = y[0]  # copies in registers: no store through Y can change them
    cdef Py_ssize_t i, j, c
    if source.rows.end - source.rows.first < n or source.columns.end - source.columns.first < n:
        zero(filled, n * ROW)
        for i in range(source.rows.first, source.rows.end):
            for j in range(source.columns.first, source.columns.end):
                copy(filled + i * ROW + j * LANES, X + i * source.row + j * source.column, lanes)
        X, source.row, source.column = filled, ROW, LANES
    for j in range(n):
        # column j of A·X
        multiply_vector(A, t_o, X + j * source.column, source.row, half + j * LANES, ROW, lanes)
    for i in range(target.rows.first, target.rows.end):
        # row i of (A·X)·Aᵀ
        multiply_vector(A, t_o, half + i * ROW, LANES, whole, LANES, lanes)
        for j in range(target.columns.first, target.columns.end):
            if bias != NULL:
                for c in range(lanes):
                    whole[j * LANES + c] += bias[c]
            if relu:
                for c in range(lanes):
                    whole[j * LANES + c] = 0 if whole[j * LANES + c] < 0 else whole[j * LANES + c]
            copy(Y + i * target.row + j * target.column, whole + j * LANES, lanes)


cdef compiled_per_cpu transform(
    Matrix A, Py_ssize_t t_o, Py_ssize_t n, const floating* X, const Square* x, floating* Y, const Square* y,
    const floating* bias, bint relu, Py_ssize_t channels
) noexcept nogil:
    """Y = A·X·Aᵀ for each of some channels; ``bias`` of the first of them, or NULL."""
    cdef Py_ssize_t c = 0
    while c + LANES <= channels:
        transform_lanes(A, t_o, n, X + c, x, Y + c, y, bias, relu, LANES)
        c += LANES
        if bias != NULL:
            bias += LANES
    if c < channels:
        transform_lanes(A, t_o, n, X + c, x, Y + c, y, bias, relu, channels - c)


# What other files call ----------------------------------------------------------------------------------


cdef void transform_taps(
    const floating* K, floating* U, Py_ssize_t point, Py_ssize_t channels, Py_ssize_t t_o, const Geometry* g
) noexcept nogil:
    """U = G·g·Gᵀ of the taps g from one input channel to some outputs; points are `point` elements apart."""
    cdef Square taps = square(3 * g.i_cg * g.k_c, g.i_cg * g.k_c, 3)
    cdef Square points = square((t_o + 2) * point, point, t_o + 2)
    transform(KERNEL, t_o, 3, K, &taps, U, &points, <const floating*> NULL, False, channels)


cdef void transform_input_tiles(
    const floating* I, floating* V, Py_ssize_t point, Py_ssize_t group, Span tiles, Py_ssize_t t_o,
    const Geometry* g
) noexcept nogil:
    """V = Bᵀ·d·B of a group's channels of some tiles, counted through images, tile rows and tile columns."""
    cdef Py_ssize_t rows = ceil_div(g.o_h, t_o), columns = ceil_div(g.o_w, t_o), t = t_o + 2
    cdef Py_ssize_t i, n, top, left
    cdef Square points = square(t * point, point, t), pixels
    if interrupted():
        return
    for i in range(tiles.first, tiles.end):
        n = i
        left = innermost(&n, columns) * t_o - g.p_l
        top = innermost(&n, rows) * t_o - g.p_t
        pixels = Square(g.i_w * g.i_c, g.i_c, inside(top, 1, g.i_h, t), inside(left, 1, g.i_w, t))
        transform(INPUT, t_o, t, I + ((n * g.i_h + top) * g.i_w + left) * g.i_c + group * g.i_cg, &pixels,
                  V + (i - tiles.first) * g.i_cg, &points, <const floating*> NULL, False, g.i_cg)


cdef void transform_output_tiles(
    const floating* M, floating* O, Py_ssize_t point, Py_ssize_t width, Py_ssize_t channel, Py_ssize_t channels,
    Span tiles, Py_ssize_t t_o, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """Y = Aᵀ·M·A, bias and ReLU of some tiles, for some output channels from `channel` on; M holds `width`."""
    cdef Py_ssize_t rows = ceil_div(g.o_h, t_o), columns = ceil_div(g.o_w, t_o), t = t_o + 2
    cdef Py_ssize_t i, n, y, x
    cdef Square points = square(t * point, point, t), pixels
    cdef const floating* bias = NULL
    if interrupted():
        return
    if bias_relu.bias != NULL:
        bias = <const floating*> bias_relu.bias + channel
    for i in range(tiles.first, tiles.end):
        n = i
        x = innermost(&n, columns) * t_o
        y = innermost(&n, rows) * t_o
        pixels = Square(g.o_w * g.k_c, g.k_c, inside(y, 1, g.o_h, t_o), inside(x, 1, g.o_w, t_o))
        transform(OUTPUT, t_o, t, M + (i - tiles.first) * width, &points,
                  O + ((n * g.o_h + y) * g.o_w + x) * g.k_c + channel, &pixels, bias, bias_relu.relu, channels)
