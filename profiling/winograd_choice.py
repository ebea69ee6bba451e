"""The estimate that chooses Winograd's tile, compared with measured times.

For 3×3 layers with stride 1: the cycles that ``pymec.kernels.winograd.bands`` estimates for bands of F(2×2),
F(4×4) and F(6×6) and for the definition in register tiles, and the times measured with the kernel prepared.
The best of each is in bold; the last lines say how often the estimate chose the fastest, and what its choices
lose.

    python profiling/winograd_choice.py --threads 1,2
    python profiling/winograd_choice.py --layers cv9,cv10 --batch 4
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
from _common import comma_integers, comma_list, command_line, geometric_mean
from _in_turns import Problem
from _store import Record, Store
from _tables import Table, groups, plural, show
from _timing import Contender, refuse_what_means_nothing, time_cells, timing_arguments

import pymec
from pymec import registry
from pymec.kernels.winograd.bands import tile_cycles, winograd_bands
from pymec.kernels.winograd.rows import TILES, usual_band

WAYS = {"definition": "direct_panels", **{f"F({m}×{m})": f"winograd_f{m}_banded" for m in TILES}}
SUITED = tuple(
    name
    for name in pymec.layers.names()
    if registry.get("winograd_f4_banded").unsupported(pymec.layers.get(name).shape()) is None
    and pymec.layers.get(name).shape().groups == 1
)


def main(arguments: list[str] | None = None) -> int:
    """Estimate and measure; 1 if some cell could not be timed undisturbed."""
    options = parse(arguments)
    refuse_what_means_nothing(options.threads)
    store = Store("winograd_choice", options.records)
    cells = [
        {"layer": layer, "i_n": options.batch, "n_threads": n_threads}
        for layer, n_threads in itertools.product(options.layers, options.threads)
    ]
    failed = time_cells(store, cells, options, contenders, tuple(WAYS), estimated_of)
    show(tables(store.here(cells)))
    return 1 if failed else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--layers", type=comma_list(SUITED), default=list(SUITED))
    parser.add_argument("--threads", type=comma_integers, default=[1, 2])
    parser.add_argument("--batch", type=int, default=1)
    timing_arguments(parser, seconds=0.2)
    return parser.parse_args(arguments)


def shape_of(cell: dict[str, Any]) -> pymec.ConvShape:
    """The layer of a cell."""
    return pymec.layers.get(cell["layer"]).shape(cell["i_n"])


def estimates(shape: pymec.ConvShape, n_threads: int) -> dict[str, float]:
    """Cycles of every way."""
    found = {"definition": tile_cycles(shape, n_threads)}
    for m in TILES:
        found[f"F({m}×{m})"] = winograd_bands(shape, m, n_threads, usual_band(m, shape)).cycles
    return found


def estimated_of(cell: dict[str, Any]) -> dict[str, Any]:
    """The estimates, which depend on the CPU's caches."""
    return {"estimated": estimates(shape_of(cell), cell["n_threads"])}


@lru_cache(1)
def problem_of(layer: str, i_n: int) -> Problem:
    """A layer's arrays and right answer, made once for all thread counts."""
    return Problem(pymec.layers.get(layer).shape(i_n))


def contenders(cell: dict[str, Any]) -> dict[str, Contender]:
    """A call of every way, its answer checked."""
    problem = problem_of(cell["layer"], cell["i_n"])
    shape, x, kernel = problem.shape, problem.x, problem.kernel
    made = {}
    for way, algorithm in WAYS.items():
        plan = pymec.plan(
            x.shape, kernel.shape, algorithm=algorithm, n_threads=cell["n_threads"], **shape.arguments
        ).prepare(kernel)
        call = partial(plan, x, out=problem.out, workspace=np.full(plan.workspace_nbytes, 255, np.uint8))
        made[way] = problem.checked(call, algorithm, algorithm)
    return made


def tables(records: Sequence[Record]) -> Iterator[Table]:
    """The estimates beside the measured times, for each batch and thread count."""
    header = ["layer", *(f"{way}, kcycles" for way in WAYS), *(f"{way}, µs" for way in WAYS)]
    for (i_n, n_threads), found in groups(records, "i_n", "n_threads").items():
        rows, losses = [], []
        for record in found:
            estimated = record.how["estimated"]
            measured = {way: record.values[way]["best"] for way in WAYS}
            losses.append(measured[min(estimated, key=estimated.__getitem__)] / min(measured.values()))
            marks = [record.marks(way) for way in WAYS]
            times = [cell + mark for cell, mark in zip(cells(measured, 1e6), marks, strict=True)]
            rows.append([record.cell["layer"], *cells(estimated, 1e-3), *times])
        best = sum(loss == 1 for loss in losses)
        lost = f"{geometric_mean(losses):.3f} times as long in geometric mean, {max(losses):.2f} at worst"
        note = f"the estimate chose the fastest of four in {best} of {len(losses)} layers; its choices take {lost}"
        title = f"Estimated cycles and measured times, batch {i_n}, float32, {plural(n_threads)}"
        yield Table(title, header, rows, found, "winograd_choice", [note])


def cells(of: dict[str, float], scale: float) -> list[str]:
    """Numbers in a row, the smallest in bold."""
    least = min(of.values())
    return [f"**{scale * value:.0f}**" if value == least else f"{scale * value:.0f}" for value in of.values()]


if __name__ == "__main__":
    sys.exit(main())
