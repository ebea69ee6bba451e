"""What torch and SciPy offer for the forward convolutions of ``anywhere.py``, called as their users call it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from _peers import CannotDo, symmetric_padding, to_oihw
from numpy.typing import NDArray

import pymec

Call = Callable[[], Any]


def peers(s: pymec.ConvShape, x: NDArray, kernel: NDArray, n_threads: int) -> dict[str, Call]:
    """A call of everybody who is installed and can do the convolution; answers in n-h-w-c."""
    found = {}
    for name, make in (
        ("torch", torch_call),
        ("ndimage", ndimage_call),
        ("scipy direct", scipy_direct),
        ("scipy oaconvolve", scipy_oaconvolve),
    ):
        try:
            found[name] = make(s, x, kernel, n_threads)
        except (CannotDo, ImportError):
            continue
    return found


def torch_call(s: pymec.ConvShape, x: NDArray, kernel: NDArray, n_threads: int) -> Call:
    """``conv2d`` on channels-last tensors, or on contiguous ones where there is a single channel."""
    import torch

    torch.set_num_threads(n_threads)
    where = {"stride": (s.s_h, s.s_w), "padding": symmetric_padding(s), "dilation": (s.d_h, s.d_w)}
    image = torch.from_numpy(x).permute(0, 3, 1, 2)
    weight = torch.from_numpy(to_oihw(kernel)).contiguous(memory_format=torch.channels_last)

    def run() -> NDArray:
        with torch.inference_mode():
            return np.asarray(
                torch.nn.functional.conv2d(image, weight, **where, groups=s.groups).permute(0, 2, 3, 1)
            )

    return run


def one_channel(s: pymec.ConvShape) -> None:
    """SciPy filters planes: one channel in and out, odd filters, stride 1, zeros as far as the filter reaches."""
    same = (s.p_t, s.p_b, s.p_l, s.p_r) == (s.k_h // 2, s.k_h // 2, s.k_w // 2, s.k_w // 2)
    plain = (s.i_n, s.i_c, s.k_c, s.s_h, s.s_w, s.d_h, s.d_w) == (1,) * 7
    if not (same and plain and s.k_h % 2 and s.k_w % 2):
        raise CannotDo


def ndimage_call(s: pymec.ConvShape, x: NDArray, kernel: NDArray, n_threads: int) -> Call:
    """``scipy.ndimage.correlate``."""
    from scipy import ndimage

    one_channel(s)
    return lambda: ndimage.correlate(x[0, ..., 0], kernel[..., 0, 0], mode="constant")[None, ..., None]


def scipy_direct(s: pymec.ConvShape, x: NDArray, kernel: NDArray, n_threads: int) -> Call:
    """``scipy.signal.correlate`` by the definition."""
    from scipy import signal

    one_channel(s)
    if s.multiply_adds > 3e9:
        raise CannotDo
    return lambda: signal.correlate(x[0, ..., 0], kernel[..., 0, 0], "same", "direct")[None, ..., None]


def scipy_oaconvolve(s: pymec.ConvShape, x: NDArray, kernel: NDArray, n_threads: int) -> Call:
    """``scipy.signal.oaconvolve``, by Fourier transforms: to be compared with ``accuracy="fast"``."""
    from scipy import signal

    one_channel(s)
    return lambda: signal.oaconvolve(x[0, ..., 0], kernel[::-1, ::-1, 0, 0], "same")[None, ..., None]
