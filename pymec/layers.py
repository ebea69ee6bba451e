"""Named layers: the twelve of the MEC paper's Table 2, and those of well-known networks.

Batch and dtype are the caller's to choose.
"""

from __future__ import annotations

from dataclasses import dataclass

from pymec.shapes import ConvShape
from pymec.spelling import did_you_mean, shown


@dataclass(frozen=True)
class Layer:
    """A convolution layer, without a batch: sizes by the paper's symbols and where they come from."""

    name: str
    i_h: int
    i_w: int
    i_c: int
    k_h: int
    k_w: int
    k_c: int
    s_h: int = 1
    s_w: int = 1
    p_h: int = 0
    p_w: int = 0
    groups: int = 1
    source: str = ""

    def shape(self, i_n: int = 1, dtype: str = "float32") -> ConvShape:
        """This layer on a batch of ``i_n`` images, n-h-w-c."""
        return ConvShape.from_shapes(
            (i_n, self.i_h, self.i_w, self.i_c),
            (self.k_h, self.k_w, self.i_c // self.groups, self.k_c),
            stride=(self.s_h, self.s_w),
            padding=(self.p_h, self.p_w),
            groups=self.groups,
            dtype=dtype,
        )


_TABLE_2 = "Cho & Brand 2017, Table 2"

_VGG = "Simonyan & Zisserman 2014, VGG-16"
_RESNET = "He et al. 2015, ResNet-50 (strides in the 3×3 layers)"
_MOBILENET = "Howard et al. 2017, MobileNet"
_MOBILENET_V2 = "Sandler et al. 2018, MobileNetV2"
_UNET = "Ronneberger et al. 2015, U-Net"
_RESNEXT = "Xie et al. 2017, ResNeXt-50 of 32 groups (strides in the 3×3 layers)"

_PAPER_LAYERS = (
    Layer("cv1", 227, 227, 3, 11, 11, 96, 4, 4, source=_TABLE_2),
    Layer("cv2", 231, 231, 3, 11, 11, 96, 4, 4, source=_TABLE_2),
    Layer("cv3", 227, 227, 3, 7, 7, 64, 2, 2, source=_TABLE_2),
    Layer("cv4", 224, 224, 64, 7, 7, 64, 2, 2, source=_TABLE_2),
    Layer("cv5", 24, 24, 96, 5, 5, 256, source=_TABLE_2),
    Layer("cv6", 12, 12, 256, 3, 3, 512, source=_TABLE_2),
    Layer("cv7", 224, 224, 3, 3, 3, 64, source=_TABLE_2),
    Layer("cv8", 112, 112, 64, 3, 3, 128, source=_TABLE_2),
    Layer("cv9", 56, 56, 64, 3, 3, 64, source=_TABLE_2),
    Layer("cv10", 28, 28, 128, 3, 3, 128, source=_TABLE_2),
    Layer("cv11", 14, 14, 256, 3, 3, 256, source=_TABLE_2),
    Layer("cv12", 7, 7, 512, 3, 3, 512, source=_TABLE_2),
)


def _vgg(name: str, size: int, i_c: int, k_c: int) -> Layer:
    return Layer(f"vgg16.{name}", size, size, i_c, 3, 3, k_c, p_h=1, p_w=1, source=_VGG)


def _resnet(name: str, size: int, i_c: int, k: int, k_c: int, s: int = 1) -> Layer:
    p = k // 2
    return Layer(f"resnet50.{name}", size, size, i_c, k, k, k_c, s, s, p, p, source=_RESNET)


def _depthwise(number: int, size: int, channels: int, s: int) -> Layer:
    name = f"mobilenet.{number}_depthwise"
    return Layer(name, size, size, channels, 3, 3, channels, s, s, 1, 1, groups=channels, source=_MOBILENET)


def _pointwise(number: int, size: int, i_c: int, k_c: int) -> Layer:
    return Layer(f"mobilenet.{number}_pointwise", size, size, i_c, 1, 1, k_c, source=_MOBILENET)


def _resnext(name: str, size: int, channels: int, s: int = 1) -> Layer:
    return Layer(f"resnext50.{name}", size, size, channels, 3, 3, channels, s, s, 1, 1, groups=32, source=_RESNEXT)


def _inverted(number: int, size: int, i_c: int, channels: int, k_c: int, s: int = 1) -> tuple[Layer, ...]:
    """A block of MobileNetV2: to more channels, each convolved by itself, and back to few."""
    name, out = f"mobilenetv2.{number}", size // s
    return (
        Layer(f"{name}_expand", size, size, i_c, 1, 1, channels, source=_MOBILENET_V2),
        Layer(
            f"{name}_depthwise", size, size, channels, 3, 3, channels, s, s, 1, 1, groups=channels,
            source=_MOBILENET_V2,
        ),
        Layer(f"{name}_project", out, out, channels, 1, 1, k_c, source=_MOBILENET_V2),
    )  # fmt: skip


def _unet(name: str, size: int, i_c: int, k_c: int, k: int = 3) -> Layer:
    return Layer(f"unet.{name}", size, size, i_c, k, k, k_c, source=_UNET)


_NETWORK_LAYERS = (
    _vgg("conv1_1", 224, 3, 64),
    _vgg("conv1_2", 224, 64, 64),
    _vgg("conv2_1", 112, 64, 128),
    _vgg("conv2_2", 112, 128, 128),
    _vgg("conv3_1", 56, 128, 256),
    _vgg("conv3_2", 56, 256, 256),
    _vgg("conv4_1", 28, 256, 512),
    _vgg("conv4_2", 28, 512, 512),
    _vgg("conv5_1", 14, 512, 512),
    _resnet("conv1", 224, 3, 7, 64, 2),
    _resnet("conv2_reduce", 56, 256, 1, 64),
    _resnet("conv2_3x3", 56, 64, 3, 64),
    _resnet("conv2_expand", 56, 64, 1, 256),
    _resnet("conv3_reduce", 28, 512, 1, 128),
    _resnet("conv3_stride", 56, 128, 3, 128, 2),
    _resnet("conv3_3x3", 28, 128, 3, 128),
    _resnet("conv3_expand", 28, 128, 1, 512),
    _resnet("conv4_reduce", 14, 1024, 1, 256),
    _resnet("conv4_stride", 28, 256, 3, 256, 2),
    _resnet("conv4_3x3", 14, 256, 3, 256),
    _resnet("conv4_expand", 14, 256, 1, 1024),
    _resnet("conv5_reduce", 7, 2048, 1, 512),
    _resnet("conv5_stride", 14, 512, 3, 512, 2),
    _resnet("conv5_3x3", 7, 512, 3, 512),
    _resnet("conv5_expand", 7, 512, 1, 2048),
    _depthwise(1, 112, 32, 1),
    _pointwise(1, 112, 32, 64),
    _depthwise(2, 112, 64, 2),
    _pointwise(2, 56, 64, 128),
    _depthwise(3, 56, 128, 1),
    _pointwise(3, 56, 128, 128),
    _depthwise(4, 56, 128, 2),
    _pointwise(4, 28, 128, 256),
    _depthwise(5, 28, 256, 1),
    _pointwise(5, 28, 256, 256),
    _depthwise(6, 28, 256, 2),
    _pointwise(6, 14, 256, 512),
    _depthwise(7, 14, 512, 1),
    _pointwise(7, 14, 512, 512),
    _depthwise(12, 14, 512, 2),
    _pointwise(12, 7, 512, 1024),
    _depthwise(13, 7, 1024, 1),
    _pointwise(13, 7, 1024, 1024),
    _resnext("conv2_3x3", 56, 128),
    _resnext("conv3_stride", 56, 256, 2),
    _resnext("conv3_3x3", 28, 256),
    _resnext("conv4_stride", 28, 512, 2),
    _resnext("conv4_3x3", 14, 512),
    _resnext("conv5_stride", 14, 1024, 2),
    _resnext("conv5_3x3", 7, 1024),
    Layer("mobilenetv2.conv1", 224, 224, 3, 3, 3, 32, 2, 2, 1, 1, source=_MOBILENET_V2),
    *_inverted(1, 112, 32, 32, 16)[1:],
    *_inverted(2, 112, 16, 96, 24, 2),
    *_inverted(3, 56, 24, 144, 24),
    *_inverted(4, 56, 24, 144, 32, 2)[1:],
    *_inverted(5, 28, 32, 192, 32),
    *_inverted(7, 28, 32, 192, 64, 2)[1:],
    *_inverted(8, 14, 64, 384, 64),
    *_inverted(11, 14, 64, 384, 96)[2:],
    *_inverted(12, 14, 96, 576, 96),
    *_inverted(14, 14, 96, 576, 160, 2)[1:],
    *_inverted(15, 7, 160, 960, 160),
    *_inverted(17, 7, 160, 960, 320)[2:],
    Layer("mobilenetv2.conv18", 7, 7, 320, 1, 1, 1280, source=_MOBILENET_V2),
    _unet("conv1_1", 572, 1, 64),
    _unet("conv1_2", 570, 64, 64),
    _unet("conv2_1", 284, 64, 128),
    _unet("conv2_2", 282, 128, 128),
    _unet("conv3_1", 140, 128, 256),
    _unet("conv3_2", 138, 256, 256),
    _unet("conv4_1", 68, 256, 512),
    _unet("conv4_2", 66, 512, 512),
    _unet("conv5_1", 32, 512, 1024),
    _unet("conv5_2", 30, 1024, 1024),
    _unet("conv6_1", 56, 1024, 512),
    _unet("conv6_2", 54, 512, 512),
    _unet("conv7_1", 104, 512, 256),
    _unet("conv7_2", 102, 256, 256),
    _unet("conv8_1", 200, 256, 128),
    _unet("conv8_2", 198, 128, 128),
    _unet("conv9_1", 392, 128, 64),
    _unet("conv9_2", 390, 64, 64),
    _unet("conv10", 388, 64, 2, k=1),
)

LAYERS: dict[str, Layer] = {layer.name: layer for layer in (*_PAPER_LAYERS, *_NETWORK_LAYERS)}

PAPER = tuple(layer.name for layer in _PAPER_LAYERS)
"""The names of the paper's twelve layers, in its order."""


def names() -> tuple[str, ...]:
    """The names :func:`get` knows."""
    return tuple(LAYERS)


def get(name: str) -> Layer:
    """The layer of that name.

    Raises
    ------
    ValueError
        For a name that is not in :func:`names`.
    """
    try:
        return LAYERS[name]
    except (KeyError, TypeError):
        hint = did_you_mean(name, LAYERS)
        networks = dict.fromkeys(known.partition(".")[0] for known in LAYERS if "." in known)
        raise ValueError(
            f"no layer is named {shown(name)}; there are {PAPER[0]} to {PAPER[-1]} and the layers of "
            f"{', '.join(networks)}, which pymec.layers.names() and the command pymec layers list{hint}"
        ) from None
