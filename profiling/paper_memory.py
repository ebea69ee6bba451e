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
from typing import Any

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
from _measured_bytes import bytes_known
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


def measure(options: argparse.Namespace, store: Store) -> int:
    """Measure the layers that the store doesn't know; 1 if some process failed."""
    status = 0
    for i_n in options.batch:
        for name in options.layers:
            for n_threads in options.threads:
                cell = {"layer": name, "i_n": i_n, "n_threads": n_threads}
                if options.again or not bytes_known(store, cell):
                    status |= not measure_layer(store, cell, options)
    return status


def measure_layer(store: Store, cell: dict[str, Any], options: argparse.Namespace) -> bool:
    """One record: every algorithm that can do the layer and finds room; False if a process failed.

    The record says which ones found none, so that the next run tries again.
    """
    shape, n_threads = pymec.layers.get(cell["layer"]).shape(cell["i_n"]), cell["n_threads"]
    able = [name for name in ALGORITHMS if name == "auto" or not registry.get(name).unsupported(shape)]
    plans = {name: planned(shape, name, n_threads) for name in able}
    if n_threads > min(options.threads):  # the same bytes on fewer threads are measured there
        able = [name for name in able if plans[name] != planned(shape, name, min(options.threads))]
    no_room = [name for name in able if plans[name][1] > free_memory() // 2]
    cells = [Cell(cell["layer"], shape, name, n_threads) for name in able if name not in no_room]
    workers = 1 if max(size for _, size in plans.values()) > free_memory() // 8 else options.workers
    values = {}
    title = f"paper's memory, batch {shape.i_n}"
    for measured, report in measure_cells(cells, workers, title) if cells else ():
        if isinstance(report, MemoryError):
            no_room.append(measured.algorithm)
            continue
        if isinstance(report, Exception):
            print(f"{measured}: {report}", file=sys.stderr)
            return False
        sizes = {"workspace": report.workspace, "predicted": report.predicted}
        values[measured.algorithm] = {**sizes, "by": report.algorithm}
    for name in no_room:
        print(f"{name} is left out on {cell}: {plans[name][1] / MIB:.0f} MiB don't fit here", file=sys.stderr)
    if values:
        store.add(cell, values, how={"no_room": no_room} if no_room else None)
    return True


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
