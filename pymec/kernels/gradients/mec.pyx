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
transposed  (G, k_c/G, k_h, k_w, i_c/G)                         Kᵀ of every group
==========  ==================================================  =============================================

Workspace, in elements:  i_n·o_w·r_h·k_w·i_c
(none for a 1×1 kernel with stride 1, no padding and one group, where I is L);  for the input's gradient |K| more,
Kᵀ, which a plan keeps.

Any stride, padding, dilation and number of groups.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.gradients.taps cimport check_blocks
from pymec.kernels.mec.lowered_rows cimport Band, Partition, band_of_rows, partition, stored_image_row
from pymec.kernels.shared.blas cimport gemm_rowmajor, gemm_rowmajor_transposed
from pymec.kernels.shared.geometry cimport Geometry, check_room, check_stage, geometry
from pymec.kernels.shared.interrupts cimport interrupted
from pymec.kernels.shared.patch cimport add_patch_row, zero
from pymec.kernels.shared.spans cimport ceil_div, innermost

from pymec.kernels.mec import tuned as mec

# The kernel's gradient ---------------------------------------------------------------------------------


cdef void kernel_grad_block(
    const floating* L, const floating* dO, floating* dK, Py_ssize_t task, Py_ssize_t rows, Py_ssize_t pixels,
    Py_ssize_t channels, const Band* band, const Geometry* g
) noexcept nogil:
    """A block of dK, `rows` by `channels` of one group: the sum over all images and output rows."""
    cdef Py_ssize_t kernel_row = g.k_w * g.i_cg, patch = g.k_h * kernel_row
    cdef Py_ssize_t ldl = band.rows * kernel_row  # from one strip of L to the next
    cdef Py_ssize_t r0 = innermost(&task, ceil_div(patch, rows)) * rows, r1 = min(r0 + rows, patch)
    cdef Py_ssize_t block = innermost(&task, ceil_div(g.k_cg, channels)) * channels
    cdef Py_ssize_t group = task
    cdef Py_ssize_t m0 = group * g.k_cg + block, width = min(channels, g.k_cg - block)
    cdef Py_ssize_t n, i, x, n_x, first, end
    cdef const floating* strips
    cdef Partition p
    for i in range(r0, r1):
        zero(dK + i * g.k_c + m0, width)
    for n in range(g.i_n):
        strips = L + (group * g.i_n + n) * g.o_w * ldl
        for i in range(g.o_h):
            p = partition(i, band, g)
            first, end = max(r0, p.a0 * kernel_row), min(r1, p.a1 * kernel_row)
            if first >= end:
                continue
            x = 0
            while x < g.o_w:
                n_x = min(pixels, g.o_w - x)
                # dK (k_h·k_w·i_c × k_c) += P_yᵀ (k_h·k_w·i_c × o_w) · dO_y (o_w × k_c), by blocks
                gemm_rowmajor_transposed(True, False, end - first, width, n_x,
                                         strips + x * ldl + (p.start - p.a0) * kernel_row + first, ldl,
                                         dO + ((n * g.o_h + i) * g.o_w + x) * g.k_c + m0, g.k_c,
                                         <floating> 1, dK + first * g.k_c + m0, g.k_c)
                x += n_x


def kernel_grad(const floating[::1] L, const floating[:, :, :, ::1] grad_out, floating[:, :, :, ::1] grad_kernel,
                shape, int n_threads=1, *, blocking):
    """dK = Σ_y P_yᵀ·dO_y; ``L`` as ``mec.lower`` writes it.  Threads share blocks of dK.

    ``blocking`` is a :class:`~pymec.kernels.shared.blocking.GradBlocking` of a patch's rows.
    """
    cdef Geometry g = geometry(shape)
    cdef Band band = band_of_rows(0, g.o_h, &g)
    cdef Py_ssize_t rows, pixels, channels, tasks, task
    check_stage(&g, n_threads, NULL, grad_kernel.shape, grad_out.shape)
    check_room("L", L.shape[0], shape.mec_size)
    check_blocks(blocking)
    rows, pixels, channels = blocking
    tasks = g.groups * ceil_div(g.k_cg, channels) * ceil_div(g.k_h * g.k_w * g.i_cg, rows)
    cdef const floating* lowered = &L[0] if L.shape[0] else NULL
    cdef const floating* dO = &grad_out[0, 0, 0, 0] if g.i_n else NULL
    cdef floating* dK = &grad_kernel[0, 0, 0, 0]
    with nogil:
        for task in prange(tasks, num_threads=n_threads, schedule="static"):
            kernel_grad_block(lowered, dO, dK, task, rows, pixels, channels, &band, &g)


def run_kernel_grad(x, grad_out, grad_kernel, workspace, shape, n_threads=1, *, blocking):
    """The kernel's gradient: lower the input as the forward pass does, then a product per window."""
    if shape.is_pointwise:
        shape = shape.rows_as_images()
        workspace, grad_out = x.reshape(-1), grad_out.reshape(shape.output_shape)
    else:
        mec.lower(x, workspace, shape, n_threads)
    kernel_grad(workspace, grad_out, grad_kernel, shape, n_threads, blocking=blocking)


# The input's gradient ----------------------------------------------------------------------------------


cdef void lowered_grad_row(
    const floating* dO, const floating* Kt, floating* dL, Py_ssize_t task, Py_ssize_t colour, Py_ssize_t colours,
    Py_ssize_t columns, Py_ssize_t pixels, const Band* band, const Geometry* g
) noexcept nogil:
    """The window of one output row of one image and group, if the row is of this colour."""
    cdef Py_ssize_t kernel_row = g.k_w * g.i_cg
    cdef Py_ssize_t ldl = band.rows * kernel_row
    cdef Py_ssize_t i = innermost(&task, g.o_h), n = innermost(&task, g.i_n), group = task
    cdef Py_ssize_t q, q_end, n_q, x, n_x
    cdef floating* window
    cdef Partition p
    if i / band.n_classes % colours != colour:
        return
    p = partition(i, band, g)
    q, q_end = p.a0 * kernel_row, p.a1 * kernel_row
    window = dL + (group * g.i_n + n) * g.o_w * ldl + (p.start - p.a0) * kernel_row
    while q < q_end:
        n_q = min(columns, q_end - q)
        x = 0
        while x < g.o_w:
            n_x = min(pixels, g.o_w - x)
            # dP_y (o_w × k_h·k_w·i_c) += dO_y (o_w × k_c) · Kᵀ (k_c × k_h·k_w·i_c), by blocks
            gemm_rowmajor(n_x, n_q, g.k_cg,
                          dO + ((n * g.o_h + i) * g.o_w + x) * g.k_c + group * g.k_cg, g.k_c,
                          Kt + group * g.k_cg * g.k_h * kernel_row + q, g.k_h * kernel_row,
                          <floating> 1, window + x * ldl + q, ldl)
            x += n_x
        q += n_q


def lowered_grad(const floating[:, :, :, ::1] grad_out, const floating[::1] transposed, floating[::1] L, shape,
                 int n_threads=1, *, blocking):
    """dP_y += dO_y·Kᵀ for every output row y, the rows of one colour at a time; ``L`` becomes dL.

    ``transposed`` is Kᵀ, group by group, with which BLAS's small products are twice as fast; it is written by
    :func:`pymec.kernels.shared.turning.transpose_kernel`.  ``blocking`` is an
    :class:`~pymec.kernels.shared.blocking.InputGradBlocking` of a patch's elements.
    """
    cdef Geometry g = geometry(shape)
    cdef Band band = band_of_rows(0, g.o_h, &g)
    cdef Py_ssize_t strip_size = band.rows * g.k_w * g.i_cg, strip, row, colour, columns, pixels
    # Rows of a class meet if they are less than k_h stored rows apart; rows of two classes never do.
    cdef Py_ssize_t colours = ceil_div(g.k_h, band.stored_stride)
    check_stage(&g, n_threads, NULL, NULL, grad_out.shape)
    check_room("L", L.shape[0], shape.mec_size)
    check_room("transposed", transposed.shape[0], shape.kernel_size)
    check_blocks(blocking)
    if g.i_n == 0 or band.rows == 0:
        return
    columns, pixels = blocking
    cdef const floating* dO = &grad_out[0, 0, 0, 0]
    cdef const floating* Kt = &transposed[0]
    cdef floating* dL = &L[0]
    with nogil:
        for strip in prange(g.groups * g.i_n * g.o_w, num_threads=n_threads, schedule="static"):
            zero(dL + strip * strip_size, strip_size)
        for colour in range(colours):
            for row in prange(g.groups * g.i_n * g.o_h, num_threads=n_threads, schedule="static"):
                lowered_grad_row(dO, Kt, dL, row, colour, colours, columns, pixels, &band, &g)


cdef void collect_row(const floating* dL, floating* dI, Py_ssize_t task, const Band* band,
                      const Geometry* g) noexcept nogil:
    """One stored row of all strips, added up into the image row that it was copied from."""
    cdef Py_ssize_t r = innermost(&task, band.rows), n = innermost(&task, g.i_n), group = task
    cdef Py_ssize_t x, strip
    cdef floating* row = dI + (n * g.i_h + stored_image_row(r, band, g)) * g.i_w * g.i_c
    if interrupted():
        return
    for x in range(g.o_w):
        strip = (group * g.i_n + n) * g.o_w + x
        add_patch_row(dL + (strip * band.rows + r) * g.k_w * g.i_cg, row, x, group, g)


def mec2im(const floating[::1] L, floating[:, :, :, ::1] grad_x, shape, int n_threads=1):
    """dI from dL: every input element is the sum over the strips that hold it (zero where no output reads it)."""
    cdef Geometry g = geometry(shape)
    cdef Band band = band_of_rows(0, g.o_h, &g)
    cdef Py_ssize_t row
    check_stage(&g, n_threads, grad_x.shape, NULL, NULL)
    check_room("L", L.shape[0], shape.mec_size)
    if g.i_n == 0:
        return
    cdef const floating* dL = &L[0] if L.shape[0] else NULL
    cdef floating* dI = &grad_x[0, 0, 0, 0]
    with nogil:
        for row in prange(g.i_n * g.i_h, num_threads=n_threads, schedule="static"):
            zero(dI + row * g.i_w * g.i_c, g.i_w * g.i_c)
        for row in prange(g.groups * g.i_n * band.rows, num_threads=n_threads, schedule="static"):
            collect_row(dL, dI, row, &band, &g)


def run_input_grad(grad_out, kernel, grad_x, workspace, shape, n_threads=1, *, prepared, blocking):
    """The input's gradient: the products into the windows of dL, then mec2im; ``prepared`` is Kᵀ."""
    if shape.is_pointwise:
        shape = shape.rows_as_images()
        grad_out, dL = grad_out.reshape(shape.output_shape), grad_x.reshape(-1)
        return lowered_grad(grad_out, prepared, dL, shape, n_threads, blocking=blocking)
    lowered_grad(grad_out, prepared, workspace, shape, n_threads, blocking=blocking)
    mec2im(workspace, grad_x, shape, n_threads)
