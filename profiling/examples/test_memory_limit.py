"""A limit on the memory of one layer, kept by pytest-memray: tuned MEC passes, im2col is meant to fail.

pip install pytest-memray
pytest --memray profiling/examples/test_memory_limit.py
"""

import numpy as np
import pytest

import pymec

LAYER = pymec.layers.get("cv10").shape()  # 28×28×128, 3×3, 128 outputs; O takes 0.33 MiB


@pytest.fixture(scope="session", autouse=True)
def warm():
    """BLAS maps its buffers before any test is measured: 32 MiB for each thread would count for the first one."""
    pymec.memory.warm_up()


@pytest.fixture
def operands():
    """Arrays that are made in a fixture are not counted."""
    return np.ones(LAYER.input_shape, np.float32), np.ones(LAYER.kernel_shape, np.float32)


@pytest.mark.limit_memory("2 MB")  # L takes 1.07 MiB
def test_mec_keeps_the_limit(operands):
    pymec.conv2d(*operands, algorithm="mec")


@pytest.mark.limit_memory("2 MB")  # the lowered matrix takes 2.97 MiB
def test_im2col_keeps_the_limit(operands):
    pymec.conv2d(*operands, algorithm="im2col")
