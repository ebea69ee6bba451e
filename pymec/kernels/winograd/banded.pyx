"""Winograd's convolution on a band of tiles at a time (ours; after Lavin & Gray, CVPR 2016).

The products at the points need only a few tiles to run fast.  So a band of P_b tiles, counted through images,
tile rows and columns, is transformed and stays in a thread's cache while panels of m_b output channels go by:
for each of these a product at every point, by register tiles, and the way back to the output.  V shrinks from
all P tiles to those of a band, M to one panel of them.  U alone is kept whole, each panel in one piece of
memory.

==========  ===============================  ============================================================
array       shape                            role
==========  ===============================  ============================================================
x           (i_n, i_h, i_w, i_c)             input I
kernel      (3, 3, i_c/G, k_c)               kernel K
U           (G, B, t², i_c/G, m_b)           the kernel at the points, t = t_o + 2, in B = ⌈k_c/(G·m_b)⌉ panels;
                                             a plan keeps it
workspace   (slices, t², P_b, i_c/G + m_b)   each slice V and then M of one band and group
out         (i_n, o_h, o_w, k_c)             output O
==========  ===============================  ============================================================

Workspace, in elements:  t²·i_c·B·m_b + slices·t²·P_b·(i_c/G + m_b) + 2·64/itemsize, slices <= n_threads: U, the
slices, and a cache line for the alignment of each

Threads share the tiles, or, where these are few, the panels; those that share panels all transform the same tiles.
3×3 kernels with stride 1 and without dilation; any padding and number of groups; rounding as in ``winograd``.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.bias_relu cimport BiasRelu, bias_relu_of
from pymec.kernels.shared.geometry cimport Geometry, check_room, check_stage, geometry, sizes_of
from pymec.kernels.register_tiles.panels cimport n_panels
from pymec.kernels.shared.interrupts cimport interrupted
from pymec.kernels.shared.patch cimport copy
from pymec.kernels.shared.spans cimport Span, innermost, share_of
from pymec.kernels.register_tiles.tile cimport (
    CACHE_LINE, MOST_PIXELS, MOST_SUMS, Tile, at_cache_line, multiply_row, multiply_tile, pixels_of_tile,
    n_equal_tiles, widest_tile,
)
from pymec.kernels.winograd.tiles cimport (
    check_tiles, transform_input_tiles, transform_output_tiles, transform_taps,
)

from pymec.kernels.winograd.winograd import tile_count

# Sizes -------------------------------------------------------------------------------------------------


def line_size(shape):
    """The elements of a cache line, which U and the slices need in addition to begin with one."""
    return CACHE_LINE // shape.itemsize


def kernel_size(shape, t_o):
    """The elements of U in panels, and a cache line."""
    cdef Geometry g = sizes_of(shape)
    cdef Py_ssize_t width = widest_tile(g.k_cg, shape.itemsize).channels
    return (t_o + 2) ** 2 * shape.i_c * n_panels(width, &g) * width + line_size(shape)


def tile_size(shape, t_o):
    """The elements of V and M for one tile of a band."""
    return (t_o + 2) ** 2 * (shape.i_cg + widest_tile(shape.k_cg, shape.itemsize).channels)


# Stage 1: the kernel at the points ---------------------------------------------------------------------


cdef void transform_channel(
    const floating* K, floating* U, Py_ssize_t task, Py_ssize_t width, Py_ssize_t t_o, const Geometry* g
) noexcept nogil:
    """The taps from one input channel, counted through the groups, to the channels of every panel."""
    cdef Py_ssize_t points = (t_o + 2) * (t_o + 2), blocks = n_panels(width, g)
    cdef Py_ssize_t i = innermost(&task, g.i_cg)
    cdef Py_ssize_t group = task
    cdef Py_ssize_t block
    for block in range(blocks):
        transform_taps(K + i * g.k_c + group * g.k_cg + min(block * width, g.k_cg - width),
                       U + ((group * blocks + block) * points * g.i_cg + i) * width, g.i_cg * width, width, t_o, g)


def transform_kernel(const floating[:, :, :, ::1] kernel, floating[::1] U, shape, Py_ssize_t t_o, int n_threads=1):
    """Stage 1: the kernel at the points, in panels (U has :func:`kernel_size` elements)."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t width = widest_tile(g.k_cg, sizeof(floating)).channels
    cdef Py_ssize_t task
    check_tiles(&g, t_o)
    check_stage(&g, n_threads, NULL, kernel.shape, NULL)
    check_room("U", U.shape[0], kernel_size(shape, t_o))
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* panels = at_cache_line(&U[0])
    with nogil:
        for task in prange(g.i_c, num_threads=n_threads, schedule="static"):
            transform_channel(K, panels, task, width, t_o, &g)


# Stages 2 to 4, band by band ---------------------------------------------------------------------------


cdef void multiply_point(
    const floating* V, const floating* U, floating* M, Py_ssize_t tiles, const Tile* widest, const Geometry* g
) noexcept nogil:
    """M_j (P_b × m_b) = V_j (P_b × i_c/G) · U_j (i_c/G × m_b), by register tiles.

    The last tile reaches back over rows that are done.
    """
    cdef floating sums[MOST_SUMS]
    cdef const floating* row[MOST_PIXELS]
    cdef Tile tile = widest[0]
    cdef Py_ssize_t width = widest.channels, done = 0, first, alike, i
    while done < tiles:
        tile.pixels = pixels_of_tile(tiles - done, widest)
        if tile.pixels > tiles:  # there is nothing to reach back over
            for i in range(tile.pixels):
                row[i] = V + min(i, tiles - 1) * g.i_cg
            multiply_tile(&tile, row, 1, g.i_cg, U, width, <const floating*> NULL, 0, sums, width, 0)
            copy(M, sums, tiles * width)
            return
        first = min(done, tiles - tile.pixels)
        alike = max(1, n_equal_tiles(tiles - done, widest))
        multiply_row(&tile, alike, V + first * g.i_cg, g.i_cg, 1, 0, g.i_cg, U, width,
                     <const floating*> NULL, 0, M + first * width, width, 0)
        done = first + alike * tile.pixels


cdef void convolve_band(
    const floating* I, const floating* U, floating* O, floating* V, floating* M, Py_ssize_t group,
    Span tiles, Span blocks, const BiasRelu* bias_relu, const Tile* widest, Py_ssize_t t_o,
    const Geometry* g
) noexcept nogil:
    """Some tiles of one group, and some of its panels; U points at the first of all of them."""
    cdef Py_ssize_t points = (t_o + 2) * (t_o + 2), n_tiles = tiles.end - tiles.first, width = widest.channels
    cdef Py_ssize_t block, channel, skip, j
    cdef const floating* panel
    transform_input_tiles(I, V, n_tiles * g.i_cg, group, tiles, t_o, g)
    for block in range(blocks.first, blocks.end):
        panel = U + block * points * g.i_cg * width
        for j in range(points):
            multiply_point(V + j * n_tiles * g.i_cg, panel + j * g.i_cg * width, M + j * n_tiles * width, n_tiles,
                           widest, g)
        channel = block * width
        skip = max(channel + width - g.k_cg, 0)
        transform_output_tiles(M + skip, O, n_tiles * width, width, group * g.k_cg + channel, width - skip, tiles,
                               t_o, bias_relu, g)


cdef void convolve_share(
    const floating* I, const floating* U, floating* O, floating* band, Py_ssize_t share, Py_ssize_t shares,
    Py_ssize_t channel_shares, Py_ssize_t tiles, Py_ssize_t band_tiles, const BiasRelu* bias_relu, Py_ssize_t t_o,
    const Geometry* g
) noexcept nogil:
    """Every band of one thread's share, through one slice of the workspace."""
    cdef Tile widest = widest_tile(g.k_cg, sizeof(floating))
    cdef Py_ssize_t blocks = n_panels(widest.channels, g), points = (t_o + 2) * (t_o + 2)
    cdef Py_ssize_t tile_shares = shares / channel_shares
    # of all groups' tiles, the ones of this share that are left; and its blocks of output channels
    cdef Span left = share_of(g.groups * tiles, innermost(&share, tile_shares), tile_shares)
    cdef Span own_blocks = share_of(blocks, share, channel_shares)
    cdef Py_ssize_t group, tile, n_tiles
    if own_blocks.first == own_blocks.end:
        return
    while left.first < left.end and not interrupted():
        group = left.first / tiles
        tile = left.first - group * tiles
        n_tiles = min(band_tiles, min(left.end - left.first, tiles - tile))
        convolve_band(I, U + group * blocks * points * g.i_cg * widest.channels, O,
                      band, band + points * band_tiles * g.i_cg, group, Span(tile, tile + n_tiles), own_blocks,
                      bias_relu, &widest, t_o, g)
        left.first += n_tiles


# The algorithm ------------------------------------------------------------------------------------------


def run(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
    floating[::1] workspace, shape, int n_threads, Py_ssize_t t_o, Py_ssize_t band_tiles,
    Py_ssize_t slices, Py_ssize_t channel_shares, floating[::1] prepared=None,
    const floating[::1] bias=None, bint relu=False,
):
    """Convolve in bands of ``band_tiles`` tiles, on ``slices`` threads with a slice of workspace each.

    Parameters
    ----------
    channel_shares : int
        Among how many shares the panels are divided: a divisor of ``slices``, whose other factor is the shares of
        the tiles.
    prepared : array, optional
        U, if :func:`transform_kernel` wrote it before; otherwise U leads the workspace.
    bias : array (k_c,), optional
        Added to every output.
    relu : bool
        Whether ReLU is applied.
    """
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t tiles = tile_count(shape, t_o), size, share
    check_tiles(&g, t_o)
    check_stage(&g, n_threads, x.shape, kernel.shape, out.shape)
    if band_tiles < 1 or not 1 <= slices <= 64 or channel_shares < 1 or slices % channel_shares:
        raise ValueError(f"band_tiles must be positive, slices from 1 to 64 and channel_shares a divisor of them, "
                         f"got {band_tiles}, {slices} and {channel_shares}")
    if prepared is None:
        transform_kernel(kernel, workspace, shape, t_o, n_threads)
        prepared, workspace = workspace[:kernel_size(shape, t_o)], workspace[kernel_size(shape, t_o):]
    band_tiles = max(1, min(band_tiles, tiles))
    size = band_tiles * tile_size(shape, t_o)
    check_room("prepared", prepared.shape[0], kernel_size(shape, t_o))
    check_room("workspace", workspace.shape[0], slices * size + CACHE_LINE / sizeof(floating))
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* U = at_cache_line(&prepared[0])
    cdef floating* O = &out[0, 0, 0, 0]
    cdef floating* bands = at_cache_line(&workspace[0])
    with nogil:
        for share in prange(slices, num_threads=slices, schedule="static", chunksize=1):
            convolve_share(I, U, O, bands + share * size, share, slices, channel_shares, tiles, band_tiles,
                           &bias_relu, t_o, &g)
