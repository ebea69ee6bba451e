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
    ("mec", "verdict"), [(50, "holds"), (on("cv1", there=100, elsewhere=50), "in part"), (101, "no")], ids=str
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


@pytest.mark.parametrize(("last", "verdict"), [(11, "holds"), (5, "in part"), (1, "no")])
def test_taller_than_stride(judge, last, verdict):
    strides = strides_in("memory", im2col=lambda s: 100, mec_paper=lambda s: 50 if s < last else 103)
    answer = judge("taller_than_stride", strides=strides)
    assert answer.verdict == verdict
    assert "At stride 11 im2col's matrix is 0.97 times as large" in answer.measured


@pytest.mark.parametrize(("mec", "verdict"), [(5, "holds"), (50, "in part"), (500, "no")])
def test_whole_batch(judge, mec, verdict):
    memory = sizes(32, im2col=100, im2col_per_image=10, mec_paper=mec)
    assert judge("whole_batch", memory=memory).verdict == verdict


@pytest.mark.parametrize(
    ("size", "verdict"), [(300, "holds"), (on("cv9", there=50, elsewhere=300), "in part"), (50, "no")], ids=str
)
def test_transforms(judge, size, verdict):
    threes = sizes(layers=("cv8", "cv9"), mec_paper=100, winograd_f2=size, winograd_f4=size, winograd_f4_banded=1)
    answer = judge("winograd", memory=threes)
    assert answer.verdict == verdict
    assert "needs less than MEC on 2 of 2" in answer.measured
    assert judge("fft", memory=sizes(mec_paper=100, fft=size, fft_lean=200)).verdict == verdict


@pytest.mark.parametrize(("mec", "verdict"), [(50, "holds"), (150, "no")])
def test_resnet_memory(judge, mec, verdict):
    memory = sizes(im2col=100 * 2**20, mec_paper=mec * 2**20)
    answer = judge("resnet_memory", memory=memory)
    assert answer.verdict == verdict
    assert f"{34 * mec:.1f} MiB against 3400.0" in answer.measured
    assert judge("resnet_memory", memory=memory[:-1]).verdict == "not measured yet"  # without cv12


# Time ---------------------------------------------------------------------------------------------------

MEC = [(0.5, "holds"), (on("cv3", "cv4", "cv7", "cv8", there=0.5, elsewhere=1.5), "in part"), (1.5, "no")]


@pytest.mark.parametrize(("mec", "verdict"), MEC, ids=str)
def test_batch_1(judge, mec, verdict):
    found = seconds(im2col=1, mec_paper=mec, mec=0.25, im2col_blocked=0.2, auto=0.1)
    answer = judge("batch_1_one_thread", time=found)
    assert answer.verdict == verdict
    assert "tuned MEC (``mec``) 4.00, blocked im2col with the same register tiles 5.00" in answer.measured
    assert ("It wins on cv3, cv4, cv7 and cv8" in answer.why) == (verdict == "in part")
    assert judge("batch_1_threads", time=found).verdict == "not measured yet"
    assert judge("batch_1_threads", time=seconds(n_threads=2, im2col=1, mec_paper=mec)).verdict == verdict


def test_other_kernels_stand_beside_the_cpu_s_own(judge):
    found = [
        *seconds(blas="Narrow", own=False, im2col=1, mec_paper=0.5),
        *seconds(blas="Wide", im2col=1, mec_paper=2),
    ]
    answer = judge("batch_1_one_thread", time=found)
    assert answer.verdict == "no"
    assert answer.measured.startswith("BLAS's Wide kernels, 1 thread: faster on 0 of 12 layers")
    assert "Narrow kernels: mean 2.00, faster on 12 of 12." in answer.measured
    alone = judge("batch_1_one_thread", time=found[:12])
    assert alone.verdict == "holds"
    assert "Narrow kernels (not this CPU's own)" in alone.measured


@pytest.mark.parametrize(("mec", "verdict"), [(0.5, "holds"), (0.9, "in part"), (2.5, "no")])
def test_batch_32_is_held_against_both_im2cols(judge, mec, verdict):
    found = seconds(32, 2, im2col=2, im2col_per_image=0.8, mec_paper=mec)
    assert judge("batch_32", time=found).verdict == verdict


@pytest.mark.parametrize(("mec", "verdict"), MEC, ids=str)
def test_papers_cpu(judge, mec, verdict):
    own = seconds(blas="Wide", im2col=1, mec_paper=2)
    assert judge("papers_cpu", time=own).verdict == "not measured yet"
    answer = judge("papers_cpu", time=[*own, *seconds(blas="Sandybridge", own=False, im2col=1, mec_paper=mec)])
    assert answer.verdict == verdict
    assert "times as well against im2col as under the Wide kernels" in answer.why


@pytest.mark.parametrize(("last", "verdict"), [(11, "holds"), (3, "in part"), (1, "no")])
def test_stride_time(judge, last, verdict):
    strides = strides_in("time", im2col=lambda s: 1, mec_paper=lambda s: 0.5 if s < last else 2)
    answer = judge("stride_time", strides=strides)
    assert answer.verdict == verdict
    assert "at s = 10" in answer.measured
    assert ("faster at s = 1 and 2;" in answer.measured) == (last == 3)


def batches(a, b):
    """Records of ``solutions.py``."""
    return seconds(8, mec_a=a, mec_b=b, **{"register_tiles A": 1, "register_tiles B": 1})


@pytest.mark.parametrize(
    ("a", "verdict"),
    [(0.5, "holds"), (on("cv1", "cv5", "cv6", there=0.5, elsewhere=1.1), "in part"), (1.5, "no")],
    ids=str,
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
