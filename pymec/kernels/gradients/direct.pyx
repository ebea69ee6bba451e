"""Both gradients by their definition: every element is one sum, kept in double precision.

    dK[a,b,c,m] = sum over n, y, x of I[n, y·s_h - p_t + a·d_h, x·s_w - p_l + b·d_w, c] · dO[n,y,x,m]
    dI[n,h,w,c] = sum over a, b, m of dO[n,y,x,m] · K[a,b,c,m],  y·s_h = h + p_t - a·d_h,  x·s_w = w + p_l - b·d_w

where y and x in the second line must be whole and inside the output.  The other algorithms are tested against it.

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

from pymec.kernels.gradients.taps cimport output_at
from pymec.kernels.shared.geometry cimport Geometry, check_stage, geometry
from pymec.kernels.shared.interrupts cimport interrupted
from pymec.kernels.shared.spans cimport Span, innermost, inside

cdef enum:
    BLOCK = 32  # output channels summed at a time: 32 doubles fit the vector registers of most CPUs

# The kernel's gradient ---------------------------------------------------------------------------------


cdef void kernel_grad_element(
    const floating* I, const floating* dO, floating* dK, Py_ssize_t task, const Geometry* g
) noexcept nogil:
    """dK[a, b, c] of one group: all its output channels, a block at a time."""
    cdef Py_ssize_t c = innermost(&task, g.i_cg), b = innermost(&task, g.k_w), a = innermost(&task, g.k_h)
    cdef Py_ssize_t group = task
    cdef Span rows = inside(a * g.d_h - g.p_t, g.s_h, g.i_h, g.o_h)
    cdef Span columns = inside(b * g.d_w - g.p_l, g.s_w, g.i_w, g.o_w)
    cdef double total[BLOCK]
    cdef double value
    cdef Py_ssize_t n, y, x, h, w, m, m0 = 0, width
    cdef const floating* weights
    while m0 < g.k_cg:
        width = min(BLOCK, g.k_cg - m0)
        for m in range(BLOCK):
            total[m] = 0
        for n in range(g.i_n):
            for y in range(rows.first, rows.end):
                if interrupted():
                    return
                h = y * g.s_h - g.p_t + a * g.d_h
                for x in range(columns.first, columns.end):
                    w = x * g.s_w - g.p_l + b * g.d_w
                    value = I[((n * g.i_h + h) * g.i_w + w) * g.i_c + group * g.i_cg + c]
                    weights = dO + ((n * g.o_h + y) * g.o_w + x) * g.k_c + group * g.k_cg + m0
                    for m in range(width):
                        total[m] += value * weights[m]
        for m in range(width):
            dK[((a * g.k_w + b) * g.i_cg + c) * g.k_c + group * g.k_cg + m0 + m] = <floating> total[m]
        m0 += width


def run_kernel_grad(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] grad_out, floating[:, :, :, ::1] grad_kernel,
    workspace, shape, int n_threads=1,
):
    """The kernel's gradient by the definition; ``workspace`` is not used."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t task
    check_stage(&g, n_threads, x.shape, grad_kernel.shape, grad_out.shape)
    cdef const floating* I = &x[0, 0, 0, 0] if g.i_n else NULL
    cdef const floating* dO = &grad_out[0, 0, 0, 0] if g.i_n else NULL
    cdef floating* dK = &grad_kernel[0, 0, 0, 0]
    with nogil:
        for task in prange(g.groups * g.k_h * g.k_w * g.i_cg, num_threads=n_threads, schedule="static"):
            kernel_grad_element(I, dO, dK, task, &g)


# The input's gradient ----------------------------------------------------------------------------------


cdef void input_grad_pixel(
    const floating* dO, const floating* K, floating* dI, Py_ssize_t n, Py_ssize_t h, Py_ssize_t w,
    const Geometry* g
) noexcept nogil:
    """One input pixel: all its channels."""
    cdef double total
    cdef Py_ssize_t a, b, c, m, y, x, group
    cdef const floating* weights
    cdef const floating* pixel
    for c in range(g.i_c):
        group = c / g.i_cg
        total = 0
        for a in range(g.k_h):
            y = output_at(h + g.p_t - a * g.d_h, g.s_h, g.o_h)
            if y < 0:
                continue
            for b in range(g.k_w):
                x = output_at(w + g.p_l - b * g.d_w, g.s_w, g.o_w)
                if x < 0:
                    continue
                weights = K + ((a * g.k_w + b) * g.i_cg + c - group * g.i_cg) * g.k_c + group * g.k_cg
                pixel = dO + ((n * g.o_h + y) * g.o_w + x) * g.k_c + group * g.k_cg
                for m in range(g.k_cg):
                    total += <double> pixel[m] * weights[m]
        dI[((n * g.i_h + h) * g.i_w + w) * g.i_c + c] = <floating> total


cdef void input_grad_row(const floating* dO, const floating* K, floating* dI, Py_ssize_t row,
                         const Geometry* g) noexcept nogil:
    """One image row (n, h)."""
    cdef Py_ssize_t w
    for w in range(g.i_w):
        if interrupted():
            return
        input_grad_pixel(dO, K, dI, row / g.i_h, row % g.i_h, w, g)


def run_input_grad(
    const floating[:, :, :, ::1] grad_out, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] grad_x,
    workspace, shape, int n_threads=1,
):
    """The input's gradient by the definition; ``workspace`` is not used."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t row
    check_stage(&g, n_threads, grad_x.shape, kernel.shape, grad_out.shape)
    if g.i_n == 0:
        return
    cdef const floating* dO = &grad_out[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* dI = &grad_x[0, 0, 0, 0]
    with nogil:
        for row in prange(g.i_n * g.i_h, num_threads=n_threads, schedule="static"):
            input_grad_row(dO, K, dI, row, &g)
