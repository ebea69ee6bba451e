"""The oracle: convolution in plain NumPy, in double precision, written to be obviously right.

Everything fast in pymec is compared with it.  It is itself compared with
``scipy.signal.correlate`` and with numbers worked out by hand, in ``tests/test_reference.py``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pymec.shapes import ConvShape


def conv2d(x: NDArray, kernel: NDArray, shape: ConvShape) -> NDArray[np.float64]:
    """Convolve n-h-w-c by h-w-i-o in float64.

    Parameters
    ----------
    x : array (i_n, i_h, i_w, i_c)
    kernel : array (k_h, k_w, i_c/G, k_c)
    shape : ConvShape

    Returns
    -------
    array (i_n, o_h, o_w, k_c), float64
    """
    s = shape
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), (s.p_t, s.p_b), (s.p_l, s.p_r), (0, 0)))
    weights = np.asarray(kernel, np.float64)
    out = np.zeros(s.output_shape)
    for h, w, c, a, b, m in _products(s):
        out[..., m] += padded[:, h, w, c] @ weights[a, b, :, m]
    return out


def _products(s: ConvShape) -> Iterator[tuple[slice, slice, slice, int, int, slice]]:
    """The rows, columns and channels of the padded input that kernel tap (a, b) meets, group by group."""
    for group in range(s.groups):
        c = slice(group * s.i_cg, (group + 1) * s.i_cg)
        m = slice(group * s.k_cg, (group + 1) * s.k_cg)
        for a in range(s.k_h):
            h = slice(a * s.d_h, a * s.d_h + (s.o_h - 1) * s.s_h + 1, s.s_h)
            for b in range(s.k_w):
                w = slice(b * s.d_w, b * s.d_w + (s.o_w - 1) * s.s_w + 1, s.s_w)
                yield h, w, c, a, b, m


def error_bound(x: NDArray, kernel: NDArray, shape: ConvShape) -> NDArray[np.float64]:
    """The largest rounding error of each output, in whatever order its products are summed.

    The error of a sum of n products, with unit roundoff u, is at most (n + 1)·u·sum\\|x·k\\|, to first order
    (Higham, *Accuracy and Stability of Numerical Algorithms*, section 3.1; the 1 is for storing the result).  Here
    n = k_h·k_w·i_c/G.

    Returns
    -------
    array (i_n, o_h, o_w, k_c), float64
    """
    n = shape.k_h * shape.k_w * shape.i_cg
    u = np.finfo(shape.dtype).eps / 2
    return (n + 1) * u * conv2d(np.abs(x), np.abs(kernel), shape)


# The gradients ------------------------------------------------------------------------------------------


def input_grad(grad_out: NDArray, kernel: NDArray, shape: ConvShape) -> NDArray[np.float64]:
    """The gradient with respect to the input, in float64: each product of the forward pass, backwards.

    Parameters
    ----------
    grad_out : array (i_n, o_h, o_w, k_c)
    kernel : array (k_h, k_w, i_c/G, k_c)
    shape : ConvShape

    Returns
    -------
    array (i_n, i_h, i_w, i_c), float64
    """
    s = shape
    grad = np.asarray(grad_out, np.float64)
    weights = np.asarray(kernel, np.float64)
    padded = np.zeros((s.i_n, s.p_t + s.i_h + s.p_b, s.p_l + s.i_w + s.p_r, s.i_c))
    for h, w, c, a, b, m in _products(s):
        padded[:, h, w, c] += grad[..., m] @ weights[a, b, :, m].T
    return padded[:, s.p_t : s.p_t + s.i_h, s.p_l : s.p_l + s.i_w]


def kernel_grad(x: NDArray, grad_out: NDArray, shape: ConvShape) -> NDArray[np.float64]:
    """The gradient with respect to the kernel, in float64.

    Parameters
    ----------
    x : array (i_n, i_h, i_w, i_c)
    grad_out : array (i_n, o_h, o_w, k_c)
    shape : ConvShape

    Returns
    -------
    array (k_h, k_w, i_c/G, k_c), float64
    """
    s = shape
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), (s.p_t, s.p_b), (s.p_l, s.p_r), (0, 0)))
    grad = np.asarray(grad_out, np.float64)
    out = np.zeros(s.kernel_shape)
    for h, w, c, a, b, m in _products(s):
        pixels = padded[:, h, w, c].reshape(-1, s.i_cg)  # a row for each output pixel
        out[a, b, :, m] = pixels.T @ grad[..., m].reshape(-1, s.k_cg)
    return out


def input_grad_bound(grad_out: NDArray, kernel: NDArray, shape: ConvShape) -> NDArray[np.float64]:
    """:func:`error_bound` for the input's gradient: sums of at most n = k_h·k_w·k_c/G products."""
    n = shape.k_h * shape.k_w * shape.k_cg
    return (n + 1) * np.finfo(shape.dtype).eps / 2 * input_grad(np.abs(grad_out), np.abs(kernel), shape)


def kernel_grad_bound(x: NDArray, grad_out: NDArray, shape: ConvShape) -> NDArray[np.float64]:
    """:func:`error_bound` for the kernel's gradient: sums of at most n = i_n·o_h·o_w products."""
    n = shape.i_n * shape.o_h * shape.o_w
    return (n + 1) * np.finfo(shape.dtype).eps / 2 * kernel_grad(np.abs(x), np.abs(grad_out), shape)
