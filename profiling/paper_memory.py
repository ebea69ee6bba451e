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
from pathlib import Path

from _common import (
    MIB,
    comma_integers,
    comma_list,
    command_line,
    geometric_mean,
    markdown_table,
    measure_cells,
    mib,
    usable_cpus,
)
from _common import Cell as Measured
from _figures import by_layer
from _in_turns import add_store_options, figure_of, free_memory, newest, store_of
from _store import Record, Store

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
    inexact = [f"{cell_name(record)} {name}" for record in records for name in wrong(record)]
    for batch, n_threads in sorted({(record.cell["batch"], record.cell["threads"]) for record in records}):
        of = {r.cell["layer"]: r for r in records if (r.cell["batch"], r.cell["threads"]) == (batch, n_threads)}
        print(f"Workspace, batch {batch}, float32, threads: {n_threads}; MiB (im2col's ÷ it)\n\n{table(of)}\n")
    count = sum(len(record.values["workspace"]) for record in records)
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
    for batch in options.batch:
        for name in options.layers:
            shape = pymec.layers.get(name).shape(batch)
            for n_threads in options.threads:
                cell = {"layer": name, "batch": batch, "threads": n_threads}
                if not store.known(cell):
                    status |= not measure_layer(store, cell, shape, options)
    return status


def measure_layer(store: Store, cell: dict, shape: pymec.ConvShape, options: argparse.Namespace) -> bool:
    """One record: every algorithm that can do the layer; False if a process failed."""
    n_threads = cell["threads"]
    able = [name for name in ALGORITHMS if name == "auto" or not registry.get(name).unsupported(shape)]
    plans = {name: planned(shape, name, n_threads) for name in able}
    if n_threads > min(options.threads):  # the same bytes on fewer threads are measured there
        able = [name for name in able if plans[name] != planned(shape, name, min(options.threads))]
    big = [name for name in able if plans[name][1] > free_memory() // 2]
    for name in big:
        print(f"{name} is left out on {cell}: {plans[name][1] / MIB:.0f} MiB don't fit here", file=sys.stderr)
    cells = [Measured(cell["layer"], shape, name, n_threads) for name in able if name not in big]
    if not cells:
        return True
    workers = 1 if max(size for _, size in plans.values()) > free_memory() // 8 else options.workers
    values: dict[str, dict] = {"workspace": {}, "predicted": {}, "algorithm": {}}
    for measured, report in measure_cells(cells, workers, f"paper's memory, batch {shape.i_n}"):
        if isinstance(report, Exception):
            print(f"{measured}: {report}", file=sys.stderr)
            return False
        values["workspace"][measured.algorithm] = report.workspace
        values["predicted"][measured.algorithm] = report.predicted
        values["algorithm"][measured.algorithm] = report.algorithm
    store.add(cell, values, dict.fromkeys(values["algorithm"].values()))
    return True


def planned(shape: pymec.ConvShape, name: str, n_threads: int) -> tuple[str, int]:
    """The algorithm behind a name, and its bytes by the formula."""
    plan = pymec.plan(
        shape.input_shape, shape.kernel_shape, algorithm=name, n_threads=n_threads, **shape.arguments
    )
    return plan.algorithm, plan.workspace_nbytes + plan.prepared_nbytes


def wrong(record: Record) -> list[str]:
    """The algorithms whose formula and measurement differ."""
    return [name for name, size in record.values["workspace"].items() if size != record.values["predicted"][name]]


def cell_name(record: Record) -> str:
    """A record's cell in words."""
    return "{layer}, batch {batch}, threads: {threads},".format(**record.cell)


def table(of: dict[str, Record]) -> str:
    """A row for each algorithm."""
    layers = [layer for layer in pymec.layers.PAPER if layer in of]
    rows = []
    for name in ALGORITHMS:
        sizes = {layer: of[layer].values["workspace"].get(name) for layer in layers}
        if any(size is not None for size in sizes.values()):
            im2col = {
                layer: pymec.layers.get(layer).shape(of[layer].cell["batch"]).im2col_size * 4 for layer in layers
            }
            savings = [im2col[layer] / size for layer, size in sizes.items() if size]
            cells = [
                f"{mib(size)} ({im2col[layer] / size:.2f})" if size else "0" if size == 0 else "-"
                for layer, size in sizes.items()
            ]
            rows.append([f"`{name}`", *cells, f"{geometric_mean(savings):.2f}" if savings else "∞"])
    return markdown_table(["algorithm", *layers, "mean"], rows)


def draw(records: list[Record], path: Path) -> None:
    """Workspace over the layers, as the paper has it, on one thread: a panel for each batch."""
    panels = {}
    for batch in sorted({record.cell["batch"] for record in records}):
        of = [record for record in records if (record.cell["batch"], record.cell["threads"]) == (batch, 1)]
        panels[f"batch {batch}"] = {
            name: {r.cell["layer"]: size / MIB for r in of if (size := r.values["workspace"].get(name))}
            for name in ALGORITHMS
        }
    by_layer(panels, "workspace, MiB (logarithmic)", path, "measured by memray; less is better")


if __name__ == "__main__":
    sys.exit(main())
