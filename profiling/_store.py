"""The store of results: what every script has measured, where, when, and by which code.

A script has one file of JSON lines in ``results/``.  A line is either a run (the machine, the versions, the
commit, the date) or a record that names its run.  The calls of one record took turns in one process, so that
**ratios are always taken inside a record**.  Lines are appended as they are measured: an interrupted script goes
on where it stopped.

A record keeps a fingerprint of each kernel that it measured.  Where today's kernel has another one, the record is
stale: the script measures it again, and what prints it marks its numbers until then.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import date
from functools import cache, partial
from pathlib import Path
from typing import Any

from _common import HERE, machine

import pymec
from pymec import registry

RESULTS = HERE / "results"
PACKAGE = Path(pymec.__file__).parent
SUFFIXES = (".pyx.in", ".pyx", ".pxd", ".py")

SAME_MACHINE = ("cpu", "build", "blas", "threads")
"""The entries of a run that tell one machine from another."""

Cell = dict[str, Any]


@dataclass(frozen=True)
class Record:
    """What was measured in one go.

    ``cell`` says what was asked, ``values`` what came out, ``kernels`` which code did it, ``run`` where and when.
    """

    cell: Cell
    values: dict[str, Any]
    kernels: dict[str, str]
    run: dict[str, str] = field(repr=False)

    @property
    def stale(self) -> list[str]:
        """The algorithms whose kernels have changed since, or exist no more."""
        return [name for name, known in self.kernels.items() if fingerprint(*name.split(":")) != known]


class Store:
    """The results of one script: ``add`` appends a record, ``find`` gives the newest of each cell."""

    def __init__(self, script: str, folder: Path = RESULTS) -> None:
        self.path = folder / f"{script}.jsonl"
        self.runs: dict[str, dict[str, str]] = {}
        self.records: list[Record] = []
        content = self.path.read_bytes() if self.path.exists() else b""
        self.complete_bytes = content.rfind(b"\n") + 1
        for line in content[: self.complete_bytes].splitlines():
            self._read(json.loads(line))

    def _read(self, entry: dict[str, Any]) -> None:
        if "machine" in entry:
            self.runs[entry["run"]] = entry["machine"]
        else:
            self.records.append(Record(entry["cell"], entry["values"], entry["kernels"], self.runs[entry["run"]]))

    def add(self, cell: Cell, values: dict[str, Any], algorithms: Iterable[str] = ()) -> Record:
        """Append what was just measured; ``algorithms`` are names, ``mec`` or ``direct:conv2d_input_grad``."""
        run = this_run()
        name = hashlib.sha256(json.dumps(run).encode()).hexdigest()[:8]
        lines = [] if name in self.runs else [{"run": name, "machine": run}]
        kernels = {algorithm: fingerprint(*algorithm.split(":")) for algorithm in algorithms}
        lines.append({"run": name, "cell": cell, "values": values, "kernels": kernels})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as file:
            file.truncate(self.complete_bytes)  # a line that an interruption left half-written
            file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
            file.flush()
            self.complete_bytes = file.tell()
        for line in lines:
            self._read(line)
        return self.records[-1]

    def find(self, **wanted: Any) -> list[Record]:
        """The newest record of each cell that has these entries, all of the machine that measured last."""
        if not self.records:
            return []
        here = where(self.records[-1].run)
        newest = {
            json.dumps(record.cell, sort_keys=True): record
            for record in self.records
            if where(record.run) == here and wanted.items() <= record.cell.items()
        }
        return list(newest.values())

    def known(self, cell: Cell) -> bool:
        """Whether this machine has measured the cell by today's kernels."""
        here = where(this_run())
        newest = [record for record in self.records if record.cell == cell and where(record.run) == here]
        return bool(newest) and not newest[-1].stale

    def compact(self) -> None:
        """Rewrite the file with the newest record of each cell and machine alone."""
        kept = {(json.dumps(record.cell, sort_keys=True), where(record.run)): record for record in self.records}
        records, self.records, self.runs, self.complete_bytes = list(kept.values()), [], {}, 0
        named: dict[str, dict[str, str]] = {}
        lines = []
        for record in records:
            name = hashlib.sha256(json.dumps(record.run).encode()).hexdigest()[:8]
            if name not in named:
                named[name] = record.run
                lines.append({"run": name, "machine": record.run})
            entry = asdict(record)
            lines.append({"run": name, **{key: entry[key] for key in ("cell", "values", "kernels")}})
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        self.path.write_text(text, encoding="utf-8")
        self.complete_bytes = len(text.encode())
        for line in lines:
            self._read(line)


# Where and when -----------------------------------------------------------------------------------------


@cache
def this_run() -> dict[str, str]:
    """What every number depends on beside its kernel: machine, versions, commit, date."""
    found = machine()
    blas = next((value for name, value in found.items() if name.startswith("blas of pymec")), "none")
    threads = found["openmp"]
    kept = {name: found[name] for name in ("cpu", "build", "python", "numpy", "scipy", "pymec")}
    return {"date": date.today().isoformat(), "commit": commit(), **kept, "blas": blas, "threads": threads}


def where(run: dict[str, str]) -> tuple[str, ...]:
    """The machine of a run, comparable."""
    return tuple(run[name] for name in SAME_MACHINE)


def commit() -> str:
    """The commit of the sources, with a ``+`` where files differ from it; ``unknown`` outside a repository."""
    git = partial(subprocess.run, cwd=HERE, capture_output=True, text=True)
    try:
        found = git(["git", "rev-parse", "--short=10", "HEAD"])
        changed = git(["git", "status", "--porcelain", "--", "../pymec"])
    except OSError:
        return "unknown"
    return found.stdout.strip() + "+" * bool(changed.stdout.strip()) if found.returncode == 0 else "unknown"


# Which code ---------------------------------------------------------------------------------------------


@cache
def fingerprint(algorithm: str, operation: str = "conv2d") -> str:
    """Twelve digits that change with an algorithm's kernel, or with a file that the kernel imports or cimports.

    Comments and docstrings don't count, nor does how a row of the table cuts the work.  Empty for an algorithm
    that is in no table.
    """
    if algorithm not in registry.TABLES[operation]:
        return ""
    run = registry.get(algorithm, operation).run
    while isinstance(run, partial):
        run = run.func
    found: set[str] = set()
    waiting = [run.__module__]
    while waiting:
        module = waiting.pop()
        if module not in found and sources(module):
            found.add(module)
            waiting += imported("\n".join(sources(module)))
    digest = hashlib.sha256()
    for module in sorted(found):
        for text in sources(module):
            digest.update(code_of(text).encode())
    return digest.hexdigest()[:12]


@cache
def sources(module: str) -> tuple[str, ...]:
    """The texts of a kernel module's files, ``.pyx`` or ``.py`` and ``.pxd``; none outside ``pymec.kernels``."""
    if not module.startswith("pymec.kernels."):
        return ()
    path = PACKAGE.joinpath(*module.split(".")[1:])
    paths = [path.with_name(path.name + suffix) for suffix in SUFFIXES]
    if paths[0].exists():
        paths.remove(path.with_name(path.name + ".pyx"))  # what setup.py writes from the .pyx.in
    return tuple(one.read_text(encoding="utf-8") for one in paths if one.exists())


def imported(text: str) -> list[str]:
    """The modules of ``pymec.kernels`` that a source names in its imports."""
    found = []
    for package, names in re.findall(r"^\s*from (pymec\.kernels[\w.]*) c?import ([\w, ]+|\()", text, re.MULTILINE):
        found.append(package)
        found += [f"{package}.{name.split()[0]}" for name in names.split(",") if name.strip(" (")]
    return found


def code_of(text: str) -> str:
    """A source without comments, docstrings and spacing."""
    text = re.sub(r'"""(?s:.*?)"""', "", text)
    text = re.sub(r"#[^\n]*", "", text)
    return " ".join(text.split())
