"""Two builds of pymec side by side: how much faster or slower each algorithm has become.

Each build runs in a process and an environment of its own; their calls take turns, burst by burst, so that
other work on the machine affects both alike.  Every answer is checked.  A ratio is the old build's time
divided by the new one's, by the fastest call: above 1 the new build is faster.

    python profiling/versions.py --old /path/to/old/venv/bin/python
    python profiling/versions.py --old "env PYTHONPATH=/path/to/old/build python" --layers cv4,cv9 --threads 1
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from _caller import WAYS
from _common import (
    HERE,
    comma_integers,
    comma_list,
    command_line,
    geometric_mean,
    machine,
    machine_line,
    markdown_table,
    progress,
)

import pymec
from pymec import registry

OPERATIONS = tuple(registry.TABLES)


class Build:
    """A process that makes calls of one build."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            [*command, str(HERE / "_caller.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **order: Any) -> dict[str, Any]:
        """One order, one answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        line = ""
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        if not line:
            sys.exit(f"a build has stopped with code {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def main(arguments: list[str] | None = None) -> int:
    """Compare and print the tables."""
    options = parse(arguments)
    builds = Build(shlex.split(options.old)), Build([sys.executable])
    print(f"{machine_line()}\n")
    records = []
    cells = list(calls(options))
    with progress(len(cells), "versions") as step:
        for cell in cells:
            ready = [build.ask(**cell)["ready"] for build in builds]
            if all(ready):
                seconds = [[], []]
                rough = max(build.ask(calls=2)["seconds"] for build in builds)
                count = max(1, int(options.seconds / options.turns / rough))
                for turn in range(options.turns):
                    for which in (0, 1) if turn % 2 else (1, 0):
                        seconds[which].append(builds[which].ask(calls=count)["seconds"])
                old, new = (min(times) for times in seconds)
                records.append({**cell, "old": old, "new": new, "ratio": old / new})
                write(records, options.json)
            step(f"{cell['layer']} {cell['algorithm']} t{cell['n_threads']}")
    print_tables(records, options)
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--old", required=True, help="the command that starts the old build's Python")
    parser.add_argument("--layers", type=comma_list(pymec.layers.names()), default=list(pymec.layers.PAPER))
    parser.add_argument("--operations", type=comma_list(OPERATIONS), default=list(OPERATIONS))
    parser.add_argument("--algorithms", type=lambda text: text.split(","), help="some of them; all by default")
    parser.add_argument("--threads", type=comma_integers, default=[1, 2])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.2, help="timing of one call by each build")
    parser.add_argument("--turns", type=int, default=10, help="bursts of each build, each on new arrays")
    parser.add_argument("--json", type=Path, help="write every number here, too")
    return parser.parse_args(arguments)


def calls(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every call to time, by layer, operation, algorithm and threads."""
    for layer in options.layers:
        for operation in options.operations:
            for algorithm in options.algorithms or [*WAYS, *pymec.algorithms(operation)]:
                for n_threads in options.threads:
                    yield {
                        "layer": layer,
                        "operation": operation,
                        "algorithm": algorithm,
                        "n_threads": n_threads,
                        "batch": options.batch,
                    }


def write(records: list[dict[str, Any]], path: Path | None) -> None:
    """Keep what is measured so far: a comparison takes a while, and may be interrupted."""
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"machine": machine(), "records": records}, indent=1) + "\n")


def print_tables(records: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """A table per operation and number of threads: an algorithm's ratio on each layer and their geometric mean."""
    for operation in options.operations:
        for n_threads in options.threads:
            ratios = {
                (record["algorithm"], record["layer"]): record["ratio"]
                for record in records
                if (record["operation"], record["n_threads"]) == (operation, n_threads)
            }
            names = list(dict.fromkeys(algorithm for algorithm, _ in ratios))
            rows = []
            for name in names:
                found = [ratios.get((name, layer)) for layer in options.layers]
                mean = geometric_mean([ratio for ratio in found if ratio is not None])
                rows.append([f"`{name}`", f"**{mean:.2f}**", *("-" if r is None else f"{r:.2f}" for r in found)])
            print(f"{operation}, batch {options.batch}, float32, threads: {n_threads}; old ÷ new, fastest call\n")
            print(markdown_table(["algorithm", "mean", *options.layers], rows) + "\n")


if __name__ == "__main__":
    sys.exit(main())
