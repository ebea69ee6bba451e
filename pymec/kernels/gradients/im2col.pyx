"""Both gradients through im2col's lowered matrix (Chellapilla, Puri & Simard 2006).

The forward pass is O = L·K with one row of L per output pixel.  So the kernel's gradient is dK = Lᵀ·dO, and
dL = dO·Kᵀ is a gradient for every copy of an input element that L holds.  These copies are added up again by
col2im: each image row collects its own, so threads share image rows and never meet in one.

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

from pymec.kernels.shared.blas cimport gemm_rowmajor_transposed
from pymec.kernels.shared.geometry cimport Geometry, check_operands, check_room, check_threads, geometry
from pymec.kernels.shared.patch cimport add_patch_row, zero

from pymec.kernels.im2col import im2col

# The kernel's gradient ---------------------------------------------------------------------------------


cdef void kernel_grad_share(
    const floating* L, const floating* dO, floating* dK, Py_ssize_t group, Py_ssize_t share, Py_ssize_t shares,
    const Geometry* g
) noexcept nogil:
    """One thread's share of a group's dK: some of its rows, or of its columns where these are more."""
    cdef Py_ssize_t pixels = g.i_n * g.o_h * g.o_w
    cdef Py_ssize_t patch = g.k_h * g.k_w * g.i_cg
    cdef Py_ssize_t row = 0, rows = patch
    cdef Py_ssize_t column = 0, columns = g.k_cg
    if patch >= g.k_cg:
        row = share * patch / shares
        rows = (share + 1) * patch / shares - row
    else:
        column = share * g.k_cg / shares
        columns = (share + 1) * g.k_cg / shares - column
    if rows == 0 or columns == 0:
        return
    # dK_g (k_h·k_w·i_c/G × k_c/G) = L_gᵀ (k_h·k_w·i_c/G × i_n·o_h·o_w) · dO_g (i_n·o_h·o_w × k_c/G)
    gemm_rowmajor_transposed(True, False, rows, columns, pixels,
                             L + group * pixels * patch + row, patch,
                             dO + group * g.k_cg + column, g.k_c,
                             <floating> 0, dK + row * g.k_c + group * g.k_cg + column, g.k_c)


def kernel_grad(const floating[::1] L, const floating[:, :, :, ::1] grad_out, floating[:, :, :, ::1] grad_kernel,
                shape, int n_threads=1):
    """dK = Lᵀ·dO, one product per group, each thread a share of it; ``L`` as ``im2col.lower`` writes it."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t group, share
    check_threads(n_threads)
    check_room("L", L.shape[0], shape.im2col_size)
    check_operands(&g, NULL, grad_kernel.shape, grad_out.shape)
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
    """One thread's share of a group's dL: some of its output pixels."""
    cdef Py_ssize_t pixels = g.i_n * g.o_h * g.o_w
    cdef Py_ssize_t patch = g.k_h * g.k_w * g.i_cg
    cdef Py_ssize_t row = share * pixels / shares
    cdef Py_ssize_t rows = (share + 1) * pixels / shares - row
    if rows == 0:
        return
    # dL_g (i_n·o_h·o_w × k_h·k_w·i_c/G) = dO_g (i_n·o_h·o_w × k_c/G) · K_gᵀ (k_c/G × k_h·k_w·i_c/G)
    gemm_rowmajor_transposed(False, True, rows, patch, g.k_cg,
                             dO + row * g.k_c + group * g.k_cg, g.k_c, K + group * g.k_cg, g.k_c,
                             <floating> 0, dL + (group * pixels + row) * patch, patch)


def lowered_grad(const floating[:, :, :, ::1] grad_out, const floating[:, :, :, ::1] kernel, floating[::1] L,
                 shape, int n_threads=1):
    """dL = dO·Kᵀ: a gradient for every element of the lowered matrix."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t group, share
    check_threads(n_threads)
    check_room("L", L.shape[0], shape.im2col_size)
    check_operands(&g, NULL, kernel.shape, grad_out.shape)
    if g.i_n == 0:
        return
    cdef const floating* dO = &grad_out[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* dL = &L[0]
    with nogil:
        for group in range(g.groups):
            for share in prange(n_threads, num_threads=n_threads, schedule="static"):
                lowered_grad_share(dO, K, dL, group, share, n_threads, &g)


cdef void collect_row(const floating* dL, floating* dI, Py_ssize_t unit, const Geometry* g) noexcept nogil:
    """One image row (n, h): the sum of all copies that the patches hold of it."""
    cdef Py_ssize_t chunk = g.k_w * g.i_cg
    cdef Py_ssize_t n = unit / g.i_h
    cdef Py_ssize_t h = unit - n * g.i_h
    cdef Py_ssize_t a, top, y, x, group
    cdef floating* row = dI + unit * g.i_w * g.i_c
    zero(row, g.i_w * g.i_c)
    for a in range(g.k_h):
        top = h + g.p_t - a * g.d_h  # y·s_h of the output row that has this one under its kernel row a
        y = top / g.s_h
        if top < 0 or y * g.s_h != top or y >= g.o_h:
            continue
        for group in range(g.groups):
            for x in range(g.o_w):
                add_patch_row(dL + (((group * g.i_n + n) * g.o_h + y) * g.o_w + x) * g.k_h * chunk + a * chunk,
                              row, x, group, g)


def col2im(const floating[::1] L, floating[:, :, :, ::1] grad_x, shape, int n_threads=1):
    """dI from dL: every input element the sum of its copies' gradients (zero where no output read it)."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t row
    check_threads(n_threads)
    check_room("L", L.shape[0], shape.im2col_size)
    check_operands(&g, grad_x.shape, NULL, NULL)
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
