"""Slices of images: pixels, rows and images a constant distance apart, read and written where they lie."""

import numpy as np
import pytest

import pymec
from pymec import ConvShape, layouts, registry
from pymec.layouts import Copies
from pymec.operations import OPERATIONS
from pymec.recipes import recipe_of

CASES = {
    "3x3": ConvShape.from_shapes((2, 7, 11, 6), (3, 3, 6, 20)),
    "padding": ConvShape.from_shapes((2, 6, 9, 8), (3, 3, 8, 36), padding=((2, 1), (1, 3))),
    "stride and dilation": ConvShape.from_shapes((1, 9, 14, 5), (3, 2, 5, 17), stride=(2, 3), dilation=(1, 2)),
    "more taps than pointers": ConvShape.from_shapes((1, 11, 70, 2), (9, 60, 2, 16)),
    "all taps of a few rows": ConvShape.from_shapes((1, 14, 18, 3), (11, 11, 3, 16)),
    "1x1": ConvShape.from_shapes((2, 5, 6, 12), (1, 1, 12, 33)),
    "groups": ConvShape.from_shapes((2, 6, 9, 16), (3, 3, 4, 16), groups=4, padding=1),
    "groups of one channel": ConvShape.from_shapes((1, 7, 9, 10), (3, 3, 1, 10), groups=10, padding=1),
    "depthwise": ConvShape.from_shapes((2, 8, 11, 40), (3, 3, 1, 40), groups=40, padding=1),
    "depthwise with a stride and two filters each": ConvShape.from_shapes(
        (1, 9, 12, 33),
        (3, 5, 1, 66),
        groups=33,
        stride=(1, 2),
        padding=((1, 0), (2, 2)),
    ),
    "a depthwise column": ConvShape.from_shapes((2, 40, 1, 36), (5, 1, 1, 36), groups=36, dilation=(2, 1)),
    "groups of four": ConvShape.from_shapes((2, 7, 10, 32), (3, 3, 4, 32), groups=8, stride=2, dtype="float64"),
    "a row": ConvShape.from_shapes((3, 1, 40, 4), (1, 5, 4, 18)),
    "a column": ConvShape.from_shapes((3, 40, 1, 4), (5, 1, 4, 18)),
    "one pixel": ConvShape.from_shapes((1, 1, 1, 7), (1, 1, 7, 19), dtype="float64"),
    "grey, wider than a tile": ConvShape.from_shapes((2, 6, 230, 1), (3, 5, 1, 1), padding=1),
    "a grey column": ConvShape.from_shapes((2, 230, 1, 1), (5, 1, 1, 1), padding=(2, 0)),
    "three channels by themselves": ConvShape.from_shapes(
        (1, 6, 120, 3),
        (3, 3, 1, 3),
        groups=3,
        stride=(1, 2),
        padding="same",
    ),
    "many taps of few channels": ConvShape.from_shapes((1, 3, 90, 2), (2, 40, 1, 2), groups=2, padding=(0, 30)),
    "grey": ConvShape.from_shapes((1, 9, 12, 1), (3, 3, 1, 1)),
}


def within(array, before, after, step):
    """The array as a slice of a larger one, and that larger one, which is NaN elsewhere."""
    extents = [b + s * e + a for e, b, a, s in zip(array.shape, before, after, step, strict=True)]
    room = np.full(extents, np.nan, array.dtype)
    part = tuple(slice(b, b + s * e, s) for e, b, s in zip(array.shape, before, step, strict=True))
    room[part] = array
    return room[part], room


WAYS = {
    "a crop": ((0, 2, 3, 0), (0, 1, 2, 0), (1, 1, 1, 1)),
    "some channels": ((0, 0, 0, 3), (0, 0, 0, 2), (1, 1, 1, 1)),
    "every second column of every third row": ((0, 1, 1, 0), (0, 0, 0, 0), (1, 3, 2, 1)),
    "every second image, and all of these": ((1, 2, 1, 4), (0, 1, 3, 1), (2, 2, 3, 1)),
}


def called(operation, first, second, shape, **options):
    options = {**shape.arguments, "n_threads": 2, **options}
    if operation == "conv2d":
        return pymec.conv2d(first, second, **options)
    function = getattr(pymec, operation)
    return function(first, second, shape.extents(OPERATIONS[operation].result), **options)


def values_of(operation, shape):
    rng = np.random.default_rng(5)
    return [rng.standard_normal(shape.extents(role)).astype(shape.dtype) for role in OPERATIONS[operation].roles]


def able(operation, shape):
    return [row for row in registry.TABLES[operation].values() if row.unsupported(shape) is None]


def copied_of(row, shape, arrays, roles):
    """Bytes of the copies that an algorithm needs if these arrays are no longer whole."""
    if row.reading(shape) in (layouts.Reading.SLICES, layouts.Reading.STRIDES):
        return 0
    return sum(
        array.nbytes
        for array, role in zip(arrays, roles, strict=True)
        if layouts.plain_in_place(role, shape, row.reading(shape)) and not array.flags.c_contiguous
    )


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", CASES.values(), ids=CASES.keys())
def test_every_algorithm_takes_slices(operation, way, shape):
    """The bits of the call on whole arrays, in a workspace that has room for just the copies that it needs."""
    roles = OPERATIONS[operation].roles
    first, second, result = values_of(operation, shape)
    for row in able(operation, shape):
        expected = called(operation, first, second, shape, algorithm=row.name)
        operands = [
            value if role == "kernel" else within(value, *WAYS[way])[0]
            for value, role in zip((first, second), roles, strict=False)
        ]
        out, room = within(np.zeros_like(result), *WAYS[way])
        if roles[2] == "kernel":
            out = room = np.zeros_like(result)
        copied = copied_of(row, shape, (*operands, out), roles)
        whole = pymec.workspace_size(
            shape.input_shape, shape.kernel_shape, algorithm=row.name, operation=operation, dtype=shape.dtype,
            n_threads=2, **shape.arguments,
        )  # fmt: skip
        outside = np.isnan(room)
        workspace = np.empty(whole + copied, np.uint8)
        options = {"algorithm": row.name, "out": out}
        assert called(operation, *operands, shape, workspace=workspace, **options) is out
        np.testing.assert_array_equal(out, expected, err_msg=row.name)
        np.testing.assert_array_equal(np.isnan(room), outside, err_msg=f"{row.name} writes beside its slice")
        out[...] = 0
        called(operation, *operands, shape, workspace_limit=whole + copied, **options)
        np.testing.assert_array_equal(out, expected)
        if whole + copied:
            with pytest.raises(ValueError, match="workspace has"):
                called(operation, *operands, shape, workspace=workspace[: -shape.itemsize], **options)


@pytest.mark.parametrize("shape", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("planned", [False, True])
def test_auto_takes_slices_within_any_limit(shape, planned):
    x, kernel, result = values_of("conv2d", shape)
    bias = np.linspace(-1, 1, shape.k_c).astype(shape.dtype)
    x, (out, _) = within(x, *WAYS["a crop"])[0], within(result, *WAYS["some channels"])
    arguments = {**shape.arguments, "workspace_limit": 0}
    if planned:
        plan = pymec.plan(x.shape, kernel.shape, dtype=shape.dtype, algorithm="direct_blocked", **arguments)
        plan.prepare(kernel)(x, bias, activation="relu", out=out)
    else:
        pymec.conv2d(x, kernel, bias, activation="relu", out=out, **arguments)
    exact = np.maximum(pymec.reference.conv2d(x, kernel, shape) + bias, 0)
    np.testing.assert_allclose(out, exact, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("operation", ["conv2d", "conv2d_kernel_grad"])
@pytest.mark.parametrize("shape", CASES.values(), ids=CASES.keys())
def test_a_plan_copies_slices_within_its_limit(operation, shape):
    """The limit holds the least that an algorithm needs and the copy: blocks are as small as they can be."""
    first, second, _ = values_of(operation, shape)
    sliced, _ = within(first, *WAYS["a crop"])
    extents = shape.input_shape, shape.kernel_shape
    for row in able(operation, shape):
        least = recipe_of(row, shape, 0, 2, OPERATIONS[operation])
        copied = copied_of(row, shape, [sliced], ["input"])
        scratch = least.planned_nbytes if operation == "conv2d" else least.workspace_nbytes
        arguments = {**shape.arguments, "algorithm": row.name, "dtype": shape.dtype, "n_threads": 2}
        for missing in (0, shape.itemsize):
            limit = (least.prepared_nbytes if operation == "conv2d" else 0) + scratch + copied - missing
            if limit < 0 or (missing and not copied):
                continue
            plan = pymec.plan(*extents, operation=operation, workspace_limit=limit, **arguments)
            if operation == "conv2d":
                plan.prepare(second)
            operands = [second] if operation == "conv2d_kernel_grad" else []
            if missing:
                with pytest.raises(ValueError, match=f"needs {scratch + copied} bytes, and the plan leaves"):
                    plan(sliced, *operands)
            else:
                found = plan(sliced, *operands, workspace=np.empty(scratch + copied, np.uint8))
                expected = called(operation, first, second, shape, algorithm=row.name)
                np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3, err_msg=row.name)


def test_copies_leave_a_planned_call_what_they_leave_an_unplanned_one():
    """Beside the kernel that the plan keeps, and not in its place."""
    shape = ConvShape.from_shapes((2, 30, 40, 8), (3, 3, 8, 36))
    for row in able("conv2d", shape):
        whole = recipe_of(row, shape, None, 2)
        for limit in (0, 10_000, 100_000, whole.workspace_nbytes):
            planned = whole.beside(shape.input_size, limit)
            within_limit = limit + whole.schedule.prepared * shape.itemsize
            unplanned = recipe_of(
                row, shape, within_limit, 2, copies=Copies(*[shape.input_size] * len(layouts.Reading))
            )
            assert planned.schedule == unplanned.schedule, row.name


def test_a_layer_writes_beside_what_it_reads():
    """The channels of one buffer, as DenseNet's layers read all so far and add some."""
    buffer = np.zeros((1, 12, 13, 64), np.float32)
    rng = np.random.default_rng(6)
    buffer[..., :32] = rng.standard_normal((1, 12, 13, 32))
    kernel = rng.standard_normal((3, 3, 32, 16)).astype(np.float32)
    expected = pymec.conv2d(buffer[..., :32].copy(), kernel, padding=1, algorithm="direct_blocked")
    out = buffer[..., 32:48]
    pymec.conv2d(buffer[..., :32], kernel, padding=1, algorithm="direct_blocked", out=out, workspace_limit=0)
    np.testing.assert_array_equal(out, expected)
    assert not buffer[..., 48:].any()
    with pytest.raises(ValueError, match="out overlaps x"):
        pymec.conv2d(buffer[..., :32], kernel, padding=1, out=buffer[..., 31:47])


def test_a_slice_of_channels_last_is_not_copied():
    """NCHW in name, NHWC in memory: a crop of a torch tensor, say; the new output lies in the same order."""
    whole = np.random.default_rng(7).standard_normal((1, 20, 20, 16)).astype(np.float32).transpose(0, 3, 1, 2)
    kernel = np.random.default_rng(8).standard_normal((3, 3, 16, 32)).astype(np.float32).transpose(3, 2, 0, 1)
    x = whole[:, :, 2:-2, 3:-1]
    out = pymec.conv2d(x, kernel, layout="NCHW", algorithm="direct_blocked", workspace_limit=0)
    assert out.transpose(0, 2, 3, 1).flags.c_contiguous
    plain = pymec.conv2d(np.ascontiguousarray(x), kernel, layout="NCHW", algorithm="direct_blocked")
    np.testing.assert_array_equal(out, plain)
    by_mec = pymec.conv2d(x, kernel, layout="NCHW", algorithm="mec")
    assert by_mec.transpose(0, 2, 3, 1).flags.c_contiguous, "the order does not depend on the algorithm"


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_an_axis_of_one_element_may_have_any_stride(axis):
    """A reversed or broadcast axis of one element is a slice all the same: nothing is a step away."""
    extents, kernel_extents = [2, 5, 6, 7], [2, 3, 7, 16]
    extents[axis] = 1
    kernel_extents = [min(k, e) for k, e in zip(kernel_extents, [*extents[1:], 16], strict=True)]
    x = np.random.default_rng(9).standard_normal([e + 3 for e in extents]).astype(np.float32)
    kernel = np.random.default_rng(10).standard_normal(kernel_extents).astype(np.float32)
    part = [slice(1, 1 + e) for e in extents]
    x = x[tuple(part)]
    backwards = x[tuple(slice(None, None, -1) if i == axis else slice(None) for i in range(4))]
    assert backwards.strides[axis] < 0
    expected = pymec.conv2d(np.ascontiguousarray(x), kernel, algorithm="direct_blocked")
    for view in (x, backwards):
        found = pymec.conv2d(view, kernel, algorithm="direct_blocked", workspace_limit=0)
        np.testing.assert_array_equal(found, expected)


def test_a_saved_pass_counts_its_copy_of_a_slice():
    x, kernel = np.ones((1, 8, 9, 24), np.float32), np.ones((1, 1, 16, 5), np.float32)
    plan = pymec.plan((1, 8, 9, 16), kernel.shape, algorithm="mec").prepare(kernel)
    assert plan.forward_saved(x[..., :16].copy())[1].nbytes == 0
    assert plan.forward_saved(x[..., :16])[1].nbytes == 8 * 9 * 16 * 4


def test_auto_finds_a_gradient_that_copies_no_slice():
    grad_out, kernel = np.ones((1, 40, 50, 4), np.float32)[:, :, :40], np.ones((3, 3, 4, 4), np.float32)
    shape = (1, 42, 42, 4)
    found = pymec.conv2d_input_grad(grad_out, kernel, shape, workspace_limit=kernel.nbytes)
    np.testing.assert_array_equal(found, pymec.conv2d_input_grad(grad_out.copy(), kernel, shape))
    with pytest.raises(ValueError, match="direct_conv needs at least 576 bytes; pass NHWC arrays"):
        pymec.conv2d_input_grad(grad_out, kernel, shape, workspace_limit=kernel.nbytes - 1)


def test_errors_say_what_copies_take():
    x, kernel = np.ones((2, 8, 12, 16), np.float32)[:, :, :9], np.ones((3, 3, 16, 3), np.float32)
    nbytes = pymec.workspace_size(x.shape, kernel.shape, algorithm="mec", n_threads=1)
    with pytest.raises(ValueError, match=f"needs {nbytes + 9216} for this call, 9216 of them for copies"):
        pymec.conv2d(x, kernel, algorithm="mec", n_threads=1, workspace=np.empty(nbytes, np.uint8))


def test_one_pixel_of_nchw_lies_in_no_order():
    x, kernel = np.ones((2, 32, 1, 1), np.float32)[:, :16], np.ones((3, 16, 3, 3), np.float32)
    out = pymec.conv2d(x, kernel, layout="NCHW", padding=3)
    assert out.strides == pymec.conv2d(x.copy(), kernel, layout="NCHW", padding=3).strides


def test_orders_that_no_kernel_knows_are_refused():
    shape = CASES["3x3"]
    x, kernel, result = values_of("conv2d", shape)
    wide = np.repeat(np.repeat(x, 2, axis=3), 2, axis=2)
    by_channel = wide[:, :, ::2, ::2]
    for wrong in (x[:, ::-1], x[:, :, ::-1], by_channel, np.asfortranarray(x), np.broadcast_to(x[:1], x.shape)):
        out = np.full_like(result, 7)
        with pytest.raises(
            ValueError,
            match=r"x must be C-contiguous, or have adjacent channels and positive steps",
        ):
            pymec.conv2d(wrong, kernel, out=out)
        assert (out == 7).all()
    with pytest.raises(ValueError, match=r"kernel must be C-contiguous, got strides"):
        pymec.conv2d(x, np.repeat(kernel, 2, axis=0)[::2])
    row = np.full(result.size, 7, result.dtype)
    overlapping = np.lib.stride_tricks.as_strided(row, result.shape, (*result.strides[:2], 8, 4))
    for out in (result[:, ::-1], np.asfortranarray(result), overlapping):
        with pytest.raises(
            ValueError,
            match=r"out must be C-contiguous, or have adjacent channels and positive steps",
        ):
            pymec.conv2d(x, kernel, out=out)
    assert (row == 7).all()


def test_steps_of_half_an_element_are_refused():
    """Fields of a record: pixels 6 bytes apart can't be counted in floats."""
    room = np.zeros(4 * 5 * 6, np.uint8)
    x = np.lib.stride_tricks.as_strided(room.view(np.float32), (1, 4, 5, 1), (120, 30, 6, 4))
    assert not layouts.is_slice(x, "input", ConvShape.from_shapes((1, 4, 5, 1), (2, 2, 1, 1)))
    with pytest.raises(ValueError, match="x must be C-contiguous, or have adjacent channels"):
        pymec.conv2d(x, np.ones((2, 2, 1, 1), np.float32))


def test_a_stage_checks_its_strides():
    from pymec.kernels.register_tiles import convolution
    from pymec.kernels.register_tiles.schedule import tile_schedule

    shape = CASES["3x3"]
    x, kernel, result = values_of("conv2d", shape)
    nothing, schedule = np.empty(0, np.float32), tile_schedule(shape, 1, in_panels=False)
    for wrong in (x[:, ::-1], np.broadcast_to(x[:1], x.shape)):
        with pytest.raises(ValueError, match="x must have positive strides of whole elements"):
            convolution.run(wrong, kernel, result, nothing, shape, 1, schedule)
    with pytest.raises(ValueError, match="x must have the channels of a pixel adjacent"):
        convolution.run(np.repeat(x, 2, axis=3)[..., ::2], kernel, result, nothing, shape, 1, schedule)


def test_saved_passes_take_slices():
    shape = CASES["padding"]
    x, kernel, grad_out = values_of("conv2d", shape)
    plan = pymec.plan(x.shape, kernel.shape, algorithm="mec", **shape.arguments).prepare(kernel)
    expected, saved = plan.forward_saved(x)
    out, again = plan.forward_saved(within(x, *WAYS["some channels"])[0])
    np.testing.assert_array_equal(out, expected)
    sliced = within(grad_out, *WAYS["a crop"])[0]
    np.testing.assert_array_equal(again.kernel_grad(sliced), saved.kernel_grad(grad_out))
    with pytest.raises(ValueError, match="out must be C-contiguous for forward_saved, got strides"):
        plan.forward_saved(x, out=within(expected, *WAYS["a crop"])[0])
