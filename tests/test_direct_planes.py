"""Bands of images in n-c-h-w: of any size, what they need, K packed for them, and when "auto" does so."""

import numpy as np
import pytest
from cases import CASES, as_pixels, as_planes, as_slice, is_right, named, operands, turned

import pymec
from pymec import ConvShape, registry
from pymec.kernels.register_tiles import planes
from pymec.kernels.register_tiles.panels import pack, pack_filters, panels_size

ROW = registry.get("direct_planes")
ALL = [case for case in CASES if case.shape().i_n > 0]


def convolved(shape, images, rows, way=as_planes, n_threads=2, **ends):
    """The result.  The workspace holds NaN before and no element too many; nothing is written beside ``out``."""
    x, kernel = operands(shape)
    (x, _), (kernel, _) = way(x, "input"), way(kernel, "kernel")
    prepared = np.full(panels_size(shape), np.nan, shape.dtype)
    ROW.prepare(kernel, prepared, shape, n_threads, images=images, rows=rows)
    out, room = way(np.zeros(shape.output_shape, shape.dtype), "output")
    out[...] = 7
    untouched = np.isnan(room)
    workspace = np.full(planes.band_size(shape, images, rows), np.nan, shape.dtype)
    options = {"images": images, "rows": rows, "prepared": prepared, **ends}
    planes.run(x, kernel, out, workspace, shape, n_threads, **options)
    assert (np.isnan(room) == untouched).all()
    return out


# Bands --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ALL, ids=named)
def test_bands_of_any_size(case):
    """The bits of ``direct_panels``, whatever the bands: every output is one sum in one order."""
    shape = case.shape()
    x, kernel = operands(shape)
    whole = pymec.conv2d(x, kernel, algorithm="direct_panels", n_threads=1, **shape.arguments)
    bands = [(1, rows) for rows in (1, 2, 3, shape.o_h)] + [(images, shape.o_h) for images in (2, 3)]
    for images, rows in bands:
        for way in (as_planes, as_pixels, as_slice):
            out = convolved(shape, images, min(rows, shape.o_h), way, n_threads=images)
            assert is_right(out, shape), (images, rows, way)
            np.testing.assert_array_equal(out, whole, err_msg=f"{images} images, {rows} rows, {way.__name__}")


@pytest.mark.parametrize("padding", [(7, 0), (0, 9), (11, 6)])
@pytest.mark.parametrize("stride", [1, 2, 5])
def test_bands_on_padding_alone(padding, stride):
    """Their outputs are zeros, bias and ReLU as elsewhere."""
    shape = ConvShape.from_shapes((2, 4, 5, 3), (3, 3, 3, 20), padding=(padding, (1, 2)), stride=(stride, 1))
    bands = [band for rows in (1, 2, 3) for band in planes.bands_of(shape, 1, rows)]
    assert any(band.on_padding for band in bands)
    assert not all(band.on_padding for band in bands)
    bias = np.linspace(-3, 3, 20).astype(np.float32)
    for rows in range(1, shape.o_h + 1):
        assert is_right(convolved(shape, 1, rows), shape)
        ended = convolved(shape, 1, rows, bias=bias, relu=True)
        np.testing.assert_allclose(ended, np.maximum(convolved(shape, 1, rows) + bias, 0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", ALL, ids=named)
def test_what_a_band_needs(case):
    """Bands cover each output row once; their layers have the rows of the image that their taps reach."""
    shape = case.shape()
    for rows in range(1, shape.o_h + 1):
        covered = []
        for band in planes.bands_of(shape, 1, rows):
            layer = band.layer
            covered += range(band.y, band.y + layer.o_h)
            first = band.y * shape.s_h - shape.p_t
            reached = {first + y * shape.s_h + a * shape.d_h for y in range(layer.o_h) for a in range(shape.k_h)}
            reached = {h for h in reached if 0 <= h < shape.i_h}
            given = set() if band.on_padding else set(range(band.h, band.h + layer.i_h))
            assert reached <= given, "a row is missing"
            last = first + (layer.o_h - 1) * shape.s_h + shape.e_h - 1
            assert given <= set(range(first, last + 1)), "rows that nobody reads"
            size = (layer.i_h * shape.i_w * shape.i_c) + layer.o_h * shape.o_w * shape.k_c
            assert size <= planes.band_size(shape, 1, rows)
        assert covered == list(range(shape.o_h))


@pytest.mark.parametrize("case", ALL, ids=named)
def test_the_schedule_keeps_to_its_limit(case):
    """From the least, the panels and a band of one row, to what it takes without a limit."""
    shape = case.shape()
    kept = panels_size(shape)
    least = ROW.schedule(shape, 2, 0)
    assert least.size == kept + planes.band_size(shape, 1, 1)
    assert least.prepared == kept
    for beside in (1, 2, 100, 1000, 10_000, 10**6):
        limit = least.size + beside
        found = ROW.schedule(shape, 2, limit)
        images, rows = found.options["images"], found.options["rows"]
        assert found.size == kept + planes.band_size(shape, images, rows) <= limit
        assert 1 <= images <= shape.i_n
        assert 1 <= rows <= shape.o_h
        assert images == 1 or rows == shape.o_h
        larger = kept + (
            planes.band_size(shape, 1, rows + 1) if rows < shape.o_h else planes.band_size(shape, images + 1, rows)
        )
        parts = -(-shape.o_h // rows) if rows < shape.o_h else -(-shape.i_n // images)
        assert parts == 1 or larger > limit or -(-shape.o_h // (rows + 1)) == parts or rows == shape.o_h


def test_bands_without_a_limit():
    """As much as a level-2 cache of each thread: rows of large images, several small ones."""

    def band(extents, m, n_threads=1):
        n, h, w, c = extents
        shape = ConvShape.from_shapes((n, h, w, c), (3, 3, c, m), padding=1)
        options = ROW.schedule(shape, n_threads, None).options
        return options["images"], options["rows"]

    assert band((1, 56, 56, 64), 64) == (1, 28)
    assert band((1, 56, 56, 64), 64, n_threads=2) == (1, 56)
    assert band((4, 1000, 1000, 64), 64) == (1, 1)
    assert band((64, 7, 7, 512), 512) == (5, 7)
    assert band((3, 7, 7, 512), 512) == (3, 7)


# The packed kernel --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("k_c", [1, 3, 8, 15, 16, 17, 33, 40, 64])
def test_panels_of_the_other_order_are_the_same(k_c, dtype):
    for (k_h, k_w), i_cg, groups in (
        ((1, 1), 20, 1),
        ((3, 2), 5, 2),
        ((1, 7), 33, 1),
        ((5, 5), 1, 3),
        ((2, 8), 2, 2),
    ):
        extents = (k_h, k_w, i_cg, k_c * groups)
        shape = ConvShape.from_shapes((1, 9, 9, i_cg * groups), extents, groups=groups, dtype=dtype)
        _, kernel = operands(shape)
        room = np.full((2, panels_size(shape) + 16), np.nan, dtype)
        for start in (0, 3):
            expected, panels = room[:, start : start + panels_size(shape)]
            pack(kernel, expected, shape)
            for n_threads in (1, 3):
                panels[:] = np.nan
                pack_filters(turned(kernel, "kernel"), panels, shape, n_threads)
                line = 64 // shape.itemsize
                first, other = (-(array.ctypes.data // shape.itemsize) % line for array in (expected, panels))
                size = panels_size(shape) - line
                np.testing.assert_array_equal(panels[other : other + size], expected[first : first + size])
                panels[:] = np.nan
                pack(as_slice(kernel, "kernel")[0], panels, shape, n_threads)
                np.testing.assert_array_equal(panels[other : other + size], expected[first : first + size])


def test_a_plan_takes_the_kernel_over():
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal((2, 20, 9, 9)), rng.standard_normal((24, 20, 3, 3))
    options = {"layout": "NCHW", "algorithm": "direct_planes", "padding": 1, "dtype": "float64"}
    plan = pymec.plan(x.shape, kernel.shape, **options).prepare(kernel, take_over=True)
    np.testing.assert_array_equal(plan.kernel, kernel)
    other = pymec.plan((5, 20, 4, 7), kernel.shape, **options).share(plan)
    np.testing.assert_array_equal(
        plan(x), pymec.conv2d(x, kernel, padding=1, layout="NCHW", algorithm="direct_planes")
    )
    images = rng.standard_normal((5, 20, 4, 7))
    expected = pymec.conv2d(images, kernel, padding=1, layout="NCHW", algorithm="direct")
    np.testing.assert_allclose(other(images), expected, rtol=1e-10, atol=1e-10)


# When "auto" does so ------------------------------------------------------------------------------------


def test_what_auto_takes_for_planes():
    def chosen(x, kernel, **options):
        return pymec.explain(x, kernel, layout="NCHW", **options).chosen

    usual = pymec.explain((1, 56, 56, 64), (3, 3, 64, 64), padding=1).chosen
    tiles = usual in ("direct_panels", "direct_blocked")
    assert chosen((1, 64, 56, 56), (64, 64, 3, 3), padding=1) == ("direct_planes" if tiles else usual)
    assert chosen((1, 64, 56, 56), (64, 64, 1, 1)) == "pointwise_planes"
    if tiles:
        assert chosen((1, 64, 56, 56), (64, 64, 1, 1), stride=2) == "direct_planes"
        kept = panels_size(ConvShape.from_shapes((1, 56, 56, 64), (3, 3, 64, 64)))
        least = 4 * (kept + 3 * 56 * 64 + 54 * 64)
        assert chosen((1, 64, 56, 56), (64, 64, 3, 3), workspace_limit=least) == "direct_planes"
        with pytest.raises(ValueError, match=f"direct_planes needs at least {least} bytes"):
            chosen((1, 64, 56, 56), (64, 64, 3, 3), workspace_limit=least - 1)


def test_channels_last_tensors_are_not_turned():
    x = np.zeros((1, 56, 56, 64), np.float32).transpose(0, 3, 1, 2)
    kernel = np.zeros((64, 64, 3, 3), np.float32)
    plain = pymec.explain(np.ascontiguousarray(x).shape, kernel.shape, layout="NCHW").chosen
    workspace = np.empty(kernel.nbytes + 64, np.uint8)  # for the kernel turned; no band has room
    out = pymec.conv2d(x, kernel, layout="NCHW", algorithm="direct_blocked", workspace=workspace)
    assert out.shape == (1, 64, 54, 54)
    assert plain in ("direct_planes", "mec", "mec_banded")


def test_one_channel_of_few_filters():
    """Each by itself with a few, side by side with more; a limit leaves it to BLAS."""

    def chosen(m, k, **options):
        return pymec.explain((1, 256, 256, 1), (k, k, 1, m), padding=k // 2, **options).chosen

    assert [chosen(m, 3) for m in (1, 2, 4, 6)] == ["depthwise_windows"] * 4
    assert [chosen(m, 15) for m in (1, 2, 3)] == ["depthwise_windows"] * 3
    assert "depthwise_windows" not in {chosen(m, k) for m, k in ((7, 3), (16, 3), (4, 15))}
    assert chosen(3, 3, dtype="float64") == "depthwise_windows"
    assert chosen(4, 3, dtype="float64") != "depthwise_windows"
    assert chosen(2, 3, workspace_limit=0) in ("direct", "direct_blocked")
    planes_of = [
        pymec.explain((1, 1, 256, 256), (m, 1, 7, 7), padding=3, layout="NCHW").chosen for m in (4, 16, 17, 64)
    ]
    assert planes_of[:2] == ["depthwise_windows"] * 2
    assert "depthwise_windows" not in planes_of[2:]


# Errors -------------------------------------------------------------------------------------------------


def test_stages_refuse_what_they_would_read_wrongly():
    shape = ConvShape.from_shapes((1, 5, 6, 4), (3, 3, 4, 20))
    x, kernel = operands(shape)
    outer = turned(kernel, "kernel")
    panels = np.empty(panels_size(shape), np.float32)
    with pytest.raises(ValueError, match="^kernel has shape"):
        pack_filters(kernel, panels, shape)
    with pytest.raises(ValueError, match=f"panels has {panels.size - 1} elements, but this stage needs"):
        pack_filters(outer, panels[1:], shape)
    with pytest.raises(ValueError, match="n_threads must be from 1 to 64, got 0"):
        pack_filters(outer, panels, shape, 0)
    with pytest.raises(ValueError, match="^kernel must have positive strides of whole elements, got -4"):
        pack(kernel[..., ::-1], panels, shape)
    pack_filters(outer, panels, shape)
    needed = planes.band_size(shape, 1, 2)
    workspace = np.empty(needed, np.float32)
    arrays = x, kernel, np.empty(shape.output_shape, np.float32)
    options = {"images": 1, "rows": 2, "prepared": panels}
    with pytest.raises(ValueError, match=f"workspace has {needed - 1} elements, but this stage needs {needed}"):
        planes.run(*arrays, workspace[1:], shape, **options)
    for which, argument in ((0, "x"), (2, "out")):
        others = list(arrays)
        others[which] = turned(others[which], "input")
        with pytest.raises(ValueError, match=f"^{argument} has shape"):
            planes.run(*others, workspace, shape, **options)
    for wrong in ({"images": 0}, {"rows": 0}):
        with pytest.raises(ValueError, match="images and rows must be at least 1"):
            planes.run(*arrays, workspace, shape, **{**options, **wrong})
