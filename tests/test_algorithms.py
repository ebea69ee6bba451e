"""Every algorithm in the registry x every case x dtype x threads, against the oracle."""

import re

import numpy as np
import pytest
from cases import CASES, PAPER, able, answer, bound_of, bound_with, named, operands, pairs, suited, suited_layer

import pymec
from pymec import ConvShape, reference, registry
from pymec.kernels.im2col import blocked as im2col_blocked
from pymec.kernels.register_tiles.schedule import preferred_multiply
from pymec.kernels.shared.blocking import GemmBlocking


def check(case, algorithm, dtype, n_threads, **options):
    shape = case.shape(dtype)
    x, kernel, exact, _ = answer(shape)
    out = np.full(shape.output_shape, np.nan, dtype)
    row = registry.get(algorithm)
    returned = pymec.conv2d(
        x, kernel, algorithm=algorithm, n_threads=n_threads, out=out, **case.options, **options
    )
    assert returned is out
    assert (np.abs(out - exact) <= bound_of(row, x, kernel, shape)).all()  # NaN left in out fails as well


# The algorithm varies fastest, so that an oracle serves all of them.
@pytest.mark.parametrize(("algorithm", "case"), pairs(pymec.algorithms()), ids=named)
def test_against_the_oracle(algorithm, case):
    # im2col and MEC run with 1, 2 and 3 threads; the others with one of these, by turns from case to case.
    for turn, dtype in enumerate(("float32", "float64"), CASES.index(case)):
        for n_threads in (1, 2, 3) if algorithm.startswith(("im2col", "mec")) else (1 + turn % 3,):
            check(case, algorithm, dtype, n_threads)


@pytest.mark.parametrize("case", CASES, ids=named)
def test_a_refusal_says_why_and_writes_nothing(case):
    shape = case.shape()
    x, kernel = operands(shape)
    for algorithm in pymec.algorithms():
        reason = registry.get(algorithm).unsupported(shape)
        if reason is None:
            continue
        out = np.full(shape.output_shape, np.nan, np.float32)
        with pytest.raises(pymec.UnsupportedShape, match=re.escape(reason)):
            pymec.conv2d(x, kernel, algorithm=algorithm, out=out, **case.options)
        assert np.isnan(out).all(), algorithm


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "case"), pairs(pymec.algorithms(), PAPER), ids=named)
def test_on_the_papers_layers(algorithm, case):
    check(case, algorithm, "float32", 2)


@pytest.mark.parametrize(
    ("algorithm", "case"),
    pairs(name for name, row in registry.ALGORITHMS.items() if row.order == "bounded"),
    ids=named,
)
def test_bounded_algorithms_at_every_tile_size(algorithm, case):
    """From the smallest workspace upwards, so that bands and blocks end anywhere in the image."""
    smallest = _smallest(case, algorithm)
    for elements in (1, 7, 50, 400, 3000):
        check(case, algorithm, "float32", 2, workspace_limit=smallest + 4 * elements)


def _smallest(case, algorithm):
    try:
        return pymec.workspace_size(case.x, case.kernel, algorithm=algorithm, workspace_limit=0, **case.options)
    except ValueError as error:
        return int(str(error).split("at least ")[1].split(" bytes")[0])


@pytest.mark.parametrize(
    ("algorithm", "case"),
    pairs(["direct", "im2col", "mec", "mec_paper", "mec_banded", "winograd_f4_banded"]),
    ids=named,
)
def test_nchw_is_nhwc_in_other_clothes(algorithm, case):
    x, kernel = operands(case.shape())
    inside = pymec.conv2d(x, kernel, algorithm=algorithm, n_threads=2, **case.options)
    outside = pymec.conv2d(
        x.transpose(0, 3, 1, 2).copy(), kernel.transpose(3, 2, 0, 1).copy(), layout="NCHW", algorithm=algorithm,
        n_threads=2, **case.options,
    )  # fmt: skip
    assert outside.flags.c_contiguous
    np.testing.assert_array_equal(outside, inside.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("algorithm", pymec.algorithms())
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bias_and_relu(algorithm, layout, dtype):
    """Some algorithms start their sums with the bias, others add it last: the roundings differ."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2, 6, 5, 18)).astype(dtype)
    extents, groups = suited(algorithm, x.shape, 36)
    kernel, bias = rng.standard_normal(extents).astype(dtype), rng.standard_normal(extents[3]).astype(dtype)
    options = {"algorithm": algorithm, "groups": groups, "layout": layout}
    shape = pymec.ConvShape.from_shapes(x.shape, kernel.shape, groups=groups, dtype=dtype)
    exact = reference.conv2d(x, kernel, shape) + bias
    bound = registry.get(algorithm).error_bound(x, kernel, shape)
    terms = shape.k_h * shape.k_w * shape.i_cg + 1
    bound = bound + terms * np.finfo(dtype).eps * (np.abs(exact) + np.abs(bias))
    if layout == "NCHW":
        x, kernel = x.transpose(0, 3, 1, 2), kernel.transpose(3, 2, 0, 1)
        exact, bound = exact.transpose(0, 3, 1, 2), bound.transpose(0, 3, 1, 2)
    out = pymec.conv2d(x, kernel, bias, **options)
    assert (np.abs(out - exact) <= bound).all()
    clamped = pymec.conv2d(x, kernel, bias, activation="relu", **options)
    np.testing.assert_array_equal(clamped, np.maximum(out, 0))
    np.testing.assert_array_equal(
        pymec.conv2d(x, kernel, activation="relu", **options), np.maximum(pymec.conv2d(x, kernel, **options), 0)
    )


@pytest.mark.parametrize("algorithm", pymec.algorithms())
def test_results_repeat_bit_by_bit(algorithm):
    """For a given number of threads the same sums are taken in the same order."""
    shape = suited_layer(algorithm, (3, 13, 17, 17), 11, padding=(1, 3))
    x, kernel = operands(shape)
    first = pymec.conv2d(x, kernel, algorithm=algorithm, n_threads=2, **shape.arguments)
    for _ in range(20):
        again = pymec.conv2d(x, kernel, algorithm=algorithm, n_threads=2, **shape.arguments)
        np.testing.assert_array_equal(again, first)


@pytest.mark.parametrize("algorithm", able((1, 6, 6, 1), (2, 2, 1, 1), "exact"))
def test_not_a_number_and_infinity_go_where_they_belong(algorithm):
    x = np.ones((1, 6, 6, 1), np.float32)
    x[0, 2, 3, 0] = np.nan
    x[0, 5, 0, 0] = np.inf
    out = pymec.conv2d(x, np.ones((2, 2, 1, 1), np.float32), algorithm=algorithm)[0, :, :, 0]
    assert np.argwhere(np.isnan(out)).tolist() == [[1, 2], [1, 3], [2, 2], [2, 3]]
    assert np.argwhere(np.isinf(out)).tolist() == [[4, 0]]


@pytest.mark.parametrize("algorithm", pymec.algorithms())
def test_not_a_number_is_never_lost(algorithm):
    """Fast algorithms spread a NaN over a tile or an image, but every output that reads it is NaN."""
    x = np.ones((1, 8, 8, 16), np.float32)
    x[0, 2, 3, 0] = np.nan
    extents, groups = suited(algorithm, x.shape, 1)
    out = pymec.conv2d(x, np.ones(extents, np.float32), algorithm=algorithm, groups=groups)
    reach = extents[0] - 1  # outputs up to this far above and left of the pixel read it
    channel = slice(extents[3] // groups)  # the first group, to which the NaN belongs
    assert np.isnan(out[0, 2 - reach : 3, 3 - reach : 4, channel]).all()


def test_mathematical_convolution_by_the_flip_of_the_docstring():
    from scipy import signal

    rng = np.random.default_rng(0)
    image, kernel = rng.standard_normal((8, 9)), rng.standard_normal((3, 4))
    flipped = np.ascontiguousarray(kernel[::-1, ::-1])
    out = pymec.conv2d(image[None, :, :, None], flipped[:, :, None, None])[0, :, :, 0]
    np.testing.assert_allclose(out, signal.convolve2d(image, kernel, mode="valid"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("block", [1, 7, 50, 10**6])
@pytest.mark.parametrize(
    "blocking",
    [
        GemmBlocking(5, 3, 4, 1),
        GemmBlocking(7, 2, 3, 1, registers=True),
        GemmBlocking(10**9, 10**9, 10**9, 1, registers=True),
    ],
)
def test_however_the_product_of_a_block_of_im2col_is_cut(blocking, block, dtype):
    """The convolution stays the same, and the bias is added once."""
    shape = ConvShape.from_shapes((2, 9, 8, 6), (3, 2, 3, 10), padding=1, stride=(1, 2), groups=2, dtype=dtype)
    x, kernel = operands(shape)
    bias = np.linspace(-3, 3, 10).astype(dtype)
    pixels = 2 * shape.o_h * shape.o_w
    workspace = np.full(3 * min(block, pixels) * 18 + 1, np.nan, dtype)
    out = np.full(shape.output_shape, np.nan, dtype)
    im2col_blocked.run(x, kernel, out, workspace, shape, 3, block, 3, blocking, bias, True)
    exact, bound = bound_with(bias, x, kernel, shape)
    assert (np.abs(out - np.maximum(exact, 0)) <= bound).all()
    assert np.isnan(workspace[-1])


def test_blocks_of_im2col_are_cut_as_mec_is():
    for name in pymec.layers.PAPER:
        shape = pymec.layers.get(name).shape()
        schedule = registry.get("im2col_blocked").schedule(shape, 2, None)
        assert schedule.options["blocking"].registers == (preferred_multiply(shape) == "register_tiles")
        assert schedule.uses_blas == (preferred_multiply(shape) != "register_tiles")
