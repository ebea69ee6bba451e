"""Some 300 convolutions far from the paper's, in families, each with its motive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pymec


@dataclass(frozen=True)
class Family:
    motive: str
    shapes: Callable[[], Iterator[pymec.ConvShape]]


def shape(n: int, h: int, w: int, c: int, k: Any, m: int, **options: Any) -> pymec.ConvShape:
    """An n-h-w-c image and a k_h × k_w filter with m outputs; padding="same" unless the options say otherwise."""
    k_h, k_w = k if isinstance(k, tuple) else (k, k)
    options = {"padding": ((k_h // 2, k_h // 2), (k_w // 2, k_w // 2)), **options}
    return pymec.ConvShape.from_shapes((n, h, w, c), (k_h, k_w, c // options.get("groups", 1), m), **options)


def grey() -> Iterator[pymec.ConvShape]:
    for h, w in ((256, 256), (512, 512), (1080, 1920)):
        for k in (3, 5, 7, 9, 15, 31, 63, 127):
            if h * w * k * k < 3e9:
                yield shape(1, h, w, 1, k, 1)
    for k in ((1, 31), (31, 1)):
        yield shape(1, 512, 512, 1, k, 1)
    for m in (2, 4, 8, 16, 32, 64):
        for k in (3, 7, 15):
            yield shape(1, 256, 256, 1, k, m)


def colour() -> Iterator[pymec.ConvShape]:
    for k, s in ((3, 1), (3, 2), (5, 1), (7, 2), (11, 4), (16, 16)):
        for m in (3, 8, 16, 32, 64):
            yield shape(1, 224, 224, 3, k, m, stride=s)


def signals() -> Iterator[pymec.ConvShape]:
    for length in (16_000, 500_000):
        for c, m in ((1, 1), (1, 4), (1, 16), (16, 16), (64, 64)):
            for k, s in ((3, 1), (8, 2), (25, 1), (101, 1)):
                if length * c * m * k / s < 3e9:
                    yield shape(1, 1, length, c, (1, k), m, stride=(1, s))
                    yield shape(1, length, 1, c, (k, 1), m, stride=(s, 1))


def few_channels() -> Iterator[pymec.ConvShape]:
    for c in (1, 2, 3, 4, 6, 8, 12):
        for m in (1, 2, 3, 5, 8, 12, 20):
            yield shape(1, 128, 128, c, 3, m)
    for c in (16, 64):  # few filters of many channels, as the last layers of a segmentation have
        for m in (1, 2, 4, 5, 8, 12):
            for k in (1, 3, (1, 9)):
                yield shape(1, 128, 128, c, k, m)


def many_channels() -> Iterator[pymec.ConvShape]:
    for c, pixels in ((512, 14), (1024, 7), (2048, 7), (512, 4), (1000, 10)):
        for k in (1, 3):
            yield shape(1, pixels, pixels, c, k, c if c < 2048 else 512)
    for c, m, pixels, k in ((1024, 1024, 14, 3), (1024, 1024, 28, 3), (512, 1024, 32, 3), (256, 2048, 14, 1)):
        yield shape(1, pixels, pixels, c, k, m)  # a row of K is a page of memory, or two


def depthwise() -> Iterator[pymec.ConvShape]:
    for c in (1, 3, 8, 16, 24, 31, 32, 64, 96, 144, 200, 256, 1000):
        for k in (3, 5, 9):
            pixels = 112 if c <= 64 else 28
            yield shape(1, pixels, pixels, c, k, c, groups=c)
            if k == 3:
                yield shape(1, pixels, pixels, c, k, c, groups=c, stride=2)
    for c in (16, 128):
        yield shape(1, 56, 56, c, 31, c, groups=c)
        yield shape(1, 56, 56, c, 3, c, groups=c, dilation=2)
    yield shape(1, 56, 56, 32, 3, 64, groups=32)


def groups() -> Iterator[pymec.ConvShape]:
    for g, c_g, m_g in (
        (2, 48, 48),
        (3, 5, 7),
        (32, 4, 4),
        (32, 8, 8),
        (7, 3, 3),
        (8, 6, 6),
        (5, 12, 24),
        (16, 1, 3),
    ):
        for k in (1, 3, 5):
            yield shape(1, 56, 56, g * c_g, k, g * m_g, groups=g)


def pointwise() -> Iterator[pymec.ConvShape]:
    for c, m, pixels in ((16, 96, 112), (24, 144, 56), (64, 64, 56), (3, 8, 224), (512, 512, 7), (320, 1280, 7)):
        for s in (1, 2):
            yield shape(1, pixels, pixels, c, 1, m, stride=s)


def sizes() -> Iterator[pymec.ConvShape]:
    for pixels in (1, 2, 3, 5, 8):
        for c, m in ((4, 4), (32, 32), (256, 256)):
            yield shape(1, pixels, pixels, c, 3, m)
    for c, m in ((1, 8), (3, 16), (8, 8), (16, 16)):
        yield shape(1, 1500, 1500, c, 3, m)
    yield shape(1, 1000, 15, 64, 1, 64)
    yield shape(1, 16, 4096, 16, 3, 16)


def planes() -> Iterator[pymec.ConvShape]:
    for c, pixels, k, s in ((3, 224, 7, 2), (64, 56, 3, 1), (64, 56, 1, 1), (128, 28, 3, 1), (256, 14, 3, 1),
                            (512, 14, 3, 1), (512, 7, 3, 1), (512, 7, 1, 1), (32, 112, 3, 2)):  # fmt: skip
        yield replace(shape(1, pixels, pixels, c, k, max(64, c), stride=s), layout="NCHW")
    yield replace(shape(1, 1000, 15, 64, 1, 64), layout="NCHW")
    for c, pixels, k, s in ((96, 112, 3, 1), (96, 112, 3, 2), (120, 28, 5, 1), (960, 7, 3, 1), (3, 512, 9, 1)):
        yield replace(shape(1, pixels, pixels, c, k, c, stride=s, groups=c), layout="NCHW")
    for c, pixels, m in ((32, 112, 16), (24, 56, 144), (576, 14, 96), (320, 7, 1280)):
        yield replace(shape(1, pixels, pixels, c, 1, m), layout="NCHW")
    yield replace(shape(8, 28, 28, 128, 3, 128), layout="NCHW")


def batches() -> Iterator[pymec.ConvShape]:
    for n in (8, 64, 256):
        for h, c, k, m in ((28, 1, 5, 6), (12, 6, 5, 16), (32, 3, 3, 32), (8, 64, 3, 64), (7, 256, 1, 256)):
            yield shape(n, h, h, c, k, m, padding=0)


FAMILIES = {
    "grey": Family("a grey photograph with one filter, or a few: what everybody tries first", grey),
    "colour": Family("the first layer of a network", colour),
    "signals": Family("one dimension, along rows and along columns", signals),
    "few": Family("fewer channels than a register has lanes", few_channels),
    "many": Family("many channels, few pixels: the kernel is larger than the image", many_channels),
    "depthwise": Family("a filter of its own for each channel, any number of these", depthwise),
    "groups": Family("groups of any size", groups),
    "pointwise": Family("1×1", pointwise),
    "sizes": Family("tiny images, large ones, narrow ones", sizes),
    "batches": Family("many small images", batches),
    "planes": Family("the layout of most networks, NCHW, beside the same arrays in NHWC", planes),
}


def described(s: pymec.ConvShape) -> str:
    """A shape in a few words, with what differs from the usual."""
    text = f"{s.i_n}×{s.i_h}×{s.i_w}×{s.i_c}, {s.k_h}×{s.k_w}, {s.k_c} outputs"
    for name, values in (("stride", (s.s_h, s.s_w)), ("dilation", (s.d_h, s.d_w))):
        if values != (1, 1):
            text += f", {name} {values[0]}×{values[1]}"
    text += f", {s.groups} groups" if s.groups > 1 else ""
    return text + (", NCHW" if s.layout == "NCHW" else "")
