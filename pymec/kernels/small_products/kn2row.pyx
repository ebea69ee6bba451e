"""kn2row: a convolution as the sum of k_h·k_w shifted 1×1 convolutions (Vasudevan, Anderson & Gregg, *Parallel
Multi Channel Convolution using General Matrix Multiplication*, ASAP 2017).

Nothing of the input is copied: all its pixels are multiplied with one tap of K after the other, and each product
is a plane as large as the image.  The planes, shifted by their taps, add up to the output.  ``kn2row_aa`` keeps
a single plane and adds it before the next tap (Anderson, Vasudevan, Keane & Gregg, *Low-memory GEMM-based
convolution algorithms for deep neural networks*, 2017).

==========  ==================================  =======================================================
array       shape                               role
==========  ==================================  =======================================================
x           (i_n, i_h, i_w, i_c)                input I; an image is a matrix i_h·i_w × i_c
kernel      (k_h, k_w, i_c/G, k_c)              kernel K; a tap is a matrix i_c/G × k_c
planes      (k_h, k_w, i_h, i_w, k_c)           the image times each tap; kn2row_aa: times one tap
out         (i_n, o_h, o_w, k_c)                output O
==========  ==================================  =======================================================

Workspace, in elements:  i_h·i_w·k_h·k_w·k_c   (``kn2row_aa``: i_h·i_w·k_c;  images take turns;  none for a 1×1
kernel with stride 1 and no padding, whose one plane is the output)

The paper, in NCHW, has one product for all taps.  In NHWC that is i_h·i_w × i_c × k_h·k_w·k_c and would need K
with i_c outermost; a product per tap reads K where it lies and gives the same numbers.  Any stride, padding,
dilation and number of groups; but every pixel is multiplied with every tap, so with a stride s_h·s_w - 1 of
s_h·s_w products are computed in vain.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.blocked_product cimport blocked_gemm
from pymec.kernels.shared.blocking cimport GemmBlocking, blocking_of, check_block
from pymec.kernels.shared.geometry cimport Geometry, check_room, check_stage, geometry
from pymec.kernels.shared.interrupts cimport interrupted
from pymec.kernels.shared.patch cimport zero
from pymec.kernels.shared.per_cpu cimport compiled_per_cpu
from pymec.kernels.shared.spans cimport Span, ceil_div, innermost, inside

# Stage 1: every pixel times every tap -------------------------------------------------------------------


cdef void multiply_pixels(
    const floating* I, const floating* K, floating* planes, Py_ssize_t task, Py_ssize_t first_tap,
    Py_ssize_t block, const GemmBlocking* blocking, const Geometry* g
) noexcept nogil:
    """One task, counted through taps, groups, blocks of pixels and blocks of output channels."""
    cdef Py_ssize_t pixels = g.i_h * g.i_w
    cdef Py_ssize_t m = innermost(&task, ceil_div(g.k_cg, blocking.channels)) * blocking.channels
    cdef Py_ssize_t pixel = innermost(&task, ceil_div(pixels, block)) * block
    cdef Py_ssize_t group = innermost(&task, g.groups)
    # plane (pixels × k_c/G) = I (pixels × i_c/G) · K[a, b] (i_c/G × k_c/G)
    blocked_gemm(
        blocking, min(block, pixels - pixel), min(blocking.channels, g.k_cg - m), g.i_cg,
        I + pixel * g.i_c + group * g.i_cg, g.i_c,
        K + (first_tap + task) * g.i_cg * g.k_c + group * g.k_cg + m, g.k_c,
        False, planes + (task * pixels + pixel) * g.k_c + group * g.k_cg + m, g.k_c,
    )


def multiply(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[::1] planes, shape, taps,
    int n_threads=1, *, blocking, Py_ssize_t block,
):
    """Stage 1: one image times some taps.

    Parameters
    ----------
    x : array (1, i_h, i_w, i_c)
    kernel : array (k_h, k_w, i_c/G, k_c)
    planes : array, one-dimensional, at least len(taps)·i_h·i_w·k_c elements
    shape : pymec.ConvShape of one image
    taps : range
        Tap a·k_w + b is K[a, b].
    n_threads : int
    blocking : pymec.kernels.shared.blocking.GemmBlocking
        The blocks that products are cut into.
    block : int
        The most pixels that one thread takes at a time.
    """
    cdef Geometry g = geometry(shape)
    cdef GemmBlocking blocks = blocking_of(blocking)
    cdef Py_ssize_t first_tap = taps.start, task, tasks
    check_stage(&g, n_threads, x.shape, kernel.shape, NULL)
    check_taps(shape, taps)
    check_room("planes", planes.shape[0], len(taps) * g.i_h * g.i_w * g.k_c)
    check_block(block)
    tasks = len(taps) * g.groups * ceil_div(g.i_h * g.i_w, block) * ceil_div(g.k_cg, blocks.channels)
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* target = &planes[0]
    with nogil:
        for task in prange(tasks, num_threads=n_threads, schedule="static"):
            multiply_pixels(I, K, target, task, first_tap, block, &blocks, &g)


# Stage 2: shift and add ---------------------------------------------------------------------------------


cdef inline compiled_per_cpu add_run(const floating* source, floating* target, Py_ssize_t count) noexcept nogil:
    """target += source, in vectors of the CPU at hand."""
    cdef Py_ssize_t i
    for i in range(count):
        target[i] += source[i]


cdef void add_shifted(
    const floating* plane, floating* O, Py_ssize_t y, Py_ssize_t a, Py_ssize_t b, const Geometry* g
) noexcept nogil:
    """O[y, x, :] += plane[h, x·s_w + left, :] for every x whose tap (a, b) is inside the image."""
    cdef Py_ssize_t h = y * g.s_h - g.p_t + a * g.d_h
    cdef Py_ssize_t left = b * g.d_w - g.p_l
    cdef Span reached = inside(left, g.s_w, g.i_w, g.o_w)
    cdef Py_ssize_t x = reached.first
    cdef Py_ssize_t run = reached.end - reached.first if g.s_w == 1 else 1  # pixels adjacent in the plane and in O
    if h < 0 or h >= g.i_h:
        return
    while x < reached.end:
        add_run(plane + (h * g.i_w + x * g.s_w + left) * g.k_c, O + (y * g.o_w + x) * g.k_c, run * g.k_c)
        x += run


cdef void add_planes(
    const floating* planes, floating* O, Py_ssize_t y, Py_ssize_t first_tap, Py_ssize_t end_tap, const Geometry* g
) noexcept nogil:
    """Output row y: zeros before tap 0, then a row of each plane is added."""
    cdef Py_ssize_t tap
    if interrupted():
        return
    if first_tap == 0:
        zero(O + y * g.o_w * g.k_c, g.o_w * g.k_c)
    for tap in range(first_tap, end_tap):
        add_shifted(planes + (tap - first_tap) * g.i_h * g.i_w * g.k_c, O, y, tap / g.k_w, tap % g.k_w, g)


def shift_add(const floating[::1] planes, floating[:, :, :, ::1] out, shape, taps, int n_threads=1):
    """Stage 2: add the planes of some taps to the output of one image; tap 0 begins with zeros."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t first_tap = taps.start, end_tap = taps.stop
    cdef Py_ssize_t y
    check_stage(&g, n_threads, NULL, NULL, out.shape)
    check_taps(shape, taps)
    check_room("planes", planes.shape[0], len(taps) * g.i_h * g.i_w * g.k_c)
    cdef const floating* source = &planes[0]
    cdef floating* O = &out[0, 0, 0, 0]
    with nogil:
        for y in prange(g.o_h, num_threads=n_threads, schedule="static"):
            add_planes(source, O, y, first_tap, end_tap, &g)


def check_taps(shape, taps):
    """Refuse what isn't a range of the kernel's taps, or a batch where one image is wanted."""
    if shape.i_n != 1:
        raise ValueError(f"the planes are those of one image, got a batch of {shape.i_n}")
    if not 0 <= taps.start < taps.stop <= shape.k_h * shape.k_w or taps.step != 1:
        raise ValueError(f"taps must be a range within range({shape.k_h * shape.k_w}), got {taps}")


# The algorithms -----------------------------------------------------------------------------------------


def run(x, kernel, out, workspace, shape, n_threads=1, *, blocking, block):
    """kn2row, image after image: the planes of all taps, then their sum."""
    all_taps = range(shape.k_h * shape.k_w)
    add_taps(x, kernel, out, workspace, shape, [all_taps], n_threads, blocking, block)


def run_aa(x, kernel, out, workspace, shape, n_threads=1, *, blocking, block):
    """kn2row_aa, image after image: each tap's plane is added before the next tap takes its place."""
    one_by_one = [range(tap, tap + 1) for tap in range(shape.k_h * shape.k_w)]
    add_taps(x, kernel, out, workspace, shape, one_by_one, n_threads, blocking, block)


def add_taps(x, kernel, out, workspace, shape, turns, n_threads, blocking, block):
    """Both stages for each range of taps in ``turns``."""
    image = shape.single_image()
    for n in range(shape.i_n):
        if shape.is_pointwise:  # the only plane is the output
            multiply(x[n:n + 1], kernel, out[n].reshape(-1), image, range(1), n_threads,
                     blocking=blocking, block=block)
            continue
        for taps in turns:
            multiply(x[n:n + 1], kernel, workspace, image, taps, n_threads, blocking=blocking, block=block)
            shift_add(workspace, out[n:n + 1], image, taps, n_threads)
