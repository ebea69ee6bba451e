"""The paper's memory figure: the workspace of im2col, Winograd, FFT and MEC on its twelve layers, by memray.

The same algorithms as in ``paper_time.py``, and besides the forms of Winograd's and the Fourier transforms that
need less: ``winograd_f4_banded`` and ``fft_lean``.  Each call is measured in a fresh process and compared with its
formula.  Where two threads take as many bytes as one, one thread is measured.

    python profiling/paper_memory.py
    python profiling/paper_memory.py --batch 1 --layers cv9,cv12

Prints Markdown tables and draws ``figures/paper_memory.svg``; records go to ``results/paper_memory.jsonl``, and
what is known there is not measured again.  The exit status is 1 if a formula and memray differ by a byte.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from _common import (
    MIB,
    Cell,
    comma_integers,
    comma_list,
    command_line,
    geometric_mean,
    measure_cells,
    mib,
    usable_cpus,
)
from _figures import by_layer
from _in_turns import add_store_options, figure_of, free_memory, newest, store_of
from _measured_bytes import bytes_known, sizes_of
from _store import Record, Store
from _tables import Table, entries, groups, plural, show

import pymec
from pymec import registry

ALGORITHMS = (
    "im2col", "im2col_per_image", "mec_a", "mec_b", "mec_paper", "mec", "mec_banded", "im2col_blocked",
    "winograd_f2", "winograd_f4", "winograd_f4_banded", "fft", "fft_lean", "auto",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Measure what is missing, print and draw; the exit status."""
    options = parse(arguments)
    store = store_of("paper_memory", options)
    status = measure(options, store)
    records = newest(store)
    show(tables(records))
    inexact = [
        f"{record.cell['layer']}, batch {record.cell['i_n']}, {plural(record.cell['n_threads'])}: {name}"
        for record in records
        for name in wrong(record)
    ]
    count = sum(len(record.values) for record in records)
    print(f"predicted == measured, to the byte: {count - len(inexact)} of {count} cells")
    print("".join(f"different: {what}\n" for what in inexact), end="")
    draw(records, figure_of("paper_memory", options))
    return status | bool(inexact)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--layers", type=comma_list(pymec.layers.PAPER))
    parser.add_argument("--batch", type=comma_integers, default=[1, 32])
    parser.add_argument("--threads", type=comma_integers, default=[1, 2])
    parser.add_argument("--workers", type=int, default=usable_cpus(), help="processes at once")
    add_store_options(parser)
    options = parser.parse_args(arguments)
    options.layers = options.layers or (["cv9", "cv12"] if options.quick else list(pymec.layers.PAPER))
    return options


class Wanted(NamedTuple):
    """A record to be made: its cell, the calls that it is to have, and what is known of them so far."""

    cell: dict[str, Any]
    calls: list[Cell]
    no_room: list[str]
    largest: int
    """Bytes of the largest workspace."""
    reports: dict[Cell, Any]


def measure(options: argparse.Namespace, store: Store) -> int:
    """Measure the layers that the store doesn't know, small ones side by side; 1 if some process failed."""
    wanted = [
        wanted_of(cell, min(options.threads))
        for i_n in options.batch
        for name in options.layers
        for n_threads in options.threads
        for cell in [{"layer": name, "i_n": i_n, "n_threads": n_threads}]
        if options.again or not bytes_known(store, cell)
    ]
    most = free_memory() // 8
    status = measure_records(store, [one for one in wanted if one.largest <= most], options.workers)
    return status | measure_records(store, [one for one in wanted if one.largest > most], 1)


def wanted_of(cell: dict[str, Any], fewest: int) -> Wanted:
    """A call of every algorithm that can do the layer and finds room.

    What takes as many bytes on the fewest threads is measured there alone.
    """
    shape, n_threads = pymec.layers.get(cell["layer"]).shape(cell["i_n"]), cell["n_threads"]
    able = [name for name in ALGORITHMS if name == "auto" or not registry.get(name).unsupported(shape)]
    plans = {name: planned(shape, name, n_threads) for name in able}
    if n_threads > fewest:
        able = [name for name in able if plans[name] != planned(shape, name, fewest)]
    no_room = [name for name in able if plans[name][1] > free_memory() // 2]
    calls = [Cell(cell["layer"], shape, name, n_threads) for name in able if name not in no_room]
    return Wanted(cell, calls, no_room, max(size for _, size in plans.values()), {})


def measure_records(store: Store, wanted: Sequence[Wanted], workers: int) -> int:
    """Measure the calls of all records by the same processes, which take a second to start; 1 if one failed.

    A record is added as soon as it is whole.  It says which algorithms found no room, so that the next run tries
    again; a record of which a process failed is not added.
    """
    status = 0
    waiting = {call: record for record in wanted for call in record.calls}
    for call, report in measure_cells(waiting, workers, "paper's memory") if waiting else ():
        record = waiting[call]
        record.reports[call] = report
        if isinstance(report, MemoryError):
            record.no_room.append(call.algorithm)
        elif isinstance(report, Exception):
            print(f"{call}: {report}", file=sys.stderr)
            status = 1
        if len(record.reports) == len(record.calls):
            add(store, record)
    for record in wanted:
        for name in record.no_room:
            print(f"{name} is left out on {record.cell}: it doesn't fit here", file=sys.stderr)
    return status


def add(store: Store, record: Wanted) -> None:
    """Keep what was measured, unless a process failed or nothing found room."""
    reports = {name: report for name, report in record.reports.items() if not isinstance(report, MemoryError)}
    if reports and not any(isinstance(report, Exception) for report in reports.values()):
        values = {call.algorithm: sizes_of(found, call.algorithm) for call, found in reports.items()}
        store.add(record.cell, values, how={"no_room": record.no_room} if record.no_room else None)


def planned(shape: pymec.ConvShape, name: str, n_threads: int) -> tuple[str, int]:
    """The algorithm behind a name, and its bytes by the formula."""
    plan = pymec.plan(
        shape.input_shape, shape.kernel_shape, algorithm=name, n_threads=n_threads, **shape.arguments
    )
    return plan.algorithm, plan.workspace_nbytes + plan.prepared_nbytes


def wrong(record: Record) -> list[str]:
    """The algorithms whose formula and measurement differ."""
    return [name for name, value in record.values.items() if value["workspace"] != value["predicted"]]


def tables(records: Sequence[Record]) -> Iterator[Table]:
    """Workspace by algorithm and layer, and how many times smaller than im2col's it is."""
    for (i_n, n_threads), found in groups(records, "i_n", "n_threads").items():
        layers = {record.cell["layer"]: record for record in found}
        header = ["algorithm", *entries(found, "layer"), "mean"]
        im2col = {layer: 4 * pymec.layers.get(layer).shape(i_n).im2col_size for layer in layers}
        rows = []
        for name in ALGORITHMS:
            sizes = {
                layer: record.values[name]["workspace"]
                for layer, record in layers.items()
                if name in record.values
            }
            if sizes:
                ratios = [im2col[layer] / size for layer, size in sizes.items() if size]
                cells = [bytes_of(layers[layer], name, im2col[layer]) for layer in header[1:-1]]
                rows.append([f"`{name}`", *cells, f"{geometric_mean(ratios):.2f}" if ratios else "∞"])
        title = f"Workspace in MiB (im2col's ÷ it), batch {i_n}, float32, {plural(n_threads)}"
        notes = ["where it takes other bytes than one thread"] if n_threads > 1 else []
        yield Table(title, header, rows, found, "paper_memory", notes)


def bytes_of(record: Record, name: str, im2col: int) -> str:
    """A size and its ratio, or a dash."""
    if name not in record.values:
        return "-"
    size = record.values[name]["workspace"]
    return (f"{mib(size)} ({im2col / size:.2f})" if size else "0") + record.marks(name)


def draw(records: Sequence[Record], path: Path) -> None:
    """Workspace over the layers, as the paper has it, on one thread: a panel for each batch."""
    panels = {}
    for (i_n, n_threads), found in groups(records, "i_n", "n_threads").items():
        if n_threads == 1:
            panels[f"batch {i_n}"] = {
                name: {
                    r.cell["layer"]: r.values[name]["workspace"] / MIB
                    for r in found
                    if r.values.get(name, {}).get("workspace")
                }
                for name in ALGORITHMS
            }
    by_layer(panels, "workspace, MiB (logarithmic)", path, "measured by memray; less is better")


def redraw(path: Path) -> bool:
    """Draw what the store has, if it has anything."""
    records = newest(Store("paper_memory"))
    if records:
        draw(records, path)
    return bool(records)


if __name__ == "__main__":
    sys.exit(main())
