"""How many bytes pass a level-2 cache: the estimate of ``counting``, beside valgrind's simulation of such a cache.

Valgrind's cachegrind runs the calls themselves, every load and store through a simulated level-1 cache of 32 KiB
and behind it one of 1 MiB.  Each line of 64 bytes that misses the latter counts, for a load and for a store.  The
process imports everything once; for each call it forks one child that makes it once and one that makes it twice.
The difference is one call in a warm process.  How busy the machine is makes no difference.

A layer's name with a number, cv12_528, is that layer with so many output channels: where lines of K lie a power of
two apart, they share few sets of a cache, and drive each other out.

Cachegrind knows no AVX-512: register tiles are those for AVX2, and ``OPENBLAS_CORETYPE`` must be Haswell.

    OPENBLAS_CORETYPE=Haswell python profiling/simulated_cache.py
    python profiling/simulated_cache.py --print
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from _common import MIB, comma_list, command_line, machine_line, markdown_table, mib
from _store import RESULTS, Store
from _timing import random_arrays
from counting import COUNTED, traffic

import pymec

LEVEL_2 = MIB
LINE = 64
SIMULATED = ("--I1=32768,8,64", "--D1=32768,8,64", f"--LL={LEVEL_2},16,{LINE}")
WIDENED = {"cv12_528": replace(pymec.layers.get("cv12").shape(), k_c=528)}
LAYERS = ["cv9", "cv11", "cv12", *WIDENED]
ALGORITHMS = ["im2col", "im2col_blocked", "mec_b", "mec", "mec_banded", "direct_blocked"]


def main(arguments: list[str] | None = None) -> int:
    """Simulate what is missing, then print."""
    options = parse(arguments)
    if options.child:
        simulate(json.load(sys.stdin))
        return 0
    store = Store("simulated_cache", options.records)
    cells = [{"layer": layer, "algorithm": name} for layer in options.layers for name in options.algorithms]
    missing = [cell for cell in cells if not store.known(cell)]
    if missing and not options.print:
        for cell, values in under_cachegrind(missing):
            store.add(cell, values, [cell["algorithm"]])
    print(f"{machine_line()}\n")
    print(markdown_table(*table([record for cell in cells for record in store.find(**cell)])))
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--layers", type=comma_list((*pymec.layers.names(), *WIDENED)), default=LAYERS)
    parser.add_argument("--algorithms", type=comma_list(tuple(COUNTED)), default=ALGORITHMS)
    parser.add_argument("--print", action="store_true", help="print records, simulate nothing")
    parser.add_argument("--records", type=Path, default=RESULTS, help="folder of records")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def under_cachegrind(cells: list[dict[str, str]]) -> list[tuple[dict[str, str], dict[str, int]]]:
    """Every cell's bytes, as estimated and as simulated."""
    if which("valgrind") is None:
        sys.exit("valgrind is not installed: apt-get install valgrind")
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    with TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=cachegrind", "--cache-sim=yes", *SIMULATED]
        command += [f"--cachegrind-out-file={folder}/%p", sys.executable, __file__, "--child"]
        done = subprocess.run(
            command, input=json.dumps(cells), capture_output=True, text=True, env={**os.environ, **threads}
        )
        if done.returncode:
            sys.exit(f"cachegrind failed:\n{done.stderr[-2000:]}")
        found = []
        for cell, line in zip(cells, done.stdout.splitlines(), strict=True):
            answer = json.loads(line)
            once, twice = (missed_bytes(Path(folder, str(process))) for process in answer["processes"])
            found.append((cell, {"estimated": answer["estimated"], "simulated": twice - once}))
    return found


def missed_bytes(report: Path) -> int:
    """The bytes of all lines that missed the last level of the simulated cache."""
    lines = dict(
        line.split(":", 1) for line in report.read_text().splitlines() if line[:7] in ("events:", "summary")
    )
    counts = dict(zip(lines["events"].split(), map(int, lines["summary"].split()), strict=True))
    return LINE * (counts["DLmr"] + counts["DLmw"])


def simulate(cells: list[dict[str, str]]) -> None:
    """In the simulated process: make each call once in one child, twice in another, and name the two."""
    for cell in cells:
        shape = WIDENED.get(cell["layer"]) or pymec.layers.get(cell["layer"]).shape()
        x, kernel = random_arrays(shape)
        options = {**shape.arguments, "algorithm": cell["algorithm"], "n_threads": 1}
        plan = pymec.plan(x.shape, kernel.shape, **options).prepare(kernel)
        out, workspace = np.zeros(shape.output_shape, np.float32), np.zeros(plan.workspace_nbytes, np.uint8)
        processes = []
        for calls in (1, 2):
            process = os.fork()
            if process == 0:
                for _ in range(calls):
                    plan(x, out=out, workspace=workspace)
                os._exit(0)
            processes.append(process)
            os.waitpid(process, 0)
        estimated = traffic(cell["algorithm"], shape).far_nbytes(LEVEL_2)
        print(json.dumps({"processes": processes, "estimated": estimated}), flush=True)


def table(records: list[Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: MiB as estimated and as simulated."""
    header = ["layer", "algorithm", "estimated, MiB", "simulated, MiB", "simulated ÷ estimated"]
    rows = []
    for record in records:
        estimated, simulated = (record.values[which] for which in ("estimated", "simulated"))
        row = [record.cell["layer"], f"`{record.cell['algorithm']}`", mib(estimated), mib(simulated)]
        rows.append([*row, f"{simulated / estimated:.2f}"])
    return header, rows


if __name__ == "__main__":
    sys.exit(main())
