"""pymec beside the other libraries that are installed: every answer checked, all taking turns in one process.

Contenders are pymec as it is called (``conv2d``), its plan with the kernel prepared, exact and fast, any
algorithms named, and the peers of ``_peers.py``.  A fresh process per layer, batch and thread count measures
them in turns, by bursts under the canary's watch (see ``speed.py``).  The machine's own limit takes part as
well: multiply-adds in registers, nothing from memory.  With one thread every contender has one CPU.

    python profiling/compare.py --json profiling/results/compare.json --figure profiling/figures/compare.svg
    python profiling/compare.py --layers cv9,cv10 --threads 2 --algorithms mec,filter_row_gemm

Libraries that are not installed are left out; the output says how to install them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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
    progress,
    save_figure,
)
from _limits import FMA_LIMIT, peak_call
from _peers import INEXACT, PEERS, Call, CannotDo
from _timing import Canary, random_arrays, refuse_what_means_nothing, statistics_of, take_turns
from numpy.typing import NDArray

import pymec
from pymec import reference

OURS = {"pymec conv2d": "exact", "pymec plan": "exact", "pymec plan, fast": "fast"}
"""The ways to call pymec without naming an algorithm, and the accuracy of each."""

TOLERANCE = 1e-3
"""The largest error of a right answer, relative to the largest output."""


def main(arguments: list[str] | None = None) -> int:
    """Compare; 1 if an answer was wrong or a call could not be timed undisturbed."""
    options = parse(arguments)
    if options.child:
        print(json.dumps(measure(json.load(sys.stdin))))
        return 0
    refuse_what_means_nothing(options.threads)
    print(f"{machine_line()}\n")
    records: list[dict[str, Any]] = []
    notes: dict[str, str] = {}
    canaries = []
    jobs = [(layer, i_n, n) for i_n in options.batch for layer in options.layers for n in options.threads]
    with progress(len(jobs), "compare") as step:
        for layer, i_n, n_threads in jobs:
            found = in_fresh_process(layer, i_n, n_threads, options)
            records += found["records"]
            notes |= found["notes"]
            canaries.append(found["canary"])
            step(f"{layer} n{i_n} t{n_threads}")
    print_tables(records, options)
    for name, note in notes.items():
        print(f"- {name}: {note}")
    dropped, bursts = (sum(canary[key] for canary in canaries) for key in ("dropped", "bursts"))
    print(f"- canary: {dropped} of {bursts} bursts on several threads dropped")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(
            json.dumps({"machine": machine(), "records": records, "notes": notes}, indent=1) + "\n"
        )
    if options.figure:
        draw(records, options)
    return 1 if any(not record["right"] or not record["calls"] for record in records) else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--layers", type=comma_list(pymec.layers.names()), default=list(pymec.layers.PAPER))
    parser.add_argument("--algorithms", type=comma_list(pymec.algorithms()), default=[], help="of pymec, by name")
    parser.add_argument("--peers", type=comma_list(tuple(PEERS)), default=list(PEERS))
    parser.add_argument("--batch", type=comma_integers, default=[1])
    parser.add_argument("--threads", type=comma_integers, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=0.5, help="timing of one call on one layer")
    parser.add_argument(
        "--longest", type=float, default=1.0, help="seconds of one call above which a peer is left out"
    )
    parser.add_argument("--patience", type=int, default=300, help="dropped bursts before a layer is given up")
    parser.add_argument("--share", type=float, default=0.75, help="the canary's least share of its full rate")
    parser.add_argument("--json", type=Path, help="write every number here, too")
    parser.add_argument("--figure", type=Path, help="draw the rates here")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def in_fresh_process(layer: str, i_n: int, n_threads: int, options: argparse.Namespace) -> dict[str, Any]:
    """One layer's comparison; the thread pools of all libraries are as large as asked, from their start on."""
    job = {
        "layer": layer, "i_n": i_n, "n_threads": n_threads, "algorithms": options.algorithms,
        "peers": options.peers, "seconds": options.seconds, "longest": options.longest,
        "patience": options.patience, "share": options.share,
    }  # fmt: skip
    pools = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(n_threads))
    command = [sys.executable, __file__, "--child"]
    done = subprocess.run(
        command, input=json.dumps(job), capture_output=True, text=True, env={**os.environ, **pools}
    )
    if done.returncode:
        sys.exit(f"comparing on {layer} failed:\n{done.stderr.strip()}")
    return json.loads(done.stdout.splitlines()[-1])


# In the fresh process -----------------------------------------------------------------------------------


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """All contenders on one layer, checked and timed."""
    n_threads = job["n_threads"]
    if hasattr(os, "sched_setaffinity"):  # some libraries start a thread per CPU, whatever they are told
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:n_threads])
    shape = pymec.layers.get(job["layer"]).shape(job["i_n"])
    x, kernel = random_arrays(shape)
    expected = reference.conv2d(x, kernel, shape)
    scale = np.abs(expected).max()
    notes: dict[str, str] = {}
    peak, flops_of_limit = peak_call(n_threads)
    calls: dict[str, Callable[[], object]] = {FMA_LIMIT: peak}
    errors: dict[str, float] = {FMA_LIMIT: 0.0}
    for name, make in contenders(shape, x, kernel, job, notes):
        call = make()
        errors[name] = float(np.abs(call.as_nhwc(call.run()) - expected).max() / scale)
        start = time.perf_counter()
        call.run()
        if time.perf_counter() - start > job["longest"]:
            notes[name] = f"left out where a call takes more than {job['longest']} s"
        elif errors[name] <= TOLERANCE:  # a wrong answer is not timed
            calls[name] = call.run
    canary = Canary(job["patience"], job["share"])
    times = take_turns(calls, n_threads, job["seconds"], canary)
    flops = {FMA_LIMIT: flops_of_limit}
    records = [
        {
            "layer": job["layer"], "i_n": job["i_n"], "n_threads": n_threads, "contender": name,
            "flops": flops.get(name, 2 * shape.multiply_adds), "error": errors[name], "right": True,
            **statistics_of(times_of_one),
        }
        for name, times_of_one in times.items()
    ]  # fmt: skip
    wrong = [name for name, error in errors.items() if not error <= TOLERANCE]
    records += [
        {"layer": job["layer"], "i_n": job["i_n"], "n_threads": n_threads, "contender": name, "right": False,
         "flops": 0, "error": errors[name], **statistics_of([])}
        for name in wrong
    ]  # fmt: skip
    return {"records": records, "notes": notes, "canary": canary.as_dict()}


def contenders(
    shape: pymec.ConvShape, x: NDArray, kernel: NDArray, job: dict[str, Any], notes: dict[str, str]
) -> Iterator[tuple[str, Callable[[], Call]]]:
    """Each contender's name and a function that makes its call; ``notes`` has those that can't take part."""
    arguments = {**shape.arguments, "n_threads": job["n_threads"]}
    for name, accuracy in OURS.items():
        yield name, partial(our_call, x, kernel, {**arguments, "accuracy": accuracy}, "plan" in name)
    for algorithm in job["algorithms"]:
        if pymec.registry.get(algorithm).unsupported(shape) is None:
            yield f"pymec {algorithm}", partial(our_call, x, kernel, {**arguments, "algorithm": algorithm}, True)
    for name in job["peers"]:
        make, install = PEERS[name]
        try:
            call = make(shape, x, kernel, job["n_threads"])
        except ImportError:
            notes[name] = f"not installed: {install}"
        except CannotDo as reason:
            notes[name] = str(reason)
        else:
            yield name, lambda call=call: call


def our_call(x: NDArray, kernel: NDArray, arguments: dict[str, Any], planned: bool) -> Call:
    """``conv2d``, or a plan with the kernel prepared and ``out`` given."""
    if not planned:
        return Call(partial(pymec.conv2d, x, kernel, **arguments), np.asarray)
    plan = pymec.plan(x.shape, kernel.shape, **arguments).prepare(kernel)
    workspace = np.full(plan.workspace_nbytes, 255, np.uint8)  # NaN
    out = plan(x, workspace=workspace)  # allocated by pymec, and given to the calls that follow
    out[:] = np.nan
    return Call(partial(plan, x, out=out, workspace=workspace), np.asarray)


# What comes out -----------------------------------------------------------------------------------------


def rates(records: list[dict[str, Any]], i_n: int, n_threads: int) -> dict[str, dict[str, tuple[float, float]]]:
    """contender -> layer -> GFLOP/s of the best and of the median call."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for record in records:
        if (record["i_n"], record["n_threads"]) == (i_n, n_threads) and record["calls"]:
            pair = tuple(1e-9 * record["flops"] / record[which] for which in ("best", "median"))
            found.setdefault(record["contender"], {})[record["layer"]] = pair
    return found


def print_tables(records: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """For each batch and thread count: rates by the best and by the median call, then ratios to the best peer."""
    for i_n in options.batch:
        for n_threads in options.threads:
            found = rates(records, i_n, n_threads)
            for which, title in enumerate(("best", "median")):
                print(f"batch {i_n}, float32, threads: {n_threads}; GFLOP/s by the {title} call\n")
                rows = [
                    [name, *(f"{of[layer][which]:.0f}" if layer in of else "-" for layer in options.layers)]
                    for name, of in found.items()
                ]
                print(markdown_table(["contender", *options.layers], rows) + "\n")
            print_ratios(found, options)
            errors = {
                name: max(r["error"] for r in records if r["contender"] == name)
                for name in found
                if name != FMA_LIMIT
            }
            print("Largest error, relative to the largest output: ", end="")
            print(", ".join(f"{name} {error:.0e}" for name, error in errors.items()) + "\n")


def print_ratios(found: dict[str, dict[str, tuple[float, float]]], options: argparse.Namespace) -> None:
    """pymec beside the best exact peer, the best of all, torch as users call it, and the machine's limit."""
    exact = [name for name in options.peers if name not in INEXACT]
    for ours in (name for name in found if name.startswith("pymec")):
        for against, others in (
            ("the best exact peer", exact),
            ("the best peer", options.peers),
            ("torch channels-last", ["torch channels-last"]),
            ("ncnn", ["ncnn"]),
            ("the machine's limit", [FMA_LIMIT]),
        ):
            ratios = {}
            for layer, (best, _) in found[ours].items():
                theirs = [found[name][layer][0] for name in others if layer in found.get(name, {})]
                if theirs:
                    ratios[layer] = best / max(theirs)
            if ratios:
                each = " ".join(f"{layer} {ratio:.2f}" for layer, ratio in ratios.items())
                print(f"- {ours} ÷ {against}: geometric mean {geometric_mean(ratios.values()):.2f} ({each})")
    print()


def draw(records: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """A panel per batch and thread count: the peers as grey marks, pymec in colour, the limit as a line."""
    from matplotlib.figure import Figure

    panels = [(i_n, n) for i_n in options.batch for n in options.threads]
    figure = Figure(figsize=(10, 3.2 * len(panels)), layout="constrained")
    for i, (i_n, n_threads) in enumerate(panels, 1):
        axes = figure.add_subplot(len(panels), 1, i)
        found = rates(records, i_n, n_threads)
        for number, (name, of) in enumerate(found.items()):
            at = [layer for layer in options.layers if layer in of]
            values = [of[layer][0] for layer in at]
            where = [options.layers.index(layer) for layer in at]
            if name == FMA_LIMIT:
                axes.plot(where, values, color="black", linewidth=1, label=name)
            elif name.startswith("pymec"):
                axes.plot(where, values, "o", markersize=8, label=name)
            else:
                marker = "v^<>sDPX*"[number % 9]
                axes.plot(where, values, marker, color="0.55", markersize=5, label=name)
        axes.set_xticks(range(len(options.layers)), options.layers)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("GFLOP/s, best call")
        axes.set_title(f"batch {i_n}, {n_threads} thread{'s' if n_threads > 1 else ''}")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small", frameon=False)
    save_figure(figure, options.figure)


if __name__ == "__main__":
    sys.exit(main())
