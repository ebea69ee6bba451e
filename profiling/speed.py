"""How fast the algorithms are on the paper's layers, how fast MEC lowers, and the overhead of a call.

Three sections, each with one thread and with more, in one run:

speed      GFLOP/s (2 × the multiply-adds of the definition) of ``pymec.conv2d`` as a user calls it and, with
           --reuse, also with ``workspace`` and ``out`` given; the ratios to im2col
lowering   bytes per second of MEC's lowering, 2 × |L|, against this machine's own copying
overhead   microseconds that ``conv2d`` and a plan take on a tiny layer beyond the kernel's own run

Every answer is checked before it is timed: by ``pymec.reference`` within its error bound, or to the bit.
Calls are timed one by one, in short bursts, the algorithms taking turns; tables give the best and the median
call.  Before and after each burst on several threads a fixed product, the canary, must run nearly n times
as fast on n threads as on one.  If it doesn't, the threads didn't have a core each: the burst is dropped and
repeated, up to --patience times per layer and thread count.

    python profiling/speed.py --reuse --json profiling/results/speed.json
    python profiling/speed.py --layers cv4,cv5 --algorithms im2col,mec,mec_banded --threads 1
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _common import (
    comma_integers,
    comma_list,
    command_line,
    geometric_mean,
    machine,
    machine_line,
    markdown_table,
    mib,
    progress,
)
from _limits import caches
from _timing import Canary, check, random_arrays, refuse_what_means_nothing, statistics_of, take_turns
from numpy.typing import NDArray

import pymec
from pymec import reference, registry
from pymec.kernels.mec import tuned as mec

BASELINE = "im2col"
SECTIONS = ("speed", "lowering", "overhead")


def main(arguments: list[str] | None = None) -> int:
    """Run the sections asked for; 1 if some call could not be timed undisturbed."""
    options = parse(arguments)
    refuse_what_means_nothing(options.threads)
    canary = Canary(options.patience, options.share)
    print(f"{machine_line()}\n")
    found: dict[str, Any] = {
        "machine": machine(),
        "options": {k: v for k, v in vars(options).items() if k != "json"},
    }
    if "speed" in options.sections:
        found["speed"] = time_layers(options, canary)
        print_speed(found["speed"], options)
    if "lowering" in options.sections:
        found["lowering"] = time_lowering(options, canary)
        print_lowering(found["lowering"])
    if "overhead" in options.sections:
        found["overhead"] = time_overhead(options, canary)
        print_overhead(found["overhead"])
    found["canary"] = canary.as_dict()
    print(canary)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    records = [record for section in SECTIONS for record in found.get(section, ())]
    return 1 if any(record["calls"] == 0 for record in records) else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--layers", type=comma_list(pymec.layers.PAPER), default=list(pymec.layers.PAPER))
    parser.add_argument(
        "--algorithms",
        type=comma_list(pymec.algorithms()),
        default=[BASELINE, "mec", "mec_banded", "mec_b"],
        help="im2col is always among them",
    )
    parser.add_argument("--threads", type=comma_integers, default=[1, 2])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--reuse", action="store_true", help="time calls with workspace and out given, too")
    parser.add_argument("--seconds", type=float, default=1.0, help="timing of one call on one layer")
    parser.add_argument("--patience", type=int, default=300, help="dropped bursts before a layer is given up")
    parser.add_argument(
        "--share",
        type=float,
        default=0.75,
        help="of n times one thread's best rate, what the canary must reach on n threads",
    )
    parser.add_argument("--sections", type=comma_list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--json", type=Path, help="write every number here, too")
    options = parser.parse_args(arguments)
    options.algorithms = list(dict.fromkeys([BASELINE, *options.algorithms]))
    return options


# Speed --------------------------------------------------------------------------------------------------


def time_layers(options: argparse.Namespace, canary: Canary) -> list[dict[str, Any]]:
    """A record per layer, thread count, way to call and algorithm."""
    records = []
    with progress(len(options.layers) * len(options.threads), "speed") as step:
        for layer in options.layers:
            shape = pymec.layers.get(layer).shape(options.batch)
            x, kernel = random_arrays(shape)
            expected = reference.conv2d(x, kernel, shape)
            bound = reference.error_bound(x, kernel, shape)
            time.sleep(0.1)  # until NumPy's BLAS threads, which the reference used, have gone to sleep
            for n_threads in options.threads:
                calls = conv2d_calls(x, kernel, shape, n_threads, options.algorithms)
                for (_, algorithm), call in calls.items():
                    check(call(), expected, bound, f"{algorithm} on {layer} with {n_threads} threads")
                if not options.reuse:
                    calls = {label: call for label, call in calls.items() if label[0] != "reusing"}
                times = take_turns(calls, n_threads, options.seconds, canary)
                for (calling, algorithm), times_of_one in times.items():
                    record = {"layer": layer, "n_threads": n_threads, "calling": calling}
                    record |= {"algorithm": algorithm, "flops": 2 * shape.multiply_adds}
                    records.append(record | statistics_of(times_of_one))
                step(f"{layer} t{n_threads}")
    return records


def conv2d_calls(
    x: NDArray, kernel: NDArray, shape: pymec.ConvShape, n_threads: int, algorithms: Sequence[str]
) -> dict[tuple[str, str], Callable[[], NDArray]]:
    """``conv2d`` by each algorithm: as a user calls it, and with workspace and out given.

    Both are full of NaN before the first call, so that the check finds elements that were not written.
    """
    calls: dict[tuple[str, str], Callable[[], NDArray]] = {}
    for algorithm in algorithms:
        arguments = {**shape.arguments, "algorithm": algorithm, "n_threads": n_threads}
        nbytes = pymec.workspace_size(x.shape, kernel.shape, **arguments)
        given = {
            **arguments,
            "workspace": np.full(nbytes // shape.itemsize, np.nan, shape.dtype),
            "out": np.full(shape.output_shape, np.nan, shape.dtype),
        }
        calls["as called", algorithm] = partial(pymec.conv2d, x, kernel, **arguments)
        calls["reusing", algorithm] = partial(pymec.conv2d, x, kernel, **given)
    return calls


def print_speed(records: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """A table per way to call and thread count: GFLOP/s and the ratios to im2col."""
    titles = {"as called": "conv2d as called", "reusing": "conv2d with workspace and out given"}
    work = f"batch {options.batch}, float32"
    others = [name for name in options.algorithms if name != BASELINE]
    for calling in dict.fromkeys(record["calling"] for record in records):
        for n_threads in options.threads:
            chosen = {
                (record["layer"], record["algorithm"]): record
                for record in records
                if (record["calling"], record["n_threads"]) == (calling, n_threads)
            }
            print(f"{titles[calling]}, {work}, threads: {n_threads}; GFLOP/s, best / median\n")
            header = ["layer", *options.algorithms, *(f"{name} ÷ {BASELINE}" for name in others)]
            rows = [
                [layer, *(both(gflops(chosen[layer, name]), "{:.0f}") for name in options.algorithms)]
                + [both(ratio(chosen[layer, name], chosen[layer, BASELINE]), "{:.2f}") for name in others]
                for layer in options.layers
            ]
            print(markdown_table(header, rows) + "\n")
            for name in others:
                pairs = [ratio(chosen[layer, name], chosen[layer, BASELINE]) for layer in options.layers]
                print(f"- {name} ÷ {BASELINE}, {verdict([pair for pair in pairs if pair])}")
            print()


def gflops(record: dict[str, Any]) -> tuple[float, float] | None:
    """GFLOP/s of the best and of the median call."""
    if not record["calls"]:
        return None
    return 1e-9 * record["flops"] / record["best"], 1e-9 * record["flops"] / record["median"]


def ratio(record: dict[str, Any], baseline: dict[str, Any]) -> tuple[float, float] | None:
    """How many times faster than the baseline, by best and by median."""
    if not record["calls"] or not baseline["calls"]:
        return None
    return baseline["best"] / record["best"], baseline["median"] / record["median"]


def both(pair: tuple[float, float] | None, form: str) -> str:
    """``best / median``, or a dash."""
    return " / ".join(map(form.format, pair)) if pair else "-"


def verdict(pairs: list[tuple[float, float]]) -> str:
    """The number of layers with a ratio of 1 or more, and the geometric mean of the ratios."""
    parts = []
    for name, ratios in zip(("best", "median"), zip(*pairs, strict=True), strict=False):
        at_least = sum(value >= 1 for value in ratios)
        parts.append(f"{name}: ≥ 1 on {at_least} of {len(pairs)}, geometric mean {geometric_mean(ratios):.2f}")
    return "; ".join(parts) or "not timed"


# Lowering -----------------------------------------------------------------------------------------------


def time_lowering(options: argparse.Namespace, canary: Canary) -> list[dict[str, Any]]:
    """A record per thread count and layer, and one of plain copying beside them."""
    shapes = {layer: pymec.layers.get(layer).shape(options.batch) for layer in options.layers}
    jobs = {layer: (random_arrays(s)[0], np.full(s.mec_size, np.nan, s.dtype)) for layer, s in shapes.items()}
    records = []
    with (
        ThreadPoolExecutor(max(options.threads)) as pool,
        progress(len(options.threads), "lowering") as step,
    ):
        source = np.ones(4 * max(caches().values()), np.uint8)
        target = np.zeros_like(source)
        for n_threads in options.threads:
            calls: dict[str, Callable[[], object]] = {
                layer: lambda layer=layer, n=n_threads: mec.lower(*jobs[layer], shapes[layer], n)
                for layer in options.layers
            }
            calls["copy"] = lambda n=n_threads: copy_on_threads(pool, source, target, n)
            target.fill(0)
            for layer, (x, L) in jobs.items():
                L.fill(np.nan)
                calls[layer]()
                if not np.array_equal(L, lowered_by_numpy(x, shapes[layer])):
                    sys.exit(f"wrong answer: L of {layer} with {n_threads} threads")
            calls["copy"]()
            if not np.array_equal(source, target):
                sys.exit(f"wrong answer: copying with {n_threads} threads")
            for name, times in take_turns(calls, n_threads, options.seconds, canary).items():
                nbytes = 2 * (source if name == "copy" else jobs[name][1]).nbytes
                record = {"what": name, "n_threads": n_threads, "bytes": nbytes}
                records.append({**record, **statistics_of(times)})
            step(f"t{n_threads}")
    return records


def copy_on_threads(pool: ThreadPoolExecutor, source: NDArray, target: NDArray, n_threads: int) -> None:
    """Copy, a slice per thread; NumPy lets go of the interpreter lock for it."""
    list(pool.map(np.copyto, np.array_split(target, n_threads), np.array_split(source, n_threads)))


def lowered_by_numpy(x: NDArray, shape: pymec.ConvShape) -> NDArray:
    """L of a layer without padding, by NumPy's windows: (i_n, o_w, r_h, k_w, i_c), flat."""
    windows = np.lib.stride_tricks.sliding_window_view(x, shape.k_w, axis=2)  # (i_n, i_h, ., i_c, k_w)
    return windows[:, : shape.lowered_rows(), :: shape.s_w].transpose(0, 2, 1, 4, 3).reshape(-1)


def print_lowering(records: list[dict[str, Any]]) -> None:
    """GB/s per layer and thread count, and the share of what copying reaches."""
    thread_counts = list(dict.fromkeys(record["n_threads"] for record in records))
    by_name = {(record["what"], record["n_threads"]): record for record in records}
    copied = mib(by_name["copy", thread_counts[0]]["bytes"] // 2)
    print(f"MEC's lowering, 2 × L's bytes, GB/s, best / median; beside it copying {copied} MiB\n")
    header = ["layer", "L, MiB"]
    for n_threads in thread_counts:
        header += [f"GB/s, threads: {n_threads}", "of copying"]
    rows = []
    for name in dict.fromkeys(record["what"] for record in records):
        row = [name, mib(by_name[name, thread_counts[0]]["bytes"] // 2)]
        for n_threads in thread_counts:
            record, copy = by_name[name, n_threads], by_name["copy", n_threads]
            row += [both(gigabytes(record), "{:.1f}"), share(gigabytes(record), gigabytes(copy))]
        rows.append(row)
    print(markdown_table(header, rows) + "\n")


def gigabytes(record: dict[str, Any]) -> tuple[float, float] | None:
    """GB/s of the best and of the median call."""
    if not record["calls"]:
        return None
    return 1e-9 * record["bytes"] / record["best"], 1e-9 * record["bytes"] / record["median"]


def share(rate: tuple[float, float] | None, whole: tuple[float, float] | None) -> str:
    """A rate in per cent of another one."""
    return both((rate[0] / whole[0], rate[1] / whole[1]), "{:.0%}") if rate and whole else "-"


# Overhead -----------------------------------------------------------------------------------------------


def time_overhead(options: argparse.Namespace, canary: Canary) -> list[dict[str, Any]]:
    """A record per algorithm and way to call on a layer of 5,184 multiply-adds, one thread."""
    shape = pymec.ConvShape.from_shapes((1, 5, 5, 8), (3, 3, 8, 8))
    x, kernel = random_arrays(shape)
    expected, bound = reference.conv2d(x, kernel, shape), reference.error_bound(x, kernel, shape)
    calls: dict[tuple[str, str], Callable[[], object]] = {}
    for name in options.algorithms:
        row = registry.get(name)
        schedule = row.schedule(shape, 1, None)
        workspace = np.full(schedule.size, np.nan, shape.dtype)
        out = np.full(shape.output_shape, np.nan, shape.dtype)
        plan = pymec.plan(x.shape, kernel.shape, algorithm=name, n_threads=1).prepare(kernel)

        def run(row=row, out=out, workspace=workspace, schedule=schedule) -> NDArray:
            row.run(x, kernel, out, workspace, shape, 1, **schedule.options)
            return out

        def plan_reusing(plan=plan, out=out, workspace=workspace) -> NDArray:
            return plan(x, out=out, workspace=workspace)

        def conv2d_reusing(name=name, out=out, workspace=workspace) -> NDArray:
            return pymec.conv2d(x, kernel, algorithm=name, out=out, workspace=workspace, n_threads=1)

        def conv2d(name=name) -> NDArray:
            return pymec.conv2d(x, kernel, algorithm=name, n_threads=1)

        for call in (run, plan_reusing, conv2d_reusing, conv2d):
            out.fill(np.nan)
            check(call(), expected, bound, f"{name} ({call.__name__}) on the tiny layer")
            calls[name, call.__name__] = call
    times = take_turns(calls, 1, options.seconds, canary)
    return [{"algorithm": n, "what": what, **statistics_of(t)} for (n, what), t in times.items()]


def print_overhead(records: list[dict[str, Any]]) -> None:
    """Microseconds of the kernel's run, and what each way to call adds to them."""
    print("input 1×5×5×8, kernel 3×3×8×8, 1 thread: microseconds, best / median\n")
    header = ["algorithm", "kernel's run", "+ plan, all given", "+ conv2d, all given", "+ conv2d as called"]
    by_name = {(record["algorithm"], record["what"]): record for record in records}
    rows = []
    for name in dict.fromkeys(record["algorithm"] for record in records):
        run = by_name[name, "run"]
        row = [name, both((1e6 * run["best"], 1e6 * run["median"]), "{:.1f}")]
        for what in ("plan_reusing", "conv2d_reusing", "conv2d"):
            record = by_name[name, what]
            added = 1e6 * (record["best"] - run["best"]), 1e6 * (record["median"] - run["median"])
            row.append(both(added, "{:.1f}"))
        rows.append(row)
    print(markdown_table(header, rows) + "\n")


if __name__ == "__main__":
    sys.exit(main())
