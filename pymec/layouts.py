"""NCHW in and out: the single place that may copy an array of the caller's.

Kernels see NHWC and HWIO alone.  A call with ``layout="NCHW"`` gets its input, kernel and output converted
in the workspace, so these copies are part of the predicted bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pymec.shapes import ConvShape


def conversion_size(shape: ConvShape) -> int:
    """Elements the conversions of a call take: \\|I\\| + \\|K\\| + \\|O\\| for NCHW, none for NHWC."""
    if shape.layout == "NHWC":
        return 0
    return shape.input_size + shape.kernel_size + shape.output_size


def enter(x: NDArray, kernel: NDArray, room: NDArray, shape: ConvShape) -> tuple[NDArray, NDArray, NDArray]:
    """Copy NCHW operands into ``room`` as NHWC and HWIO; return them and a place for the output."""
    end_x = shape.input_size
    end_kernel = end_x + shape.kernel_size
    inner_x = room[:end_x].reshape(shape.input_shape)
    inner_kernel = room[end_x:end_kernel].reshape(shape.kernel_shape)
    inner_out = room[end_kernel : end_kernel + shape.output_size].reshape(shape.output_shape)
    np.copyto(inner_x, x.transpose(0, 2, 3, 1))
    np.copyto(inner_kernel, kernel.transpose(2, 3, 1, 0))
    return inner_x, inner_kernel, inner_out


def leave(inner_out: NDArray, out: NDArray) -> None:
    """Copy an NHWC result into the caller's NCHW array."""
    np.copyto(out, inner_out.transpose(0, 3, 1, 2))
