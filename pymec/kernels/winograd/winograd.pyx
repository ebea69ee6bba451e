"""Winograd's minimal filtering, F(2×2, 3×3), F(4×4, 3×3) and F(6×6, 3×3), all tiles at once (Lavin & Gray, *Fast
Algorithms for Convolutional Neural Networks*, CVPR 2016, arXiv:1509.09308).

A tile Y of t_o×t_o outputs of one channel (the paper's m is t_o = 2, 4 or 6) comes from a tile d of t×t inputs,
t = t_o + 2, and a 3×3 kernel g::

    Y = Aᵀ·[(G·g·Gᵀ) ⊙ (Bᵀ·d·B)]·A

Both transforms evaluate polynomials at t×t points, where multiplying takes t² products in place of 9·t_o².  Input
channels are summed at the points, so that each point is one matrix product over all tiles.  The matrices are
:data:`pymec.kernels.winograd.matrices.MATRICES`; those of F(2×2, 3×3)::

         ⎡1  0 -1  0⎤         ⎡ 1    0    0 ⎤
    Bᵀ = ⎢0  1  1  0⎥     G = ⎢1/2  1/2  1/2⎥     Aᵀ = ⎡1  1  1  0⎤
         ⎢0 -1  1  0⎥         ⎢1/2 -1/2  1/2⎥          ⎣0  1 -1 -1⎦
         ⎣0  1  0 -1⎦         ⎣ 0    0    1 ⎦

==========  ======================  ====================================================================
array       shape                   role
==========  ======================  ====================================================================
x           (i_n, i_h, i_w, i_c)    input I
kernel      (3, 3, i_c/G, k_c)      kernel K
U           (G, t², i_c/G, k_c/G)   G·g·Gᵀ; depends on the kernel alone, so a plan keeps it
V           (G, t², P, i_c/G)       Bᵀ·d·B of P = i_n·⌈o_h/t_o⌉·⌈o_w/t_o⌉ tiles, which overlap by 2 pixels
M           (G, t², P, k_c/G)       M_j = V_j · U_j for each point j
out         (i_n, o_h, o_w, k_c)    output O, Aᵀ·M·A as far as it lies inside
==========  ======================  ====================================================================

Workspace, in elements:  t²·(i_c·k_c/G + P·(i_c + k_c)), U being the first t²·i_c·k_c/G

3×3 kernels with stride 1 and without dilation; any padding and number of groups.  The sums are not those of the
definition: infinities become NaN, a NaN fills its tile, and rounding grows with t_o
(:mod:`pymec.kernels.winograd.matrices` has the bound).
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.blas cimport gemm_rowmajor
from pymec.kernels.shared.geometry cimport Geometry, check_room, check_stage, geometry
from pymec.kernels.shared.patch cimport copy, zero
from pymec.kernels.shared.per_cpu cimport compiled_per_cpu, inlined
from pymec.kernels.shared.spans cimport Span, ceil_div, innermost, inside
from pymec.kernels.winograd.tiles cimport check_tiles
from pymec.kernels.winograd.transforms cimport input_points, kernel_points, outputs_of_points

cdef enum:
    LANES = 16         # channels transformed together, in vectors
    ROW = 128          # a row of the largest tile, 8 · LANES (the checked build multiplies no constants here)
    TILE = 1024        # and the tile, 8 · ROW


# Y = A·X·Aᵀ, which stages 1, 2 and 4 have in common -----------------------------------------------------


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
    Py_ssize_t lanes
) noexcept nogil:
    """Y = A·X·Aᵀ for `lanes` channels; X is n × n."""
    cdef floating[TILE] filled      # X with its zeros
    cdef floating[TILE] half        # A·X
    cdef floating[ROW] whole        # a row of A·X·Aᵀ: of small arrays the compiler knows that none overlap
    cdef Py_ssize_t row = x.row, column = x.column, i, j
    if x.rows.end - x.rows.first < n or x.columns.end - x.columns.first < n:
        zero(filled, n * ROW)
        for i in range(x.rows.first, x.rows.end):
            for j in range(x.columns.first, x.columns.end):
                copy(filled + i * ROW + j * LANES, X + i * row + j * column, lanes)
        X, row, column = filled, ROW, LANES
    for j in range(n):
        # column j of A·X
        multiply_vector(A, t_o, X + j * column, row, half + j * LANES, ROW, lanes)
    for i in range(y.rows.first, y.rows.end):
        # row i of (A·X)·Aᵀ
        multiply_vector(A, t_o, half + i * ROW, LANES, whole, LANES, lanes)
        for j in range(y.columns.first, y.columns.end):
            copy(Y + i * y.row + j * y.column, whole + j * LANES, lanes)


cdef compiled_per_cpu transform(
    Matrix A, Py_ssize_t t_o, Py_ssize_t n, const floating* X, const Square* x, floating* Y, const Square* y,
    Py_ssize_t channels
) noexcept nogil:
    """Y = A·X·Aᵀ for each of some channels."""
    cdef Py_ssize_t c = 0
    while c + LANES <= channels:
        transform_lanes(A, t_o, n, X + c, x, Y + c, y, LANES)
        c += LANES
    if c < channels:
        transform_lanes(A, t_o, n, X + c, x, Y + c, y, channels - c)


# Stage 1: U = G·g·Gᵀ ------------------------------------------------------------------------------------


cdef void transform_taps(
    const floating* K, floating* U, Py_ssize_t task, Py_ssize_t t_o, const Geometry* g
) noexcept nogil:
    """The taps from one input channel, counted through groups, to all output channels of its group."""
    cdef Py_ssize_t t = t_o + 2
    cdef Py_ssize_t c = innermost(&task, g.i_cg)
    cdef Py_ssize_t group = task
    cdef Square taps = square(3 * g.i_cg * g.k_c, g.i_cg * g.k_c, 3)
    cdef Square points = square(t * g.i_cg * g.k_cg, g.i_cg * g.k_cg, t)
    transform(KERNEL, t_o, 3, K + c * g.k_c + group * g.k_cg, &taps,
              U + (group * t * t * g.i_cg + c) * g.k_cg, &points, g.k_cg)


def transform_kernel(const floating[:, :, :, ::1] kernel, floating[::1] U, shape, Py_ssize_t t_o, int n_threads=1):
    """Stage 1: U = G·g·Gᵀ for every pair of channels; afterwards U reads as (G, t², i_c/G, k_c/G)."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t task
    check_tiles(&g, t_o)
    check_stage(&g, n_threads, NULL, kernel.shape, NULL)
    check_room("U", U.shape[0], sizes(shape, t_o)[0])
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* points = &U[0]
    with nogil:
        for task in prange(g.i_c, num_threads=n_threads, schedule="static"):
            transform_taps(K, points, task, t_o, &g)


# Stage 2: V = Bᵀ·d·B ------------------------------------------------------------------------------------


cdef void transform_inputs(
    const floating* I, floating* V, Py_ssize_t task, Py_ssize_t tiles, Py_ssize_t t_o,
    const Geometry* g
) noexcept nogil:
    """One tile of one group, counted through groups, images, tile rows and tile columns; padding is left out."""
    cdef Py_ssize_t t = t_o + 2
    cdef Py_ssize_t group = task / tiles, tile = task % tiles
    cdef Py_ssize_t left = innermost(&task, ceil_div(g.o_w, t_o)) * t_o - g.p_l
    cdef Py_ssize_t top = innermost(&task, ceil_div(g.o_h, t_o)) * t_o - g.p_t
    cdef Py_ssize_t n = innermost(&task, g.i_n)
    cdef Square pixels = Square(g.i_w * g.i_c, g.i_c, inside(top, 1, g.i_h, t), inside(left, 1, g.i_w, t))
    cdef Square points = square(t * tiles * g.i_cg, tiles * g.i_cg, t)
    transform(INPUT, t_o, t, I + ((n * g.i_h + top) * g.i_w + left) * g.i_c + group * g.i_cg, &pixels,
              V + (group * t * t * tiles + tile) * g.i_cg, &points, g.i_cg)


def transform_input(const floating[:, :, :, ::1] x, floating[::1] V, shape, Py_ssize_t t_o, int n_threads=1):
    """Stage 2: V = Bᵀ·d·B for every tile and channel; afterwards V reads as (G, t², P, i_c/G)."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t tiles = tile_count(shape, t_o), task
    check_tiles(&g, t_o)
    check_stage(&g, n_threads, x.shape, NULL, NULL)
    check_room("V", V.shape[0], sizes(shape, t_o)[1])
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef floating* points = &V[0]
    with nogil:
        for task in prange(g.groups * tiles, num_threads=n_threads, schedule="static"):
            transform_inputs(I, points, task, tiles, t_o, &g)


# Stage 3: a product for each point ----------------------------------------------------------------------


cdef void multiply_point(
    const floating* V, const floating* U, floating* M, Py_ssize_t task, Py_ssize_t tiles, const Geometry* g
) noexcept nogil:
    """One point of one group, counted through groups."""
    # M_j (P × k_c/G) = V_j (P × i_c/G) · U_j (i_c/G × k_c/G)
    gemm_rowmajor(tiles, g.k_cg, g.i_cg, V + task * tiles * g.i_cg, g.i_cg, U + task * g.i_cg * g.k_cg, g.k_cg,
                  <floating> 0, M + task * tiles * g.k_cg, g.k_cg)


def multiply(
    const floating[::1] V, const floating[::1] U, floating[::1] M, shape, Py_ssize_t t_o, int n_threads=1,
):
    """Stage 3: M_j = V_j · U_j for every point j; afterwards M reads as (G, t², P, k_c/G)."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t tiles = tile_count(shape, t_o), task
    check_tiles(&g, t_o)
    check_stage(&g, n_threads, NULL, NULL, NULL)
    for name, given, needed in zip("UVM", (U.shape[0], V.shape[0], M.shape[0]), sizes(shape, t_o)):
        check_room(name, given, needed)
    if g.i_n == 0:
        return
    cdef const floating* kernel = &U[0]
    cdef const floating* x = &V[0]
    cdef floating* out = &M[0]
    with nogil:
        for task in prange(g.groups * (t_o + 2) * (t_o + 2), num_threads=n_threads, schedule="static"):
            multiply_point(x, kernel, out, task, tiles, &g)


# Stage 4: O = Aᵀ·M·A ------------------------------------------------------------------------------------


cdef void transform_outputs(
    const floating* M, floating* O, Py_ssize_t task, Py_ssize_t tiles, Py_ssize_t t_o,
    const Geometry* g
) noexcept nogil:
    """One tile of one group, counted as in stage 2; what lies past the edge of the output is left out."""
    cdef Py_ssize_t t = t_o + 2
    cdef Py_ssize_t group = task / tiles, tile = task % tiles
    cdef Py_ssize_t x = innermost(&task, ceil_div(g.o_w, t_o)) * t_o
    cdef Py_ssize_t y = innermost(&task, ceil_div(g.o_h, t_o)) * t_o
    cdef Py_ssize_t n = innermost(&task, g.i_n)
    cdef Square points = square(t * tiles * g.k_cg, tiles * g.k_cg, t)
    cdef Square pixels = Square(g.o_w * g.k_c, g.k_c, inside(y, 1, g.o_h, t_o), inside(x, 1, g.o_w, t_o))
    transform(OUTPUT, t_o, t, M + (group * t * t * tiles + tile) * g.k_cg, &points,
              O + ((n * g.o_h + y) * g.o_w + x) * g.k_c + group * g.k_cg, &pixels, g.k_cg)


def transform_output(const floating[::1] M, floating[:, :, :, ::1] out, shape, Py_ssize_t t_o, int n_threads=1):
    """Stage 4: O = Aᵀ·M·A for every tile and channel."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t tiles = tile_count(shape, t_o), task
    check_tiles(&g, t_o)
    check_stage(&g, n_threads, NULL, NULL, out.shape)
    check_room("M", M.shape[0], sizes(shape, t_o)[2])
    if g.i_n == 0:
        return
    cdef const floating* points = &M[0]
    cdef floating* O = &out[0, 0, 0, 0]
    with nogil:
        for task in prange(g.groups * tiles, num_threads=n_threads, schedule="static"):
            transform_outputs(points, O, task, tiles, t_o, &g)


# The algorithm ------------------------------------------------------------------------------------------


def tile_count(shape, t_o):
    """P, the tiles of t_o×t_o outputs that cover the output of all images."""
    return shape.i_n * -(-shape.o_h // t_o) * -(-shape.o_w // t_o)


def sizes(shape, t_o):
    """The elements of U, V and M."""
    points, tiles = (t_o + 2) ** 2, tile_count(shape, t_o)
    return points * shape.i_cg * shape.k_c, points * tiles * shape.i_c, points * tiles * shape.k_c


def run(x, kernel, out, workspace, shape, n_threads=1, *, t_o, prepared=None):
    """All four stages; with ``prepared``, which is U, the last three."""
    U_size, V_size, _ = sizes(shape, t_o)
    if prepared is None:
        prepared, workspace = workspace[:U_size], workspace[U_size:]
        transform_kernel(kernel, prepared, shape, t_o, n_threads)
    V, M = workspace[:V_size], workspace[V_size:]
    transform_input(x, V, shape, t_o, n_threads)
    multiply(V, prepared, M, shape, t_o, n_threads)
    transform_output(M, out, shape, t_o, n_threads)
