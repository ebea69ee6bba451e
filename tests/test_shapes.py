"""Sizes by the paper's symbols: the paper's own numbers, definitions counted out, and 64-bit arithmetic."""

import itertools

import numpy as np
import pytest
from cases import CASES

import pymec
from pymec import ConvShape, UnsupportedShape

# Table 2's layers: output extent, elements of im2col's and of MEC's lowered matrix with all i_h rows,
# worked out from the formulas o = (i - k)/s + 1, o·o·k·k·c and o·i·k·c.
TABLE_2 = {
    "cv1": (55, 1_098_075, 412_005),
    "cv2": (56, 1_138_368, 426_888),
    "cv3": (111, 1_811_187, 529_137),
    "cv4": (109, 37_258_816, 10_938_368),
    "cv5": (20, 960_000, 230_400),
    "cv6": (10, 230_400, 92_160),
    "cv7": (222, 1_330_668, 447_552),
    "cv8": (110, 6_969_600, 2_365_440),
    "cv9": (54, 1_679_616, 580_608),
    "cv10": (26, 778_752, 279_552),
    "cv11": (12, 331_776, 129_024),
    "cv12": (5, 115_200, 53_760),
}


@pytest.mark.parametrize("name", pymec.layers.PAPER)
def test_table_2(name):
    shape = pymec.layers.get(name).shape()
    o, im2col, mec = TABLE_2[name]
    assert (shape.o_h, shape.o_w) == (o, o)
    assert (shape.im2col_size, shape.paper_mec_size) == (im2col, mec)
    # Only cv4 has a row that no output reads: 2·108 + 7 = 223 of 224.
    assert shape.lowered_rows() == shape.i_h - (name == "cv4")


def test_the_papers_worked_example():
    shape = ConvShape.from_shapes((1, 7, 7, 1), (3, 3, 1, 1))
    assert (shape.im2col_size, shape.mec_size) == (225, 105)


def rows_read(s, y0, n_y):
    """The definition: input rows under some tap of some of the output rows."""
    positions = (y * s.s_h + a * s.d_h - s.p_t for y in range(y0, y0 + n_y) for a in range(s.k_h))
    return len({h for h in positions if 0 <= h < s.i_h})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.motive)
def test_lowered_rows_are_the_rows_read(case):
    shape = case.shape()
    for y0 in range(shape.o_h):
        for n_y in range(1, shape.o_h - y0 + 1):
            assert shape.lowered_rows(y0, n_y) == rows_read(shape, y0, n_y)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.motive)
def test_a_band_has_room_for_the_hungriest(case):
    shape = case.shape()
    for b in range(1, shape.o_h + 2):
        bands = [(y0, min(b, shape.o_h - y0)) for y0 in range(0, shape.o_h, b)]
        assert shape.band_rows_kept(b) == max(rows_read(shape, *band) for band in bands)


def test_lowered_rows_over_a_grid():
    for i_h, k_h, s_h, d_h, p_t, p_b in itertools.product(
        (1, 4, 9, 10), (1, 2, 3), (1, 2, 3, 4, 6), (1, 2, 3, 4), (0, 1, 5), (0, 2)
    ):
        if d_h * (k_h - 1) + 1 > i_h + p_t + p_b:
            continue
        shape = ConvShape.from_shapes(
            (1, i_h, 3, 1), (k_h, 1, 1, 1), stride=(s_h, 1), dilation=(d_h, 1), padding=((p_t, p_b), (0, 0))
        )
        assert shape.lowered_rows() == rows_read(shape, 0, shape.o_h)
        assert shape.mec_size <= shape.im2col_size


@pytest.mark.parametrize("s", range(1, 12))
def test_the_row_clamp_keeps_mec_below_im2col(s):
    shape = ConvShape.from_shapes((1, 227, 227, 3), (11, 11, 3, 96), stride=s)
    assert shape.mec_size <= shape.im2col_size
    assert (shape.paper_mec_size > shape.im2col_size) == (s == 11)


def test_padding_costs_mec_no_memory():
    plain = ConvShape.from_shapes((1, 9, 9, 4), (3, 3, 4, 8), padding=(0, 1))
    padded = ConvShape.from_shapes((1, 9, 9, 4), (3, 3, 4, 8), padding=(5, 1))
    assert padded.o_h > plain.o_h
    assert padded.mec_size == plain.mec_size


@pytest.mark.parametrize("s", range(1, 5))
def test_same_padding_gives_the_ceiling_and_its_odd_zero_last(s):
    for i, k in itertools.product(range(1, 12), range(1, 6)):
        shape = ConvShape.from_shapes((1, i, i, 1), (k, k, 1, 1), stride=s, padding="same")
        assert shape.o_h == shape.o_w == -(-i // s)
        assert shape.p_b - shape.p_t in (0, 1)


def test_sizes_beyond_32_bits():
    shape = ConvShape.from_shapes((64, 4096, 4096, 64), (7, 7, 64, 64))
    assert shape.im2col_size == 64 * 4090 * 4090 * 49 * 64 > 2**31
    assert pymec.workspace_size((64, 4096, 4096, 64), (7, 7, 64, 64), algorithm="mec") == 4 * shape.mec_size
    # one image of 100 000 x 100 000 pixels: more elements than 32 bits count, rows that BLAS can't count
    with pytest.raises(
        UnsupportedShape, match=r"im2col can't do this shape: its GEMM row count of 99\d{8} .*direct"
    ):
        pymec.workspace_size((1, 100_000, 100_000, 3), (3, 3, 3, 8), algorithm="im2col")


def test_leading_dimension_beyond_blas():
    """MEC's leading dimension is a whole strip: r_h·k_w·i_c."""
    huge = ((1, 2**22, 8, 512), (3, 3, 512, 8))
    with pytest.raises(UnsupportedShape, match="leading dimension of 6442450944"):
        pymec.workspace_size(*huge, algorithm="mec_b")
    assert pymec.workspace_size(*huge, algorithm="mec_banded") > 0
    with pytest.raises(UnsupportedShape, match="row count"):
        pymec.workspace_size((2**20, 2**12, 3, 1), (1, 1, 1, 2), algorithm="im2col")


@pytest.mark.parametrize("name", ["float32", "float64"])
def test_dtypes_by_any_name(name):
    for dtype in (name, np.dtype(name), getattr(np, name)):
        assert ConvShape.from_shapes((1, 3, 3, 1), (2, 2, 1, 1), dtype=dtype).dtype == name


def test_repeated_calls_do_not_soften_the_checks():
    """A remembered stride=1 must not let stride=True or 1.0 through, nor a remembered pair a pair of such."""
    for stride in (1, (1, 1)):
        ConvShape.from_shapes((1, 3, 3, 1), (2, 2, 1, 1), stride=stride)
    for slip in (True, 1.0, (1.0, 1), [1, True], (1, True), (np.float64(1), 1)):
        with pytest.raises((TypeError, ValueError), match="stride"):
            ConvShape.from_shapes((1, 3, 3, 1), (2, 2, 1, 1), stride=slip)
    ConvShape.from_shapes((1, 3, 3, 1), (2, 2, 1, 1), padding=((1, 0), (1, 0)))
    for slip in (((1, 0), (True, 0)), ((1.0, 0), (1, 0)), ((1, False), (1, 0))):
        with pytest.raises((TypeError, ValueError), match="padding"):
            ConvShape.from_shapes((1, 3, 3, 1), (2, 2, 1, 1), padding=slip)


def test_repeated_calls_are_remembered_however_their_options_are_given():
    for options in ({}, {"stride": 2}, {"stride": (2, 1), "padding": ((1, 0), (0, 1))}, {"padding": "same"}):
        first, again = (ConvShape.from_shapes((1, 9, 9, 1), (2, 2, 1, 1), **options) for _ in range(2))
        assert first is again


@pytest.mark.parametrize(
    ("field", "value", "error", "words"),
    [
        ("dtype", "int8", TypeError, "dtype must be float32 or float64, got int8"),
        ("dtype", None, TypeError, "dtype must be float32 or float64, got None"),
        ("layout", "NHCW", ValueError, "layout must be 'NHWC' or 'NCHW', got 'NHCW'"),
        ("layout", None, ValueError, "layout must be 'NHWC' or 'NCHW', got None"),
        ("i_h", 2.5, TypeError, "i_h must be an integer, got 2.5"),
        ("k_c", "8", TypeError, "k_c must be an integer, got '8'"),
        ("groups", True, ValueError, "groups must be an integer, got True"),
        (
            "i_n",
            2**62,
            ValueError,
            "the input, 4611686018427387904 × .* float32, would have .* more than an array can have",
        ),
        ("s_h", 2**31, ValueError, f"s_h must be at most {2**31 - 1}, got {2**31}"),
        ("p_r", 2**61 - 4, ValueError, f"p_r must be at most {2**31 - 1}, got {2**61 - 4}"),
    ],
)
def test_a_shape_made_by_hand_is_checked_too(field, value, error, words):
    fields = {"i_n": 1, "i_h": 8, "i_w": 9, "i_c": 4, "k_h": 3, "k_w": 3, "k_c": 4}
    with pytest.raises(error, match=words):
        ConvShape(**{**fields, field: value})


def test_sizes_become_plain_integers_and_dtypes_names():
    shape = ConvShape(1, np.int64(8), np.uint8(9), 4, 3, 3, 4, dtype=np.float64)
    assert shape == ConvShape(1, 8, 9, 4, 3, 3, 4, dtype="float64")
    assert type(shape.i_h) is type(shape.i_w) is int


def test_a_band_that_alone_reads_the_image():
    """The stride exceeds the image and the kernel does, too: the second output row reads all of it."""
    shape = ConvShape.from_shapes((1, 3, 1, 1), (4, 1, 1, 1), stride=(5, 1), padding=((5, 1), (0, 0)))
    assert [shape.lowered_rows(y, 1) for y in range(shape.o_h)] == [0, 3]
    assert shape.band_rows_kept(1) == 3
