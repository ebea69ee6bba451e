"""A photograph becomes the input of any layer: activations, computed by pymec's own convolutions.

Benchmarks often run on random numbers or ones, but a layer inside a network sees neither.  The portrait goes
through He-initialised convolutions with ReLU until it has the layer's shape; the result has the zeros, borders
and correlations of real activations.  Everything is seeded: a layer and a batch give the same numbers, whichever
other layers are run.
"""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO

import numpy as np
from matplotlib.cbook import get_sample_data
from numpy.typing import NDArray
from PIL import Image

from pymec.conv import conv2d
from pymec.layers import Layer

CREDIT = "Rear Admiral Grace Hopper, U.S. Navy portrait, public domain; ships with matplotlib"

SEED = 1906
"""The year Grace Hopper was born."""

TRUNK = ((224, 64, 1), (112, 64, 2), (56, 64, 2), (28, 128, 2), (14, 256, 2), (7, 512, 2))
"""(side, channels, stride) of the 3×3 stages, each computed from the one before it."""

WIDEST_CUT = 7
"""The largest kernel that shrinks a stage to a layer's size; a larger difference is cropped first."""


class Activations:
    """The inputs of layers, for a batch of ``i_n`` crops of the photograph."""

    def __init__(self, i_n: int) -> None:
        self.i_n = i_n
        self._trunk: list[NDArray] = []

    def input_of(self, layer: Layer) -> NDArray[np.float32]:
        """The layer's input, (i_n, i_h, i_w, i_c)."""
        h, w, channels = layer.i_h, layer.i_w, layer.i_c
        if channels == 3:
            return photographs(self.i_n, h, w)
        stages = [i for i, (side, _, _) in enumerate(TRUNK) if side >= max(h, w)]
        if not stages:
            # Larger than the trunk's first stage: one stage on a picture of that size.
            return _stage(photographs(self.i_n, h, w), channels, (3, 3), 1, 1)
        deepest = stages[-1]
        side, stage_channels, _ = TRUNK[deepest]
        below = self._stage_of_trunk(deepest)
        if (h, w, channels) == (side, side, stage_channels):
            return below
        # A convolution without padding, whose kernel is as large as the rows and columns to lose, plus one.
        k_h, k_w = (min(side - extent + 1, WIDEST_CUT) for extent in (h, w))
        cropped = np.ascontiguousarray(below[:, : h + k_h - 1, : w + k_w - 1])
        return _stage(cropped, channels, (k_h, k_w), 1, 0)

    def kernel_of(self, layer: Layer) -> NDArray[np.float32]:
        """The layer's own kernel, He-initialised, (k_h, k_w, i_c/groups, k_c)."""
        rng = np.random.default_rng([SEED, *layer.name.encode()])
        return _he_kernel(rng, layer.shape().kernel_shape)

    def _stage_of_trunk(self, index: int) -> NDArray:
        while len(self._trunk) <= index:
            side, channels, stride = TRUNK[len(self._trunk)]
            below = self._trunk[-1] if self._trunk else photographs(self.i_n, side, side)
            self._trunk.append(_stage(below, channels, (3, 3), stride, 1))
        return self._trunk[index]


def photographs(i_n: int, h: int, w: int) -> NDArray[np.float32]:
    """``i_n`` different crops of the portrait, every other one mirrored: zero mean, unit variance."""
    with Image.open(_photograph_file()) as file:
        photograph = file.convert("RGB")
    batch = np.empty((i_n, h, w, 3), np.float32)
    for i in range(i_n):
        crop = photograph.resize((w, h), Image.Resampling.BICUBIC, box=_crop_box(i, *photograph.size))
        pixels = np.asarray(crop, np.float32)
        batch[i] = pixels[:, ::-1] if i % 2 else pixels
    batch -= batch.mean()
    batch /= batch.std()
    return batch


def photograph_jpeg(width: int) -> str:
    """The whole portrait as a data URI."""
    with Image.open(_photograph_file()) as file:
        photograph = file.convert("RGB")
    height = round(width * photograph.height / photograph.width)
    return _data_uri(photograph.resize((width, height), Image.Resampling.LANCZOS))


def activation_jpeg(activation: NDArray, width: int) -> str:
    """One image of an activation as a data URI: the mean of its channels, dark to bright."""
    grey = activation.mean(axis=-1)
    low, high = np.quantile(grey, (0.01, 0.99))
    levels = np.clip((grey - low) / max(high - low, 1e-12) * 255, 0, 255).astype(np.uint8)
    # Nearest neighbour, so that the pixels of a 7×7 activation can be seen.
    height = round(width * grey.shape[0] / grey.shape[1])
    return _data_uri(Image.fromarray(levels).resize((width, height), Image.Resampling.NEAREST))


def _photograph_file() -> str:
    return str(get_sample_data("grace_hopper.jpg", asfileobj=False))


def _crop_box(i: int, width: int, height: int) -> tuple[float, float, float, float]:
    """The first picture is the upper square with the face whole, the others are random squares."""
    side = min(width, height)
    if i == 0:
        return 0, 0, side, side
    rng = np.random.default_rng([SEED, i])
    side = int(rng.integers(int(0.7 * side), side, endpoint=True))
    left = int(rng.integers(width - side, endpoint=True))
    top = int(rng.integers(height - side, endpoint=True))
    return left, top, left + side, top + side


def _stage(x: NDArray, channels: int, extents: tuple[int, int], stride: int, padding: int) -> NDArray:
    """Convolution and ReLU."""
    rng = np.random.default_rng([SEED, *x.shape[1:], channels])
    kernel = _he_kernel(rng, (*extents, x.shape[3], channels))
    y = conv2d(x, kernel, stride=stride, padding=padding)
    return np.maximum(y, 0, out=y)


def _he_kernel(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """He et al. 2015: variance 2 / fan-in keeps the scale of activations through ReLU."""
    fan_in = shape[0] * shape[1] * shape[2]
    return rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / fan_in))


def _data_uri(image: Image.Image) -> str:
    file = BytesIO()
    image.save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{b64encode(file.getvalue()).decode()}"
