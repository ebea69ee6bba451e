"""NCHW in and out: the single place that may copy the caller's arrays.

Kernels see NHWC and HWIO only.  With ``layout="NCHW"`` the operands and the result of a call are converted in the
workspace, so these copies are part of the predicted bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

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


def conversion_size(shape: ConvShape, roles: Iterable[str] = tuple(INNER_AXES)) -> int:
    """Elements the conversions of the arrays of these roles take: for NCHW all of them, none for NHWC."""
    return 0 if shape.layout == "NHWC" else sum(math.prod(shape.extents(role)) for role in roles)


def enter(
    operands: dict[str, NDArray], result: str, room: NDArray, shape: ConvShape
) -> tuple[dict[str, NDArray], NDArray]:
    """Copy NCHW operands, by role, into ``room`` as NHWC and HWIO.

    Returns them with a place for the result, by role, and what is left of the room.
    """
    inner = {}
    for role in (*operands, result):
        extents = shape.extents(role)
        place, room = np.split(room, [math.prod(extents)])
        inner[role] = place.reshape(extents)
        if role in operands:
            np.copyto(inner[role], turned_in(operands[role], role))
    return inner, room


def turned_in(array: NDArray, role: str) -> NDArray:
    """A view of an NCHW or OIHW array as NHWC or HWIO."""
    return array.transpose(INNER_AXES[role])


def turned_out(array: NDArray, role: str) -> NDArray:
    """A view of an NHWC or HWIO array as NCHW or OIHW."""
    return array.transpose(OUTER_AXES[role])


def unaligned(shape: ConvShape, *operands: NDArray) -> list[NDArray]:
    """Those NHWC operands that no kernel can read where they lie; NCHW operands are copied anyway."""
    return [operand for operand in operands if not operand.flags.aligned and shape.layout == "NHWC"]


def leave(inner: NDArray, out: NDArray, role: str) -> None:
    """Copy an NHWC or HWIO result into the caller's array."""
    np.copyto(out, turned_out(inner, role))
