"""NCHW in and out: the single place that may copy the caller's arrays.

Kernels see NHWC and HWIO only.  With ``layout="NCHW"`` the operands and the result of a call are converted in the
workspace, so these copies are part of the predicted bytes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pymec.shapes import ConvShape

INNER_AXES = {"input": (0, 2, 3, 1), "kernel": (2, 3, 1, 0), "output": (0, 2, 3, 1)}
"""From the caller's axes to a kernel's: n-c-h-w to n-h-w-c, o-i-h-w to h-w-i-o."""

OUTER_AXES = {"input": (0, 3, 1, 2), "kernel": (3, 2, 0, 1), "output": (0, 3, 1, 2)}
"""From a kernel's axes to the caller's."""


def outer_extents(role: str, shape: ConvShape) -> tuple[int, ...]:
    """The extents of an array as the caller sees it, in the layout of the call."""
    inner = shape.extents(role)
    return inner if shape.layout == "NHWC" else tuple(inner[axis] for axis in OUTER_AXES[role])


def conversion_size(shape: ConvShape) -> int:
    """Elements the conversions of a call take: \\|I\\| + \\|K\\| + \\|O\\| for NCHW, none for NHWC."""
    if shape.layout == "NHWC":
        return 0
    return shape.input_size + shape.kernel_size + shape.output_size


def enter(operands: dict[str, NDArray], room: NDArray, shape: ConvShape) -> dict[str, NDArray]:
    """Copy NCHW operands, by role, into ``room`` as NHWC and HWIO; return them and a place for the result."""
    inner, start = {}, 0
    for role, axes in INNER_AXES.items():
        extents = shape.extents(role)
        end = start + math.prod(extents)
        inner[role] = room[start:end].reshape(extents)
        if role in operands:
            np.copyto(inner[role], operands[role].transpose(axes))
        start = end
    return inner


def unaligned(shape: ConvShape, *operands: NDArray) -> list[NDArray]:
    """Those NHWC operands that no kernel can read where they lie; NCHW operands are copied anyway."""
    return [operand for operand in operands if not operand.flags.aligned and shape.layout == "NHWC"]


def leave(inner: NDArray, out: NDArray, role: str) -> None:
    """Copy an NHWC or HWIO result into the caller's array."""
    np.copyto(out, inner.transpose(OUTER_AXES[role]))
