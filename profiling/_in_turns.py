"""What the paper's experiments share: a layer's algorithms as contenders, and other kernels of the same BLAS.

A cell names the kernels that BLAS ran (``"blas": "Haswell"``), so that records under different kernels can stand
in one table.  OpenBLAS chooses its kernels when it is loaded: ``--coretypes`` starts a process for each.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _common import HERE, comma_integers
from _store import RESULTS, Record, Store, where
from _tables import Table, show
from _timing import Contender, check, random_arrays, time_cells, timing_arguments
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import pymec
from pymec import blas_kernel, reference, registry
from pymec.threads import single_threaded_blas

Cell = dict[str, Any]
Contenders = dict[str, Contender]

QUICK = RESULTS / "quick"
"""Where ``--quick`` keeps its records: they show that all works, and are never mixed with the others."""


# The command line ---------------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser, seconds: float) -> None:
    """The options of every script that times."""
    parser.add_argument("--threads", type=comma_integers, default=[1, 2])
    timing_arguments(parser, seconds, patience=200)
    parser.add_argument("--quick", action="store_true", help="a layer or two, short bursts, all in results/quick")
    parser.add_argument("--figure", type=Path)
    kernels = "kernels of OpenBLAS, a process for each: native (this CPU's own), Haswell, Sandybridge, ...; "
    kernels += "by default those of this process"
    parser.add_argument("--coretypes", type=lambda text: text.split(","), default=["here"], help=kernels)
    parser.add_argument("--measure-only", action="store_true", help=argparse.SUPPRESS)


def add_store_options(parser: argparse.ArgumentParser) -> None:
    """The options of a script that doesn't time."""
    parser.add_argument("--quick", action="store_true", help="a layer or two, all in results/quick")
    parser.add_argument("--again", action="store_true", help="measure what is known, too")
    parser.add_argument("--records", type=Path, default=RESULTS, help="the folder of the records")
    parser.add_argument("--figure", type=Path)


def experiment(
    script: str,
    arguments: list[str] | None,
    options: argparse.Namespace,
    measure: Callable[[Store, argparse.Namespace], int],
    tables: Callable[[Sequence[Record]], Iterable[Table]],
    draw: Callable[[Sequence[Record], Path], object],
) -> int:
    """Measure here or in a process for each kind of kernels, then print and draw; the exit status."""
    if options.coretypes != ["here"]:
        status = in_processes(f"{script}.py", arguments, options.coretypes)
    else:
        status = measure(store_of(script, options), options)
    if not options.measure_only:
        records = newest(store_of(script, options))
        show(tables(records))
        draw(records, figure_of(script, options))
    return status


def cells_of(options: argparse.Namespace) -> list[Cell]:
    """Every batch, layer and number of threads that is asked for; those of one shape follow each other."""
    return [
        cell_of(layer, i_n, n_threads)
        for i_n in options.batch
        for layer in options.layers
        for n_threads in options.threads
    ]


def hurry(options: argparse.Namespace) -> None:
    """What ``--quick`` changes."""
    if options.quick and "seconds" in options:
        options.seconds = min(options.seconds, 0.03)


def store_of(script: str, options: argparse.Namespace) -> Store:
    """The script's records."""
    return Store(script, QUICK if options.quick and options.records == RESULTS else options.records)


def figure_of(script: str, options: argparse.Namespace) -> Path:
    """Where the script's figure goes: beside the records, if these have a folder of their own."""
    usual = HERE / "figures" if options.records == RESULTS else options.records
    return options.figure or (QUICK if options.quick else usual) / f"{script}.svg"


def in_processes(script: str, arguments: list[str] | None, coretypes: Iterable[str]) -> int:
    """Run the script once for each coretype; 0 if all of them were content."""
    given = sys.argv[1:] if arguments is None else arguments
    command = [sys.executable, str(HERE / script), *given, "--coretypes", "here", "--measure-only"]
    status = 0
    for coretype in coretypes:
        environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
        if coretype != "native":
            environment["OPENBLAS_CORETYPE"] = coretype
        print(f"{script} with OpenBLAS's kernels: {coretype}", file=sys.stderr, flush=True)
        status |= subprocess.run(command, env=environment, check=False).returncode != 0
    return status


# Contenders ---------------------------------------------------------------------------------------------


class Problem:
    """The arrays of a shape, and the right answer with its bounds."""

    def __init__(self, shape: pymec.ConvShape) -> None:
        self.shape = shape
        self.x, self.kernel = random_arrays(shape)
        self.out = np.empty(shape.output_shape, np.float32)
        with threadpool_limits(1):  # NumPy's products are small here: on several threads they take longer
            self.expected = reference.conv2d(self.x, self.kernel, shape)
        self._bounds: dict[Any, NDArray] = {}
        self.no_room: list[str] = []  # the algorithms that the latest contenders had to do without

    def bound(self, algorithm: str) -> NDArray:
        """The algorithm's error bound, computed once for all that share it."""
        function = registry.get(algorithm).error_bound
        if function not in self._bounds:
            with threadpool_limits(1):
                self._bounds[function] = function(self.x, self.kernel, self.shape)
        return self._bounds[function]

    def checked(self, call: Callable[[], object], algorithm: str, what: str, chosen: bool = False) -> Contender:
        """Make a call, whose output is ``self.out``, and exit if its answer is wrong."""
        self.out.fill(np.nan)
        call()
        check(self.out, self.expected, self.bound(algorithm), f"{what} on {self.shape}")
        return Contender(call, algorithm, chosen)

    def contenders(self, n_threads: int, algorithms: Iterable[str]) -> Contenders:
        """A checked call of each algorithm that can do the shape and finds room.

        Plans make them, with ``out`` given, the kernel prepared, and one block as everybody's workspace.  Those
        that find no room are named in ``no_room``.
        """
        self.no_room = []
        plans = {}
        room = free_memory() // 2
        for label in algorithms:
            if label != "auto" and registry.get(label).unsupported(self.shape):
                continue
            plan = pymec.plan(
                self.x.shape, self.kernel.shape, algorithm=label, n_threads=n_threads, **self.shape.arguments
            )
            if plan.workspace_nbytes > room:
                print(f"{label} is left out: {plan.workspace_nbytes >> 20} MiB don't fit here", file=sys.stderr)
                self.no_room.append(label)
                continue
            plans[label] = plan
        block = np.empty(max((plan.workspace_nbytes for plan in plans.values()), default=0), np.uint8)
        made: Contenders = {}
        for label, plan in plans.items():
            workspace = block[: plan.workspace_nbytes]
            workspace.fill(255)  # NaN
            call = partial(plan.prepare(self.kernel), self.x, out=self.out, workspace=workspace)
            made[label] = self.checked(call, plan.algorithm, label, chosen=label == "auto")
        return made


def free_memory() -> int:
    """Bytes that this machine has to give, as far as it says so."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 4 * 2**30
    free = (int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    return next(free, 4 * 2**30)


# Measuring ----------------------------------------------------------------------------------------------


def cell_of(layer: str, i_n: int, n_threads: int, **more: Any) -> Cell:
    """What is asked for: a layer, under the kernels that BLAS runs in this process."""
    return {"layer": layer, "i_n": i_n, "n_threads": n_threads, "blas": blas_kernel.kernel_name(), **more}


def shape_of(cell: Cell) -> pymec.ConvShape:
    """The layer of a cell, at the cell's stride if it has one."""
    layer = pymec.layers.get(cell["layer"])
    if "stride" in cell:
        layer = replace(layer, s_h=cell["stride"], s_w=cell["stride"])
    return layer.shape(cell["i_n"])


def time_layers(
    store: Store,
    cells: Sequence[Cell],
    options: argparse.Namespace,
    contenders: Callable[[Problem, int], Contenders],
) -> int:
    """Time the cells that the store doesn't know; 1 if one of them was disturbed.

    A record says which algorithms found no room, so that the next run tries its cell again.  Cells of one shape
    should follow each other: its right answer is computed once.
    """
    latest: dict[pymec.ConvShape, Problem] = {}

    def made(cell: Cell) -> Contenders:
        shape = shape_of(cell)
        if shape not in latest:
            latest.clear()
            latest[shape] = Problem(shape)
        return contenders(latest[shape], cell["n_threads"])

    def how(cell: Cell) -> dict[str, Any]:
        shape = shape_of(cell)
        no_room = {"no_room": latest[shape].no_room} if latest[shape].no_room else {}
        return {"flops": 2 * shape.multiply_adds, "own": own_kernels(), **no_room}

    with single_threaded_blas():
        return int(time_cells(store, cells, options, made, how=how) > 0)


def own_kernels() -> bool:
    """Whether BLAS runs its kernels for this CPU.

    Under others, published algorithms alone are timed: what multiplies by register tiles is as fast as before.
    """
    return blas_kernel.held_back() is None


# Reading ------------------------------------------------------------------------------------------------


def newest(store: Store, **wanted: Any) -> list[Record]:
    """The newest record of each cell that has these entries, under every kernel of BLAS, of the latest machine."""
    records = list(store.newest.values())
    found = {
        str(record.cell): record  # of several versions of BLAS, the one that was measured last
        for record in records
        if where(record.run) == where(records[-1].run) and wanted.items() <= record.cell.items()
    }
    return list(found.values())


def kernels_in(records: Iterable[Record]) -> list[str]:
    """The kernels that BLAS ran, this CPU's own first."""
    order = {r.cell["blas"]: (not r.how["own"], bool(r.run.get("told")), r.cell["blas"]) for r in records}
    return sorted(order, key=order.__getitem__)
