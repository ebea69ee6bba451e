"""MEC in a fraction of its bytes: ``mec`` beside ``mec_banded`` with a limit of |L| / 8, and im2col.

Plans with workspace and output given, in turns in one process, every answer checked; the bytes are the plans' own.
Where no band fits that limit, the row shows dashes and a note gives the bytes of the smallest.

    python profiling/bands.py --threads 1,2
    python profiling/bands.py --layers cv6,cv11 --fraction 10
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import Any

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
from pymec import reference
from pymec.workspace import allocate_output, allocate_workspace


def main(arguments: list[str] | None = None) -> int:
    """Time every layer and print a table for each number of threads; 1 if some call could not be timed."""
    options = parse(arguments)
    refuse_what_means_nothing(options.threads)
    canary = Canary(options.patience)
    print(f"{machine_line()}\n")
    missing = False
    for n_threads in options.threads:
        rows, ratios, notes = [], [], []
        with progress(len(options.layers), f"bands t{n_threads}") as step:
            for name in options.layers:
                found = measure(name, n_threads, options, canary)
                rates, of_L = found["rates"], found["of_L"]
                missing |= not all(rates.values())
                notes += [f"- {name}: {found['refused']}"] if found["refused"] else []
                banded = rates.get("mec_banded")
                shown = [f"{rates['im2col']:.0f}", f"{rates['mec']:.0f}", f"{banded:.0f}" if banded else "-"]
                ratio = banded / rates["mec"] if banded and rates["mec"] else None
                ratios += [ratio] if ratio else []
                rows.append([name, *shown, f"{ratio:.2f}" if ratio else "-", f"{of_L:.3f}" if of_L else "-"])
                step(name)
        print(f"float32, batch 1, threads: {n_threads}; GFLOP/s of the best call\n")
        print(
            markdown_table(["layer", "im2col", "mec", "mec_banded", "mec_banded ÷ mec", "banded bytes ÷ L"], rows)
        )
        if ratios:
            print(f"\n- mec_banded ÷ mec: geometric mean {geometric_mean(ratios):.2f}, least {min(ratios):.2f}")
        print("\n".join(notes) + "\n")
    print(canary)
    return 1 if missing else 0


def positive(text: str) -> int:
    """A number of one or more, from the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of 1 or more, got {text!r}")
    return int(text)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--layers", type=comma_list(pymec.layers.PAPER), default=list(pymec.layers.PAPER))
    parser.add_argument("--threads", type=comma_integers, default=[1, 2])
    parser.add_argument("--fraction", type=positive, default=8, help="the limit is L's bytes divided by this")
    parser.add_argument("--seconds", type=float, default=1.5, help="timing of one call on one layer")
    parser.add_argument("--patience", type=int, default=300, help="dropped bursts before a layer is given up")
    return parser.parse_args(arguments)


def measure(name: str, n_threads: int, options: argparse.Namespace, canary: Canary) -> dict[str, Any]:
    """GFLOP/s of each contender, mec_banded's bytes ÷ L, and the error if no band fits."""
    shape = pymec.layers.get(name).shape()
    x, kernel = random_arrays(shape)
    L = shape.mec_size * shape.itemsize
    expected, bound = reference.conv2d(x, kernel, shape), reference.error_bound(x, kernel, shape)
    calls: dict[str, Any] = {}
    found: dict[str, Any] = {"of_L": None, "refused": None}
    for algorithm, limit in (("im2col", None), ("mec", None), ("mec_banded", L // options.fraction)):
        try:
            plan = pymec.plan(
                x.shape,
                kernel.shape,
                algorithm=algorithm,
                workspace_limit=limit,
                n_threads=n_threads,
                **shape.arguments,
            )
        except ValueError as error:
            if algorithm != "mec_banded":
                raise
            found["refused"] = str(error)
            continue
        if algorithm == "mec_banded":
            found["of_L"] = plan.workspace_nbytes / L
        out = allocate_output(shape.output_shape, np.dtype("float32"))
        workspace = allocate_workspace(plan.workspace_nbytes)
        plan.prepare(kernel)
        call = calls[algorithm] = partial(plan, x, out=out, workspace=workspace)
        check(call(), expected, bound, f"{algorithm} on {name} with {n_threads} threads")
    times = take_turns(calls, n_threads, options.seconds, canary)
    found["rates"] = {
        algorithm: 2 * shape.multiply_adds / min(times[algorithm]) / 1e9 if times[algorithm] else 0.0
        for algorithm in calls
    }
    return found


if __name__ == "__main__":
    sys.exit(main())
