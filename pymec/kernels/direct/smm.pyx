"""SMM-Conv: scalars times matrices, without a product of matrices (Amir Ofir & Gil Ben-Artzi, *SMM-Conv: Scalar
Matrix Multiplication with Zero Packing for Accelerated Convolution*, CVPR Workshops 2022, arXiv:2411.15659).

For one input channel and one kernel column, the numbers that the outputs will read are packed into a plane P, an
image row after the other.  What kernel row a contributes to all outputs is then that plane from row a on, times
a number of K: the shift is a step of the pointer, as in MEC, and each packed number serves k_h kernel rows and
all output channels.  The sums are added up in O itself, which is read and written k_h·k_w·i_c times.

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

from pymec.kernels.shared.bias_relu cimport BiasRelu, apply_relu, bias_relu_of, write_bias_or_zeros
from pymec.kernels.shared.geometry cimport Geometry, check_operands, check_room, check_threads, geometry
from pymec.kernels.shared.per_cpu cimport compiled_per_cpu
from pymec.kernels.shared.patch cimport clip, zero

cdef enum:
    WIDTH = 64  # output channels that one packed plane serves


cdef inline Py_ssize_t width_blocks(const Geometry* g) noexcept nogil:
    """Blocks of output channels in a group."""
    return (g.k_cg + WIDTH - 1) / WIDTH


# Stage 1: the plane -----------------------------------------------------------------------------------


cdef void pack_plane(
    const floating* I, floating* P, Py_ssize_t n, Py_ssize_t c, Py_ssize_t b, const Geometry* g
) noexcept nogil:
    """P[h, x] = I[n, h, x·s_w - p_l + b·d_w, c], zero on padding; c counts the channels of all groups."""
    cdef Py_ssize_t first = b * g.d_w - g.p_l
    # Columns before x0 and from x1 on lie on padding.
    cdef Py_ssize_t x0 = clip((g.s_w - 1 - first) / g.s_w if first < 0 else 0, 0, g.o_w)
    cdef Py_ssize_t x1 = clip((g.i_w - first + g.s_w - 1) / g.s_w if first < g.i_w else 0, x0, g.o_w)
    cdef const floating* row
    cdef Py_ssize_t h, x
    for h in range(g.i_h):
        row = I + ((n * g.i_h + h) * g.i_w + first) * g.i_c + c
        zero(P, x0)
        for x in range(x0, x1):
            P[x] = row[x * g.s_w * g.i_c]
        zero(P + x1, g.o_w - x1)
        P += g.o_w


# Stage 2: the updates ---------------------------------------------------------------------------------


cdef inline compiled_per_cpu update(
    const floating* P, const floating* K, floating* O, Py_ssize_t pixels, Py_ssize_t width, Py_ssize_t ldo
) noexcept nogil:
    """O (pixels × width) += P (pixels × 1) · K (1 × width), the pixels of O ldo elements apart."""
    cdef floating row[WIDTH]
    cdef floating value
    cdef Py_ssize_t m, x
    for m in range(width):
        row[m] = K[m]  # a copy of its own, so that the compiler knows that writing O doesn't change it
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
    const floating* P, const floating* K, floating* O, Py_ssize_t first, Py_ssize_t end, Py_ssize_t width,
    const Geometry* g
) noexcept nogil:
    """What one plane gives to output rows first .. end of a block of channels.

    K points at K[0, b, c, m], O at the image's first pixel.
    """
    cdef Py_ssize_t a, y, y0, y1, shift
    for a in range(g.k_h):
        shift = a * g.d_h - g.p_t  # output row y reads image row y·s_h + shift
        y0 = clip((g.s_h - 1 - shift) / g.s_h if shift < 0 else 0, first, end)
        y1 = clip((g.i_h - shift + g.s_h - 1) / g.s_h if shift < g.i_h else 0, y0, end)
        if g.s_h == 1:
            # All rows at once: the kernel row is a step of the pointer into P.
            update(P + (y0 + shift) * g.o_w, K, O + y0 * g.o_w * g.k_c, (y1 - y0) * g.o_w, width, g.k_c)
        else:
            for y in range(y0, y1):
                update(P + (y * g.s_h + shift) * g.o_w, K, O + y * g.o_w * g.k_c, g.o_w, width, g.k_c)
        K += g.k_w * g.i_cg * g.k_c


cdef void convolve_block(
    const floating* I, const floating* K, floating* O, floating* P, Py_ssize_t unit, const BiasRelu* bias_relu,
    const Geometry* g
) noexcept nogil:
    """One image and block of output channels, counted through images, groups and blocks.

    With ReLU the last plane goes output row by output row: what it ends is still in a cache.
    """
    cdef Py_ssize_t blocks = width_blocks(g)
    cdef Py_ssize_t n = unit / blocks / g.groups
    cdef Py_ssize_t group = unit / blocks % g.groups
    cdef Py_ssize_t m0 = group * g.k_cg + unit % blocks * WIDTH
    cdef Py_ssize_t width = min(WIDTH, (group + 1) * g.k_cg - m0)
    cdef Py_ssize_t b, c, y, row = g.o_w * g.k_c
    O += n * g.o_h * row
    write_bias_or_zeros(O, g.o_h * g.o_w, g.k_c, m0, m0 + width, bias_relu)
    for c in range(g.i_cg):
        for b in range(g.k_w):
            pack_plane(I, P, n, group * g.i_cg + c, b, g)
            if not bias_relu.relu or c < g.i_cg - 1 or b < g.k_w - 1:
                add_plane(P, K + (b * g.i_cg + c) * g.k_c + m0, O + m0, 0, g.o_h, width, g)
                continue
            for y in range(g.o_h):
                add_plane(P, K + (b * g.i_cg + c) * g.k_c + m0, O + m0, y, y + 1, width, g)
                apply_relu(O + y * row, g.o_w, g.k_c, m0, m0 + width, bias_relu)


cdef void convolve_share(
    const floating* I, const floating* K, floating* O, floating* P, Py_ssize_t share, Py_ssize_t shares,
    const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """Every block of one thread's share, through one plane."""
    cdef Py_ssize_t units = g.i_n * g.groups * width_blocks(g)
    cdef Py_ssize_t unit
    for unit in range(share * units / shares, (share + 1) * units / shares):
        convolve_block(I, K, O, P, unit, bias_relu, g)


# What Python calls -------------------------------------------------------------------------------------

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
    check_operands(&g, x.shape, NULL, NULL)
    check_room("P", P.shape[0], g.i_h * g.o_w)
    if not (0 <= n < g.i_n and 0 <= c < g.i_c and 0 <= b < g.k_w):
        raise ValueError(f"there is no image {n}, channel {c} and kernel column {b} in {shape}")
    with nogil:
        pack_plane(&x[0, 0, 0, 0], &P[0], n, c, b, &g)


def units(shape):
    """How many pieces the work has that share no output: no more threads than these have something to do."""
    return shape.i_n * shape.groups * -(-shape.k_cg // WIDTH)


def run(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
    floating[::1] workspace, shape, int n_threads=1, Py_ssize_t slices=1,
    const floating[::1] bias=None, bint relu=False,
):
    """Pack and add up plane after plane, on ``slices`` threads with a plane each; sums begin with the bias."""
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef Py_ssize_t size = g.i_h * g.o_w
    cdef Py_ssize_t share
    check_threads(n_threads)
    if not 1 <= slices <= 64:
        raise ValueError(f"slices must be from 1 to 64, got {slices}")
    check_operands(&g, x.shape, kernel.shape, out.shape)
    check_room("workspace", workspace.shape[0], slices * size)
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    cdef floating* P = &workspace[0]
    with nogil:
        for share in prange(slices, num_threads=slices, schedule="static", chunksize=1):
            convolve_share(I, K, O, P + share * size, share, slices, &bias_relu, &g)
