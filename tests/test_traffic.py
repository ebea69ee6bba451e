"""Bytes held and bytes moved: what ``profiling/counting`` counts is what kernels do.

Products are compared with those that BLAS and the register tiles are really asked for (``observed.py``); lowering
with what its compiled stages write and read, on images full of ones; the rest with loops over single elements.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, replace
from itertools import pairwise
from itertools import product as combinations
from pathlib import Path

import numpy as np
import pytest
from cases import CASES

import pymec
from pymec import ConvShape, _build_info, registry
from pymec.kernels.im2col import im2col, implicit_gemm
from pymec.kernels.mec import paper, tuned
from pymec.kernels.register_tiles.schedule import fast_tiles
from pymec.kernels.shared.blocking import GemmBlocking
from pymec.kernels.small_products import shift_gemm

sys.path.insert(0, str(Path(__file__).parent.parent / "profiling"))
import counting

PROFILING = Path(counting.__file__).parent.parent

SHAPES = [case.shape() for case in CASES if case.shape().i_n > 0 and case.shape().multiply_adds < 2_000_000]
BY_BLAS = ("im2col", "im2col_per_image", "mec_vanilla", "mec_a", "mec_b", "mec_paper", "kn2row", "kn2row_aa")
BY_BLAS += ("shift_gemm", "pixel_gemm", "filter_row_gemm")
BY_EITHER = ("mec", "mec_banded", "im2col_blocked")
BLOCKINGS = (
    None,
    GemmBlocking(7, 5, 3, 2),
    GemmBlocking(10_000, 3, 10_000, 3),
    GemmBlocking(5, 10_000, 16, 1, True),
)

WITHOUT_PADDING = [
    ConvShape.from_shapes((1, 12, 16, 5), (3, 3, 5, 64)),
    ConvShape.from_shapes((2, 11, 23, 8), (4, 2, 8, 32), stride=2),
    ConvShape.from_shapes((1, 9, 14, 600), (3, 3, 600, 96)),
    ConvShape.from_shapes((2, 7, 9, 16), (3, 3, 16, 16)),
]
"""Of whole tiles: the observer sees what the last, partial one repeats."""


def observe(jobs):
    """The products of each call, observed in a process of its own."""
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("observed.py")],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def job(algorithm, shape, n_threads=1, **more):
    return {"algorithm": algorithm, "shape": asdict(shape), "n_threads": n_threads, **more}


def supported(algorithm, shape):
    return registry.get(algorithm).unsupported(shape) is None


def of_kind(products, *kinds):
    """How many there are of each size."""
    return Counter((p["m"], p["n"], p["k"], p["adds"]) for p in products if p["kind"] in kinds)


# Products -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_products_are_those_that_blas_gets(n_threads):
    jobs = [job(name, shape, n_threads) for name in BY_BLAS for shape in SHAPES if supported(name, shape)]
    assert {one["algorithm"] for one in jobs} == set(BY_BLAS)
    for one, products in zip(jobs, observe(jobs), strict=True):
        found = counting.traffic(one["algorithm"], ConvShape(**one["shape"]), n_threads)
        assert of_kind(products, "sgemm", "tile_product") == found.products, one
        assert found.blas


@pytest.mark.parametrize("n_threads", [1, 2])
def test_products_in_blocks_are_those_that_blas_or_register_tiles_get(n_threads):
    jobs = []
    for name, shape, blocking in combinations(BY_EITHER, SHAPES, BLOCKINGS):
        if supported(name, shape):
            options = {} if blocking is None else {"blocking": blocking}
            jobs.append(job(name, shape, n_threads, options=options))
    for one, products in zip(jobs, observe(jobs), strict=True):
        options = {name: GemmBlocking(*blocking) for name, blocking in one["options"].items()}
        found = counting.traffic(one["algorithm"], ConvShape(**one["shape"]), n_threads, **options)
        assert of_kind(products, "sgemm" if found.blas else "tile_product") == found.products, one
        assert not of_kind(products, "tile_product" if found.blas else "sgemm")


def test_a_long_product_is_several_calls_of_blas():
    shape = ConvShape.from_shapes((1, 50, 50, 1500), (1, 1, 1500, 3000))
    (products,) = observe([job("im2col", shape, multiply=False)])
    found = counting.traffic("im2col", shape)
    assert of_kind(products, "sgemm") == found.products
    assert found.calls > 1
    assert sum(n * p.m * p.n * p.k for p, n in found.products.items()) == shape.multiply_adds


@pytest.mark.parametrize("algorithm", ["direct_blocked", "direct_panels"])
def test_products_of_tiles(algorithm):
    """A product has as many sums as outputs, and its tiles begin anew at the first pixel."""
    jobs = [job(algorithm, shape) for shape in WITHOUT_PADDING]
    for one, tiles in zip(jobs, observe(jobs), strict=True):
        shape = ConvShape(**one["shape"])
        found, outputs, starts, last = counting.traffic(algorithm, shape), Counter(), 0, None
        for tile in tiles:
            outputs[tile["k"], tile["adds"]] += tile["m"] * tile["n"]
            at = tile["C"] // shape.k_c, tile["C"] % shape.k_c
            starts += last is None or at < last
            last = at
        expected = Counter()
        for p, count in found.products.items():
            expected[p.k, p.adds] += count * p.m * p.n
        assert outputs == expected, one
        assert starts == found.calls, one


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_all_products_of_the_definition_are_made(shape):
    """Every output begins once: with a product that doesn't add, or with zeros."""
    for name in counting.COUNTED:
        if not supported(name, shape) or (shape.is_padded and name in counting.WITHOUT_PADDING):
            continue
        found = counting.traffic(name, shape)
        begun = sum(n * p.m * p.n for p, n in found.products.items() if not p.adds)
        if name in ("pixel_gemm", "filter_row_gemm"):
            assert begun + found.after.written == shape.output_size, name
        if not shape.is_padded and not name.startswith(("kn2row", "shift")):
            assert sum(n * p.m * p.n * p.k for p, n in found.products.items()) == shape.multiply_adds, name


def test_blocks_of_the_kernel_are_loaded_as_often_as_counted():
    """A block of K is loaded when a product reads another one than the product before it."""
    shapes = [
        ConvShape.from_shapes((2, 13, 14, 5), (3, 3, 5, 48)),
        ConvShape.from_shapes((1, 30, 34, 16), (3, 5, 16, 160), stride=2),
    ]
    names = ("im2col", "im2col_per_image", "im2col_blocked", "mec", "mec_banded", "mec_a", "mec_b", "pixel_gemm")
    jobs = [job(name, shape) for name in (*names, "filter_row_gemm", "kn2row") for shape in shapes]
    jobs += [
        job(name, shape, options={"blocking": GemmBlocking(9, 1000, 32, 4)})
        for name in ("mec", "mec_banded", "im2col_blocked")
        for shape in shapes
    ]
    for one, products in zip(jobs, observe(jobs), strict=True):
        shape = ConvShape(**one["shape"])
        options = {name: GemmBlocking(*blocking) for name, blocking in one.get("options", {}).items()}
        found = counting.traffic(one["algorithm"], shape, **options)
        loaded, last = 0, None
        for p in products:
            if p["kind"] != "tile" and (p["B"], p["k"], p["n"]) != last:
                last = p["B"], p["k"], p["n"]
                loaded += p["k"] * p["n"]
        whole = max(p.k * p.n for p in found.products) == shape.kernel_size
        assert loaded == (shape.kernel_size if whole else found.loaded), one


# Lowering -----------------------------------------------------------------------------------------------


def read_and_written(lower, size, shape):
    """What a compiled stage does with an image of ones: it writes a one for each element that it reads."""
    L = np.full(size, np.nan, np.float32)
    lower(np.ones(shape.input_shape, np.float32), L)
    return counting.Stage(int(np.nansum(L)), int(np.count_nonzero(~np.isnan(L))))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_lowering_reads_and_writes_what_is_counted(shape):
    stages = {
        "im2col": (lambda x, L: im2col.lower(x, L, shape), shape.im2col_size),
        "mec": (lambda x, L: tuned.lower(x, L, shape), shape.mec_size),
        "mec_b": (lambda x, L: paper.lower(x, L, shape), shape.paper_mec_size),
    }
    for name, (lower, size) in stages.items():
        if supported(name, shape) and not (shape.is_pointwise and name != "mec_b"):
            found = counting.traffic(name, shape)
            assert found.lowering == read_and_written(lower, size, shape), name
            assert found.held == max(size, shape.output_size if found.returns else 0)
            assert found.scratch == size + (shape.output_size if found.returns else 0)


def pieces_read(products, shape, band_rows):
    """The elements that products read of each piece of L, a band's or a block's, and their values."""
    pieces = {}
    for p in products:
        pixel, channel = divmod(p["C"], shape.k_c)
        row = pixel // shape.o_w
        piece = pixel if band_rows is None else (row // shape.o_h, row % shape.o_h // band_rows)
        elements = pieces.setdefault((channel // shape.k_cg, piece), {})
        for i, values in enumerate(p["operand"]):
            elements |= {p["A"] + i * p["lda"] + j: value for j, value in enumerate(values)}
    return pieces.values()


@pytest.mark.parametrize(
    ("algorithm", "size"), [("im2col_blocked", {"block": 7}), ("mec_banded", {"band_rows": 3})]
)
def test_lowering_in_pieces_reads_and_writes_what_is_counted(algorithm, size):
    """A piece is seen by the products that read it, before the next one takes its place."""
    whole = GemmBlocking(10_000, 10_000, 10_000, 10_000)
    shapes = [shape for shape in SHAPES if not shape.is_pointwise and shape.multiply_adds < 200_000]
    jobs = [job(algorithm, shape, operands=True, options={"blocking": whole, **size}) for shape in shapes]
    for shape, products in zip(shapes, observe(jobs), strict=True):
        pieces = pieces_read(products, shape, size.get("band_rows"))
        found = counting.traffic(algorithm, shape, blocking=whole, **size)
        assert found.lowering.written == sum(map(len, pieces)), shape
        assert found.lowering.read == sum(sum(piece.values()) for piece in pieces), shape
        assert max(map(len, pieces)) <= found.piece


@pytest.mark.parametrize(
    "size", [{}, {"rows": 5, "depth": 6, "columns": 16}, {"rows": 64, "depth": 10, "columns": 3}]
)
def test_packing_reads_and_writes_what_is_counted(size):
    """Every block that ``implicit_gemm`` packs, by its compiled stages, from arrays of ones."""
    for shape in (shape for shape in SHAPES if shape.multiply_adds < 200_000):
        options = {**registry.get("implicit_gemm").schedule(shape, 1, None).options, **size}
        depth, columns, pixels = options["depth"], options["columns"], shape.i_n * shape.o_h * shape.o_w
        patch, read, written = shape.k_h * shape.k_w * shape.i_cg, 0, 0
        x, kernel = np.ones(shape.input_shape, np.float32), np.ones(shape.kernel_shape, np.float32)
        for group, m0, q0 in combinations(
            range(shape.groups), range(0, shape.k_cg, columns), range(0, patch, depth)
        ):
            B = np.full(depth * (columns + 16), np.nan, np.float32)
            A = np.full(depth * pixels, np.nan, np.float32)
            implicit_gemm.pack_kernel(kernel, B, shape, group, q0, depth, m0, columns)
            implicit_gemm.pack_patches(x, A, shape, 0, pixels, group, q0, depth)
            read += int(np.nansum(A) + np.nansum(B))
            written += int(np.count_nonzero(~np.isnan(A)) + np.count_nonzero(~np.isnan(B)))
        assert counting.traffic("implicit_gemm", shape, **size).lowering == (read, written), (shape, options)


# What follows the products, element by element ----------------------------------------------------------


def on_image(shape, y, x, a, b):
    """Whether tap (a, b) of output (y, x) lies on the image."""
    h, w = y * shape.s_h - shape.p_t + a * shape.d_h, x * shape.s_w - shape.p_l + b * shape.d_w
    return 0 <= h < shape.i_h and 0 <= w < shape.i_w


@pytest.mark.parametrize(
    "shape", [one for one in SHAPES if not one.is_pointwise and supported("kn2row", one)], ids=str
)
def test_planes_of_kn2row_are_added_where_they_reach(shape):
    indices = combinations(range(shape.o_h), range(shape.o_w), range(shape.k_h), range(shape.k_w))
    added = sum(on_image(shape, *index) for index in indices) * shape.i_n * shape.k_c
    for name in ("kn2row", "kn2row_aa"):
        found = counting.traffic(name, shape)
        assert found.after == (2 * added, shape.output_size + added)
        assert found.scratch == found.multiplied.written


@pytest.mark.parametrize("shape", [one for one in SHAPES if supported("shift_gemm", one)], ids=str)
def test_shift_gemm_pads_and_compacts(shape):
    found, image = counting.traffic("shift_gemm", shape), shape.single_image()
    padded = np.full(shift_gemm.padded_size(image), np.nan, np.float32)
    shift_gemm.pad(np.ones(image.input_shape, np.float32), padded, image)
    assert found.lowering.written == shape.i_n * np.count_nonzero(~np.isnan(padded))
    assert found.lowering.read == shape.i_n * np.nansum(padded)
    assert found.after.read == (shape.output_size if shift_gemm.scratch_size(image) else 0)
    begun = sum(n * p.m * p.n for p, n in found.products.items() if not p.adds)
    pixels = (shape.o_h - 1) * shift_gemm.row_pitch(image) + shape.o_w
    assert begun + found.after.written - found.after.read == shape.i_n * pixels * shape.k_c


def test_the_repair_moves_the_output_twice():
    shape = ConvShape.from_shapes((3, 9, 8, 4), (3, 3, 4, 6))
    a, b = counting.traffic("mec_a", shape), counting.traffic("mec_b", shape)
    assert a.after == (2 * shape.output_size, 2 * shape.output_size)
    assert a.lowering == b.lowering
    assert b.after == counting.traffic("mec_a", shape.single_image()).after == (0, 0)


# Sums ---------------------------------------------------------------------------------------------------


def test_bytes_are_sums_of_the_stages():
    """By hand: a 4×5 image with one channel, a 3×3 kernel with two output channels."""
    shape = ConvShape.from_shapes((1, 4, 5, 1), (3, 3, 1, 2))
    found = counting.traffic("mec_b", shape)
    assert found.products == {(3, 2, 9, False): 2}
    assert found.lowering == (36, 36)  # three strips of four rows of three
    assert found.multiplied == (2 * (27 + 18), 12)
    assert found.moved_nbytes == 4 * (36 + 36 + 90 + 12)
    assert found.packed(small=0) == 2 * (27 + 18)
    assert found.packed(small=54) == 0
    assert found.intensity(found.moved_nbytes) == 2 * 108 / 696
    assert found.far_nbytes(10_000) == 4 * (20 + 18 + 12)  # all stays but I, K and O
    assert found.far_nbytes(100) == 4 * (20 + 18 + 12 + 2 * 36)  # L of 144 bytes goes out and comes back
    assert found.far_nbytes(50) == 4 * (20 + 2 * 18 + 12 + 2 * 36)  # and K of 72 comes with each product


def test_sizes_are_those_of_the_shape():
    """The formulas of the page, for layers without padding."""
    for name in pymec.layers.PAPER:
        s = pymec.layers.get(name).shape()
        im, m = counting.traffic("im2col", s), counting.traffic("mec_b", s)
        assert im.lowering == (s.im2col_size, s.im2col_size)
        assert m.lowering == (s.mec_size, s.mec_size) or s.paper_mec_size != s.mec_size
        assert im.multiplied == (s.im2col_size + s.kernel_size, s.output_size)
        assert m.multiplied == (s.im2col_size + s.o_h * s.kernel_size, s.output_size)
        assert counting.traffic("im2col_blocked", s).lowering == im.lowering
        assert counting.traffic("direct_blocked", s).lowering == (0, 0)


def test_what_is_not_counted_is_refused():
    padded = ConvShape.from_shapes((1, 6, 6, 3), (3, 3, 3, 4), padding=1)
    with pytest.raises(ValueError, match=r"must have no padding for direct_blocked, .* got \(1, 1, 1, 1\)"):
        counting.traffic("direct_blocked", padded)
    with pytest.raises(pymec.UnsupportedShape, match="stride"):
        counting.traffic("shift_gemm", replace(padded, s_h=2))


def test_who_passes_a_cache_of_a_mebibyte():
    """What the page says of the paper's layers."""
    layers = {name: pymec.layers.get(name).shape() for name in pymec.layers.PAPER}
    far = {
        algorithm: {name: counting.traffic(algorithm, s).far_nbytes(2**20) for name, s in layers.items()}
        for algorithm in ("im2col", "im2col_blocked", "mec_b", "mec", "mec_banded")
    }
    more = [name for name in layers if far["mec_b"][name] > far["im2col"][name]]
    assert more == ["cv5", "cv6", "cv11", "cv12"]
    assert more == [name for name, s in layers.items() if s.kernel_size * 4 > 2**20]
    for name in set(layers) - set(more) - {"cv7"}:  # whose output is most of what it moves
        assert 1.8 < far["im2col"][name] / far["mec_b"][name] < 3.2
    if fast_tiles(layers["cv5"]):
        assert all(far["mec"][name] <= far["im2col"][name] < far["im2col_blocked"][name] for name in more[:-1])
    if counting.traffic("mec_banded", layers["cv4"]).held * 4 > 2**20:
        assert far["mec_banded"]["cv4"] == far["im2col"]["cv4"]


# The scripts --------------------------------------------------------------------------------------------


def script(name, *arguments):
    """Run a script of ``profiling/``."""
    done = subprocess.run(
        [sys.executable, PROFILING / name, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not _build_info.OPENMP or _build_info.DEBUG, reason="this build's speeds mean nothing")
def test_the_script_keeps_what_it_has_measured(tmp_path):
    figure = tmp_path / "traffic.svg"
    chosen = ("--layers", "cv12", "--drawn", "cv12", "--algorithms", "im2col,mec_b,mec", "--records", tmp_path)
    printed = script("traffic.py", *chosen, "--seconds", "0.01", "--figure", figure)
    (run, record) = map(json.loads, (tmp_path / "traffic.jsonl").read_text().splitlines())
    assert run["machine"]["cpu"]
    found = record["values"]["algorithms"]["mec_b"]
    shape = pymec.layers.get("cv12").shape()
    assert found["held"] == pymec.workspace_size(shape.input_shape, shape.kernel_shape, algorithm="mec_b")
    assert found["moved"] == counting.traffic("mec_b", shape).moved_nbytes
    assert 0 < found["best"] <= found["median"]
    assert {"FMA limit", "memory", "level 2"} <= set(record["values"]["limits"])
    assert "5 × 512 × 4608" in printed
    assert figure.read_text().startswith("<?xml")
    assert script("traffic.py", *chosen, "--seconds", "0.01") == printed  # from the record
    assert script("traffic.py", *chosen, "--print") == printed
    assert len((tmp_path / "traffic.jsonl").read_text().splitlines()) == 2
    script("traffic.py", *chosen, "--seconds", "0.02")  # more carefully: once more
    assert len((tmp_path / "traffic.jsonl").read_text().splitlines()) == 3


def test_faster_is_faster_by_best_and_median():
    traffic = importlib.import_module("traffic")
    one, two, mixed = {"best": 1.0, "median": 1.0}, {"best": 1.1, "median": 1.2}, {"best": 1.1, "median": 1.01}
    assert traffic.winner("a", "b", one, two) == "a"
    assert traffic.winner("a", "b", two, one) == "b"
    assert traffic.winner("a", "b", one, mixed) == traffic.winner("a", "b", mixed, one) == "neither"


def test_labels_of_the_figure_keep_apart():
    figure = importlib.import_module("_traffic_figure")
    gap = 100**figure.LEAST_GAP
    heights = figure.label_heights([10.0, 10.1, 10.2, 99.0], 1.0, 100.0)
    assert all(high / low >= gap * 0.999 for low, high in pairwise(heights))
    assert heights[-1] <= 100


def test_misses_are_read_from_cachegrinds_report(tmp_path):
    simulated = importlib.import_module("simulated_cache")
    report = tmp_path / "1"
    report.write_text("desc: D1\nevents: Ir Dr DLmr Dw DLmw\nfn=f\n1 1 1 1 1 1\nsummary: 90 50 7 30 4\n")
    assert simulated.missed_bytes(report) == 64 * 11
