"""Convolution by register tiles of images in n-c-h-w: a band of rows at a time is turned, convolved, turned back.

A register tile reads all channels of a pixel, which are adjacent in n-h-w-c and a plane apart in n-c-h-w.  A band
of output rows needs a few rows of the image: these are turned to n-h-w-c, the definition is applied to them as to
a small image (:mod:`pymec.kernels.register_tiles.convolution`), and its outputs are turned to n-c-h-w while they
are in a cache.  The rows that a band shares with the one before are turned again.  Of small images several make a
band.  Where the channels of a pixel are adjacent, nothing is turned.

==========  ==================================  =========================================================
array       shape                               role
==========  ==================================  =========================================================
x           (i_n, i_h, i_w, i_c)                input I; positive strides
kernel      (k_h, k_w, i_c/G, k_c)              kernel K; read only to pack it
prepared    (G, B, k_h, k_w, i_c/G, m_b)        K in panels (:mod:`pymec.kernels.register_tiles.panels`)
turned      (images, band_h, i_w, i_c)          the rows of I that a band needs: band_h = (rows - 1)·s_h + e_h
band        (images, rows, o_w, k_c)            a band of O
out         (i_n, o_h, o_w, k_c)                output O; positive strides
==========  ==================================  =========================================================

Workspace, in elements:  turned and band, and the panels, which a plan keeps

Any stride, padding, dilation and number of groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from numpy.typing import NDArray

from pymec.kernels.register_tiles import convolution
from pymec.kernels.register_tiles.schedule import TileSchedule, tile_schedule
from pymec.kernels.shared.turning import adjacent, copy_images
from pymec.shapes import ConvShape

# Bands --------------------------------------------------------------------------------------------------


class Band(NamedTuple):
    """Some output rows: the first of them, the first row of the image that they need, and their layer."""

    y: int
    h: int
    layer: ConvShape
    on_padding: bool
    """Whether they need no row of the image; the layer then has one, which must be zeros."""


def band_size(shape: ConvShape, images: int, rows: int) -> int:
    """Elements of the workspace beside the panels."""
    return images * (_image_rows(shape, rows) * shape.i_w * shape.i_c + rows * shape.o_w * shape.k_c)


def _image_rows(shape: ConvShape, rows: int) -> int:
    """The most rows of an image that so many output rows need."""
    return min(shape.i_h, (rows - 1) * shape.s_h + shape.e_h)


def bands_of(shape: ConvShape, images: int, rows: int) -> Iterator[Band]:
    """The bands of some images, ``rows`` output rows each; the last may have fewer."""
    for y in range(0, shape.o_h, rows):
        o_h = min(rows, shape.o_h - y)
        top = y * shape.s_h - shape.p_t
        end = top + (o_h - 1) * shape.s_h + shape.e_h
        on_padding = end <= 0 or top >= shape.i_h
        h, h_end = (0, 1) if on_padding else (max(top, 0), min(end, shape.i_h))
        p_t = end - top - 1 if on_padding else h - top
        yield Band(y, h, _layer(shape, images, h_end - h, p_t, end - top - p_t - (h_end - h)), on_padding)


@lru_cache(maxsize=256)
def _layer(shape: ConvShape, i_n: int, i_h: int, p_t: int, p_b: int) -> ConvShape:
    """The layer of a band: kept, as to make and check a shape takes as long as to turn a small image."""
    return replace(shape, layout="NHWC", i_n=i_n, i_h=i_h, p_t=p_t, p_b=p_b)


@lru_cache(maxsize=256)
def _tiles(layer: ConvShape, n_threads: int) -> TileSchedule:
    return tile_schedule(layer, n_threads, in_panels=True)


# The convolution ----------------------------------------------------------------------------------------


def run(
    x: NDArray, kernel: NDArray, out: NDArray, workspace: NDArray, shape: ConvShape, n_threads: int = 1, *,
    images: int, rows: int, prepared: NDArray, bias: NDArray | None = None, relu: bool = False,
) -> None:  # fmt: skip
    """Convolve band by band, ``rows`` output rows of ``images`` images at a time; K is read from its panels."""
    for name, array, extents in (("x", x, shape.input_shape), ("out", out, shape.output_shape)):
        if array.shape != extents:
            raise ValueError(f"{name} has shape {array.shape}, but shape= speaks of {extents}")
    if images < 1 or rows < 1:
        raise ValueError(f"images and rows must be at least 1, got {images} and {rows}")
    size = band_size(shape, images, rows)
    if workspace.size < size:
        raise ValueError(f"workspace has {workspace.size} elements, but this stage needs {size}")
    for n in range(0, shape.i_n, images):
        count = min(images, shape.i_n - n)
        for y, h, layer, on_padding in bands_of(shape, count, rows):
            needed, outputs = x[n : n + count, h : h + layer.i_h], out[n : n + count, y : y + layer.o_h]
            turned, left = _cut(workspace, needed.shape)
            band, left = _cut(left, outputs.shape)
            if on_padding:
                turned.fill(0)
            elif adjacent(x, 3):
                turned = needed
            else:
                copy_images(needed, turned, n_threads)
            if adjacent(out, 3):
                band = outputs
            tiles = _tiles(layer, n_threads)
            convolution.run(turned, None, band, left[:0], layer, n_threads, tiles, prepared, bias, relu)
            if band is not outputs:
                copy_images(band, outputs, n_threads)


def _cut(workspace: NDArray, extents: tuple[int, ...]) -> tuple[NDArray, NDArray]:
    """An array at the front of a workspace, and the rest."""
    size = math.prod(extents)
    return workspace[:size].reshape(extents), workspace[size:]
