"""Tuning, with a clock of its own: what is timed, on which part, and what is taken when time runs out."""

import numpy as np
import pytest

import pymec
from pymec import ConvShape, planning, registry, tuning
from pymec.operations import OPERATIONS

SHAPE = ConvShape.from_shapes((1, 112, 112, 64), (5, 5, 64, 64), padding=2)


@pytest.fixture
def bench(monkeypatch):
    """A machine on which a call takes ``bench.rates`` of the usual time for each multiply-add."""

    class Bench:
        def __init__(self):
            self.now, self.rates, self.calls = 0.0, {}, []

        def best_call(self, made, best, end):
            self.calls.append((made.algorithm.name, made.shape))
            took = self.rates.get(made.algorithm.name, 1.0) * made.shape.multiply_adds * 1e-9
            self.now += took
            return took

    machine = Bench()
    monkeypatch.setattr(tuning.time, "perf_counter", lambda: machine.now)
    monkeypatch.setattr(tuning, "_best_call", machine.best_call)
    monkeypatch.setattr(tuning, "available_memory", lambda: float("inf"))
    return machine


def auto_for(shape, accuracy="exact", limit=None, operation="conv2d"):
    return planning.recipe(shape, "auto", accuracy, limit, 1, OPERATIONS[operation], planned=True)


def on_the_whole(bench):
    return [name for name, shape in bench.calls if shape == SHAPE]


def test_the_fastest_is_taken_and_those_far_behind_are_left_early(bench):
    bench.rates = {"kn2row": 0.5, "im2col_blocked": 0.9, "direct": 50.0, "mec": 2.5}
    tuned = tuning.tune(auto_for(SHAPE), "exact", None, 1000.0)
    assert (tuned.algorithm, tuned.on_the_whole) == ("kn2row", True)
    assert list(tuned.seconds)[:2] == ["kn2row", "im2col_blocked"]
    assert "direct" not in on_the_whole(bench) and "mec" not in on_the_whole(bench)
    sizes = [shape.multiply_adds for _, shape in bench.calls]
    assert sizes == sorted(sizes) and sizes[0] < SHAPE.multiply_adds / 50


def test_exact_means_exact(bench):
    tuning.tune(auto_for(SHAPE), "exact", None, 1000.0)
    assert {registry.get(name).accuracy for name, _ in bench.calls} == {"exact"}
    tuning.tune(auto_for(SHAPE, "fast"), "fast", None, 1000.0)
    assert {registry.get(name).accuracy for name, _ in bench.calls} == {"exact", "fast"}


@pytest.mark.parametrize("seconds", [0.001, 0.1, 0.5, 3.0, 20.0])
def test_no_call_begins_that_is_expected_to_end_later(bench, seconds):
    """One that nothing is known of yet may: the first of every algorithm, on the smallest part."""
    tuned = tuning.tune(auto_for(SHAPE), "exact", None, seconds)
    first = bench.calls[0][1].multiply_adds * 1e-9
    assert bench.now <= seconds + first
    assert tuned.seconds


def test_a_part_shows_who_is_far_behind_but_not_who_is_best(bench):
    auto = auto_for(SHAPE).algorithm.name
    bench.rates = {"im2col": 0.9}
    tuned = tuning.tune(auto_for(SHAPE), "exact", None, 0.5)
    assert (tuned.algorithm, tuned.on_the_whole) == (auto, False)
    assert next(iter(tuned.seconds)) == "im2col"
    bench.rates = {"im2col": 0.1}
    assert tuning.tune(auto_for(SHAPE), "exact", None, 0.5).algorithm == "im2col"


def test_what_has_no_room_is_not_called(bench, monkeypatch):
    monkeypatch.setattr(tuning, "available_memory", lambda: 0.0)
    auto = auto_for(SHAPE).algorithm.name
    assert list(tuning.tune(auto_for(SHAPE), "exact", None, 1000.0).seconds) == [auto]


def test_a_limit_is_that_of_the_whole(bench):
    limit = 100_000
    tuned = tuning.tune(auto_for(SHAPE, limit=limit), "exact", limit, 1000.0)
    needed = {
        name: pymec.workspace_size(SHAPE.input_shape, SHAPE.kernel_shape, algorithm=name, n_threads=1, padding=2,
                                   workspace_limit=limit)
        for name in {name for name, _ in bench.calls}
    }  # fmt: skip
    assert tuned.algorithm in needed and max(needed.values()) <= limit


@pytest.mark.parametrize(
    "shape",
    [
        SHAPE,
        ConvShape.from_shapes((64, 14, 14, 256), (3, 3, 256, 256), padding=1),
        ConvShape.from_shapes((1, 1, 500_000, 8), (1, 25, 8, 16)),
        ConvShape.from_shapes((1, 4000, 3, 32), (7, 3, 32, 32), padding=((6, 0), (2, 2)), stride=(2, 1)),
        ConvShape.from_shapes((2, 3, 3, 2000), (3, 3, 2000, 2000), padding=2, dilation=2),
    ],
)
def test_a_part_is_the_same_convolution_of_less(shape):
    for wanted in (1, 10_000, 4_000_000, 10**9):
        part = tuning._part(shape, wanted)
        for name in ("k_h", "k_w", "i_c", "k_c", "s_h", "s_w", "d_h", "d_w", "p_t", "p_r", "groups", "dtype"):
            assert getattr(part, name) == getattr(shape, name)
        assert part.i_n <= shape.i_n and part.o_h <= shape.o_h and part.o_w <= shape.o_w
        least = shape.multiply_adds // shape.i_n // (shape.o_h * shape.o_w) * 13**2
        assert part == shape or part.multiply_adds <= max(2 * wanted, least)
        assert min(part.o_h, part.o_w) >= min(shape.o_h, shape.o_w, tuning.LEAST_EXTENT) - 1


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("images", [0, 2])
def test_real_calls(operation, images):
    shape = ConvShape.from_shapes((images, 12, 12, 16), (3, 3, 16, 16), padding=1)
    told = []
    tuned = tuning.tune(
        auto_for(shape, operation=operation),
        "exact",
        None,
        5.0,
        lambda name, done, total: told.append((done, total)),
    )
    assert tuned.algorithm == next(iter(tuned.seconds)) and tuned.on_the_whole
    assert len(told) > 3 and all(done < total for done, total in told)


def test_a_plan_takes_seconds(monkeypatch):
    given = []
    tune = tuning.tune
    monkeypatch.setattr(tuning, "tune", lambda *arguments: given.append(arguments[3]) or tune(*arguments))
    for value in (True, np.True_, 2, np.float32(0.25)):
        pymec.plan((1, 8, 8, 4), (3, 3, 4, 4), tune=value)
    assert given == [1.0, 1.0, 2.0, 0.25]
    for wrong in (-1, float("nan"), float("inf"), "1s"):
        with pytest.raises(ValueError, match="tune must be a bool, or a positive number of seconds, got"):
            pymec.plan((1, 8, 8, 4), (3, 3, 4, 4), tune=wrong)


def test_an_algorithm_without_room_loses_only_its_turn(monkeypatch):
    execute = tuning.execute

    def without_room(made, *arguments):
        if made.algorithm.name == blocked_out:
            raise MemoryError
        return execute(made, *arguments)

    shape = ConvShape.from_shapes((1, 8, 8, 4), (3, 3, 4, 4))
    auto = auto_for(shape)
    blocked_out = "im2col"
    monkeypatch.setattr(tuning, "execute", without_room)
    seconds = tuning.tune(auto, "exact", None, 5.0).seconds
    assert auto.algorithm.name in seconds and "im2col" not in seconds
    blocked_out = auto.algorithm.name
    with pytest.raises(MemoryError):
        tuning.tune(auto, "exact", None, 5.0)


def test_ctrl_c_ends_it(monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning, "execute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pymec.plan((1, 8, 8, 4), (3, 3, 4, 4), tune=True)
