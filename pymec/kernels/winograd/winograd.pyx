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

from pymec.kernels.shared.bias_relu cimport BiasRelu
from pymec.kernels.shared.blas cimport gemm_rowmajor
from pymec.kernels.shared.geometry cimport Geometry, check_room, check_stage, geometry
from pymec.kernels.shared.spans cimport Span, ceil_div, innermost
from pymec.kernels.winograd.tiles cimport (
    check_tiles, transform_input_tiles, transform_output_tiles, transform_taps,
)


# Stage 1: U = G·g·Gᵀ ------------------------------------------------------------------------------------


cdef void transform_channel(
    const floating* K, floating* U, Py_ssize_t task, Py_ssize_t t_o, const Geometry* g
) noexcept nogil:
    """The taps from one input channel, counted through groups, to all output channels of its group."""
    cdef Py_ssize_t points = (t_o + 2) * (t_o + 2)
    cdef Py_ssize_t c = innermost(&task, g.i_cg)
    cdef Py_ssize_t group = task
    transform_taps(K + c * g.k_c + group * g.k_cg, U + (group * points * g.i_cg + c) * g.k_cg, g.i_cg * g.k_cg,
                   g.k_cg, t_o, g)


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
            transform_channel(K, points, task, t_o, &g)


# Stage 2: V = Bᵀ·d·B ------------------------------------------------------------------------------------


cdef struct TileRow:            # a task: a row of tiles of one group and image
    Py_ssize_t group
    Span tiles                  # counted through images, tile rows and tile columns
    Py_ssize_t first_point      # of its first tile: the vectors of channels before it in V and in M


cdef inline TileRow tile_row(Py_ssize_t task, Py_ssize_t tiles, Py_ssize_t t_o, const Geometry* g) noexcept nogil:
    """One of the rows of all groups; a group has `tiles` tiles."""
    cdef Py_ssize_t columns = ceil_div(g.o_w, t_o)
    cdef TileRow row
    row.tiles.first = innermost(&task, tiles / columns) * columns
    row.tiles.end = row.tiles.first + columns
    row.group = task
    row.first_point = row.group * (t_o + 2) * (t_o + 2) * tiles + row.tiles.first
    return row


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
    cdef TileRow row
    with nogil:
        for task in prange(g.groups * tiles / ceil_div(g.o_w, t_o), num_threads=n_threads, schedule="static"):
            row = tile_row(task, tiles, t_o, &g)
            transform_input_tiles(I, points + row.first_point * g.i_cg, tiles * g.i_cg, row.group, row.tiles, t_o,
                                  &g)


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
    cdef BiasRelu plain = BiasRelu(NULL, False)
    cdef TileRow row
    with nogil:
        for task in prange(g.groups * tiles / ceil_div(g.o_w, t_o), num_threads=n_threads, schedule="static"):
            row = tile_row(task, tiles, t_o, &g)
            transform_output_tiles(points + row.first_point * g.k_cg, O, tiles * g.k_cg, g.k_cg,
                                   row.group * g.k_cg, g.k_cg, row.tiles, t_o, &plain, &g)


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
