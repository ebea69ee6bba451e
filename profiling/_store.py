"""The store of results: what every script has measured, where, when, and by which code.

A script has one file of JSON lines in ``results/``.  A line is either a run (the machine, the versions, the
commit, the date) or a record that names its run.  The calls of one record took turns in one process, so that
**ratios are always taken inside a record**.  Lines are appended as they are measured: an interrupted script goes
on where it stopped.

What tells a record from all others is its cell, its machine and the kernel that BLAS ran (OpenBLAS takes another
one under ``OPENBLAS_CORETYPE``).  A record keeps a fingerprint of each of pymec's kernels that it measured.  Where
today's kernel has another one, the record is stale: the script measures it again, and what prints it marks its
numbers until then.  It measures as well again what found no room in memory, as another run may have more.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import cache, partial
from pathlib import Path
from typing import Any

from _common import HERE, machine
from _fingerprints import code_behind, fingerprint

RESULTS = HERE / "results"

SAME_MACHINE = ("cpu", "build", "openmp")
"""The entries of a run that tell one machine from another."""

Cell = dict[str, Any]
Key = tuple[str, ...]


@dataclass(frozen=True)
class Record:
    """What was measured in one go.

    ``cell`` says what was asked and ``values`` what came out: for every contender its seconds, or its bytes, under
    ``by`` the algorithm that did it, and under ``chosen`` whether pymec's rule chose this one.  ``kernels`` says
    which code that was, ``run`` where and when it ran, and ``how`` how carefully: the seconds of timing, what the
    canary saw, and under ``no_room`` the contenders that were left out because they found no room in memory.
    """

    cell: Cell
    values: dict[str, Any]
    kernels: dict[str, str]
    run: dict[str, str] = field(repr=False)
    how: dict[str, Any] = field(default_factory=dict)

    @property
    def stale(self) -> list[str]:
        """The algorithms whose kernels have changed since, or exist no more."""
        return [name for name, known in self.kernels.items() if fingerprint(*name.split(":")) != known]

    @property
    def settled(self) -> bool:
        """Whether it need not be measured again: its code is today's, and all its contenders found room."""
        return not self.stale and not self.how.get("no_room")

    def marks(self, *contenders: str) -> str:
        """What a number of these contenders, or of any, is shown with.

        † says that a kernel has changed since, ‡ that some threads shared a core meanwhile.
        """
        by = set(self.kernels)
        if contenders:
            by = {code for name in contenders for code in code_behind({"by": name} | self.values[name])}
        return "†" * bool(by.intersection(self.stale)) + "‡" * bool(self.how.get("disturbed"))


class Store:
    """The results of one script: ``add`` appends a record, ``find`` gives the newest of each cell."""

    def __init__(self, script: str, folder: Path = RESULTS) -> None:
        self.path = folder / f"{script}.jsonl"
        self._load()

    def _load(self) -> None:
        """Read the whole lines of the file: an interruption may have left half of one."""
        self.runs: dict[str, dict[str, str]] = {}
        self.newest: dict[Key, Record] = {}  # of each cell, machine and BLAS; the last one was added last
        content = self.path.read_bytes() if self.path.exists() else b""
        for line in content[: content.rfind(b"\n") + 1].splitlines():
            self._read(json.loads(line))

    @property
    def records(self) -> list[Record]:
        """The newest record of every cell, machine and BLAS, in the order in which they were added."""
        return list(self.newest.values())

    def _read(self, entry: dict[str, Any]) -> Record | None:
        if "machine" in entry:
            self.runs[entry["run"]] = entry["machine"]
            return None
        parts = (entry[name] for name in ("cell", "values", "kernels"))
        record = Record(*parts, self.runs[entry["run"]], entry.get("how", {}))
        key = key_of(record.cell, record.run)
        self.newest.pop(key, None)
        self.newest[key] = record
        return record

    def add(
        self,
        cell: Cell,
        values: dict[str, Any],
        algorithms: Iterable[str] = (),
        how: dict[str, Any] | None = None,
    ) -> Record:
        """Append what was just measured.

        ``algorithms`` names those whose code was measured besides the contenders' own: ``mec`` or
        ``direct:conv2d_input_grad``.
        """
        measured = [value for value in values.values() if isinstance(value, dict)]
        names = dict.fromkeys(code for value in measured for code in code_behind(value))
        kernels = {name: fingerprint(*name.split(":")) for name in [*names, *algorithms]}
        record = Record(cell, values, kernels, this_run(), how or {})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with alone_in(self.path.parent), open(self.path, "a+b") as file:
            file.seek(0)
            content = file.read()  # another process may have written since
            complete = content.rfind(b"\n") + 1
            runs = {
                name: run for name, run in self.runs.items() if f'"run": "{name}", "machine"'.encode() in content
            }
            lines = self._lines([record], runs)
            file.truncate(complete)
            file.write(as_text(lines).encode())
        for line in lines:
            self._read(line)
        return record

    def _lines(self, records: Iterable[Record], runs: dict[str, dict[str, str]]) -> list[dict[str, Any]]:
        """The lines of some records; a run that is not among ``runs`` comes before its first record."""
        lines: list[dict[str, Any]] = []
        for record in records:
            name = hashlib.sha256(json.dumps(record.run).encode()).hexdigest()[:8]
            if name not in runs:
                runs[name] = record.run
                lines.append({"run": name, "machine": record.run})
            line = {"run": name, "cell": record.cell, "values": record.values, "kernels": record.kernels}
            lines.append(line | ({"how": record.how} if record.how else {}))
        return lines

    def find(self, blas: str | None = None, **wanted: Any) -> list[Record]:
        """The newest record of each cell that has these entries, all of the machine that measured last.

        All are of one BLAS: of the one whose name has ``blas`` in it.  If none is asked for, that is the one with
        the kernel that it takes by itself, or the last one if all were told which to take.
        """
        if not self.newest:
            return []
        here = where(next(reversed(self.newest.values())).run)
        found = [record for record in self.newest.values() if where(record.run) == here]
        if blas is None:
            own = [record for record in found if not record.run.get("told")]
            blas = (own or found)[-1].run["blas"]
        return [record for record in found if blas in record.run["blas"] and wanted.items() <= record.cell.items()]

    def here(self, cells: Iterable[Cell]) -> list[Record]:
        """The newest record of each of these cells by this machine and its BLAS."""
        keys = (key_of(cell, this_run()) for cell in cells)
        return [self.newest[key] for key in keys if key in self.newest]

    def known(self, cell: Cell, contenders: Sequence[str] = (), seconds: float = 0) -> bool:
        """Whether this machine has measured the cell by today's kernels, with these contenders, as carefully.

        It has not if some contender found no room in memory: that one is to be tried again.
        """
        found = self.here([cell])
        return any(
            record.settled and record.values.keys() >= set(contenders) and record.how.get("seconds", 0) >= seconds
            for record in found
        )

    def compact(self) -> None:
        """Rewrite the file with the newest record of each cell, machine and BLAS alone."""
        if not self.path.exists():
            return
        with alone_in(self.path.parent):
            self._load()
            new = self.path.with_suffix(".new")
            new.write_text(as_text(self._lines(self.newest.values(), {})), encoding="utf-8")
            new.replace(self.path)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """No other process writes to the stores of this folder meanwhile."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def as_text(lines: Iterable[dict[str, Any]]) -> str:
    """JSON lines."""
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def key_of(cell: Cell, run: dict[str, str]) -> Key:
    """What tells a record from all others."""
    return json.dumps(cell, sort_keys=True), *where(run), run["blas"]


# Where and when -----------------------------------------------------------------------------------------


@cache
def this_run() -> dict[str, str]:
    """What every number depends on beside its kernel: machine, versions, commit, date."""
    found = machine()
    blas = next((value for name, value in found.items() if name.startswith("blas of pymec")), "none")
    kept = {name: found[name] for name in ("cpu", "build", "python", "numpy", "scipy", "pymec")}
    told = os.environ.get("OPENBLAS_CORETYPE", "")
    run = {"date": date.today().isoformat(), "commit": commit(), **kept, "blas": blas, "told": told}
    return {**run, "openmp": found["openmp"].partition(",")[0].partition(":")[0]}


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
