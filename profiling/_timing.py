"""What the speed scripts share: options, the loop over cells, and taking turns under a canary's watch."""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _common import counted, progress, usable_cpus
from _store import RESULTS, Store
from numpy.typing import NDArray

import pymec
from pymec import _build_info
from pymec.kernels.mec import tuned as mec
from pymec.kernels.shared.blocking import small_blas_products
from pymec.threads import single_threaded_blas

BURST = 0.05
"""Seconds of one burst: long beside the waking of threads, short beside a disturbance by a neighbour."""

MISSING = "not timed undisturbed: "
"""How the line begins that names what a script could not time."""

Times = dict[Any, list[float]]


class Contender(NamedTuple):
    """A call that is timed, the algorithm that does it, and whether pymec's rule chose that one.

    ``by`` is ``mec`` or ``direct:conv2d_input_grad``, or None where another library does it.
    """

    call: Callable[[], object]
    by: str | None = None
    chosen: bool = False

    @property
    def about(self) -> dict[str, Any]:
        """What the store keeps of it beside its times."""
        return {"by": self.by} | ({"chosen": True} if self.chosen else {})


def timing_arguments(parser: argparse.ArgumentParser, seconds: float, patience: int = 300) -> None:
    """The options of a script that times."""
    parser.add_argument("--seconds", type=float, default=seconds, help="timing of one call (default: %(default)s)")
    parser.add_argument("--patience", type=int, default=patience, help="dropped bursts before a cell is given up")
    share = "of n times one thread's best rate, what the canary must reach on n threads"
    parser.add_argument("--share", type=float, default=0.75, help=share)
    parser.add_argument("--no-wait", action="store_true", help="keep every burst, and mark what was disturbed")
    parser.add_argument("--again", action="store_true", help="time what is known, too")
    parser.add_argument("--records", type=Path, default=RESULTS, help="the folder of the records")


def refuse_what_means_nothing(thread_counts: Sequence[int]) -> None:
    """Exit if this build, or this number of CPUs, can't give meaningful numbers."""
    if not _build_info.OPENMP:
        sys.exit("this build of pymec has no OpenMP: all of it runs on one thread, its speeds mean nothing")
    if _build_info.DEBUG:
        sys.exit("this build of pymec checks every index (PYMEC_DEBUG): its speeds mean nothing")
    if max(thread_counts) > usable_cpus():
        sys.exit(f"{max(thread_counts)} threads need as many CPUs; this process may use {usable_cpus()}")


class Canary:
    """A small product on n threads: does it run nearly n times as fast as on one?

    Virtual CPUs can sit on one physical core for seconds, and none of the system's counters shows it.  The
    product is a convolution whose arrays fit a core's own cache, so that only the cores bound its speed.
    """

    def __init__(self, patience: int, share: float = 0.75, no_wait: bool = False) -> None:
        self.shape = pymec.ConvShape.from_shapes((1, 26, 26, 64), (3, 3, 64, 64))
        self.x, self.kernel = random_arrays(self.shape)
        self.out = np.empty(self.shape.output_shape, self.shape.dtype)
        self.workspace = np.empty(self.shape.mec_size, self.shape.dtype)
        self.blocking = small_blas_products(self.shape, self.shape.o_w, 1)
        self.patience, self.share, self.no_wait = patience, share, no_wait
        self.alone = math.inf  # seconds on one thread, the best of this run
        self.gains: list[float] = []  # around the bursts that were kept
        self.exhausted = 0  # how often patience ran out
        self.bursts = self.dropped = self.disturbed = 0

    @classmethod
    def of(cls, options: argparse.Namespace, thread_counts: Iterable[int]) -> Canary:
        """One with a script's options, which says what it waits for."""
        if max(thread_counts) > 1 and not options.no_wait:
            print(
                "bursts on several threads wait until each has a core for itself, which a small product tells; "
                "--no-wait keeps all and marks those that were disturbed",
                file=sys.stderr,
            )
        return cls(options.patience, options.share, options.no_wait)

    def __str__(self) -> str:
        if not self.bursts:
            return "canary: not needed, one thread only"
        kept = f"{self.disturbed} disturbed ones kept; " * self.no_wait
        gain = f"{statistics.median(self.gains):.2f} times that" if self.gains else "never enough"
        return (
            f"canary: {self.dropped} of {self.bursts} bursts on several threads dropped; {kept}one thread's best "
            f"rate {self.gflops:.0f} GFLOP/s, several threads' median rate around the kept bursts {gain}"
        )

    @property
    def gflops(self) -> float:
        """One thread's best rate."""
        return 2e-9 * self.shape.multiply_adds / self.alone

    def counts(self) -> dict[str, int]:
        """Bursts on several threads so far: all, those dropped, those kept although they were disturbed."""
        return {"bursts": self.bursts, "dropped": self.dropped, "disturbed": self.disturbed}

    def seconds(self, n_threads: int) -> list[float]:
        """Seconds of each of eight runs."""
        given = self.x, self.kernel, self.out, self.workspace, self.shape, n_threads, "B", self.blocking
        with single_threaded_blas():
            return timed(lambda: mec.run(*given), 8)

    def calibrate(self) -> None:
        """Measure one thread's rate; the best of the whole run counts."""
        self.alone = min(self.alone, *(seconds for _ in range(5) for seconds in self.seconds(1)))

    def gain(self, n_threads: int) -> float:
        """The present rate of n threads, divided by one thread's best rate.

        It is a median, so that one lucky run doesn't hide a disturbance.
        """
        return self.alone / statistics.median(self.seconds(n_threads))

    def guard(self, burst: Callable[[], list[float]], n_threads: int, patience: int) -> tuple[list[float], int]:
        """The times of an undisturbed burst, or none, and the patience that is left."""
        if n_threads == 1:
            return burst(), patience
        while patience > 0 or self.no_wait:
            self.bursts += 1
            before = self.gain(n_threads)
            if before >= self.share * n_threads or self.no_wait:
                times = burst()
                after = self.gain(n_threads)
                free = min(before, after) >= self.share * n_threads
                if free or self.no_wait:
                    self.gains += [before, after]
                    self.disturbed += not free
                    return times, patience
            self.dropped += 1
            patience -= 1
            time.sleep(BURST)
        return [], 0


def time_cells(
    store: Store,
    cells: Iterable[dict[str, Any]],
    options: argparse.Namespace,
    contenders: Callable[[dict[str, Any]], dict[str, Contender]],
    names: Sequence[str] = (),
    how: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> int:
    """Time the contenders of each cell that the store doesn't know; the number of cells that could not be timed.

    Those are named at the end, in a line that begins with :data:`MISSING`.

    A cell says ``n_threads``.  ``contenders(cell)`` makes its calls, whose answers it has checked; it is asked
    for no other cell.  A record must have the contenders ``names`` to be known.  ``how`` says of a cell what its
    record is to keep besides: by default the operations of its layer.
    """
    how = how or flops_of_layer
    cells = list(cells)
    wanted = [cell for cell in cells if options.again or not store.known(cell, names, options.seconds)]
    script = store.path.stem
    print(f"{counted(len(cells), 'cell')}, {len(cells) - len(wanted)} of them known", file=sys.stderr)
    if not wanted:
        return 0
    canary = Canary.of(options, [cell["n_threads"] for cell in wanted])
    failed: list[dict[str, Any]] = []
    with progress(len(wanted), script) as step:
        for cell in wanted:
            made = contenders(cell)
            time.sleep(BURST)  # until the BLAS threads that a check has used have gone to sleep
            before = canary.counts()
            calls = {name: contender.call for name, contender in made.items()}
            if not calls:
                failed.append(cell)
                step(f"{' '.join(map(str, cell.values()))}: nothing to time")
                continue
            patience_lost = canary.exhausted
            times = take_turns(calls, cell["n_threads"], options.seconds, canary)
            cut_short = canary.exhausted > patience_lost
            failed += [cell] * cut_short
            if all(times.values()):
                values = {name: statistics_of(found) | made[name].about for name, found in times.items()}
                seen = {name: count - before[name] for name, count in canary.counts().items()}
                seconds = 0 if cut_short else options.seconds  # a record to show, but not to be content with
                store.add(cell, values, how={"seconds": seconds, **seen, **how(cell)})
            step(" ".join(map(str, cell.values())))
    print(canary, file=sys.stderr)
    tell_missing(failed)
    return len(failed)


def tell_missing(cells: Sequence[dict[str, Any]]) -> None:
    """Name the cells that could not be timed as long as asked; the same command tries them again."""
    if cells:
        print(MISSING + "; ".join(" ".join(map(str, cell.values())) for cell in cells), file=sys.stderr)


def flops_of_layer(cell: dict[str, Any]) -> dict[str, int]:
    """The operations of the definition, for the rates."""
    return {"flops": 2 * pymec.layers.get(cell["layer"]).shape(cell.get("i_n", 1)).multiply_adds}


def take_turns(calls: dict[Any, Callable[[], object]], n_threads: int, seconds: float, canary: Canary) -> Times:
    """Seconds of every single call: the calls take turns in bursts, about ``seconds`` of each in all."""
    if n_threads > 1:
        canary.calibrate()
    length = min(BURST, seconds / 3)
    counts = {}
    for label, call in calls.items():
        first = timed(call, 1)
        if first[0] < length:  # a call that fills a burst by itself isn't made again to learn it
            first += timed(call, 2)
        counts[label] = max(1, int(length / min(first)))
    times: Times = {label: [] for label in calls}
    patience = canary.patience
    turns = max(3, round(seconds / length))
    for turn in range(turns):
        order = list(calls) if turn % 2 else list(reversed(calls))  # no call always follows the same one
        bursts: Times = {}
        for label in order:
            bursts[label], patience = canary.guard(
                lambda label=label: timed(calls[label], counts[label]), n_threads, patience
            )
        if not all(bursts.values()):  # a turn counts for all calls or for none
            print(f"patience ran out after {turn} of {turns} turns", file=sys.stderr)
            canary.exhausted += 1
            break
        for label, burst in bursts.items():
            times[label] += burst
    return times


def timed(call: Callable[[], object], count: int) -> list[float]:
    """Seconds of each of ``count`` calls."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def statistics_of(times: list[float]) -> dict[str, Any]:
    """Best and median seconds, to five digits, and the number of calls."""
    best, median = (float(f"{seconds:.5g}") for seconds in (min(times), statistics.median(times)))
    return {"best": best, "median": median, "calls": len(times)}


def random_arrays(shape: pymec.ConvShape) -> tuple[NDArray, NDArray]:
    """An input and a kernel, the same in every run."""
    rng = np.random.default_rng(0)
    return tuple(rng.standard_normal(size, np.float32) for size in (shape.input_shape, shape.kernel_shape))


def check(result: NDArray, expected: NDArray, bound: NDArray, what: str) -> None:
    """Exit at an answer that is off by more than its error bound, or is not a number."""
    if not np.all(np.abs(result - expected) <= bound):
        sys.exit(f"wrong answer: {what} is beyond the error bound; nothing was timed after that")
