"""Random convolutions for hypothesis, small enough that every algorithm does one in some milliseconds."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from pymec import ConvShape

MOST_MULTIPLY_ADDS = 300_000

IMAGES = st.integers(0, 3)
STRIDES = st.integers(1, 5)
DILATIONS = st.integers(1, 4)
SIDES = st.integers(0, 6)
WIDER = st.sampled_from((*range(21), 110, 230))  # now and then a row wider than any tile
CHANNELS = st.one_of(st.just(1), st.integers(1, 9), st.sampled_from((16, 17, 32, 40)))
GROUPS = st.sampled_from((1, 1, 1, 2, 3, 8, 33, 70))


@st.composite
def shapes(draw, *, i_n=IMAGES, strides=STRIDES, dilations=DILATIONS, sides=SIDES, groups=GROUPS,
           i_cg=CHANNELS, k_cg=CHANNELS, dtypes=("float32", "float64")) -> ConvShape:  # fmt: skip
    """Any valid convolution: kernels not square, wide strides, dilation, four paddings, groups, no image."""
    k_h, k_w, s_h, s_w, d_h, d_w = (
        draw(size) for size in (st.integers(1, 6), st.integers(1, 6), strides, strides, dilations, dilations)
    )
    p_t, p_b, p_l, p_r = (draw(sides) for _ in range(4))
    # each output extent is a number of its own, or the least that the kernel fits
    i_h = max(1, (k_h - 1) * d_h + 1 - p_t - p_b) + draw(st.integers(0, 14))
    i_w = max(1, (k_w - 1) * d_w + 1 - p_l - p_r) + draw(WIDER)
    n_groups, channels_in, channels_out = draw(groups), draw(i_cg), draw(k_cg)
    if n_groups > 8:  # depthwise, or nearly
        channels_in, channels_out = draw(st.sampled_from((1, 1, 2, 4))), draw(st.sampled_from((1, 1, 2, 4, 8)))
    shape = ConvShape.from_shapes(
        (draw(i_n), i_h, i_w, n_groups * channels_in), (k_h, k_w, channels_in, n_groups * channels_out),
        stride=(s_h, s_w), padding=((p_t, p_b), (p_l, p_r)), dilation=(d_h, d_w), groups=n_groups,
        dtype=draw(st.sampled_from(dtypes)),
    )  # fmt: skip
    # The batch goes first, then channels, of the output first or of both: what is left is still a convolution like
    # the one that was drawn.
    if shape.multiply_adds > MOST_MULTIPLY_ADDS:
        shape = replaced(shape, i_n=min(shape.i_n, 1))
    if shape.multiply_adds > MOST_MULTIPLY_ADDS and draw(st.booleans()):
        shape = replaced(shape, k_c=n_groups * min(channels_out, 3))
    if shape.multiply_adds > MOST_MULTIPLY_ADDS:
        shape = replaced(shape, i_c=n_groups * min(channels_in, 4), k_c=n_groups * min(channels_out, 5))
    return shape


def replaced(shape: ConvShape, **sizes: int) -> ConvShape:
    """The shape with other sizes, all of them checked again."""
    s = shape
    new = {"i_n": s.i_n, "i_h": s.i_h, "i_w": s.i_w, "i_c": s.i_c, "k_c": s.k_c, "groups": s.groups, **sizes}
    return ConvShape.from_shapes(
        (new["i_n"], new["i_h"], new["i_w"], new["i_c"]), (s.k_h, s.k_w, new["i_c"] // new["groups"], new["k_c"]),
        **{**s.arguments, "groups": new["groups"]}, dtype=s.dtype,
    )  # fmt: skip


def whole_numbers(extents: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    """Integers from -3 to 3: every sum of a small convolution is exact, in whatever order it is taken."""
    return np.random.default_rng(seed).integers(-3, 4, extents).astype(dtype)
