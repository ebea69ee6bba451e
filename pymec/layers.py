"""Named layers: the twelve of the MEC paper's Table 2 (batch and dtype are the caller's to choose)."""

from __future__ import annotations

from dataclasses import dataclass

from pymec.shapes import ConvShape


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

LAYERS: dict[str, Layer] = {
    layer.name: layer
    for layer in (
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
}

PAPER = tuple(LAYERS)
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
        raise ValueError(f"no layer is named {name!r}; there are {', '.join(LAYERS)}") from None
