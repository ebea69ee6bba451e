"""Parts of images in n-c-h-w: of any size, what they need, K packed for them, and when "auto" takes them."""

import itertools

import numpy as np
import pytest
from cases import CASES, as_pixels, as_planes, as_slice, is_right, named, operands, turned

import pymec
from pymec import ConvShape, layouts, planning, registry
from pymec.kernels.register_tiles import planes
from pymec.kernels.register_tiles.panels import pack, pack_filters, panels_size

ROW = registry.get("direct_planes")
ALL = [case for case in CASES if case.shape().i_n > 0]


def convolved(shape, part, way=as_planes, n_threads=2, **ends):
    """The result.  The workspace holds NaN before and no element too many; nothing is written beside ``out``."""
    x, kernel = operands(shape)
    (x, _), (kernel, _) = way(x, "input"), way(kernel, "kernel")
    prepared = np.full(panels_size(shape), np.nan, shape.dtype)
    options = dict(zip(("images", "rows", "columns"), part, strict=True))
    ROW.prepare(kernel, prepared, shape, n_threads, **options)
    out, room = way(np.zeros(shape.output_shape, shape.dtype), "output")
    out[...] = 7
    untouched = np.isnan(room)
    workspace = np.full(planes.part_size(shape, *part), np.nan, shape.dtype)
    planes.run(x, kernel, out, workspace, shape, n_threads, prepared=prepared, **options, **ends)
    assert np.isnan(room)[untouched].all()
    return out


# Parts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ALL, ids=named)
def test_parts_of_any_size(case):
    """The bits of ``direct_panels``, whatever the parts: every output is one sum in one order."""
    shape = case.shape()
    x, kernel = operands(shape)
    whole = pymec.conv2d(x, kernel, algorithm="direct_panels", n_threads=1, **shape.arguments)
    parts = itertools.product((1, 2, shape.i_n), (1, 3, shape.o_h), (1, 4, shape.o_w))
    for part, way in itertools.product(parts, (as_planes, as_pixels, as_slice)):
        out = convolved(shape, part, way, n_threads=part[0])
        assert is_right(out, shape), (part, way)
        np.testing.assert_array_equal(out, whole, err_msg=f"{part} {way.__name__}")


def test_each_array_may_lie_in_an_order_of_its_own():
    shape = ConvShape.from_shapes((2, 9, 8, 5), (3, 3, 5, 20), padding=1)
    arrays = *operands(shape), np.zeros(shape.output_shape, np.float32)
    whole = pymec.conv2d(*arrays[:2], algorithm="direct_panels", **shape.arguments)
    for ways in itertools.product(
        (as_planes, as_pixels, as_slice), (as_planes, as_pixels, as_slice), (as_planes, as_pixels)
    ):
        roles = "input", "kernel", "output"
        x, kernel, out = (way(*pair)[0] for way, pair in zip(ways, zip(arrays, roles, strict=True), strict=True))
        nchw = {"layout": "NCHW", "algorithm": "direct_planes", "workspace_limit": 20_000}
        x, kernel, out = x.transpose(0, 3, 1, 2), kernel.transpose(3, 2, 0, 1), out.transpose(0, 3, 1, 2)
        assert pymec.conv2d(x, kernel, out=out, padding=1, **nchw) is out
        np.testing.assert_array_equal(out.transpose(0, 2, 3, 1), whole)


@pytest.mark.parametrize("padding", [((7, 0), (1, 2)), ((0, 9), (6, 0)), ((11, 6), (8, 7))])
@pytest.mark.parametrize("stride", [1, 2, 5])
def test_parts_on_padding_alone(padding, stride):
    """Their outputs are zeros, bias and ReLU as elsewhere; NaN of a bias stays."""
    shape = ConvShape.from_shapes((2, 4, 5, 3), (3, 3, 3, 20), padding=padding, stride=(stride, 1))
    rows = list(planes.parts_of(shape.o_h, 1, shape.i_h, shape.s_h, shape.e_h, shape.p_t))
    assert any(part.inputs.stop <= part.inputs.start for part in rows)
    bias = np.linspace(-3, 3, 20).astype(np.float32)
    bias[7] = np.nan
    x, kernel = operands(shape)
    expected = pymec.conv2d(x, kernel, bias, algorithm="direct", activation="relu", **shape.arguments)
    for part in itertools.product((1, 2), (1, 2, shape.o_h), (1, 2, 5, shape.o_w)):
        assert is_right(convolved(shape, part), shape)
        ended = convolved(shape, part, bias=bias, relu=True)
        np.testing.assert_allclose(ended, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", ALL, ids=named)
def test_what_a_part_needs(case):
    """Parts cover each output once; they are given what their taps reach of the image, and no more."""
    s = case.shape()
    for outputs, extent, stride, dilation, taps, before in (
        (s.o_h, s.i_h, s.s_h, s.d_h, s.k_h, s.p_t), (s.o_w, s.i_w, s.s_w, s.d_w, s.k_w, s.p_l)
    ):  # fmt: skip
        reach = (taps - 1) * dilation + 1
        for most in range(1, outputs + 1):
            covered = []
            for part in planes.parts_of(outputs, most, extent, stride, reach, before):
                mine = range(part.outputs.start, part.outputs.stop)
                covered += mine
                reached = {o * stride + tap * dilation - before for o in mine for tap in range(taps)}
                given = set(range(part.inputs.start, part.inputs.stop))
                assert {h for h in reached if 0 <= h < extent} <= given <= set(range(extent)), "some are missing"
                assert given <= set(range(min(reached), max(reached) + 1)), "nobody reads some"
                assert not given or part.inputs.start - part.padding[0] == min(reached)
                assert not given or len(given) + sum(part.padding) == (len(mine) - 1) * stride + reach
                assert len(given) <= min((most - 1) * stride + reach, extent)
            assert covered == list(range(outputs))


@pytest.mark.parametrize("case", ALL, ids=named)
def test_the_schedule_keeps_to_its_limit(case):
    """From the least, the panels and a part of one output, to what it takes without a limit."""
    shape = case.shape()
    kept = panels_size(shape)
    least, most = ROW.schedule(shape, 2, 0), ROW.schedule(shape, 2, None)
    assert least.size == kept + planes.part_size(shape, 1, 1, 1)
    assert least.prepared == most.prepared == kept
    for beside in (1, 2, 100, 300, 1000, 3000, 10_000, 10**6, 10**12):
        found = ROW.schedule(shape, 2, least.size + beside)
        images, rows, columns = (found.options[name] for name in ("images", "rows", "columns"))
        assert found.size == kept + planes.part_size(shape, images, rows, columns) <= least.size + beside
        assert 1 <= images <= shape.i_n
        assert 1 <= rows <= shape.o_h
        assert 1 <= columns <= shape.o_w
        assert found.size <= most.size
        if least.size + beside >= most.size:
            assert found.options == most.options


def part_of(extents, kernel, m, n_threads=1, limit=None, **options):
    n, h, w, c = extents
    shape = ConvShape.from_shapes((n, h, w, c), (*kernel, c, m), **options)
    return tuple(ROW.schedule(shape, n_threads, limit).options.values())


def test_parts_without_a_limit():
    """As much as level-2 caches hold: rows of large images, columns of wide ones, several small images."""
    assert part_of((1, 56, 56, 64), (3, 3), 64, padding=1) == (1, 28, 56)
    assert part_of((1, 56, 56, 64), (3, 3), 64, n_threads=2, padding=1) == (1, 56, 56)
    assert part_of((1, 10_000, 10_000, 64), (3, 3), 64, padding=1) == (1, 8, 223)
    assert part_of((1, 1, 1_000_000, 64), (1, 9), 64) == (1, 1, 2041)
    assert part_of((1, 1_000_000, 1, 64), (9, 1), 64) == (1, 2041, 1)
    assert part_of((64, 7, 7, 512), (3, 3), 512, padding=1) == (5, 7, 7)
    assert part_of((3, 7, 7, 512), (3, 3), 512, padding=1) == (3, 7, 7)


def test_parts_share_a_quarter_of_what_they_need_at_most():
    """What two parts share is turned twice; where taps lie far apart, that would soon be all of it."""
    assert part_of((1, 128, 128, 64), (3, 3), 32, padding=36, dilation=36) == (1, 128, 128)
    assert part_of((1, 512, 512, 64), (5, 5), 32, padding=2)[1] >= 16
    assert part_of((1, 2000, 2000, 64), (9, 9), 32, padding=4)[1:] == (32, 67)
    assert part_of((1, 2000, 2000, 64), (9, 9), 32, padding=4, limit=300_000)[1:] == (1, 200)
    assert part_of((1, 2000, 2000, 64), (2, 2), 32, stride=2)[1] == 1, "nothing is shared"


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
    assert chosen((1, 1, 100, 100), (16, 1, 5, 5)) == "depthwise_windows"
    assert chosen((1, 1, 100, 100), (32, 1, 5, 5)) != "depthwise_windows"  # too many filters for one at a time
    if tiles:
        assert chosen((1, 64, 56, 56), (64, 64, 1, 1), stride=2) == "direct_planes"
        kept = panels_size(ConvShape.from_shapes((1, 56, 56, 64), (3, 3, 64, 64)))
        least = 4 * (kept + 3 * 3 * 64 + 64)  # one output
        assert chosen((1, 64, 56, 56), (64, 64, 3, 3), workspace_limit=least) == "direct_planes"
        with pytest.raises(ValueError, match=f"direct_planes needs at least {least} bytes"):
            chosen((1, 64, 56, 56), (64, 64, 3, 3), workspace_limit=least - 1)


def test_channels_last_tensors_are_not_turned():
    """ "auto" takes for them what it takes for n-h-w-c: nothing but the kernel is to be copied."""
    x = np.zeros((1, 56, 56, 64), np.float32).transpose(0, 3, 1, 2)
    kernel = np.zeros((64, 64, 3, 3), np.float32)
    shape = ConvShape.from_shapes(x.shape, kernel.shape, layout="NCHW")
    found = {}
    for name, image in (("last", x), ("first", np.ascontiguousarray(x))):
        copies = layouts.copies_of(shape, ("input", "kernel", "output"), [image, kernel], None)
        found[name] = planning.recipe(shape, "auto", "exact", None, 1, copies=copies).algorithm.name
    usual = pymec.explain((1, 56, 56, 64), (3, 3, 64, 64), n_threads=1).chosen
    assert found["last"] == usual != "direct_planes"
    assert found["first"] == ("direct_planes" if usual.startswith("direct_") else usual)
    workspace = np.empty(kernel.nbytes, np.uint8)  # for the kernel turned; no part has room
    out = pymec.conv2d(x, kernel, layout="NCHW", algorithm="direct_blocked", workspace=workspace)
    assert out.shape == (1, 64, 54, 54)


def test_one_channel_of_few_filters():
    """Each by itself with a few, side by side with more; a limit leaves it to BLAS."""

    def chosen(m, k, **options):
        return pymec.explain((1, 256, 256, 1), (k, k, 1, m), padding=k // 2, **options).chosen

    assert [chosen(m, 3) for m in (1, 2, 4, 8)] == ["depthwise_windows"] * 4
    assert [chosen(m, 15) for m in (1, 2, 3)] == ["depthwise_windows"] * 3
    assert "depthwise_windows" not in {chosen(m, k) for m, k in ((9, 3), (16, 3), (4, 15))}
    assert chosen(4, 7, dtype="float64") == "depthwise_windows"
    assert "depthwise_windows" not in (chosen(5, 3, dtype="float64"), chosen(4, 9, dtype="float64"))
    assert chosen(2, 3, workspace_limit=0) in ("direct", "direct_blocked")

    def in_groups(m, k):
        return pymec.explain((1, 56, 56, 20), (k, k, 1, 20 * m), groups=20).chosen

    assert [in_groups(m, 3) for m in (3, 5, 7)] == ["depthwise_windows"] * 3
    assert "depthwise_windows" not in (in_groups(3, 1), in_groups(9, 3))
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
    needed = planes.part_size(shape, 1, 2, 3)
    workspace = np.empty(needed, np.float32)
    arrays = x, kernel, np.empty(shape.output_shape, np.float32)
    options = {"images": 1, "rows": 2, "columns": 3, "prepared": panels}
    with pytest.raises(ValueError, match=f"workspace has {needed - 1} elements, but this stage needs {needed}"):
        planes.run(*arrays, workspace[1:], shape, **options)
    for which, argument in ((0, "x"), (2, "out")):
        others = list(arrays)
        others[which] = turned(others[which], "input")
        with pytest.raises(ValueError, match=f"^{argument} has shape"):
            planes.run(*others, workspace, shape, **options)
    for wrong in ({"images": 0}, {"rows": 0}, {"columns": 0}):
        with pytest.raises(ValueError, match="images, rows and columns must be at least 1"):
            planes.run(*arrays, workspace, shape, **{**options, **wrong})
    for n_threads in (0, 65):
        with pytest.raises(ValueError, match=f"n_threads must be from 1 to 64, got {n_threads}"):
            planes.run(*arrays, workspace, shape, n_threads, **options)
    with pytest.raises(ValueError, match="bias has shape"):
        planes.run(*arrays, workspace, shape, bias=np.ones(3, np.float32), **options)
