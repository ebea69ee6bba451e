"""Both gradients through MEC's lowered matrix (ours, after Cho & Brand 2017; Owl and others have done so before).

The forward pass is O_y = P_y·K, with P_y a window of L for each output row y.  So the kernel's gradient is
dK = Σ_y P_yᵀ·dO_y, on the very same windows of the very same L: a forward pass may keep it.  For the input's
gradient the windows are written, dP_y = dO_y·Kᵀ, and neighbours overlap: rows that are ⌈k_h/s_h⌉ apart don't,
so output rows are taken colour by colour, all rows of one colour at once.  Then mec2im adds up the strips.

==========  ==================================================  =============================================
array       shape                                               role
==========  ==================================================  =============================================
x           (i_n, i_h, i_w, i_c)                                input I, or its gradient dI
kernel      (k_h, k_w, i_c/G, k_c)                              kernel K, or its gradient dK
grad_out    (i_n, o_h, o_w, k_c)                                the output's gradient dO
L           (G, i_n, o_w, r_h, k_w, i_c/G)                      lowered matrix, or its gradient dL
==========  ==================================================  =============================================

Workspace, in elements:  i_n·o_w·r_h·k_w·i_c
(none for a 1×1 kernel with stride 1, no padding and one group, where I is L);  for the input's gradient |K| more,
Kᵀ, which a plan keeps.

Any stride, padding, dilation and number of groups.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.blas cimport gemm_rowmajor, gemm_rowmajor_transposed
from pymec.kernels.shared.geometry cimport Geometry, check_operands, check_room, check_threads, geometry
from pymec.kernels.mec.lowered_rows cimport Band, Partition, band_of_rows, partition, stored_image_row
from pymec.kernels.shared.patch cimport add_patch_row, zero

from pymec.kernels.shared.blocking import grad_blocking, input_grad_blocking
from pymec.kernels.mec import tuned as mec

# The kernel's gradient ---------------------------------------------------------------------------------


cdef void kernel_grad_block(
    const floating* L, const floating* dO, floating* dK, Py_ssize_t unit, Py_ssize_t rows, Py_ssize_t columns,
    Py_ssize_t channels, const Band* band, const Geometry* g
) noexcept nogil:
    """A block of dK, some rows by some channels of one group: the sum over all images and output rows."""
    cdef Py_ssize_t chunk = g.k_w * g.i_cg
    cdef Py_ssize_t patch = g.k_h * chunk
    cdef Py_ssize_t ldl = band.rows * chunk
    cdef Py_ssize_t row_blocks = (patch + rows - 1) / rows
    cdef Py_ssize_t channel_blocks = (g.k_cg + channels - 1) / channels
    cdef Py_ssize_t r0 = unit % row_blocks * rows, r1 = min(r0 + rows, patch)
    cdef Py_ssize_t block = unit / row_blocks % channel_blocks * channels
    cdef Py_ssize_t group = unit / row_blocks / channel_blocks
    cdef Py_ssize_t m0 = group * g.k_cg + block, width = min(channels, g.k_cg - block)
    cdef Py_ssize_t n, i, x, n_x, lo, hi
    cdef const floating* strips
    cdef Partition p
    for i in range(r0, r1):
        zero(dK + i * g.k_c + m0, width)
    for n in range(g.i_n):
        strips = L + (group * g.i_n + n) * g.o_w * ldl
        for i in range(g.o_h):
            p = partition(i, band, g)
            lo, hi = max(r0, p.a0 * chunk), min(r1, p.a1 * chunk)
            if lo >= hi:
                continue
            x = 0
            while x < g.o_w:
                n_x = min(columns, g.o_w - x)
                # dK (k_h·k_w·i_c × k_c) += P_yᵀ (k_h·k_w·i_c × o_w) · dO_y (o_w × k_c), by blocks
                gemm_rowmajor_transposed(True, False, hi - lo, width, n_x,
                                         strips + x * ldl + (p.start - p.a0) * chunk + lo, ldl,
                                         dO + ((n * g.o_h + i) * g.o_w + x) * g.k_c + m0, g.k_c,
                                         <floating> 1, dK + lo * g.k_c + m0, g.k_c)
                x += n_x


def kernel_grad(const floating[::1] L, const floating[:, :, :, ::1] grad_out, floating[:, :, :, ::1] grad_kernel,
                shape, int n_threads=1):
    """dK = Σ_y P_yᵀ·dO_y; ``L`` as ``mec.lower`` writes it.  Threads share blocks of dK."""
    cdef Geometry g = geometry(shape)
    cdef Band band = band_of_rows(0, g.o_h, &g)
    cdef Py_ssize_t rows, columns, channels, units, unit
    check_threads(n_threads)
    check_room("L", L.shape[0], shape.mec_size)
    check_operands(&g, NULL, grad_kernel.shape, grad_out.shape)
    rows, columns, channels = grad_blocking(shape, shape.k_h * shape.k_w * shape.i_cg, 1, n_threads)
    units = (g.groups * ((g.k_cg + channels - 1) / channels)
             * ((g.k_h * g.k_w * g.i_cg + rows - 1) / rows))
    cdef const floating* lowered = &L[0] if L.shape[0] else NULL
    cdef const floating* dO = &grad_out[0, 0, 0, 0] if g.i_n else NULL
    cdef floating* dK = &grad_kernel[0, 0, 0, 0]
    with nogil:
        for unit in prange(units, num_threads=n_threads, schedule="static"):
            kernel_grad_block(lowered, dO, dK, unit, rows, columns, channels, &band, &g)


def run_kernel_grad(x, grad_out, grad_kernel, workspace, shape, n_threads=1):
    """The kernel's gradient: lower the input as the forward pass does, then a product per window."""
    if shape.is_pointwise:
        shape = shape.rows_as_images()
        workspace, grad_out = x.reshape(-1), grad_out.reshape(shape.output_shape)
    else:
        mec.lower(x, workspace, shape, n_threads)
    kernel_grad(workspace, grad_out, grad_kernel, shape, n_threads)


# The input's gradient ----------------------------------------------------------------------------------


def transpose_kernel(kernel, transposed, shape, int n_threads=1):
    """Kᵀ, group by group: (G, k_c/G, k_h, k_w, i_c/G).  BLAS's small products are twice as fast with it."""
    grouped = kernel.reshape(shape.k_h, shape.k_w, shape.i_cg, shape.groups, shape.k_cg)
    target = transposed[:shape.kernel_size].reshape(shape.groups, shape.k_cg, shape.k_h, shape.k_w, shape.i_cg)
    target[...] = grouped.transpose(3, 4, 0, 1, 2)


cdef void lowered_grad_row(
    const floating* dO, const floating* Kt, floating* dL, Py_ssize_t unit, Py_ssize_t colour, Py_ssize_t colours,
    Py_ssize_t width, Py_ssize_t pixels, const Band* band, const Geometry* g
) noexcept nogil:
    """The window of one output row of one image and group, if the row is of this colour."""
    cdef Py_ssize_t chunk = g.k_w * g.i_cg
    cdef Py_ssize_t ldl = band.rows * chunk
    cdef Py_ssize_t i = unit % g.o_h
    cdef Py_ssize_t n = unit / g.o_h % g.i_n
    cdef Py_ssize_t group = unit / g.o_h / g.i_n
    cdef Py_ssize_t q, q_end, n_q, x, n_x
    cdef floating* window
    cdef Partition p
    if i / band.n_classes % colours != colour:
        return
    p = partition(i, band, g)
    q, q_end = p.a0 * chunk, p.a1 * chunk
    window = dL + (group * g.i_n + n) * g.o_w * ldl + (p.start - p.a0) * chunk
    while q < q_end:
        n_q = min(width, q_end - q)
        x = 0
        while x < g.o_w:
            n_x = min(pixels, g.o_w - x)
            # dP_y (o_w × k_h·k_w·i_c) += dO_y (o_w × k_c) · Kᵀ (k_c × k_h·k_w·i_c), by blocks
            gemm_rowmajor(n_x, n_q, g.k_cg,
                          dO + ((n * g.o_h + i) * g.o_w + x) * g.k_c + group * g.k_cg, g.k_c,
                          Kt + group * g.k_cg * g.k_h * chunk + q, g.k_h * chunk,
                          <floating> 1, window + x * ldl + q, ldl)
            x += n_x
        q += n_q


def lowered_grad(const floating[:, :, :, ::1] grad_out, const floating[::1] transposed, floating[::1] L, shape,
                 int n_threads=1):
    """dP_y += dO_y·Kᵀ for every output row y, the rows of one colour at a time; ``L`` becomes dL.

    ``transposed`` is what :func:`transpose_kernel` writes.
    """
    cdef Geometry g = geometry(shape)
    cdef Band band = band_of_rows(0, g.o_h, &g)
    cdef Py_ssize_t strips = g.groups * g.i_n * g.o_w, strip, row, colour, width, pixels
    # Rows of a class meet if they are less than k_h stored rows apart; rows of two classes never do.
    cdef Py_ssize_t colours = (g.k_h + band.stored_stride - 1) / band.stored_stride
    check_threads(n_threads)
    check_room("L", L.shape[0], shape.mec_size)
    check_room("transposed", transposed.shape[0], shape.kernel_size)
    check_operands(&g, NULL, NULL, grad_out.shape)
    if g.i_n == 0 or band.rows == 0:
        return
    width, pixels = input_grad_blocking(shape, shape.k_h * shape.k_w * shape.i_cg)
    cdef const floating* dO = &grad_out[0, 0, 0, 0]
    cdef const floating* Kt = &transposed[0]
    cdef floating* dL = &L[0]
    with nogil:
        for strip in prange(strips, num_threads=n_threads, schedule="static"):
            zero(dL + strip * band.rows * g.k_w * g.i_cg, band.rows * g.k_w * g.i_cg)
        for colour in range(colours):
            for row in prange(g.groups * g.i_n * g.o_h, num_threads=n_threads, schedule="static"):
                lowered_grad_row(dO, Kt, dL, row, colour, colours, width, pixels, &band, &g)


cdef void collect_row(const floating* dL, floating* dI, Py_ssize_t unit, const Band* band,
                      const Geometry* g) noexcept nogil:
    """One stored row of all strips, added up into the image row that it was copied from."""
    cdef Py_ssize_t chunk = g.k_w * g.i_cg
    cdef Py_ssize_t r = unit % band.rows
    cdef Py_ssize_t n = unit / band.rows % g.i_n
    cdef Py_ssize_t group = unit / band.rows / g.i_n
    cdef Py_ssize_t x
    cdef floating* row = dI + (n * g.i_h + stored_image_row(r, band, g)) * g.i_w * g.i_c
    for x in range(g.o_w):
        add_patch_row(dL + (((group * g.i_n + n) * g.o_w + x) * band.rows + r) * chunk, row, x, group, g)


def mec2im(const floating[::1] L, floating[:, :, :, ::1] grad_x, shape, int n_threads=1):
    """dI from dL: every input element the sum over the strips that hold it (zero where no output read it)."""
    cdef Geometry g = geometry(shape)
    cdef Band band = band_of_rows(0, g.o_h, &g)
    cdef Py_ssize_t row
    check_threads(n_threads)
    check_room("L", L.shape[0], shape.mec_size)
    check_operands(&g, grad_x.shape, NULL, NULL)
    if g.i_n == 0:
        return
    cdef const floating* dL = &L[0] if L.shape[0] else NULL
    cdef floating* dI = &grad_x[0, 0, 0, 0]
    with nogil:
        for row in prange(g.i_n * g.i_h, num_threads=n_threads, schedule="static"):
            zero(dI + row * g.i_w * g.i_c, g.i_w * g.i_c)
        for row in prange(g.groups * g.i_n * band.rows, num_threads=n_threads, schedule="static"):
            collect_row(dL, dI, row, &band, &g)


def run_input_grad(grad_out, kernel, grad_x, workspace, shape, n_threads=1, prepared=None):
    """The input's gradient: the products into the windows of dL, then mec2im; ``prepared`` is Kᵀ."""
    if shape.is_pointwise:
        shape = shape.rows_as_images()
        return lowered_grad(grad_out.reshape(shape.output_shape), prepared, grad_x.reshape(-1), shape, n_threads)
    lowered_grad(grad_out, prepared, workspace, shape, n_threads)
    mec2im(workspace, grad_x, shape, n_threads)
