"""kn2row: a convolution as the sum of k_h·k_w shifted 1×1 convolutions (Vasudevan, Anderson & Gregg, *Parallel
Multi Channel Convolution using General Matrix Multiplication*, ASAP 2017).

Nothing of the input is copied: all its pixels are multiplied with one tap of K after the other, and each product
is a plane as large as the image.  The planes, shifted by their taps, add up to the output.  ``kn2row_aa`` keeps
a single plane and adds it before the next tap (Anderson, Vasudevan, Keane & Gregg, *Low-memory GEMM-based
convolution algorithms for deep neural networks*, 2017).

==========  ==================================  =======================================================
array       shape                               role
==========  ==================================  =======================================================
x           (i_n, i_h, i_w, i_c)                input I; an image is a matrix (i_h·i_w) × i_c
kernel      (k_h, k_w, i_c/G, k_c)              kernel K; a tap is a matrix i_c × k_c
planes      (k_h, k_w, i_h, i_w, k_c)           what each tap makes of each pixel; kn2row_aa: one tap's
out         (i_n, o_h, o_w, k_c)                output O
==========  ==================================  =======================================================

Workspace, in elements:  i_h·i_w·k_h·k_w·k_c   (``kn2row_aa``: i_h·i_w·k_c;  images take turns;  none for a 1×1
kernel with stride 1 and no padding, whose one plane is the output)

The paper, in NCHW, has one product for all taps.  In NHWC that is i_h·i_w × i_c × (k_h·k_w·k_c) and would need K
with i_c outermost; a product per tap reads K where it lies, computes the same numbers and leaves planes whose rows
can be added without gaps.  Any stride, padding, dilation and number of groups; but every pixel is multiplied with
every tap, so a stride wastes s_h·s_w - 1 of s_h·s_w products, which the shift-add then steps over.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.blas cimport gemm_rowmajor
from pymec.kernels.shared.bias_relu cimport BiasRelu, write_bias, apply_relu, bias_relu_of, write_bias_or_zeros
from pymec.kernels.shared.geometry cimport Geometry, check_operands, check_room, check_threads, geometry
from pymec.kernels.shared.blocking cimport GemmBlocking, check_block, blocking_of
from pymec.kernels.shared.per_cpu cimport compiled_per_cpu


# Stage 1: the products ----------------------------------------------------------------------------------


cdef void multiply_pixels(
    const floating* I, const floating* K, bint add, floating* S, Py_ssize_t pixels, Py_ssize_t m0, Py_ssize_t m1,
    const GemmBlocking* blocking, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """Adjacent pixels times channels m0 .. m1 of one tap: a piece of K meets all of them before the next.

    Each piece of S begins just before its first product, unless products are added, and ends right after its last.
    """
    cdef Py_ssize_t c = 0
    cdef Py_ssize_t pixel, n_pixels
    while c < g.i_cg:
        pixel = 0
        while pixel < pixels:
            n_pixels = min(blocking.columns, pixels - pixel)
            if c == 0 and not add:
                write_bias(S + pixel * g.k_c, n_pixels, g.k_c, m0, m1, bias_relu)
            # S (pixels × k_c) = I (pixels × i_c/G) · K_ab (i_c/G × k_c) + beta · S, in pieces
            gemm_rowmajor(n_pixels, m1 - m0, min(blocking.reduction, g.i_cg - c),
                          I + pixel * g.i_c + c, g.i_c, K + c * g.k_c + m0, g.k_c,
                          <floating> (add or c > 0 or bias_relu.bias != NULL), S + pixel * g.k_c + m0, g.k_c)
            if c + blocking.reduction >= g.i_cg:
                apply_relu(S + pixel * g.k_c, n_pixels, g.k_c, m0, m1, bias_relu)
            pixel += n_pixels
        c += blocking.reduction


cdef void multiply_unit(
    const floating* I, const floating* K, floating* planes, Py_ssize_t unit, Py_ssize_t tap0, Py_ssize_t block,
    const GemmBlocking* blocking, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """One unit of parallel work, counted through groups, taps, blocks of pixels and of channels."""
    cdef Py_ssize_t pixels = g.i_h * g.i_w
    cdef Py_ssize_t channel_blocks = (g.k_cg + blocking.channels - 1) / blocking.channels
    cdef Py_ssize_t pixel_blocks = (pixels + block - 1) / block
    cdef Py_ssize_t m0 = unit % channel_blocks * blocking.channels
    cdef Py_ssize_t first = unit / channel_blocks % pixel_blocks * block
    cdef Py_ssize_t tap = unit / channel_blocks / pixel_blocks / g.groups
    cdef Py_ssize_t group = unit / channel_blocks / pixel_blocks % g.groups
    cdef Py_ssize_t m = group * g.k_cg + m0
    multiply_pixels(I + first * g.i_c + group * g.i_cg, K + (tap0 + tap) * g.i_cg * g.k_c, False,
                    planes + (tap * pixels + first) * g.k_c, min(block, pixels - first),
                    m, m + min(blocking.channels, g.k_cg - m0), blocking, bias_relu, g)


def multiply(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[::1] planes, shape, taps,
    int n_threads=1, blocking=None, Py_ssize_t block=2**31 - 1, const floating[::1] bias=None, bint relu=False,
):
    """Stage 1: one image times the taps of a range, counted through kernel rows and columns.

    Parameters
    ----------
    x : array (1, i_h, i_w, i_c)
    kernel : array (k_h, k_w, i_c/G, k_c)
    planes : array, one-dimensional, at least len(taps)·i_h·i_w·k_c elements
    shape : pymec.ConvShape of one image
    taps : range
    n_threads : int
    blocking : pymec.kernels.shared.blocking.GemmBlocking, optional
        How products are cut; whole by default.
    block : int
        The most pixels that one thread takes at a time.
    bias, relu : array (k_c,), optional, and bool
        What the sums of each plane begin with, and whether what is below zero becomes zero: for a plane that is
        the output.
    """
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef GemmBlocking cut = blocking_of(blocking or (g.i_cg, g.i_h * g.i_w, g.k_cg, 1))
    cdef Py_ssize_t tap0 = taps.start
    cdef Py_ssize_t unit, units
    check_threads(n_threads)
    check_operands(&g, x.shape, kernel.shape, NULL)
    check_taps(shape, taps)
    check_room("planes", planes.shape[0], len(taps) * g.i_h * g.i_w * g.k_c)
    check_block(block)
    units = (len(taps) * g.groups * ((g.i_h * g.i_w + block - 1) / block)
             * ((g.k_cg + cut.channels - 1) / cut.channels))
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* target = &planes[0]
    with nogil:
        for unit in prange(units, num_threads=n_threads, schedule="static"):
            multiply_unit(I, K, target, unit, tap0, block, &cut, &bias_relu, &g)


# Stage 2: shift and add ---------------------------------------------------------------------------------


cdef inline Py_ssize_t outputs_before(Py_ssize_t position, Py_ssize_t stride, Py_ssize_t count) noexcept nogil:
    """How many of ``count`` outputs, a stride apart, come before a position."""
    return 0 if position <= 0 else min((position + stride - 1) / stride, count)


cdef inline compiled_per_cpu add_run(const floating* source, floating* target, Py_ssize_t count) noexcept nogil:
    """target += source, in registers of the CPU's own size."""
    cdef Py_ssize_t i
    for i in range(count):
        target[i] += source[i]


cdef void add_shifted(
    const floating* plane, floating* O, Py_ssize_t y, Py_ssize_t a, Py_ssize_t b, const Geometry* g
) noexcept nogil:
    """O[y, x, :] += plane[y·s_h - p_t + a·d_h, x·s_w - p_l + b·d_w, :] for the x of which this is on the image."""
    cdef Py_ssize_t h = y * g.s_h - g.p_t + a * g.d_h
    cdef Py_ssize_t left = b * g.d_w - g.p_l
    cdef Py_ssize_t first = outputs_before(-left, g.s_w, g.o_w)
    cdef Py_ssize_t end = outputs_before(g.i_w - left, g.s_w, g.o_w)
    cdef Py_ssize_t run = g.k_c if g.s_w > 1 else (end - first) * g.k_c  # adjacent in both
    if h < 0 or h >= g.i_h:
        return
    while first < end:
        add_run(plane + (h * g.i_w + first * g.s_w + left) * g.k_c, O + (y * g.o_w + first) * g.k_c, run)
        first += run / g.k_c


cdef void add_taps(
    const floating* planes, floating* O, Py_ssize_t y, Py_ssize_t tap0, Py_ssize_t tap1, const BiasRelu* bias_relu,
    const Geometry* g
) noexcept nogil:
    """One output row, the sum of a row of each plane: the bias before the first tap, ReLU after the last."""
    cdef Py_ssize_t tap
    if tap0 == 0:
        write_bias_or_zeros(O + y * g.o_w * g.k_c, g.o_w, g.k_c, 0, g.k_c, bias_relu)
    for tap in range(tap0, tap1):
        add_shifted(planes + (tap - tap0) * g.i_h * g.i_w * g.k_c, O, y, tap / g.k_w, tap % g.k_w, g)
    if tap1 == g.k_h * g.k_w:
        apply_relu(O + y * g.o_w * g.k_c, g.o_w, g.k_c, 0, g.k_c, bias_relu)


def shift_add(const floating[::1] planes, floating[:, :, :, ::1] out, shape, taps, int n_threads=1,
              const floating[::1] bias=None, bint relu=False):
    """Stage 2: add the planes of a range of taps to the output of one image.

    Tap 0 is added to the bias, or to zeros; with ``relu``, what is below zero after the last tap becomes zero.
    """
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef Py_ssize_t tap0 = taps.start, tap1 = taps.stop
    cdef Py_ssize_t y
    check_threads(n_threads)
    check_operands(&g, NULL, NULL, out.shape)
    check_taps(shape, taps)
    check_room("planes", planes.shape[0], len(taps) * g.i_h * g.i_w * g.k_c)
    cdef const floating* source = &planes[0]
    cdef floating* O = &out[0, 0, 0, 0]
    with nogil:
        for y in prange(g.o_h, num_threads=n_threads, schedule="static"):
            add_taps(source, O, y, tap0, tap1, &bias_relu, &g)


def check_taps(shape, taps):
    """Refuse what isn't a range of the kernel's taps, or a batch where one image is wanted."""
    if shape.i_n != 1:
        raise ValueError(f"the planes are those of one image, got a batch of {shape.i_n}")
    if not 0 <= taps.start < taps.stop <= shape.k_h * shape.k_w or taps.step != 1:
        raise ValueError(f"taps must be a range within range({shape.k_h * shape.k_w}), got {taps}")


def run(x, kernel, out, workspace, shape, n_threads=1, blocking=None, block=2**31 - 1, bias=None, relu=False):
    """kn2row: the planes of all taps, then their sum."""
    add_in_turns(x, kernel, out, workspace, shape, shape.k_h * shape.k_w, n_threads, blocking, block, bias, relu)


def run_aa(x, kernel, out, workspace, shape, n_threads=1, blocking=None, block=2**31 - 1, bias=None, relu=False):
    """kn2row_aa: each tap's plane is added before the next tap takes its place."""
    add_in_turns(x, kernel, out, workspace, shape, 1, n_threads, blocking, block, bias, relu)


def add_in_turns(x, kernel, out, workspace, shape, n_planes, n_threads=1, blocking=None, block=2**31 - 1,
                 bias=None, relu=False):
    """Both stages for so many taps at a time, image after image; sums begin with the bias."""
    image, n_taps = shape.single_image(), shape.k_h * shape.k_w
    for n in range(shape.i_n):
        for tap in range(0, n_taps, n_planes):
            taps = range(tap, min(tap + n_planes, n_taps))
            if shape.is_pointwise:
                multiply(x[n:n + 1], kernel, out[n].reshape(-1), image, taps, n_threads, blocking, block, bias, relu)
                continue
            multiply(x[n:n + 1], kernel, workspace, image, taps, n_threads, blocking, block)
            shift_add(workspace, out[n:n + 1], image, taps, n_threads, bias, relu)
