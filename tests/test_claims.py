"""The claims table, from made-up records: each verdict can come out each way; without records there is none."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

import pymec

PROFILING = Path(__file__).resolve().parent.parent / "profiling"
LAYERS = pymec.layers.PAPER
RUN = {
    "date": "2030-01-01", "commit": "0123456789", "cpu": "A CPU", "build": "portable", "python": "3", "numpy": "2",
    "scipy": "1", "pymec": "0", "blas": "openblas 0.3.30 Wide pthreads", "threads": "2",
}  # fmt: skip


@pytest.fixture(scope="module")
def modules():
    """The scripts that are read here: claims, and what it judges by."""
    sys.path.insert(0, str(PROFILING))
    try:
        names = ("claims", "_verdicts", "_store", "_in_turns", "solutions", "resnet101")
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(PROFILING))


@pytest.fixture
def judge(modules):
    """``judge(name, memory=..., time=..., strides=..., solutions=...)``: the answer of a claim."""
    by_name = {claim.judge.__name__: claim.judge for claim in modules["claims"].CLAIMS}

    def answer(name, **stores):
        made = {
            store: [modules["_store"].Record(cell, values, {}, RUN, how) for cell, values, how in entries]
            for store, entries in stores.items()
        }
        kept = (made.get(store, []) for store in modules["_verdicts"].Records._fields)
        return by_name[name](modules["_verdicts"].Records(*kept))

    return answer


def sizes(i_n=1, layers=LAYERS, **of):
    """Records of ``paper_memory.py``: for each algorithm a number, or a function of the layer."""
    return [
        (
            {"layer": layer, "i_n": i_n, "n_threads": 1},
            {name: {"workspace": size(layer) if callable(size) else size} for name, size in of.items()},
            {},
        )
        for layer in layers
    ]


def seconds(i_n=1, n_threads=1, blas="Wide", own=True, layers=LAYERS, **of):
    """Records of ``paper_time.py``, likewise."""
    return [
        (
            {"layer": layer, "i_n": i_n, "n_threads": n_threads, "blas": blas},
            {name: {"best": time(layer) if callable(time) else time} for name, time in of.items()},
            {"own": own, "flops": 1},
        )
        for layer in layers
    ]


def on(*layers, there, elsewhere):
    """A function of the layer."""
    return lambda layer: there if layer in layers else elsewhere


def strides_in(what, **of):
    """Records of ``stride_sweep.py`` on cv1: a function of the stride for each algorithm."""
    kind, more = ("workspace", {}) if what == "memory" else ("best", {"n_threads": 1, "blas": "Wide"})
    return [
        (
            {"what": what, "layer": "cv1", "stride": s, **more},
            {name: {kind: size(s)} for name, size in of.items()},
            {"own": True},
        )
        for s in range(1, 12)
    ]


# Without records ----------------------------------------------------------------------------------------


def test_nothing_is_said_without_records(modules):
    records = modules["_verdicts"].Records([], [], [], [])
    rows = modules["claims"].rows(records)
    assert len(rows) == len(modules["claims"].CLAIMS) > 10
    for row in rows:
        assert row.answer.verdict == "not measured yet", row.claim.says
        assert "python profiling/" in row.answer.measured
    assert modules["claims"].sources(records) == {}


def test_the_table_is_printed(modules, capsys, tmp_path):
    assert modules["claims"].main(["--records", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert printed.count("[not measured yet]") == len(modules["claims"].CLAIMS)
    assert "``" not in printed


# The rules ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ([2, 2, 2, 0.9], "holds"), ([2, 2, 0.9, 0.9], "in part"), ([1.1, 1.1, 1.1, 0.1], "in part"),
        ([0.5, 0.5, 0.5, 1.1], "no"), ([0.5, 0.5, 1.1, 1.1], "in part"), ([9, 0.9, 0.9, 0.9], "in part"),
        ([1.0], "no"),
    ],
)  # fmt: skip
def test_mostly(modules, ratios, verdict):
    assert modules["_verdicts"].mostly(ratios) == verdict


def test_verdicts_and_words(modules):
    verdicts = modules["_verdicts"]
    assert verdicts.all_some_none([True, True]) == "holds"
    assert verdicts.all_some_none([True, False]) == "in part"
    assert verdicts.all_some_none([False]) == "no"
    assert verdicts.together(["no", "no"]) == "no"
    assert verdicts.together(["no", "holds"]) == "in part"
    assert verdicts.in_words({"a": 2, "b": 0.5}) == "1 of 2 layers, mean 1.00, from 0.50 (b) to 2.00 (a)"
    assert [verdicts.listed(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "none", "a", "a and b", "a, b and c",
    ]  # fmt: skip


# Memory -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mec", "verdict"), [(50, "holds"), (on("cv1", there=100, elsewhere=50), "in part"), (101, "no")]
)
def test_each_layer(judge, mec, verdict):
    answer = judge("each_layer", memory=sizes(im2col=100, mec_paper=mec))
    assert answer.verdict == verdict
    assert ("cv1" in answer.why) == (verdict == "in part")


def test_missing_layers_are_told(judge):
    answer = judge("each_layer", memory=sizes(im2col=100, mec_paper=50, layers=("cv1", "cv2")))
    assert "10 are not measured yet" in answer.measured


def ratio_of_layer(share):
    return lambda name: 1000 / (share * pymec.layers.get(name).k_h / pymec.layers.get(name).s_h)


@pytest.mark.parametrize(
    ("of_layers", "of_strides", "verdict"),
    [(0.95, 0.97, "holds"), (0.8, 0.97, "no"), (0.95, 0.8, "in part"), (0.5, 0.5, "no")],
)
def test_k_over_s(judge, of_layers, of_strides, verdict):
    memory = sizes(im2col=1000, mec_paper=ratio_of_layer(of_layers))
    strides = strides_in("memory", im2col=lambda s: 1000, mec_paper=lambda s: 1000 / (of_strides * 11 / s))
    assert judge("k_over_s", memory=memory, strides=strides).verdict == verdict
    assert judge("k_over_s", memory=memory).verdict == "not measured yet"
    assert judge("k_over_s", strides=strides).verdict == "not measured yet"


@pytest.mark.parametrize(
    ("seconds_at", "verdict", "correlation"),
    [
        (lambda s: s / 4, "holds", "1.00"),  # faster at the first strides alone, but ever less
        (lambda s: 0.5, "no", "0.00"),  # always faster, and k/s doesn't matter
        (lambda s: 1 / s, "no", "-1.00"),  # always faster, and the more so the smaller k/s is
        (lambda s: s % 3 + s / 9, "in part", "0.2"),
    ],
)
def test_stride_time(judge, seconds_at, verdict, correlation):
    strides = strides_in("time", im2col=lambda s: 1, mec_paper=seconds_at)
    answer = judge("stride_time", strides=strides)
    assert answer.verdict == verdict
    assert f"rank correlation {correlation}" in answer.measured
    assert "at s = 10" in answer.measured


def batches(a, b):
    """Records of ``solutions.py``."""
    return seconds(8, mec_a=a, mec_b=b, **{"register_tiles A": 1, "register_tiles B": 1})


@pytest.mark.parametrize(
    ("a", "verdict"),
    [(0.5, "holds"), (on("cv1", "cv5", "cv6", there=0.5, elsewhere=1.1), "in part"), (1.5, "no")],
)
def test_solution_a(judge, a, verdict):
    answer = judge("solution_a", solutions=batches(a, 1))
    assert answer.verdict == verdict
    assert "Batches of 8, threads: 1." in answer.measured
    assert ("gain less from A" in answer.why) == (verdict != "no")


WIDE = ("cv3", "cv4", "cv7", "cv8")


@pytest.mark.parametrize(
    ("narrow", "verdict"), [(0.5, "holds"), (1.1, "in part"), (2, "no")]
)  # what A takes, of B's time, up to o_w = 100
def test_t_100(judge, narrow, verdict):
    answer = judge("t_100", solutions=batches(on(*WIDE, there=1.2, elsewhere=narrow), 1))
    assert answer.verdict == verdict
    assert "With one image" in answer.why
    least = "by T from 56 to 108" if verdict == "holds" else "by T from 0 to 4"
    assert least in answer.measured


@pytest.mark.parametrize(("two", "verdict"), [(0.5, "holds"), (1.5, "in part")])
def test_resnet_time(judge, two, verdict):
    found = [*seconds(im2col=1, mec_paper=0.5), *seconds(n_threads=2, im2col=1, mec_paper=two)]
    assert judge("resnet_time", time=found).verdict == verdict
    answer = judge("resnet_time", time=seconds(im2col=1, mec_paper=on("cv11", there=9, elsewhere=1.5)))
    assert answer.verdict == "no"
    assert "loses most on cv11" in answer.why


def test_stale_kernels_are_named(modules):
    record = modules["_store"].Record({"layer": "cv1", "n_threads": 1}, {}, {"mec": "another kernel"}, RUN)
    found = modules["claims"].sources(modules["_verdicts"].Records([record], [], [], []))
    (line,) = found.values()
    assert line.endswith("† measured before the kernel last changed (mec)")
