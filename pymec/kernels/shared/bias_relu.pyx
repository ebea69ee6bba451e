"""Bias and ReLU as a pass of their own, for algorithms that do neither in their last write."""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.geometry cimport check_threads


cdef void finish_row(
    floating* O, Py_ssize_t row, Py_ssize_t o_w, Py_ssize_t k_c, const BiasRelu* bias_relu
) noexcept nogil:
    """One output row of one image."""
    finish_pixels(O + row * o_w * k_c, o_w, k_c, 0, k_c, bias_relu)


def finish(floating[:, :, :, ::1] out, const floating[::1] bias=None, bint relu=False, int n_threads=1):
    """out = max(out + bias, 0), each part only if it is asked for.

    Parameters
    ----------
    out : array (i_n, o_h, o_w, k_c)
    bias : array (k_c,), optional
    relu : bool
    n_threads : int
    """
    cdef Py_ssize_t i_n = out.shape[0], o_h = out.shape[1], o_w = out.shape[2], k_c = out.shape[3], row
    cdef BiasRelu bias_relu = BiasRelu(NULL, relu)
    check_threads(n_threads)
    if bias is not None:
        if bias.shape[0] != k_c:
            raise ValueError(f"bias has {bias.shape[0]} elements, but out has {k_c} channels")
        bias_relu.bias = &bias[0]
    if i_n == 0 or (bias is None and not relu):
        return
    cdef floating* O = &out[0, 0, 0, 0]
    with nogil:
        for row in prange(i_n * o_h, num_threads=n_threads, schedule="static"):
            finish_row(O, row, o_w, k_c, &bias_relu)
