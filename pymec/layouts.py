"""NCHW in and out: the single place where a call may copy the caller's arrays.

Kernels see NHWC and HWIO only, aligned to the element size.  With ``layout="NCHW"`` the operands and the result
of a call are converted in the workspace, so these copies are part of the predicted bytes.  An array that lies in
memory as kernels want it, whatever the order of its axes, is read or written where it lies: a channels-last
tensor, say, or an image of one channel.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pymec.kernels.shared.turning import transpose
from pymec.shapes import ConvShape

INNER_AXES = {"input": (0, 2, 3, 1), "kernel": (2, 3, 1, 0), "output": (0, 2, 3, 1)}
"""From the caller's axes to a kernel's: n-c-h-w to n-h-w-c, o-i-h-w to h-w-i-o."""

OUTER_AXES = {"input": (0, 3, 1, 2), "kernel": (3, 2, 0, 1), "output": (0, 3, 1, 2)}
"""From a kernel's axes to the caller's."""


def outer_extents(role: str, shape: ConvShape) -> tuple[int, ...]:
    """The extents of an array as the caller sees it, in the layout of the call."""
    inner = shape.extents(role)
    return inner if shape.layout == "NHWC" else tuple(inner[axis] for axis in OUTER_AXES[role])


def inner_view(array: NDArray, role: str, shape: ConvShape) -> NDArray:
    """A view of the caller's array with its axes as a kernel sees them."""
    return array if shape.layout == "NHWC" else array.transpose(INNER_AXES[role])


def outer_view(array: NDArray, role: str, shape: ConvShape) -> NDArray:
    """A view of a kernel's array with its axes as the caller sees them."""
    return array if shape.layout == "NHWC" else array.transpose(OUTER_AXES[role])


def in_place(array: NDArray, role: str, shape: ConvShape) -> NDArray | None:
    """That inner view, if a kernel can read or write it where it lies; otherwise the array must be copied."""
    view = inner_view(array, role, shape)
    flags = view.flags
    return view if flags.c_contiguous and flags.aligned else None


def plain_in_place(role: str, shape: ConvShape) -> bool:
    """Whether C-contiguous arrays of that role lie as kernels want them."""
    if shape.layout == "NHWC":
        return True
    extents = outer_extents(role, shape)
    axes = [axis for axis in INNER_AXES[role] if extents[axis] > 1]
    return axes == sorted(axes)


def result_in_place(result: str, shape: ConvShape, out: NDArray | None, channels_last: bool) -> bool:
    """Whether a call writes its result where the caller finds it.

    A new image is plain NCHW, or channels last if the first operand is.
    """
    if out is not None:
        return in_place(out, result, shape) is not None
    return plain_in_place(result, shape) or (channels_last and result != "kernel")


def conversion_size(shape: ConvShape, roles: Iterable[str] = tuple(INNER_AXES)) -> int:
    """Elements of the copies of C-contiguous arrays of these roles: for NCHW most are copied, none for NHWC."""
    if shape.layout == "NHWC":
        return 0
    return sum(math.prod(shape.extents(role)) for role in roles if not plain_in_place(role, shape))


class Views(NamedTuple):
    """What of a call's arrays lies as kernels want it, and what must be copied."""

    operands: list[NDArray | None]
    """A kernel's view of each operand, or None if it must be copied."""
    result_in_place: bool
    copies: int
    """Elements of all copies."""


def views_of(shape: ConvShape, roles: tuple[str, str, str], operands: list[NDArray], out: NDArray | None) -> Views:
    """The views of a call's arrays: operands in the order of their roles, the result's role last."""
    if shape.layout == "NHWC" and all(array.flags.aligned for array in operands):
        return Views([*operands], True, 0)
    views = [in_place(array, role, shape) for array, role in zip(operands, roles, strict=False)]
    copies = sum(array.size for array, view in zip(operands, views, strict=True) if view is None)
    result = roles[2]
    channels_last = views[0] is not None and not operands[0].flags.c_contiguous
    direct = result_in_place(result, shape, out, channels_last)
    return Views(views, direct, copies if direct else copies + math.prod(shape.extents(result)))


def enter(outer: NDArray, role: str, room: NDArray, shape: ConvShape, n_threads: int) -> tuple[NDArray, NDArray]:
    """A copy of an operand as a kernel reads it, in ``room``, and what is left of the room."""
    inner, room = place(role, room, shape)
    if shape.layout == "NCHW" and outer.flags.c_contiguous and outer.flags.aligned:
        source, target = _matrices(outer, inner, role)
        transpose(source, target, n_threads)
    else:
        np.copyto(inner, inner_view(outer, role, shape))
    return inner, room


def place(role: str, room: NDArray, shape: ConvShape) -> tuple[NDArray, NDArray]:
    """A kernel's array in ``room``, and what is left of it."""
    extents = shape.extents(role)
    size = math.prod(extents)
    return room[:size].reshape(extents), room[size:]


def leave(inner: NDArray, outer: NDArray, role: str, n_threads: int) -> None:
    """Copy a result into the caller's C-contiguous NCHW array."""
    target, source = _matrices(outer, inner, role)
    transpose(source, target, n_threads)


def _matrices(outer: NDArray, inner: NDArray, role: str) -> tuple[NDArray, NDArray]:
    """Views of both arrays, C-contiguous, in which each matrix of one is the transpose of the other's."""
    if role != "kernel":
        i_n, channels, height, width = outer.shape
        return outer.reshape(i_n, channels, height * width), inner.reshape(i_n, height * width, channels)
    k_c, i_cg, k_h, k_w = outer.shape
    if k_h * k_w == 1:
        return outer.reshape(1, k_c, i_cg), inner.reshape(1, i_cg, k_c)
    by_channel = outer.reshape(k_c, i_cg, k_h * k_w).transpose(1, 0, 2)
    return by_channel, inner.reshape(k_h * k_w, i_cg, k_c).transpose(1, 0, 2)
