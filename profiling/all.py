"""Every script of this folder in turn, and the tables from what they have measured.

A script measures only what the stores don't know: what an interruption has left over, and what depends on a kernel
that has changed since.  The time that is left is told from what each step took the last time.

    python profiling/all.py             # an hour on two cores
    python profiling/all.py --quick     # under five minutes: a few layers, short timings, in results/quick
    python profiling/all.py --no-wait   # on a machine that is never quiet
"""

from __future__ import annotations

import math
import shlex
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import tables
from _common import HERE, command_line, counted
from _store import RESULTS, Record, Store
from _timing import MISSING

FEW = "--layers cv4,cv9,cv12"
NETWORKS = "--layers vgg16,resnet50,mobilenet,resnext50 --threads 2 --seconds 0.15 --patience 40"
NETWORKS += " --peers 'torch channels-last,torch prepacked,onnxruntime,openvino,ncnn'"

KERNELS = "--coretypes native,Haswell,Sandybridge"

STEPS: tuple[tuple[str, str, str], ...] = (
    ("gemm_regimes", "", "--seconds 0.05"),
    ("memory_sweep", "", f"{FEW} --algorithms im2col,im2col_blocked,mec_b,mec,mec_banded,direct_blocked,fft"),
    ("memory_sweep", "--operations conv2d_input_grad,conv2d_kernel_grad", ""),
    ("paper_table2", "", ""),
    ("paper_memory", "", "--layers cv9,cv12 --batch 1"),
    ("paper_time", KERNELS, "--layers cv9,cv12 --batch 1 --seconds 0.05"),
    ("stride_sweep", KERNELS, "--what memory"),
    ("solutions", "", "--layers cv9,cv12 --batch 8 --seconds 0.05"),
    ("speed", "--reuse --seconds 0.5", f"{FEW} --reuse --seconds 0.1"),
    ("lowering", "", "--seconds 0.1"),
    ("overhead", "", "--seconds 0.1"),
    ("ladder", "", f"{FEW} --seconds 0.1"),
    ("traffic", "", "--layers cv9 --seconds 0.05"),
    ("bands", "--seconds 0.5", f"{FEW} --seconds 0.1"),
    ("mechanisms", "--seconds 0.5", "--seconds 0.05"),
    ("winograd_choice", "", "--layers cv9,cv12 --seconds 0.05"),
    ("large", "", "--cases cv9_float64,cv12_float64 --seconds 0.1"),
    ("atlas", "--seconds 0.1", "--layers cv12 --seconds 0.03"),
    ("gradients", "--layers paper,resnet50,mobilenetv2", f"{FEW} --seconds 0.05"),
    ("networks", "", "--networks MobileNetV2 --batch 1"),
    ("compare", "", f"{FEW} --seconds 0.05"),
    ("compare", NETWORKS, ""),
    (
        "anywhere",
        "--threads 1 --largest 3e6 --seconds 0.03",
        "--families few --threads 1 --largest 1e6 --seconds 0.02",
    ),
)
"""Each script, its options, and those of the quick run; without the latter it is left out there."""

WITHOUT_CANARY = ("memory_sweep", "networks", "paper_memory", "paper_table2", "traffic")
"""They wait for no canary."""


def main(arguments: list[str] | None = None) -> int:
    """Run the steps and write the tables; 1 if some step could not measure all: the last lines name it."""
    parser = command_line(__doc__)
    parser.add_argument("--quick", action="store_true", help="a few layers, short timings")
    parser.add_argument("--no-wait", action="store_true", help="keep disturbed bursts, and mark them")
    parser.add_argument("--again", action="store_true", help="measure what is known, too")
    parser.add_argument("--records", type=Path, help="the folder of the records")
    options = parser.parse_args(arguments)
    if options.records is None:  # a quick run is no reason to replace what the pages show
        options.records = RESULTS / "quick" if options.quick else RESULTS
    store = Store("all", options.records)
    steps = [
        (script, quick if options.quick else full) for script, full, quick in STEPS if quick or not options.quick
    ]
    steps = [step for step in steps if step[0] != "gradients" or find_spec("torch")]
    failed = []
    started = time.monotonic()
    for number, (script, given) in enumerate(steps):
        step = f"{script} {given}".strip()
        print(
            f"[{number + 1}/{len(steps)}] {step}: {time_left(store, steps[number:])}", file=sys.stderr, flush=True
        )
        flags = ["--no-wait"] * (options.no_wait and script not in WITHOUT_CANARY) + ["--again"] * options.again
        command = [
            sys.executable,
            HERE / f"{script}.py",
            *shlex.split(given),
            *flags,
            "--records",
            options.records,
        ]
        before, start = measured(script, options.records), time.monotonic()
        status, missing = ran(command)
        seconds, new = time.monotonic() - start, measured(script, options.records) - before
        if status:
            failed += [f"exit status {status}: {step}", *(f"  {line}" for line in missing)]
        last = taken(store, (script, given))
        if new and (last is None or new >= last.values["records"]):  # what went on from an interruption tells less
            store.add({"script": script, "options": given}, {"seconds": round(seconds, 1), "records": new})
    for name in dict.fromkeys(script for script, _ in steps):
        store_of(name, options.records).compact()
    if not options.quick:
        tables.main(["--records", str(options.records)])
    print(f"{len(steps)} steps in {(time.monotonic() - started) / 60:.1f} minutes", file=sys.stderr)
    for step in failed:
        print(step, file=sys.stderr)
    return 1 if failed else 0


def ran(command: list[Any]) -> tuple[int, list[str]]:
    """Run a step, whose tables aren't shown but its progress is; its exit status, and what it could not time."""
    missing = []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            print(line, end="", file=sys.stderr, flush=True)
            if line.startswith(MISSING):
                missing.append(line.rstrip())
    return process.returncode, missing


def store_of(script: str, folder: Path) -> Store:
    """A script's store."""
    return Store("memory" if script == "memory_sweep" else script, folder)


def measured(script: str, folder: Path) -> int:
    """The records in a script's store, old ones included: how often it has measured something."""
    path = store_of(script, folder).path
    return path.read_bytes().count(b'"cell"') if path.exists() else 0


def taken(store: Store, step: tuple[str, str]) -> Record | None:
    """What a step took the last time, on the machine that ran steps last."""
    found = store.find(script=step[0], options=step[1])
    return found[-1] if found else None


def time_left(store: Store, steps: list[tuple[str, str]]) -> str:
    """The time that these steps took the last time."""
    known = [record for step in steps if (record := taken(store, step))]
    minutes = sum(record.values["seconds"] for record in known) / 60
    new = len(steps) - len(known)
    unknown = f", and {counted(new, 'step')} that never ran" * bool(new)
    return f"at most {counted(math.ceil(minutes), 'minute')} left{unknown}"


if __name__ == "__main__":
    sys.exit(main())
