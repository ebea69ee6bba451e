"""Bad input gets an error that names the argument, what came and what would do; and nothing is written."""

import numpy as np
import pytest
from cases import suited

import pymec
from pymec import execution
from pymec.kernels.shared.blocking import whole_product

X = np.ones((2, 6, 7, 4), np.float32)
WIDE = np.ones((2, 6, 7, 16), np.float32)  # channels enough for every algorithm
K = np.ones((3, 3, 4, 8), np.float32)


def unaligned(array):
    """The same numbers, a byte after an aligned address."""
    moved = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    moved[...] = array
    return moved


MISALIGNED = unaligned(X)


class Foreign:
    """An array of another library, which speaks DLPack and nothing else."""

    def __init__(self, array, device=(1, 0)):
        self.array, self.device = array, device

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.device


class Converted:
    """One that NumPy can convert."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


class Dask:
    """A collection of tasks that has not been computed."""

    def __dask_graph__(self):
        return {}

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("computed")


def readonly(array):
    array.flags.writeable = False
    return array


BAD = [
    # arrays
    ({"x": X[0]}, ValueError, "x must have four dimensions, got shape (6, 7, 4)"),
    ({"kernel": K[0]}, ValueError, "kernel must have four dimensions"),
    ({"x": [[1.0]]}, TypeError, "x must be an array, got list"),
    ({"kernel": None}, TypeError, "kernel must be an array, got NoneType"),
    ({"x": X.astype(np.float16)}, TypeError, "x must be float32 or float64, got float16"),
    ({"x": X.astype(int)}, TypeError, "x must be float32 or float64, got int64"),
    ({"x": X.astype(object)}, TypeError, "x must be float32 or float64, got object"),
    ({"x": X.astype(complex)}, TypeError, "x must be float32 or float64"),
    ({"x": X.astype(">f4")}, TypeError, "byte order, got >f4; use astype('float32')"),
    ({"kernel": K.astype(np.float64)}, TypeError, "kernel is float64, but x is float32"),
    ({"x": X[:, ::-1]}, ValueError, "x must be C-contiguous, or have adjacent channels"),
    ({"x": np.asfortranarray(X)}, ValueError, "x must be C-contiguous"),
    ({"kernel": K[:, ::-1]}, ValueError, "kernel must be C-contiguous"),
    (
        {"x": MISALIGNED, "workspace_limit": 600},
        ValueError,
        "workspace_limit of 600 bytes is too small: mec needs at least 4224 bytes for this shape, 1344 of",
    ),
    (
        {"bias": unaligned(np.ones(8, np.float32))},
        ValueError,
        "bias is not aligned to its element size; pass a copy",
    ),
    ({"out": unaligned(np.ones((2, 4, 5, 8), np.float32))}, ValueError, "out is not aligned"),
    ({"x": Foreign(X, device=(2, 0))}, TypeError, "it lies on another device; copy it to the CPU"),
    ({"x": Dask()}, TypeError, "x is a dask collection, which would be computed whole; pass x.compute()"),
    ({"out": Converted(X)}, TypeError, "got Converted; numpy.asarray of it may share its memory"),
    ({"x": X[:, :, :, :0].copy()}, ValueError, "x must have a positive size along H, W and C"),
    ({"kernel": K[..., :0].copy()}, ValueError, "kernel must have a positive size"),
    ({"kernel": np.ones((3, 3, 5, 8), np.float32)}, ValueError, "x would need 5 channels; x has 4"),
    ({"kernel": np.ones((7, 3, 4, 8), np.float32)}, ValueError, "kernel spans 7 × 3 pixels"),
    ({"dilation": 4}, ValueError, "kernel spans 9 × 9 pixels (dilation included)"),
    # numbers
    ({"stride": 0}, ValueError, "stride must be at least 1 and at most 2147483647, got 0"),
    ({"stride": (1, 2, 3)}, ValueError, "stride must be an integer or a (vertical, horizontal) pair"),
    ({"stride": 1.5}, TypeError, "stride must be an integer or a"),
    ({"stride": True}, ValueError, "stride must be an integer or a"),
    ({"stride": "2"}, TypeError, "stride must be an integer or a"),
    ({"dilation": -1}, ValueError, "dilation must be at least 1"),
    ({"padding": -1}, ValueError, "padding must be at least 0"),
    ({"padding": "full"}, ValueError, "padding must be numbers, 'valid' or 'same', got 'full'"),
    ({"padding": ((1, 1), 1)}, TypeError, "padding must be an integer, (p_h, p_w)"),
    ({"padding": (1, 2, 3, 4)}, ValueError, "padding must be an integer, (p_h, p_w)"),
    ({"padding": 0.5}, TypeError, "padding must be"),
    ({"groups": 3}, ValueError, "groups=3 must divide"),
    ({"groups": 0}, ValueError, "groups must be at least 1"),
    ({"groups": 2}, ValueError, "with groups=2 x would need 8 channels"),
    ({"n_threads": 0}, ValueError, "n_threads must be a positive integer or None, got 0"),
    ({"n_threads": 1.0}, TypeError, "n_threads must be a positive integer or None, got 1.0"),
    ({"n_threads": True}, TypeError, "n_threads must be"),
    ({"dilation": 2**63 - 1, "padding": 1}, ValueError, "dilation must be at least 1 and at most"),
    ({"padding": 10**30}, ValueError, "padding must be at least 0 and at most"),
    ({"stride": b"ab"}, TypeError, "stride must be an integer or a"),
    ({"x": np.ma.masked_array(X, X > 0)}, TypeError, "x is a masked array"),
    ({"n_threads": [2]}, TypeError, "n_threads must be a positive integer or None, got [2]"),
    ({"algorithm": ["mec"]}, ValueError, "algorithm must be 'auto' or one of"),
    ({"accuracy": ["exact"]}, ValueError, "accuracy must be"),
    ({"layout": ["NHWC"]}, ValueError, "layout must be"),
    ({"workspace_limit": np.array([10])}, ValueError, "workspace_limit must be a whole number of bytes"),
    ({"workspace_limit": "9" * 400}, ValueError, "workspace_limit must be a whole number of bytes"),
    # words
    ({"layout": "NHCW"}, ValueError, "layout must be 'NHWC' or 'NCHW', got 'NHCW'"),
    ({"algorithm": "mecc"}, ValueError, "algorithm must be 'auto' or one of direct, direct_blocked_plain"),
    ({"algorithm": "mecc"}, ValueError, "got 'mecc'; did you mean 'mec'?"),
    ({"algorithm": "AUTO"}, ValueError, "got 'AUTO'; did you mean 'auto'?"),
    ({"padding": None}, TypeError, "or 'same', got None"),
    ({"workspace_limit": 1e6}, ValueError, "must be a whole number of bytes"),
    ({"algorithm": 3}, ValueError, "algorithm must be 'auto' or one of"),
    ({"accuracy": "good"}, ValueError, "accuracy must be 'exact' or 'fast', got 'good'"),
    (
        {"workspace_limit": "1 furlong"},
        ValueError,
        "workspace_limit must be a whole number of bytes or a text like '64MiB'",
    ),
    ({"workspace_limit": -1}, ValueError, "workspace_limit must be a whole number of bytes"),
    ({"workspace_limit": 1.5}, ValueError, "workspace_limit must be a whole number of bytes"),
    ({"workspace_limit": 1000, "algorithm": "im2col"}, ValueError, "im2col needs at least 5760 bytes"),
    ({"workspace_limit": 1000, "algorithm": "im2col"}, ValueError, "the smallest is direct with 0"),
    # bias
    ({"bias": np.ones(7, np.float32)}, ValueError, "bias must have shape (8,), got (7,)"),
    ({"bias": np.ones(8)}, TypeError, "bias is float64, but x is float32"),
    ({"bias": 1.0}, TypeError, "bias must be an array, got float"),
    ({"bias": np.ones(16, np.float32)[::2]}, ValueError, "bias must be C-contiguous"),
    # out
    (
        {"out": np.ones((2, 4, 5, 7), np.float32)},
        ValueError,
        "out must have shape (2, 4, 5, 8), got (2, 4, 5, 7)",
    ),
    ({"out": np.ones((2, 4, 5, 8))}, TypeError, "out is float64, but x is float32"),
    ({"out": np.ones((2, 4, 5, 8), np.float32, order="F")}, ValueError, "out must be C-contiguous"),
    ({"out": readonly(np.ones((2, 4, 5, 8), np.float32))}, ValueError, "out is read-only"),
    ({"out": [1.0]}, TypeError, "out must be a numpy.ndarray, got list"),
    # workspace
    ({"workspace": np.ones(10, np.uint8)}, ValueError, "workspace has 10 bytes, but mec needs"),
    ({"workspace": np.ones(0)}, ValueError, "workspace has 0 bytes, but mec needs"),
    ({"workspace": readonly(np.ones(10**5, np.uint8))}, ValueError, "workspace is read-only"),
    ({"workspace": np.ones(10**5, np.uint8)[::2]}, ValueError, "workspace must be C-contiguous"),
    ({"workspace": np.ones(10**5, np.uint8)[1:]}, ValueError, "workspace must be aligned to 4 bytes"),
    ({"workspace": np.ones(10**5, object)}, TypeError, "workspace must not hold Python objects"),
    ({"workspace": bytearray(10**5)}, TypeError, "workspace must be a numpy.ndarray, got bytearray"),
]


@pytest.mark.parametrize(("wrong", "error", "message"), BAD, ids=[message[:60] for *_, message in BAD])
def test_the_message_names_the_argument_and_out_is_untouched(wrong, error, message):
    out = np.full((2, 4, 5, 8), 7.0, np.float32)
    arguments = {"x": X, "kernel": K, "algorithm": "mec", "out": out, **wrong}
    with pytest.raises(error) as raised:
        pymec.conv2d(**arguments)
    assert message in str(raised.value)
    assert (out == 7).all()


def test_checks_do_not_depend_on_what_was_called_before():
    """A cache key can't tell 1, 1.0 and True apart; the checks must."""
    pymec.conv2d(X, K, n_threads=1, stride=1)
    for slip in ({"n_threads": True}, {"n_threads": 1.0}, {"stride": True}, {"stride": 1.0}, {"groups": 1.0}):
        with pytest.raises((TypeError, ValueError), match=next(iter(slip))):
            pymec.conv2d(X, K, **slip)
    pymec.workspace_size((1, 9, 9, 4), K.shape, algorithm="mec")
    for shape in ((True, 9, 9, 4), (1.0, 9, 9, 4)):
        with pytest.raises((TypeError, ValueError), match="x_shape"):
            pymec.workspace_size(shape, K.shape, algorithm="mec")


def test_an_overflowing_bias_is_a_result_and_no_error():
    bias = np.full(8, np.finfo(np.float32).max, np.float32)
    with np.errstate(all="raise"):
        assert np.isinf(pymec.conv2d(X * np.float32(1e38), K, bias)).all()


def test_overlaps_are_refused():
    room = np.zeros(10**5, np.float32)
    x = room[: X.size].reshape(X.shape)
    out = room[X.size : X.size + 320].reshape(2, 4, 5, 8)
    for wrong, message in [
        ({"out": room[:320].reshape(2, 4, 5, 8)}, "out overlaps x"),
        ({"out": out, "workspace": room[X.size :]}, "workspace overlaps out"),
        ({"workspace": room[X.size - 1 :]}, "workspace overlaps x"),
    ]:
        with pytest.raises(ValueError, match=message):
            pymec.conv2d(x, K, algorithm="mec", **wrong)
    kernel = room[-K.size :].reshape(K.shape)
    with pytest.raises(ValueError, match="workspace overlaps kernel"):
        pymec.conv2d(X, kernel, algorithm="mec", workspace=room[-K.size - 500 :])
    # neighbours in one block are no overlap
    pymec.conv2d(x, K, algorithm="mec", out=out, workspace=room[X.size + 320 :])


@pytest.mark.parametrize("algorithm", pymec.algorithms())
def test_workspace_and_out_are_reused(algorithm):
    """The same scratch and output, full of NaN, for another input; any dtype and shape of scratch will do."""
    rng = np.random.default_rng(0)
    extents, groups = suited(algorithm, WIDE.shape, 8)
    options = {"algorithm": algorithm, "groups": groups, "n_threads": 2}
    kernel = np.ones(extents, np.float32)
    nbytes = pymec.workspace_size(WIDE.shape, extents, **options)
    for workspace in (
        np.full(nbytes // 4 + 9, np.nan, np.float32),
        np.full((nbytes // 80 + 1, 10), np.nan),
        np.full(nbytes + 3, 255, np.uint8),
    ):
        out = np.full(pymec.conv2d(WIDE, kernel, **options).shape, np.nan, np.float32)
        for _ in range(3):
            x = rng.standard_normal(WIDE.shape, np.float32)
            returned = pymec.conv2d(x, kernel, workspace=workspace, out=out, **options)
            assert returned is out
            np.testing.assert_array_equal(out, pymec.conv2d(x, kernel, **options))


@pytest.mark.parametrize("algorithm", pymec.algorithms())
def test_readonly_inputs_are_welcome(algorithm):
    extents, groups = suited(algorithm, WIDE.shape, 8)
    x, kernel = readonly(WIDE.copy()), readonly(np.ones(extents, np.float32))
    out = pymec.conv2d(x, kernel, algorithm=algorithm, groups=groups)
    np.testing.assert_allclose(out, np.prod(extents[:3]), rtol=1e-5)


@pytest.mark.parametrize("algorithm", pymec.algorithms())
def test_no_image_gives_no_output(algorithm):
    extents, groups = suited(algorithm, WIDE.shape, 8)
    out = pymec.conv2d(WIDE[:0], np.ones(extents, np.float32), algorithm=algorithm, groups=groups)
    assert out.shape == (0, 7 - extents[0], 8 - extents[1], extents[3])


def test_array_likes_share_their_memory():
    class Wrapped:
        def __init__(self, array):
            self.array = array

        def __array__(self, dtype=None, copy=None):
            return self.array

    assert (pymec.conv2d(Wrapped(X), Wrapped(K)) == 36).all()


def test_no_room_is_said_in_words(monkeypatch):
    from pymec import execution

    def refuse(nbytes):
        raise MemoryError

    with pytest.raises(MemoryError, match=r"no room for \d+ bytes of output for"):
        pymec.conv2d(X, K, padding=(10**9, 10**6))
    monkeypatch.setattr(execution, "allocate_workspace", refuse)
    with pytest.raises(MemoryError, match=r"no room for \d+ bytes of workspace for mec; pass workspace_limit="):
        pymec.conv2d(X, K, algorithm="mec")


def room_for(shape):
    return np.empty(shape.output_shape, np.float32)


STAGES = [
    lambda mec, s: mec.lower(X, np.empty(s.mec_size - 1, np.float32), s),
    lambda mec, s: mec.lower(X[:1], np.empty(s.mec_size, np.float32), s),
    lambda mec, s: mec.multiply(np.empty(3, np.float32), K, room_for(s), s, "B", whole_product(s)),
    lambda mec, s: mec.multiply(
        np.empty(s.mec_size, np.float32), K, np.empty((1, 1, 1, 1), np.float32), s, "B", whole_product(s)
    ),
    lambda mec, s: mec.multiply(np.empty(s.mec_size, np.float32), K, room_for(s), s, "C", whole_product(s)),
    lambda mec, s: mec.multiply(np.empty(s.mec_size, np.float32), K, room_for(s), s, "B", (0, 1, 1, 1)),
    lambda mec, s: mec.repair(room_for(s), np.empty(3, np.float32), s),
    lambda mec, s: mec.lower(X, np.empty(s.mec_size, np.float32), s, 0),
    lambda mec, s: mec.lower(X, np.empty(s.mec_size, np.float32), s, 10**6),
    lambda mec, s: mec.lower(X, np.empty(8, np.float32), pymec.ConvShape(2, 6, 7, 4, 3, 3, 8, p_r=2**61 - 4)),
    lambda mec, s: mec.lower(X, np.empty(s.mec_size, np.float32), pymec.ConvShape(2, 6, 7, 4, 3, 3, 8, d_h=0)),
    lambda mec, s: pymec.ConvShape(2, 6, 7, 4, 3, 3, 8, groups=3),
]


@pytest.mark.parametrize("call", STAGES)
def test_stages_check_what_they_would_write_over(call):
    from pymec.kernels.mec import tuned as mec

    with pytest.raises(
        (ValueError, OverflowError), match=r"elements|has shape|solution|blocking|n_threads|must|large"
    ):
        call(mec, pymec.ConvShape.from_shapes(X.shape, K.shape))


def test_arrays_of_other_libraries():
    expected = pymec.conv2d(X, K)
    for foreign in Foreign, Converted:
        np.testing.assert_array_equal(pymec.conv2d(foreign(X), foreign(K)), expected)


RNG = np.random.default_rng(7)
OPERANDS = {
    "conv2d": (RNG.standard_normal((2, 6, 7, 4)), RNG.standard_normal((3, 3, 4, 8)), ()),
    "conv2d_input_grad": (RNG.standard_normal((2, 4, 5, 8)), RNG.standard_normal((3, 3, 4, 8)), ((2, 6, 7, 4),)),
    "conv2d_kernel_grad": (RNG.standard_normal((2, 6, 7, 4)), RNG.standard_normal((2, 4, 5, 8)), ((3, 3, 4, 8),)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("which", [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("operation", OPERANDS)
def test_unaligned_operands_are_copied_in_the_workspace(operation, which, dtype, monkeypatch):
    """As arrays are that dask moves between workers: the same bits, and every byte in the one block of scratch."""
    *operands, results = OPERANDS[operation]
    aligned = [operand.astype(dtype) for operand in operands]
    moved = [unaligned(a) if wanted else a for a, wanted in zip(aligned, which, strict=True)]
    function = getattr(pymec, operation)
    asked, original = [], execution.allocate_workspace

    def allocate(nbytes):
        asked.append(nbytes)
        return original(nbytes)

    monkeypatch.setattr(execution, "allocate_workspace", allocate)
    expected = function(*aligned, *results, algorithm="mec")
    np.testing.assert_array_equal(function(*moved, *results, algorithm="mec"), expected)
    copies = sum(a.nbytes for a, wanted in zip(aligned, which, strict=True) if wanted)
    assert asked[1] == asked[0] + copies
    limit = asked[1]
    np.testing.assert_array_equal(
        function(*moved, *results, algorithm="mec", workspace_limit=limit, workspace=np.empty(limit, np.uint8)),
        expected,
    )
    with pytest.raises(ValueError, match="workspace_limit of"):
        function(*moved, *results, algorithm="mec", workspace_limit=limit - 1)


def test_a_plan_copies_an_unaligned_kernel_once():
    plan = pymec.plan(X.shape, K.shape, algorithm="mec").prepare(unaligned(K))
    np.testing.assert_array_equal(plan(unaligned(X)), pymec.conv2d(X, K, algorithm="mec"))
    out, saved = plan.forward_saved(unaligned(X))
    np.testing.assert_array_equal(saved.kernel_grad(unaligned(out)), saved.kernel_grad(out))


def test_nchw_operands_are_copied_once():
    """Their conversion copies them, so that one that is not aligned takes no more workspace."""
    x, kernel = (np.ascontiguousarray(a.transpose(axes)) for a, axes in ((X, (0, 3, 1, 2)), (K, (3, 2, 0, 1))))
    options = {"layout": "NCHW", "algorithm": "mec"}
    room = np.empty(pymec.workspace_size(x.shape, kernel.shape, **options), np.uint8)
    out = pymec.conv2d(unaligned(x), unaligned(kernel), workspace=room, **options)
    np.testing.assert_array_equal(out, pymec.conv2d(x, kernel, **options))


def test_a_bias_is_not_overwritten():
    room = np.zeros(10**5, np.float32)
    out, bias = room[:320].reshape(2, 4, 5, 8), room[300:308]
    with pytest.raises(ValueError, match="out overlaps bias"):
        pymec.conv2d(X, K, bias, algorithm="mec", out=out)
    with pytest.raises(ValueError, match="workspace overlaps bias"):
        pymec.conv2d(X, K, bias, algorithm="mec", workspace=room[200:])


def test_a_workspace_for_doubles_is_aligned_to_eight_bytes():
    room = np.empty(10**5, np.float64).view(np.uint8)
    with pytest.raises(ValueError, match="workspace must be aligned to 8 bytes"):
        pymec.conv2d(X.astype("f8"), K.astype("f8"), algorithm="mec", workspace=room[4:])
