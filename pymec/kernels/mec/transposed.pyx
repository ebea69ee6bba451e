"""``mec_w``, the transposed twin of tuned MEC: it lowers along the other axis (ours, after Cho & Brand 2017).

For every output row y, a horizontal strip of the image, k_h pixels high, is copied once into L.  The patches of
output column x are then a window of that matrix, starting at x·s_w·k_h·i_c, and the windows of neighbouring
columns overlap.  The rows (n, y) of O lie o_w·k_c apart throughout the batch: one product takes them all,
as tall as Solution A's, and writes n-h-w-c at once, without a repair.

==========  ==================================================  =============================================
array       shape                                               role
==========  ==================================================  =============================================
x           (i_n, i_h, i_w, i_c)                                input I, n-h-w-c
kernel      (k_h, k_w, i_c/G, k_c)                              kernel K
prepared    (k_w, k_h, i_c/G, k_c)                              K', K in the order of a window of L
L           (G, i_n, o_h, r_w, k_h, i_c/G)                      lowered matrix, i_n·o_h rows of r_w·k_h·i_c
out         (i_n, o_h, o_w, k_c)                                output O, n-h-w-c
==========  ==================================================  =============================================

r_w, the image columns that some output column reads, is tuned MEC's r_h of the transposed image:
``lowered_rows.pxd`` serves both, here with the geometry of the transposed shape.  So horizontal padding takes no
memory.

Workspace, in elements:  i_n·o_h·r_w·k_h·i_c + |K|,  |K| = k_h·k_w·i_c/G·k_c, kept by a plan
(no |K| where k_h or k_w is 1, because K' is K then; nothing at all for a 1×k kernel that reads every column, with
vertical stride 1, no vertical padding, no dilation and one group: I is its own lowered matrix).

Any stride, padding, dilation and number of groups.  The price: the image is copied i_c elements at a time, where
MEC copies k_w·i_c.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.mec.lowered_rows cimport Band, ResidueClass, band_of_rows, image_row, residue_class
from pymec.kernels.mec.tuned cimport RowStrides, block_count, multiply_task
from pymec.kernels.shared.bias_relu cimport BiasRelu, bias_relu_of
from pymec.kernels.shared.blocking cimport GemmBlocking, blocking_of
from pymec.kernels.shared.geometry cimport Geometry, check_room, check_stage, geometry
from pymec.kernels.shared.interrupts cimport interrupted
from pymec.kernels.shared.patch cimport copy, zero
from pymec.kernels.shared.spans cimport Span, innermost, inside

# K in the order of a window: depends on the kernel alone ------------------------------------------------


cdef void permute_tap(const floating* K, floating* prepared, Py_ssize_t tap, const Geometry* g) noexcept nogil:
    """K'[b, a, :, :] = K[a, b, :, :], tap counting through b and a."""
    cdef Py_ssize_t size = g.i_cg * g.k_c, b = tap / g.k_h, a = tap % g.k_h
    copy(prepared + tap * size, K + (a * g.k_w + b) * size, size)


def prepare(const floating[:, :, :, ::1] kernel, floating[::1] prepared, shape, int n_threads=1, blocking=None):
    """K (k_h, k_w, i_c/G, k_c) to K' (k_w, k_h, i_c/G, k_c), or nothing where these are the same.

    ``blocking`` is not used: it is here because :func:`run` has it.
    """
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t tap
    check_stage(&g, n_threads, NULL, kernel.shape, NULL)
    check_room("prepared", prepared.shape[0], shape.permuted_kernel_size)
    if shape.permuted_kernel_size == 0:
        return
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* permuted = &prepared[0]
    with nogil:
        for tap in prange(g.k_h * g.k_w, num_threads=n_threads, schedule="static"):
            permute_tap(K, permuted, tap, &g)


# Lowering -----------------------------------------------------------------------------------------------


cdef void lower_strip(
    const floating* I, floating* L, Py_ssize_t task, const Band* band, const Geometry* g, const Geometry* t
) noexcept nogil:
    """The strip of one output row, counted through groups, images and output rows.

    The band's rows are image columns: it belongs to t, the transposed geometry.
    """
    cdef floating* to = L + task * band.rows * g.k_h * g.i_cg
    cdef Py_ssize_t top = innermost(&task, g.o_h) * g.s_h - g.p_t  # the image row under kernel row 0
    cdef Py_ssize_t n = innermost(&task, g.i_n), group = task
    cdef Span taps = inside(top, g.d_h, g.i_h, g.k_h)  # kernel rows inside the image, the others lie on padding
    cdef Py_ssize_t j, stored, w, h, a
    cdef ResidueClass c
    if interrupted():
        return
    for j in range(band.n_classes):
        c = residue_class(j, band, t)
        for stored in range(c.first, c.end):
            w = image_row(stored, &c, band, t)
            # L[n, y, w, a, 0:i_c] = I[n, h, w, 0:i_c] for all a,  h = s_h·y - p_t + d_h·a
            zero(to, taps.first * g.i_cg)
            for a in range(taps.first, taps.end):
                h = top + a * g.d_h
                copy(to + a * g.i_cg, I + ((n * g.i_h + h) * g.i_w + w) * g.i_c + group * g.i_cg, g.i_cg)
            zero(to + taps.end * g.i_cg, (g.k_h - taps.end) * g.i_cg)
            to += g.k_h * g.i_cg


def lower(const floating[:, :, :, ::1] x, floating[::1] L, shape, int n_threads=1):
    """Copy the horizontal strips of every image into ``L``, ``shape.mec_w_size`` elements.

    Afterwards it can be read as (G, i_n, o_h, r_w, k_h, i_c/G) with r_w = ``shape.lowered_columns()``.
    """
    cdef Geometry g = geometry(shape)
    cdef Geometry t = geometry(shape.transposed())
    cdef Band band = band_of_rows(0, g.o_w, &t)
    cdef Py_ssize_t task
    check_stage(&g, n_threads, x.shape, NULL, NULL)
    check_room("L", L.shape[0], shape.mec_w_size)
    if g.i_n == 0 or band.rows == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef floating* lowered = &L[0]
    with nogil:
        for task in prange(g.groups * g.i_n * g.o_h, num_threads=n_threads, schedule="static"):
            lower_strip(I, lowered, task, &band, &g, &t)


# The products -------------------------------------------------------------------------------------------


def multiply(const floating[::1] L, const floating[::1] prepared, floating[:, :, :, ::1] out, shape,
             blocking, int n_threads=1, const floating[::1] bias=None, bint relu=False):
    """o_w products of i_n·o_h rows, in blocks; ``prepared`` is K', ``blocking`` is for the transposed shape.

    O_x (i_n·o_h × k_c, rows o_w·k_c apart) = P_x (i_n·o_h × k_w·k_h·i_c) · K', P_x = L from column s_w·x of every
    strip on, its leading dimension a whole strip.
    """
    cdef Geometry g = geometry(shape)
    cdef Geometry t = geometry(shape.transposed())
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef GemmBlocking blocks = blocking_of(blocking)
    cdef Band band = band_of_rows(0, g.o_w, &t)
    # An output column is an output row of t; as in Solution A the images are one, i_n·o_h pixels wide.
    cdef RowStrides o = RowStrides(pixels=g.i_n * g.o_h, pixel_step=g.o_w * g.k_c, row_step=g.k_c)
    cdef Py_ssize_t images = 1, tasks = g.groups * block_count(g.o_w, &blocks, &g), task
    check_stage(&g, n_threads, NULL, NULL, out.shape)
    check_room("L", L.shape[0], shape.mec_w_size)
    check_room("prepared", prepared.shape[0], shape.kernel_size)
    if g.i_n == 0:
        return
    cdef const floating* lowered = &L[0] if L.shape[0] else NULL
    cdef const floating* K = &prepared[0]
    cdef floating* O = &out[0, 0, 0, 0]
    with nogil:
        for task in prange(tasks, num_threads=n_threads, schedule="static"):
            multiply_task(lowered, K, O, task, images, &o, &band, &blocks, &bias_relu, &t)


def run(x, kernel, out, workspace, shape, n_threads, blocking, prepared, bias=None, relu=False):
    """Lower the batch and multiply; ``prepared`` holds K' where it is not K."""
    if shape.permuted_kernel_size == 0:
        prepared = kernel.reshape(-1)
    if shape.is_row_of_taps:  # I is its own lowered matrix
        workspace = x.reshape(-1)
    else:
        lower(x, workspace, shape, n_threads)
    multiply(workspace, prepared, out, shape, blocking, n_threads, bias, relu)
