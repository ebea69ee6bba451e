"""Indirect convolution: a buffer of pointers in place of a lowered matrix (Marat Dukhan, *The Indirect
Convolution Algorithm*, 2019, arXiv:1907.02129).

im2col copies, for every output pixel and tap, the i_c numbers that the two have in common; here only the address
of those numbers is stored.  A tap on padding gets the address of i_c zeros.  The inner loop reads the addresses
of a tile of pixels, tap by tap, and multiplies the numbers behind them, which BLAS can't do.

==========  =========================  ========================================================================
array       shape                      role
==========  =========================  ========================================================================
x           (i_n, i_h, i_w, i_c)       input I
kernel      (k_h, k_w, i_c/G, k_c)     kernel K
buffer      (tiles, k_h·k_w, 6)        a pointer per output pixel of one image and tap; the pixels of a tile of
                                       six side by side, in the last tile as many as are left
zeros       (i_c,)                     behind the buffer: what taps on padding point to
out         (i_n, o_h, o_w, k_c)       output O
==========  =========================  ========================================================================

Workspace, in elements:  ⌈8·k_h·k_w·o_h·o_w / itemsize⌉ + i_c, 8 being the bytes of a pointer

The pointers are those of the first image.  In the others everything lies at the same distance, so one number
added to a pointer does for the whole batch; the zeros alone stay where they are.  With few input channels a
pointer is hardly smaller than the numbers behind it: MEC's lowered matrix may then be smaller than the buffer.

Any stride, padding, dilation and number of groups.
"""

from cython cimport floating
from cython.parallel import prange
from libc.string cimport memcpy

from pymec.kernels.shared.bias_relu cimport BiasRelu, bias_relu_of
from pymec.kernels.shared.geometry cimport Geometry, check_room, check_stage, geometry
from pymec.kernels.shared.interrupts cimport interrupted
from pymec.kernels.shared.microkernel cimport (
    PIXELS, POINTERS, SUMS, TAPS, ChannelBlock, begin_sums, channel_block, channel_blocks, end_sums, multiply_add,
    store,
)
from pymec.kernels.shared.patch cimport zero
from pymec.kernels.shared.spans cimport ceil_div, innermost

POINTER_BYTES = sizeof(void*)

# Stage 1: the buffer ------------------------------------------------------------------------------------


cdef void point_tile(
    const floating* I, const floating* zeros, char* buffer, Py_ssize_t tile, const Geometry* g
) noexcept nogil:
    """The pointers of one tile: tap after tap, the pixels side by side."""
    cdef Py_ssize_t first = tile * PIXELS, pixels = min(PIXELS, g.o_h * g.o_w - first)
    cdef Py_ssize_t a, b, h, w, p, x, y
    cdef const floating* address
    buffer += first * g.k_h * g.k_w * sizeof(void*)
    for p in range(pixels):
        y, x = (first + p) / g.o_w, (first + p) % g.o_w
        for a in range(g.k_h):
            for b in range(g.k_w):
                h, w = y * g.s_h - g.p_t + a * g.d_h, x * g.s_w - g.p_l + b * g.d_w
                address = I + (h * g.i_w + w) * g.i_c if 0 <= h < g.i_h and 0 <= w < g.i_w else zeros
                # A workspace is aligned to its elements, which may be smaller than pointers: these move as bytes.
                memcpy(buffer + ((a * g.k_w + b) * pixels + p) * sizeof(void*), &address, sizeof(void*))


def buffer_size(shape):
    """Elements of workspace that the pointers take: their bytes, rounded up to whole elements."""
    return -(-shape.o_h * shape.o_w * shape.k_h * shape.k_w * POINTER_BYTES // shape.itemsize)


def point(const floating[:, :, :, ::1] x, floating[::1] workspace, shape, int n_threads=1):
    """Stage 1: write the pointers of one image into the workspace, and the zeros behind them.

    Parameters
    ----------
    x : array (i_n, i_h, i_w, i_c)
        Only its address is used.
    workspace : array, one-dimensional, at least ``buffer_size(shape) + i_c`` elements
    shape : pymec.ConvShape
    n_threads : int
    """
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t size = buffer_size(shape), tile
    check_stage(&g, n_threads, x.shape, NULL, NULL)
    check_room("workspace", workspace.shape[0], size + g.i_c)
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef char* buffer = <char*> &workspace[0]
    cdef floating* zeros = &workspace[size]
    zero(zeros, g.i_c)
    with nogil:
        for tile in prange(ceil_div(g.o_h * g.o_w, PIXELS), num_threads=n_threads, schedule="static"):
            point_tile(I, zeros, buffer, tile, &g)


# Stage 2: the products ----------------------------------------------------------------------------------


cdef inline const floating* pointer_at(
    const char* entry, const floating* zeros, Py_ssize_t distance
) noexcept nogil:
    """A pointer of the buffer, moved on to another image and group; not if it points to the zeros."""
    cdef const floating* address
    memcpy(&address, entry, sizeof(void*))
    return zeros if address == zeros else address + distance


cdef void convolve_tile(
    const floating* zeros, const floating* K, floating* O, const char* buffer, Py_ssize_t task,
    const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """One tile by one block of channels; tiles count fastest, so a block's part of K stays in cache."""
    cdef Py_ssize_t first = innermost(&task, ceil_div(g.o_h * g.o_w, PIXELS)) * PIXELS
    cdef Py_ssize_t pixels = min(PIXELS, g.o_h * g.o_w - first)
    cdef Py_ssize_t n = innermost(&task, g.i_n), block = innermost(&task, channel_blocks(g)), group = task
    cdef Py_ssize_t distance = n * g.i_h * g.i_w * g.i_c + group * g.i_cg
    cdef ChannelBlock channels = channel_block(group, block, g)
    cdef const floating* pixel[POINTERS]
    cdef floating sums[SUMS]
    cdef Py_ssize_t tap = 0, taps, p, t
    if interrupted():
        return
    buffer += first * g.k_h * g.k_w * sizeof(void*)
    begin_sums(sums, &channels, bias_relu)
    while tap < g.k_h * g.k_w:
        taps = min(TAPS, g.k_h * g.k_w - tap)
        for t in range(taps):
            for p in range(PIXELS):  # past the tile's last pixel, that one again
                pixel[t * PIXELS + p] = pointer_at(
                    buffer + ((tap + t) * pixels + min(p, pixels - 1)) * sizeof(void*), zeros, distance)
        # sums (6 × 16) += the pixels that the taps' pointers point to (6 × taps·i_c/G) · K[taps] (taps·i_c/G × 16)
        multiply_add(pixel, taps, K + tap * g.i_cg * g.k_c + channels.start, g.k_c, g.i_cg, channels.width, sums)
        tap += TAPS
    end_sums(sums, bias_relu)
    store(sums, O + (n * g.o_h * g.o_w + first) * g.k_c, pixels, &channels, g)


def multiply(const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
             const floating[::1] workspace, shape, int n_threads=1, const floating[::1] bias=None,
             bint relu=False):
    """Stage 2: convolve the batch through the pointers that :func:`point` has written for this ``x``.

    Sums begin with the ``bias``; ReLU is applied as they are stored.
    """
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef Py_ssize_t tasks = g.groups * channel_blocks(&g) * g.i_n * ceil_div(g.o_h * g.o_w, PIXELS)
    cdef Py_ssize_t size = buffer_size(shape), task
    check_stage(&g, n_threads, x.shape, kernel.shape, out.shape)
    check_room("workspace", workspace.shape[0], size + g.i_c)
    if g.i_n == 0:
        return
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    cdef const char* buffer = <const char*> &workspace[0]
    cdef const floating* zeros = &workspace[size]
    with nogil:
        for task in prange(tasks, num_threads=n_threads, schedule="static"):
            convolve_tile(zeros, K, O, buffer, task, &bias_relu, &g)


def run(x, kernel, out, workspace, shape, n_threads=1, bias=None, relu=False):
    """``indirect``: a pointer per output pixel of an image and tap, for the whole batch."""
    point(x, workspace, shape, n_threads)
    multiply(x, kernel, out, workspace, shape, n_threads, bias, relu)
