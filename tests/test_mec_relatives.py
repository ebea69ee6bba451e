"""MEC's relatives, stage by stage: what each lays out, and what each says it saves."""

import numpy as np
import pytest
from cases import CASES, operands

import pymec
from pymec import ConvShape, reference, registry
from pymec.kernels import mec, mec_w
from pymec.kernels._pieces import whole_products


def close(out, x, kernel, shape):
    error = np.abs(out - reference.conv2d(x, kernel, shape))
    return (error <= reference.error_bound(x, kernel, shape)).all()


# MEC-w ----------------------------------------------------------------------------------------------------


def test_mec_w_lowers_the_transpose_of_what_mec_lowers():
    shape = ConvShape.from_shapes((2, 9, 7, 3), (3, 2, 3, 4), stride=(2, 1), padding=1)
    x, _ = operands(shape)
    horizontal = np.empty(shape.mec_w_size, shape.dtype)
    mec_w.lower(x, horizontal, shape)
    turned = shape.transposed()
    vertical = np.empty(turned.mec_size, shape.dtype)
    mec.lower(np.ascontiguousarray(x.transpose(0, 2, 1, 3)), vertical, turned)
    np.testing.assert_array_equal(horizontal, vertical)
    L = horizontal.reshape(2, shape.o_h, shape.lowered_columns(), 3, 3)
    np.testing.assert_array_equal(L[1, 2, 4], x[1, 3:6, 4])  # y = 2 reads rows 3, 4 and 5


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.motive)
def test_mec_w_never_exceeds_im2col(case):
    assert case.shape().mec_w_size <= case.shape().im2col_size


def test_mec_w_stores_no_horizontal_padding():
    narrow = ConvShape.from_shapes((1, 8, 8, 2), (3, 3, 2, 4))
    padded = ConvShape.from_shapes((1, 8, 8, 2), (3, 3, 2, 4), padding=(0, 2))
    assert padded.mec_w_size == narrow.mec_w_size
    assert padded.mec_size > narrow.mec_size


@pytest.mark.parametrize("pieces", ["whole", (7, 3, 2, 2)])
def test_mec_w_writes_n_h_w_c_for_a_batch_without_repair(pieces):
    shape = ConvShape.from_shapes((3, 8, 9, 4), (3, 2, 4, 5), padding=(1, 2))
    x, kernel = operands(shape)
    L, permuted = np.empty(shape.mec_w_size, "f"), np.empty(shape.permuted_kernel_size, "f")
    out = np.full(shape.output_shape, np.nan, "f")
    mec_w.prepare(kernel, permuted, shape, 2)
    np.testing.assert_array_equal(permuted.reshape(2, 3, 4, 5), kernel.transpose(1, 0, 2, 3))
    mec_w.lower(x, L, shape, 2)
    cut = whole_products(shape.transposed()) if pieces == "whole" else pieces
    mec_w.multiply(L, permuted, out, shape, cut, 2)
    assert close(out, x, kernel, shape)


def test_a_row_of_taps_needs_no_workspace():
    row = registry.get("mec_w")
    flat = ConvShape.from_shapes((2, 6, 9, 4), (1, 3, 4, 5), stride=(1, 2), padding=(0, 1))
    assert flat.is_row_of_taps
    assert row.schedule(flat, 2, None).size == 0
    for other in (
        ConvShape.from_shapes((2, 6, 9, 4), (1, 3, 4, 5), stride=2),  # rows that nobody reads
        ConvShape.from_shapes((2, 6, 10, 4), (1, 3, 4, 5), stride=(1, 2)),  # a column that nobody reads
        ConvShape.from_shapes((2, 6, 9, 4), (1, 3, 4, 5), padding=1),  # rows of zeros
    ):
        assert row.schedule(other, 2, None).size == other.mec_w_size > 0
        x, kernel = operands(other)
        options = {"stride": (other.s_h, other.s_w), "padding": (other.p_t, other.p_l)}
        assert close(pymec.conv2d(x, kernel, algorithm="mec_w", **options), x, kernel, other)
    x, kernel = operands(flat)
    assert close(pymec.conv2d(x, kernel, algorithm="mec_w", stride=(1, 2), padding=(0, 1)), x, kernel, flat)
