"""im2col by blocks: lower m_b output pixels, multiply them, and lower the next ones into the same place.

Each thread owns a slice of the workspace, so the memory is bounded whatever the image; the product of a block is
as deep as im2col's and only less tall.  The idea is that of ECBC (Zhao et al., *ECBC: Efficient Convolution via
Blocked Columnizing*, IEEE TNNLS 34(1), 2023), on top of a plain BLAS, or of register tiles: the product is cut
into blocks (:mod:`pymec.kernels.shared.blocking`) as those of ``mec`` are.

==========  ===================================  ====================================================
array       shape                                role
==========  ===================================  ====================================================
x           (i_n, i_h, i_w, i_c)                 input I
kernel      (k_h, k_w, i_c/G, k_c)               kernel K
workspace   (slices, m_b, k_h, k_w, i_c/G)       each slice a block of m_b rows of im2col's matrix
out         (i_n, o_h, o_w, k_c)                 output O
==========  ===================================  ====================================================

Workspace, in elements:  slices·m_b·k_h·k_w·i_c/G, slices <= n_threads

Any stride, padding, dilation and number of groups.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.im2col.im2col cimport lower_pixels
from pymec.kernels.register_tiles.blocked_product cimport blocked_product
from pymec.kernels.shared.bias_relu cimport BiasRelu, bias_relu_of, finish_pixels
from pymec.kernels.shared.blocking cimport GemmBlocking, blocking_of
from pymec.kernels.shared.geometry cimport Geometry, check_room, check_stage, geometry
from pymec.kernels.shared.spans cimport Span, ceil_div, innermost, share_of


cdef void convolve_block(
    const floating* I, const floating* K, floating* O, floating* L, Py_ssize_t task, Py_ssize_t block,
    const GemmBlocking* blocking, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """Lower and multiply one block of pixels of one group."""
    cdef Py_ssize_t all_pixels = g.i_n * g.o_h * g.o_w, patch = g.k_h * g.k_w * g.i_cg
    cdef Py_ssize_t first = innermost(&task, ceil_div(all_pixels, block)) * block, group = task
    cdef Py_ssize_t pixels = min(block, all_pixels - first)
    cdef Py_ssize_t m = group * g.k_cg, end = m + g.k_cg, channels
    lower_pixels(I, L, group * all_pixels + first, group * all_pixels + first + pixels, g)
    O += first * g.k_c
    while m < end:
        channels = min(blocking.channels, end - m)
        # O (m_b × channels) = L (m_b × k_h·k_w·i_c/G) · K_g (k_h·k_w·i_c/G × channels)
        blocked_product(blocking, pixels, channels, patch, L, patch, K + m, g.k_c, False, O + m, g.k_c)
        finish_pixels(O, pixels, g.k_c, m, m + channels, bias_relu)
        m += channels


cdef void convolve_share(
    const floating* I, const floating* K, floating* O, floating* L, Py_ssize_t share, Py_ssize_t shares,
    Py_ssize_t block, const GemmBlocking* blocking, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """Every block of one thread's share, through one slice of the workspace."""
    cdef Span tasks = share_of(g.groups * ceil_div(g.i_n * g.o_h * g.o_w, block), share, shares)
    cdef Py_ssize_t task
    for task in range(tasks.first, tasks.end):
        convolve_block(I, K, O, L, task, block, blocking, bias_relu, g)


def run(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
    floating[::1] workspace, shape, int n_threads, Py_ssize_t block, Py_ssize_t slices, blocking,
    const floating[::1] bias=None, bint relu=False,
):
    """Convolve in blocks of ``block`` output pixels, on ``slices`` threads with a slice of workspace each.

    ``blocking`` (:class:`pymec.kernels.shared.blocking.GemmBlocking`) cuts the product of a block.  ``bias`` is
    added, then ReLU applied, to each block while it is in a cache.
    """
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef GemmBlocking gemm_blocking = blocking_of(blocking)
    cdef Py_ssize_t size, share
    check_stage(&g, n_threads, x.shape, kernel.shape, out.shape)
    if block < 1 or not 1 <= slices <= 64:
        raise ValueError(f"block must be positive and slices from 1 to 64, got {block} and {slices}")
    block = max(1, min(block, g.i_n * g.o_h * g.o_w))
    size = block * g.k_h * g.k_w * g.i_cg
    check_room("workspace", workspace.shape[0], slices * size)
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    cdef floating* L = &workspace[0]
    with nogil:
        for share in prange(slices, num_threads=slices, schedule="static", chunksize=1):
            convolve_share(I, K, O, L + share * size, share, slices, block, &gemm_blocking, &bias_relu, &g)
