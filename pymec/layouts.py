"""NCHW and slices: the single place where a call may copy the caller's arrays.

Kernels see NHWC and HWIO only, aligned to the element size.  With ``layout="NCHW"`` the operands and the result
of a call are converted in the workspace, so these copies are part of the predicted bytes.  An array that lies in
memory as kernels want it, whatever the order of its axes, is read or written where it lies: a channels-last
tensor, say, or an image of one channel.  So is a slice of such an image, by the algorithms that step over what
lies between its pixels (``Algorithm.reads_slices``); for the others it is copied, as an unaligned array is.
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


def in_place(array: NDArray, role: str, shape: ConvShape, slices: bool) -> NDArray | None:
    """That inner view, if a kernel can read or write it where it lies; otherwise the array must be copied.

    ``slices`` is whether the kernel does so with slices of an image.
    """
    view = inner_view(array, role, shape)
    flags = view.flags
    lies_well = flags.c_contiguous or (slices and is_slice(array, role, shape))
    return view if lies_well and flags.aligned else None


def is_slice(array: NDArray, role: str, shape: ConvShape) -> bool:
    """Whether an image has adjacent channels, and positive steps of whole elements between its pixels."""
    if role == "kernel":
        return False
    view = inner_view(array, role, shape)
    steps = [step for step, extent in zip(view.strides, view.shape, strict=True) if extent > 1]
    adjacent = view.shape[3] == 1 or steps.pop() == view.itemsize
    return adjacent and all(step > 0 and step % view.itemsize == 0 for step in steps)


def overlaps_itself(array: NDArray) -> bool:
    """Whether two elements may share memory: never true of a slice of a whole array."""
    if array.size == 0:
        return False
    end = array.itemsize
    for step, extent in sorted(zip(map(abs, array.strides), array.shape, strict=True)):
        if extent > 1:
            if step < end:
                return True
            end += step * (extent - 1)
    return False


def plain_in_place(role: str, shape: ConvShape) -> bool:
    """Whether C-contiguous arrays of that role lie as kernels want them."""
    if shape.layout == "NHWC":
        return True
    extents = outer_extents(role, shape)
    axes = [axis for axis in INNER_AXES[role] if extents[axis] > 1]
    return axes == sorted(axes)


def result_in_place(result: str, shape: ConvShape, out: NDArray | None, channels_last: bool, slices: bool) -> bool:
    """Whether a call writes its result where the caller finds it.

    A new image is plain NCHW, or channels last if the first operand is.
    """
    if out is not None:
        return in_place(out, result, shape, slices) is not None
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


def views_of(
    shape: ConvShape, roles: tuple[str, str, str], operands: list[NDArray], out: NDArray | None, slices: bool
) -> Views:
    """The views of a call's arrays: operands in the order of their roles, the result's role last.

    ``slices`` is whether the algorithm reads and writes slices of images where they lie.
    """
    if shape.layout == "NHWC" and all(map(_lies_plainly, operands)) and (out is None or out.flags.c_contiguous):
        return Views([*operands], True, 0)
    views = [in_place(array, role, shape, slices) for array, role in zip(operands, roles, strict=False)]
    copies = sum(array.size for array, view in zip(operands, views, strict=True) if view is None)
    result = roles[2]
    direct = result_in_place(result, shape, out, _channels_last(operands[0], roles[0], shape), slices)
    return Views(views, direct, copies if direct else copies + math.prod(shape.extents(result)))


def _lies_plainly(array: NDArray) -> bool:
    return array.flags.c_contiguous and array.flags.aligned


def _channels_last(array: NDArray, role: str, shape: ConvShape) -> bool:
    """Whether an NCHW image, or a slice of one, lies in memory as NHWC; one channel or one pixel can't tell."""
    if shape.layout == "NHWC" or array.flags.c_contiguous:
        return False
    _, channels, height, width = array.shape
    return channels > 1 and height * width > 1 and is_slice(array, role, shape)


class Copies(NamedTuple):
    """Elements of a call's arrays that must be copied."""

    by_most: int
    """By algorithms that need whole arrays."""
    with_slices: int
    """By algorithms that read and write slices of images where they lie."""


def copies_of(
    shape: ConvShape, roles: tuple[str, str, str], operands: list[NDArray], out: NDArray | None
) -> Copies:
    """What must be copied of these arrays, by algorithms that need whole arrays and by those that read slices."""
    return Copies(*(views_of(shape, roles, operands, out, slices).copies for slices in (False, True)))


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


def leave(inner: NDArray, outer: NDArray, role: str, shape: ConvShape, n_threads: int) -> None:
    """Copy a result into the caller's array."""
    if shape.layout == "NCHW" and outer.flags.c_contiguous:
        target, source = _matrices(outer, inner, role)
        transpose(source, target, n_threads)
    else:
        np.copyto(inner_view(outer, role, shape), inner)


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
