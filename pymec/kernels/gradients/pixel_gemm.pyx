"""Both gradients without workspace, through plain BLAS (ours).

For one kernel tap (a, b) and one output row, the input pixels under the tap lie s_w·i_c elements apart, which
is a leading dimension that BLAS accepts: nothing need be copied.  A tap's part of the kernel's gradient is
dK[a, b] = Σ I_yᵀ·dO_y over all images and output rows; each input row's gradient is the sum of dO_y·K[a, b]ᵀ
over the taps that lie on it.  Threads share taps in the one and input rows in the other, and never meet.

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

from pymec.kernels.shared.blas cimport gemm_rowmajor_transposed
from pymec.kernels.shared.geometry cimport Geometry, check_operands, check_threads, geometry
from pymec.kernels.shared.patch cimport clip, zero

from pymec.kernels.shared.blocking import grad_blocking, input_grad_blocking


cdef struct Run:
    Py_ssize_t x0, count    # output columns x0 .. x0 + count ...
    Py_ssize_t w            # ... the first of which has the tap on image column w, the next s_w further on


cdef inline Run columns_of_tap(Py_ssize_t b, const Geometry* g) noexcept nogil:
    """The output columns whose kernel column b lies inside the image."""
    cdef Run run
    cdef Py_ssize_t left = b * g.d_w - g.p_l  # the image column under the tap at output column 0
    run.x0 = clip((-left + g.s_w - 1) / g.s_w, 0, g.o_w) if left < 0 else 0
    run.count = (clip((g.i_w - 1 - left) / g.s_w + 1, run.x0, g.o_w) if left < g.i_w else run.x0) - run.x0
    run.w = left + run.x0 * g.s_w
    return run


# The kernel's gradient ---------------------------------------------------------------------------------


cdef void kernel_grad_block(
    const floating* I, const floating* dO, floating* dK, Py_ssize_t unit, Py_ssize_t columns, Py_ssize_t inputs,
    Py_ssize_t channels, const Geometry* g
) noexcept nogil:
    """One tap of one group, some of its input by some of its output channels."""
    cdef Py_ssize_t input_blocks = (g.i_cg + inputs - 1) / inputs
    cdef Py_ssize_t channel_blocks = (g.k_cg + channels - 1) / channels
    cdef Py_ssize_t c0 = unit % input_blocks * inputs, depth = min(inputs, g.i_cg - c0)
    cdef Py_ssize_t block = unit / input_blocks % channel_blocks * channels, width = min(channels, g.k_cg - block)
    cdef Py_ssize_t tap = unit / input_blocks / channel_blocks % (g.k_h * g.k_w)
    cdef Py_ssize_t group = unit / input_blocks / channel_blocks / (g.k_h * g.k_w)
    cdef Py_ssize_t a = tap / g.k_w
    cdef Py_ssize_t m0 = group * g.k_cg + block
    cdef floating* target = dK + (tap * g.i_cg + c0) * g.k_c + m0
    cdef Run run = columns_of_tap(tap - a * g.k_w, g)
    cdef Py_ssize_t n, y, h, x, n_x, c
    for c in range(depth):
        zero(target + c * g.k_c, width)
    for n in range(g.i_n):
        for y in range(g.o_h):
            h = y * g.s_h - g.p_t + a * g.d_h
            if h < 0 or h >= g.i_h:
                continue
            x = 0
            while x < run.count:
                n_x = min(columns, run.count - x)
                # dK[a, b] (i_c/G × k_c/G) += I_yᵀ (i_c/G × o_w) · dO_y (o_w × k_c/G)
                gemm_rowmajor_transposed(
                    True, False, depth, width, n_x,
                    I + ((n * g.i_h + h) * g.i_w + run.w + x * g.s_w) * g.i_c + group * g.i_cg + c0, g.s_w * g.i_c,
                    dO + ((n * g.o_h + y) * g.o_w + run.x0 + x) * g.k_c + m0, g.k_c,
                    <floating> 1, target, g.k_c)
                x += n_x


def run_kernel_grad(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] grad_out, floating[:, :, :, ::1] grad_kernel,
    floating[::1] workspace, shape, int n_threads=1,
):
    """The kernel's gradient, taps and blocks of channels shared among threads; ``workspace`` is not used."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t columns, inputs, channels, units, unit
    check_threads(n_threads)
    check_operands(&g, x.shape, grad_kernel.shape, grad_out.shape)
    inputs, columns, channels = grad_blocking(shape, shape.i_cg, shape.k_h * shape.k_w, n_threads)
    units = (g.groups * g.k_h * g.k_w * ((g.k_cg + channels - 1) / channels)
             * ((g.i_cg + inputs - 1) / inputs))
    cdef const floating* I = &x[0, 0, 0, 0] if g.i_n else NULL
    cdef const floating* dO = &grad_out[0, 0, 0, 0] if g.i_n else NULL
    cdef floating* dK = &grad_kernel[0, 0, 0, 0]
    with nogil:
        for unit in prange(units, num_threads=n_threads, schedule="static"):
            kernel_grad_block(I, dO, dK, unit, columns, inputs, channels, &g)


# The input's gradient ----------------------------------------------------------------------------------


cdef void input_grad_row(
    const floating* dO, const floating* K, floating* dI, Py_ssize_t unit, Py_ssize_t columns, Py_ssize_t inputs,
    const Geometry* g
) noexcept nogil:
    """One image row (n, h): the products of all taps that lie on it."""
    cdef Py_ssize_t n = unit / g.i_h
    cdef Py_ssize_t h = unit - n * g.i_h
    cdef Py_ssize_t a, b, y, top, group, x, n_x, c, depth
    cdef floating* row = dI + unit * g.i_w * g.i_c
    cdef Run run
    zero(row, g.i_w * g.i_c)
    for a in range(g.k_h):
        top = h + g.p_t - a * g.d_h  # y·s_h of the output row that has this one under its kernel row a
        y = top / g.s_h
        if top < 0 or y * g.s_h != top or y >= g.o_h:
            continue
        for b in range(g.k_w):
            run = columns_of_tap(b, g)
            for group in range(g.groups):
                x = 0
                while x < run.count:
                    n_x = min(columns, run.count - x)
                    c = 0
                    while c < g.i_cg:
                        depth = min(inputs, g.i_cg - c)
                        # dI_h (o_w × i_c/G) += dO_y (o_w × k_c/G) · K[a, b]ᵀ (k_c/G × i_c/G)
                        gemm_rowmajor_transposed(
                            False, True, n_x, depth, g.k_cg,
                            dO + ((n * g.o_h + y) * g.o_w + run.x0 + x) * g.k_c + group * g.k_cg, g.k_c,
                            K + ((a * g.k_w + b) * g.i_cg + c) * g.k_c + group * g.k_cg, g.k_c,
                            <floating> 1, row + (run.w + x * g.s_w) * g.i_c + group * g.i_cg + c, g.s_w * g.i_c)
                        c += depth
                    x += n_x


def run_input_grad(
    const floating[:, :, :, ::1] grad_out, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] grad_x,
    floating[::1] workspace, shape, int n_threads=1,
):
    """The input's gradient, image rows shared among threads; ``workspace`` is not used."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t columns, inputs, row
    check_threads(n_threads)
    check_operands(&g, grad_x.shape, kernel.shape, grad_out.shape)
    if g.i_n == 0:
        return
    inputs, columns = input_grad_blocking(shape, shape.i_cg)
    cdef const floating* dO = &grad_out[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* dI = &grad_x[0, 0, 0, 0]
    with nogil:
        for row in prange(g.i_n * g.i_h, num_threads=n_threads, schedule="static"):
            input_grad_row(dO, K, dI, row, columns, inputs, &g)
