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
import sys
from functools import partial

import numpy as np
from _common import (
    comma_integers,
    comma_list,
    command_line,
    geometric_mean,
    machine_line,
    markdown_table,
    progress,
)
from _timing import Canary, check, random_arrays, refuse_what_means_nothing, take_turns

import pymec
from pymec import reference, registry
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
    """Estimate and measure; 1 if some way could not be timed undisturbed."""
    options = parse(arguments)
    refuse_what_means_nothing(options.threads)
    canary = Canary(options.patience, options.share)
    print(f"{machine_line()}\n")
    status = 0
    for n_threads in options.threads:
        rows, losses = [], []
        with progress(len(options.layers), f"winograd t{n_threads}") as step:
            for layer in options.layers:
                shape = pymec.layers.get(layer).shape(options.batch)
                estimated, measured = estimates(shape, n_threads), times(shape, n_threads, options.seconds, canary)
                step(layer)
                if measured is None:
                    status = 1
                    continue
                losses.append(measured[min(estimated, key=estimated.__getitem__)] / min(measured.values()))
                rows.append([layer, *cells(estimated, 1e-3), *cells(measured, 1e6)])
        header = ["layer", *(f"{way}, kcycles" for way in WAYS), *(f"{way}, µs" for way in WAYS)]
        print(f"batch {options.batch}, float32, threads: {n_threads}\n\n{markdown_table(header, rows)}\n")
        if losses:
            best = sum(loss == 1 for loss in losses)
            print(
                f"the estimate chose the fastest of four in {best} of {len(losses)} layers; its choices take",
                end="",
            )
            print(f" {geometric_mean(losses):.3f} times as long in geometric mean, {max(losses):.2f} at worst\n")
    print(canary)
    return status


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--layers", type=comma_list(SUITED), default=list(SUITED))
    parser.add_argument("--threads", type=comma_integers, default=[1, 2])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.2, help="timing of one way on one layer")
    parser.add_argument("--patience", type=int, default=300, help="dropped bursts before a layer is given up")
    parser.add_argument("--share", type=float, default=0.75, help="as in speed.py")
    return parser.parse_args(arguments)


def estimates(shape: pymec.ConvShape, n_threads: int) -> dict[str, float]:
    """Cycles of every way."""
    found = {"definition": tile_cycles(shape, n_threads)}
    for m in TILES:
        found[f"F({m}×{m})"] = winograd_bands(shape, m, n_threads, usual_band(m, shape)).cycles
    return found


def times(shape: pymec.ConvShape, n_threads: int, seconds: float, canary: Canary) -> dict[str, float] | None:
    """Seconds of every way's best call, its answer checked; None if the canary never allowed it."""
    x, kernel = random_arrays(shape)
    expected = reference.conv2d(x, kernel, shape)
    out = np.empty(shape.output_shape, np.float32)
    calls = {}
    for way, algorithm in WAYS.items():
        plan = pymec.plan(
            x.shape, kernel.shape, algorithm=algorithm, n_threads=n_threads, **shape.arguments
        ).prepare(kernel)
        calls[way] = partial(plan, x, out=out, workspace=np.full(plan.workspace_nbytes, 255, np.uint8))
        out.fill(np.nan)
        calls[way]()
        check(out, expected, registry.get(algorithm).error_bound(x, kernel, shape), f"{algorithm} on {shape}")
    found = take_turns(calls, n_threads, seconds, canary)
    return {way: min(of) for way, of in found.items()} if all(found.values()) else None


def cells(of: dict[str, float], scale: float) -> list[str]:
    """Numbers in a row, the smallest in bold."""
    least = min(of.values())
    return [f"**{scale * value:.0f}**" if value == least else f"{scale * value:.0f}" for value in of.values()]


if __name__ == "__main__":
    sys.exit(main())
