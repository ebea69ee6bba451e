"""Convolution by register tiles of images in n-c-h-w: a part of them at a time is turned, convolved, turned back.

A register tile reads all channels of a pixel, which are adjacent in n-h-w-c and a plane apart in n-c-h-w.  Some
rows and columns of outputs need a part of the image: this is turned to n-h-w-c, the definition is applied to it as
to a small image (:mod:`pymec.kernels.register_tiles.convolution`), and its outputs are turned to n-c-h-w while
they are in a cache.  A part is some rows of an image, or some columns of a row that is too wide, or several small
images.  What two parts share is turned for each of them.  Where the channels of a pixel are adjacent, nothing is
turned.

==========  ==================================  =========================================================
array       shape                               role
==========  ==================================  =========================================================
x           (i_n, i_h, i_w, i_c)                input I; positive strides
kernel      (k_h, k_w, i_c/G, k_c)              kernel K; read only to pack it
prepared    (G, B, k_h, k_w, i_c/G, m_b)        K in panels (:mod:`pymec.kernels.register_tiles.panels`)
turned      (images, part_h, part_w, i_c)       what these outputs need of I:
                                                part_h = min((rows - 1)·s_h + e_h, i_h), part_w likewise
sums        (images, rows, columns, k_c)        a part of O
out         (i_n, o_h, o_w, k_c)                output O; positive strides
==========  ==================================  =========================================================

Workspace, in elements:  turned and sums, and the panels, which a plan keeps

Any stride, padding, dilation and number of groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pymec.kernels.register_tiles import convolution
from pymec.kernels.register_tiles.schedule import TileSchedule, tile_schedule
from pymec.kernels.shared.turning import adjacent, copy_images
from pymec.shapes import ConvShape

# The parts ----------------------------------------------------------------------------------------------


class Part(NamedTuple):
    """Some outputs along one axis, what they need of the image, and the padding before and after that."""

    outputs: slice
    inputs: slice
    """Empty for outputs on padding alone."""
    padding: tuple[int, int]


def parts_of(outputs: int, most: int, extent: int, stride: int, reach: int, before: int) -> Iterator[Part]:
    """Cut an axis into parts of ``most`` outputs; the last may have fewer.

    The image is ``extent`` long, the kernel reaches over ``reach`` of it, and ``before`` zeros stand before it.
    """
    for first in range(0, outputs, most):
        count = min(most, outputs - first)
        start = first * stride - before
        end = start + (count - 1) * stride + reach
        low, high = max(start, 0), min(end, extent)
        yield Part(slice(first, first + count), slice(low, max(low, high)), (low - start, end - high))


def part_size(shape: ConvShape, images: int, rows: int, columns: int) -> int:
    """Elements of the workspace beside the panels."""
    part_h = min((rows - 1) * shape.s_h + shape.e_h, shape.i_h)
    part_w = min((columns - 1) * shape.s_w + shape.e_w, shape.i_w)
    return images * (part_h * part_w * shape.i_c + rows * columns * shape.k_c)


@lru_cache(maxsize=256)
def layer_of(
    shape: ConvShape, extents: tuple[int, int, int], p_h: tuple[int, int], p_w: tuple[int, int]
) -> ConvShape:
    """A part as a layer: kept, as to make and check a shape takes as long as to turn a small image."""
    i_n, i_h, i_w = extents
    (p_t, p_b), (p_l, p_r) = p_h, p_w
    return replace(shape, layout="NHWC", i_n=i_n, i_h=i_h, i_w=i_w, p_t=p_t, p_b=p_b, p_l=p_l, p_r=p_r)


@lru_cache(maxsize=256)
def schedule_of(layer: ConvShape, n_threads: int) -> TileSchedule:
    """The order of a part's work."""
    return tile_schedule(layer, n_threads, in_panels=True)


# The convolution ----------------------------------------------------------------------------------------


def run(
    x: NDArray, kernel: NDArray, out: NDArray, workspace: NDArray, shape: ConvShape, n_threads: int = 1, *,
    images: int, rows: int, columns: int, prepared: NDArray, bias: NDArray | None = None, relu: bool = False,
) -> None:  # fmt: skip
    """Convolve part by part: ``rows`` by ``columns`` outputs of ``images`` images; K is read from its panels."""
    check(x, out, workspace, shape, n_threads, (images, rows, columns), bias)
    s = shape
    of_rows = parts_of(s.o_h, rows, s.i_h, s.s_h, s.e_h, s.p_t)
    of_columns = list(parts_of(s.o_w, columns, s.i_w, s.s_w, s.e_w, s.p_l))
    for h, w, first in product(of_rows, of_columns, range(0, s.i_n, images)):
        n = slice(first, first + images)  # or as many as are left
        needed, outputs = x[n, h.inputs, w.inputs], out[n, h.outputs, w.outputs]
        if needed.size == 0:
            outputs[...] = 0 if bias is None else np.maximum(bias, 0) if relu else bias
            continue
        turned, left = cut(workspace, needed.shape)
        sums, left = cut(left, outputs.shape)
        if adjacent(x, 3):
            turned = needed
        else:
            copy_images(needed, turned, n_threads)
        if adjacent(out, 3):
            sums = outputs
        layer = layer_of(s, needed.shape[:3], h.padding, w.padding)
        schedule = schedule_of(layer, n_threads)
        convolution.run(turned, None, sums, left[:0], layer, n_threads, schedule, prepared, bias, relu)
        if sums is not outputs:
            copy_images(sums, outputs, n_threads)


def cut(workspace: NDArray, extents: tuple[int, ...]) -> tuple[NDArray, NDArray]:
    """An array at the front of a workspace, and the rest."""
    size = math.prod(extents)
    return workspace[:size].reshape(extents), workspace[size:]


def check(
    x: NDArray, out: NDArray, workspace: NDArray, shape: ConvShape, n_threads: int, part: tuple[int, int, int],
    bias: NDArray | None,
) -> None:  # fmt: skip
    """Refuse what the loop over the parts would read wrongly, or not at all."""
    for name, array, extents in (("x", x, shape.input_shape), ("out", out, shape.output_shape)):
        if array.shape != extents:
            raise ValueError(f"{name} has shape {array.shape}, but shape= speaks of {extents}")
    if bias is not None and bias.shape != (shape.k_c,):
        raise ValueError(f"bias has shape {bias.shape}, but shape= speaks of {(shape.k_c,)}")
    if not 1 <= n_threads <= 64:
        raise ValueError(f"n_threads must be from 1 to 64, got {n_threads}")
    if min(part) < 1:
        raise ValueError(f"images, rows and columns must be at least 1, got {part}")
    if workspace.size < part_size(shape, *part):
        needed = part_size(shape, *part)
        raise ValueError(f"workspace has {workspace.size} elements, but this stage needs {needed}")
