"""Predicted and measured workspace of every layer × operation × algorithm × threads × batch × dtype.

Each cell is one call of ``pymec.conv2d``, or of a gradient, in a fresh process under memray.  It is appended to
the store as soon as it is measured: an interrupted sweep goes on where it stopped.  Cells whose kernel or whose
formula has changed since are measured again.

    python profiling/memory_sweep.py                                          # batch 1, float32
    python profiling/memory_sweep.py --batch 1,4,32 --dtype float32,float64   # everything
    python profiling/memory_sweep.py --operations conv2d_input_grad,conv2d_kernel_grad

The exit status is 1 if a cell's formula and memray differ by a byte, or a cell can't be measured.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from _common import MIB, Cell, comma_integers, comma_list, command_line, counted, measure_cells, usable_cpus
from _store import RESULTS, Record, Store
from _tables import Table, entries, groups, plural, show

import pymec

STORE = "memory"

MEASURED = ("predicted", "workspace", "output", "blas", "fft", "other", "peak", "resident")
"""What a record keeps of a report, in bytes."""

NEAR = 64 * 1024
"""Bytes that the interpreter may touch meanwhile: more than a hundredth of a small call."""


def main(arguments: list[str] | None = None) -> int:
    """Sweep and print the tables; the exit status."""
    options = parse(arguments)
    store = Store(STORE, options.records)
    predicted = {}
    for cell in cells(options):
        try:
            predicted[cell] = predict(cell)
        except pymec.UnsupportedShape as error:
            print(f"skipped: {cell}: {error}", file=sys.stderr)
    wanted = [cell for cell, nbytes in predicted.items() if options.again or not known(store, cell, nbytes)]
    print(f"{counted(len(predicted), 'cell')}, {len(predicted) - len(wanted)} of them known", file=sys.stderr)

    failed = {}
    for cell, report in measure_cells(wanted, options.workers, "memory"):
        if isinstance(report, Exception):
            failed[cell] = report
        else:
            values = {name: getattr(report, name) for name in MEASURED}
            store.add(entries_of(cell), values, [f"{cell.algorithm}:{cell.operation}"])
    records = store.here(entries_of(cell) for cell in predicted if cell not in failed)
    show(tables(records))
    return summary(records, failed)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    layers = pymec.layers.PAPER
    operations = tuple(pymec.registry.TABLES)
    algorithms = tuple(dict.fromkeys(name for operation in operations for name in pymec.algorithms(operation)))
    parser.add_argument("--layers", type=comma_list(pymec.layers.names()), default=list(layers))
    parser.add_argument("--algorithms", type=comma_list(algorithms), default=list(algorithms))
    parser.add_argument("--operations", type=comma_list(operations), default=["conv2d"])
    parser.add_argument("--threads", type=comma_integers, default=[1, 2])
    parser.add_argument("--batch", type=comma_integers, default=[1])
    parser.add_argument("--dtype", type=comma_list(("float32", "float64")), default=["float32"])
    parser.add_argument("--workers", type=int, default=usable_cpus(), help="processes at once")
    parser.add_argument("--again", action="store_true", help="measure what is known, too")
    parser.add_argument("--records", type=Path, default=RESULTS, help="the folder of the records")
    return parser.parse_args(arguments)


def cells(options: argparse.Namespace) -> list[Cell]:
    """Every combination that the command line asks for and the algorithm can do."""
    every = (
        Cell(layer, pymec.layers.get(layer).shape(i_n, dtype), algorithm, n_threads, operation)
        for layer, operation, algorithm, n_threads, i_n, dtype in itertools.product(
            options.layers, options.operations, options.algorithms, options.threads, options.batch, options.dtype
        )
        if algorithm in pymec.algorithms(operation)
    )
    return [
        cell
        for cell in every
        if pymec.registry.get(cell.algorithm, cell.operation).unsupported(cell.shape) is None
    ]


def predict(cell: Cell) -> int:
    """The bytes of workspace by today's formula."""
    return pymec.workspace_size(
        cell.shape.input_shape, cell.shape.kernel_shape, algorithm=cell.algorithm, dtype=cell.shape.dtype,
        operation=cell.operation, n_threads=cell.n_threads, **cell.shape.arguments,
    )  # fmt: skip


def entries_of(cell: Cell) -> dict[str, Any]:
    """A cell as the store keeps it."""
    return {
        "layer": cell.name,
        "operation": cell.operation,
        "algorithm": cell.algorithm,
        "n_threads": cell.n_threads,
        "i_n": cell.shape.i_n,
        "dtype": cell.shape.dtype,
    }


def known(store: Store, cell: Cell, predicted: int) -> bool:
    """Whether the store has the cell by today's kernel, and by today's formula."""
    asked = entries_of(cell)
    return store.known(asked) and store.here([asked])[0].values["predicted"] == predicted


# What comes out -----------------------------------------------------------------------------------------


def summary(records: Sequence[Record], failed: dict[Cell, Exception]) -> int:
    """Print how many cells agree and which don't; the exit status."""
    differing = [record for record in records if record.values["predicted"] != record.values["workspace"]]
    print(f"cells measured: {len(records)}")
    print(f"predicted == measured, to the byte: {len(records) - len(differing)}")
    print(f"different: {len(differing)}")
    for record in differing:
        name = " ".join(map(str, record.cell.values()))
        print(f"  {name}: predicted {record.values['predicted']}, measured {record.values['workspace']}")
    for cell, error in failed.items():
        print(f"failed: {cell}: {str(error).splitlines()[-1]}")
    return 1 if differing or failed else 0


def tables(records: Sequence[Record]) -> Iterator[Table]:
    """Workspace, a table for every operation, batch, dtype and thread count: algorithms down, layers across."""
    for names, found in groups(records, "operation", "i_n", "dtype", "n_threads").items():
        operation, i_n, dtype, n_threads = names
        inside = {(record.cell["layer"], record.cell["algorithm"]): record for record in found}
        layers = entries(found, "layer")
        algorithms = [name for name in pymec.algorithms(operation) if any(name == other for _, other in inside)]
        rows = [[name, *(entry(inside, layer, name) for layer in layers)] for name in algorithms]
        title = f"{operation}, batch {i_n}, {dtype}, {plural(n_threads)}: "
        title += "measured workspace in MiB (im2col's workspace ÷ this one)"
        exact = sum(record.values["predicted"] == record.values["workspace"] for record in found)
        notes = [f"predicted = measured, to the byte, in {exact} of {len(found)} cells"]
        yield Table(title, ["algorithm", *layers], rows, found, "memory_sweep", notes)


def entry(inside: dict[tuple[str, str], Record], layer: str, algorithm: str) -> str:
    """One cell of the table; ``≠`` marks a formula that memray contradicts."""
    record, im2col = inside.get((layer, algorithm)), inside.get((layer, "im2col"))
    if record is None:
        return "-"
    nbytes = record.values["workspace"]
    mark = "" if nbytes == record.values["predicted"] else " ≠"
    ratio = f" ({im2col.values['workspace'] / nbytes:.2f})" if im2col and nbytes else ""
    return f"{nbytes / MIB:.3f}{ratio}{mark}{record.marks()}"


def owners(records: Sequence[Record]) -> Iterator[Table]:
    """What was in memory at the peak of each call, by who asked for it, and the pages that were touched."""
    for (layer, n_threads), found in groups(records, "layer", "n_threads").items():
        rows = []
        for record in found:
            sizes = [f"{record.values[name] / MIB:.3f}" for name in MEASURED]
            rows.append([record.cell["algorithm"], *(size + record.marks() for size in sizes)])
        title = f"{layer}, {plural(n_threads)}: MiB at the peak of one call, by who asked for them"
        yield Table(title, ["algorithm", *MEASURED], rows, found, "memory_sweep")


def agreement(records: Sequence[Record]) -> Iterator[Table]:
    """How many cells agree to the byte, have memory of BLAS in them, and are about as large in touched pages."""
    rows = []
    for names, found in groups(records, "operation", "i_n", "dtype", "n_threads").items():
        exact = sum(record.values["predicted"] == record.values["workspace"] for record in found)
        blas = sum(record.values["blas"] > 0 for record in found)
        near = sum(
            abs(record.values["resident"] - record.values["peak"]) <= max(0.01 * record.values["peak"], NEAR)
            for record in found
        )
        rows.append([*map(str, names), *map(str, (len(found), exact, blas, near))])
    header = ["operation", "batch", "dtype", "threads", "cells", "predicted = measured", "with BLAS's memory"]
    header += ["resident within 1 %"]
    if rows:
        yield Table("Cells measured, and how many of them agree", header, rows, records, "memory_sweep")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from here")
