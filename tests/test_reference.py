"""The oracle has two roots of its own: SciPy's correlate, and numbers worked out by hand."""

import numpy as np
import pytest
from cases import CASES, operands
from scipy import signal

from pymec import ConvShape, reference


def by_scipy(x, kernel, s):
    """Pad, correlate each channel pair, add up, and pick every stride-th; dilation by zeros in the kernel."""
    padded = np.pad(x.astype(np.float64), ((0, 0), (s.p_t, s.p_b), (s.p_l, s.p_r), (0, 0)))
    spread = np.zeros((s.e_h, s.e_w, s.i_cg, s.k_c))
    spread[:: s.d_h, :: s.d_w] = kernel
    out = np.zeros(s.output_shape)
    for n in range(s.i_n):
        for m in range(s.k_c):
            first = m // s.k_cg * s.i_cg
            for c in range(s.i_cg):
                full = signal.correlate(
                    padded[n, :, :, first + c], spread[:, :, c, m], mode="valid", method="direct"
                )
                out[n, :, :, m] += full[:: s.s_h, :: s.s_w][: s.o_h, : s.o_w]
    return out


# A Python loop over channel pairs would take minutes for the few larger ones.
SMALL = [case for case in CASES if case.shape().multiply_adds < 2e6]


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.motive)
def test_agrees_with_scipy(case):
    shape = case.shape("float64")
    x, kernel = operands(shape)
    expected = by_scipy(x, kernel, shape)
    assert np.abs(reference.conv2d(x, kernel, shape) - expected).max(initial=0) < 1e-11


def test_by_hand():
    """Figure 1 of the paper's kind: 3x3 input 1..9, 2x2 kernel 1..4."""
    x = np.arange(1.0, 10).reshape(1, 3, 3, 1)
    kernel = np.arange(1.0, 5).reshape(2, 2, 1, 1)
    out = reference.conv2d(x, kernel, ConvShape.from_shapes(x.shape, kernel.shape, dtype="float64"))
    # 1·1 + 2·2 + 4·3 + 5·4 = 37, and so on: no flip of the kernel.
    assert out.ravel().tolist() == [37, 47, 67, 77]


def test_by_hand_with_padding_and_stride():
    x = np.arange(1.0, 10).reshape(1, 3, 3, 1)
    kernel = np.arange(1.0, 5).reshape(2, 2, 1, 1)
    shape = ConvShape.from_shapes(x.shape, kernel.shape, dtype="float64", stride=2, padding=((1, 0), (1, 0)))
    # corner: 4·1; top: 3·2 + 4·3; left: 2·4 + 4·7; inside: 1·5 + 2·6 + 3·8 + 4·9
    assert reference.conv2d(x, kernel, shape).ravel().tolist() == [4, 18, 36, 77]


def test_by_hand_with_channels_and_groups():
    x = np.array([[[[1.0, 10.0]]]])
    kernel = np.array([[[[2.0, 3.0, 5.0, 7.0]]]])
    shape = ConvShape.from_shapes(x.shape, kernel.shape, dtype="float64", groups=2)
    assert reference.conv2d(x, kernel, shape).ravel().tolist() == [2, 3, 50, 70]


def test_error_bound_is_neither_broken_nor_idle():
    """One rounding per product and sum stays below it; a lost product does not."""
    shape = ConvShape.from_shapes((1, 9, 9, 16), (3, 3, 16, 8))
    x, kernel = operands(shape)
    exact = reference.conv2d(x, kernel, shape)
    bound = reference.error_bound(x, kernel, shape)
    in_float32 = np.zeros(shape.output_shape, np.float32)
    for a in range(3):
        for b in range(3):
            for c in range(16):
                in_float32 += x[:, a : a + 7, b : b + 7, c : c + 1] * kernel[a, b, c]
    assert (np.abs(in_float32 - exact) <= bound).all()
    lost = exact - x[:, 1:8, 1:8, :1] * np.float64(kernel[1, 1, 0])
    assert (np.abs(lost - exact) > bound).mean() > 0.9
