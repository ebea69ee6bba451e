"""Tuned MEC in tiles: ``mec_column_split``, and ``mec_channel_split``, a few channels at a time (both ours).

A product reads only the strips of its own pixels, so a band of b output rows can be
cut into tiles of w_b columns.  Nothing is copied twice for it, because a strip belongs to one column.  The memory
saved in width buys taller bands, so fewer rows are copied twice.

Where even one pixel's patch is too large, its channels are lowered c_b at a time, multiplied one by one, and the
products are added up.  The sums are k_h·k_w long and O is read and written for each channel: that is the price of
the smallest workspace, the k_h·k_w elements of one channel under one output pixel.

==========  =========================================  ==================================================
array       shape                                      role
==========  =========================================  ==================================================
x           (i_n, i_h, i_w, i_c)                       input I
kernel      (k_h, k_w, i_c/G, k_c)                     kernel K
workspace   (slices, w_b, r_b, k_w, i_c/G)             each slice the strips of one tile, or
..          (slices, c_b, w_b, r_b, k_w)               those of c_b channels, one after another
out         (i_n, o_h, o_w, k_c)                       output O
==========  =========================================  ==================================================

Workspace, in elements:  slices·w_b·r_b·k_w·i_c/G  or  slices·c_b·w_b·r_b·k_w, slices <= n_threads, where r_b, the
image rows that b output rows read, is (b-1)·min(s_h, k_h) + k_h without dilation.

Any stride, padding, dilation and number of groups.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.mec.lowered_rows cimport Band, band_of_rows
from pymec.kernels.mec.tuned cimport (
    RowStrides, channels_of_block, finish_rows, lower_strip, multiply_rows, span_of_block,
)
from pymec.kernels.shared.bias_relu cimport BiasRelu, bias_relu_of
from pymec.kernels.shared.blocking cimport GemmBlocking, blocking_of
from pymec.kernels.shared.geometry cimport Geometry, check_room, check_stage, geometry
from pymec.kernels.shared.spans cimport Span, ceil_div, innermost, share_of


cdef struct OutputTile:
    Py_ssize_t group, n         # of which group and image
    Span columns                # its output columns
    Band band                   # its output rows, and what they read
    RowStrides strides


cdef OutputTile tile_of_task(
    Py_ssize_t task, Py_ssize_t band_rows, Py_ssize_t columns, const Geometry* g
) noexcept nogil:
    """Tiles are counted through columns, rows, images and groups."""
    cdef OutputTile tile
    cdef Span rows
    tile.columns = span_of_block(innermost(&task, ceil_div(g.o_w, columns)), columns, g.o_w)
    rows = span_of_block(innermost(&task, ceil_div(g.o_h, band_rows)), band_rows, g.o_h)
    tile.n = innermost(&task, g.i_n)
    tile.group = task
    tile.band = band_of_rows(rows.first, rows.end - rows.first, g)
    tile.strides = RowStrides(tile.columns.end - tile.columns.first, g.k_c, g.o_w * g.k_c)
    return tile


cdef void lower_tile(
    const floating* I, floating* L, const OutputTile* tile, Span groups, const Geometry* g
) noexcept nogil:
    """The strips of a tile for some groups of g: all strips of a group, then those of the next."""
    cdef Py_ssize_t strip = tile.band.rows * g.k_w * g.i_cg
    cdef Span rows = Span(0, tile.band.rows)
    cdef Py_ssize_t x, group
    for x in range(tile.columns.first, tile.columns.end):
        for group in range(groups.first, groups.end):  # inside: one cache line of I may hold several
            lower_strip(I, L + ((group - groups.first) * tile.strides.pixels + x - tile.columns.first) * strip,
                        tile.n, x, group, rows, &tile.band, g)


cdef void multiply_tile(
    const floating* L, const floating* K, floating* O, const OutputTile* tile, Py_ssize_t block, Py_ssize_t ldk,
    bint add, const GemmBlocking* blocking, const Geometry* g
) noexcept nogil:
    """All output rows of a tile and one block of output channels; with ``add`` added to O."""
    # O_h (w_b × k_c) = or += P_h (w_b × k_h·k_w·i_c) · K (k_h·k_w·i_c × k_c); of a single channel i_c is 1
    multiply_rows(L, K, O, Span(0, tile.band.n_y), channels_of_block(block, tile.group, blocking, g), ldk, add,
                  &tile.strides, &tile.band, blocking, g)


cdef void convolve_tile(
    const floating* I, const floating* K, floating* O, floating* L, const OutputTile* tile,
    const GemmBlocking* blocking, const Geometry* g
) noexcept nogil:
    """A tile of one group, all its input channels at once."""
    cdef Py_ssize_t block
    lower_tile(I, L, tile, Span(tile.group, tile.group + 1), g)
    for block in range(ceil_div(g.k_cg, blocking.channels)):
        multiply_tile(L, K, O, tile, block, g.k_c, False, blocking, g)


cdef void convolve_tile_by_channels(
    const floating* I, const floating* K, floating* O, floating* L, const OutputTile* tile, Py_ssize_t together,
    const GemmBlocking* blocking, const Geometry* g
) noexcept nogil:
    """The same, ``together`` input channels lowered at a time and then multiplied one by one."""
    # An input channel is lowered and multiplied as if it were a group: lower_strip and multiply_rows get a
    # convolution of i_c groups with one channel each.  K is not stored like that: the k_h·k_w rows of a channel
    # lie i_c/G·k_c elements apart, which is a leading dimension, and every channel has all k_c/G outputs.
    cdef Geometry channel_as_group = g[0]
    channel_as_group.groups, channel_as_group.i_cg = g.i_c, 1
    cdef Py_ssize_t strips = tile.strides.pixels * tile.band.rows * g.k_w  # elements of one channel's
    cdef Py_ssize_t c0 = 0, c1, c, block
    while c0 < g.i_cg:
        c1 = min(c0 + together, g.i_cg)
        lower_tile(I, L, tile, Span(tile.group * g.i_cg + c0, tile.group * g.i_cg + c1), &channel_as_group)
        for block in range(ceil_div(g.k_cg, blocking.channels)):
            for c in range(c0, c1):  # inside: this block of O stays in cache
                multiply_tile(L + (c - c0) * strips, K + c * g.k_c, O, tile, block, g.i_cg * g.k_c, c > 0,
                              blocking, &channel_as_group)
        c0 = c1


cdef void convolve_share(
    const floating* I, const floating* K, floating* O, floating* L, Py_ssize_t share, Py_ssize_t shares,
    Py_ssize_t band_rows, Py_ssize_t columns, Py_ssize_t channels, const GemmBlocking* blocking,
    const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """One thread's share of the tiles, one after another through its slice of the workspace."""
    cdef Py_ssize_t tasks = g.groups * g.i_n * ceil_div(g.o_h, band_rows) * ceil_div(g.o_w, columns)
    cdef Span mine = share_of(tasks, share, shares)
    cdef Py_ssize_t task
    cdef floating* target
    cdef OutputTile tile
    for task in range(mine.first, mine.end):
        tile = tile_of_task(task, band_rows, columns, g)
        target = O + ((tile.n * g.o_h + tile.band.y0) * g.o_w + tile.columns.first) * g.k_c
        if channels:
            convolve_tile_by_channels(I, K, target, L, &tile, channels, blocking, g)
        else:
            convolve_tile(I, K, target, L, &tile, blocking, g)
        finish_rows(target, Span(0, tile.band.n_y), Span(tile.group * g.k_cg, (tile.group + 1) * g.k_cg),
                    &tile.strides, bias_relu)


def run(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
    floating[::1] workspace, shape, int n_threads, Py_ssize_t band_rows, Py_ssize_t columns, Py_ssize_t slices,
    blocking, Py_ssize_t channels=0, const floating[::1] bias=None, bint relu=False,
):
    """Convolve in tiles of ``band_rows`` × ``columns`` output pixels, on ``slices`` threads with a slice each.

    With ``channels`` that many input channels are lowered at a time and multiplied one by one.
    """
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef GemmBlocking blocks = blocking_of(blocking)
    cdef Py_ssize_t size, share
    if band_rows < 1 or columns < 1 or channels < 0 or not 1 <= slices <= 64:
        raise ValueError(f"a tile must be positive and slices from 1 to 64, got {band_rows}, {columns}, {slices}")
    band_rows, columns, channels = min(band_rows, g.o_h), min(columns, g.o_w), min(channels, g.i_cg)
    size = shape.tile_size(band_rows, columns, channels or None)
    check_stage(&g, n_threads, x.shape, kernel.shape, out.shape)
    check_room("workspace", workspace.shape[0], slices * size)
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    cdef floating* L = &workspace[0] if workspace.shape[0] else NULL
    with nogil:
        for share in prange(slices, num_threads=slices, schedule="static"):
            convolve_share(I, K, O, L + share * size, share, slices, band_rows, columns, channels, &blocks,
                           &bias_relu, &g)
