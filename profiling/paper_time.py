"""The paper's run times: im2col, Winograd, FFT, and MEC as published and tuned, on its twelve layers.

im2col lowers the whole batch, as ``mec_a``, ``mec_b`` and ``mec_paper`` do, or one image after the other, as
Caffe does.  ``im2col_blocked`` multiplies by the same register tiles as tuned MEC, so what those two share is no
gain of MEC's.  "auto" is what pymec takes by itself.  All algorithms of a layer take turns, and every answer is
checked before.  Calls are those of plans: the kernel is prepared, workspace and output are given.

    python profiling/paper_time.py --coretypes native,Haswell,Sandybridge
    python profiling/paper_time.py --quick

Under kernels that are not the CPU's own only im2col and the published MEC are timed, and no layer of more than
fifty thousand million multiply-adds.  Prints tables and draws ``figures/paper_time.svg``; records go to
``results/paper_time.jsonl``, and what is known there is not measured again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from _common import comma_integers, comma_list, command_line, geometric_mean
from _figures import by_layer
from _in_turns import (
    Problem,
    add_options,
    cells_of,
    experiment,
    hurry,
    kernels_in,
    newest,
    own_kernels,
    shape_of,
    time_layers,
)
from _store import Record, Store
from _tables import Table, entries, groups, plural, ratio
from _timing import refuse_what_means_nothing

import pymec

PUBLISHED = ("im2col", "im2col_per_image", "mec_a", "mec_b", "mec_paper")
ALGORITHMS = (*PUBLISHED, "mec", "mec_banded", "im2col_blocked", "winograd_f4", "fft", "auto")
LONG = 50_000_000_000
"""Multiply-adds of a call that is not worth its time under kernels that are not the CPU's own."""


def main(arguments: list[str] | None = None) -> int:
    """Measure what is missing, print and draw; 1 if some layer could not be timed undisturbed."""
    options = parse(arguments)
    refuse_what_means_nothing(options.threads)
    return experiment("paper_time", arguments, options, measure, tables, draw)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--layers", type=comma_list(pymec.layers.PAPER))
    parser.add_argument("--batch", type=comma_integers, default=[1, 32])
    add_options(parser, seconds=0.2)
    options = parser.parse_args(arguments)
    options.layers = options.layers or (["cv9", "cv12"] if options.quick else list(pymec.layers.PAPER))
    hurry(options)
    return options


def measure(store: Store, options: argparse.Namespace) -> int:
    """Time every layer that the store doesn't know."""
    cells = cells_of(options)
    if own_kernels():
        return time_layers(store, cells, options, partial(Problem.contenders, algorithms=ALGORITHMS))
    short = [cell for cell in cells if shape_of(cell).multiply_adds <= LONG]
    return time_layers(store, short, options, partial(Problem.contenders, algorithms=PUBLISHED))


def tables(records: Sequence[Record]) -> Iterator[Table]:
    """Milliseconds by the best call, and im2col's time over each algorithm's."""
    for kernel in kernels_in(records):
        under = [record for record in records if record.cell["blas"] == kernel]
        for (i_n, n_threads), found in groups(under, "i_n", "n_threads").items():
            layers = {record.cell["layer"]: record for record in found}
            header = ["algorithm", *entries(found, "layer"), "mean"]
            rows = []
            for label in ALGORITHMS:
                ratios = [value for record in found if (value := ratio(record, "im2col", label))]
                if ratios:
                    cells = [milliseconds(layers[layer], label) for layer in header[1:-1]]
                    rows.append([f"`{label}`", *cells, f"{geometric_mean(ratios):.2f}"])
            title = f"Best call in ms (im2col's time ÷ it), batch {i_n}, {plural(n_threads)}, {kernel} kernels"
            taken = dict.fromkeys(record.values["auto"]["by"] for record in found if "auto" in record.values)
            notes = [f'"auto" takes {", ".join(f"`{name}`" for name in taken)}'] if taken else []
            yield Table(title, header, rows, found, "paper_time", notes)


def milliseconds(record: Record, label: str) -> str:
    """A time and its ratio, from one record."""
    if label not in record.values:
        return "-"
    best = 1000 * record.values[label]["best"]
    return f"{best:.3g} ({ratio(record, 'im2col', label):.2f}){record.marks(label, 'im2col')}"


def draw(records: Sequence[Record], path: Path) -> None:
    """Run time over the layers, as the paper has it: a panel for each batch and number of threads."""
    kernel = kernels_in(records)[0]
    own = [record for record in records if record.cell["blas"] == kernel]
    panels = {}
    for (i_n, n_threads), found in groups(own, "i_n", "n_threads").items():
        panels[f"batch {i_n}, {plural(n_threads)}"] = {
            label: {r.cell["layer"]: 1000 * r.values[label]["best"] for r in found if label in r.values}
            for label in ALGORITHMS
        }
    by_layer(panels, "run time, ms (logarithmic)", path, f"less is better; BLAS's kernels: {kernel}")


def redraw(path: Path) -> bool:
    """Draw what the store has, if it has anything."""
    records = newest(Store("paper_time"))
    if records:
        draw(records, path)
    return bool(records)


if __name__ == "__main__":
    sys.exit(main())
