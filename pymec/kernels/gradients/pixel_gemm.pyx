"""Both gradients without workspace, by plain BLAS (ours).

For one kernel tap (a, b) and one output row, the input pixels under the tap lie s_w·i_c elements apart, which
is a leading dimension that BLAS accepts: nothing need be copied.  A tap's part of the kernel's gradient is
dK[a, b] = Σ I_yᵀ·dO_y over all images and output rows; each input row's gradient is the sum of dO_y·K[a, b]ᵀ
over the taps that lie on it.  Threads share taps for the one and input rows for the other, so no two write to the
same place.

==========  =========================  ================================
array       shape                      role
==========  =========================  ================================
x           (i_n, i_h, i_w, i_c)       input I, or its gradient dI
kernel      (k_h, k_w, i_c/G, k_c)     kernel K, or its gradient dK
grad_out    (i_n, o_h, o_w, k_c)       the output's gradient dO
==========  =========================  ================================

Workspace: 0.  Any stride, padding, dilation and number of groups.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.gradients.taps cimport check_blocks, output_at
from pymec.kernels.shared.blas cimport gemm_rowmajor_transposed
from pymec.kernels.shared.geometry cimport Geometry, check_stage, geometry
from pymec.kernels.shared.patch cimport zero
from pymec.kernels.shared.spans cimport Span, ceil_div, innermost, inside

# The kernel's gradient ---------------------------------------------------------------------------------


cdef void kernel_grad_block(
    const floating* I, const floating* dO, floating* dK, Py_ssize_t task, Py_ssize_t inputs, Py_ssize_t pixels,
    Py_ssize_t channels, const Geometry* g
) noexcept nogil:
    """One tap of one group, a block of `inputs` input by `channels` output channels."""
    cdef Py_ssize_t c0 = innermost(&task, ceil_div(g.i_cg, inputs)) * inputs, depth = min(inputs, g.i_cg - c0)
    cdef Py_ssize_t block = innermost(&task, ceil_div(g.k_cg, channels)) * channels
    cdef Py_ssize_t b = innermost(&task, g.k_w), a = innermost(&task, g.k_h), group = task
    cdef Py_ssize_t m0 = group * g.k_cg + block, width = min(channels, g.k_cg - block)
    # The output rows and columns whose tap (a, b) lies inside the image.
    cdef Span rows = inside(a * g.d_h - g.p_t, g.s_h, g.i_h, g.o_h)
    cdef Span columns = inside(b * g.d_w - g.p_l, g.s_w, g.i_w, g.o_w)
    cdef Py_ssize_t n, y, h, x, w, n_x, c
    cdef floating* target = dK + ((a * g.k_w + b) * g.i_cg + c0) * g.k_c + m0
    for c in range(depth):
        zero(target + c * g.k_c, width)
    for n in range(g.i_n):
        for y in range(rows.first, rows.end):
            h = y * g.s_h - g.p_t + a * g.d_h
            x = columns.first
            while x < columns.end:
                n_x = min(pixels, columns.end - x)
                w = x * g.s_w - g.p_l + b * g.d_w
                # dK[a, b] (i_c/G × k_c/G) += I_yᵀ (i_c/G × o_w) · dO_y (o_w × k_c/G), by blocks
                gemm_rowmajor_transposed(
                    True, False, depth, width, n_x,
                    I + ((n * g.i_h + h) * g.i_w + w) * g.i_c + group * g.i_cg + c0, g.s_w * g.i_c,
                    dO + ((n * g.o_h + y) * g.o_w + x) * g.k_c + m0, g.k_c,
                    <floating> 1, target, g.k_c)
                x += n_x


def run_kernel_grad(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] grad_out, floating[:, :, :, ::1] grad_kernel,
    workspace, shape, int n_threads=1, *, blocking,
):
    """The kernel's gradient, taps and blocks of channels shared among threads; ``workspace`` is not used.

    ``blocking`` is a :class:`~pymec.kernels.shared.blocking.GradBlocking` of a group's input channels.
    """
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t inputs, pixels, channels, tasks, task
    check_stage(&g, n_threads, x.shape, grad_kernel.shape, grad_out.shape)
    check_blocks(blocking)
    inputs, pixels, channels = blocking
    tasks = g.groups * g.k_h * g.k_w * ceil_div(g.k_cg, channels) * ceil_div(g.i_cg, inputs)
    cdef const floating* I = &x[0, 0, 0, 0] if g.i_n else NULL
    cdef const floating* dO = &grad_out[0, 0, 0, 0] if g.i_n else NULL
    cdef floating* dK = &grad_kernel[0, 0, 0, 0]
    with nogil:
        for task in prange(tasks, num_threads=n_threads, schedule="static"):
            kernel_grad_block(I, dO, dK, task, inputs, pixels, channels, &g)


# The input's gradient ----------------------------------------------------------------------------------


cdef void add_tap(
    const floating* dO_row, const floating* K, floating* dI_row, Py_ssize_t a, Py_ssize_t b, const Span* columns,
    Py_ssize_t group, Py_ssize_t inputs, Py_ssize_t pixels, const Geometry* g
) noexcept nogil:
    """The products of one tap of one group with an output row, added to the image row under the tap.

    `columns` are the output columns that have the tap inside the image.
    """
    cdef Py_ssize_t x = columns.first, w, n_x, c, depth
    while x < columns.end:
        n_x = min(pixels, columns.end - x)
        w = x * g.s_w - g.p_l + b * g.d_w
        c = 0
        while c < g.i_cg:
            depth = min(inputs, g.i_cg - c)
            # dI_h (o_w × i_c/G) += dO_y (o_w × k_c/G) · K[a, b]ᵀ (k_c/G × i_c/G), by blocks
            gemm_rowmajor_transposed(
                False, True, n_x, depth, g.k_cg,
                dO_row + x * g.k_c + group * g.k_cg, g.k_c,
                K + ((a * g.k_w + b) * g.i_cg + c) * g.k_c + group * g.k_cg, g.k_c,
                <floating> 1, dI_row + w * g.i_c + group * g.i_cg + c, g.s_w * g.i_c)
            c += depth
        x += n_x


cdef void input_grad_row(
    const floating* dO, const floating* K, floating* dI, Py_ssize_t task, Py_ssize_t inputs, Py_ssize_t pixels,
    const Geometry* g
) noexcept nogil:
    """One image row (n, h): the products of all taps that lie on it."""
    cdef floating* row = dI + task * g.i_w * g.i_c
    cdef Py_ssize_t h = innermost(&task, g.i_h), n = task
    cdef Py_ssize_t a, b, y, group
    cdef Span columns
    zero(row, g.i_w * g.i_c)
    for a in range(g.k_h):
        y = output_at(h + g.p_t - a * g.d_h, g.s_h, g.o_h)
        if y < 0:
            continue
        for b in range(g.k_w):
            columns = inside(b * g.d_w - g.p_l, g.s_w, g.i_w, g.o_w)
            for group in range(g.groups):
                add_tap(dO + (n * g.o_h + y) * g.o_w * g.k_c, K, row, a, b, &columns, group, inputs, pixels, g)


def run_input_grad(
    const floating[:, :, :, ::1] grad_out, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] grad_x,
    workspace, shape, int n_threads=1, *, blocking,
):
    """The input's gradient, image rows shared among threads; ``workspace`` is not used.

    ``blocking`` is an :class:`~pymec.kernels.shared.blocking.InputGradBlocking` of a group's input channels.
    """
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t inputs, pixels, row
    check_stage(&g, n_threads, grad_x.shape, kernel.shape, grad_out.shape)
    check_blocks(blocking)
    if g.i_n == 0:
        return
    inputs, pixels = blocking
    cdef const floating* dO = &grad_out[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* dI = &grad_x[0, 0, 0, 0]
    with nogil:
        for row in prange(g.i_n * g.i_h, num_threads=n_threads, schedule="static"):
            input_grad_row(dO, K, dI, row, inputs, pixels, &g)
