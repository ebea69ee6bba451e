"""The sum of shifted 1×1 convolutions: its stages one by one, and what each form of it keeps."""

import numpy as np
import pytest
from cases import CASES, blocks_for, is_right, named, operands

import pymec
from pymec import ConvShape, reference, registry
from pymec.kernels.small_products import kn2row, shift_gemm

NAMES = ("kn2row", "kn2row_aa", "shift_gemm")
ABLE = [(name, case) for name in NAMES for case in CASES if registry.get(name).unsupported(case.shape()) is None]


def workspace_size(name, shape):
    return registry.get(name).schedule(shape, 1, None).size


@pytest.mark.parametrize(("name", "case"), ABLE, ids=named)
def test_blocks_may_end_anywhere(name, case):
    shape = case.shape()
    x, kernel = operands(shape)
    for blocking, block in blocks_for(shape, [(1, 1, 1, 1), (2, 3, 2, 2), (9999, 9999, 9999, 1)], (1, 5)):
        out = np.full(shape.output_shape, np.nan, np.float32)
        workspace = np.full(workspace_size(name, shape), np.nan, np.float32)
        registry.get(name).run(x, kernel, out, workspace, shape, 2, blocking=blocking, block=block)
        assert is_right(out, shape), (blocking, block)


def blocks_of(name, shape):
    return registry.get(name).schedule(shape, 1, None).options


def test_a_plane_is_every_pixel_times_one_tap():
    shape = ConvShape.from_shapes((1, 5, 4, 6), (2, 3, 3, 8), groups=2, dtype="float64")
    x, kernel = operands(shape)
    planes = np.full(6 * 5 * 4 * 8, np.nan)
    kn2row.multiply(x, kernel, planes, shape, range(6), **blocks_of("kn2row", shape))
    expected = np.concatenate(
        [np.einsum("hwc,abcm->abhwm", x[0, ..., 3 * g : 3 * g + 3], kernel[..., 4 * g : 4 * g + 4])
         for g in range(2)],
        axis=-1,
    )  # fmt: skip
    np.testing.assert_allclose(planes.reshape(expected.shape), expected)
    out = np.full(shape.output_shape, np.nan)
    kn2row.shift_add(planes, out, shape, range(4))
    partly = sum(expected[a, b, a : a + 4, b : b + 2] for a, b in ((0, 0), (0, 1), (0, 2), (1, 0)))
    np.testing.assert_allclose(out[0], partly)
    kn2row.shift_add(planes[4 * 160 :], out, shape, range(4, 6))
    np.testing.assert_allclose(out, reference.conv2d(x, kernel, shape))


def test_a_stride_steps_over_products_that_were_computed_all_the_same():
    """With any stride kn2row computes the planes of stride 1."""
    options = [{"stride": 3}, {}]
    sizes = [workspace_size("kn2row", ConvShape.from_shapes((1, 9, 9, 2), (3, 3, 2, 4), **o)) for o in options]
    assert sizes[0] == sizes[1] == 9 * 9 * 9 * 4


def test_what_runs_past_a_row_is_garbage_in_s_and_not_in_the_output():
    shape = ConvShape.from_shapes((1, 4, 5, 1), (2, 3, 1, 1), dtype="float64")
    x, kernel = np.arange(20.0).reshape(1, 4, 5, 1), np.ones((2, 3, 1, 1))
    S, out = np.full(shift_gemm.scratch_size(shape), np.nan), np.full(shape.output_shape, np.nan)
    shift_gemm.slide(x.reshape(-1), kernel, S, shape, **blocks_of("shift_gemm", shape))
    assert len(S) == 2 * 5 + 3
    flat = x.reshape(-1)
    assert S[3] == sum(flat[[3, 4, 5, 8, 9, 10]])  # columns 3 and 4, and column 0 of the next row
    shift_gemm.compact(S, out, shape)
    np.testing.assert_array_equal(out, reference.conv2d(x, kernel, shape))


@pytest.mark.parametrize("padding", [(0, 1), ((0, 0), (2, 0)), ((1, 0), (0, 3)), ((0, 2), (3, 1)), (0, 5)])
def test_neighbouring_rows_share_their_zeros(padding):
    shape = ConvShape.from_shapes((1, 3, 4, 2), (2, 3, 2, 4), padding=padding)
    x, _ = operands(shape)
    pitch = shift_gemm.row_pitch(shape)
    padded = np.full(shift_gemm.padded_size(shape), np.nan, np.float32)
    shift_gemm.pad(x, padded, shape, 2)
    assert len(padded) == (2 * pitch + shape.p_l + 4 + shape.p_r) * 2
    assert pitch <= 4 + shape.p_l + shape.p_r
    rows = padded.reshape(-1, 2)
    for h in range(3):
        row = rows[h * pitch :][: shape.p_l + 4 + shape.p_r]
        np.testing.assert_array_equal(row, np.pad(x[0, h], ((shape.p_l, shape.p_r), (0, 0))))
    assert np.count_nonzero(padded) == x.size


@pytest.mark.parametrize("name", NAMES)
def test_infinities_stay_in_their_columns_under_padding(name):
    """A repair by subtraction would fail here: infinity minus infinity is NaN."""
    x = np.ones((1, 5, 5, 1), np.float32)
    x[0, 2, 4], x[0, 3, 0] = np.inf, np.nan
    out = pymec.conv2d(x, np.ones((3, 3, 1, 1), np.float32), padding=1, algorithm=name)[0, ..., 0]
    assert np.argwhere(np.isinf(out)).tolist() == [[h, w] for h in (1, 2, 3) for w in (3, 4)]
    assert np.argwhere(np.isnan(out)).tolist() == [[h, w] for h in (2, 3, 4) for w in (0, 1)]


FORMULAS = [  # x, kernel, options, and elements of kn2row, kn2row_aa, shift_gemm
    ((3, 7, 8, 2), (3, 2, 2, 5), {}, 7 * 8 * 6 * 5, 7 * 8 * 5, (4 * 8 + 7) * 5),
    ((3, 7, 8, 2), (3, 2, 2, 5), {"padding": (2, 0)}, 7 * 8 * 6 * 5, 7 * 8 * 5, (8 * 8 + 7) * 5),
    ((1, 7, 8, 2), (3, 3, 2, 5), {"padding": 1}, 7 * 8 * 9 * 5, 7 * 8 * 5, (6 * 9 + 8) * 5 + (6 * 9 + 10) * 2),
    ((2, 7, 8, 4), (3, 1, 2, 6), {"groups": 2}, 7 * 8 * 3 * 6, 7 * 8 * 6, 0),  # the pitch is o_w
    ((2, 7, 8, 4), (1, 1, 4, 6), {}, 0, 0, 0),
]


@pytest.mark.parametrize(("x_shape", "kernel_shape", "options", "all_taps", "one_tap", "pitched"), FORMULAS)
def test_formulas_by_hand(x_shape, kernel_shape, options, all_taps, one_tap, pitched):
    shape = ConvShape.from_shapes(x_shape, kernel_shape, **options)
    assert [workspace_size(name, shape) for name in NAMES] == [all_taps, one_tap, pitched]


def test_what_the_stages_refuse():
    shape = ConvShape.from_shapes((1, 6, 6, 2), (2, 2, 2, 3), stride=(1, 2), padding=1)
    batch = ConvShape.from_shapes((2, 6, 6, 2), (2, 2, 2, 3))
    assert "its stride is 1×2" in registry.get("shift_gemm").unsupported(shape)
    x, kernel = operands(shape)
    planes, blocks = np.empty(36 * 3, np.float32), blocks_of("kn2row", shape)
    with pytest.raises(ValueError, match="taps must be a range within"):
        kn2row.multiply(x, kernel, planes, shape, range(4, 5), **blocks)
    with pytest.raises(ValueError, match="planes has 108 elements"):
        kn2row.multiply(x, kernel, planes, shape, range(2), **blocks)
    with pytest.raises(ValueError, match="block must be"):
        kn2row.multiply(x, kernel, planes, shape, range(1), **{**blocks, "block": 0})
    with pytest.raises(ValueError, match="planes are those of one image"):
        kn2row.multiply(*operands(batch), planes, batch, range(1), **blocks)
    with pytest.raises(ValueError, match="one image at stride 1"):
        shift_gemm.slide(x.reshape(-1), kernel, planes, shape, **blocks)
    with pytest.raises(ValueError, match="one image at stride 1"):
        shift_gemm.pad(np.empty(batch.input_shape, np.float32), planes, batch)
