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
grows with m (:mod:`pymec.kernels.winograd.matrices` has the bound).
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.blas cimport gemm_rowmajor
from pymec.kernels.shared.bias_relu cimport BiasRelu, bias_relu_of
from pymec.kernels.shared.geometry cimport Geometry, check_operands, check_room, check_threads, geometry
from pymec.kernels.winograd.tiles cimport Outputs, check_tiles, finish_tiles, transform_taps, transform_tiles


# Stage 3: a product for each point ---------------------------------------------------------------------


cdef void multiply_point(
    const floating* V, const floating* U, floating* M, Py_ssize_t tiles, const Geometry* g
) noexcept nogil:
    # M_j (P × k_c/G) = V_j (P × i_c/G) · U_j (i_c/G × k_c/G)
    gemm_rowmajor(tiles, g.k_cg, g.i_cg, V, g.i_cg, U, g.k_cg, <floating> 0, M, g.k_cg)


# What Python calls -------------------------------------------------------------------------------------


def tile_count(shape, m):
    """P, the tiles of m×m outputs that cover the output of all images."""
    return shape.i_n * -(-shape.o_h // m) * -(-shape.o_w // m)


def sizes(shape, m):
    """The elements of U, V and M."""
    points, tiles = (m + 2) ** 2, tile_count(shape, m)
    return points * shape.i_cg * shape.k_c, points * tiles * shape.i_c, points * tiles * shape.k_c


cdef void transform_unit(
    const floating* K, floating* U, Py_ssize_t unit, Py_ssize_t m, const Geometry* g
) noexcept nogil:
    """The taps from one input channel, counted through the groups, to all output channels of its group."""
    cdef Py_ssize_t group = unit / g.i_cg
    cdef Py_ssize_t i = unit - group * g.i_cg
    transform_taps(K + i * g.k_c + group * g.k_cg, g.i_cg * g.k_c,
                   U + (group * (m + 2) * (m + 2) * g.i_cg + i) * g.k_cg, g.i_cg * g.k_cg, g.k_cg, m)


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
            transform_unit(K, points, unit, m, &g)


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
    const floating* M, floating* O, Py_ssize_t unit, Py_ssize_t tiles, const BiasRelu* bias_relu, Py_ssize_t m,
    const Geometry* g
) noexcept nogil:
    """One tile of one group, counted as in stage 2."""
    cdef Py_ssize_t group = unit / tiles, tile = unit % tiles
    cdef Outputs outputs = Outputs(group * g.k_cg, g.k_cg, g.k_cg, bias_relu.bias, bias_relu.relu)
    finish_tiles(M + (group * (m + 2) * (m + 2) * tiles + tile) * g.k_cg, O, tile, tile + 1, tiles, &outputs, m, g)


def transform_output(const floating[::1] M, floating[:, :, :, ::1] out, shape, Py_ssize_t m, int n_threads=1,
                     const floating[::1] bias=None, bint relu=False):
    """Stage 4: from the points to the output, the last tiles clipped, the bias added."""
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
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
            finish_share(points, O, unit, tiles, &bias_relu, m, &g)


def run(x, kernel, out, workspace, shape, n_threads=1, m=4, prepared=None, bias=None, relu=False):
    """All tiles at once; ``prepared`` is U if stage 1 was done before, otherwise U leads the workspace."""
    if prepared is None:
        prepared, workspace = workspace[:sizes(shape, m)[0]], workspace[sizes(shape, m)[0]:]
        transform_kernel(kernel, prepared, shape, m, n_threads)
    V, M = workspace[:sizes(shape, m)[1]], workspace[sizes(shape, m)[1]:]
    transform_input(x, V, shape, m, n_threads)
    multiply(V, prepared, M, shape, m, n_threads)
    transform_output(M, out, shape, m, n_threads, bias, relu)
