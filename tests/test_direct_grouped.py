"""Groups of a few channels that share vector registers, and groups that don't."""

import numpy as np
import pytest
from cases import is_right, operands

import pymec
from pymec import ConvShape, reference, registry
from pymec.kernels.direct import depthwise
from pymec.kernels.direct import rows as direct_rows
from pymec.kernels.gradients import grouped as direct_grouped_grad
from pymec.kernels.gradients.flipped_kernel import flip_and_swap
from pymec.kernels.register_tiles import grouped as direct_grouped
from pymec.kernels.register_tiles import schedule

GEOMETRIES = [
    ((3, 3), {"padding": 1}),
    ((3, 3), {"padding": 1, "stride": 2}),
    ((3, 6), {"padding": ((0, 2), (5, 1)), "stride": (1, 2)}),
    ((3, 3), {"padding": 2, "dilation": (1, 2), "stride": (2, 1)}),
    ((1, 1), {"padding": 3}),
    ((2, 5), {"stride": (1, 3), "padding": ((4, 0), (0, 7)), "dilation": 3}),
    ((3, 3), {"stride": (4, 6), "padding": 2, "dilation": (2, 4)}),  # some pixels have no tap at all
    ((1, 2), {"stride": (5, 40)}),
]


def errors(got, exact, bound):
    return np.abs(got - exact)[~(np.abs(got - exact) <= bound)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("kernel", "options"), GEOMETRIES, ids=str)
@pytest.mark.parametrize(("i_cg", "k_cg"), [(1, 2), (2, 2), (3, 4), (4, 4), (8, 8), (5, 16), (16, 16)])
def test_lines_and_tiles_end_anywhere(i_cg, k_cg, kernel, options, dtype):
    for groups, i_w in ((1, 15), (4, 17), (5, 29), (16, 31), (33, 16)):
        shape = ConvShape.from_shapes(
            (2, 5, i_w, groups * i_cg), (*kernel, i_cg, groups * k_cg), groups=groups, dtype=dtype, **options
        )
        x, weights = operands(shape)
        for n_threads in (1, 3):
            out = np.full(shape.output_shape, np.nan, dtype)
            direct_grouped.run(x, weights, out, np.empty(0, dtype), shape, n_threads)
            assert is_right(out, shape)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("kernel", "options"), GEOMETRIES, ids=str)
@pytest.mark.parametrize(("few", "many"), [(1, 1), (1, 2), (2, 2), (3, 4), (4, 4), (8, 8), (5, 16), (16, 16)])
def test_gradients_of_lines_and_tiles_that_end_anywhere(few, many, kernel, options, dtype):
    nothing = np.empty(0, dtype)
    for groups, i_w in ((1, 15), (4, 17), (5, 29), (16, 61), (33, 16)):
        sizes = {"groups": groups, "dtype": dtype, **options}
        forward = ConvShape.from_shapes((2, 7, i_w, groups * few), (*kernel, few, groups * many), **sizes)
        backward = ConvShape.from_shapes((2, 7, i_w, groups * many), (*kernel, many, groups * few), **sizes)
        rng = np.random.default_rng(i_w)
        x, dO = operands(forward)[0], rng.standard_normal(forward.output_shape).astype(dtype)
        exact, bound = reference.kernel_grad(x, dO, forward), reference.kernel_grad_bound(x, dO, forward)
        for n_threads in (1, 3):
            dK = np.full(forward.kernel_shape, np.nan, dtype)
            direct_grouped_grad.run_kernel_grad(x, dO, dK, nothing, forward, n_threads)
            assert errors(dK, exact, bound).size == 0
        K, dO = operands(backward)[1], rng.standard_normal(backward.output_shape).astype(dtype)
        exact, bound = reference.input_grad(dO, K, backward), reference.input_grad_bound(dO, K, backward)
        for n_threads in (1, 3):
            dI, flipped = np.full(backward.input_shape, np.nan, dtype), np.empty(backward.kernel_size, dtype)
            flip_and_swap(K, flipped, backward, n_threads)
            direct_grouped_grad.run_input_grad(dO, K, dI, nothing, backward, n_threads, prepared=flipped)
            assert errors(dI, exact, bound).size == 0


def test_a_kernel_gradient_of_more_sums_than_are_kept():
    """The first kernel has a row of more sums than fit; of the second, several rows fit at a time."""
    for kernel, i_cg in (((2, 70), 8), ((9, 7), 16)):
        shape = ConvShape.from_shapes((1, 10, 75, 32), (*kernel, i_cg, 32), groups=32 // i_cg, padding=1)
        x, dK = operands(shape)[0], np.full(shape.kernel_shape, np.nan, np.float32)
        dO = np.random.default_rng(0).standard_normal(shape.output_shape).astype(np.float32)
        direct_grouped_grad.run_kernel_grad(x, dO, dK, np.empty(0, np.float32), shape, 2)
        bound = reference.kernel_grad_bound(x, dO, shape)
        assert errors(dK, reference.kernel_grad(x, dO, shape), bound).size == 0


@pytest.mark.parametrize("channels", [256, 512, 1024])
def test_pixels_that_would_share_sets_of_a_cache_are_gathered(channels):
    """Pixels lie many cache lines apart, so a tile copies them, without the columns on padding."""
    for i_w, stride in ((5, 1), (14, 1), (30, 1), (17, 2)):
        shape = ConvShape.from_shapes(
            (1, 4, i_w, channels), (3, 3, 16, channels), padding=1, stride=stride, groups=channels // 16
        )
        x, kernel = operands(shape)
        out = np.full(shape.output_shape, np.nan, np.float32)
        direct_grouped.run(x, kernel, out, np.empty(0, np.float32), shape, 2)
        assert is_right(out, shape)


@pytest.mark.parametrize("channels", [2, 4, 8])
def test_an_infinite_number_reaches_its_own_group_alone(channels):
    """Other groups' sums share its register and stay finite; nor is padding multiplied as zeros."""
    shape = ConvShape.from_shapes((1, 5, 7, 32), (3, 3, channels, 32), padding=1, groups=32 // channels)
    x, kernel = operands(shape)
    for row, column, channel in ((0, 0, 0), (2, 3, 9), (4, 6, 31)):
        marked = x.copy()
        marked[0, row, column, channel] = np.inf
        out = np.empty(shape.output_shape, np.float32)
        direct_grouped.run(marked, np.abs(kernel) + 1, out, np.empty(0, np.float32), shape, 1)
        y, x_at, m = np.mgrid[:5, :7, :32]
        reached = (np.abs(y - row) <= 1) & (np.abs(x_at - column) <= 1) & (m // channels == channel // channels)
        assert (np.isinf(out[0]) == reached).all()
        assert np.isfinite(out[0][~reached]).all()
    kernel[0, 0] = np.inf  # meets padding at the first row and column of outputs
    out = np.empty(shape.output_shape, np.float32)
    direct_grouped.run(x, kernel, out, np.empty(0, np.float32), shape, 1)
    assert np.isfinite(out[0, 0]).all()
    assert np.isfinite(out[0, :, 0]).all()


@pytest.mark.parametrize(
    ("module", "channels"), [(depthwise, 1), (direct_grouped, 4), (direct_grouped, 16)], ids=str
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [2, 3, 5])
def test_sums_begin_with_the_bias_and_end_at_zero(module, channels, dtype, size):
    for stride, total in ((1, 64), (2, 64), (3, 80), (1, 16)):
        shape = ConvShape.from_shapes(
            (2, 6, 11, total), (size, size, channels, total), padding=1, stride=stride, groups=total // channels,
            dtype=dtype,
        )  # fmt: skip
        x, kernel = operands(shape)
        x[0, 3, 3, 5] = np.nan
        bias = np.linspace(-40, 40, total).astype(dtype)
        out = np.empty(shape.output_shape, dtype)
        module.run(x, kernel, out, np.empty(0, dtype), shape, 2, bias=bias, relu=True)
        expected = reference.conv2d(x, kernel, shape) + bias
        assert np.isnan(expected).any()
        np.testing.assert_allclose(out, np.maximum(expected, 0), rtol=1e-4, atol=1e-4)
        with pytest.raises(ValueError, match=f"bias has 1 elements, but shape= speaks of {total} output"):
            module.run(x, kernel, out, np.empty(0, dtype), shape, 2, bias=bias[:1])


@pytest.mark.parametrize(
    ("i_cg", "k_cg", "reason"),
    [
        (3, 3, "its groups have 3 output channels, not 1, 2, 4, 8 or 16"),
        (4, 32, "its groups have 32 output channels"),
        (8, 4, "its groups have 8 input channels, more than 4 output channels"),
        (16, 16, None),
    ],
)
def test_which_groups(i_cg, k_cg, reason):
    shape = ConvShape.from_shapes((1, 6, 6, 2 * i_cg), (3, 3, i_cg, 2 * k_cg), groups=2)
    given = registry.get("direct_grouped").unsupported(shape)
    assert given is None if reason is None else given.startswith(reason)
    if reason:
        x, kernel = operands(shape)
        with pytest.raises(ValueError, match="1, 2, 4, 8 or 16 output channels and no more input channels"):
            direct_grouped.run(x, kernel, np.empty(shape.output_shape, np.float32), np.empty(0, np.float32), shape)


@pytest.mark.parametrize("has_lines", [True, False])
def test_auto_takes_it_where_lines_are_whole(has_lines, monkeypatch):
    def choice(i_cg, k_cg, groups=32, k=3, **options):
        return pymec.explain((1, 14, 14, i_cg * groups), (k, k, i_cg, k_cg * groups), groups=groups, **options)

    monkeypatch.setattr(schedule, "whole_vectors", lambda shape: has_lines and shape.groups != 2)
    monkeypatch.setattr(schedule, "fast_tiles", lambda shape, in_panels=False: shape.k_cg >= 16)
    pymec.planning.cached_recipe.cache_clear()
    for made in (choice(4, 4), choice(8, 8, k=1), choice(1, 2, stride=2), choice(16, 16), choice(16, 16, k=9)):
        assert (made.chosen == "direct_grouped") == (made.planned == "direct_grouped") == has_lines
    others = [choice(16, 16, stride=2), choice(16, 16, dilation=2), choice(16, 16, groups=1)]
    for made in (*others, choice(3, 3), choice(4, 4, groups=2)):
        assert "direct_grouped" not in (made.chosen, made.planned)
    assert choice(1, 1).chosen == "depthwise"
    pymec.planning.cached_recipe.cache_clear()


BY_CHANNELS, BY_BLOCKS, BY_PIXELS = "direct_grouped", "depthwise", "depthwise_windows"


@pytest.mark.parametrize(
    ("channels", "k", "stride", "dilation", "chosen"),
    [(1, 3, 1, 1, BY_PIXELS), (15, 9, 1, 1, BY_PIXELS), (16, 3, 1, 1, BY_CHANNELS), (31, 31, 1, 1, BY_PIXELS),
     (16, 5, 1, 1, BY_PIXELS), (16, 5, 2, 1, BY_CHANNELS), (16, 5, 2, 2, BY_PIXELS), (16, 7, 2, 1, BY_PIXELS),
     (32, 3, 1, 1, BY_BLOCKS), (32, 9, 1, 1, BY_CHANNELS), (100, 11, 1, 1, BY_BLOCKS),
     (100, 18, 1, 1, BY_CHANNELS)],
)  # fmt: skip
def test_depthwise_by_channels_by_blocks_or_by_pixels(channels, k, stride, dilation, chosen, monkeypatch):
    """Pixels where channels fill no block of 32, and each window has ten taps or channels fill no vector of 16.

    With AVX-512, where such a vector is a register, channels that fill one are a vector whatever the taps.
    """
    monkeypatch.setattr(direct_rows, "whole_vectors", lambda shape: shape.i_c >= 16)
    monkeypatch.setattr(direct_rows, "register_nbytes", lambda: 32)
    pymec.planning.cached_recipe.cache_clear()
    options = {"groups": channels, "stride": stride, "dilation": dilation}
    made = pymec.explain((1, 90, 90, channels), (k, k, 1, channels), **options)
    assert made.chosen == made.planned == chosen
    monkeypatch.setattr(direct_rows, "register_nbytes", lambda: 64)
    pymec.planning.cached_recipe.cache_clear()
    made = pymec.explain((1, 90, 90, channels), (k, k, 1, channels), **options)
    assert made.chosen == (BY_CHANNELS if 16 <= channels < 32 else chosen)
    pymec.planning.cached_recipe.cache_clear()


def test_which_gradients_auto_takes(monkeypatch):
    """Small groups share vectors; with few pixels K is flipped as it is packed, unless a plan has flipped it."""

    def choice(x, kernel, operation, planned=False, **options):
        made = pymec.explain(x, kernel, operation=operation, **options)
        return made.planned if planned else made.chosen

    monkeypatch.setattr(pymec.auto_rules, "whole_vectors", lambda shape, swapped=False: shape.groups > 2)
    monkeypatch.setattr(pymec.auto_rules, "fast_tiles", lambda shape: shape.k_cg >= 16)
    pymec.planning.cached_recipe.cache_clear()
    small = (1, 14, 14, 64), (3, 3, 4, 64)
    depthwise_layer = (1, 14, 14, 64), (3, 3, 1, 64)
    assert choice(*small, "conv2d_kernel_grad", groups=16) == "direct_grouped"
    assert choice(*small, "conv2d_input_grad", groups=16, stride=2) == "direct_grouped"
    assert choice(*depthwise_layer, "conv2d_input_grad", groups=64) == "direct_conv"
    assert choice(*depthwise_layer, "conv2d_input_grad", groups=64, stride=2) == "depthwise"
    assert choice(*depthwise_layer, "conv2d_input_grad", groups=64, stride=3) == "direct_grouped"
    assert choice(*depthwise_layer, "conv2d_kernel_grad", groups=64, n_threads=4) == "depthwise"
    assert choice(*depthwise_layer, "conv2d_kernel_grad", groups=64, n_threads=5) == "direct_grouped"
    assert choice((1, 7, 7, 64), (3, 3, 32, 64), "conv2d_input_grad", groups=2) == "direct_packed"
    assert choice((1, 7, 7, 64), (3, 3, 16, 128), "conv2d_input_grad", groups=4) == "direct_packed"
    few = (1, 31, 33, 128), (3, 3, 128, 128)  # 1023 pixels, and sums of 1152 products
    assert choice(*few, "conv2d_input_grad", padding=1) == "direct_packed"
    assert choice(*few, "conv2d_input_grad", padding=1, planned=True) == "direct_conv"
    assert choice((1, 32, 32, 128), (3, 3, 128, 128), "conv2d_input_grad", padding=1) == "direct_conv"
    assert choice((1, 62, 66, 128), (3, 3, 128, 256), "conv2d_input_grad", stride=2) == "direct_packed"
    assert choice((1, 99, 99, 128), (1, 1, 128, 512), "conv2d_input_grad") == "direct_packed"  # one block
    assert choice((1, 99, 99, 128), (1, 1, 128, 513), "conv2d_input_grad") == "direct_conv"
    pymec.planning.cached_recipe.cache_clear()


def test_what_the_input_gradient_refuses():
    shape = ConvShape.from_shapes((1, 6, 6, 32), (3, 3, 4, 32), groups=8)
    x, kernel = operands(shape)
    dO, nothing = np.zeros(shape.output_shape, np.float32), np.empty(0, np.float32)
    with pytest.raises(TypeError, match="prepared"):
        direct_grouped_grad.run_input_grad(dO, kernel, x.copy(), nothing, shape)
    with pytest.raises(TypeError, match="prepared"):
        direct_grouped_grad.run_input_grad(dO, kernel, x.copy(), nothing, shape, prepared=None)
    if not direct_grouped.whole_vectors(shape, swapped=True):
        return  # a CPU, or a build, without vectors: K is read as it is
    with pytest.raises(ValueError, match="prepared has 0 elements, but this stage needs 1152"):
        direct_grouped_grad.run_input_grad(dO, kernel, x.copy(), nothing, shape, prepared=nothing)


@pytest.mark.parametrize(("i_cg", "k_cg", "groups"), [(8, 4, 8), (3, 3, 16), (600, 16, 2), (16, 32, 2)])
def test_gradients_refuse_other_groups(i_cg, k_cg, groups):
    shape = ConvShape.from_shapes((1, 3, 3, i_cg * groups), (1, 1, i_cg, k_cg * groups), groups=groups)
    x, kernel = operands(shape)
    dO, nothing = np.zeros(shape.output_shape, np.float32), np.empty(0, np.float32)
    with pytest.raises(ValueError, match="16 output channels and no more input channels, got"):
        direct_grouped_grad.run_kernel_grad(x, dO, kernel.copy(), nothing, shape)
    if not (k_cg <= i_cg <= 16 and 16 % i_cg == 0):
        with pytest.raises(ValueError, match="16 input channels and no more output channels, got"):
            direct_grouped_grad.run_input_grad(dO, kernel, x.copy(), nothing, shape, prepared=kernel.reshape(-1))


def test_a_stride_longer_than_the_image_takes_no_longer():
    shape = ConvShape.from_shapes((1, 4, 5, 32), (3, 3, 4, 32), groups=8, padding=1, stride=(1, 2**31 - 1))
    K, dO = operands(shape)[1], np.ones(shape.output_shape, np.float32)
    options = {"groups": 8, "padding": 1, "stride": (1, 2**31 - 1)}
    dI = pymec.conv2d_input_grad(dO, K, shape.input_shape, algorithm="direct_grouped", **options)
    assert errors(dI, reference.input_grad(dO, K, shape), reference.input_grad_bound(dO, K, shape)).size == 0
