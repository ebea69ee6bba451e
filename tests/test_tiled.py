"""Tiles of the output in registers: where tiles end, and what the registry's own tests don't reach."""

import numpy as np
import pytest
from cases import operands

import pymec
from pymec import ConvShape, reference

TILED = ["direct_blocked"]


def check(algorithm, x_shape, kernel_shape, dtype="float32", n_threads=2, **options):
    shape = ConvShape.from_shapes(x_shape, kernel_shape, dtype=dtype, **options)
    x, kernel = operands(shape)
    out = np.full(shape.output_shape, np.nan, dtype)
    pymec.conv2d(x, kernel, algorithm=algorithm, n_threads=n_threads, out=out, **options)
    error = np.abs(out - reference.conv2d(x, kernel, shape))
    assert (error <= reference.error_bound(x, kernel, shape)).all()


@pytest.mark.parametrize("algorithm", TILED)
@pytest.mark.parametrize("k_c", [1, 15, 16, 17, 31, 32, 33])
def test_blocks_of_channels_end_anywhere(algorithm, k_c):
    """The last block of 16 reaches back; with fewer than 16 channels there is nothing to reach back over."""
    check(algorithm, (1, 5, 6, 3), (3, 3, 3, k_c), padding=1)
    check(algorithm, (1, 5, 6, 4), (3, 3, 2, 2 * k_c), groups=2)


@pytest.mark.parametrize("algorithm", TILED)
@pytest.mark.parametrize("i_w", range(3, 17))
def test_tiles_of_pixels_end_anywhere(algorithm, i_w):
    """A tile of 6 pixels goes on over the ends of rows and images, and the last one may be a single pixel."""
    check(algorithm, (3, 4, i_w, 2), (2, 3, 2, 16))


@pytest.mark.parametrize("algorithm", TILED)
def test_more_channels_on_padding_than_one_line_of_zeros(algorithm):
    check(algorithm, (1, 3, 3, 600), (3, 3, 600, 17), padding=2)


@pytest.mark.parametrize("algorithm", TILED)
@pytest.mark.parametrize("k_c", [16, 256])
def test_small_and_large_kernels(algorithm, k_c):
    """A K of more than a quarter of a mebibyte is taken block by block."""
    check(algorithm, (2, 5, 7, 64), (3, 3, 64, k_c), dtype="float64", n_threads=3)
