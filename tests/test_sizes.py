"""Answers about sizes: in closed form, equal to a count by loops, and quick for any sizes."""

import math
import random
import signal
from contextlib import contextmanager

import pytest
from cases import signal_raises

import pymec
from pymec import ConvShape
from pymec.kernels.register_tiles.tile import taken_pixels, tile_for
from pymec.lattice import floor_sum, pairs_below, values_below


def test_floor_sum():
    numbers = random.Random(1)
    for _ in range(3000):
        n, m, a, b = (numbers.randint(least, 30) for least in (0, 1, 0, 0))
        assert floor_sum(n, m, a, b) == sum((a * i + b) // m for i in range(n))
    assert floor_sum(10**18, 10**18 + 1, 1, 0) == 0  # no loop over n


def test_pairs_and_values_below_a_limit():
    numbers = random.Random(2)
    tried = 0
    while tried < 3000:
        n, s, k, d = (numbers.randint(1, 9) for _ in range(4))
        if math.gcd(s, d) > 1:
            continue
        tried += 1
        limit = numbers.randint(-3, 100)
        sums = [value for y in range(n) for a in range(k) if (value := s * y + d * a) < limit]
        assert pairs_below(limit, n, s, k, d) == len(sums)
        assert values_below(limit, n, s, k, d) == len(set(sums))


def test_lowered_rows_of_random_shapes():
    numbers = random.Random(3)
    for _ in range(1500):
        k, s, d = numbers.randint(1, 6), numbers.randint(1, 7), numbers.randint(1, 7)
        padding = numbers.randint(0, 9), numbers.randint(0, 9)
        least = max(1, (k - 1) * d + 1 - sum(padding))
        i_h = least + numbers.randint(0, 30)
        shape = ConvShape.from_shapes(
            (1, i_h, 1, 1), (k, 1, 1, 1), stride=(s, 1), dilation=(d, 1), padding=(padding, (0, 0))
        )
        y0 = numbers.randrange(shape.o_h)
        n_y = numbers.randint(1, shape.o_h - y0)
        rows = {y * s + a * d - padding[0] for y in range(y0, y0 + n_y) for a in range(k)}
        assert shape.lowered_rows(y0, n_y) == len([row for row in rows if 0 <= row < i_h]), shape


def test_no_band_reads_more_rows_than_the_bound_says():
    # with more bands on the padding than MOST_BANDS, r_b is a bound
    numbers = random.Random(4)
    bounded = 0
    for _ in range(300):
        k, s, d = numbers.randint(20, 60), numbers.randint(1, 2), numbers.randint(1, 3)
        i_h, padding = numbers.randint(1, 40), (k - 1) * d
        shape = ConvShape.from_shapes(
            (1, i_h, 1, 1), (k, 1, 1, 1), stride=(s, 1), dilation=(d, 1), padding=(padding, 0)
        )
        for band in (1, 2, 5):
            most = max(shape.lowered_rows(y, min(band, shape.o_h - y)) for y in range(0, shape.o_h, band))
            assert most <= shape.band_rows_kept(band) <= i_h
            bounded += shape.band_rows_kept(band) > most
    assert bounded < 60  # and seldom more than needed


def test_slots_of_tiles():
    """As many as a kernel fills that takes even tiles of at most ``most`` pixels, none below the least."""
    for channels in (1, 7, 8, 16, 24, 32, 64, 480):
        for itemsize in (4, 8):
            for length, step in ((27, 1), (600, 64), (601, 64), (1000, 1024), (1000, 2048)):
                most, _ = tile_for(channels, itemsize, length, step)
                least = taken_pixels(1, channels, itemsize, length, step)
                assert 4 <= least <= most
                for pixels in range(200):
                    taken = 0
                    while taken < pixels:
                        left = pixels - taken
                        taken += max(least, -(-left // -(-left // most)))
                    assert taken_pixels(pixels, channels, itemsize, length, step) == taken


@contextmanager
def no_hang(seconds=10):
    """Fail if an answer takes as long as a loop over pixels or taps; a closed form takes milliseconds."""

    def stop(number, frame):
        raise TimeoutError(f"no answer in {seconds} s: at {frame.f_code.co_filename}:{frame.f_lineno}")

    with signal_raises(signal.SIGALRM, stop):
        signal.alarm(seconds)
        try:
            yield
        finally:
            signal.alarm(0)


BILLION = 10**9
HUGE = {
    "kernel of 10⁹ rows": ((1, BILLION + 5, 8, 4), (BILLION, 3, 4, 8), {}),
    "kernel of 10⁹ columns": ((1, 8, BILLION + 5, 4), (3, BILLION, 4, 8), {}),
    "dilation 10⁶": ((1, 10**10, 8, 4), (3, 3, 4, 8), {"dilation": (10**6, 1)}),
    "dilation 10⁹ along columns": ((1, 8, 10**10, 4), (3, 3, 4, 8), {"dilation": (1, BILLION)}),
    "padding 10⁹": ((1, 8, 8, 4), (3, 3, 4, 8), {"padding": (BILLION, 1)}),
    "padding 10⁹ with a stride": ((1, 8, 8, 4), (3, 3, 4, 8), {"padding": (1, BILLION), "stride": 3}),
    "kernel and padding of 10⁹": ((1, 8, 8, 4), (BILLION, 3, 4, 8), {"padding": (BILLION - 1, 1)}),
    "10⁹ columns": ((1, 8, BILLION, 4), (3, 3, 4, 8), {}),
    "10¹⁰ pixels": ((1, 10**5, 10**5, 32), (3, 3, 32, 32), {}),
    "10¹⁶ pixels": ((1, 10**8, 10**8, 32), (3, 3, 32, 32), {}),
    "stride 10⁹": ((1, 10**10, 8, 4), (3, 3, 4, 8), {"stride": (BILLION, 1)}),
    "strides with many phases": (
        (1, 10**10, 8, 4),
        (1000, 3, 4, 8),
        {"stride": (10**6, 1), "dilation": (1001, 1)},
    ),
    "10⁶ groups": ((1, 8, 8, 10**6), (3, 3, 1, 10**6), {"groups": 10**6}),
    "10⁸ channels": ((1, 8, 8, 10**8), (3, 3, 10**8, 10**8), {}),
    "10⁹ images": ((BILLION, 8, 8, 4), (3, 3, 4, 8), {}),
}


@pytest.mark.parametrize("motive", HUGE)
@pytest.mark.parametrize("n_threads", [1, 2, 48])
def test_answers_about_sizes_come_whatever_the_sizes(motive, n_threads):
    x, kernel, options = HUGE[motive]
    with no_hang():
        for operation in ("conv2d", "conv2d_input_grad", "conv2d_kernel_grad"):
            told = pymec.explain(x, kernel, operation=operation, n_threads=n_threads, **options)
            assert any(row.supported for row in told)
        for more in ({}, {"accuracy": "fast"}, {"workspace_limit": 1000}, {"operation": "conv2d_input_grad"}):
            assert pymec.plan(x, kernel, n_threads=n_threads, **options, **more).workspace_nbytes >= 0


TOO_LARGE = {
    "input": ((1, BILLION, BILLION, 32), (3, 3, 32, 1), {}, "x_shape"),
    "kernel": ((1, 8, 8, BILLION), (3, 3, BILLION, BILLION), {}, "kernel_shape"),
    "output": ((1, 8, 8, 1), (1, 1, 1, 1), {"padding": 2**31 - 1}, "x_shape with padding=2147483647"),
}


@pytest.mark.parametrize("array", TOO_LARGE)
def test_arrays_that_cannot_exist_are_refused_by_name(array):
    x, kernel, options, argument = TOO_LARGE[array]
    said = rf"{argument} is too large: the {array}, .*, would have \d+ bytes, more than an array can have"
    with pytest.raises(ValueError, match=said):
        pymec.explain(x, kernel, **options)
    with pytest.raises(ValueError, match="more than an array can have"):
        pymec.explain((1, 2**62, 8, 1), (3, 3, 1, 1))


def test_too_many_phases_are_refused_by_name():
    with pytest.raises(pymec.UnsupportedShape, match="289 phases with taps; it takes up to 256"):
        pymec.plan(
            (1, 99, 99, 2), (17, 17, 2, 2), stride=17, operation="conv2d_input_grad", algorithm="direct_conv"
        )
