"""Winograd: the matrices over the fractions, the stages one by one, the bound, what a plan keeps."""

from fractions import Fraction

import numpy as np
import pytest
from cases import bound_with, operands

import pymec
from pymec import ConvShape, planning, reference, registry
from pymec.kernels.winograd import banded as winograd_banded
from pymec.kernels.winograd import winograd
from pymec.kernels.winograd.matrices import MATRICES, roundings

TILES = [2, 4, 6]
ROWS = [name for name in pymec.algorithms() if name.startswith("winograd")]


def fractions(rng, *extents):
    return np.array([Fraction(int(n)) for n in rng.integers(-9, 10, np.prod(extents))], object).reshape(extents)


@pytest.mark.parametrize("m", TILES)
def test_the_matrices_are_exact(m):
    """Over the fractions the transforms give the correlation itself, not an approximation of it."""
    rng = np.random.default_rng(m)
    B_T, G, A_T = MATRICES[m]
    for _ in range(5):
        d, g = fractions(rng, m + 2, m + 2), fractions(rng, 3, 3)
        y = A_T @ ((G @ g @ G.T) * (B_T @ d @ B_T.T)) @ A_T.T
        for i in range(m):
            for j in range(m):
                assert y[i, j] == (d[i : i + 3, j : j + 3] * g).sum()


@pytest.mark.parametrize("m", TILES)
@pytest.mark.parametrize("channels", [1, 3, 16, 37])
def test_the_compiled_transforms_are_products_by_the_matrices(m, channels):
    """One tile of small integers: Bᵀ and Aᵀ have no rounding to do, G no more than its thirds and fifths."""
    t = m + 2
    shape = ConvShape.from_shapes((1, t, t, channels), (3, 3, channels, channels), dtype="float64")
    rng = np.random.default_rng(channels)
    B_T, G, A_T = (matrix.astype(float) for matrix in MATRICES[m])
    x = rng.integers(-50, 50, shape.input_shape).astype(float)
    kernel = rng.integers(-50, 50, shape.kernel_shape).astype(float)
    U, V, M = (np.full(size, np.nan) for size in winograd.sizes(shape, m))
    winograd.transform_kernel(kernel, U, shape, m)
    np.testing.assert_allclose(
        U.reshape(t, t, channels, channels), np.einsum("ia,abxk,jb->ijxk", G, kernel, G), rtol=1e-13, atol=1e-13
    )
    winograd.transform_input(x, V, shape, m, 2)
    np.testing.assert_array_equal(V.reshape(t, t, channels), np.einsum("ia,abc,jb->ijc", B_T, x[0], B_T))
    M[:] = rng.integers(-50, 50, M.size)
    out = np.full(shape.output_shape, np.nan)
    winograd.transform_output(M, out, shape, m, 2)
    points = M.reshape(t, t, channels)
    np.testing.assert_array_equal(out[0], np.einsum("ia,abk,jb->ijk", A_T, points, A_T))


@pytest.mark.parametrize("m", TILES)
def test_each_point_is_one_product_per_group(m):
    shape = ConvShape.from_shapes((2, 8, 9, 6), (3, 3, 3, 4), padding=1, groups=2, dtype="float64")
    U, V, M = (np.random.default_rng(0).standard_normal(size) for size in winograd.sizes(shape, m))
    points, tiles = 2 * (m + 2) ** 2, winograd.tile_count(shape, m)
    winograd.multiply(V, U, M, shape, m, 3)
    expected = V.reshape(points, tiles, 3) @ U.reshape(points, 3, 2)
    np.testing.assert_allclose(M.reshape(points, tiles, 2), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("m", TILES)
@pytest.mark.parametrize("o_h", [1, 5, 6, 7, 12, 13])
@pytest.mark.parametrize("o_w", [1, 2, 4, 6, 11])
def test_tiles_end_anywhere(m, o_h, o_w):
    """The last tiles are clipped; whatever is beyond the image reads as zero."""
    shape = ConvShape.from_shapes((2, o_h, o_w, 3), (3, 3, 3, 5), padding=1)
    x, kernel = operands(shape)
    for name in (f"winograd_f{m}", f"winograd_f{m}_banded"):
        out = pymec.conv2d(x, kernel, padding=1, algorithm=name, n_threads=2)
        error = np.abs(out - reference.conv2d(x, kernel, shape))
        assert (error <= registry.get(name).error_bound(x, kernel, shape)).all()


def badly_scaled(shape):
    """Inputs and kernels of very unequal elements: rounding of large ones spoils small outputs."""
    rng = np.random.default_rng(5)
    x, kernel = operands(shape)
    channels = 10.0 ** rng.integers(-6, 7, shape.i_c)
    yield "channels", x * channels, kernel
    yield "channels undone by the kernel", x * channels, kernel / channels[: shape.i_cg, None]
    pixel = x.copy()
    pixel[0, 5, 6] = 1e6
    yield "one huge pixel", pixel, kernel
    taps = kernel.copy()
    taps[0, 2] *= 1e6
    taps[2, 1] *= -1e6
    yield "huge taps", x, taps
    yield "positive", np.abs(x), np.abs(kernel)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("algorithm", ROWS)
def test_the_bound_holds_on_badly_scaled_arrays(algorithm, dtype):
    shape = ConvShape.from_shapes((1, 14, 15, 32), (3, 3, 32, 8), padding=1, dtype=dtype)
    for motive, x, kernel in badly_scaled(shape):
        x, kernel = x.astype(dtype), kernel.astype(dtype)
        out = pymec.conv2d(x, kernel, padding=1, algorithm=algorithm)
        # the oracle has double precision, too: its own error bound is added
        error = np.abs(out - reference.conv2d(x, kernel, shape))
        oracle = reference.error_bound(x, kernel, shape) if dtype == "float64" else 0
        assert (error <= registry.get(algorithm).error_bound(x, kernel, shape) + oracle).all(), motive


@pytest.mark.parametrize("m", TILES)
def test_the_bound_is_of_use(m):
    """With one channel the worst of 30,000 outputs comes within a factor of 200 of the bound."""
    shape = ConvShape.from_shapes((1, 62, 62, 1), (3, 3, 1, 8))
    x, kernel = operands(shape)
    error = np.abs(pymec.conv2d(x, kernel, algorithm=f"winograd_f{m}") - reference.conv2d(x, kernel, shape))
    worst = (error / registry.get(f"winograd_f{m}").error_bound(x, kernel, shape)).max()
    assert 1 / 200 < worst <= 1


def test_the_bound_grows_with_the_tile():
    shape = ConvShape.from_shapes((1, 14, 14, 8), (3, 3, 8, 8))
    x, kernel = operands(shape)
    medians = [np.median(registry.get(f"winograd_f{m}").error_bound(x, kernel, shape)) for m in TILES]
    assert reference.error_bound(x, kernel, shape).mean() < medians[0] < medians[1] < medians[2]
    assert [roundings(m) for m in TILES] == [16, 26, 34]


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("algorithm", ROWS)
def test_what_a_plan_keeps(algorithm, layout):
    """U is made once, counted separately, and gives the same bits."""
    x = np.random.default_rng(1).standard_normal((2, 9, 11, 6)).astype(np.float32)
    kernel = np.random.default_rng(2).standard_normal((3, 3, 3, 8)).astype(np.float32)
    if layout == "NCHW":
        x, kernel = x.transpose(0, 3, 1, 2), kernel.transpose(3, 2, 0, 1)
    options = {"padding": 1, "groups": 2, "layout": layout, "algorithm": algorithm, "n_threads": 2}
    plan = pymec.plan(x.shape, kernel.shape, **options)
    whole = pymec.workspace_size(x.shape, kernel.shape, **options)
    m = int(algorithm[10])
    shape = plan.shape
    kept = winograd_banded.kernel_size(shape, m) if "banded" in algorithm else winograd.sizes(shape, m)[0]
    assert plan.prepared_nbytes == 4 * kept
    assert kept - ("banded" in algorithm) * 16 == (m + 2) ** 2 * 3 * 8
    turned = kernel.nbytes if layout == "NCHW" else 0  # a plan transforms OIHW as it is given
    assert plan.workspace_nbytes + plan.prepared_nbytes == whole - turned
    expected = pymec.conv2d(x, kernel, **options)
    plan.prepare(kernel)
    workspace = np.full(plan.workspace_nbytes, 0xFF, np.uint8)  # NaN
    for _ in range(2):
        np.testing.assert_array_equal(plan(x, workspace=workspace), expected)


@pytest.mark.parametrize(
    ("kernel", "options", "reason"),
    [
        ((5, 3, 2, 4), {}, "its kernel is 5×3 and Winograd needs 3×3"),
        ((3, 3, 2, 4), {"stride": (1, 2)}, "its stride is 1×2 and Winograd needs 1×1"),
        ((3, 3, 2, 4), {"dilation": 2}, "its dilation is 2×2 and Winograd needs 1×1"),
    ],
)
@pytest.mark.parametrize("algorithm", ROWS)
def test_what_tiles_are_not_for(algorithm, kernel, options, reason):
    with pytest.raises(pymec.UnsupportedShape, match=f"{algorithm} can't do this shape: {reason}; direct"):
        pymec.workspace_size((1, 9, 9, 2), kernel, algorithm=algorithm, **options)
    shape = ConvShape.from_shapes((1, 9, 9, 2), kernel, **options)
    with pytest.raises(ValueError, match="3×3 kernels"):
        winograd.transform_kernel(np.ones(kernel), np.empty(10_000), shape, 4)


@pytest.mark.parametrize("m", TILES)
def test_bands_keep_to_their_slice(m):
    """Most of a level-2 cache per thread, or a dozen tiles; never more than all tiles at once."""
    for name in ("cv6", "cv7", "cv8", "cv9", "cv10", "cv11", "cv12"):
        shape = pymec.layers.get(name).shape()
        tile = 4 * winograd_banded.tile_size(shape, m)
        whole = planning.recipe(shape, f"winograd_f{m}", "fast", None, 2).workspace_nbytes
        made = planning.recipe(shape, f"winograd_f{m}_banded", "fast", None, 2)
        slices, tiles = made.schedule.options["slices"], made.schedule.options["band_tiles"]
        assert made.workspace_nbytes - made.prepared_nbytes == slices * tiles * tile + 64
        assert made.workspace_nbytes <= whole + 4 * winograd_banded.kernel_size(shape, m)
        assert tiles * tile <= max(640 * 1024, 12 * tile)


def test_stages_refuse_what_would_be_overrun():
    shape = ConvShape.from_shapes((1, 8, 8, 2), (3, 3, 2, 4))
    x, kernel = operands(shape)
    U, V, M = (np.empty(size - 1, np.float32) for size in winograd.sizes(shape, 4))
    for name, call in (
        ("U", lambda: winograd.transform_kernel(kernel, U, shape, 4)),
        ("V", lambda: winograd.transform_input(x, V, shape, 4)),
        ("U", lambda: winograd.multiply(V, U, M, shape, 4)),
        ("M", lambda: winograd.transform_output(M, np.empty(shape.output_shape, np.float32), shape, 4)),
    ):
        with pytest.raises(ValueError, match=f"{name} has"):
            call()
    with pytest.raises(ValueError, match="t_o must be 2, 4 or 6, got 3"):
        winograd.transform_kernel(kernel, U, shape, 3)


@pytest.mark.parametrize("t_o", [2, 4, 6])
@pytest.mark.parametrize("k_c", [16, 32, 48, 64])
def test_every_channel_of_a_panel_has_its_own_bias(t_o, k_c):
    """A panel of 32 channels is transformed in two halves."""
    shape = ConvShape.from_shapes((1, 9, 8, 5), (3, 3, 5, k_c), padding=1)
    x, kernel = operands(shape)
    bias = np.linspace(-50, 50, k_c).astype(np.float32)
    out = pymec.conv2d(x, kernel, bias, padding=1, algorithm=f"winograd_f{t_o}_banded")
    exact, bound = bound_with(bias, x, kernel, shape)
    bound = bound + registry.get(f"winograd_f{t_o}_banded").error_bound(x, kernel, shape)
    assert (np.abs(out - exact) <= bound).all()
