"""The product that packs its blocks from the image: each stage against im2col's matrix, every size of block."""

import numpy as np
import pytest
from cases import CASES, operands

from pymec import ConvShape, reference, registry
from pymec.kernels.im2col import im2col, implicit_gemm


def convolved(shape, n_threads, **options):
    """``run`` on its own: the output's error over its bound, with nothing written past the workspace."""
    x, kernel = operands(shape)
    depth = min(options["depth"], shape.k_h * shape.k_w * shape.i_cg)
    columns = options["columns"]
    columns, pixels = (
        min(columns, -(-shape.k_cg // min(columns, 16)) * min(columns, 16)),
        shape.i_n * shape.o_h * shape.o_w,
    )
    size = depth * (columns + options["slices"] * min(options["rows"], pixels))
    workspace = np.full(size + 1, np.nan, shape.dtype)
    out = np.full(shape.output_shape, np.nan, shape.dtype)
    with pytest.raises(ValueError, match=f"{size - 1} elements, but this stage needs {size}"):
        implicit_gemm.run(x, kernel, out, workspace[: size - 1], shape, n_threads, **options)
    implicit_gemm.run(x, kernel, out, workspace, shape, n_threads, **options)
    assert np.isnan(workspace[-1])
    exact, bound = reference.conv2d(x, kernel, shape), reference.error_bound(x, kernel, shape)
    return np.abs(out - exact), bound


@pytest.mark.parametrize("case", [case for case in CASES if case.x[0]], ids=lambda case: case.motive)
def test_packed_patches_are_blocks_of_im2cols_matrix(case):
    shape = case.shape()
    x, _ = operands(shape)
    patch, pixels = shape.k_h * shape.k_w * shape.i_cg, shape.i_n * shape.o_h * shape.o_w
    L = np.empty(shape.im2col_size, "f")
    im2col.lower(x, L, shape)
    matrix = L.reshape(shape.groups, pixels, patch)
    for group in range(min(shape.groups, 2)):
        for q0, depth in ((0, patch), (patch // 2, 5), (patch - 1, 100)):
            for first, end in ((0, pixels), (pixels // 3, pixels // 2), (pixels - 1, pixels)):
                expected = matrix[group, first:end, q0 : q0 + depth]
                A = np.full(expected.size + 1, np.nan, "f")
                implicit_gemm.pack_patches(x, A, shape, first, end, group, q0, depth)
                np.testing.assert_array_equal(A[:-1].reshape(expected.shape), expected)
                assert np.isnan(A[-1])


def test_packed_kernel_lies_in_panels_of_16_columns():
    shape = ConvShape.from_shapes((1, 4, 4, 6), (2, 3, 3, 300), groups=2)
    _, kernel = operands(shape)
    K = kernel.reshape(18, 2, 150)[5:12, 1, 10:140]  # group 1, rows 5 to 12, columns 10 to 140
    B = np.full(7 * 144, np.nan, "f")
    implicit_gemm.pack_kernel(kernel, B, shape, 1, 5, 7, 10, 130, 2)
    panels = np.zeros((7, 144), "f")  # the last panel is padded with zeros
    panels[:, :130] = K
    np.testing.assert_array_equal(B.reshape(9, 7, 16), panels.reshape(7, 9, 16).transpose(1, 0, 2))


@pytest.mark.parametrize("rows", [1, 3, 4, 9, 1000])
@pytest.mark.parametrize("depth", [1, 3, 4, 7, 18, 1000])
@pytest.mark.parametrize("columns", [1, 15, 16, 48, 1008])
def test_blocks_that_end_anywhere(rows, depth, columns):
    shape = ConvShape.from_shapes((2, 5, 4, 4), (3, 3, 2, 140), padding=1, stride=(2, 1), groups=2)
    error, bound = convolved(shape, 2, rows=rows, depth=depth, columns=columns, slices=2)
    assert (error <= bound).all()


@pytest.mark.parametrize("n_threads", [1, 2, 7, 64])
def test_every_limit_down_to_two_elements_is_kept(n_threads):
    row = registry.get("implicit_gemm")
    for shape in (case.shape() for case in CASES):
        for limit in (2, 3, 5, 10, 50, 300, 2000, 30_000):
            assert row.schedule(shape, n_threads, limit).size <= limit
        assert row.schedule(shape, n_threads, 0).size == 2


def test_its_buffers_do_not_grow_with_the_image():
    """The lesson: the matrix is gone, the buffers stay; both are counted."""
    row = registry.get("implicit_gemm")
    small, large = (ConvShape.from_shapes((1, i, i, 64), (3, 3, 64, 128)) for i in (32, 512))
    assert row.schedule(small, 2, None).size == row.schedule(large, 2, None).size == 192 * 128 + 2 * 64 * 192
    assert large.im2col_size > 1000 * row.schedule(large, 2, None).size
    tiny = ConvShape.from_shapes((1, 3, 3, 64), (3, 3, 64, 128))  # one pixel: buffers larger than its patch
    assert row.schedule(tiny, 2, None).size == 192 * 128 + 192 > tiny.im2col_size


def test_blocks_that_are_none_are_refused():
    shape = ConvShape.from_shapes((1, 4, 4, 2), (3, 3, 2, 4))
    x, kernel = operands(shape)
    A = np.empty(1000, "f")
    with pytest.raises(ValueError, match="can't begin at group 1, row 0 and column 0"):
        implicit_gemm.pack_patches(x, A, shape, 0, 1, 1, 0, 18)
    with pytest.raises(ValueError, match="can't begin at group 0, row 18 and column 0"):
        implicit_gemm.pack_kernel(kernel, A, shape, 0, 18, 256, 0, 512)
    with pytest.raises(ValueError, match="must have rows and columns, got 0 × 4"):
        implicit_gemm.pack_kernel(kernel, A, shape, 0, 0, 0, 0, 4)
    with pytest.raises(ValueError, match="rows 3 to 5 are not among the 4 output pixels"):
        implicit_gemm.pack_patches(x, A, shape, 3, 5, 0, 0, 18)
