"""Both gradients through im2col's lowered matrix (Chellapilla, Puri & Simard 2006).

The forward pass is O = L·K with one row of L per output pixel.  So the kernel's gradient is dK = Lᵀ·dO, and
dL = dO·Kᵀ is a gradient for every copy of an input element that L holds.  col2im adds these copies up again: each
image row collects its own, so threads share image rows and never write to the same one.

==========  ===========================================  ==========================================
array       shape                                        role
==========  ===========================================  ==========================================
x           (i_n, i_h, i_w, i_c)                         input I, or its gradient dI
kernel      (k_h, k_w, i_c/G, k_c)                       kernel K, or its gradient dK
grad_out    (i_n, o_h, o_w, k_c)                         the output's gradient dO
L           (G, i_n, o_h, o_w, k_h, k_w, i_c/G)          lowered matrix, or its gradient dL
==========  ===========================================  ==========================================

Workspace, in elements:  i_n·o_h·o_w·k_h·k_w·i_c
(none for a 1×1 kernel with stride 1, no padding and one group, where I is L).

Any stride, padding, dilation and number of groups.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.gradients.taps cimport output_at
from pymec.kernels.shared.blas cimport gemm_rowmajor_transposed
from pymec.kernels.shared.geometry cimport Geometry, check_room, check_stage, geometry
from pymec.kernels.shared.interrupts cimport interrupted
from pymec.kernels.shared.patch cimport add_patch_row, zero
from pymec.kernels.shared.spans cimport Span, innermost, share_of

from pymec.kernels.im2col import im2col

# The kernel's gradient ---------------------------------------------------------------------------------


cdef void kernel_grad_share(
    const floating* L, const floating* dO, floating* dK, Py_ssize_t group, Py_ssize_t share, Py_ssize_t shares,
    const Geometry* g
) noexcept nogil:
    """One thread's share of a group's dK: some of its rows, or of its columns if there are more of these."""
    cdef Py_ssize_t pixels = g.i_n * g.o_h * g.o_w, patch = g.k_h * g.k_w * g.i_cg
    cdef Span rows = Span(0, patch), columns = Span(0, g.k_cg)
    if patch >= g.k_cg:
        rows = share_of(patch, share, shares)
    else:
        columns = share_of(g.k_cg, share, shares)
    if rows.first == rows.end or columns.first == columns.end:
        return
    # dK_g (k_h·k_w·i_c/G × k_c/G) = L_gᵀ (k_h·k_w·i_c/G × i_n·o_h·o_w) · dO_g (i_n·o_h·o_w × k_c/G)
    gemm_rowmajor_transposed(True, False, rows.end - rows.first, columns.end - columns.first, pixels,
                             L + group * pixels * patch + rows.first, patch,
                             dO + group * g.k_cg + columns.first, g.k_c,
                             <floating> 0, dK + rows.first * g.k_c + group * g.k_cg + columns.first, g.k_c)


def kernel_grad(const floating[::1] L, const floating[:, :, :, ::1] grad_out, floating[:, :, :, ::1] grad_kernel,
                shape, int n_threads=1):
    """dK = Lᵀ·dO, one product per group, each thread a share of it; ``L`` as ``im2col.lower`` writes it."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t group, share
    check_stage(&g, n_threads, NULL, grad_kernel.shape, grad_out.shape)
    check_room("L", L.shape[0], shape.im2col_size)
    cdef floating* dK = &grad_kernel[0, 0, 0, 0]
    if g.i_n == 0:
        return zero(dK, g.k_h * g.k_w * g.i_cg * g.k_c)
    cdef const floating* lowered = &L[0]
    cdef const floating* dO = &grad_out[0, 0, 0, 0]
    with nogil:
        for group in range(g.groups):
            for share in prange(n_threads, num_threads=n_threads, schedule="static"):
                kernel_grad_share(lowered, dO, dK, group, share, n_threads, &g)


def run_kernel_grad(x, grad_out, grad_kernel, workspace, shape, n_threads=1):
    """The kernel's gradient: lower the input as the forward pass does, then one product."""
    if shape.is_pointwise:
        return kernel_grad(x.reshape(-1), grad_out, grad_kernel, shape, n_threads)
    im2col.lower(x, workspace, shape, n_threads)
    kernel_grad(workspace, grad_out, grad_kernel, shape, n_threads)


# The input's gradient ----------------------------------------------------------------------------------


cdef void lowered_grad_share(
    const floating* dO, const floating* K, floating* dL, Py_ssize_t group, Py_ssize_t share, Py_ssize_t shares,
    const Geometry* g
) noexcept nogil:
    """One thread's share of a group's dL: some of its output pixels, or of its columns if there are more of these.

    The larger of dO and K is read by one thread each then, and the other one by all.
    """
    cdef Py_ssize_t all_pixels = g.i_n * g.o_h * g.o_w, patch = g.k_h * g.k_w * g.i_cg
    cdef Span pixels = Span(0, all_pixels), columns = Span(0, patch)
    if all_pixels >= patch:
        pixels = share_of(all_pixels, share, shares)
    else:
        columns = share_of(patch, share, shares)
    if pixels.first == pixels.end or columns.first == columns.end:
        return
    # dL_g (i_n·o_h·o_w × k_h·k_w·i_c/G) = dO_g (i_n·o_h·o_w × k_c/G) · K_gᵀ (k_c/G × k_h·k_w·i_c/G)
    gemm_rowmajor_transposed(False, True, pixels.end - pixels.first, columns.end - columns.first, g.k_cg,
                             dO + pixels.first * g.k_c + group * g.k_cg, g.k_c,
                             K + columns.first * g.k_c + group * g.k_cg, g.k_c, <floating> 0,
                             dL + (group * all_pixels + pixels.first) * patch + columns.first, patch)


def lowered_grad(const floating[:, :, :, ::1] grad_out, const floating[:, :, :, ::1] kernel, floating[::1] L,
                 shape, int n_threads=1):
    """dL = dO·Kᵀ: a gradient for every element of the lowered matrix."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t group, share
    check_stage(&g, n_threads, NULL, kernel.shape, grad_out.shape)
    check_room("L", L.shape[0], shape.im2col_size)
    if g.i_n == 0:
        return
    cdef const floating* dO = &grad_out[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* dL = &L[0]
    with nogil:
        for group in range(g.groups):
            for share in prange(n_threads, num_threads=n_threads, schedule="static"):
                lowered_grad_share(dO, K, dL, group, share, n_threads, &g)


cdef void collect_row(const floating* dL, floating* dI, Py_ssize_t task, const Geometry* g) noexcept nogil:
    """One image row (n, h): the sum of all copies that the patches hold of it."""
    cdef Py_ssize_t kernel_row = g.k_w * g.i_cg  # elements of one row of a patch
    cdef Py_ssize_t a, y, x, group, pixel
    cdef floating* row = dI + task * g.i_w * g.i_c
    cdef Py_ssize_t h = innermost(&task, g.i_h), n = task
    if interrupted():
        return
    zero(row, g.i_w * g.i_c)
    for a in range(g.k_h):
        y = output_at(h + g.p_t - a * g.d_h, g.s_h, g.o_h)
        if y < 0:
            continue
        for group in range(g.groups):
            for x in range(g.o_w):
                pixel = ((group * g.i_n + n) * g.o_h + y) * g.o_w + x
                add_patch_row(dL + (pixel * g.k_h + a) * kernel_row, row, x, group, g)


def col2im(const floating[::1] L, floating[:, :, :, ::1] grad_x, shape, int n_threads=1):
    """dI from dL: every input element is the sum of its copies' gradients (zero where no output reads it)."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t row
    check_stage(&g, n_threads, grad_x.shape, NULL, NULL)
    check_room("L", L.shape[0], shape.im2col_size)
    if g.i_n == 0:
        return
    cdef const floating* dL = &L[0]
    cdef floating* dI = &grad_x[0, 0, 0, 0]
    with nogil:
        for row in prange(g.i_n * g.i_h, num_threads=n_threads, schedule="static"):
            collect_row(dL, dI, row, &g)


def run_input_grad(grad_out, kernel, grad_x, workspace, shape, n_threads=1):
    """The input's gradient: one product into the lowered matrix, then col2im."""
    if shape.is_pointwise:
        return lowered_grad(grad_out, kernel, grad_x.reshape(-1), shape, n_threads)
    lowered_grad(grad_out, kernel, workspace, shape, n_threads)
    col2im(workspace, grad_x, shape, n_threads)
