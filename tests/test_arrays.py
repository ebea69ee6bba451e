"""Arrays as people have them: views, maps, subclasses: read where they lie, or refused with a remedy."""

import numpy as np
import pytest

import pymec

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 8, 9, 4)).astype(np.float32)
KERNEL = RNG.standard_normal((3, 3, 4, 5)).astype(np.float32)
EXPECTED = pymec.conv2d(X, KERNEL)


class Tagged(np.ndarray):
    """A subclass with nothing of its own."""


def memory_mapped(tmp_path):
    np.save(tmp_path / "x.npy", X)
    return np.load(tmp_path / "x.npy", mmap_mode="r")


def read_only(tmp_path):
    array = X.copy()
    array.flags.writeable = False
    return array


def from_bytes(tmp_path):
    return np.frombuffer(X.tobytes(), np.float32).reshape(X.shape)


def one_image_of_many(tmp_path):
    """A view whose batch stride is not that of its shape means nothing where the batch is whole."""
    return np.stack([X, X])[1]


READ = {
    "memory-mapped": memory_mapped,
    "read-only": read_only,
    "of bytes": from_bytes,
    "a view of a larger array": one_image_of_many,
    "a subclass": lambda tmp_path: X.view(Tagged),
    "an unaligned view": lambda tmp_path: unaligned(X),
    "every second column": lambda tmp_path: np.repeat(X, 2, axis=2)[:, :, ::2],
    "some of the channels": lambda tmp_path: np.concatenate([X, X], axis=3)[..., 4:],
}

REFUSED = {
    "rows backwards": X[:, ::-1],
    "channels first, transposed": np.ascontiguousarray(X.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1),
    "one image, broadcast": np.broadcast_to(X[:1], X.shape),
    "Fortran's order": np.asfortranarray(X),
}


def unaligned(array):
    room = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    room[...] = array
    return room


@pytest.mark.parametrize("kind", READ)
def test_arrays_are_read_where_they_lie(kind, tmp_path):
    x = READ[kind](tmp_path)
    before = bytes(x.tobytes())
    out = pymec.conv2d(x, KERNEL)
    np.testing.assert_array_equal(out, EXPECTED)
    assert type(out) is np.ndarray
    assert x.tobytes() == before


@pytest.mark.parametrize("kind", REFUSED)
def test_nhwc_arrays_are_not_copied_in_silence(kind):
    with pytest.raises(ValueError, match=r"x must be C-contiguous, or have adjacent .* numpy.ascontiguousarray"):
        pymec.conv2d(REFUSED[kind], KERNEL)


@pytest.mark.parametrize("kind", [*READ, *REFUSED])
def test_nchw_takes_any_strides(kind, tmp_path):
    x = READ[kind](tmp_path) if kind in READ else REFUSED[kind]
    out = pymec.conv2d(x.transpose(0, 3, 1, 2), KERNEL.transpose(3, 2, 0, 1), layout="NCHW")
    np.testing.assert_array_equal(out.transpose(0, 2, 3, 1), pymec.conv2d(np.ascontiguousarray(x), KERNEL))


def test_strides_of_zero_and_below_in_every_axis():
    """Broadcast and reversed views of NCHW operands: the copy reads what NumPy would."""
    x = X.transpose(0, 3, 1, 2)
    for view in (x[::-1], x[:, ::-1], x[:, :, ::-1], x[..., ::-1], x[:, :, ::2, ::3], x[:, :1].repeat(4, axis=1)):
        out = pymec.conv2d(view, KERNEL.transpose(3, 2, 0, 1), layout="NCHW", padding=2)
        again = pymec.conv2d(np.ascontiguousarray(view), KERNEL.transpose(3, 2, 0, 1), layout="NCHW", padding=2)
        np.testing.assert_array_equal(out, again)
    zero = np.broadcast_to(x[:, :1, :1, :1], x.shape)
    out = pymec.conv2d(zero, KERNEL.transpose(3, 2, 0, 1), layout="NCHW")
    np.testing.assert_array_equal(
        out, pymec.conv2d(np.ascontiguousarray(zero), KERNEL.transpose(3, 2, 0, 1), layout="NCHW")
    )


@pytest.mark.parametrize("name", ["x", "kernel", "bias", "out"])
def test_foreign_byte_orders_are_refused_by_name(name):
    arguments = {"x": X, "kernel": KERNEL, "bias": np.zeros(5, np.float32), "out": np.empty_like(EXPECTED)}
    swapped = np.zeros(arguments[name].shape, np.dtype(np.float32).newbyteorder())
    with pytest.raises(TypeError, match=rf"{name} .*byte order.*astype\('float32'\)"):
        pymec.conv2d(**{**arguments, name: swapped})
