"""Mutants: one small fault after another is put into a copy of pymec, and the tests must notice each.

    python tests/mutants.py
    python tests/mutants.py --only transposed
    python tests/mutants.py --outcomes mutants.jsonl --jobs 1

A mutant that no test notices, a survivor, shows a test that is missing.  The faults stand in `mutations.py`.  The
script copies the repository and builds the copy.  Each mutant gets a copy of that copy, so the repository itself
is never touched.  The files of tests run one after another, first those that know most about the changed file,
until a test fails that passes without the fault.  Mutants are built and tested side by side, one per CPU: a minute
each, and ten minutes more for each survivor.  A run that was ended goes on where its file of outcomes stops.
Two faults need more than others have: the results of other threads are noticed on two free CPUs (``--jobs 1``),
and the bias of Winograd's second register where a panel has two, with AVX-512.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from mutations import FAULTS

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 300  # that one file of tests may take: a mutant that takes longer hangs, and is noticed
NO_TESTS = 5  # pytest's exit status where all of a file's tests are left out
LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", "__pycache__", ".hypothesis", ".pytest_cache", "docs")

# Fewer random convolutions than `make test` tries, and no search for the smallest one that fails.
PROFILE = """
from hypothesis import Phase
settings.register_profile("mutants", settings.get_profile("tests"), max_examples=60, phases=[Phase.generate])
"""

TESTS = (
    "algorithms", "grads", "properties", "shapes", "sizes", "planning", "defects", "errors", "ends",
    "mec_relatives", "tiled", "register_tiles", "direct_grouped", "depthwise_grads", "direct_dots", "copies",
    "plans", "layouts", "slices", "planes", "direct_planes", "arrays", "threads", "guard_pages",
    "winograd", "fft", "paper", "kn2row", "zero_copy", "implicit_gemm", "blas", "cpu_quota", "interrupts",
)  # fmt: skip
"""Files of tests, in the order in which they run after those of FIRST."""

FIRST = {
    "mec/paper": "paper defects",
    "mec/rows": "sizes ends paper mec_relatives",
    "mec/bands": "planning mec_relatives",
    "mec/split": "ends mec_relatives",
    "mec": "defects mec_relatives",
    "im2col/implicit": "implicit_gemm",
    "im2col/rows": "planning implicit_gemm",
    "im2col": "tiled",
    "direct/depthwise_windows": "planes",
    "direct/rows": "planes direct_planes direct_grouped tiled",
    "direct": "zero_copy tiled",
    "register_tiles/group": "direct_grouped guard_pages",
    "register_tiles/depthwise": "zero_copy register_tiles",
    "register_tiles/dot": "direct_dots",
    "register_tiles/planes": "direct_planes",
    "register_tiles/panels": "register_tiles direct_planes",
    "register_tiles/rows": "direct_planes register_tiles sizes",
    "register_tiles": "register_tiles slices ends",
    "small_products/kn2row": "kn2row",
    "small_products/shift": "kn2row",
    "small_products/pointwise_planes": "planes",
    "small_products/yaconv": "tiled",
    "small_products/rows": "sizes kn2row zero_copy planes",
    "small_products": "zero_copy kn2row",
    "winograd": "winograd ends",
    "fourier": "fft",
    "gradients/blocked": "grads",
    "gradients/direct_dots": "grads direct_dots plans",
    "gradients/blocks": "grads",
    "gradients/depthwise": "depthwise_grads",
    "register_tiles/depthwise_grads": "depthwise_grads",
    "register_tiles/outer_tiles": "grads",
    "gradients": "grads direct_grouped",
    "shared/blas": "blas",
    "shared/interrupts": "interrupts",
    "shared/guard": "threads",
    "shared/turning": "layouts direct_planes",
    "shared": "ends errors tiled kn2row",
    "shapes": "shapes sizes errors algorithms",
    "auto_rules": "planning direct_planes errors grads",
    "planning": "planning direct_planes errors grads",
    "recipes": "planning slices threads grads plans",
    "execution": "errors planning plans copies ends",
    "layouts": "layouts slices arrays errors grads",
    "memory/timeline": "tracking",
    "memory/owners": "tracking",
    "memory/tracking": "tracking",
    "memory/scripts": "tracking",
    "memory": "memory",
    "explaining": "planning",
    "conv_plans": "plans copies planning grads",
    "kept_kernels": "plans copies",
    "saved_lowering": "grads",
    "threads": "threads cpu_quota",
    "workspace": "register_tiles",
}
"""By how a changed file's path begins, within the kernels or within pymec, the tests that run first."""


def main() -> int:
    options = arguments()
    mutants = [
        (file, *fault)
        for file, faults in FAULTS.items()
        for fault in faults
        if options.only in file or options.only in fault[2]
    ]
    for file, old, new, breaks in mutants:
        if (ROOT / file).read_text(encoding="utf-8").count(old) != 1 or old == new:
            sys.exit(f"{file} must hold this text once, and another one in its place: {old!r} ({breaks})")
    outcomes = earlier(options.outcomes)
    left = [mutant for mutant in mutants if mutant not in outcomes]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        built = folder / "built"
        shutil.copytree(ROOT, built, ignore=LEFT_OUT)
        with (built / "tests" / "conftest.py").open("a", encoding="utf-8") as conftest:
            conftest.write(PROFILE)
        if not build(built):
            sys.exit("the repository does not build")
        free: queue.SimpleQueue[Path] = queue.SimpleQueue()  # folders for mutants
        for job in range(options.jobs):
            free.put(folder / f"mutant{job}")
        with ThreadPoolExecutor(options.jobs) as pool:
            running = {pool.submit(outcome, *mutant, built, free): mutant for mutant in left}
            for each in as_completed(running):
                mutant = running[each]
                outcomes[mutant] = each.result()
                print(f"{mutant[0]}: {mutant[3]}\n    {outcomes[mutant]}", flush=True)
                if options.outcomes:
                    with options.outcomes.open("a", encoding="utf-8") as file:
                        file.write(json.dumps([*mutant, outcomes[mutant]], ensure_ascii=False) + "\n")
    found = [outcomes[mutant] for mutant in mutants]
    survivors = sum(each.startswith("SURVIVED") for each in found)
    unbuilt = sum(each.startswith("does not build") for each in found)
    killed = len(mutants) - survivors - unbuilt
    print(f"\n{len(mutants)} mutants: {killed} killed, {survivors} survived, {unbuilt} not built")
    return survivors + unbuilt > 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="mutants whose file, or what it breaks, holds this text")
    parser.add_argument("--outcomes", type=Path, help="file of outcomes; mutants in it are not tried again")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="mutants at a time")
    return parser.parse_args()


def earlier(file: Path | None) -> dict[tuple[str, ...], str]:
    """The outcome of each mutant that a run before this one has tried."""
    if file is None or not file.exists():
        return {}
    lines = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return {tuple(mutant): found for *mutant, found in lines}


def outcome(file: str, old: str, new: str, breaks: str, built: Path, free: queue.SimpleQueue[Path]) -> str:
    """Make one mutant from the copy that is built, in a folder that is free, and test it."""
    start = time.perf_counter()
    copy = free.get()
    shutil.copytree(built, copy)
    mutated = copy / file
    mutated.write_text(mutated.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    if file.endswith(".py") or build(copy):
        killers = (killer(copy, tests, built) for tests in order(file))
        found = next((f"killed by {each}" for each in killers if each), "SURVIVED")
    else:
        found = "does not build"
    shutil.rmtree(copy)
    free.put(copy)
    return f"{found}  ({time.perf_counter() - start:.0f} s)"


def order(file: str) -> list[str]:
    """All files of tests, those first that know the changed file best."""
    inner = file.removeprefix("pymec/").removeprefix("kernels/")
    first = next(names.split() for start, names in FIRST.items() if inner.startswith(start))
    return [*first, *(name for name in TESTS if name not in first)]


def build(folder: Path) -> bool:
    """Build in place what has changed."""
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    return subprocess.run(command, cwd=folder, capture_output=True).returncode == 0


def killer(copy: Path, tests: str, built: Path) -> str | None:
    """The first test of a file that fails in the copy with the fault and passes in the one without it."""
    file = f"tests/test_{tests}.py"
    without_fault: list[str] = []  # fail there, too, as some do on a single CPU
    while failed := first_failure(copy, file, *(f"--deselect={test}" for test in without_fault)):
        if not first_failure(built, failed):
            return failed
        if failed in without_fault:
            raise RuntimeError(f"pytest does not leave out {failed}")
        without_fault.append(failed)
    return None


def first_failure(folder: Path, tests: str, *options: str) -> str | None:
    """Run tests in a copy; return the first that fails, or what was to be run if it hangs or can't be read."""
    of_memory = tests.startswith(("tests/test_memory.py", "tests/test_tracking.py"))
    marked = "not slow" if of_memory else "not memory and not slow"
    command = [
        sys.executable, "-m", "pytest", "-q", "-x", "-n", "1", "-p", "no:cacheprovider",
        "--hypothesis-profile=mutants", "-m", marked, *options, tests,
    ]  # fmt: skip
    with subprocess.Popen(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)}, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        try:
            output, _ = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # pytest and its worker
            return tests
    if process.returncode in (0, NO_TESTS):
        return None
    failed = re.search(r"^(?:FAILED|ERROR) (tests/.+?)(?: - .*)?$", output, re.MULTILINE)
    return failed.group(1) if failed else tests


if __name__ == "__main__":
    sys.exit(main())
