"""Winograd's convolution on a band of tiles at a time (ours; after Lavin & Gray, CVPR 2016).

The products at the points need no more than a few tiles to run fast.  So a band of P_b tiles, counted through
images, tile rows and columns, is transformed, multiplied and written out before the next takes its place: V and M
shrink from all P tiles to those of a band per thread and stay in its cache.  U alone is kept whole.

==========  ===============================  ===========================================================
array       shape                            role
==========  ===============================  ===========================================================
x           (i_n, i_h, i_w, i_c)             input I
kernel      (3, 3, i_c/G, k_c)               kernel K
U           (G, t², i_c/G, k_c/G)            the kernel at the points, t = m + 2; a plan keeps it
workspace   (slices, t², P_b, (i_c+k_c)/G)   each slice V and then M of one band and group
out         (i_n, o_h, o_w, k_c)             output O
==========  ===============================  ===========================================================

Workspace, in elements:  t²·(i_c·k_c/G + slices·P_b·(i_c + k_c)/G), slices <= n_threads, U being the first
t²·i_c·k_c/G

3×3 kernels with stride 1 and without dilation; any padding and number of groups; rounding as in ``winograd``.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels._geometry cimport Geometry, check_operands, check_room, check_threads, geometry
from pymec.kernels.winograd cimport check_tiles, finish_tiles, multiply_point, transform_tiles

from pymec.kernels.winograd import sizes, tile_count, transform_kernel


cdef void convolve_band(
    const floating* I, const floating* U, floating* O, floating* V, floating* M, Py_ssize_t group,
    Py_ssize_t first, Py_ssize_t end, Py_ssize_t m, const Geometry* g
) noexcept nogil:
    """Stages 2 to 4 for tiles first .. end of one group."""
    cdef Py_ssize_t points = (m + 2) * (m + 2), tiles = end - first
    cdef Py_ssize_t j
    transform_tiles(I, V, first, end, tiles, group, m, g)
    for j in range(points):
        multiply_point(V + j * tiles * g.i_cg, U + (group * points + j) * g.i_cg * g.k_cg,
                       M + j * tiles * g.k_cg, tiles, g)
    finish_tiles(M, O, first, end, tiles, group, m, g)


cdef void convolve_share(
    const floating* I, const floating* U, floating* O, floating* band, Py_ssize_t share, Py_ssize_t shares,
    Py_ssize_t tiles, Py_ssize_t band_tiles, Py_ssize_t m, const Geometry* g
) noexcept nogil:
    """Every band of one thread's share of the tiles, through one slice of the workspace."""
    cdef Py_ssize_t first = share * g.groups * tiles / shares
    cdef Py_ssize_t end = (share + 1) * g.groups * tiles / shares
    cdef Py_ssize_t group, tile, n_tiles
    cdef floating* M = band + (m + 2) * (m + 2) * band_tiles * g.i_cg
    while first < end:
        group = first / tiles
        tile = first - group * tiles
        n_tiles = min(band_tiles, min(end - first, tiles - tile))
        convolve_band(I, U, O, band, M, group, tile, tile + n_tiles, m, g)
        first += n_tiles


def run(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
    floating[::1] workspace, shape, int n_threads=1, Py_ssize_t m=4, Py_ssize_t band_tiles=1,
    Py_ssize_t slices=1, floating[::1] prepared=None,
):
    """Convolve in bands of ``band_tiles`` tiles, on ``slices`` threads with a slice of workspace each.

    ``prepared`` is U if :func:`pymec.kernels.winograd.transform_kernel` wrote it before; otherwise U leads the
    workspace.
    """
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t tiles = tile_count(shape, m), size, share
    check_threads(n_threads)
    check_tiles(&g, m)
    if band_tiles < 1 or not 1 <= slices <= 64:
        raise ValueError(f"band_tiles must be positive and slices from 1 to 64, got {band_tiles} and {slices}")
    kernel_size = sizes(shape, m)[0]
    if prepared is None:
        transform_kernel(kernel, workspace, shape, m, n_threads)
        prepared, workspace = workspace[:kernel_size], workspace[kernel_size:]
    band_tiles = max(1, min(band_tiles, tiles))
    size = (m + 2) * (m + 2) * band_tiles * (g.i_cg + g.k_cg)
    check_operands(&g, x.shape, kernel.shape, out.shape)
    check_room("prepared", prepared.shape[0], kernel_size)
    check_room("workspace", workspace.shape[0], slices * size)
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* U = &prepared[0]
    cdef floating* O = &out[0, 0, 0, 0]
    cdef floating* bands = &workspace[0]
    with nogil:
        for share in prange(slices, num_threads=slices, schedule="static", chunksize=1):
            convolve_share(I, U, O, bands + share * size, share, slices, tiles, band_tiles, m, &g)
