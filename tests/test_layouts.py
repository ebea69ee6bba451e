"""NCHW: what is copied, what is read and written where it lies, and the transposing of the copies."""

import dataclasses
import itertools

import numpy as np
import pytest

import pymec
from pymec import ConvShape, layouts
from pymec.kernels.shared import turning
from pymec.operations import OPERATIONS

INNER, OUTER = layouts.INNER_AXES, layouts.OUTER_AXES


# Transposing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_matrices_are_transposed(dtype, n_threads):
    for rows, columns in itertools.product((1, 3, 15, 16, 17, 40), (1, 2, 16, 31, 1024, 1040)):
        source = np.arange(2 * rows * columns, dtype=dtype).reshape(2, rows, columns)
        target = np.full((2, columns, rows), np.nan, dtype)
        turning.transpose(source, target, n_threads)
        np.testing.assert_array_equal(target, source.transpose(0, 2, 1))


def test_matrices_may_lie_among_others():
    """As those of a kernel do: a matrix for each input channel, their rows in turns."""
    kernel = np.random.default_rng(0).standard_normal((20, 6, 9))
    taps = np.full((9, 6, 20), np.nan)
    turning.transpose(kernel.transpose(1, 0, 2), taps.transpose(1, 0, 2), 2)
    np.testing.assert_array_equal(taps, kernel.transpose(2, 1, 0))


def test_a_stage_that_transposes_says_what_it_needs():
    source, target = np.ones((2, 3, 4)), np.zeros((2, 4, 3))
    with pytest.raises(ValueError, match=r"target must have shape \(2, 4, 3\), got \(2, 3, 4\)"):
        turning.transpose(source, np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match="must have adjacent elements"):
        turning.transpose(np.ones((2, 3, 8))[:, :, ::2], target)
    with pytest.raises(ValueError, match="must have adjacent elements"):
        turning.transpose(source, np.zeros((2, 4, 6))[:, :, ::2])
    with pytest.raises(ValueError, match="n_threads must be"):
        turning.transpose(source, target, 0)
    assert not target.any()


def lying(array, order, crop):
    """The same values, with their axes in another order in memory; perhaps a part of a larger array of NaN."""
    room = np.full([extent + 2 * crop for extent in np.array(array.shape)[list(order)]], np.nan, array.dtype)
    inside = tuple(slice(crop, crop + extent) for extent in np.array(array.shape)[list(order)])
    view = room[inside].transpose(np.argsort(order))
    view[...] = array
    return view, room


def unaligned(array):
    view = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


ORDERS = [(0, 1, 2, 3), (0, 3, 1, 2), (3, 2, 0, 1), (3, 1, 0, 2), (2, 1, 3, 0)]


@pytest.mark.parametrize("copy", [turning.copy_images, turning.copy_kernel])
@pytest.mark.parametrize(
    "extents", [(2, 5, 7, 20), (1, 1, 9, 33), (3, 8, 1, 4), (2, 3, 4, 1), (1, 1, 40, 17), (1, 1, 1, 1)]
)
def test_copies_between_any_two_orders(copy, extents):
    """Every element once, and nothing beside them, whether by blocks or one by one."""
    values = np.random.default_rng(0).standard_normal(extents)
    for of, to in itertools.product(itertools.product(ORDERS, (0, 1, 2)), repeat=2):
        source, _ = lying(values, *of)
        target, room = lying(np.zeros(extents), *to)
        untouched = np.isnan(room)
        copy(source, target, 2)
        np.testing.assert_array_equal(target, values, err_msg=f"{of} {to}")
        assert (np.isnan(room) == untouched).all()
    copy(unaligned(values), target)
    np.testing.assert_array_equal(target, values)
    copy(values[:, ::-1], target)
    np.testing.assert_array_equal(target, values[:, ::-1])


def test_planes_are_copied_by_blocks(monkeypatch):
    """Element by element takes several times as long."""
    one_by_one = []
    monkeypatch.setattr(turning.np, "copyto", lambda *arrays: one_by_one.append(arrays))
    for copy, order in ((turning.copy_images, (0, 3, 1, 2)), (turning.copy_kernel, (3, 2, 0, 1))):
        for crop in (0, 1) if order[0] == 0 else (0,):
            planes = lying(np.ones((2, 5, 7, 20)), order, crop)[0]
            copy(planes, np.zeros((2, 5, 7, 20)))
            copy(np.ones((2, 5, 7, 20)), planes)
    assert not one_by_one
    turning.copy_images(unaligned(planes), np.zeros((2, 5, 7, 20)))
    turning.copy_kernel(unaligned(planes), np.zeros((2, 5, 7, 20)))
    assert len(one_by_one) == 2, "blocks are read as aligned numbers"


# What is copied -----------------------------------------------------------------------------------------


def plain(array):
    return np.ascontiguousarray(array)


def channels_last(array, role):
    """Equal values that lie in memory as kernels read them."""
    return plain(array.transpose(INNER[role])).transpose(OUTER[role])


def spread(array):
    """Equal values, every other one of a larger array."""
    room = np.full((*array.shape[:-1], 2 * array.shape[-1]), np.nan, array.dtype)
    room[..., ::2] = array
    return room[..., ::2]


WAYS = {
    "plain": lambda array, role: plain(array),
    "last": channels_last,
    "spread": lambda array, role: spread(array),
}
SHAPES = {
    "3x3": ConvShape.from_shapes((2, 5, 9, 8), (12, 5, 3, 3), padding=1, stride=(2, 1), layout="NCHW"),
    "1x1": ConvShape.from_shapes((2, 18, 5, 4), (20, 18, 1, 1), layout="NCHW"),
    "groups": ConvShape.from_shapes((1, 16, 6, 7), (16, 4, 2, 3), groups=4, layout="NCHW", dtype="float64"),
    "grey": ConvShape.from_shapes((1, 1, 12, 14), (1, 1, 3, 3), layout="NCHW"),
    "one filter": ConvShape.from_shapes((2, 3, 8, 8), (1, 3, 3, 2), layout="NCHW"),
    "a row": ConvShape.from_shapes((3, 4, 1, 30), (8, 4, 1, 5), layout="NCHW"),
}


def call(operation, first, second, shape, **options):
    options = {**shape.arguments, "layout": "NCHW", "n_threads": 2, **options}
    if operation == "conv2d":
        return pymec.conv2d(first, second, **options)
    extents = layouts.outer_extents(OPERATIONS[operation].result, shape)
    function = pymec.conv2d_input_grad if operation == "conv2d_input_grad" else pymec.conv2d_kernel_grad
    return function(first, second, extents, **options)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_arrays_are_copied_only_where_they_must_be(operation, shape):
    """Whatever the strides: the bits of the plain call, in a workspace that has room for just these copies."""
    roles = OPERATIONS[operation].roles
    rng = np.random.default_rng(3)
    values = [rng.standard_normal(layouts.outer_extents(role, shape)).astype(shape.dtype) for role in roles]
    expected = call(operation, *values[:2], shape, algorithm="direct")
    assert expected.flags.c_contiguous
    for ways in itertools.product(WAYS, WAYS, ("none", "plain", "last")):
        first, second = (WAYS[way](values[i], roles[i]) for i, way in enumerate(ways[:2]))
        out = None if ways[2] == "none" else WAYS[ways[2]](np.full_like(values[2], np.nan), roles[2])
        in_place = [array.transpose(INNER[role]).flags.c_contiguous
                    for array, role in zip((first, second), roles, strict=False)]  # fmt: skip
        if out is not None:
            in_place.append(out.transpose(INNER[roles[2]]).flags.c_contiguous)
        else:
            lies_last = in_place[0] and not first.flags.c_contiguous and roles[2] != "kernel"
            in_place.append(lies_last or expected.transpose(INNER[roles[2]]).flags.c_contiguous)
        copied = sum(array.nbytes for array, lies in zip(values, in_place, strict=True) if not lies)
        workspace = np.empty(copied, np.uint8)  # "direct" itself needs none
        found = call(operation, first, second, shape, algorithm="direct", out=out, workspace=workspace)
        np.testing.assert_array_equal(found, expected, err_msg=str(ways))
        assert out is None or found is out
        assert found.flags.c_contiguous or found.transpose(INNER[roles[2]]).flags.c_contiguous
        assert (found.transpose(INNER[roles[2]]).flags.c_contiguous) == in_place[2]
        options = {"algorithm": "direct", "out": out}
        call(operation, first, second, shape, workspace_limit=copied, **options)
        if copied:
            with pytest.raises(ValueError, match="workspace has"):
                call(operation, first, second, shape, workspace=workspace[:-8], **options)
            with pytest.raises(ValueError, match=f"{copied} of them for copies"):
                call(operation, first, second, shape, workspace_limit=copied - 1, **options)
    plain_copies = sum(
        0 if plain(value).transpose(INNER[role]).flags.c_contiguous else value.nbytes
        for value, role in zip(values, roles, strict=True)
    )
    assert plain_copies == layouts.conversion_size(shape, layouts.Reading.PIXELS) * shape.itemsize


@pytest.mark.parametrize("algorithm", pymec.algorithms())
def test_channels_last_images_through_every_algorithm(algorithm):
    layers = (
        ((16, 4, 3, 3), {"groups": 4, "padding": 1}), ((16, 16, 3, 3), {"padding": 1}), ((16, 16, 1, 1), {}),
        ((16, 1, 3, 3), {"groups": 16, "padding": 1}),
    )  # fmt: skip
    shapes = [
        ConvShape.from_shapes((2, 16, 9, 10), kernel, layout="NCHW", **options) for kernel, options in layers
    ]
    shape = next(shape for shape in shapes if pymec.registry.get(algorithm).unsupported(shape) is None)
    rng = np.random.default_rng(4)
    x = rng.standard_normal(layouts.outer_extents("input", shape)).astype(np.float32)
    kernel = rng.standard_normal(layouts.outer_extents("kernel", shape)).astype(np.float32)
    bias = rng.standard_normal(shape.k_c).astype(np.float32)
    options = {**shape.arguments, "layout": "NCHW", "algorithm": algorithm, "activation": "relu"}
    expected = pymec.conv2d(x, kernel, bias, **options)
    found = pymec.conv2d(channels_last(x, "input"), kernel, bias, **options)
    np.testing.assert_array_equal(found, expected)
    out = channels_last(np.full_like(expected, np.nan), "output")
    plan = pymec.plan(
        x.shape, kernel.shape, **{key: value for key, value in options.items() if key != "activation"}
    )
    plan.prepare(channels_last(kernel, "kernel"))
    assert plan(channels_last(x, "input"), bias, activation="relu", out=out) is out
    np.testing.assert_array_equal(out, expected)


def test_channels_last_needs_no_room():
    """All arrays as kernels want them: the bytes are those of NHWC."""
    x, kernel = np.ones((2, 16, 20, 20), np.float32), np.ones((32, 16, 3, 3), np.float32)
    x, kernel = channels_last(x, "input"), channels_last(kernel, "kernel")
    out = pymec.conv2d(x, kernel, layout="NCHW", workspace_limit=0)
    np.testing.assert_array_equal(out, np.full((2, 32, 18, 18), 144, np.float32))
    assert out.transpose(0, 2, 3, 1).flags.c_contiguous


def test_a_grey_image_is_not_copied():
    for extents in ((1, 1, 40, 50), (1, 40, 50, 1)):
        layout = "NCHW" if extents[1] == 1 else "NHWC"
        kernel = (1, 1, 5, 5) if layout == "NCHW" else (5, 5, 1, 1)
        assert pymec.workspace_size(extents, kernel, layout=layout, algorithm="direct") == 0


@pytest.mark.memory
def test_bytes_of_a_grey_image_and_of_several_filters():
    """The image lies as kernels want it, the kernel and the output don't."""
    x, kernel = np.ones((2, 1, 20, 20), np.float32), np.ones((6, 1, 3, 3), np.float32)
    report = pymec.memory.measure(x, kernel, layout="NCHW", algorithm="mec", n_threads=2)
    nhwc = pymec.workspace_size((2, 20, 20, 1), (3, 3, 1, 6), algorithm="mec", n_threads=2)
    assert report.workspace == report.predicted == nhwc + 4 * (6 * 9 + 2 * 18 * 18 * 6)


def test_an_out_that_lies_anyhow_is_refused():
    x, kernel = np.ones((1, 2, 6, 6), np.float32), np.ones((4, 2, 3, 3), np.float32)
    out = spread(np.full((1, 4, 4, 4), 7, np.float32))
    with pytest.raises(
        ValueError,
        match="out must be C-contiguous, or have adjacent channels and positive steps between pixels, got strides",
    ):
        pymec.conv2d(x, kernel, layout="NCHW", out=out)
    assert (out == 7).all()
    overlapping = np.full(300, 7, np.float32)
    x = overlapping[:72].reshape(1, 2, 6, 6)
    out = overlapping[60:124].reshape(1, 4, 4, 4).transpose(0, 3, 1, 2)
    with pytest.raises(ValueError, match="out overlaps x"):
        pymec.conv2d(x, kernel, layout="NCHW", out=out)


EXTENTS = [
    ((2, 9, 8, 5), (3, 3, 5, 12)),
    ((1, 9, 8, 1), (3, 3, 1, 4)),
    ((2, 9, 8, 5), (1, 1, 5, 1)),
    ((3, 1, 1, 6), (1, 1, 6, 7)),
]


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("extents", EXTENTS)
def test_of_plain_arrays_sizes_say_what_is_copied(extents, operation, layout, monkeypatch):
    """What is remembered of C-contiguous arrays is what looking at them finds."""
    shape = dataclasses.replace(ConvShape.from_shapes(*extents), layout=layout)
    roles = OPERATIONS[operation].roles
    arrays = [np.zeros(layouts.outer_extents(role, shape), shape.dtype) for role in roles]
    for given, out in itertools.product((1, 2), (None, arrays[2])):
        operands, of_these = arrays[:given], (*roles[:given], roles[2])
        for reading in layouts.Reading:
            known = layouts.places_of(shape, of_these, operands, out, reading)
            with monkeypatch.context() as patch:
                patch.setattr(layouts, "lie_plainly", lambda operands, out: False)
                assert layouts.places_of(shape, of_these, operands, out, reading) == known
    known = layouts.copies_of(shape, roles, arrays[:2], arrays[2])
    monkeypatch.setattr(layouts, "lie_plainly", lambda operands, out: False)
    assert layouts.copies_of(shape, roles, arrays[:2], arrays[2]) == known
