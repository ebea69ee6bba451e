"""im2col by blocks: lower m_b output pixels, multiply them, and lower the next ones into the same place.

Each thread owns a block of the workspace, so the memory is bounded whatever the image; the product of a
block is as long as im2col's and only less tall.  The idea is that of ECBC (Zhao et al., *ECBC: Efficient
Convolution via Blocked Columnizing*, IEEE TNNLS 34(1), 2023), on top of a plain BLAS, or of register tiles: the
product is cut (:mod:`pymec.kernels.shared.blocking`) as those of ``mec`` are.

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

from pymec.kernels.shared.blas cimport gemm_rowmajor
from pymec.kernels.shared.bias_relu cimport BiasRelu, write_bias, apply_relu, bias_relu_of
from pymec.kernels.shared.geometry cimport Geometry, check_operands, check_room, check_threads, geometry
from pymec.kernels.shared.blocking cimport GemmBlocking, blocking_of
from pymec.kernels.register_tiles.product cimport tile_product
from pymec.kernels.im2col.im2col cimport lower_pixels


cdef void multiply_block(
    const floating* L, const floating* K, floating* O, Py_ssize_t pixels, Py_ssize_t m0, Py_ssize_t m1,
    const GemmBlocking* blocking, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """The product of a block with output channels m0 .. m1: a piece of K meets all its pixels before the next."""
    cdef Py_ssize_t patch = g.k_h * g.k_w * g.i_cg
    cdef Py_ssize_t m = m0, q, i, end, n, depth
    cdef bint add
    while m < m1:
        end = min(m + blocking.channels, m1)
        write_bias(O, pixels, g.k_c, m, end, bias_relu)
        q = 0
        while q < patch:
            depth, add = min(blocking.reduction, patch - q), q > 0 or bias_relu.bias != NULL
            i = 0
            while i < pixels:
                n = min(blocking.columns, pixels - i)
                # O (m_b × k_c/G) = L (m_b × k_h·k_w·i_c/G) · K_g, in pieces that beta = 1 adds up
                if blocking.registers:
                    tile_product(n, end - m, depth, L + i * patch + q, patch, K + q * g.k_c + m, g.k_c, add,
                                 O + i * g.k_c + m, g.k_c)
                else:
                    gemm_rowmajor(n, end - m, depth, L + i * patch + q, patch, K + q * g.k_c + m, g.k_c,
                                  <floating> add, O + i * g.k_c + m, g.k_c)
                i += n
            q += blocking.reduction
        apply_relu(O, pixels, g.k_c, m, end, bias_relu)
        m = end


cdef void convolve_block(
    const floating* I, const floating* K, floating* O, floating* L, Py_ssize_t unit, Py_ssize_t block,
    const GemmBlocking* blocking, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """Lower and multiply one block of pixels of one group."""
    cdef Py_ssize_t pixels = g.i_n * g.o_h * g.o_w
    cdef Py_ssize_t blocks = (pixels + block - 1) / block
    cdef Py_ssize_t group = unit / blocks
    cdef Py_ssize_t first = (unit - group * blocks) * block
    cdef Py_ssize_t end = min(first + block, pixels)
    lower_pixels(I, L, first, end, group, g)
    multiply_block(L, K, O + first * g.k_c, end - first, group * g.k_cg, (group + 1) * g.k_cg, blocking, bias_relu, g)


cdef void convolve_share(
    const floating* I, const floating* K, floating* O, floating* L, Py_ssize_t share, Py_ssize_t shares,
    Py_ssize_t block, const GemmBlocking* blocking, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """Every block of one thread's share, through one slice of the workspace."""
    cdef Py_ssize_t pixels = g.i_n * g.o_h * g.o_w
    cdef Py_ssize_t units = g.groups * ((pixels + block - 1) / block)
    cdef Py_ssize_t unit
    for unit in range(share * units / shares, (share + 1) * units / shares):
        convolve_block(I, K, O, L, unit, block, blocking, bias_relu, g)


def run(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
    floating[::1] workspace, shape, int n_threads=1, Py_ssize_t block=64, Py_ssize_t slices=1,
    blocking=None, const floating[::1] bias=None, bint relu=False,
):
    """Convolve in blocks of ``block`` output pixels, on ``slices`` threads with a slice of workspace each.

    ``blocking`` (:class:`pymec.kernels.shared.blocking.GemmBlocking`) cuts the product of a block; it is whole by default.
    Sums begin with the ``bias``, if there is one; with ``relu`` what ends below zero becomes zero.
    """
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef GemmBlocking cut = blocking_of(blocking or (g.k_h * g.k_w * g.i_cg, max(block, 1), g.k_cg, 1))
    cdef Py_ssize_t size, share
    check_threads(n_threads)
    if block < 1 or not 1 <= slices <= 64:
        raise ValueError(f"block must be positive and slices from 1 to 64, got {block} and {slices}")
    block = max(1, min(block, g.i_n * g.o_h * g.o_w))
    size = block * g.k_h * g.k_w * g.i_cg
    check_operands(&g, x.shape, kernel.shape, out.shape)
    check_room("workspace", workspace.shape[0], slices * size)
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    cdef floating* L = &workspace[0]
    with nogil:
        for share in prange(slices, num_threads=slices, schedule="static", chunksize=1):
            convolve_share(I, K, O, L + share * size, share, slices, block, &cut, &bias_relu, &g)
