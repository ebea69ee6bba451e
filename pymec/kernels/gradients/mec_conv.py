"""The input's gradient as a forward convolution, by MEC (ours; the identity is textbook knowledge).

dI is the convolution of dO with the kernel turned by 180 degrees, its input and output channels swapped.  A
stride spreads dO out, with s_h - 1 and s_w - 1 zeros between its pixels; padding is what makes the sizes fit.  So
every output element is one sum that a forward algorithm computes, with no overlapping writes, and MEC's
workspace depends on k_c here, not on i_c.

==========  ==============================================  ==================================================
array       shape                                           role
==========  ==============================================  ==================================================
grad_out    (i_n, o_h, o_w, k_c)                            the output's gradient dO
kernel      (k_h, k_w, i_c/G, k_c)                          kernel K
turned      (k_h, k_w, k_c/G, i_c)                          K turned and swapped, group by group: K'
spread      (i_n, (o_h-1)·s_h + 1, (o_w-1)·s_w + 1, k_c)    dO with zeros between its pixels; dO itself if s = 1
grad_x      (i_n, i_h, i_w, i_c)                            the input's gradient dI
==========  ==============================================  ==================================================

Workspace, in elements:  |K|, which a plan keeps as K', and MEC's |L| for that convolution; if a stride is not 1
also the spread gradient's i_n·((o_h-1)·s_h + 1)·((o_w-1)·s_w + 1)·k_c.

Any stride, dilation and number of groups; padding at the top and left up to d·(k - 1), and the same at the
other sides: more would mean cutting dO, and rows of dI that nothing was read from.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pymec.kernels.gradients import flipped_kernel as _turned
from pymec.kernels.mec import tuned as mec
from pymec.shapes import ConvShape


@lru_cache(maxsize=256)
def as_convolution(shape: ConvShape) -> ConvShape | None:
    """The forward convolution that computes the input's gradient of ``shape``; None if there is none."""
    spread_h, spread_w = (shape.o_h - 1) * shape.s_h + 1, (shape.o_w - 1) * shape.s_w + 1
    top, left = shape.e_h - 1 - shape.p_t, shape.e_w - 1 - shape.p_l
    # As much at the end as makes the result i_h × i_w, rows that no output has read included.
    bottom = shape.i_h - spread_h - top + shape.e_h - 1
    right = shape.i_w - spread_w - left + shape.e_w - 1
    if min(top, bottom, left, right) < 0:
        return None
    return ConvShape.from_shapes(
        (shape.i_n, spread_h, spread_w, shape.k_c),
        (shape.k_h, shape.k_w, shape.k_cg, shape.i_c),
        padding=((top, bottom), (left, right)),
        dilation=(shape.d_h, shape.d_w),
        groups=shape.groups,
        dtype=shape.dtype,
    )


def spread_size(shape: ConvShape) -> int:
    """Elements of dO with the stride's zeros in it; none where the stride is 1."""
    if shape.s_h == shape.s_w == 1:
        return 0
    return shape.i_n * ((shape.o_h - 1) * shape.s_h + 1) * ((shape.o_w - 1) * shape.s_w + 1) * shape.k_c


def turn_kernel(kernel: NDArray, turned: NDArray, shape: ConvShape, n_threads: int = 1, **options: Any) -> None:
    """K' (:func:`pymec.kernels.gradients.flipped_kernel.turn`); the options are those of ``run_input_grad``."""
    _turned.turn(kernel, turned, shape, n_threads)


def spread(grad_out: NDArray, room: NDArray, shape: ConvShape) -> NDArray:
    """dO with s_h - 1 rows and s_w - 1 columns of zeros between its pixels, in ``room``."""
    extents = (shape.i_n, (shape.o_h - 1) * shape.s_h + 1, (shape.o_w - 1) * shape.s_w + 1, shape.k_c)
    wide = room[: spread_size(shape)].reshape(extents)
    wide.fill(0)
    np.copyto(wide[:, :: shape.s_h, :: shape.s_w], grad_out)
    return wide


def run_input_grad(
    grad_out: NDArray,
    kernel: NDArray,
    grad_x: NDArray,
    workspace: NDArray,
    shape: ConvShape,
    n_threads: int = 1,
    prepared: NDArray | None = None,
    **options: Any,
) -> None:
    """The input's gradient: spread dO, then convolve it with the turned kernel by MEC."""
    forward = as_convolution(shape)
    if forward is None or prepared is None:
        raise ValueError("shape has no such convolution, or prepared= (see turn_kernel) is missing")
    inner = grad_out if shape.s_h == shape.s_w == 1 else spread(grad_out, workspace, shape)
    room = workspace[spread_size(shape) :]
    mec.run(inner, prepared.reshape(forward.kernel_shape), grad_x, room, forward, n_threads, **options)
