"""Pointwise convolution of planes: a 1×1 kernel and images in n-c-h-w, where nothing needs to be lowered.

    O[n, m, :] = sum over c of K[m, c] · I[n, c, :]

The planes of one image are the rows of a matrix, i_c × i_h·i_w, and the kernel is a matrix too.  So the
convolution is one product for each image and group, K (k_c/G × i_c/G) times I (i_c/G × i_h·i_w), which leaves O in
n-c-h-w.  Where the threads can't share images and groups evenly, it is cut into blocks of pixels, or of output
channels.  The bias and ReLU follow each block.

==========  =========================  =====================================================
array       shape                      role
==========  =========================  =====================================================
x           (i_n, i_c, i_h, i_w)       input I; as i_c/G × pixels with leading dimension i_h·i_w
kernel      (k_c, i_c/G, 1, 1)         kernel K; as k_c/G × i_c/G
out         (i_n, k_c, o_h, o_w)       output O; o_h·o_w = i_h·i_w
==========  =========================  =====================================================

Workspace, in elements:  0

Any number of groups.  Stride 1 without padding: otherwise the pixels under the kernel are not adjacent, and BLAS
knows no matrix whose columns lie apart.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.bias_relu cimport BiasRelu, bias_relu_of
from pymec.kernels.shared.blas cimport gemm_rowmajor
from pymec.kernels.shared.geometry cimport Geometry, check_extents, check_threads, geometry
from pymec.kernels.shared.per_cpu cimport compiled_per_cpu
from pymec.kernels.shared.spans cimport ceil_div, innermost


def keeps_pixels(shape):
    """Whether every output has a pixel of the image to itself, the one in its own place."""
    padded = shape.p_t or shape.p_b or shape.p_l or shape.p_r
    return shape.k_h == shape.k_w == shape.s_h == shape.s_w == 1 and not padded


cdef compiled_per_cpu finish_plane(floating* O, Py_ssize_t pixels, floating bias, bint relu) noexcept nogil:
    """Add the bias to some pixels of one channel, then apply ReLU; NaN stays NaN."""
    cdef Py_ssize_t i
    if relu:
        for i in range(pixels):
            O[i] = 0 if O[i] + bias < 0 else O[i] + bias
    else:
        for i in range(pixels):
            O[i] += bias


cdef void multiply_task(
    const floating* I, const floating* K, floating* O, Py_ssize_t task, Py_ssize_t pixels, Py_ssize_t channels,
    const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """One product; tasks count images, groups, blocks of output channels and of pixels."""
    cdef Py_ssize_t plane = g.i_h * g.i_w, m
    cdef Py_ssize_t first = innermost(&task, ceil_div(plane, pixels)) * pixels, width = min(pixels, plane - first)
    cdef Py_ssize_t m0 = innermost(&task, ceil_div(g.k_cg, channels)) * channels, rows = min(channels, g.k_cg - m0)
    cdef Py_ssize_t group = innermost(&task, g.groups), n = task
    cdef const floating* bias = <const floating*> bias_relu.bias
    I += (n * g.i_c + group * g.i_cg) * plane + first
    m0 += group * g.k_cg
    O += (n * g.k_c + m0) * plane + first
    gemm_rowmajor(rows, width, g.i_cg, K + m0 * g.i_cg, g.i_cg, I, plane, <floating> 0, O, plane)
    if bias != NULL or bias_relu.relu:
        for m in range(rows):
            finish_plane(O + m * plane, width, bias[m0 + m] if bias != NULL else 0, bias_relu.relu)


def run(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
    workspace, shape, int n_threads=1, const floating[::1] bias=None, bint relu=False, *,
    Py_ssize_t pixels, Py_ssize_t channels,
):
    """Multiply block by block: at most ``pixels`` of an image, and as many ``channels`` of a group's outputs.

    ``workspace`` is not used.
    """
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef Py_ssize_t task, tasks
    check_threads(n_threads)
    check_extents("x", x.shape, (g.i_n, g.i_c, g.i_h, g.i_w))
    check_extents("kernel", kernel.shape, (g.k_c, g.i_cg, g.k_h, g.k_w))
    check_extents("out", out.shape, (g.i_n, g.k_c, g.o_h, g.o_w))
    if not keeps_pixels(shape):
        raise ValueError(f"the kernel must be 1×1, the stride 1 and the padding 0, got {shape}")
    if pixels < 1 or channels < 1:
        raise ValueError(f"pixels and channels must be at least 1, got {pixels} and {channels}")
    pixels, channels = min(pixels, g.i_h * g.i_w), min(channels, g.k_cg)
    if g.i_n == 0:
        return
    tasks = g.i_n * g.groups * ceil_div(g.k_cg, channels) * ceil_div(g.i_h * g.i_w, pixels)
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    with nogil:
        for task in prange(tasks, num_threads=n_threads, schedule="static"):
            multiply_task(I, K, O, task, pixels, channels, &bias_relu, &g)
