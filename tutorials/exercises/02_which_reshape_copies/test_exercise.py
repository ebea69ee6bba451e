"""Grades exercise 2: NumPy itself is asked, for views that are cut, turned, repeated and slid."""

import itertools

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

image = np.zeros((2, 7, 6, 4), np.float32)

VIEWS = {
    "the image": image,
    "some rows": image[:, 1:5],
    "some columns": image[:, :, 1:4],
    "every other row": image[:, ::2],
    "rows upside down": image[:, ::-1],
    "all upside down": image[::-1, ::-1, ::-1, ::-1],
    "channels first": image.transpose(0, 3, 1, 2),
    "one image": image[:1],
    "one column": image[:, :, 2:3],
    "one channel of one column": image[:, :, 2:3, 1:2],
    "a row, repeated": np.broadcast_to(image[0, 0], (5, 6, 4)),
    "no image at all": image[:0, ::2],
    "windows": sliding_window_view(image, (3, 2), axis=(1, 2)).transpose(0, 1, 2, 4, 5, 3),
    "windows as wide as the image": sliding_window_view(image, (3, 6), axis=(1, 2)).transpose(0, 1, 2, 4, 5, 3),
}


def is_view(array, first, last):
    """Whether NumPy can do it without a copy."""
    shape = (*array.shape[:first], -1 if array.size else 0, *array.shape[last + 1 :])
    try:
        array.reshape(shape, copy=False)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("name", VIEWS)
def test_numpy_agrees(exercise, name):
    array = VIEWS[name]
    for first, last in itertools.combinations_with_replacement(range(array.ndim), 2):
        answer = exercise.merges(array.shape, array.strides, first, last)
        assert answer == is_view(array, first, last), f"axes {first} to {last}: {array.shape}, {array.strides}"


def test_random_views(exercise):
    rng = np.random.default_rng(0)
    for _ in range(300):
        array = np.zeros(rng.integers(1, 5, 4), np.int16)
        steps = rng.choice([1, 1, 1, 2, -1], 4)
        array = array[tuple(slice(None, None, step) for step in steps)].transpose(rng.permutation(4))
        first, last = sorted(rng.integers(0, 4, 2))
        answer = exercise.merges(array.shape, array.strides, first, last)
        assert answer == is_view(array, first, last), f"axes {first} to {last}: {array.shape}, {array.strides}"
