"""The explorer's arithmetic, in a JavaScript engine, is pymec's; what it draws computes the convolution."""

from __future__ import annotations

import json
import random
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import quickjs

import pymec
from pymec import ConvShape, layers, reference, registry

sys.path.insert(0, str(Path(__file__).parent.parent / "docs"))

import formulas  # found by the line above

RUN = """
const numbers = (given, b) => {
  const s = explorerModel.sizes(given);
  const able = Object.entries(explorerData.algorithms).filter(([, one]) => !one.does || one.does(s));
  const bytes = Object.fromEntries(able.map(([name, one]) => [name, one.size(s) * s.itemsize]));
  return { s, bytes, band: explorerModel.bandSize(s, b) };
};
const lowerings = (given, b) => {
  const s = explorerModel.sizes(given), { im2col, mec, mecW } = explorerModel;
  return { im2col: im2col(s), mec: mec(s), banded: mec(s, b), mec_w: mecW(s) };
};
const drawn = (given) => explorerModel.drawn(explorerModel.sizes(given));
const limits = () => Object.assign({}, ...Object.values(explorerModel.FIELDS));
const known = () => Object.keys(explorerData.algorithms);
"""


@pytest.fixture(scope="module")
def page():
    """A function of the page's scripts, by name and arguments."""
    context = quickjs.Context()
    for script in (formulas.read("_static/explorer/model.js"), formulas.data(), RUN):
        context.eval(script)

    def run(name, *arguments):
        given = ", ".join(json.dumps(argument) for argument in arguments)
        return json.loads(context.eval(f"JSON.stringify({name}({given}))"))

    return run


# Sizes and bytes ----------------------------------------------------------------------------------------


def given(shape):
    """The sizes that the page's fields have, with each side's padding by itself."""
    left_out = ("groups", "dtype", "layout")
    return {name: getattr(shape, name) for name in shape.__dataclass_fields__ if name not in left_out}


def random_shape(rng, limits):
    """A layer within the limits of the page: sizes of every magnitude, and often the special ones."""

    def up_to(most, *often):
        return rng.choice(often) if often and rng.random() < 0.6 else int(most ** rng.random() + 0.5)

    while True:
        k = up_to(31, 1, 3, 3, 5)
        square = rng.random() < 0.6
        k_h, k_w = (k, k) if square else (up_to(31, 1, 2, 3), up_to(31, 1, 2, 3))
        s_h, s_w, d_h, d_w = (up_to(limits[name], 1, 1, 2) for name in ("s_h", "s_w", "d_h", "d_w"))
        padding = [rng.choice((0, 1, k_h // 2, rng.randrange(limits["p_h"] + 1))) for _ in range(4)]
        if rng.random() < 0.4:
            padding = [0] * 4
        sizes = {
            **{name: up_to(limits[name]) for name in ("i_n", "i_h", "i_w", "i_c", "k_c")},
            **{"k_h": k_h, "k_w": k_w, "s_h": s_h, "s_w": s_w, "d_h": d_h, "d_w": d_w},
            **dict(zip(("p_t", "p_b", "p_l", "p_r"), padding, strict=True)),
        }
        try:
            return ConvShape(**sizes)
        except ValueError:  # the kernel does not fit
            continue


def by_pymec(shape, name):
    """Bytes of workspace, or None if the algorithm can't do the shape."""
    try:
        return pymec.workspace_size(
            shape.input_shape, shape.kernel_shape, algorithm=name, n_threads=1, **shape.arguments
        )
    except pymec.UnsupportedShape:
        return None


def compare(page, shape, b):
    """What the page says of a shape, and what pymec does."""
    found = page("numbers", given(shape), b)
    sizes = {name: by_pymec(shape, name) for name in page("known")}
    assert found["bytes"] == {name: size for name, size in sizes.items() if size is not None}, shape
    assert found["band"] == shape.band_size(b), (shape, b)
    derived = {"o_h": shape.o_h, "o_w": shape.o_w, "r_h": shape.lowered_rows(), "r_w": shape.lowered_columns()}
    assert {name: found["s"][name] for name in derived} == derived, shape


def random_layers(page, seed):
    """A hundred of the thousand, each with the rows of a band."""
    rng, limits = random.Random(seed), page("limits")
    for _ in range(100):
        shape = random_shape(rng, limits)
        yield shape, rng.randint(1, shape.o_h)


@pytest.mark.parametrize("seed", range(10))
def test_the_numbers_of_a_thousand_random_layers_are_pymecs(page, seed):
    for shape, b in random_layers(page, seed):
        compare(page, shape, b)


def test_the_random_layers_meet_every_algorithm_and_every_exception(page):
    """Otherwise the comparison above would say nothing about some of them."""
    shapes = [shape for seed in range(10) for shape, _ in random_layers(page, seed)]
    found = [page("numbers", given(shape), 1) for shape in shapes]
    assert {name for each in found for name in each["bytes"]} == set(page("known"))
    assert all(any(each["s"][exception] for each in found) for exception in ("is_pointwise", "is_row_of_taps"))
    assert any(shape.i_n > 1 and shape.output_size > shape.paper_mec_size for shape in shapes)


def test_the_bands_of_images_that_are_mostly_padding_are_pymecs(page):
    """Where none lies inside the image, up to 16 are counted one by one, and more have an upper bound."""
    rng, n_bands = random.Random(1), []
    for _ in range(300):
        i_h, k_h, p, d = rng.randint(1, 12), rng.randint(1, 31), rng.randint(0, 31), rng.randint(1, 8)
        if d * (k_h - 1) < i_h + 2 * p:
            shape = ConvShape(1, i_h, 5, 1, k_h, 1, 1, s_h=rng.randint(1, 4), p_t=p, p_b=p, d_h=d)
            b = rng.randint(1, min(3, shape.o_h))
            n_bands.append(-(-shape.o_h // b))
            assert page("numbers", given(shape), b)["band"] == shape.band_size(b), (shape, b)
    assert min(n_bands) < 16 < max(n_bands)
    exact_is_less = ConvShape(1, 35, 5, 1, 18, 1, 1, s_h=2, p_t=19, p_b=19, d_h=2)  # 17 rows, and the bound is 18
    assert page("numbers", given(exact_is_less), 1)["band"] == exact_is_less.band_size(1) == 5 * 18


@pytest.mark.parametrize("name", layers.PAPER)
def test_the_numbers_of_the_papers_layers_are_pymecs(page, name):
    for i_n in (1, 32):
        compare(page, layers.get(name).shape(i_n), 2)


@pytest.mark.parametrize("k", [1, 3, 31])
def test_the_largest_layers_have_numbers_that_javascript_holds_exactly(page, k):
    limits = page("limits")
    sizes = {name: limits[name] for name in ("i_n", "i_h", "i_w", "i_c", "k_c")}
    padding = dict.fromkeys(("p_t", "p_b", "p_l", "p_r"), limits["p_h"])
    for sides in ({}, padding):
        shape = ConvShape(**sizes, k_h=k, k_w=k, **sides)
        compare(page, shape, shape.o_h)
        assert max(page("numbers", given(shape), 1)["bytes"].values()) < 2**53


# Formulas -----------------------------------------------------------------------------------------------


def test_every_algorithm_is_shown_or_said_to_be_left_out(page):
    left_out = json.loads(re.search(r"leftOut: (.*),$", formulas.data(), re.MULTILINE)[1])
    assert sorted([*page("known"), *left_out]) == sorted(registry.ALGORITHMS)
    cut = {name for name, row in registry.ALGORITHMS.items() if row.order == "bounded"}
    assert set(left_out) == cut - {"smm"} | {"direct_panels", "pointwise_planes"}


@pytest.mark.parametrize(
    ("formula", "python"),
    [
        ("a·b, b = ⌈c/2⌉", ("a*b", {"b": "ceil(c/2)"}, [])),
        ("4²·(a + b), kept by a plan", ("4**2*(a + b)", {}, ["kept by a plan"])),
        ("max(a, b)·c; with a > 1 at least b", ("max(a, b)*c", {}, ["with a > 1 at least b"])),
    ],
)
def test_a_formula_is_taken_apart(formula, python):
    assert formulas.python_of(formula) == python


@pytest.mark.parametrize(
    ("python", "javascript"),
    [
        ("a - (b - c)", "a - (b - c)"),
        ("(a - b) - c", "a - b - c"),
        ("a*(b + c)/d", "a * (b + c) / d"),
        ("a/(b*c)", "a / (b * c)"),
        ("-a % 6 + b", "(-a % 6 + 6) % 6 + b"),
        ("0 if a == b == 1 or c > 2 else ceil(d/2)", "a === b && b === 1 || c > 2 ? 0 : Math.ceil(d / 2)"),
        ("(a if b else c) + 1", "(b ? a : c) + 1"),
    ],
)
def test_arithmetic_becomes_javascript(python, javascript):
    assert formulas.javascript(python) == javascript


@pytest.mark.parametrize(
    "text", ["print(a)", "a.b", "a[0]", "'a'", "1.5", "lambda: 0", "a ** b", "a // b", "a if b"]
)
def test_nothing_but_arithmetic_becomes_javascript(text):
    with pytest.raises((ValueError, SyntaxError)):
        formulas.javascript(text)


def test_words_that_are_not_known_stop_the_build():
    with pytest.raises(ValueError, match="can't read 'on Sundays twice'"):
        formulas.with_remark("a", "on Sundays twice", {})


# Steps --------------------------------------------------------------------------------------------------


def small_shapes():
    rng = random.Random(7)
    while True:
        names = ("k_h", "k_w", "s_h", "s_w", "d_h", "d_w")
        sizes = {name: rng.choice((1, 1, 2, 3)) for name in names} | {"k_h": rng.randint(1, 4)}
        padding = {name: rng.choice((0, 0, 1, 4)) for name in ("p_t", "p_b", "p_l", "p_r")}
        try:
            yield ConvShape(1, rng.randint(1, 9), rng.randint(1, 9), 1, k_c=1, **sizes, **padding)
        except ValueError:
            continue


def played(lowering, name, shape, image, kernel):
    """O as the steps make it, from an L that holds nothing at first."""
    L = np.full((lowering["rows"], lowering["columns"]), np.nan)
    O = np.full(shape.o_h * shape.o_w, np.nan)
    pixels = np.append(image.ravel(), 0.0)  # number -1 is a zero of the padding
    s = shape.transposed() if name == "mec_w" else shape
    taps = kernel.T if name == "mec_w" else kernel
    for step in lowering["steps"]:
        if "cells" in step:
            L[step["row"], : len(step["cells"])] = pixels[step["cells"]]
            continue
        rows = step["y"] * s.s_h - s.p_t + np.arange(s.k_h) * s.d_h
        inside = (rows >= 0) & (rows < s.i_h) if name != "im2col" else np.ones(s.k_h, bool)
        part = L[:, step["first"] : step["first"] + step["count"]]
        O[step["makes"]] = part @ taps[inside].ravel()
    return O.reshape(shape.o_h, shape.o_w)


def test_the_steps_compute_the_convolution_in_an_l_of_pymecs_size(page):
    rng = np.random.default_rng(0)
    for _, shape in zip(range(150), small_shapes(), strict=False):
        image, kernel = rng.standard_normal((shape.i_h, shape.i_w)), rng.standard_normal((shape.k_h, shape.k_w))
        whole = reference.conv2d(image[None, ..., None], kernel[..., None, None], shape)[0, ..., 0]
        b = int(rng.integers(1, shape.o_h + 1))
        sizes = {
            "im2col": shape.im2col_size, "mec": shape.mec_size, "banded": shape.band_size(b),
            "mec_w": shape.mec_w_size,
        }  # fmt: skip
        for name, lowering in page("lowerings", given(shape), b).items():
            assert lowering["rows"] * lowering["columns"] == sizes[name], (name, shape)
            made = played(lowering, name, shape, image, kernel)
            np.testing.assert_allclose(made, whole, atol=1e-12, err_msg=f"{name} of {shape}")


def test_a_small_image_is_drawn_as_it_is_and_a_large_one_with_its_kernel(page):
    kept = ("k_h", "k_w", "s_h", "s_w", "d_h", "d_w")
    n_drawn = 0
    for shape, _ in random_layers(page, 0):
        sizes = given(shape)
        sizes |= {"p_b": sizes["p_t"], "p_r": sizes["p_l"]}  # as the page's fields have it
        try:
            ConvShape(**sizes)
        except ValueError:
            continue
        small = page("drawn", sizes)
        if small is None:
            assert max(shape.e_h + shape.s_h, shape.e_w + shape.s_w, shape.p_t, shape.p_l) > 12, shape
            continue
        n_drawn += 1
        assert {name: small[name] for name in kept} == {name: sizes[name] for name in kept}
        assert (small["i_n"], small["i_c"], small["k_c"]) == (1, 1, 1)
        for axis, side in (("h", "p_t"), ("w", "p_l")):
            size, padding = sizes[f"i_{axis}"], sizes[side]
            drawn, around = small[f"i_{axis}"], small[side]
            assert (drawn, around) == (size, padding) if size <= 12 else drawn <= size and around <= padding
            assert 1 <= small[f"o_{axis}"] <= 24
    assert n_drawn > 40


def test_every_layer_of_the_paper_is_drawn(page):
    assert all(page("drawn", given(layers.get(name).shape())) for name in layers.PAPER)
