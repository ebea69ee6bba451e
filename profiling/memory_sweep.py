"""Predicted and measured workspace of every layer × operation × algorithm × threads × batch × dtype.

Each cell is one call of ``pymec.conv2d``, or of a gradient, in a fresh process under memray.  A cell is
appended to a file, one JSON object a line, as soon as it is measured: an interrupted sweep goes on where it
stopped.  Cells of another version of pymec, and cells whose formula has changed since, are measured again.

    python profiling/memory_sweep.py                                        # batch 1, float32
    python profiling/memory_sweep.py --batch 1,4 --dtype float32,float64    # everything
    python profiling/memory_sweep.py --operations conv2d_input_grad,conv2d_kernel_grad
    python profiling/memory_sweep.py --table                                # Markdown, from the file

The exit status is 1 if a cell's formula and memray differ by a byte, or a cell can't be measured.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import Any

from _common import (
    HERE,
    MIB,
    Cell,
    comma_integers,
    comma_list,
    command_line,
    markdown_table,
    measure_cells,
    usable_cpus,
)

import pymec

Key = tuple[str, str, str, int, int, str]
KEY = ("layer", "operation", "algorithm", "n_threads", "i_n", "dtype")
"""What tells a cell from all others in the file."""


def main(arguments: list[str] | None = None) -> int:
    """Sweep, or print the table; the exit status."""
    options = parse(arguments)
    done, complete_bytes = read(options.output)
    if options.table:
        print_tables(done)
        return 0

    predicted = {}
    for cell in cells(options):
        try:
            predicted[cell] = predict(cell)
        except pymec.UnsupportedShape as error:
            print(f"skipped: {cell}: {error}", file=sys.stderr)
    known = {cell for cell, nbytes in predicted.items() if done.get(key(cell), {}).get("predicted") == nbytes}
    wanted = [cell for cell in predicted if cell not in known]
    print(f"{len(predicted)} cells, {len(known)} of them in {options.output} already", file=sys.stderr)

    failed = {}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with open(options.output, "a") as file:
        file.truncate(complete_bytes)  # a line that an interruption left half-written
        for cell, report in measure_cells(wanted, options.workers, "memory"):
            if isinstance(report, Exception):
                failed[cell] = report
                continue
            record = record_of(cell, report)
            file.write(json.dumps(record) + "\n")
            file.flush()
            done[key(cell)] = record
    return summary([cell for cell in predicted if cell not in failed], done, failed)


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
    parser.add_argument("--output", type=Path, default=HERE / "results" / "memory.jsonl")
    parser.add_argument("--table", action="store_true", help="print the file as Markdown; measure nothing")
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


# The file -----------------------------------------------------------------------------------------------


def key(cell: Cell) -> Key:
    """A cell's :data:`KEY`."""
    return cell.name, cell.operation, cell.algorithm, cell.n_threads, cell.shape.i_n, cell.shape.dtype


def record_of(cell: Cell, report: pymec.memory.MemoryReport) -> dict[str, Any]:
    """A cell as a line of the file."""
    names = dict(zip(KEY, key(cell), strict=True))
    return {"pymec": pymec.__version__, **report.as_dict(), **names, "peak": report.peak}


def read(path: Path) -> tuple[dict[Key, dict[str, Any]], int]:
    """This version's cells, the latest of each, and the bytes up to the end of the last whole line."""
    content = path.read_bytes() if path.exists() else b""
    complete_bytes = content.rfind(b"\n") + 1
    found = {}
    for line in content[:complete_bytes].splitlines():
        record = {"operation": "conv2d", **json.loads(line)}
        if record["pymec"] == pymec.__version__:
            found[tuple(record[name] for name in KEY)] = record
    return found, complete_bytes


# What comes out -----------------------------------------------------------------------------------------


def summary(measured: list[Cell], done: dict[Key, dict[str, Any]], failed: dict[Cell, Exception]) -> int:
    """Print how many cells agree and which don't; the exit status."""
    differing = [cell for cell in measured if done[key(cell)]["predicted"] != done[key(cell)]["workspace"]]
    print(f"cells measured: {len(measured)}")
    print(f"predicted == measured, to the byte: {len(measured) - len(differing)}")
    print(f"different: {len(differing)}")
    for cell in differing:
        record = done[key(cell)]
        print(f"  {cell}: predicted {record['predicted']}, measured {record['workspace']}")
    for cell, error in failed.items():
        print(f"failed: {cell}: {str(error).splitlines()[-1]}")
    return 1 if differing or failed else 0


def print_tables(done: dict[Key, dict[str, Any]]) -> None:
    """A table for every operation, batch, dtype and thread count: algorithms down, layers across."""
    combinations = sorted({(operation, *rest) for _, operation, _, *rest in done}, key=str)
    for operation, n_threads, i_n, dtype in combinations:
        inside = {
            (layer, algorithm): record
            for (layer, *others), record in done.items()
            for algorithm in [others.pop(1)]
            if others == [operation, n_threads, i_n, dtype]
        }
        layers = [name for name in pymec.layers.names() if any(name == layer for layer, _ in inside)]
        algorithms = [name for name in pymec.algorithms(operation) if any(name == other for _, other in inside)]
        print(f"\n{operation}, batch {i_n}, {dtype}, {n_threads} thread{'s' if n_threads > 1 else ''}: ", end="")
        print("measured workspace in MiB (im2col's workspace ÷ this one)\n")
        rows = [[name, *(entry(inside, layer, name) for layer in layers)] for name in algorithms]
        print(markdown_table(["algorithm", *layers], rows))
    if not combinations:
        print(f"no cells of pymec {pymec.__version__} in the file; run without --table first")


def entry(inside: dict[tuple[str, str], dict[str, Any]], layer: str, algorithm: str) -> str:
    """One cell of the table; ``≠`` marks a formula that memray contradicts."""
    record, im2col = inside.get((layer, algorithm)), inside.get((layer, "im2col"))
    if record is None:
        return "-"
    nbytes = record["workspace"]
    mark = "" if nbytes == record["predicted"] else " ≠"
    ratio = f" ({im2col['workspace'] / nbytes:.2f})" if im2col and nbytes else ""
    return f"{nbytes / MIB:.3f}{ratio}{mark}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from here")
