"""What the paper's experiments share: algorithms of one layer, checked, timed in turns, and kept as one record.

A record's cell names the kernels that BLAS ran (``"blas": "Haswell"``): the same layer under other kernels of the
same BLAS is another cell of the same file.  OpenBLAS chooses its kernels when it is loaded, so other kernels need
another process, and ``--coretypes`` starts one for each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _common import HERE, comma_integers
from _store import RESULTS, Cell, Record, Store
from _timing import Canary, Times, check, random_arrays, statistics_of, take_turns
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import pymec
from pymec import blas_kernel, reference, registry
from pymec.threads import single_threaded_blas

Calls = dict[str, Callable[[], object]]

QUICK = RESULTS / "quick"
"""Where ``--quick`` keeps its records: they show that all works, and are never mixed with the others."""


# The command line ---------------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser, seconds: float) -> None:
    """The options of every script that times."""
    parser.add_argument("--threads", type=comma_integers, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=seconds, help="timing of one call, by each algorithm")
    parser.add_argument("--patience", type=int, default=200, help="dropped bursts before a layer is given up")
    parser.add_argument("--share", type=float, default=0.75, help="as in speed.py")
    add_store_options(parser)
    parser.add_argument(
        "--coretypes",
        type=lambda text: text.split(","),
        default=["here"],
        help="kernels of OpenBLAS, a process for each: native (this CPU's own), Haswell, Sandybridge, ...; "
        "by default those of this process",
    )
    parser.add_argument("--measure-only", action="store_true", help=argparse.SUPPRESS)


def add_store_options(parser: argparse.ArgumentParser) -> None:
    """The options of every script that keeps records."""
    parser.add_argument("--quick", action="store_true", help="a layer or two, short bursts, all in results/quick")
    parser.add_argument("--records", type=Path, help="the folder of the records")
    parser.add_argument("--figure", type=Path)


def store_of(script: str, options: argparse.Namespace) -> Store:
    """The script's records."""
    return Store(script, options.records or (QUICK if options.quick else RESULTS))


def figure_of(script: str, options: argparse.Namespace) -> Path:
    """Where the script's figure goes."""
    return options.figure or (QUICK if options.quick else HERE / "figures") / f"{script}.svg"


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


# One layer ----------------------------------------------------------------------------------------------


class Problem:
    """The arrays of a shape, and the right answer with its bounds."""

    def __init__(self, shape: pymec.ConvShape) -> None:
        self.shape = shape
        self.x, self.kernel = random_arrays(shape)
        self.out = np.empty(shape.output_shape, np.float32)
        with threadpool_limits(1):  # NumPy's products are small here: on several threads they take longer
            self.expected = reference.conv2d(self.x, self.kernel, shape)
        self._bounds: dict[Any, NDArray] = {}

    def bound(self, algorithm: str) -> NDArray:
        """The algorithm's error bound, computed once for all that share it."""
        function = registry.get(algorithm).error_bound
        if function not in self._bounds:
            with threadpool_limits(1):
                self._bounds[function] = function(self.x, self.kernel, self.shape)
        return self._bounds[function]

    def checked(self, call: Callable[[], object], algorithm: str, what: str) -> None:
        """Make a call, whose output is ``self.out``, and exit if its answer is wrong."""
        self.out.fill(np.nan)
        call()
        check(self.out, self.expected, self.bound(algorithm), f"{what} on {self.shape}")

    def calls(self, algorithms: Iterable[str], n_threads: int) -> tuple[Calls, dict[str, str]]:
        """A checked call of each algorithm that can do the shape, and the algorithm behind each label.

        Plans make them, with ``out`` given, the kernel prepared, and one block as everybody's workspace.
        """
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
                continue
            plans[label] = plan
        block = np.empty(max(plan.workspace_nbytes for plan in plans.values()), np.uint8)
        made: Calls = {}
        for label, plan in plans.items():
            workspace = block[: plan.workspace_nbytes]
            workspace.fill(255)  # NaN
            made[label] = partial(plan.prepare(self.kernel), self.x, out=self.out, workspace=workspace)
            self.checked(made[label], plan.algorithm, label)
        return made, {label: plan.algorithm for label, plan in plans.items()}


def free_memory() -> int:
    """Bytes that this machine has to give, as far as it says so."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 4 * 2**30
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


# One record ---------------------------------------------------------------------------------------------


def cell_of(layer: str, batch: int, n_threads: int, **more: Any) -> Cell:
    """What the scripts that time ask for: a layer, under the kernels that BLAS runs in this process."""
    return {"layer": layer, "batch": batch, "threads": n_threads, "blas": blas_kernel.kernel_name(), **more}


def keep(
    store: Store, cell: Cell, calls: Calls, algorithms: dict[str, str], canary: Canary, seconds: float
) -> bool:
    """Let the calls take turns and keep their seconds as one record; False if nothing was undisturbed.

    ``algorithms`` has the algorithm behind each label.
    """
    with single_threaded_blas():
        times: Times = take_turns(calls, cell["threads"], seconds, canary)
    if not all(times.values()):
        print(f"no undisturbed turn: {cell}", file=sys.stderr)
        return False
    found = {label: statistics_of(of) for label, of in times.items()}
    values: dict[str, Any] = {
        what: {label: of[what] for label, of in found.items()} for what in ("best", "median", "calls")
    }
    values["own"] = blas_kernel.held_back() is None
    if "auto" in algorithms:
        values["auto"] = algorithms["auto"]
    store.add(cell, values, dict.fromkeys(algorithms.values()))
    return True


# Reading ------------------------------------------------------------------------------------------------


def newest(store: Store, **wanted: Any) -> list[Record]:
    """The newest record of each cell that has these entries, under every kernel of BLAS, of the latest machine."""
    if not store.records:
        return []
    here = machine_of(store.records[-1])
    found = {
        json.dumps(record.cell, sort_keys=True): record
        for record in store.records
        if machine_of(record) == here and wanted.items() <= record.cell.items()
    }
    return list(found.values())


def machine_of(record: Record) -> tuple[str, ...]:
    """The machine of a record, whichever kernels its BLAS ran."""
    return tuple(record.run[name] for name in ("cpu", "build", "threads"))


def kernels_in(records: Iterable[Record]) -> list[str]:
    """The kernels that BLAS ran, this CPU's own first."""
    own = {record.cell["blas"]: record.values["own"] for record in records}
    return sorted(own, key=lambda name: (not own[name], name))


def ratio(record: Record, label: str, to: str = "im2col", what: str = "best") -> float:
    """How many times as fast as ``to`` an algorithm was: both took turns in this record."""
    return float(record.values[what][to] / record.values[what][label])


def provenance(records: Iterable[Record]) -> str:
    """Where and when the records come from, in a line; the kernels that have changed since, if any."""
    records = list(records)
    run = records[-1].run
    commits = ", ".join(dict.fromkeys(record.run["commit"] for record in records))
    stale = sorted({name for record in records for name in record.stale})
    library, version = run["blas"].split()[:2]
    line = f"{run['cpu']}, {library} {version}, pymec {run['pymec']} ({commits}), {run['date']}"
    return f"{line}; changed since: {', '.join(stale)}" if stale else line
