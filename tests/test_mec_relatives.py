"""MEC's relatives, stage by stage: what each lays out, and what each says it saves."""

import numpy as np
import pytest
from cases import CASES, answer, operands

import pymec
from pymec import ConvShape, reference, registry
from pymec.kernels.mec import banded, column_bands, im2win
from pymec.kernels.mec import split as mec_split
from pymec.kernels.mec import transposed as mec_w
from pymec.kernels.mec import tuned as mec
from pymec.kernels.shared.blocking import GemmBlocking, whole_product


def close(out, x, kernel, shape):
    error = np.abs(out - reference.conv2d(x, kernel, shape))
    return (error <= reference.error_bound(x, kernel, shape)).all()


# MEC-w ----------------------------------------------------------------------------------------------------


def test_mec_w_lowers_the_transpose_of_what_mec_lowers():
    shape = ConvShape.from_shapes((2, 9, 7, 3), (3, 2, 3, 4), stride=(2, 1), padding=1)
    x, _ = operands(shape)
    horizontal = np.empty(shape.mec_w_size, shape.dtype)
    mec_w.lower(x, horizontal, shape)
    turned = shape.transposed()
    vertical = np.empty(turned.mec_size, shape.dtype)
    mec.lower(np.ascontiguousarray(x.transpose(0, 2, 1, 3)), vertical, turned)
    np.testing.assert_array_equal(horizontal, vertical)
    L = horizontal.reshape(2, shape.o_h, shape.lowered_columns(), 3, 3)
    np.testing.assert_array_equal(L[1, 2, 4], x[1, 3:6, 4])  # y = 2 reads rows 3, 4 and 5


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.motive)
def test_mec_w_never_exceeds_im2col(case):
    assert case.shape().mec_w_size <= case.shape().im2col_size


def test_mec_w_stores_no_horizontal_padding():
    narrow = ConvShape.from_shapes((1, 8, 8, 2), (3, 3, 2, 4))
    padded = ConvShape.from_shapes((1, 8, 8, 2), (3, 3, 2, 4), padding=(0, 2))
    assert padded.mec_w_size == narrow.mec_w_size
    assert padded.mec_size > narrow.mec_size


@pytest.mark.parametrize("blocking", ["blas", (7, 3, 2, 2)])
def test_mec_w_writes_n_h_w_c_for_a_batch_without_repair(blocking):
    shape = ConvShape.from_shapes((3, 8, 9, 4), (3, 2, 4, 5), padding=(1, 2))
    x, kernel = operands(shape)
    L, permuted = np.empty(shape.mec_w_size, "f"), np.empty(shape.permuted_kernel_size, "f")
    out = np.full(shape.output_shape, np.nan, "f")
    mec_w.prepare(kernel, permuted, shape, 2)
    np.testing.assert_array_equal(permuted.reshape(2, 3, 4, 5), kernel.transpose(1, 0, 2, 3))
    mec_w.lower(x, L, shape, 2)
    cut = whole_product(shape.transposed()) if blocking == "blas" else blocking
    mec_w.multiply(L, permuted, out, shape, cut, 2)
    assert close(out, x, kernel, shape)


def test_a_row_of_taps_needs_no_workspace():
    row = registry.get("mec_w")
    flat = ConvShape.from_shapes((2, 6, 9, 4), (1, 3, 4, 5), stride=(1, 2), padding=(0, 1))
    assert flat.is_row_of_taps
    assert row.schedule(flat, 2, None).size == 0
    for other in (
        ConvShape.from_shapes((2, 6, 9, 4), (1, 3, 4, 5), stride=2),  # rows that nobody reads
        ConvShape.from_shapes((2, 6, 10, 4), (1, 3, 4, 5), stride=(1, 2)),  # a column that nobody reads
        ConvShape.from_shapes((2, 6, 9, 4), (1, 3, 4, 5), padding=1),  # rows of zeros
    ):
        assert row.schedule(other, 2, None).size == other.mec_w_size > 0
        x, kernel = operands(other)
        options = {"stride": (other.s_h, other.s_w), "padding": (other.p_t, other.p_l)}
        assert close(pymec.conv2d(x, kernel, algorithm="mec_w", **options), x, kernel, other)
    x, kernel = operands(flat)
    assert close(pymec.conv2d(x, kernel, algorithm="mec_w", stride=(1, 2), padding=(0, 1)), x, kernel, flat)


# Tiles ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["mec_column_split", "mec_channel_split"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.motive)
def test_every_limit_down_to_the_smallest_is_kept(algorithm, case):
    row, shape = registry.get(algorithm), case.shape()
    for n_threads in (1, 2, 7, 64):
        smallest = row.schedule(shape, n_threads, 0).size
        assert smallest <= shape.k_h * shape.k_w * (shape.i_cg if algorithm == "mec_column_split" else 1)
        for more in (0, 1, 2, 5, 30, 200, 1000, 10_000):
            assert row.schedule(shape, n_threads, smallest + more).size <= smallest + more


def test_a_patch_is_enough_for_columns_and_a_channel_of_it_for_channels(monkeypatch):
    """The least band is a row or column, the least tile a pixel or k_h·k_w elements: 36 bytes for 3×3."""
    x, kernel = (1, 20, 300, 64), (3, 3, 64, 32)

    def smallest(algorithm):
        return registry.get(algorithm).schedule(ConvShape.from_shapes(x, kernel), 1, 0).size

    monkeypatch.setattr(pymec.kernels.mec.bands, "fast_tiles", lambda shape: True)
    assert smallest("mec_banded") == 20 * 3 * 64  # a column, by register tiles
    monkeypatch.setattr(pymec.kernels.mec.bands, "fast_tiles", lambda shape: False)
    assert smallest("mec_banded") == 298 * 9 * 64  # a row
    assert smallest("mec_column_split") == 9 * 64
    assert smallest("mec_channel_split") == 9
    monkeypatch.setattr(pymec.auto_rules, "fast_tiles", lambda shape: False)  # where BLAS does the products
    pymec.planning.cached_recipe.cache_clear()
    assert pymec.plan(x, kernel, workspace_limit="16KiB", n_threads=1).algorithm == "mec_column_split"
    assert pymec.plan(x, kernel, workspace_limit=36, n_threads=1).algorithm == "direct"
    pymec.planning.cached_recipe.cache_clear()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.motive)
@pytest.mark.parametrize("of", ["rows", "columns"])
def test_bands(case, of):
    """A slice for each thread or one for all, with every stride, padding, dilation and number of groups."""
    shape = case.shape()
    x, kernel, exact, bound = answer(shape)
    bias = np.linspace(-1, 1, shape.k_c, dtype=shape.dtype)
    expected = np.maximum(exact + bias, 0)
    bound = bound + 2 * np.finfo(shape.dtype).eps * (1 + expected)
    for lines, n_threads, slices in ((1, 1, 1), (1, 3, 1), (2, 2, 2), (3, 3, 1), (99, 2, 2)):
        if of == "rows":
            run, size = banded.run, shape.band_size(min(lines, shape.o_h))
        else:
            run, size = column_bands.run, shape.tile_size(shape.o_h, min(lines, shape.o_w))
        workspace = np.full(slices * size + 1, np.nan, shape.dtype)
        for blocking in (whole_product(shape), GemmBlocking(5, 2, 3, 2, registers=True)):
            out = np.full(shape.output_shape, np.nan, shape.dtype)
            run(x, kernel, out, workspace, shape, n_threads, lines, slices, blocking, bias, True)
            assert np.all(np.abs(out - expected) <= bound)
            assert np.isnan(workspace[-1])


@pytest.mark.parametrize(("run", "name"), [(banded.run, "band_rows"), (column_bands.run, "band_columns")])
def test_bands_need_a_size(run, name):
    shape = ConvShape.from_shapes((1, 5, 5, 2), (3, 3, 2, 4))
    x, kernel = operands(shape)
    with pytest.raises(ValueError, match=f"{name} must be positive .* got 0 and 1"):
        run(x, kernel, np.empty(shape.output_shape, "f"), np.empty(99, "f"), shape, 1, 0, 1, whole_product(shape))


@pytest.mark.parametrize("name", ["cv5", "cv6", "cv10", "cv11"])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_an_eighth_of_mec_is_enough_for_bands(name, n_threads, monkeypatch):
    """Low images and tall kernels take bands of columns: one output row reads up to a quarter of L."""
    monkeypatch.setattr(pymec.kernels.mec.bands, "fast_tiles", lambda shape: True)
    shape = pymec.layers.get(name).shape()
    schedule = registry.get("mec_banded").schedule(shape, n_threads, shape.mec_size // 8)
    assert 0 < schedule.size <= shape.mec_size // 8
    assert ("band_columns" in schedule.options) == (name != "cv10" or n_threads == 2)


def test_wide_images_stay_in_the_cache():
    wide = ConvShape.from_shapes((1, 1080, 1920, 16), (3, 3, 16, 16))
    assert registry.get("mec_banded").schedule(wide, 1, None).size * wide.itemsize > 512 * 1024
    tiles = registry.get("mec_column_split").schedule(wide, 1, None)
    assert 500 * 1024 < tiles.size * wide.itemsize <= 512 * 1024
    assert tiles.options["band_rows"] > 20  # a tenth of the rows is copied twice at most
    assert registry.get("mec_column_split").schedule(wide, 2, None).size == 2 * tiles.size


@pytest.mark.parametrize(
    "tile", [(1, 1, 0), (3, 4, 0), (9, 7, 0), (1, 1, 1), (2, 5, 3), (9, 7, 6), (99, 99, 99)], ids=str
)
@pytest.mark.parametrize("groups", [1, 2])
def test_tiles_that_end_anywhere(tile, groups):
    rows, columns, channels = tile
    shape = ConvShape.from_shapes((2, 10, 9, 8), (3, 2, 8 // groups, 6), padding=1, dilation=(2, 1), groups=groups)
    x, kernel = operands(shape)
    size = shape.tile_size(min(rows, shape.o_h), min(columns, shape.o_w), min(channels, shape.i_cg) or None)
    workspace = np.full(3 * size + 1, np.nan, "f")
    out = np.full(shape.output_shape, np.nan, "f")
    options = {"band_rows": rows, "columns": columns, "channels": channels, "slices": 3}
    mec_split.run(x, kernel, out, workspace, shape, 3, blocking=whole_product(shape), **options)
    assert close(out, x, kernel, shape)
    assert np.isnan(workspace[-1])
    with pytest.raises(
        ValueError, match=f"workspace has {3 * size - 1} elements, but this stage needs {3 * size}"
    ):
        mec_split.run(x, kernel, out, workspace[:-2], shape, 3, blocking=whole_product(shape), **options)


# im2win ---------------------------------------------------------------------------------------------------


def test_a_window_is_one_run_of_the_lowered_matrix():
    """As in the paper: a window is k_w·k_h·i_c elements from x·s_w·k_h·i_c on, in the order of K."""
    shape = ConvShape.from_shapes((2, 9, 8, 3), (3, 2, 3, 4), stride=(1, 2), dtype="float64")
    x, kernel = operands(shape)
    L, permuted = np.empty(shape.mec_w_size), np.empty(shape.permuted_kernel_size)
    mec_w.lower(x, L, shape)
    mec_w.prepare(kernel, permuted, shape)
    window = 2 * 3 * 3
    strips = L.reshape(2, shape.o_h, -1)
    by_hand = np.stack(
        [strips[:, :, c * 18 : c * 18 + window] @ permuted.reshape(window, 4) for c in range(shape.o_w)], axis=2
    )
    np.testing.assert_allclose(by_hand, reference.conv2d(x, kernel, shape))
    out = np.full(shape.output_shape, np.nan)
    im2win.multiply(L, permuted, out, shape, 3)
    np.testing.assert_allclose(out, by_hand)


@pytest.mark.parametrize("i_h", [1, 3, 4, 5])
@pytest.mark.parametrize("k_c", [1, 63, 64, 65, 130])
def test_im2win_at_the_edges_of_its_tiles(i_h, k_c):
    """Four strips by 64 channels by 512 steps of the sum."""
    for i_c in (1, 170, 171, 342):
        shape = ConvShape.from_shapes((1, i_h, 4, i_c), (1, 3, i_c, k_c), padding=(0, 1))
        x, kernel = operands(shape)
        out = pymec.conv2d(x, kernel, padding=(0, 1), algorithm="im2win", n_threads=2)
        assert close(out, x, kernel, shape)


def test_a_limit_of_one_row_is_kept_where_columns_are_longer():
    """Two threads: too little for a row each, and a column takes twenty times as much."""
    shape = ConvShape.from_shapes((1, 100, 5, 64), (3, 3, 64, 64))
    schedule = registry.get("mec_banded").schedule
    assert shape.tile_size(shape.o_h, 1) > shape.band_size(1)
    assert schedule(shape, 2, shape.band_size(1)).size == shape.band_size(1)


def test_padding_on_either_side_makes_rows_of_zeros():
    """Above or below a row of taps: neither algorithm may read the image in place of L."""
    for padding in (((1, 0), (0, 0)), ((0, 1), (0, 0))):
        shape = ConvShape.from_shapes((2, 6, 9, 4), (1, 3, 4, 5), padding=padding)
        assert registry.get("mec_w").schedule(shape, 2, None).size == shape.mec_w_size > 0
        x, kernel = operands(shape)
        for name in ("mec_w", "im2win"):
            error = np.abs(
                pymec.conv2d(x, kernel, algorithm=name, padding=padding) - reference.conv2d(x, kernel, shape)
            )
            assert (error <= reference.error_bound(x, kernel, shape)).all()
