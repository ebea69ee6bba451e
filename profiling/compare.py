"""pymec beside the other libraries that are installed: every answer checked, all taking turns in one process.

Contenders are pymec as it is called (``conv2d``), its plan with the kernel prepared, exact and fast, any
algorithms named, and the peers of ``_peers.py``.  A fresh process per layer, batch and thread count measures
them in turns, by bursts under the canary's watch (see ``speed.py``).  The machine's own limit takes part as
well: multiply-adds in registers, nothing from memory.  With one thread every contender has one CPU.

    python profiling/compare.py --figure compare.svg
    python profiling/compare.py --layers cv9,cv10 --threads 2 --algorithms mec,filter_row_gemm

Libraries that are not installed are left out; the output says how to install them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _common import comma_integers, comma_list, command_line, progress
from _compare_figure import draw
from _limits import FMA_LIMIT, peak_call
from _peers import INEXACT, PEERS, Call, CannotDo, versions_of_peers
from _store import Record, Store
from _tables import (
    Table,
    beside,
    best_and_median,
    by_network,
    contenders,
    entries,
    groups,
    number,
    plural,
    rate,
    show,
    spread,
)
from _timing import (
    Canary,
    random_arrays,
    refuse_what_means_nothing,
    statistics_of,
    take_turns,
    tell_missing,
    timing_arguments,
)
from numpy.typing import NDArray

import pymec
from pymec import reference

OURS = {"pymec conv2d": "exact", "pymec plan": "exact", "pymec plan, fast": "fast"}
"""The ways to call pymec without naming an algorithm, and the accuracy of each."""

RATIOS = (
    ("pymec conv2d", "torch channels-last"),
    ("pymec plan", "torch channels-last"),
    ("pymec plan", "the best exact peer"),
    ("pymec plan", "the machine's limit"),
    ("pymec plan, fast", "the best peer"),
)
"""What the summary divides: torch as users call it, prepared peers, multiply-adds in registers."""

TOLERANCE = 1e-3
"""The largest error of a right answer, relative to the largest output."""


def main(arguments: list[str] | None = None) -> int:
    """Compare; 1 if an answer was wrong or a cell could not be timed undisturbed."""
    options = parse(arguments)
    if options.child:
        print(json.dumps(measure(json.load(sys.stdin))))
        return 0
    refuse_what_means_nothing(options.threads)
    store = Store("compare", options.records)
    cells = [
        {"layer": layer, "i_n": i_n, "n_threads": n_threads}
        for i_n, layer, n_threads in itertools.product(options.batch, options.layers, options.threads)
    ]
    names = [*OURS, *(f"pymec {name}" for name in options.algorithms)]
    wanted = [cell for cell in cells if options.again or not store.known(cell, names, options.seconds)]
    notes: dict[str, str] = {}
    wrong, missing = False, []
    if wanted:
        Canary.of(options, [cell["n_threads"] for cell in wanted])
    with progress(len(wanted), "compare") as step:
        for cell in wanted:
            found = in_fresh_process(cell, options)
            notes |= found["notes"]
            wrong |= bool(found["wrong"])
            missing += [cell] * (found["cut_short"] or not found["values"])
            if found["values"]:
                seconds = 0 if found["cut_short"] else options.seconds  # a record to show, not to be content with
                how = {"seconds": seconds, "flops": found["flops"], "peers": found["peers"]}
                store.add(cell, found["values"], how={**how, **found["canary"]})
            for name, error in found["wrong"].items():
                print(f"wrong answer: {name} on {cell} is off by {error:.0e}", file=sys.stderr)
            step(" ".join(map(str, cell.values())))
    tell_missing(missing)
    records = store.here(cells)
    show([*tables(records), *summary(records)])
    for name, note in notes.items():
        print(f"- {name}: {note}")
    if options.figure:
        draw(records, options.figure)
    return 1 if wrong or missing else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--layers", type=comma_list(pymec.layers.names()), default=list(pymec.layers.PAPER))
    parser.add_argument(
        "--algorithms", type=comma_list(pymec.algorithms()), default=["im2col", "mec_b", "mec"], help="of pymec"
    )
    parser.add_argument("--peers", type=comma_list(tuple(PEERS)), default=list(PEERS))
    parser.add_argument("--batch", type=comma_integers, default=[1])
    parser.add_argument("--threads", type=comma_integers, default=[1, 2])
    parser.add_argument(
        "--longest", type=float, default=1.0, help="seconds of one call above which a peer is left out"
    )
    timing_arguments(parser, seconds=0.5)
    parser.add_argument("--figure", type=Path, help="draw the rates here")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def in_fresh_process(cell: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """One cell's comparison; the thread pools of all libraries are as large as asked, from their start on."""
    asked = ("algorithms", "peers", "seconds", "longest", "patience", "share", "no_wait")
    job = {**cell, **{name: getattr(options, name) for name in asked}}
    n_threads = cell["n_threads"]
    pools = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(n_threads))
    command = [sys.executable, __file__, "--child"]
    done = subprocess.run(
        command, input=json.dumps(job), capture_output=True, text=True, env={**os.environ, **pools}
    )
    if done.returncode:
        sys.exit(f"comparing on {cell} failed:\n{done.stderr.strip()}")
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
    about: dict[str, dict[str, Any]] = {FMA_LIMIT: {"flops": flops_of_limit, "by": None}}
    wrong: dict[str, float] = {}
    for name, make in contenders_of(shape, x, kernel, job, notes):
        call = make()
        error = float(np.abs(call.as_nhwc(call.run()) - expected).max() / scale)
        start = time.perf_counter()
        call.run()
        if not error <= TOLERANCE:  # a wrong answer is not timed
            wrong[name] = error
        elif time.perf_counter() - start > job["longest"]:
            notes[name] = f"left out where a call takes more than {job['longest']} s"
        else:
            calls[name] = call.run
            about[name] = {"error": float(f"{error:.2g}"), "by": algorithm_of(name, shape, n_threads)}
            if name in OURS:
                about[name]["chosen"] = True
    canary = Canary(job["patience"], job["share"], job["no_wait"])
    times = take_turns(calls, n_threads, job["seconds"], canary)
    timed = {name: statistics_of(found) | about[name] for name, found in times.items() if found}
    found = {"values": timed, "wrong": wrong, "notes": notes, "canary": canary.counts()}
    found["cut_short"] = canary.exhausted > 0
    return {**found, "flops": 2 * shape.multiply_adds, "peers": versions_of_peers()}


def algorithm_of(name: str, shape: pymec.ConvShape, n_threads: int) -> str | None:
    """Which of pymec's algorithms a contender is, if it is one."""
    if not name.startswith("pymec "):
        return None
    options = {"accuracy": OURS[name]} if name in OURS else {"algorithm": name.removeprefix("pymec ")}
    plan = pymec.plan(shape.input_shape, shape.kernel_shape, n_threads=n_threads, **shape.arguments, **options)
    return plan.algorithm


def contenders_of(
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


def tables(records: Sequence[Record]) -> Iterator[Table]:
    """For each batch and thread count: the paper's layers across, and the layers of each network down."""
    for (i_n, n_threads), found in groups(records, "i_n", "n_threads").items():
        for network, of_network in by_network(found).items():
            names = contenders(of_network)
            title = f"{network}: GFLOP/s, batch {i_n}, float32, {plural(n_threads)}, best"
            if "." not in of_network[0].cell["layer"]:
                at = {record.cell["layer"]: record for record in of_network}
                layers = entries(of_network, "layer")
                rows = [[n, *(number(rate(at[layer], n), at[layer], n) for layer in layers)] for n in names]
                yield Table(
                    f"{title} call", ["contender", *layers], rows, of_network, "compare", errors(of_network)
                )
            else:
                rows = [
                    [
                        r.cell["layer"].partition(".")[2],
                        *(best_and_median(r, n, rate, form="{:.0f}") for n in names),
                    ]
                    for r in of_network
                ]
                yield Table(
                    f"{title} / median call", ["layer", *names], rows, of_network, "compare", errors(of_network)
                )


def errors(records: Sequence[Record]) -> list[str]:
    """The largest error of each contender, and the versions of the peers."""
    largest: dict[str, float] = {}
    for record in records:
        for name, value in record.values.items():
            if "error" in value:
                largest[name] = max(value["error"], largest.get(name, 0))
    versions = {name: version for record in records for name, version in record.how["peers"].items()}
    notes = [
        "largest error, relative to the largest output: " + ", ".join(f"{n} {e:.0e}" for n, e in largest.items())
    ]
    return notes + ["peers: " + ", ".join(f"{n} {v}" for n, v in versions.items())] * bool(versions)


def summary(records: Sequence[Record]) -> Iterator[Table]:
    """pymec ÷ the best exact peer, the best of all, torch as users call it, and the machine's limit."""
    rows = []
    for (i_n, n_threads), found in groups(records, "i_n", "n_threads").items():
        for network, layers in by_network(found).items():
            names = contenders(layers)
            peers = [name for name in names if name != FMA_LIMIT and not name.startswith("pymec ")]
            against = {
                "the best exact peer": [name for name in peers if name not in INEXACT],
                "the best peer": peers,
                "torch channels-last": [name for name in peers if name == "torch channels-last"],
                "the machine's limit": [FMA_LIMIT],
            }
            marks = "".join(sorted({mark for record in layers for mark in record.marks()}))
            for ours, rivals in RATIOS:
                if against[rivals]:
                    others = against[rivals]
                    mean, *ends = spread(layers, lambda record, o=ours, t=others: beside(record, o, t))
                    rows.append([f"{ours} ÷ {rivals}", network, str(i_n), str(n_threads), mean + marks, *ends])
    header = ["ratio of rates", "layers", "batch", "threads", "geometric mean", "least", "most"]
    if rows:
        yield Table("pymec's rate ÷ that of others, by the best call, float32", header, rows, records, "compare")


if __name__ == "__main__":
    sys.exit(main())
