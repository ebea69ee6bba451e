"""Winograd's minimal filtering, F(m×m, 3×3) with m = 2, 4 or 6 (Lavin & Gray, *Fast Algorithms for
Convolutional Neural Networks*, CVPR 2016, arXiv:1509.09308).

A tile of m×m outputs of one channel comes from t×t inputs, t = m + 2.  At t×t points both the tile d and the
kernel g become Bᵀ·d·B and G·g·Gᵀ, and their products point by point give the outputs Aᵀ·(…)·A: t² products in
place of 9·m².  Channels are summed at the points, so that each point is one matrix product over all tiles.

==========  ======================  ====================================================================
array       shape                   role
==========  ======================  ====================================================================
x           (i_n, i_h, i_w, i_c)    input I
kernel      (3, 3, i_c/G, k_c)      kernel K
U           (G, t², i_c/G, k_c/G)   the kernel at the points; depends on nothing else, so a plan keeps it
V           (G, t², P, i_c/G)       the input at the points, P = i_n·⌈o_h/m⌉·⌈o_w/m⌉ tiles that overlap by 2
M           (G, t², P, k_c/G)       M_j = V_j · U_j for each point j
out         (i_n, o_h, o_w, k_c)    output O; tiles past its edge are clipped
==========  ======================  ====================================================================

Workspace, in elements:  t²·(i_c·k_c/G + P·(i_c + k_c)), U being the first t²·i_c·k_c/G

3×3 kernels with stride 1 and without dilation; any padding and number of groups.  The sums are not those of the
definition: tiles read zeros beyond the border, infinities become NaN and a NaN fills its tile, and rounding
grows with m (:mod:`pymec.kernels._winograd_matrices` has the bound).
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels._blas cimport gemm_rowmajor
from pymec.kernels._geometry cimport Geometry, check_operands, check_room, check_threads, geometry
from pymec.kernels._patch cimport clip, copy, zero
from pymec.kernels._winograd_transforms cimport input_points, kernel_points, outputs_of_points


cdef enum:
    LANES = 16        # channels transformed together: what is half transformed stays in the level-1 cache
    ROW = 128          # a row of the largest tile: 8 · LANES (the checked build multiplies no constants here)
    TILE = 1024        # and the tile: 8 · ROW

# Transforms write to small arrays of constant pitch: of these the compiler knows that nothing overlaps, and
# so it takes several channels at once.  One copy takes the result to its place.

# Stage 1: the kernel at the points ---------------------------------------------------------------------


cdef void transform_taps(
    const floating* K, floating* U, Py_ssize_t unit, Py_ssize_t m, const Geometry* g
) noexcept nogil:
    """U[:, i, :] = G·g·Gᵀ for all taps g from one input channel, counted through the groups."""
    cdef Py_ssize_t t = m + 2
    cdef Py_ssize_t group = unit / g.i_cg
    cdef Py_ssize_t i = unit - group * g.i_cg
    cdef Py_ssize_t point = g.i_cg * g.k_cg   # elements of U from one point to the next
    cdef Py_ssize_t tap = g.i_cg * g.k_c      # elements of K from one tap to the next
    cdef const floating* taps = K + i * g.k_c + group * g.k_cg
    cdef floating* target = U + group * t * t * point + i * g.k_cg
    cdef floating[TILE] half
    cdef floating[ROW] whole
    cdef Py_ssize_t a, b, c = 0, lanes
    while c < g.k_cg:
        lanes = min(LANES, g.k_cg - c)
        for b in range(3):
            kernel_points(m, taps + b * tap + c, 3 * tap, half + b * LANES, ROW, lanes)
        for a in range(t):
            kernel_points(m, half + a * ROW, LANES, whole, LANES, lanes)
            for b in range(t):
                copy(target + (a * t + b) * point + c, whole + b * LANES, lanes)
        c += LANES


# Stage 2: the input at the points ----------------------------------------------------------------------


cdef struct Tile:
    Py_ssize_t n, y, x  # its image, first output row and first output column


cdef Tile tile_at(Py_ssize_t index, Py_ssize_t m, const Geometry* g) noexcept nogil:
    """Tiles are counted through images, rows and columns."""
    cdef Py_ssize_t rows = (g.o_h + m - 1) / m, columns = (g.o_w + m - 1) / m
    cdef Tile tile
    tile.x = index % columns * m
    tile.y = index / columns % rows * m
    tile.n = index / columns / rows
    return tile


cdef void transform_tile(
    const floating* I, floating* V, Py_ssize_t point, const Tile* tile, Py_ssize_t group, Py_ssize_t m,
    const Geometry* g
) noexcept nogil:
    """V[:, tile, :] = Bᵀ·d·B, one group's channels; V points at the tile's place, points are `point` apart."""
    cdef Py_ssize_t t = m + 2
    cdef Py_ssize_t top = tile.y - g.p_t, left = tile.x - g.p_l
    cdef Py_ssize_t a0 = clip(-top, 0, t), a1 = clip(g.i_h - top, a0, t)   # its rows inside the image,
    cdef Py_ssize_t b0 = clip(-left, 0, t), b1 = clip(g.i_w - left, b0, t)  # and columns
    cdef bint inside = a1 - a0 == t and b1 - b0 == t
    cdef floating[TILE] bordered
    cdef floating[TILE] half
    cdef floating[ROW] whole
    cdef const floating* d
    cdef Py_ssize_t row = g.i_w * g.i_c, column = g.i_c
    cdef Py_ssize_t a, b, c = 0, lanes
    while c < g.i_cg:
        lanes = min(LANES, g.i_cg - c)
        d = I + (tile.n * g.i_h + top) * g.i_w * g.i_c + left * g.i_c + group * g.i_cg + c
        if not inside:
            zero(bordered, t * ROW)
            for a in range(a0, a1):
                for b in range(b0, b1):
                    copy(bordered + a * ROW + b * LANES, d + (a * g.i_w + b) * g.i_c, lanes)
            d, row, column = bordered, ROW, LANES
        for b in range(t):
            input_points(m, d + b * column, row, half + b * LANES, ROW, lanes)
        for a in range(t):
            input_points(m, half + a * ROW, LANES, whole, LANES, lanes)
            for b in range(t):
                copy(V + (a * t + b) * point + c, whole + b * LANES, lanes)
        c += LANES


cdef void transform_tiles(
    const floating* I, floating* V, Py_ssize_t first, Py_ssize_t end, Py_ssize_t tiles, Py_ssize_t group,
    Py_ssize_t m, const Geometry* g
) noexcept nogil:
    """Tiles first .. end of a group; V has room for `tiles` at each point and points at the first of these."""
    cdef Py_ssize_t i
    cdef Tile tile
    for i in range(first, end):
        tile = tile_at(i, m, g)
        transform_tile(I, V + (i - first) * g.i_cg, tiles * g.i_cg, &tile, group, m, g)


# Stage 3: a product for each point ---------------------------------------------------------------------


cdef void multiply_point(
    const floating* V, const floating* U, floating* M, Py_ssize_t tiles, const Geometry* g
) noexcept nogil:
    # M_j (P × k_c/G) = V_j (P × i_c/G) · U_j (i_c/G × k_c/G)
    gemm_rowmajor(tiles, g.k_cg, g.i_cg, V, g.i_cg, U, g.k_cg, <floating> 0, M, g.k_cg)


# Stage 4: from the points to the output ----------------------------------------------------------------


cdef void finish_tile(
    const floating* M, floating* O, Py_ssize_t point, const Tile* tile, Py_ssize_t group, Py_ssize_t m,
    const Geometry* g
) noexcept nogil:
    """O[tile] = Aᵀ·M·A, one group's channels, as far as the tile lies in the output."""
    cdef Py_ssize_t t = m + 2
    cdef Py_ssize_t rows = min(m, g.o_h - tile.y), columns = min(m, g.o_w - tile.x)
    cdef floating[TILE] half
    cdef floating[ROW] whole
    cdef floating* target
    cdef Py_ssize_t i, j, b, c = 0, lanes
    while c < g.k_cg:
        lanes = min(LANES, g.k_cg - c)
        for b in range(t):
            outputs_of_points(m, M + b * point + c, t * point, half + b * LANES, ROW, lanes)
        for i in range(rows):
            target = O + ((tile.n * g.o_h + tile.y + i) * g.o_w + tile.x) * g.k_c + group * g.k_cg + c
            outputs_of_points(m, half + i * ROW, LANES, whole, LANES, lanes)
            for j in range(columns):
                copy(target + j * g.k_c, whole + j * LANES, lanes)
        c += LANES


cdef void finish_tiles(
    const floating* M, floating* O, Py_ssize_t first, Py_ssize_t end, Py_ssize_t tiles, Py_ssize_t group,
    Py_ssize_t m, const Geometry* g
) noexcept nogil:
    """Tiles first .. end of a group, M as V in :func:`transform_tiles`."""
    cdef Py_ssize_t i
    cdef Tile tile
    for i in range(first, end):
        tile = tile_at(i, m, g)
        finish_tile(M + (i - first) * g.k_cg, O, tiles * g.k_cg, &tile, group, m, g)


# What Python calls -------------------------------------------------------------------------------------


cdef int check_tiles(const Geometry* g, Py_ssize_t m) except -1:
    """Refuse what the transforms are not made for."""
    if m != 2 and m != 4 and m != 6:
        raise ValueError(f"m must be 2, 4 or 6, got {m}")
    if (g.k_h, g.k_w, g.s_h, g.s_w, g.d_h, g.d_w) != (3, 3, 1, 1, 1, 1):
        raise ValueError("Winograd's tiles are for 3×3 kernels with stride 1 and dilation 1")
    return 0


def tile_count(shape, m):
    """P, the tiles of m×m outputs that cover the output of all images."""
    return shape.i_n * -(-shape.o_h // m) * -(-shape.o_w // m)


def sizes(shape, m):
    """The elements of U, V and M."""
    points, tiles = (m + 2) ** 2, tile_count(shape, m)
    return points * shape.i_cg * shape.k_c, points * tiles * shape.i_c, points * tiles * shape.k_c


def transform_kernel(const floating[:, :, :, ::1] kernel, floating[::1] U, shape, Py_ssize_t m, int n_threads=1):
    """Stage 1: the kernel at the points; afterwards U reads as (G, t², i_c/G, k_c/G)."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t unit
    check_threads(n_threads)
    check_tiles(&g, m)
    check_operands(&g, NULL, kernel.shape, NULL)
    check_room("U", U.shape[0], sizes(shape, m)[0])
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* points = &U[0]
    with nogil:
        for unit in prange(g.i_c, num_threads=n_threads, schedule="static"):
            transform_taps(K, points, unit, m, &g)


cdef void transform_share(
    const floating* I, floating* V, Py_ssize_t unit, Py_ssize_t tiles, Py_ssize_t m, const Geometry* g
) noexcept nogil:
    """One tile of one group, counted through groups and tiles."""
    cdef Py_ssize_t group = unit / tiles, tile = unit % tiles
    transform_tiles(I, V + (group * (m + 2) * (m + 2) * tiles + tile) * g.i_cg, tile, tile + 1, tiles, group, m, g)


def transform_input(const floating[:, :, :, ::1] x, floating[::1] V, shape, Py_ssize_t m, int n_threads=1):
    """Stage 2: the input at the points; afterwards V reads as (G, t², P, i_c/G)."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t tiles = tile_count(shape, m), unit
    check_threads(n_threads)
    check_tiles(&g, m)
    check_operands(&g, x.shape, NULL, NULL)
    check_room("V", V.shape[0], sizes(shape, m)[1])
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef floating* points = &V[0]
    with nogil:
        for unit in prange(g.groups * tiles, num_threads=n_threads, schedule="static"):
            transform_share(I, points, unit, tiles, m, &g)


def multiply(const floating[::1] V, const floating[::1] U, floating[::1] M, shape, Py_ssize_t m, int n_threads=1):
    """Stage 3: M_j = V_j · U_j, points and groups shared among the threads; M reads as (G, t², P, k_c/G)."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t tiles = tile_count(shape, m), unit
    check_threads(n_threads)
    check_tiles(&g, m)
    for name, given, needed in zip("UVM", (U.shape[0], V.shape[0], M.shape[0]), sizes(shape, m)):
        check_room(name, given, needed)
    if g.i_n == 0:
        return
    cdef const floating* kernel = &U[0]
    cdef const floating* x = &V[0]
    cdef floating* out = &M[0]
    with nogil:
        for unit in prange(g.groups * (m + 2) * (m + 2), num_threads=n_threads, schedule="static"):
            multiply_point(x + unit * tiles * g.i_cg, kernel + unit * g.i_cg * g.k_cg,
                           out + unit * tiles * g.k_cg, tiles, &g)


cdef void finish_share(
    const floating* M, floating* O, Py_ssize_t unit, Py_ssize_t tiles, Py_ssize_t m, const Geometry* g
) noexcept nogil:
    """One tile of one group, counted as in stage 2."""
    cdef Py_ssize_t group = unit / tiles, tile = unit % tiles
    finish_tiles(M + (group * (m + 2) * (m + 2) * tiles + tile) * g.k_cg, O, tile, tile + 1, tiles, group, m, g)


def transform_output(const floating[::1] M, floating[:, :, :, ::1] out, shape, Py_ssize_t m, int n_threads=1):
    """Stage 4: from the points to the output, the last tiles clipped."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t tiles = tile_count(shape, m), unit
    check_threads(n_threads)
    check_tiles(&g, m)
    check_operands(&g, NULL, NULL, out.shape)
    check_room("M", M.shape[0], sizes(shape, m)[2])
    if g.i_n == 0:
        return
    cdef const floating* points = &M[0]
    cdef floating* O = &out[0, 0, 0, 0]
    with nogil:
        for unit in prange(g.groups * tiles, num_threads=n_threads, schedule="static"):
            finish_share(points, O, unit, tiles, m, &g)


def run(x, kernel, out, workspace, shape, n_threads=1, m=4, prepared=None):
    """All tiles at once; ``prepared`` is U if stage 1 was done before, otherwise U leads the workspace."""
    if prepared is None:
        prepared, workspace = workspace[:sizes(shape, m)[0]], workspace[sizes(shape, m)[0]:]
        transform_kernel(kernel, prepared, shape, m, n_threads)
    V, M = workspace[:sizes(shape, m)[1]], workspace[sizes(shape, m)[1]:]
    transform_input(x, V, shape, m, n_threads)
    multiply(V, prepared, M, shape, m, n_threads)
    transform_output(M, out, shape, m, n_threads)
