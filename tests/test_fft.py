"""Fourier transforms: the stages, tile edges, the bound, what a plan keeps, what SciPy takes for itself."""

import numpy as np
import pytest
from cases import CASES, measured, operands

import pymec
from pymec import ConvShape, reference, registry
from pymec.kernels.fourier import fft
from pymec.kernels.fourier.tiles import add_tiles, image_grid, on_plane, save_tiles, tile_grid

ROWS = [name for name in pymec.algorithms() if name.startswith("fft")]
KEEPING = [name for name in ROWS if registry.get(name).prepare is not None]


def check(algorithm, shape, x, kernel, **options):
    out = pymec.conv2d(x, kernel, algorithm=algorithm, **options)
    assert out.dtype == shape.dtype
    # the oracle has double precision, too: its own error bound is added
    oracle = reference.error_bound(x, kernel, shape) if shape.dtype == "float64" else 0
    error = np.abs(out - reference.conv2d(x, kernel, shape))
    bound = registry.get(algorithm).error_bound(x, kernel, shape)
    assert (error <= bound + oracle).all()
    return error, bound


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_method_in_a_dozen_lines(case):
    shape = case.shape("float64")
    x, kernel = operands(shape)
    exact, bound = reference.conv2d(x, kernel, shape), registry.get("fft").error_bound(x, kernel, shape)
    for n in range(shape.i_n):
        assert (np.abs(fft.one_image(x[n], kernel, shape) - exact[n]) <= bound[n]).all()


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("grid", [(4, 4), (5, 8), (9, 15), (128, 100)])
def test_planes_become_spectra_and_come_back(grid, dtype, n_threads):
    """Planes padded with zeros, in their precision, of even and odd lengths, in one portion or several."""
    planes = np.random.default_rng(0).standard_normal((4, 3, 21)).astype(dtype)
    room = np.full(21 * fft.spectrum_size(grid) + 5, np.nan, dtype)
    (X,), rest = fft.spectra_of(room, grid, (21,))
    assert rest.size == 5
    assert np.shares_memory(X, room)
    fft.transform(planes, X, grid, n_threads)
    tolerance = 1e-5 if dtype == "float32" else 1e-13
    expected = np.fft.rfft2(planes.astype(float), s=grid, axes=(0, 1))
    np.testing.assert_allclose(X, expected, rtol=tolerance, atol=tolerance)
    channels = []
    for c, back in fft.transform_back(X, grid, n_threads):
        assert back.dtype == dtype
        channels.extend(range(c.start, c.stop))
        np.testing.assert_allclose(back[:4, :3], planes[..., c], rtol=tolerance, atol=tolerance)
        assert np.abs(back[4:]).max(initial=0) <= tolerance
    assert channels == list(range(21))


@pytest.mark.parametrize("n_threads", [1, 2, 7])
def test_the_product_of_spectra_is_a_periodic_correlation(n_threads, monkeypatch):
    monkeypatch.setattr(fft, "FFT_SMALL_WORK", 0)
    shape = ConvShape.from_shapes((2, 6, 5, 4), (2, 3, 2, 6), dilation=(2, 1), groups=2, dtype="float64")
    x, kernel = operands(shape)
    grid = 6, 5
    room = np.empty((8 + 12 + 12) * fft.spectrum_size(grid))
    (X, Q, Y), _ = fft.spectra_of(room, grid, (2, 4), (2, 6), (2, 6))
    for n in range(2):
        fft.transform(x[n], X[:, :, n], grid)
    fft.transform_kernel(kernel, Q, shape, grid)
    fft.multiply(X, Q, Y, 2, n_threads)
    ((_, planes),) = fft.transform_back(Y[:, :, 1], grid)
    for h in range(6):
        for w in range(5):
            patch = x[1][np.ix_([h, (h + 2) % 6], [(w + b) % 5 for b in range(3)])]
            for m in (0, 5):
                expected = (patch[..., m // 3 * 2 :][..., :2] * kernel[..., m]).sum()
                assert planes[h, w, m] == pytest.approx(expected)


@pytest.mark.parametrize("tiles", [save_tiles, add_tiles])
def test_tiles_make_every_output_of_every_input_that_it_needs(tiles):
    """Along one axis, by hand: the tiles' circular correlations, put together, are the whole correlation."""
    for grid, k, d, s, p, i in [(8, 3, 1, 1, 1, 20), (8, 2, 3, 2, 5, 17), (6, 6, 1, 3, 7, 6), (5, 1, 1, 4, 9, 11)]:
        e, taps, image = (k - 1) * d + 1, np.arange(1.0, k + 1), np.arange(3.0, 3 + i)
        o = (i + 2 * p - e) // s + 1
        padded = np.pad(image, p)
        expected = [sum(taps[a] * padded[y * s + a * d] for a in range(k)) for y in range(o)]
        out = np.zeros(o)
        for tile in tiles(grid, e, s, p, i, o):
            inputs = np.zeros(grid)
            inputs[: tile.inputs.stop - tile.inputs.start] = image[tile.inputs]
            plane = np.array([sum(taps[a] * inputs[(h + a * d) % grid] for a in range(k)) for h in range(grid)])
            for y, h in on_plane(tile, s, grid):
                out[y] += plane[h]
        np.testing.assert_allclose(out, expected)


@pytest.mark.parametrize("algorithm", ["fft_overlap_save", "fft_overlap_add"])
@pytest.mark.parametrize("extents", [(37, 16), (16, 40), (49, 33), (33, 64)])
@pytest.mark.parametrize(
    "options",
    [{}, {"stride": (3, 2)}, {"padding": ((5, 0), (2, 9))}, {"dilation": (3, 2), "stride": 2, "padding": 4}],
    ids=str,
)
def test_tiles_meet_everywhere(algorithm, extents, options):
    """Images of several tiles whose edges lie anywhere between the outputs of a stride."""
    shape = ConvShape.from_shapes((2, *extents, 2), (4, 3, 1, 4), groups=2, **options)
    grid = tile_grid(shape)
    assert grid[0] < extents[0] or grid[1] < extents[1]
    x, kernel = operands(shape)
    check(algorithm, shape, x, kernel, groups=2, **options)


@pytest.mark.parametrize("algorithm", ROWS)
def test_outputs_of_padding_alone_are_zero(algorithm):
    """No tile of the input has an output: the stride steps over the image's one pixel."""
    x, kernel = np.ones((1, 1, 1, 2), np.float32), np.ones((1, 1, 2, 4), np.float32)
    out = np.full((1, 1, 1, 4), np.nan, np.float32)
    pymec.conv2d(x, kernel, stride=3, padding=1, algorithm=algorithm, out=out)
    np.testing.assert_allclose(out, 0, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("algorithm", ROWS)
def test_the_bound_holds_on_badly_scaled_arrays(algorithm, dtype):
    shape = ConvShape.from_shapes((1, 30, 31, 8), (5, 5, 8, 4), padding=2, dtype=dtype)
    rng = np.random.default_rng(5)
    x, kernel = operands(shape)
    channels = (10.0 ** rng.integers(-6, 7, 8)).astype(dtype)
    pixel, taps = x.copy(), kernel.copy()
    pixel[0, 5, 6] = 1e6
    taps[0, 2] *= 1e6
    taps[2, 1] *= -1e6
    for scaled, weights in (
        (x * channels, kernel),
        (x * channels, kernel / channels[:, None]),
        (pixel, kernel),
        (x, taps),
        (np.abs(x), np.abs(kernel)),
    ):
        check(algorithm, shape, scaled, weights, padding=2)


def test_rounding_is_relative_to_the_plane():
    """One huge pixel costs digits in outputs that don't read it: in the whole plane, or in its tile."""
    shape = ConvShape.from_shapes((1, 60, 60, 1), (3, 3, 1, 1))
    x, kernel = operands(shape)
    x[0, 3, 3] = 1e6
    exact = reference.conv2d(x, kernel, shape)[0, 40:, 40:, 0]
    far = {
        name: np.abs(pymec.conv2d(x, kernel, algorithm=name)[0, 40:, 40:, 0] - exact).max()
        for name in ("direct", "fft", "fft_overlap_save")
    }
    assert far["fft"] > 100 * far["direct"]
    assert far["fft_overlap_save"] < far["fft"] / 100


@pytest.mark.parametrize("algorithm", ROWS)
def test_the_bound_is_of_use(algorithm):
    """The worst of 3,600 outputs is within a factor of 20,000: the bound's norms of planes grow as √N."""
    shape = ConvShape.from_shapes((1, 62, 62, 1), (3, 3, 1, 1))
    error, bound = check(algorithm, shape, *operands(shape))
    assert error.max() > bound.max() / 20_000


@pytest.mark.parametrize("algorithm", KEEPING)
def test_what_a_plan_keeps(algorithm):
    """Kernel spectra are made once, counted apart, and give the same bits."""
    shape = ConvShape.from_shapes((2, 20, 23, 6), (5, 3, 3, 8), padding=1, groups=2)
    x, kernel = operands(shape)
    options = {"padding": 1, "groups": 2, "algorithm": algorithm, "n_threads": 2}
    plan = pymec.plan(x.shape, kernel.shape, **options)
    grid = image_grid(shape) if algorithm == "fft" else tile_grid(shape)
    assert plan.prepared_nbytes == 4 * fft.spectrum_size(grid) * 3 * 8
    whole = pymec.workspace_size(x.shape, kernel.shape, **options)
    assert plan.workspace_nbytes + plan.prepared_nbytes == whole
    expected = pymec.conv2d(x, kernel, **options)
    plan.prepare(kernel)
    workspace = np.full(plan.workspace_nbytes, 0xFF, np.uint8)  # NaN
    for _ in range(2):
        np.testing.assert_array_equal(plan(x, workspace=workspace), expected)


@pytest.mark.parametrize("algorithm", ROWS)
@pytest.mark.parametrize(("dtype", "itemsize"), [("float32", 4), ("float64", 8)])
def test_a_workspace_may_start_at_any_element(algorithm, dtype, itemsize):
    """A complex number in it then lies across the boundaries that complex arrays usually keep."""
    shape = ConvShape.from_shapes((2, 9, 8, 2), (3, 3, 2, 3), dtype=dtype)
    x, kernel = operands(shape)
    nbytes = pymec.workspace_size(x.shape, kernel.shape, dtype=dtype, algorithm=algorithm)
    room = np.full(nbytes + 64, 0xFF, np.uint8)
    expected = pymec.conv2d(x, kernel, algorithm=algorithm, n_threads=1)
    for offset in range(0, 4 * itemsize, itemsize):
        workspace = room[offset : offset + nbytes]
        out = pymec.conv2d(x, kernel, algorithm=algorithm, workspace=workspace, n_threads=1)
        np.testing.assert_array_equal(out, expected)


def test_a_workspace_too_small_is_refused():
    shape = ConvShape.from_shapes((1, 9, 8, 2), (3, 3, 2, 3))
    x, kernel = operands(shape)
    out = np.empty(shape.output_shape, np.float32)
    for row in map(registry.get, ROWS):
        with pytest.raises(ValueError, match="elements left, but"):
            row.run(x, kernel, out, np.empty(300, np.float32), shape, **row.schedule(shape, 1, None).options)


@pytest.mark.memory
def test_the_lean_form_is_lean():
    """Large planes are transformed one by one: SciPy takes little more than two spectra of them."""
    pytest.importorskip("memray", reason="memray exists for Linux and macOS only")
    from pymec import memory

    shape = ConvShape.from_shapes((1, 512, 512, 8), (3, 3, 8, 8))
    spectrum = 4 * fft.spectrum_size(image_grid(shape))
    report = memory.measure_shape(shape, "fft_lean", n_threads=2)
    assert report.workspace == 10 * spectrum
    assert report.fft < 2.2 * spectrum


@pytest.mark.memory
def test_mec_has_no_bytes_of_scipys_transforms():
    assert measured(ConvShape.from_shapes((1, 100, 100, 16), (5, 5, 16, 16)), "mec").fft == 0


@pytest.mark.memory
@pytest.mark.parametrize("algorithm", ROWS)
@pytest.mark.parametrize("n_threads", [1, 2])
def test_what_scipy_takes_is_counted_apart_and_stays_small(algorithm, n_threads):
    shape = ConvShape.from_shapes((1, 100, 100, 16), (5, 5, 16, 16))
    report = measured(shape, algorithm, n_threads=n_threads)
    assert report.exact
    assert 0 < report.fft < 3 * fft.FFT_BYTES
    assert report.other < 64 * 1024
    dilated = ConvShape.from_shapes((1, 100, 100, 4), (5, 5, 4, 4), dilation=20)
    report = measured(dilated, algorithm, n_threads=n_threads)
    assert report.exact
    assert report.other < 64 * 1024
    assert report.peak == report.workspace + report.output + report.blas + report.other + report.fft
