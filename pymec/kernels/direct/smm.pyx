"""SMM-Conv: scalars times matrices, without a product of matrices (Amir Ofir & Gil Ben-Artzi, *SMM-Conv: Scalar
Matrix Multiplication with Zero Packing for Accelerated Convolution*, CVPR Workshops 2022, arXiv:2411.15659).

For one input channel and one kernel column, the numbers that the outputs will read are packed into a plane P, an
image row after the other.  Kernel row a contributes that plane from row a on, times a number of K, to all
outputs: the shift is a step of the pointer, as in MEC, and each packed number serves k_h kernel rows and all
output channels.  The sums are added up in O itself, which is read and written k_h·k_w·i_c times.

==========  =========================  ====================================================================
array       shape                      role
==========  =========================  ====================================================================
x           (i_n, i_h, i_w, i_c)       input I
kernel      (k_h, k_w, i_c/G, k_c)     kernel K
P           (slices, i_h, o_w)         a plane per thread: P[h, x] = I[n, h, x·s_w - p_l + b·d_w, c]
out         (i_n, o_h, o_w, k_c)       output O
==========  =========================  ====================================================================

Workspace, in elements:  slices·i_h·o_w, slices <= n_threads

What n-h-w-c changes.  The authors have n-c-h-w, where rows of P and of an output channel's plane lie contiguous:
packing moves whole runs, and the inner loop is one scalar of K times a row of P.  Here neighbours in a plane are
i_c or k_c elements apart.  So packing gathers single numbers, and the inner loop goes along the output channels
instead: the update of rank one O[y, x, m] += P[y·s_h + a·d_h - p_t, x] · K[a, b, c, m] takes the number from P
and the row from K.  Sixty-four output channels are taken at a time: P is packed again for the next ones, and
meanwhile less of O has to stay in cache.

The authors' code does stride 1 alone.  Here more costs little: P is zero on padding left and right, rows above and
below the image are left out, and with a vertical stride the update goes output row by output row.  So any stride,
padding, dilation and number of groups.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.geometry cimport Geometry, check_room, check_stage, geometry
from pymec.kernels.shared.interrupts cimport interrupted
from pymec.kernels.shared.patch cimport zero
from pymec.kernels.shared.per_cpu cimport compiled_per_cpu
from pymec.kernels.shared.spans cimport Span, ceil_div, innermost, inside, share_of

cdef enum:
    WIDTH = 64  # output channels that one packed plane serves


# Stage 1: the plane -------------------------------------------------------------------------------------


cdef void pack_plane(
    const floating* I, floating* P, Py_ssize_t n, Py_ssize_t c, Py_ssize_t b, const Geometry* g
) noexcept nogil:
    """P[h, x] = I[n, h, x·s_w - p_l + b·d_w, c], zero on padding; c counts the channels of all groups."""
    cdef Py_ssize_t first = b * g.d_w - g.p_l, h, x
    cdef Span columns = inside(first, g.s_w, g.i_w, g.o_w)  # the outputs that read no padding
    cdef const floating* row
    for h in range(g.i_h):
        row = I + ((n * g.i_h + h) * g.i_w + first) * g.i_c + c
        zero(P, columns.first)
        for x in range(columns.first, columns.end):
            P[x] = row[x * g.s_w * g.i_c]
        zero(P + columns.end, g.o_w - columns.end)
        P += g.o_w


def pack(const floating[:, :, :, ::1] x, floating[::1] P, shape, Py_ssize_t n, Py_ssize_t c, Py_ssize_t b):
    """Stage 1: the plane of image n, input channel c and kernel column b.

    Parameters
    ----------
    x : array (i_n, i_h, i_w, i_c)
    P : array, one-dimensional, at least i_h·o_w elements
        Afterwards, read as (i_h, o_w).
    shape : pymec.ConvShape
    n, c, b : int
    """
    cdef Geometry g = geometry(shape)
    check_stage(&g, 1, x.shape, NULL, NULL)
    check_room("P", P.shape[0], g.i_h * g.o_w)
    if not (0 <= n < g.i_n and 0 <= c < g.i_c and 0 <= b < g.k_w):
        raise ValueError(f"there is no image {n}, channel {c} and kernel column {b} in {shape}")
    with nogil:
        pack_plane(&x[0, 0, 0, 0], &P[0], n, c, b, &g)


# Stage 2: the updates -----------------------------------------------------------------------------------


cdef inline compiled_per_cpu update(
    const floating* P, const floating* K, floating* O, Py_ssize_t pixels, Py_ssize_t width, Py_ssize_t ldo
) noexcept nogil:
    """O (pixels × width) += P (pixels × 1) · K (1 × width), the pixels of O ldo elements apart."""
    cdef floating row[WIDTH]
    cdef floating value
    cdef Py_ssize_t m, x
    for m in range(width):
        row[m] = K[m]  # a local copy: the compiler then knows that writing O doesn't change it
    for x in range(pixels):
        value = P[x]
        if width == WIDTH:  # a constant count: the row stays in registers
            for m in range(WIDTH):
                O[m] += value * row[m]
        else:
            for m in range(width):
                O[m] += value * row[m]
        O += ldo


cdef void add_plane(
    const floating* P, const floating* K, floating* O, Py_ssize_t width, const Geometry* g
) noexcept nogil:
    """A plane's contribution to an image's block of channels.  K points at K[0, b, c, m], O at O[n, 0, 0, m]."""
    cdef Py_ssize_t a, y, shift
    cdef Span rows
    for a in range(g.k_h):
        shift = a * g.d_h - g.p_t  # output row y reads image row y·s_h + shift
        rows = inside(shift, g.s_h, g.i_h, g.o_h)
        if g.s_h == 1:
            # All rows at once: the kernel row is a step of the pointer into P.
            update(P + (rows.first + shift) * g.o_w, K, O + rows.first * g.o_w * g.k_c,
                   (rows.end - rows.first) * g.o_w, width, g.k_c)
        else:
            for y in range(rows.first, rows.end):
                update(P + (y * g.s_h + shift) * g.o_w, K, O + y * g.o_w * g.k_c, g.o_w, width, g.k_c)
        K += g.k_w * g.i_cg * g.k_c


cdef void convolve_block(
    const floating* I, const floating* K, floating* O, floating* P, Py_ssize_t task, const Geometry* g
) noexcept nogil:
    """One image and block of output channels."""
    cdef Py_ssize_t m0 = innermost(&task, ceil_div(g.k_cg, WIDTH)) * WIDTH, width = min(WIDTH, g.k_cg - m0)
    cdef Py_ssize_t group = innermost(&task, g.groups), n = task
    cdef Py_ssize_t b, c, pixel
    O += n * g.o_h * g.o_w * g.k_c + group * g.k_cg + m0
    K += group * g.k_cg + m0
    for pixel in range(g.o_h * g.o_w):
        zero(O + pixel * g.k_c, width)
    for c in range(g.i_cg):
        if interrupted():
            return
        for b in range(g.k_w):
            pack_plane(I, P, n, group * g.i_cg + c, b, g)
            add_plane(P, K + (b * g.i_cg + c) * g.k_c, O, width, g)


cdef void convolve_share(
    const floating* I, const floating* K, floating* O, floating* P, Py_ssize_t share, Py_ssize_t shares,
    const Geometry* g
) noexcept nogil:
    """Every block of one thread's share, through one plane."""
    cdef Span tasks = share_of(g.i_n * g.groups * ceil_div(g.k_cg, WIDTH), share, shares)
    cdef Py_ssize_t task
    for task in range(tasks.first, tasks.end):
        convolve_block(I, K, O, P, task, g)


def n_tasks(shape):
    """Images times blocks of output channels: no more threads than these have something to do."""
    return shape.i_n * shape.groups * -(-shape.k_cg // WIDTH)


def run(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
    floating[::1] workspace, shape, int n_threads, Py_ssize_t slices,
):
    """Pack and add up plane after plane, on ``slices`` threads with a plane each."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t size = g.i_h * g.o_w
    cdef Py_ssize_t share
    check_stage(&g, n_threads, x.shape, kernel.shape, out.shape)
    if not 1 <= slices <= 64:
        raise ValueError(f"slices must be from 1 to 64, got {slices}")
    check_room("workspace", workspace.shape[0], slices * size)
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    cdef floating* P = &workspace[0]
    with nogil:
        for share in prange(slices, num_threads=slices, schedule="static", chunksize=1):
            convolve_share(I, K, O, P + share * size, share, slices, &g)
