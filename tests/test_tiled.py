"""Tiles of the output in registers: where tiles end, and what test_algorithms.py doesn't reach."""

import numpy as np
import pytest
from cases import is_right, operands

import pymec
from pymec import ConvShape, reference, registry
from pymec.kernels.direct import smm
from pymec.kernels.im2col import indirect
from pymec.kernels.small_products import yaconv

TILED = ["direct_blocked", "direct_blocked_plain", "indirect", "smm", "yaconv"]


def check(algorithm, x_shape, kernel_shape, dtype="float32", n_threads=2, **options):
    shape = ConvShape.from_shapes(x_shape, kernel_shape, dtype=dtype, **options)
    x, kernel = operands(shape)
    out = np.full(shape.output_shape, np.nan, dtype)
    pymec.conv2d(x, kernel, algorithm=algorithm, n_threads=n_threads, out=out, **options)
    assert is_right(out, shape)


@pytest.mark.parametrize("algorithm", TILED)
@pytest.mark.parametrize("k_c", [1, 15, 16, 17, 31, 32, 33])
def test_blocks_of_channels_end_anywhere(algorithm, k_c):
    """The last block of 16 reaches back; with fewer than 16 channels there is nothing to reach back over."""
    check(algorithm, (1, 5, 6, 3), (3, 3, 3, k_c), padding=1)
    check(algorithm, (1, 5, 6, 4), (3, 3, 2, 2 * k_c), groups=2)


@pytest.mark.parametrize("algorithm", TILED)
@pytest.mark.parametrize("i_w", range(3, 17))
def test_tiles_of_pixels_end_anywhere(algorithm, i_w):
    """A tile of 6 pixels goes on over the ends of rows and images, and the last one may be a single pixel."""
    check(algorithm, (3, 4, i_w, 2), (2, 3, 2, 16))


@pytest.mark.parametrize("algorithm", TILED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_more_channels_on_padding_than_one_line_of_zeros(algorithm, dtype):
    check(algorithm, (1, 3, 3, 600), (3, 3, 600, 17), dtype, padding=2)


@pytest.mark.parametrize("algorithm", TILED)
@pytest.mark.parametrize("k_c", [16, 256])
def test_small_and_large_kernels(algorithm, k_c):
    """A K of more than a quarter of a mebibyte is taken block by block."""
    check(algorithm, (2, 5, 7, 64), (3, 3, 64, k_c), dtype="float64", n_threads=3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pointers_are_the_addresses_of_what_the_taps_read(dtype):
    """A pointer is the address of a pixel of the first image or, for a tap on padding, of the zeros."""
    shape = ConvShape.from_shapes((2, 4, 5, 3), (2, 3, 3, 4), padding=1, stride=(2, 1), dtype=dtype)
    x, _ = operands(shape)
    pixels, entries = shape.o_h * shape.o_w, shape.o_h * shape.o_w * 6
    size = indirect.buffer_size(shape)
    assert size == -(-entries * indirect.POINTER_BYTES // shape.itemsize)
    workspace = np.full(size + shape.i_c, np.nan, dtype)
    indirect.point(x, workspace, shape, 2)
    np.testing.assert_array_equal(workspace[size:], 0)
    zeros = workspace[size:].ctypes.data
    pointers = iter(np.frombuffer(workspace, np.uintp, entries))
    for first in range(0, pixels, 6):
        for tap in range(6):
            for pixel in range(first, min(first + 6, pixels)):
                h = pixel // shape.o_w * 2 - 1 + tap // 3
                w = pixel % shape.o_w - 1 + tap % 3
                inside = 0 <= h < 4 and 0 <= w < 5
                assert next(pointers) == (x[0, h, w].ctypes.data if inside else zeros)
    assert next(pointers, None) is None


@pytest.mark.parametrize("start", [0, 4])
def test_a_workspace_is_aligned_to_elements_and_not_to_pointers(start):
    x_shape, kernel_shape, options = (2, 6, 7, 3), (3, 3, 3, 17), {"padding": 1, "algorithm": "indirect"}
    shape = ConvShape.from_shapes(x_shape, kernel_shape, padding=1)
    x, kernel = operands(shape)
    nbytes = pymec.workspace_size(x_shape, kernel_shape, **options, n_threads=2)
    room = np.empty(nbytes + 12, np.uint8)
    start += -room.ctypes.data % 8
    out = pymec.conv2d(x, kernel, **options, n_threads=2, workspace=room[start : start + nbytes])
    np.testing.assert_array_equal(out, pymec.conv2d(x, kernel, **options, n_threads=2))
    assert is_right(out, shape)


def test_pointers_to_few_channels_take_more_than_the_lowered_matrix_of_mec():
    """With three channels the buffer is two thirds of im2col's matrix in any layer; L is s_h / k_h of it."""
    shape = pymec.layers.get("cv7").shape()
    sizes = {name: registry.get(name).schedule(shape, 1, None).size for name in ("indirect", "im2col", "mec")}
    assert sizes["indirect"] - shape.i_c == sizes["im2col"] * 2 // 3 > sizes["mec"]
    one_image = registry.get("indirect").schedule(shape, 1, None).size
    batch = ConvShape.from_shapes((8, 224, 224, 3), (3, 3, 3, 64))
    assert registry.get("indirect").schedule(batch, 1, None).size == one_image


@pytest.mark.parametrize(
    "options", [{}, {"stride": (1, 3)}, {"padding": (0, 4)}, {"padding": 2, "dilation": 3}], ids=str
)
def test_a_plane_is_one_channel_under_one_kernel_column(options):
    shape = ConvShape.from_shapes((2, 9, 8, 4), (2, 3, 4, 5), **options)
    x, _ = operands(shape)
    padded = np.pad(x, ((0, 0), (0, 0), (shape.p_l, shape.p_r), (0, 0)))
    P = np.full((shape.i_h, shape.o_w), np.nan, np.float32)
    for b in range(3):
        smm.pack(x, P.reshape(-1), shape, 1, 2, b)
        first = b * shape.d_w
        np.testing.assert_array_equal(
            P, padded[1, :, first : first + (shape.o_w - 1) * shape.s_w + 1 : shape.s_w, 2]
        )


def test_the_next_kernel_row_is_the_same_plane_a_row_further():
    """The lesson of SMM-Conv: k_w planes a channel are packed, not k_h·k_w."""
    shape = ConvShape.from_shapes((1, 6, 7, 2), (3, 2, 2, 4), dtype="float64")
    x, kernel = operands(shape)
    P = np.empty(shape.i_h * shape.o_w)
    out = np.zeros((shape.o_h * shape.o_w, shape.k_c))
    for c in range(2):
        for b in range(2):
            smm.pack(x, P, shape, 0, c, b)
            for a in range(3):
                out += np.outer(P[a * shape.o_w :][: len(out)], kernel[a, b, c])
    np.testing.assert_allclose(out.reshape(shape.output_shape), reference.conv2d(x, kernel, shape), rtol=1e-12)


@pytest.mark.parametrize("k_c", [63, 64, 65, 128])
def test_planes_serve_64_channels_at_a_time(k_c):
    check("smm", (2, 5, 6, 3), (3, 3, 3, k_c), n_threads=3, padding=1)


def test_a_plane_for_each_thread_that_has_outputs_of_its_own():
    shape = ConvShape.from_shapes((2, 10, 9, 3), (3, 3, 3, 65))
    schedule = registry.get("smm").schedule
    assert smm.n_tasks(shape) == 4
    assert [schedule(shape, n, None).size for n in (1, 3, 9)] == [70, 210, 280]
    assert schedule(shape, 3, 150).size == 140
    assert schedule(shape, 3, 0).size == 70
    with pytest.raises(ValueError, match="kernel column 3"):
        smm.pack(np.ones(shape.input_shape), np.empty(70), shape, 0, 0, 3)


YACONV = [
    ((2, 12, 5, 3), (3, 2, 3, 17), {}),
    ((1, 6, 5, 2), (4, 3, 2, 4), {"padding": ((2, 1), (1, 0))}),
    ((1, 18, 6, 4), (2, 3, 2, 6), {"groups": 2, "dilation": (3, 2), "padding": (0, 3)}),
]


@pytest.mark.parametrize(("x_shape", "kernel_shape", "options"), YACONV)
def test_the_spill_is_what_more_padding_would_have_kept(x_shape, kernel_shape, options):
    """Slack rows hold the additional output rows that padding of e_h - 1 above and below would give."""
    shape = ConvShape.from_shapes(x_shape, kernel_shape, dtype="float64", **options)
    x, kernel = operands(shape)
    most = shape.e_h - 1
    full_options = {**options, "padding": ((most, most), (shape.p_l, shape.p_r))}
    full_shape = ConvShape.from_shapes(x_shape, kernel_shape, dtype="float64", **full_options)
    full = reference.conv2d(x[-1:], kernel, full_shape.single_image())[0]
    above = most - shape.p_t
    out = np.zeros(shape.output_shape)
    spill = np.zeros(registry.get("yaconv").schedule(shape, 1, None).size)
    for h0 in range(0, shape.i_h, 6):
        yaconv.add_rows(x, kernel, out, spill, shape, shape.i_n - 1, h0, 2)
    rows = spill.reshape(-1, shape.o_w, shape.k_c)
    np.testing.assert_allclose(out[-1], full[above : above + shape.o_h], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(rows[:above], full[:above], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(rows[above:], full[above + shape.o_h :], rtol=1e-10, atol=1e-12)


def test_six_image_rows_reach_no_further_than_the_kernel():
    shape = ConvShape.from_shapes((1, 13, 4, 2), (3, 3, 2, 16), dtype="float64")
    x, kernel = operands(shape)
    out, spill = np.zeros(shape.output_shape), np.zeros(yaconv.spill_size(shape))
    yaconv.add_rows(x, kernel, out, spill, shape, 0, 6)
    touched = [y for y in range(shape.o_h) if out[0, y].any()]
    assert touched == list(range(4, 11))  # image rows 6 to 11 minus kernel rows 0 to 2
    slack = spill.reshape(-1, shape.o_w, 16).any((1, 2))
    assert slack.tolist() == [False] * 2 + [True, False] + [False] * 5  # and row 11, the first one past the output


def test_yaconv_begins_with_zeros():
    shape = ConvShape.from_shapes((1, 13, 4, 2), (3, 2, 2, 17), padding=(1, 0))
    out, spill = (np.full(size, np.nan, np.float32) for size in (shape.output_shape, yaconv.spill_size(shape)))
    yaconv.begin(out, spill, shape, 2)
    assert not out.any()
    assert not spill.any()


@pytest.mark.parametrize("i_h", range(3, 15))
@pytest.mark.parametrize("padding", [0, 1, ((0, 2), (1, 0)), 5])
def test_the_spill_by_its_formula(i_h, padding):
    shape = ConvShape.from_shapes((2, i_h, 5, 3), (3, 2, 3, 17), padding=padding)
    size = (max(0, 2 - shape.p_t) + max(0, 2 - shape.p_b) + -i_h % 6) * shape.o_w * 17
    assert yaconv.spill_size(shape) == registry.get("yaconv").schedule(shape, 3, None).size == size
    check("yaconv", (2, i_h, 5, 3), (3, 2, 3, 17), n_threads=3, padding=padding)


def test_yaconv_steps_by_one():
    assert registry.get("yaconv").unsupported(pymec.layers.get("cv1").shape()).startswith("its stride is 4×4")
    one = ConvShape.from_shapes((1, 9, 9, 1), (1, 1, 1, 1))
    x = np.ones((1, 9, 9, 1), np.float32)
    with pytest.raises(ValueError, match="there are no 6 rows from 3 on"):
        yaconv.add_rows(x, np.ones((1, 1, 1, 1), np.float32), x.copy(), np.ones(99, np.float32), one, 0, 3)
