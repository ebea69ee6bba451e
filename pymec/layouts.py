"""NCHW and slices: the single place where a call may copy the caller's arrays.

Most algorithms read NHWC and HWIO, some NCHW and OIHW, one either of them (:class:`Reading`).  If the call has the
other layout, its operands and its result are converted in the workspace, so these copies are part of the predicted
bytes.  An array that lies in memory as the algorithm wants it, whatever the order of its axes, is read or written
where it lies: a channels-last tensor, say, or an image of one channel.  So is a slice of an image, by the
algorithms that step over what lies between its pixels; for the others it is copied, as an unaligned array is.

The *outer* view of an array has its axes as the caller sees them, the *inner* view as the algorithm does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pymec.kernels.shared.turning import copy_images, copy_kernel
from pymec.shapes import ConvShape

INNER_AXES = {"input": (0, 2, 3, 1), "kernel": (2, 3, 1, 0), "output": (0, 2, 3, 1)}
"""From NCHW to NHWC: n-c-h-w to n-h-w-c, o-i-h-w to h-w-i-o."""

OUTER_AXES = {"input": (0, 3, 1, 2), "kernel": (3, 2, 0, 1), "output": (0, 3, 1, 2)}
"""And back."""


class Reading(IntEnum):
    """How an algorithm reads and writes its arrays; an index of :class:`Copies`."""

    PIXELS = 0
    """Images in n-h-w-c, all pixels adjacent, and the kernel in h-w-i-o."""
    SLICES = 1
    """The same, with constant distances between pixels, rows and images."""
    PLANES = 2
    """Images in n-c-h-w, all planes adjacent, and the kernel in o-i-h-w."""
    STRIDES = 3
    """Images in n-h-w-c and the kernel in h-w-i-o, with any positive distances between their elements."""

    layout: str
    """The layout whose order of axes the algorithm sees."""

    def __init__(self, number: int) -> None:
        self.layout = "NCHW" if self.name == "PLANES" else "NHWC"


def outer_extents(role: str, shape: ConvShape) -> tuple[int, ...]:
    """The extents of an array as the caller sees it, in the layout of the call."""
    inner = shape.extents(role)
    return inner if shape.layout == "NHWC" else tuple(inner[axis] for axis in OUTER_AXES[role])


def inner_extents(role: str, shape: ConvShape, reading: Reading) -> tuple[int, ...]:
    """The extents of an array as the algorithm sees it."""
    extents = shape.extents(role)
    return extents if reading.layout == "NHWC" else tuple(extents[axis] for axis in OUTER_AXES[role])


def inner_view(array: NDArray, role: str, shape: ConvShape, reading: Reading = Reading.PIXELS) -> NDArray:
    """A view of the caller's array with its axes as the algorithm sees them."""
    return array if shape.layout == reading.layout else array.transpose(_axes(role, shape.layout))


def outer_view(array: NDArray, role: str, shape: ConvShape, reading: Reading = Reading.PIXELS) -> NDArray:
    """A view of an algorithm's array with its axes as the caller sees them."""
    return array if shape.layout == reading.layout else array.transpose(_axes(role, reading.layout))


def _axes(role: str, layout: str) -> tuple[int, ...]:
    """From this layout to the other one."""
    return INNER_AXES[role] if layout == "NCHW" else OUTER_AXES[role]


def in_place(array: NDArray, role: str, shape: ConvShape, reading: Reading) -> NDArray | None:
    """That inner view, if the algorithm can read or write it where it lies; else the array must be copied."""
    view = inner_view(array, role, shape, reading)
    flags = view.flags
    lies_well = flags.c_contiguous
    if reading is Reading.STRIDES:
        lies_well = lies_well or has_positive_steps(array)
    elif reading is Reading.SLICES:
        lies_well = lies_well or is_slice(array, role, shape)
    return view if lies_well and flags.aligned else None


def has_positive_steps(array: NDArray) -> bool:
    """Whether every axis goes forward in memory, by whole elements."""
    steps = (step for step, extent in zip(array.strides, array.shape, strict=True) if extent > 1)
    return all(step > 0 and step % array.itemsize == 0 for step in steps)


def is_slice(array: NDArray, role: str, shape: ConvShape) -> bool:
    """Whether an image has adjacent channels, and positive steps of whole elements between its pixels."""
    if role == "kernel":
        return False
    view = inner_view(array, role, shape)
    return (view.shape[3] == 1 or view.strides[3] == view.itemsize) and has_positive_steps(view)


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


def plain_in_place(role: str, shape: ConvShape, reading: Reading) -> bool:
    """Whether C-contiguous arrays of that role lie as the algorithm wants them."""
    if shape.layout == reading.layout or reading is Reading.STRIDES:
        return True
    extents = outer_extents(role, shape)
    axes = [axis for axis in _axes(role, shape.layout) if extents[axis] > 1]
    return axes == sorted(axes)


def new_result_lies_last(result: str, shape: ConvShape, first: NDArray, role: str) -> bool:
    """Whether a new result has its channels last in memory although the layout of the call is NCHW.

    It does if it is an image and the first operand is one that lies so, whatever the algorithm.
    """
    if result == "kernel" or plain_in_place(result, shape, Reading.PIXELS):
        return False
    return _channels_last(first, role, shape)


def conversion_size(shape: ConvShape, reading: Reading, roles: Iterable[str] = tuple(INNER_AXES)) -> int:
    """Elements of the copies of C-contiguous arrays of these roles, if the algorithm reads the other layout."""
    if shape.layout == reading.layout:
        return 0
    return sum(math.prod(shape.extents(role)) for role in roles if not plain_in_place(role, shape, reading))


class Places(NamedTuple):
    """Which of a call's arrays the algorithm reads and writes where they lie; the others are copied."""

    operands: tuple[bool, ...]
    """Whether each operand is read where it lies."""
    result: bool
    """Whether the result is written where the caller finds it."""
    lies_last: bool
    """Whether a new result has its channels last although the layout of the call is NCHW."""
    copies: int
    """Elements of all copies."""


def places_of(
    shape: ConvShape, roles: tuple[str, ...], operands: list[NDArray], out: NDArray | None, reading: Reading
) -> Places:
    """The places of a call's arrays.

    ``roles`` are those of its operands, in order, and last the result's.  A plan's call has no kernel.
    """
    if lie_plainly(operands, out):
        return plain_places(shape, roles, reading)
    *read, result = roles
    lie_well = [in_place(*each, shape, reading) is not None for each in zip(operands, read, strict=True)]
    last = False
    if out is None:
        last = new_result_lies_last(result, shape, operands[0], read[0])
        lie_well.append(reading is not Reading.PLANES if last else plain_in_place(result, shape, reading))
    else:
        lie_well.append(in_place(out, result, shape, reading) is not None)
    return _places(shape, roles, tuple(lie_well), last)


@lru_cache(maxsize=256)
def plain_places(shape: ConvShape, roles: tuple[str, ...], reading: Reading) -> Places:
    """The same of arrays that are all C-contiguous and aligned, which depends on sizes alone."""
    return _places(shape, roles, tuple(plain_in_place(role, shape, reading) for role in roles), False)


def _places(shape: ConvShape, roles: tuple[str, ...], lie_well: tuple[bool, ...], lies_last: bool) -> Places:
    copied = (role for role, well in zip(roles, lie_well, strict=True) if not well)
    copies = sum(math.prod(shape.extents(role)) for role in copied)
    return Places(lie_well[:-1], lie_well[-1], lies_last, copies)


def lie_plainly(operands: list[NDArray], out: object) -> bool:
    """Whether a call's arrays are all C-contiguous and aligned; ``out`` may be None, or what will be refused."""
    return all(map(_lies_plainly, operands)) and (out is None or _lies_plainly(out))


def _lies_plainly(array: object) -> bool:
    if not isinstance(array, np.ndarray):
        return False
    flags = array.flags
    return flags.c_contiguous and flags.aligned


def _channels_last(array: NDArray, role: str, shape: ConvShape) -> bool:
    """Whether an NCHW image, or a slice of one, lies in memory as NHWC; one channel or one pixel can't tell."""
    if shape.layout == "NHWC" or array.flags.c_contiguous:
        return False
    _, channels, height, width = array.shape
    return channels > 1 and height * width > 1 and is_slice(array, role, shape)


class Copies(NamedTuple):
    """Elements of a call's arrays that must be copied, by what an algorithm reads."""

    by_pixels: int
    by_slices: int
    by_planes: int
    by_strides: int


def copies_of(
    shape: ConvShape, roles: tuple[str, str, str], operands: list[NDArray], out: NDArray | None
) -> Copies:
    """What must be copied of these arrays."""
    if lie_plainly(operands, out):
        return plain_copies(shape)
    return Copies(*(places_of(shape, roles, operands, out, reading).copies for reading in Reading))


@lru_cache(maxsize=256)
def plain_copies(shape: ConvShape) -> Copies:
    """What must be copied if all arrays are C-contiguous."""
    return Copies(*(conversion_size(shape, reading) for reading in Reading))


def enter(
    outer: NDArray, role: str, room: NDArray, shape: ConvShape, reading: Reading, n_threads: int
) -> tuple[NDArray, NDArray]:
    """A copy of an operand as the algorithm reads it, in ``room``, and what is left of the room."""
    inner, room = place(role, room, shape, reading)
    _copy(role, inner_view(outer, role, shape), _in_native_order(inner, role, reading), n_threads)
    return inner, room


def place(role: str, room: NDArray, shape: ConvShape, reading: Reading) -> tuple[NDArray, NDArray]:
    """An array of the algorithm in ``room``, and what is left of it."""
    extents = inner_extents(role, shape, reading)
    size = math.prod(extents)
    return room[:size].reshape(extents), room[size:]


def leave(inner: NDArray, outer: NDArray, role: str, shape: ConvShape, reading: Reading, n_threads: int) -> None:
    """Copy a result into the caller's array."""
    _copy(role, _in_native_order(inner, role, reading), inner_view(outer, role, shape), n_threads)


def _copy(role: str, source: NDArray, target: NDArray, n_threads: int) -> None:
    """Copy an array seen as n-h-w-c or h-w-i-o."""
    (copy_kernel if role == "kernel" else copy_images)(source, target, n_threads)


def _in_native_order(inner: NDArray, role: str, reading: Reading) -> NDArray:
    """A view of an algorithm's array with its axes in the order n-h-w-c or h-w-i-o."""
    return inner if reading.layout == "NHWC" else inner.transpose(INNER_AXES[role])
