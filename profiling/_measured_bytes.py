"""What the experiments in memory share: measuring an algorithm's bytes on a shape, and what is known of them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from _common import Cell, measure_cells
from _store import Store, this_run, where

import pymec
from pymec.memory import MemoryReport


def measure_bytes(
    store: Store,
    cells: Mapping[str, tuple[dict[str, Any], pymec.ConvShape]],
    algorithms: Sequence[str],
    workers: int,
    title: str,
) -> int:
    """Measure the algorithms on every shape; a cell is stored as soon as it is whole.  1 if a process failed.

    ``cells`` has by name what the store calls a cell, and its shape.  A cell in which a process failed is not
    stored, so that the next run measures it.
    """
    wanted = [Cell(name, shape, algorithm) for name, (_, shape) in cells.items() for algorithm in algorithms]
    found: dict[str, dict[str, Any]] = {name: {} for name in cells}
    status = 0
    for measured, report in measure_cells(wanted, workers, title) if wanted else ():
        if isinstance(report, Exception):
            print(f"failed: {measured}: {report}", file=sys.stderr)
            status = 1
            continue
        values = found[measured.name]
        values[measured.algorithm] = sizes_of(report, measured.algorithm)
        if len(values) == len(algorithms):
            store.add(cells[measured.name][0], {algorithm: values[algorithm] for algorithm in algorithms})
    return status


def sizes_of(report: MemoryReport, asked: str) -> dict[str, Any]:
    """What the store keeps of a measured call of the algorithm that was asked for, which may be "auto"."""
    sizes = {"workspace": report.workspace, "predicted": report.predicted, "by": report.algorithm}
    return sizes | ({"chosen": True} if asked == "auto" else {})


def bytes_known(store: Store, cell: dict[str, Any]) -> bool:
    """Whether this machine has measured the cell's bytes by today's code, under whichever kernels of BLAS.

    It has not if some algorithm found no room: that one is to be tried again.
    """
    here = where(this_run())
    return any(
        record.cell == cell and where(record.run) == here and record.settled for record in store.newest.values()
    )
