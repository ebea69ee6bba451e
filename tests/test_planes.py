"""Algorithms that turn nothing: tiles of every size, arrays however they lie, and when "auto" takes them."""

import itertools

import numpy as np
import pytest
from cases import CASES, as_pixels, as_planes, as_slice, is_right, named, operands, turned

import pymec
from pymec import ConvShape, layouts, registry
from pymec.kernels.direct import depthwise_windows
from pymec.kernels.register_tiles.tile import register_nbytes
from pymec.kernels.small_products import pointwise_planes

PLANES = layouts.Reading.PLANES
NAMES = ("depthwise_windows", "pointwise_planes")
TURNS_PARTS = "direct_planes"  # of which tests/test_direct_planes.py
STEPS = [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (3, 2), (2, 3), (4, 6), (6, 4), (1, 7)]
TILES = [(1, 1), (2, 3), (5, 4), (3, 100), (100, 100)]


def test_their_names():
    turn_nothing = PLANES, layouts.Reading.STRIDES
    found = [name for name in pymec.algorithms() if registry.get(name).reading(CASES[0].shape()) in turn_nothing]
    assert set(found) == {*NAMES, TURNS_PARTS}
    assert registry.get("pointwise_planes").fuses_bias_relu, "the pass that does so for others sees pixels"


# Depthwise ----------------------------------------------------------------------------------------------


def run_windows(shape, nbytes, way=as_pixels, n_threads=2, **options):
    """The result, and whether nothing was written beside it.  The workspace holds NaN before."""
    x, kernel = operands(shape)
    (x, _), (kernel, _) = way(x, "input"), way(kernel, "kernel")
    out, room = way(np.zeros(shape.output_shape, shape.dtype), "output")
    out[...] = 7
    untouched = np.isnan(room)
    workspace = np.full(nbytes, np.nan, shape.dtype)
    depthwise_windows.run(x, kernel, out, workspace, shape, n_threads, **options)
    return out, (np.isnan(room) == untouched).all()


def numbers_read(outputs, k, s, d):
    """Windows along an axis, one for each remainder, and the rows (or columns) of each, read or between."""
    read = {}
    for tap, output in itertools.product(range(k), range(outputs)):
        read.setdefault(tap * d % s, set()).add((tap * d + output * s) // s)
    return len(read), max(max(rows) - min(rows) + 1 for rows in read.values())


@pytest.mark.parametrize(("stride", "dilation"), STEPS)
def test_windows_hold_what_a_tile_reads(stride, dilation):
    for k_h, k_w in ((1, 1), (1, 4), (3, 2), (5, 7)):
        shape = ConvShape.from_shapes(
            (1, 90, 91, 2), (k_h, k_w, 1, 2), groups=2, stride=(stride, 1), dilation=(dilation, 2)
        )
        for rows, columns in TILES:
            windows_h, lines = numbers_read(rows, k_h, stride, dilation)
            windows_w, pitch = numbers_read(columns, k_w, 1, 2)
            assert (
                depthwise_windows.window_size(shape, rows, columns) == windows_h * windows_w * lines * pitch + 96
            )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("stride", "dilation"), STEPS)
def test_tiles_end_anywhere(stride, dilation, dtype):
    for (k_h, k_w), multiplier in itertools.product(((3, 2), (2, 5), (1, 1)), (1, 3)):
        shape = ConvShape.from_shapes(
            (2, 21, 40, 3), (k_h, k_w, 1, 3 * multiplier), groups=3, stride=(stride, max(1, stride - 1)),
            dilation=(dilation, 1 + dilation // 2), padding=((3, 1), (2, 4)), dtype=dtype,
        )  # fmt: skip
        for (rows, columns), slices in itertools.product(TILES, (1, 3)):
            size = slices * depthwise_windows.window_size(shape, rows, columns)
            for way in (as_pixels, as_planes, as_slice):
                out, alone = run_windows(shape, size, way, slices=slices, rows=rows, columns=columns)
                assert is_right(out, shape), (k_h, k_w, multiplier, rows, columns, slices, way)
                assert alone


DEPTHWISE = [case for case in CASES if registry.get("depthwise_windows").unsupported(case.shape()) is None]


@pytest.mark.parametrize("case", DEPTHWISE, ids=named)
def test_the_schedule_keeps_to_its_limit(case):
    """From the least, a row of one vector, to what it takes without a limit."""
    shape, row = case.shape(), registry.get("depthwise_windows")
    least = row.schedule(shape, 2, 0)
    assert least.size == depthwise_windows.window_size(shape, 1, min(shape.o_w, 96))
    for limit in (least.size, 2 * least.size, 1000, 10_000, 10**6):
        found = row.schedule(shape, 2, limit)
        slices, rows, columns = (found.options[name] for name in ("slices", "rows", "columns"))
        assert found.size == slices * depthwise_windows.window_size(shape, rows, columns)
        assert found.size <= max(limit, least.size)
        assert 1 <= rows <= shape.o_h
        assert 1 <= columns <= shape.o_w
    assert is_right(run_windows(shape, least.size, **least.options)[0], shape)


def test_windows_larger_than_a_cache_are_for_others():
    """A window spans its taps: with a large dilation "auto" takes an algorithm that skips what lies between."""
    options = {"groups": 3, "padding": 600, "dilation": 600}
    assert pymec.explain((1, 16, 16, 3), (3, 3, 1, 3), **options).chosen == "depthwise"
    assert pymec.explain((1, 3, 16, 16), (3, 1, 3, 3), layout="NCHW", **options).chosen == "depthwise"


def test_every_thread_has_rows():
    shape = ConvShape.from_shapes((1, 100, 100, 1), (3, 3, 1, 1))
    for n_threads in (1, 2, 5, 20):
        options = registry.get("depthwise_windows").schedule(shape, n_threads, None).options
        assert options["slices"] == n_threads
        assert -(-98 // options["rows"]) >= n_threads


def test_wide_and_small_images():
    """A tile is as wide as the image, unless a row of it has no room; a plane is cut for threads only by rows."""

    def tile(i_h, i_w, channels, k, n_threads=1):
        shape = ConvShape.from_shapes(
            (1, i_h, i_w, channels), (k, k, 1, channels), groups=channels, padding=k // 2
        )
        options = registry.get("depthwise_windows").schedule(shape, n_threads, None).options
        return options["slices"], options["rows"], options["columns"]

    assert tile(14, 14, 512, 3) == (1, 14, 14)
    assert tile(112, 112, 32, 3) == (1, 28, 112)  # 30 lines of 114 in 16 KiB
    assert tile(512, 512, 1, 31, n_threads=2) == (2, 1, 512)
    assert tile(40, 100_000, 1, 5)[1:] == (1, 25_000)  # 5 lines of 25,004 in 512 KiB


# Pointwise ----------------------------------------------------------------------------------------------


def run_products(shape, **options):
    """The result in n-h-w-c, of an array that holds NaN before."""
    x, kernel = operands(shape)
    out = np.full(layouts.inner_extents("output", shape, PLANES), np.nan, shape.dtype)
    arrays = turned(x, "input"), turned(kernel, "kernel"), out
    pointwise_planes.run(*arrays, np.empty(0, shape.dtype), shape, 2, **options)
    return out.transpose(layouts.INNER_AXES["output"])


@pytest.mark.parametrize("groups", [1, 3])
def test_products_are_cut_anywhere(groups):
    shape = ConvShape.from_shapes((2, 7, 9, 12), (1, 1, 12 // groups, 15), groups=groups)
    for pixels, channels in itertools.product((1, 5, 16, 63, 100), (1, 4, 5, 15)):
        assert is_right(run_products(shape, pixels=pixels, channels=channels), shape)


def test_threads_without_an_image_share_its_pixels_or_channels():
    def cut(i_n, i_h, k_c, n_threads, groups=1):
        shape = ConvShape.from_shapes((i_n, i_h, i_h, 64), (1, 1, 64 // groups, k_c), groups=groups)
        options = registry.get("pointwise_planes").schedule(shape, n_threads, None).options
        return options["pixels"], options["channels"]

    assert cut(1, 56, 64, 1) == (3136, 64)
    assert cut(1, 56, 64, 2) == (1568, 64)
    assert cut(1, 56, 64, 3) == (1048, 64)  # a multiple of four
    assert cut(1, 7, 512, 2) == (49, 256)
    assert cut(4, 7, 512, 2) == (49, 512)
    assert cut(1, 7, 512, 2, groups=2) == (49, 256)


@pytest.mark.parametrize(
    ("kernel", "options", "reason"),
    [
        ((1, 3, 4, 8), {}, "its kernel is 1×3"),
        ((1, 1, 4, 8), {"stride": 2}, "its stride is 2×2|its kernel is 1×1, its stride 2×2"),
        ((1, 1, 4, 8), {"padding": ((0, 0), (0, 1))}, "its padding 0, 0, 0, 1"),
    ],
)
def test_others_than_pointwise_are_refused(kernel, options, reason):
    with pytest.raises(pymec.UnsupportedShape, match=reason):
        pymec.plan((1, 9, 9, 4), kernel, algorithm="pointwise_planes", **options)
    shape = ConvShape.from_shapes((1, 9, 9, 4), kernel, **options)
    with pytest.raises(ValueError, match="the kernel must be 1×1"):
        run_products(shape, pixels=1, channels=1)


# Both ---------------------------------------------------------------------------------------------------

LAYERS = {
    "depthwise_windows": ConvShape.from_shapes(
        (2, 24, 20, 21), (24, 1, 3, 3), groups=24, padding=1, layout="NCHW"
    ),
    "pointwise_planes": ConvShape.from_shapes((2, 24, 20, 21), (32, 24, 1, 1), layout="NCHW"),
}


def arrays_of(shape):
    rng = np.random.default_rng(5)
    x, kernel = (
        rng.standard_normal(layouts.outer_extents(role, shape), np.float32) for role in ("input", "kernel")
    )
    return x, kernel, rng.standard_normal(shape.k_c, np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_auto_takes_planes_where_they_lie(name):
    """Neither the call nor the plan copies an image, or the kernel."""
    shape = LAYERS[name]
    x, kernel, bias = arrays_of(shape)
    options = {**shape.arguments, "layout": "NCHW"}
    assert pymec.explain(x.shape, kernel.shape, **options).chosen == name
    room = registry.get(name).schedule(shape, 1, None).size * 4
    out = pymec.conv2d(x, kernel, bias, n_threads=1, activation="relu", workspace_limit=room, **options)
    expected = pymec.conv2d(x, kernel, bias, algorithm="direct", activation="relu", **options)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
    assert out.flags.c_contiguous

    plan = pymec.plan(x.shape, kernel.shape, n_threads=1, **options).prepare(kernel)
    assert plan.algorithm == name
    assert plan.kernel is kernel
    assert (plan.prepared_nbytes, plan.workspace_nbytes) == (0, room)
    np.testing.assert_array_equal(plan(x, bias, activation="relu"), out)


@pytest.mark.parametrize("name", NAMES)
def test_auto_leaves_channels_last_to_others(name):
    """Of those they turn the kernel at most.  A new output lies as the image does, whatever the algorithm."""
    shape = LAYERS[name]
    x, kernel, _ = arrays_of(shape)
    x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    options = {**shape.arguments, "layout": "NCHW"}
    kernel_last = np.ascontiguousarray(kernel.transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1)
    by_pixels = "pointwise" if name == "pointwise_planes" else "depthwise"
    expected = pymec.conv2d(x, kernel, algorithm="direct", **options)
    for weights, room in ((kernel_last, 0), (kernel, kernel.nbytes)):
        for algorithm, limit in (("auto", room), (by_pixels, room), (name, None)):
            out = pymec.conv2d(x, weights, algorithm=algorithm, workspace_limit=limit, **options)
            np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
            assert out.transpose(0, 2, 3, 1).flags.c_contiguous


def test_pixels_are_turned_for_planes_and_counted():
    """What NCHW is for the others, NHWC is for this one: a copy of each array, in the workspace."""
    shape = LAYERS["pointwise_planes"]
    x, kernel, bias = arrays_of(shape)
    expected = pymec.conv2d(x, kernel, bias, layout="NCHW", algorithm="pointwise_planes", **shape.arguments)
    x, kernel = (
        np.ascontiguousarray(array.transpose(layouts.INNER_AXES[role]))
        for array, role in ((x, "input"), (kernel, "kernel"))
    )
    options = {**shape.arguments, "algorithm": "pointwise_planes"}
    nbytes = pymec.workspace_size(x.shape, kernel.shape, **options)
    assert nbytes == x.nbytes + kernel.nbytes + expected.nbytes
    out = pymec.conv2d(x, kernel, bias, workspace=np.empty(nbytes, np.uint8), **options)
    np.testing.assert_array_equal(out, expected.transpose(0, 2, 3, 1))
    plan = pymec.plan(x.shape, kernel.shape, **options).prepare(kernel)
    assert plan.prepared_nbytes == kernel.nbytes
    np.testing.assert_array_equal(plan(x, bias), out)
    taken = pymec.plan(x.shape, kernel.shape, **options).prepare(kernel, take_over=True)
    np.testing.assert_array_equal(taken.kernel, kernel)


def test_windows_are_gathered_from_any_order():
    """Channels last, slices, and even the axes of an array of Fortran's: one workspace, and the same bits."""
    shape = LAYERS["depthwise_windows"]
    x, kernel, bias = arrays_of(shape)
    options = {**shape.arguments, "layout": "NCHW", "algorithm": "depthwise_windows", "n_threads": 1}
    expected = pymec.conv2d(x, kernel, bias, **options)
    workspace = np.empty(pymec.workspace_size(x.shape, kernel.shape, **options), np.uint8)
    larger = np.zeros((2, 30, 25, 30), np.float32)
    larger[:, 2:26, 3:23, 5:26] = x
    for image in (
        np.asfortranarray(x),
        larger[:, 2:26, 3:23, 5:26],
        x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2),
    ):
        for weights in (kernel, np.asfortranarray(kernel)):
            found = pymec.conv2d(image, weights, bias, workspace=workspace, **options)
            np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match="workspace has"):
        pymec.conv2d(x[:, ::-1], kernel, bias, workspace=workspace, **options)  # backward: copied


FULL_VECTORS = "direct_grouped" if register_nbytes() == 64 else "depthwise_windows"
CHOICES = [
    (1, 3, 1, "depthwise_windows"), (7, 3, 1, "depthwise_windows"), (31, 5, 1, FULL_VECTORS),
    (16, 7, 2, FULL_VECTORS), (32, 3, 1, "depthwise"), (64, 5, 2, "depthwise"),
]  # fmt: skip


@pytest.mark.parametrize(("channels", "k", "stride", "chosen"), CHOICES)
def test_what_auto_takes_for_one_channel_per_group(channels, k, stride, chosen):
    options = {"groups": channels, "stride": stride, "padding": k // 2}
    assert pymec.explain((1, 60, 60, channels), (k, k, 1, channels), **options).chosen == chosen
    planes = pymec.explain((1, channels, 60, 60), (channels, 1, k, k), layout="NCHW", **options)
    assert planes.chosen == "depthwise_windows"
    without = pymec.explain((1, 60, 60, channels), (k, k, 1, channels), workspace_limit=0, **options).chosen
    assert without == ("direct_grouped" if chosen == "direct_grouped" else "depthwise")


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_shares_no_kernel_of_the_other_order(name):
    shape = LAYERS[name]
    x, kernel, _ = arrays_of(shape)
    options = {**shape.arguments, "layout": "NCHW"}
    first = pymec.plan(x.shape, kernel.shape, algorithm=name, **options).prepare(kernel)
    other = pymec.plan(x.shape, kernel.shape, algorithm="direct", **options).share(first)
    np.testing.assert_allclose(other(x), first(x), rtol=1e-5, atol=1e-5)
    again = pymec.plan((1, *x.shape[1:]), kernel.shape, algorithm=name, **options).share(other)
    np.testing.assert_array_equal(again(x), first(x))


@pytest.mark.parametrize("name", NAMES)
def test_nan_stays_nan(name):
    """Through bias and ReLU, and only in the outputs that have it under the kernel."""
    shape = LAYERS[name]
    x, kernel, bias = arrays_of(shape)
    x[1, 7, 4, 5] = np.nan
    options = {**shape.arguments, "layout": "NCHW", "activation": "relu"}
    found = np.isnan(pymec.conv2d(x, kernel, bias, algorithm=name, **options))
    expected = np.isnan(pymec.conv2d(x, kernel, bias, algorithm="direct", **options))
    np.testing.assert_array_equal(found, expected)
    assert found.any()


def test_stages_refuse_what_they_would_read_wrongly():
    shape = ConvShape.from_shapes((1, 5, 6, 4), (1, 1, 1, 4), groups=4)
    x, kernel = operands(shape)
    out, workspace = np.empty(shape.output_shape, np.float32), np.empty(1000, np.float32)
    outer = turned(x, "input"), turned(kernel, "kernel"), turned(out, "output")
    products = {"pixels": 30, "channels": 1}
    for which, argument in enumerate(("x", "kernel", "out")):
        arrays = list(outer)
        arrays[which] = (x, kernel, out)[which]
        with pytest.raises(ValueError, match=f"^{argument} has shape"):
            pointwise_planes.run(*arrays, workspace, shape, **products)
        arrays = [x, kernel, out]
        arrays[which] = outer[which]
        with pytest.raises(ValueError, match=f"^{argument} has shape"):
            depthwise_windows.run(*arrays, workspace, shape, slices=1, rows=5, columns=6)
        arrays = [x, kernel, out]
        arrays[which] = arrays[which][..., ::-1]
        with pytest.raises(ValueError, match=f"^{argument} must have positive strides of whole elements, got -4"):
            depthwise_windows.run(*arrays, workspace, shape, slices=1, rows=5, columns=6)
    for wrong in ({"pixels": 0}, {"channels": 0}):
        with pytest.raises(ValueError, match="pixels and channels must be at least 1"):
            pointwise_planes.run(*outer, workspace, shape, **{**products, **wrong})
    tiles = {"slices": 1, "rows": 5, "columns": 6}
    with pytest.raises(ValueError, match="workspace has 125 elements, but this stage needs 126"):
        depthwise_windows.run(x, kernel, out, workspace[:125], shape, **tiles)
    largest = np.iinfo(np.intp).max
    depthwise_windows.run(x, kernel, out, workspace, shape, slices=1, rows=largest, columns=largest)
    assert is_right(out, shape)
    pointwise = ConvShape.from_shapes((1, 5, 6, 4), (1, 1, 4, 4))
    assert is_right(run_products(pointwise, pixels=largest, channels=largest), pointwise)
    for wrong in ({"slices": 0}, {"slices": 65}, {"rows": 0}, {"columns": 0}):
        with pytest.raises(ValueError, match="slices must be 1 to 64"):
            depthwise_windows.run(x, kernel, out, workspace, shape, **{**tiles, **wrong})
    pairs = ConvShape.from_shapes((1, 5, 6, 4), (1, 1, 2, 4), groups=2)
    x, kernel = operands(pairs)
    with pytest.raises(ValueError, match="each group must have one input channel, got 2"):
        depthwise_windows.run(x, kernel, out, workspace, pairs, **tiles)
