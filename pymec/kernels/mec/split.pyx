"""MEC on tiles: bands cut into blocks of columns, or lowered by a few channels (ours, after Cho & Brand 2017).

A product needs the strips of its own pixels only, so a band of b output rows can be cut into blocks of w_b
columns: nothing is copied twice for it, as strips belong to one column each.  What w_b saves in width, a higher
band uses, and fewer rows are copied twice.  Where a single pixel's patch is too much, its channels are lowered
c_b at a time and their products added up: the rows of K that belong to one channel lie i_c·k_c apart, which is
a leading dimension, so that a channel is lowered and multiplied like a group of its own, and K stays as it is.

==========  =========================================  ==================================================
array       shape                                      role
==========  =========================================  ==================================================
x           (i_n, i_h, i_w, i_c)                       input I
kernel      (k_h, k_w, i_c/G, k_c)                     kernel K
workspace   (slices, w_b, r_b, k_w, i_c/G)             each slice the strips of one tile, or
..          (slices, c_b, w_b, r_b, k_w)               those of c_b channels, one after another
out         (i_n, o_h, o_w, k_c)                       output O
==========  =========================================  ==================================================

Workspace, in elements:  slices·w_b·r_b·k_w·i_c/G  or  slices·c_b·w_b·r_b·k_w, slices <= n_threads, where r_b,
the image rows that a band of b output rows reads, is (b-1)·min(s_h, k_h) + k_h without dilation.  The smallest is
the k_h·k_w elements of one channel under one output pixel.

Any stride, padding, dilation and number of groups.  Channel by channel the sums are k_h·k_w long and O is read
and written for each: that is the price of the smallest workspace.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.bias_relu cimport BiasRelu, write_bias, apply_relu, bias_relu_of
from pymec.kernels.shared.geometry cimport Geometry, check_operands, check_room, check_threads, geometry
from pymec.kernels.mec.lowered_rows cimport Band, band_of_rows
from pymec.kernels.shared.blocking cimport GemmBlocking, blocking_of
from pymec.kernels.mec.tuned cimport Places, lower_strip, multiply_rows

from pymec.kernels.shared.blocking import whole_product


cdef struct Tile:
    Py_ssize_t rows             # b, output rows
    Py_ssize_t columns          # w_b, output columns
    Py_ssize_t channels         # c_b, lowered together but multiplied one by one; 0 for no such split


cdef void convolve_tile(
    const floating* I, const floating* K, floating* O, floating* L, Py_ssize_t unit, const Tile* tile,
    const GemmBlocking* blocking, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """Lower and multiply one tile of one image and group; columns count fastest, then rows and images."""
    cdef Py_ssize_t across = (g.o_w + tile.columns - 1) / tile.columns
    cdef Py_ssize_t down = (g.o_h + tile.rows - 1) / tile.rows
    cdef Py_ssize_t x0 = unit % across * tile.columns
    cdef Py_ssize_t y0 = unit / across % down * tile.rows
    cdef Py_ssize_t n = unit / across / down % g.i_n
    cdef Py_ssize_t group = unit / across / down / g.i_n
    cdef Py_ssize_t n_x = min(tile.columns, g.o_w - x0)
    cdef Band band = band_of_rows(y0, min(tile.rows, g.o_h - y0), g)
    cdef Geometry part = g[0]  # what is lowered and multiplied by itself: a group, or one channel of it
    cdef Py_ssize_t parts = 1, together = 1
    if tile.channels:
        part.groups, part.i_cg = g.i_c, 1
        parts, together = g.i_cg, tile.channels
    cdef Py_ssize_t strip = band.rows * g.k_w * part.i_cg
    cdef Places at = Places(columns=n_x, row_step=g.o_w * g.k_c, ldo=g.k_c, ldk=parts * g.k_c, add=False)
    cdef Py_ssize_t c, c0, c1, x, y, m, m_end = (group + 1) * g.k_cg
    O += (n * g.o_h + y0) * at.row_step + x0 * g.k_c
    for y in range(band.n_y):
        write_bias(O + y * at.row_step, n_x, g.k_c, group * g.k_cg, m_end, bias_relu)
    c0 = 0
    while c0 < parts:
        c1 = min(c0 + together, parts)
        for x in range(n_x):
            for c in range(c0, c1):
                lower_strip(I, L + ((c - c0) * n_x + x) * strip, n, x0 + x, group * parts + c, 0, band.rows,
                            &band, &part)
        m = group * g.k_cg
        while m < m_end:
            for c in range(c0, c1):
                at.add = c > 0 or bias_relu.bias != NULL
                # O_y (w_b × k_c) = P_y (w_b × k_h·k_w·i_c) · K, or, for every channel c,
                # O_y (w_b × k_c) += P_y,c (w_b × k_h·k_w) · K_c (k_h·k_w × k_c, rows i_c·k_c apart)
                multiply_rows(L + (c - c0) * n_x * strip, K + c * g.k_c, O, 0, band.n_y,
                              m, min(m + blocking.channels, m_end), &at, &band, blocking, &part)
            m += blocking.channels
        c0 = c1
    for y in range(band.n_y):
        apply_relu(O + y * at.row_step, n_x, g.k_c, group * g.k_cg, m_end, bias_relu)


cdef void convolve_share(
    const floating* I, const floating* K, floating* O, floating* L, Py_ssize_t share, Py_ssize_t shares,
    const Tile* tile, const GemmBlocking* blocking, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """Every tile of one thread's share, through one slice of the workspace."""
    cdef Py_ssize_t across = (g.o_w + tile.columns - 1) / tile.columns
    cdef Py_ssize_t units = g.groups * g.i_n * ((g.o_h + tile.rows - 1) / tile.rows) * across
    cdef Py_ssize_t unit
    for unit in range(share * units / shares, (share + 1) * units / shares):
        convolve_tile(I, K, O, L, unit, tile, blocking, bias_relu, g)


def run(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
    floating[::1] workspace, shape, int n_threads=1, Py_ssize_t band_rows=1, Py_ssize_t columns=64,
    Py_ssize_t channels=0, Py_ssize_t slices=1, blocking=None, const floating[::1] bias=None, bint relu=False,
):
    """Convolve in tiles of ``band_rows`` × ``columns`` output pixels, on ``slices`` threads with a slice each.

    With ``channels``, so many input channels are lowered together and each of them is multiplied by itself.  Sums
    begin with the ``bias``, if there is one.
    """
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef Tile tile
    cdef Py_ssize_t size, share
    cdef GemmBlocking cut = blocking_of(blocking or whole_product(shape))
    check_threads(n_threads)
    if band_rows < 1 or columns < 1 or channels < 0 or not 1 <= slices <= 64:
        raise ValueError(f"a tile must be positive and slices from 1 to 64, got {band_rows}, {columns}, {slices}")
    tile.rows, tile.columns = min(band_rows, g.o_h), min(columns, g.o_w)
    tile.channels = min(channels, g.i_cg)
    size = shape.tile_size(tile.rows, tile.columns, tile.channels or None)
    check_operands(&g, x.shape, kernel.shape, out.shape)
    check_room("workspace", workspace.shape[0], slices * size)
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    cdef floating* L = &workspace[0] if workspace.shape[0] else NULL
    with nogil:
        for share in prange(slices, num_threads=slices, schedule="static", chunksize=1):
            convolve_share(I, K, O, L + share * size, share, slices, &tile, &cut, &bias_relu, &g)
