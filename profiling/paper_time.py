"""The paper's run times: im2col, Winograd, FFT, and MEC as published and tuned, on its twelve layers.

im2col lowers the whole batch, as ``mec_a``, ``mec_b`` and ``mec_paper`` do, or one image after the other, as
Caffe does.  ``im2col_blocked`` multiplies by the same register tiles as tuned MEC, so what those two share is no
gain of MEC's.  "auto" is what pymec takes by itself.  All algorithms of a layer take turns, and every answer is
checked before.  Calls are those of plans: the kernel is prepared, workspace and output are given.

    python profiling/paper_time.py --coretypes native,Haswell,Sandybridge
    python profiling/paper_time.py --quick

Under kernels that are not the CPU's own only im2col and the published MEC are timed, and no layer of more than
fifty thousand million multiply-adds.  Prints Markdown tables and draws ``figures/paper_time.svg``; records go to
``results/paper_time.jsonl``, and what is known there is not measured again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from _common import (
    comma_integers,
    comma_list,
    command_line,
    geometric_mean,
    machine_line,
    markdown_table,
    progress,
)
from _figures import by_layer
from _in_turns import (
    Problem,
    add_options,
    cell_of,
    figure_of,
    in_processes,
    keep,
    kernels_in,
    newest,
    provenance,
    ratio,
    store_of,
)
from _store import Record, Store
from _timing import Canary, refuse_what_means_nothing

import pymec
from pymec import blas_kernel

PUBLISHED = ("im2col", "im2col_per_image", "mec_a", "mec_b", "mec_paper")
ALGORITHMS = (*PUBLISHED, "mec", "mec_banded", "im2col_blocked", "winograd_f4", "fft", "auto")
LONG = 50_000_000_000
"""Multiply-adds of a call that is not worth its time under kernels that are not the CPU's own."""


def main(arguments: list[str] | None = None) -> int:
    """Measure what is missing, print and draw; 1 if some layer could not be timed undisturbed."""
    options = parse(arguments)
    refuse_what_means_nothing(options.threads)
    if options.coretypes != ["here"]:
        status = in_processes("paper_time.py", arguments, options.coretypes)
    else:
        status = measure(options, store_of("paper_time", options))
    if not options.measure_only:
        records = newest(store_of("paper_time", options))
        print(provenance(records) + "\n")
        for kernel in kernels_in(records):
            print_tables([record for record in records if record.cell["blas"] == kernel], kernel)
        draw(records, figure_of("paper_time", options))
    return status


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--layers", type=comma_list(pymec.layers.PAPER))
    parser.add_argument("--batch", type=comma_integers, default=[1, 32])
    add_options(parser, seconds=0.2)
    options = parser.parse_args(arguments)
    options.layers = options.layers or (["cv9", "cv12"] if options.quick else list(pymec.layers.PAPER))
    if options.quick:
        options.seconds = min(options.seconds, 0.03)
    return options


def measure(options: argparse.Namespace, store: Store) -> int:
    """Time every layer that the store doesn't know."""
    own = blas_kernel.held_back() is None
    algorithms = ALGORITHMS if own else PUBLISHED
    canary = Canary(options.patience, options.share)
    status = 0
    print(machine_line(), file=sys.stderr)
    with progress(len(options.layers) * len(options.batch), "paper's run times") as step:
        for batch in options.batch:
            for layer in options.layers:
                shape = pymec.layers.get(layer).shape(batch)
                cells = [cell_of(layer, batch, n_threads) for n_threads in options.threads]
                missing = [cell for cell in cells if not store.known(cell)]
                if not own and shape.multiply_adds > LONG:
                    missing = []
                problem = Problem(shape) if missing else None
                for cell in missing:
                    calls, chosen = problem.calls(algorithms, cell["threads"])
                    status |= not keep(store, cell, calls, chosen, canary, options.seconds)
                step(f"{layer}, batch {batch}")
    print(canary, file=sys.stderr)
    return status


def print_tables(records: list[Record], kernel: str) -> None:
    """Milliseconds by the best call, and how many times as fast as im2col each algorithm was."""
    for batch, n_threads in sorted({(record.cell["batch"], record.cell["threads"]) for record in records}):
        of = {
            record.cell["layer"]: record
            for record in records
            if (record.cell["batch"], record.cell["threads"]) == (batch, n_threads)
        }
        layers = [layer for layer in pymec.layers.PAPER if layer in of]
        rows = []
        for label in ALGORITHMS:
            able = [layer for layer in layers if label in of[layer].values["best"]]
            if able:
                cells = [milliseconds(of[layer], label) for layer in layers]
                rows.append(
                    [f"`{label}`", *cells, f"{geometric_mean(ratio(of[layer], label) for layer in able):.2f}"]
                )
        auto = ", ".join(dict.fromkeys(record.values["auto"] for record in of.values() if "auto" in record.values))
        print(f"BLAS's kernels: {kernel}; batch {batch}, threads: {n_threads}; best call in ms (im2col's ÷ it)")
        print(f"\n{markdown_table(['algorithm', *layers, 'mean'], rows)}\n")
        print(f"auto: {auto}\n" if auto else "", end="")


def milliseconds(record: Record, label: str) -> str:
    """A time and its ratio, from one record."""
    best = record.values["best"]
    return f"{1000 * best[label]:.3g} ({ratio(record, label):.2f})" if label in best else "-"


def draw(records: list[Record], path: Path) -> None:
    """Run time over the layers, as the paper has it: a panel for each batch and number of threads."""
    kernel = kernels_in(records)[0]
    records = [record for record in records if record.cell["blas"] == kernel]
    panels = {}
    for batch, n_threads in sorted({(record.cell["batch"], record.cell["threads"]) for record in records}):
        series: dict[str, dict[str, float]] = {label: {} for label in ALGORITHMS}
        for record in records:
            if (record.cell["batch"], record.cell["threads"]) == (batch, n_threads):
                for label, seconds in record.values["best"].items():
                    series[label][record.cell["layer"]] = 1000 * seconds
        panels[f"batch {batch}, threads: {n_threads}"] = series
    by_layer(panels, "run time, ms (logarithmic)", path, "less is better; BLAS's kernels: " + kernel)


if __name__ == "__main__":
    sys.exit(main())
