"""im2col: lower the whole convolution into one matrix, then one product (Chellapilla, Puri & Simard 2006).

Every output pixel gets a row of L that holds its whole patch; a product of all rows with K is the
convolution.  Neighbouring patches overlap, so each input element is stored up to k_h·k_w times: the
k²-expansion that MEC is measured against.  In NHWC the form is also called im2row.

==========  ===========================================  ==========================================
array       shape                                        role
==========  ===========================================  ==========================================
x           (i_n, i_h, i_w, i_c)                         input I
kernel      (k_h, k_w, i_c/G, k_c)                       kernel K; a matrix (k_h·k_w·i_c) × k_c
L           (G, i_n, o_h, o_w, k_h, k_w, i_c/G)          lowered matrix, a row per output pixel
out         (i_n, o_h, o_w, k_c)                         output O
==========  ===========================================  ==========================================

Workspace, in elements:  i_n·o_h·o_w·k_h·k_w·i_c
(``im2col_per_image`` reuses that of one image: o_h·o_w·k_h·k_w·i_c;  none for a 1×1 kernel with stride
1, no padding and one group, where I is its own lowered matrix).

Any stride, padding, dilation and number of groups.  The product is one big GEMM per group.  Threads share
its rows (or its columns, if these are more) with BLAS at one thread each: letting OpenBLAS run its own
threads right after an OpenMP loop costs up to 10 times, as both pools spin for the same cores.

Sums begin with the bias (beta = 1).  With a bias or ReLU a share is cut into blocks of O that are begun and
finished in a cache, where patches are short: BLAS packs K again for every block.  Of long patches a share stays
one product, and each thread goes over its part of O for ReLU: packing would cost more than a cache could save
there, as ReLU takes about a hundredth of the product's time.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.blas cimport gemm_rowmajor
from pymec.kernels.shared.bias_relu cimport BiasRelu, write_bias, apply_relu, bias_relu_of
from pymec.kernels.shared.geometry cimport Geometry, check_operands, check_room, check_threads, geometry
from pymec.kernels.shared.patch cimport clip, copy_patch_rows, positions_up_to, zero

cdef enum:
    BLOCK_BYTES = 524288      # what of O is begun and finished at once: half of a common 1 MiB level-2 cache
    BLOCK_PATCHES = 16        # pixels per element of a patch: packing K then costs a third of what the cache saves
    BLOCK_ROUND = 48          # pixels: a multiple of the tiles of BLAS's kernels


cdef void lower_pixel(
    const floating* I, floating* target, Py_ssize_t pixel, Py_ssize_t group, const Geometry* g
) noexcept nogil:
    """The patch of one output pixel, counted through images, rows and columns: k_h rows of k_w·i_c."""
    cdef Py_ssize_t chunk = g.k_w * g.i_cg
    cdef Py_ssize_t x = pixel % g.o_w
    cdef Py_ssize_t y = pixel / g.o_w % g.o_h
    cdef Py_ssize_t n = pixel / g.o_w / g.o_h
    cdef Py_ssize_t row = g.i_w * g.i_c
    cdef Py_ssize_t top = y * g.s_h - g.p_t  # the image row under kernel row 0
    # Kernel rows before a0 and from a1 on lie on padding.
    cdef Py_ssize_t a0 = clip(positions_up_to(-top, g), 0, g.k_h)
    cdef Py_ssize_t a1 = clip(positions_up_to(g.i_h - top, g), 0, g.k_h)
    zero(target, a0 * chunk)
    copy_patch_rows(I + (n * g.i_h + top + a0 * g.d_h) * row, g.d_h * row, a1 - a0,
                    target + a0 * chunk, x, group, g)
    zero(target + a1 * chunk, (g.k_h - a1) * chunk)


cdef void lower_pixels(
    const floating* I, floating* L, Py_ssize_t first, Py_ssize_t end, Py_ssize_t group, const Geometry* g
) noexcept nogil:
    """The patches of output pixels first .. end, row after row of L."""
    cdef Py_ssize_t pixel
    for pixel in range(first, end):
        lower_pixel(I, L + (pixel - first) * g.k_h * g.k_w * g.i_cg, pixel, group, g)


cdef void lower_row(const floating* I, floating* L, Py_ssize_t unit, const Geometry* g) noexcept nogil:
    """One output row's patches, counted through groups, images and rows."""
    cdef Py_ssize_t rows = g.i_n * g.o_h
    cdef Py_ssize_t group = unit / rows
    cdef Py_ssize_t first = (unit - group * rows) * g.o_w
    lower_pixels(I, L + unit * g.o_w * g.k_h * g.k_w * g.i_cg, first, first + g.o_w, group, g)


def lower(const floating[:, :, :, ::1] x, floating[::1] L, shape, int n_threads=1):
    """Stage 1: copy every patch into its row of L.

    Parameters
    ----------
    x : array (i_n, i_h, i_w, i_c)
    L : array, one-dimensional, at least ``shape.im2col_size`` elements
        Afterwards, read as (G, i_n·o_h·o_w, k_h·k_w·i_c/G).
    shape : pymec.ConvShape
    n_threads : int
    """
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t unit
    check_threads(n_threads)
    check_operands(&g, x.shape, NULL, NULL)
    check_room("L", L.shape[0], shape.im2col_size)
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef floating* to = &L[0]
    with nogil:
        for unit in prange(g.groups * g.i_n * g.o_h, num_threads=n_threads, schedule="static"):
            lower_row(I, to, unit, &g)


cdef inline Py_ssize_t even_part(Py_ssize_t whole, Py_ssize_t most) noexcept nogil:
    """The size of equal parts of a whole, none longer than ``most``."""
    cdef Py_ssize_t parts = (whole + most - 1) / most
    return (whole + parts - 1) / parts


cdef void multiply_pixels(
    const floating* L, const floating* K, floating* O, Py_ssize_t pixels, Py_ssize_t m0, Py_ssize_t m1,
    const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """Some rows of L times output channels m0 .. m1 of one group: blocks of sums, each between its two bias_relu."""
    cdef Py_ssize_t patch = g.k_h * g.k_w * g.i_cg
    cdef Py_ssize_t i = 0, most, rows = pixels
    if bias_relu.bias != NULL or bias_relu.relu:
        most = BLOCK_BYTES / ((m1 - m0) * <Py_ssize_t> sizeof(floating))
        rows = even_part(pixels, max(most, BLOCK_PATCHES * patch))
        rows = (rows + BLOCK_ROUND - 1) / BLOCK_ROUND * BLOCK_ROUND
    while i < pixels:
        rows = min(rows, pixels - i)
        write_bias(O + i * g.k_c, rows, g.k_c, m0, m1, bias_relu)
        # O_g (pixels × k_c/G) = L_g (pixels × k_h·k_w·i_c/G) · K_g (k_h·k_w·i_c/G × k_c/G), or a block of its rows
        gemm_rowmajor(rows, m1 - m0, patch, L + i * patch, patch, K + m0, g.k_c,
                      <floating> (bias_relu.bias != NULL), O + i * g.k_c + m0, g.k_c)
        apply_relu(O + i * g.k_c, rows, g.k_c, m0, m1, bias_relu)
        i += rows


cdef void multiply_share(
    const floating* L, const floating* K, floating* O, Py_ssize_t group, Py_ssize_t share, Py_ssize_t shares,
    const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """One thread's share of a group's product: some of its rows, or of its columns where these are more."""
    cdef Py_ssize_t pixels = g.i_n * g.o_h * g.o_w
    cdef Py_ssize_t patch = g.k_h * g.k_w * g.i_cg
    cdef Py_ssize_t row = 0, rows = pixels
    cdef Py_ssize_t column = 0, columns = g.k_cg
    if pixels >= g.k_cg:
        row = share * pixels / shares
        rows = (share + 1) * pixels / shares - row
    else:
        column = share * g.k_cg / shares
        columns = (share + 1) * g.k_cg / shares - column
    if rows == 0 or columns == 0:
        return
    multiply_pixels(L + (group * pixels + row) * patch, K, O + row * g.k_c, rows,
                    group * g.k_cg + column, group * g.k_cg + column + columns, bias_relu, g)


def multiply(const floating[::1] L, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out, shape,
             int n_threads=1, const floating[::1] bias=None, bint relu=False):
    """Stage 2: O (i_n·o_h·o_w × k_c) = L · K, one product per group, each thread a share of it.

    Sums begin with the ``bias``, if there is one (beta = 1); with ``relu`` what ends below zero becomes zero.
    """
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef Py_ssize_t group, share
    check_threads(n_threads)
    check_room("L", L.shape[0], shape.im2col_size)
    check_operands(&g, NULL, kernel.shape, out.shape)
    if g.i_n == 0:
        return
    cdef const floating* lowered = &L[0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    with nogil:
        for group in range(g.groups):
            for share in prange(n_threads, num_threads=n_threads, schedule="static"):
                multiply_share(lowered, K, O, group, share, n_threads, &bias_relu, &g)


def run(x, kernel, out, workspace, shape, n_threads=1, bias=None, relu=False):
    """The whole batch in one lowered matrix."""
    if shape.is_pointwise:
        return multiply(x.reshape(-1), kernel, out, shape, n_threads, bias, relu)
    lower(x, workspace, shape, n_threads)
    multiply(workspace, kernel, out, shape, n_threads, bias, relu)


def run_per_image(x, kernel, out, workspace, shape, n_threads=1, bias=None, relu=False):
    """One image after another through the lowered matrix of one."""
    image = shape.single_image()
    for n in range(shape.i_n):
        run(x[n:n + 1], kernel, out[n:n + 1], workspace, image, n_threads, bias, relu)
