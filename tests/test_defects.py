"""What published implementations of MEC got wrong, each as a test.

The defects were found by reading some ten public codes; none of them compares its result with a reference
on data that is not constant, so the defects stayed.
"""

import numpy as np
import pytest
from cases import able, operands, suited

import pymec
from pymec import ConvShape, reference, registry
from pymec.kernels.mec import tuned as mec
from pymec.kernels.mec.rows import choose_solution
from pymec.kernels.register_tiles.schedule import gemm_blocking
from pymec.kernels.shared.blocking import whole_product

MEC = [name for name in pymec.algorithms() if name.startswith("mec")]
TUNED = [name for name in MEC if name in able((2, 8, 9, 10), (3, 2, 5, 20), groups=2)]
"""The algorithms that go beyond the paper: dilation and groups."""


def check(shape, out, x, kernel):
    assert (np.abs(out - reference.conv2d(x, kernel, shape)) <= reference.error_bound(x, kernel, shape)).all()


@pytest.mark.parametrize("algorithm", MEC)
def test_a_partition_starts_s_h_kernel_rows_further(algorithm):
    """Seen: an offset of one element column per row instead of s_h·k_w; invisible on constant images."""
    image = np.arange(49.0).reshape(1, 7, 7, 1)
    kernel = np.zeros((3, 3, 1, 1))
    kernel[0, 0] = 1  # picks the top left pixel of each patch
    for stride in (1, 2):
        out = pymec.conv2d(image, kernel, stride=stride, algorithm=algorithm)
        np.testing.assert_array_equal(out, image[:, :5:stride, :5:stride])


@pytest.mark.parametrize("algorithm", MEC)
def test_every_output_row_has_an_address_of_its_own(algorithm):
    """Seen: all rows written to the same place, and k_h·k_w·i_c as leading dimension instead of a strip."""
    x, kernel = operands(ConvShape.from_shapes((2, 12, 5, 3), (2, 2, 3, 4)))
    out = pymec.conv2d(x, kernel, algorithm=algorithm)
    for y in range(out.shape[1]):
        alone = pymec.conv2d(np.ascontiguousarray(x[:, y : y + 2]), kernel, algorithm="direct")
        np.testing.assert_allclose(out[:, y : y + 1], alone, rtol=1e-5, atol=1e-5)


# (shape, o_w <= T?, |O| <= |L|?) for T = 6: both sides of both tests of Algorithm 2's line 8
LINE_8 = [
    ((3, 9, 7, 8), (3, 3, 8, 4), True, True),
    ((3, 9, 7, 1), (3, 3, 1, 64), True, False),
    ((3, 9, 12, 8), (3, 3, 8, 4), False, True),
    ((3, 9, 12, 1), (3, 3, 1, 64), False, False),
]


@pytest.mark.parametrize(("x_shape", "kernel_shape", "narrow", "fits"), LINE_8)
@pytest.mark.parametrize("multiply_with", ["register_tiles", "small_blas", "blas"])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_both_sides_of_both_tests_of_line_8(x_shape, kernel_shape, narrow, fits, multiply_with, n_threads):
    """Seen: L laid out by one of the two tests and read by the other; Solution B always; sizes not checked."""
    shape = ConvShape.from_shapes(x_shape, kernel_shape)
    assert (shape.o_w <= 6, shape.output_size <= shape.mec_size) == (narrow, fits)
    solution = choose_solution(shape, T=6)
    assert solution == ("A" if narrow and fits else "B")
    blocking = gemm_blocking(multiply_with, shape, shape.o_w * (3 if solution == "A" else 1), n_threads)
    x, kernel = operands(shape)
    out = np.full(shape.output_shape, np.nan, np.float32)
    L = np.full(shape.mec_size, np.nan, np.float32)
    mec.run(x, kernel, out, L, shape, n_threads, solution, blocking)
    check(shape, out, x, kernel)


def test_the_repair_goes_over_the_batch():
    """Seen: a repair that loops over the output channels."""
    shape = ConvShape.from_shapes((3, 6, 5, 8), (3, 3, 8, 2))
    x, kernel = operands(shape)
    L = np.empty(shape.mec_size, np.float32)
    out = np.empty(shape.output_shape, np.float32)
    mec.lower(x, L, shape)
    mec.multiply(L, kernel, out, shape, "A", whole_product(shape))
    expected = reference.conv2d(x, kernel, shape)
    # before: h-n-w-c in the output's own memory
    before = out.reshape(shape.o_h, shape.i_n, shape.o_w, shape.k_c).transpose(1, 0, 2, 3)
    np.testing.assert_allclose(before, expected, rtol=1e-4, atol=1e-4)
    mec.repair(out, L, shape)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)


OPTIONS = [
    {"padding": (0, 2)},  # seen: an offset of p_w elements instead of p_w·i_c
    {"padding": (3, 0)},  # seen: the height of L taken from the left and right padding
    {"padding": ((0, 1), (2, 0))},
    {"padding": (1, 2), "stride": (3, 2)},  # seen: padding and stride in the signature, unused
    {"stride": (2, 3)},  # seen: one stride for both
    {"stride": 4},  # seen: exits unless s divides i - k
    {"dilation": (2, 1)},  # seen: vertical dilation ignored
    {"dilation": (1, 3)},
    {"dilation": 2, "stride": 3, "padding": 2},
    {"stride": (5, 5)},  # s > k
]


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        (algorithm, options)
        for options in OPTIONS
        for algorithm in able((3, 13, 10, 5), (3, 2, 5, 4), **options)
        if algorithm in MEC
    ],
    ids=str,
)
def test_options_are_honoured(algorithm, options):
    shape = ConvShape.from_shapes((3, 13, 10, 5), (3, 2, 5, 4), **options)
    x, kernel = operands(shape)
    check(shape, pymec.conv2d(x, kernel, algorithm=algorithm, n_threads=2, **options), x, kernel)


@pytest.mark.parametrize("groups", [2, 5])
@pytest.mark.parametrize("algorithm", TUNED)
def test_groups(algorithm, groups):
    """Seen: refused by an assertion."""
    shape = ConvShape.from_shapes((2, 8, 9, 10), (3, 2, 10 // groups, 20), groups=groups)
    x, kernel = operands(shape)
    check(shape, pymec.conv2d(x, kernel, algorithm=algorithm, groups=groups), x, kernel)


GUARDED = [
    ((1, 9, 9, 3), (5, 2, 3, 4), {"stride": (2, 3)}),  # seen: sized |I| unless both k exceed s, then overrun
    ((2, 8, 9, 3), (3, 3, 3, 4), {"padding": ((2, 0), (0, 3))}),
    ((2, 9, 9, 4), (2, 3, 2, 6), {"dilation": (3, 2), "groups": 2}),
    ((3, 6, 5, 1), (3, 3, 1, 64), {}),  # |O| > |L|: Solution A's repair needs more than L
]


@pytest.mark.parametrize(
    ("algorithm", "x_shape", "kernel_shape", "options"),
    [
        (algorithm, x, kernel, options)
        for x, kernel, options in GUARDED
        for algorithm in able(x, kernel, **options)
    ],
)
@pytest.mark.parametrize("n_threads", [1, 3])
def test_nothing_is_written_beside_workspace_and_out(algorithm, x_shape, kernel_shape, options, n_threads):
    shape = ConvShape.from_shapes(x_shape, kernel_shape, **options)
    x, kernel = operands(shape)
    nbytes = pymec.workspace_size(x_shape, kernel_shape, algorithm=algorithm, n_threads=n_threads, **options)
    guard, sentinel = 256, 0xA5
    room = np.full(nbytes + 2 * guard, sentinel, np.uint8)
    out_room = np.full(shape.output_nbytes + 2 * guard, sentinel, np.uint8)
    out = out_room[guard:-guard].view(np.float32).reshape(shape.output_shape)
    before = x.copy(), kernel.copy()
    pymec.conv2d(
        x,
        kernel,
        algorithm=algorithm,
        n_threads=n_threads,
        workspace=room[guard : guard + nbytes],
        out=out,
        **options,
    )
    for edge in (room[:guard], room[guard + nbytes :], out_room[:guard], out_room[-guard:]):
        assert (edge == sentinel).all()
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(kernel, before[1])
    error = np.abs(out - reference.conv2d(x, kernel, shape))
    assert (error <= registry.get(algorithm).error_bound(x, kernel, shape)).all()


@pytest.mark.parametrize("algorithm", pymec.algorithms())
def test_nothing_is_kept_after_a_call(algorithm):
    """Seen: buffers allocated in every call and never released.

    What is lost is lost in each round; in one of them a table of the tests' own may grow.
    """
    import tracemalloc

    x = np.ones((1, 40, 40, 16), np.float32)
    extents, groups = suited(algorithm, x.shape, 16)
    kernel = np.ones(extents, np.float32)
    pymec.conv2d(x, kernel, algorithm=algorithm, groups=groups)
    tracemalloc.start()
    try:
        held = []
        for _ in range(4):
            for _ in range(25):
                pymec.conv2d(x, kernel, algorithm=algorithm, groups=groups)
            held.append(tracemalloc.get_traced_memory()[0])
        assert min(np.diff(held)) < 10_000
    finally:
        tracemalloc.stop()
