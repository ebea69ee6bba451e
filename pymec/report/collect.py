"""Runs the cells, one layer after the other: checks them, then times them, then measures their memory.

Nothing is timed while memory is measured: memray slows a process down, and a second process takes a CPU from the
first.  Measurements run side by side: bytes do not depend on how busy the machine is.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pymec import blas_kernel, reference, registry
from pymec.conv import conv2d
from pymec.layers import Layer
from pymec.memory import flamegraphs, side_by_side
from pymec.report.picture import Activations
from pymec.report.records import Cell, Check, LayerRun, Run, Timing
from pymec.shapes import ConvShape
from pymec.versions import versions

Progress = Callable[[str, str, int, int], None]
"""``progress(layer, what, done, total)``, called before each step; ``done == total`` after the last."""

BUDGET_SECONDS = 0.25
"""Seconds that the repeats of one cell's timing may take together."""

MEASURED_AT_ONCE = 2
"""Processes that measure memory at the same time; the largest cells take a gigabyte each."""

FEWEST_REPEATS, MOST_REPEATS = 3, 100

MOST_SECONDS = 1.0
"""Seconds after which a cell is not repeated any more, even with fewer repeats than FEWEST_REPEATS."""


def collect(
    layers: Sequence[Layer],
    algorithms: Sequence[str],
    activations: Activations,
    n_threads: int,
    records: Path,
    flame_graphs: Sequence[str] = (),
    progress: Progress | None = None,
) -> Run:
    """Run all cells.

    ``flame_graphs`` names the algorithms whose memray record on the largest layer is kept in ``records``.
    """
    start = time.perf_counter()
    largest = max(layers, key=lambda layer: layer.shape().im2col_size)
    steps = len(algorithms) + 2  # the layer's input, its timings, and a measurement per algorithm
    total = steps * len(layers)
    runs = []
    for i, layer in enumerate(layers):
        shape = layer.shape(activations.i_n)
        cells = [Cell(name, reason=registry.get(name).unsupported(shape)) for name in algorithms]
        kept = {name: records / f"{name}_{layer.name}.bin" for name in flame_graphs if layer is largest}
        tell = partial(_tell, progress, layer.name, total, i * steps)
        cells = list(_run_cells(layer, shape, cells, activations, n_threads, kept, tell))
        runs.append(LayerRun(layer, shape, tuple(cells)))
    _tell(progress, "all layers", total, total, "done", 0)
    return Run(
        algorithms=tuple(algorithms),
        layers=tuple(runs),
        batch=activations.i_n,
        n_threads=n_threads,
        versions=versions(),
        made=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        seconds=time.perf_counter() - start,
        blas_kernels=blas_kernel.kernel_name(),
        blas_warning=blas_kernel.held_back(),
    )


def _run_cells(
    layer: Layer,
    shape: ConvShape,
    cells: Sequence[Cell],
    activations: Activations,
    n_threads: int,
    records: dict[str, Path],
    tell: Callable[[str, int], None],
) -> Iterator[Cell]:
    """The cells of one layer, in order; a cell that finds no room is marked, and the others go on."""
    able = [cell.algorithm for cell in cells if cell.reason is None]
    errors: dict[str, str] = {}
    tell("input and oracle", 0)
    try:
        x, kernel = activations.input_of(layer), activations.kernel_of(layer)
        call = _caller(layer, x, kernel, n_threads)
        checks = _check(shape, x, kernel, call, able, errors)
        tell("timing", 1)
        timings = time_in_turns({name: partial(call, name) for name in checks})
    except MemoryError as error:  # the oracle's arrays, in double precision, are larger than the algorithms'
        errors = dict.fromkeys(able, f"no room for the input and the oracle: {error}")
        checks, timings = {}, {}
    # Bytes do not depend on how busy the machine is, so processes may be measured side by side.
    with side_by_side(MEASURED_AT_ONCE) as submit:
        memories = {name: submit(shape, name, n_threads=n_threads, record=records.get(name)) for name in checks}
        for j, cell in enumerate(cells):
            name = cell.algorithm
            tell(f"memory of {name}", 2 + j)
            failure = memories[name].exception() if name in memories else None
            if isinstance(failure, (MemoryError, RuntimeError)):
                errors[name] = str(failure)
            if name in errors:
                yield Cell(name, error=errors[name])
            elif cell.reason is not None:
                yield cell
            else:
                yield Cell(name, check=checks[name], timing=timings[name], memory=memories[name].result())


def _tell(progress: Progress | None, layer: str, total: int, before: int, what: str, step: int) -> None:
    if progress is not None:
        progress(layer, what, before + step, total)


# Check --------------------------------------------------------------------------------------------------


def _caller(layer: Layer, x: NDArray, kernel: NDArray, n_threads: int) -> Callable[..., NDArray]:
    """``call(algorithm, out=None)``: the layer as a user of pymec would run it."""

    def call(algorithm: str, out: NDArray | None = None) -> NDArray:
        return conv2d(
            x,
            kernel,
            stride=(layer.s_h, layer.s_w),
            padding=(layer.p_h, layer.p_w),
            groups=layer.groups,
            algorithm=algorithm,
            n_threads=n_threads,
            out=out,
        )

    return call


def _check(
    shape: ConvShape,
    x: NDArray,
    kernel: NDArray,
    call: Callable[..., NDArray],
    algorithms: Sequence[str],
    errors: dict[str, str],
) -> dict[str, Check]:
    """Compare every algorithm's result with the oracle's; ``errors`` gets those that find no room."""
    exact = reference.conv2d(x, kernel, shape)
    bounds: dict[Callable[..., NDArray], NDArray] = {}
    checks = {}
    for name in algorithms:
        bound_of = registry.get(name).error_bound
        if bound_of not in bounds:
            bounds[bound_of] = bound_of(x, kernel, shape)
        # Filled with NaN, so that an output that was not written can't pass as a small error.
        out = np.full(shape.output_shape, np.nan, shape.dtype)
        try:
            call(name, out=out)
        except MemoryError as error:
            errors[name] = str(error)
        else:
            checks[name] = check(out, exact, bounds[bound_of])
    return checks


def check(result: NDArray, exact: NDArray, bound: NDArray) -> Check:
    """Compare element by element; an error where the bound is zero counts as infinite."""
    error = np.abs(result - exact)
    if np.isnan(error).any():
        return Check(correct=False, worst=None)
    with np.errstate(divide="ignore", invalid="ignore"):
        in_bounds = np.where(error == 0, 0, error / bound)
    worst = float(in_bounds.max(initial=0))
    return Check(correct=worst <= 1, worst=min(worst, sys.float_info.max))  # JSON knows no infinity


# Time ---------------------------------------------------------------------------------------------------


def time_in_turns(calls: dict[str, Callable[[], object]], budget: float = BUDGET_SECONDS) -> dict[str, Timing]:
    """Time calls in turns, so that a change in the machine's speed affects all of them alike.

    There is no warm-up: every call was made before, to be checked.  Calls of a second or more are not repeated.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    running = dict(calls)
    while running:
        for name, call in list(running.items()):
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
            n, spent = len(seconds[name]), sum(seconds[name])
            if n >= MOST_REPEATS or (n >= FEWEST_REPEATS and spent >= budget) or spent >= MOST_SECONDS:
                del running[name]
    return {
        name: Timing(fastest=min(each), median=statistics.median(each), repeats=len(each))
        for name, each in seconds.items()
    }


# Flame graphs -------------------------------------------------------------------------------------------


def draw_flame_graphs(records: Path, output: Path) -> dict[str, str]:
    """Have memray draw a flame graph of every record that was kept; return file names by what they show.

    The pages share memray's scripts, which lie in a folder beside them.
    """
    drawn = {}
    for record in sorted(records.glob("*.bin")):
        target = output / f"flamegraph_{record.stem}.html"
        flamegraphs.draw(record, target, shared="flamegraph_scripts")
        algorithm, _, layer = record.stem.rpartition("_")
        drawn[f"{algorithm} on {layer}"] = target.name
    return drawn
