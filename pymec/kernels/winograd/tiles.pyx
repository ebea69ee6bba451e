"""A tile of Winograd's convolution: its kernel, its input and its outputs, to the points and back again.

Channels are side by side in memory and in the vectors that the compiler makes of them: one transform takes
:data:`LANES` of them at a time, so that what is half transformed stays in the level-1 cache.
"""

from cython cimport floating

from pymec.kernels.shared.geometry cimport Geometry
from pymec.kernels.shared.patch cimport clip, copy, zero
from pymec.kernels.shared.per_cpu cimport compiled_per_cpu, inlined
from pymec.kernels.winograd.transforms cimport input_points, kernel_points, outputs_of_points


cdef enum:
    LANES = 16         # channels transformed together
    ROW = 128          # a row of the largest tile: 8 · LANES (the checked build multiplies no constants here)
    TILE = 1024        # and the tile: 8 · ROW

# Transforms write to small arrays of constant pitch: of these the compiler knows that nothing overlaps, and
# so it takes several channels at once.  One copy takes the result to its place.


cdef int check_tiles(const Geometry* g, Py_ssize_t m) except -1:
    """Refuse what the transforms are not made for."""
    if m != 2 and m != 4 and m != 6:
        raise ValueError(f"m must be 2, 4 or 6, got {m}")
    if (g.k_h, g.k_w, g.s_h, g.s_w, g.d_h, g.d_w) != (3, 3, 1, 1, 1, 1):
        raise ValueError("Winograd's tiles are for 3×3 kernels with stride 1 and dilation 1")
    return 0


# The kernel at the points -------------------------------------------------------------------------------


cdef inline inlined transform_tap_lanes(
    const floating* taps, Py_ssize_t tap, floating* U, Py_ssize_t point, Py_ssize_t lanes, Py_ssize_t m
) noexcept nogil:
    cdef floating[TILE] half
    cdef floating[ROW] whole
    cdef Py_ssize_t t = m + 2
    cdef Py_ssize_t a, b
    for b in range(3):
        kernel_points(m, taps + b * tap, 3 * tap, half + b * LANES, ROW, lanes)
    for a in range(t):
        kernel_points(m, half + a * ROW, LANES, whole, LANES, lanes)
        for b in range(t):
            copy(U + (a * t + b) * point, whole + b * LANES, lanes)


cdef compiled_per_cpu taps_to_points(
    const floating* taps, Py_ssize_t tap, floating* U, Py_ssize_t point, Py_ssize_t channels, Py_ssize_t m
) noexcept nogil:
    """U = G·g·Gᵀ for all taps g from one input channel to some output channels.

    Taps are ``tap`` elements apart, points of U ``point``.
    """
    cdef Py_ssize_t c = 0
    while c + LANES <= channels:
        transform_tap_lanes(taps + c, tap, U + c, point, LANES, m)
        c += LANES
    if c < channels:
        transform_tap_lanes(taps + c, tap, U + c, point, channels - c, m)


# The input at the points --------------------------------------------------------------------------------


cdef struct Place:
    Py_ssize_t n, y, x  # a tile's image, first output row and first output column


cdef inline Place tile_at(Py_ssize_t index, Py_ssize_t m, const Geometry* g) noexcept nogil:
    """Tiles are counted through images, rows and columns."""
    cdef Py_ssize_t rows = (g.o_h + m - 1) / m, columns = (g.o_w + m - 1) / m
    return Place(index / columns / rows, index / columns % rows * m, index % columns * m)


cdef inline inlined transform_lanes(
    const floating* I, floating* V, Py_ssize_t point, const Place* tile, Py_ssize_t channel, Py_ssize_t lanes,
    Py_ssize_t m, const Geometry* g
) noexcept nogil:
    """V = Bᵀ·d·B for some channels of a tile, the first of them counted through all groups."""
    cdef Py_ssize_t t = m + 2
    cdef Py_ssize_t top = tile.y - g.p_t, left = tile.x - g.p_l
    cdef Py_ssize_t a0 = clip(-top, 0, t), a1 = clip(g.i_h - top, a0, t)   # its rows inside the image,
    cdef Py_ssize_t b0 = clip(-left, 0, t), b1 = clip(g.i_w - left, b0, t)  # and columns
    cdef floating[TILE] bordered
    cdef floating[TILE] half
    cdef floating[ROW] whole
    cdef const floating* d = I + ((tile.n * g.i_h + top) * g.i_w + left) * g.i_c + channel
    cdef Py_ssize_t row = g.i_w * g.i_c, column = g.i_c
    cdef Py_ssize_t a, b
    if a1 - a0 < t or b1 - b0 < t:
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
            copy(V + (a * t + b) * point, whole + b * LANES, lanes)


cdef compiled_per_cpu tiles_to_points(
    const floating* I, floating* V, Py_ssize_t first, Py_ssize_t end, Py_ssize_t tiles, Py_ssize_t group,
    Py_ssize_t m, const Geometry* g
) noexcept nogil:
    """Tiles first .. end of a group; V has room for `tiles` at each point and points at the first of these."""
    cdef Py_ssize_t i, c
    cdef Place tile
    for i in range(first, end):
        tile = tile_at(i, m, g)
        c = 0
        while c + LANES <= g.i_cg:
            transform_lanes(I, V + c, tiles * g.i_cg, &tile, group * g.i_cg + c, LANES, m, g)
            c += LANES
        if c < g.i_cg:
            transform_lanes(I, V + c, tiles * g.i_cg, &tile, group * g.i_cg + c, g.i_cg - c, m, g)
        V += g.i_cg


# From the points to the output --------------------------------------------------------------------------


cdef inline inlined finish_lanes(
    const floating* M, floating* O, Py_ssize_t point, const Place* tile, const floating* bias, bint relu,
    Py_ssize_t lanes, Py_ssize_t m, const Geometry* g
) noexcept nogil:
    """O[tile] = Aᵀ·M·A for some channels, as far as the tile lies in the output; O points at its first of them."""
    cdef Py_ssize_t t = m + 2
    cdef Py_ssize_t rows = min(m, g.o_h - tile.y), columns = min(m, g.o_w - tile.x)
    cdef floating[TILE] half
    cdef floating[ROW] whole
    cdef Py_ssize_t i, j, b, c
    for b in range(t):
        outputs_of_points(m, M + b * point, t * point, half + b * LANES, ROW, lanes)
    for i in range(rows):
        outputs_of_points(m, half + i * ROW, LANES, whole, LANES, lanes)
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
    Py_ssize_t m, const Geometry* g
) noexcept nogil:
    """Tiles first .. end, M as V in :func:`tiles_to_points`."""
    cdef const floating* bias = NULL
    cdef floating* target
    cdef Py_ssize_t i, c
    cdef Place tile
    if outputs.bias != NULL:
        bias = <const floating*> outputs.bias + outputs.channel
    for i in range(first, end):
        tile = tile_at(i, m, g)
        target = O + ((tile.n * g.o_h + tile.y) * g.o_w + tile.x) * g.k_c + outputs.channel
        c = 0
        while c + LANES <= outputs.count:
            finish_lanes(M + c, target + c, tiles * outputs.pitch, &tile, bias, outputs.relu, LANES, m, g)
            c += LANES
            if bias != NULL:
                bias += LANES
        if c < outputs.count:
            finish_lanes(M + c, target + c, tiles * outputs.pitch, &tile, bias, outputs.relu, outputs.count - c,
                         m, g)
        if bias != NULL:
            bias -= c
        M += outputs.pitch


# What other files call: a C function has one address, whichever version it then runs -----------------------


cdef void transform_taps(
    const floating* taps, Py_ssize_t tap, floating* U, Py_ssize_t point, Py_ssize_t channels, Py_ssize_t m
) noexcept nogil:
    taps_to_points(taps, tap, U, point, channels, m)


cdef void transform_tiles(
    const floating* I, floating* V, Py_ssize_t first, Py_ssize_t end, Py_ssize_t tiles, Py_ssize_t group,
    Py_ssize_t m, const Geometry* g
) noexcept nogil:
    tiles_to_points(I, V, first, end, tiles, group, m, g)


cdef void finish_tiles(
    const floating* M, floating* O, Py_ssize_t first, Py_ssize_t end, Py_ssize_t tiles, const Outputs* outputs,
    Py_ssize_t m, const Geometry* g
) noexcept nogil:
    points_to_tiles(M, O, first, end, tiles, outputs, m, g)
