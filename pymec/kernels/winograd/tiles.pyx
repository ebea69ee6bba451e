"""The transforms of ``banded.pyx``: the kernel, some tiles of the input, and the way back to the output.

As in ``winograd.pyx`` each is a one-dimensional transform of columns and then of rows, for :data:`LANES` adjacent
channels at a time, so that what is half transformed stays in the level-1 cache.  Here a call takes several tiles,
and the last write adds the bias and applies ReLU.
"""

from cython cimport floating

from pymec.kernels.shared.geometry cimport Geometry
from pymec.kernels.shared.patch cimport copy, zero
from pymec.kernels.shared.per_cpu cimport compiled_per_cpu, inlined
from pymec.kernels.shared.spans cimport Span, ceil_div, innermost, inside
from pymec.kernels.winograd.transforms cimport input_points, kernel_points, outputs_of_points


cdef enum:
    LANES = 16         # channels transformed together
    ROW = 128          # a row of the largest tile: 8 · LANES (the checked build multiplies no constants here)
    TILE = 1024        # and the tile: 8 · ROW

# Transforms write to small arrays of constant pitch: the compiler knows that these do not overlap, and so takes
# several channels at once.  One copy takes the result to its place.


cdef int check_tiles(const Geometry* g, Py_ssize_t t_o) except -1:
    """Refuse what Winograd's tiles can't do."""
    if t_o != 2 and t_o != 4 and t_o != 6:
        raise ValueError(f"t_o must be 2, 4 or 6, got {t_o}")
    if (g.k_h, g.k_w, g.s_h, g.s_w, g.d_h, g.d_w) != (3, 3, 1, 1, 1, 1):
        raise ValueError("Winograd's tiles are for 3×3 kernels with stride 1 and dilation 1")
    return 0


# The kernel at the points -------------------------------------------------------------------------------


cdef inline inlined transform_tap_lanes(
    const floating* taps, Py_ssize_t tap, floating* U, Py_ssize_t point, Py_ssize_t lanes, Py_ssize_t t_o
) noexcept nogil:
    cdef floating[TILE] half
    cdef floating[ROW] whole
    cdef Py_ssize_t t = t_o + 2
    cdef Py_ssize_t a, b
    for b in range(3):
        kernel_points(t_o, taps + b * tap, 3 * tap, half + b * LANES, ROW, lanes)
    for a in range(t):
        kernel_points(t_o, half + a * ROW, LANES, whole, LANES, lanes)
        for b in range(t):
            copy(U + (a * t + b) * point, whole + b * LANES, lanes)


cdef compiled_per_cpu taps_to_points(
    const floating* taps, Py_ssize_t tap, floating* U, Py_ssize_t point, Py_ssize_t channels, Py_ssize_t t_o
) noexcept nogil:
    """U = G·g·Gᵀ for all taps g from one input channel to some output channels.

    Taps are ``tap`` elements apart, points of U ``point``.
    """
    cdef Py_ssize_t c = 0
    while c + LANES <= channels:
        transform_tap_lanes(taps + c, tap, U + c, point, LANES, t_o)
        c += LANES
    if c < channels:
        transform_tap_lanes(taps + c, tap, U + c, point, channels - c, t_o)


# The input at the points --------------------------------------------------------------------------------


cdef struct TileOrigin:
    Py_ssize_t n, y, x  # a tile's image, first output row and first output column


cdef inline TileOrigin tile_at(Py_ssize_t index, Py_ssize_t t_o, const Geometry* g) noexcept nogil:
    """Tiles are counted through images, rows and columns."""
    cdef TileOrigin tile
    tile.x = innermost(&index, ceil_div(g.o_w, t_o)) * t_o
    tile.y = innermost(&index, ceil_div(g.o_h, t_o)) * t_o
    tile.n = index
    return tile


cdef inline inlined transform_lanes(
    const floating* I, floating* V, Py_ssize_t point, const TileOrigin* tile, Py_ssize_t channel, Py_ssize_t lanes,
    Py_ssize_t t_o, const Geometry* g
) noexcept nogil:
    """V = Bᵀ·d·B for some channels of a tile; ``channel`` counts through all groups."""
    cdef Py_ssize_t t = t_o + 2
    cdef Py_ssize_t top = tile.y - g.p_t, left = tile.x - g.p_l
    cdef Span rows = inside(top, 1, g.i_h, t), columns = inside(left, 1, g.i_w, t)
    cdef floating[TILE] bordered
    cdef floating[TILE] half
    cdef floating[ROW] whole
    cdef const floating* d = I + ((tile.n * g.i_h + top) * g.i_w + left) * g.i_c + channel
    cdef Py_ssize_t row = g.i_w * g.i_c, column = g.i_c
    cdef Py_ssize_t a, b
    if rows.end - rows.first < t or columns.end - columns.first < t:
        zero(bordered, t * ROW)
        for a in range(rows.first, rows.end):
            for b in range(columns.first, columns.end):
                copy(bordered + a * ROW + b * LANES, d + (a * g.i_w + b) * g.i_c, lanes)
        d, row, column = bordered, ROW, LANES
    for b in range(t):
        input_points(t_o, d + b * column, row, half + b * LANES, ROW, lanes)
    for a in range(t):
        input_points(t_o, half + a * ROW, LANES, whole, LANES, lanes)
        for b in range(t):
            copy(V + (a * t + b) * point, whole + b * LANES, lanes)


cdef compiled_per_cpu tiles_to_points(
    const floating* I, floating* V, Py_ssize_t first, Py_ssize_t end, Py_ssize_t tiles, Py_ssize_t group,
    Py_ssize_t t_o, const Geometry* g
) noexcept nogil:
    """Tiles first .. end of a group.  V has room for `tiles` at each point and points at the first of them."""
    cdef Py_ssize_t i, c
    cdef TileOrigin tile
    for i in range(first, end):
        tile = tile_at(i, t_o, g)
        c = 0
        while c + LANES <= g.i_cg:
            transform_lanes(I, V + c, tiles * g.i_cg, &tile, group * g.i_cg + c, LANES, t_o, g)
            c += LANES
        if c < g.i_cg:
            transform_lanes(I, V + c, tiles * g.i_cg, &tile, group * g.i_cg + c, g.i_cg - c, t_o, g)
        V += g.i_cg


# From the points to the output --------------------------------------------------------------------------


cdef inline inlined finish_lanes(
    const floating* M, floating* O, Py_ssize_t point, const TileOrigin* tile, const floating* bias, bint relu,
    Py_ssize_t lanes, Py_ssize_t t_o, const Geometry* g
) noexcept nogil:
    """O[tile] = Aᵀ·M·A for some channels, as far as the tile is inside the output; O points at its first pixel."""
    cdef Py_ssize_t t = t_o + 2
    cdef Py_ssize_t rows = min(t_o, g.o_h - tile.y), columns = min(t_o, g.o_w - tile.x)
    cdef floating[TILE] half
    cdef floating[ROW] whole
    cdef Py_ssize_t i, j, b, c
    for b in range(t):
        outputs_of_points(t_o, M + b * point, t * point, half + b * LANES, ROW, lanes)
    for i in range(rows):
        outputs_of_points(t_o, half + i * ROW, LANES, whole, LANES, lanes)
        for j in range(columns):
            if bias != NULL:
                for c in range(lanes):
                    whole[j * LANES + c] += bias[c]
            if relu:
                for c in range(lanes):
                    whole[j * LANES + c] = 0 if whole[j * LANES + c] < 0 else whole[j * LANES + c]
            copy(O + (i * g.o_w + j) * g.k_c, whole + j * LANES, lanes)


cdef compiled_per_cpu points_to_tiles(
    const floating* M, floating* O, Py_ssize_t first, Py_ssize_t end, Py_ssize_t tiles, const Outputs* outputs,
    Py_ssize_t t_o, const Geometry* g
) noexcept nogil:
    """Tiles first .. end, M as V in :func:`tiles_to_points`."""
    cdef const floating* bias = NULL
    cdef floating* target
    cdef Py_ssize_t i, c
    cdef TileOrigin tile
    if outputs.bias != NULL:
        bias = <const floating*> outputs.bias + outputs.channel
    for i in range(first, end):
        tile = tile_at(i, t_o, g)
        target = O + ((tile.n * g.o_h + tile.y) * g.o_w + tile.x) * g.k_c + outputs.channel
        c = 0
        while c + LANES <= outputs.count:
            finish_lanes(M + c, target + c, tiles * outputs.pitch, &tile, bias, outputs.relu, LANES, t_o, g)
            c += LANES
            if bias != NULL:
                bias += LANES
        if c < outputs.count:
            finish_lanes(M + c, target + c, tiles * outputs.pitch, &tile, bias, outputs.relu, outputs.count - c,
                         t_o, g)
        if bias != NULL:
            bias -= c
        M += outputs.pitch


# What other files call: a C function with one address, in front of the versions for several CPUs -----------


cdef void transform_taps(
    const floating* taps, Py_ssize_t tap, floating* U, Py_ssize_t point, Py_ssize_t channels, Py_ssize_t t_o
) noexcept nogil:
    taps_to_points(taps, tap, U, point, channels, t_o)


cdef void transform_tiles(
    const floating* I, floating* V, Py_ssize_t first, Py_ssize_t end, Py_ssize_t tiles, Py_ssize_t group,
    Py_ssize_t t_o, const Geometry* g
) noexcept nogil:
    tiles_to_points(I, V, first, end, tiles, group, t_o, g)


cdef void finish_tiles(
    const floating* M, floating* O, Py_ssize_t first, Py_ssize_t end, Py_ssize_t tiles, const Outputs* outputs,
    Py_ssize_t t_o, const Geometry* g
) noexcept nogil:
    points_to_tiles(M, O, first, end, tiles, outputs, t_o, g)
