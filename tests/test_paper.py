"""The paper's algorithms as the paper has them: L whole, line 8's choice, the repair, and a file to read."""

import re
from pathlib import Path

import numpy as np
import pytest
from cases import is_right, operands

import pymec
from pymec import ConvShape, registry
from pymec.kernels.mec import paper

PUBLISHED = ("mec_vanilla", "mec_a", "mec_b", "mec_paper")
SOURCE = Path(paper.__file__).with_name("paper.pyx")

GEOMETRIES = [
    ((1, 7, 7, 1), (3, 3, 1, 1), {}),  # the paper's example
    ((3, 9, 8, 2), (2, 3, 2, 5), {"stride": (2, 1)}),  # a last image row that no output reads
    ((2, 8, 9, 3), (3, 2, 3, 4), {"padding": ((2, 1), (0, 3)), "stride": (1, 2)}),
    ((2, 9, 9, 2), (1, 2, 2, 4), {"stride": 3}),  # rows between the strides that no output reads
    ((2, 6, 6, 3), (1, 1, 3, 7), {}),
]


@pytest.mark.parametrize(("x_shape", "kernel_shape", "options"), GEOMETRIES)
@pytest.mark.parametrize("n_threads", [1, 3])
def test_the_lowered_matrix_is_that_of_line_5(x_shape, kernel_shape, options, n_threads):
    """L[n, w, h, 0:k_w, 0:i_c] = I[n, h, s_w·w : s_w·w + k_w, 0:i_c], for every row of the padded image."""
    s = ConvShape.from_shapes(x_shape, kernel_shape, **options)
    x, _ = operands(s)
    padded = np.pad(x, ((0, 0), (s.p_t, s.p_b), (s.p_l, s.p_r), (0, 0)))
    L = np.full((s.i_n, s.o_w, padded.shape[1], s.k_w, s.i_c), np.nan, np.float32)
    assert L.size == s.paper_mec_size
    paper.lower(x, L.reshape(-1), s, n_threads)
    for w in range(s.o_w):
        np.testing.assert_array_equal(L[:, w], padded[:, :, s.s_w * w : s.s_w * w + s.k_w])


@pytest.mark.parametrize(("x_shape", "kernel_shape", "options"), GEOMETRIES)
@pytest.mark.parametrize("algorithm", PUBLISHED)
@pytest.mark.parametrize("n_threads", [1, 2])
def test_they_convolve(x_shape, kernel_shape, options, algorithm, n_threads):
    s = ConvShape.from_shapes(x_shape, kernel_shape, **options)
    x, kernel = operands(s)
    out = pymec.conv2d(x, kernel, algorithm=algorithm, n_threads=n_threads, **options)
    assert is_right(out, s)


def test_their_workspace_is_the_papers():
    """|L| = i_n·o_w·i_h·k_w·i_c, of one image for Algorithm 1; Solution A alone may need room for a copy of O."""
    x, kernel = (3, 9, 7, 2), (3, 3, 2, 4)
    nbytes = {name: pymec.workspace_size(x, kernel, algorithm=name, padding=(1, 0)) for name in PUBLISHED}
    L = 3 * 5 * (9 + 2) * 3 * 2 * 4
    assert nbytes == {"mec_vanilla": L // 3, "mec_a": L, "mec_b": L, "mec_paper": L}
    many_channels = (3, 3, 2, 64)
    assert pymec.workspace_size(x, many_channels, algorithm="mec_a") == 3 * 7 * 5 * 64 * 4
    assert pymec.workspace_size((1, *x[1:]), many_channels, algorithm="mec_a") == 5 * 9 * 3 * 2 * 4
    # cv4: 224 rows, of which the outputs read 223
    cv4 = pymec.layers.get("cv4").shape()
    assert registry.get("mec_b").schedule(cv4, 2, None).size * 4 == 43_753_472
    assert registry.get("mec").schedule(cv4, 2, None).size * 4 == 43_558_144


# (x, kernel, o_w <= 100?, |O| <= |L|?): both sides of both tests of line 8
LINE_8 = [
    ((2, 5, 102, 4), (3, 3, 4, 4), True, True),
    ((2, 5, 102, 1), (3, 3, 1, 8), True, False),
    ((2, 5, 103, 4), (3, 3, 4, 4), False, True),
    ((2, 5, 103, 1), (3, 3, 1, 8), False, False),
]


@pytest.mark.parametrize(("x_shape", "kernel_shape", "narrow", "fits"), LINE_8)
@pytest.mark.parametrize("n_threads", [1, 2])
def test_line_8_has_two_tests_of_which_both_must_hold(x_shape, kernel_shape, narrow, fits, n_threads):
    """L shows which solution ran: it holds a copy of O after Solution A, and the strips after Solution B."""
    s = ConvShape.from_shapes(x_shape, kernel_shape)
    assert (s.o_w <= 100, s.output_size <= s.paper_mec_size) == (narrow, fits)
    assert paper.choose_solution(s) == ("A" if narrow and fits else "B")
    x, kernel = operands(s)
    out, L = np.full(s.output_shape, np.nan, np.float32), np.full(s.paper_mec_size, np.nan, np.float32)
    paper.run(x, kernel, out, L, s, n_threads)
    assert is_right(out, s)
    lowered = np.empty_like(L)
    paper.lower(x, lowered, s)
    if narrow and fits:
        np.testing.assert_array_equal(L[: out.size].reshape(s.o_h, s.i_n, s.o_w, s.k_c), out.transpose(1, 0, 2, 3))
    else:
        np.testing.assert_array_equal(L, lowered)


def test_the_stages_are_the_familys():
    from pymec.kernels import mec

    assert (mec.lower, mec.multiply, mec.repair) == (paper.lower, paper.multiply, paper.repair)


def test_a_solution_is_a_or_b():
    s = ConvShape.from_shapes((1, 4, 4, 1), (2, 2, 1, 1))
    kernel = operands(s)[1]
    with pytest.raises(ValueError, match="solution must be 'A' or 'B', got 'C'"):
        paper.multiply(np.empty(s.paper_mec_size, np.float32), kernel, np.empty(s.output_shape, "f"), s, "C")


@pytest.mark.parametrize("algorithm", PUBLISHED)
@pytest.mark.parametrize(
    ("options", "reason"),
    [({"dilation": (1, 2)}, "its dilation is 1×2"), ({"groups": 2}, "it has 2 groups")],
)
def test_what_the_paper_has_not_is_refused_by_naming_mec(algorithm, options, reason):
    x, kernel = np.ones((1, 6, 6, 4), np.float32), np.ones((2, 2, 4 // options.get("groups", 1), 4), np.float32)
    wanted = f"{reason} and the paper's algorithms have none; mec takes any"
    with pytest.raises(pymec.UnsupportedShape, match=wanted):
        pymec.conv2d(x, kernel, algorithm=algorithm, **options)


def test_a_reader_needs_four_files():
    text = SOURCE.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 170
    own = set(re.findall(r"from pymec\.([\w.]+) c?import", text))
    assert own == {f"kernels.shared.{name}" for name in ("blas", "geometry", "patch")}


def test_every_numbered_statement_stands_in_the_section_of_its_lines():
    text = SOURCE.read_text(encoding="utf-8")
    parts = re.split(r"^# (.+?) -+$", text, flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    for heading, statements in {
        "Lowering: Algorithm 1, lines 4-6; Algorithm 2, lines 4-6": [5],
        "The choice: Algorithm 2, line 8": [8],
        "Solution A: Algorithm 2, lines 9-13": [9, 10, 12],
        "Solution B: Algorithm 2, lines 21-25; for a single image, Algorithm 1, lines 7-11": [21, 22, 24],
        "Solution A's repair: Algorithm 2, lines 14-19": [14, 15, 18],
    }.items():
        for line in statements:
            assert re.search(rf"line {line}\b", sections[heading], re.IGNORECASE), (heading, line)
