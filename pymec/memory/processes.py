"""Fresh processes: isolated from what surrounds the caller, and never left behind.

Every job is run in a process in which no call was made before.  To start Python and to import NumPy, SciPy and
memray takes a second, so that is done once, by a process (``start.py``) that is forked for each job and makes no
call itself.

It starts without site-packages (``python -s -S``), the current folder, and Python's environment variables.  It is
told where this process finds pymec and the packages that a measurement needs, behind the standard library: a
``json.py`` in the current folder is not imported.

Python's own allocator is left out, too (``PYTHONMALLOC=malloc``).  It asks for a megabyte when it has no room left
for one more small object, and nobody could say during which call.

When this process ends, however and whenever it ends, the pipe closes by which it sends jobs (unless a process that
it forked meanwhile lives on); the other one reads that, ends its fork, removes its folder and ends, too.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from threading import Lock
from types import TracebackType
from typing import Any

NEEDED = ("pymec", "numpy", "scipy", "threadpoolctl", "memray")

_START = Path(__file__).with_name("start.py")


class Processes:
    """The processes that measure: as many as there are jobs at the same time, ended together.

    Examples
    --------
    >>> with Processes() as processes:  # doctest: +SKIP
    ...     answer = processes.run(job)
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._idle: list[_Process] = []
        self._busy: set[_Process] = set()
        self._ended = False

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.end()

    def run(self, job: dict[str, Any], record: Path | None = None) -> dict[str, Any]:
        """Run a job in a fresh process and return its answer.

        Parameters
        ----------
        job : dict
            What :func:`pymec.memory.child.measured` is told, but for the record.
        record : path, optional
            Keep memray's record here.  If the job fails, there is none.

        Raises
        ------
        MemoryError
            If the job has no room.
        RuntimeError
            If the process can't be started or fails; the last line of its error output says why.
        """
        process = self._take()
        path = process.folder / "record.bin" if record is None else record
        done = False
        try:
            answer = process.answer({**job, "record": str(path)})
            done = True
        finally:
            if not done or record is None:  # part of a record would refuse the next try
                path.unlink(missing_ok=True)
            self._give_back(process, done)
        if "no_room" in answer:
            path.unlink(missing_ok=True)
            raise MemoryError(answer["no_room"])
        return answer

    def end(self) -> None:
        """End those that run, and start no others."""
        with self._lock:
            self._ended = True
            for process in self._busy:
                process.kill()  # and whoever waits for its answer ends it
            for process in self._idle:
                process.end()
            self._idle.clear()

    def _take(self) -> _Process:
        """One that has nothing to do, or a new one."""
        with self._lock:
            if self._ended:
                raise RuntimeError("the measurement was called off")
            process = self._idle.pop() if self._idle else _Process()
            self._busy.add(process)
            return process

    def _give_back(self, process: _Process, usable: bool) -> None:
        with self._lock:
            self._busy.discard(process)
            if usable and not self._ended:
                self._idle.append(process)
            else:
                process.end()


class _Process:
    """One process of ``start.py``, and a folder of its own."""

    def __init__(self) -> None:
        imports = json.dumps(import_folders())
        self.folder = Path(mkdtemp(prefix="pymec-"))
        try:
            self._popen = subprocess.Popen(
                [sys.executable, "-s", "-S", str(_START), str(self.folder)],
                env={**plain_environment(), "PYTHONMALLOC": "malloc"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,  # Ctrl-C in a terminal reaches this process alone
            )
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        self._send(imports)

    def answer(self, job: dict[str, Any]) -> dict[str, Any]:
        """Send a job and wait for what it answers."""
        self._send(json.dumps(job))
        assert self._popen.stdout is not None
        last = ""
        for line in self._popen.stdout:
            if not line.startswith('{"status": '):
                last = line
                continue
            end = json.loads(line)
            # On a full disk memray says so, stops recording, and goes on.
            lost = [complaint for complaint in end["errors"].splitlines() if "Memray ERROR" in complaint]
            if end["status"] or lost:
                raise RuntimeError(_failure(lost[0] if lost else _why(end["status"], end["errors"])))
            return json.loads(last)
        assert self._popen.stderr is not None
        raise RuntimeError(_failure(_why(self._popen.wait(), self._popen.stderr.read())))

    def kill(self) -> None:
        """Kill the process and what it has forked."""
        if self._popen.returncode is None:  # else its number may be another's by now
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._popen.pid, signal.SIGKILL)

    def end(self) -> None:
        """Kill both, wait for their end, and remove the folder."""
        self.kill()
        self._popen.communicate()  # to the end of its output, which a fork has open as well
        shutil.rmtree(self.folder, ignore_errors=True)

    def _send(self, line: str) -> None:
        assert self._popen.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended; what it left behind says why
            self._popen.stdin.write(line + "\n")
            self._popen.stdin.flush()


def plain_environment() -> dict[str, str]:
    """The environment without what changes how Python starts."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def import_folders() -> list[str]:
    """The folders where this process finds what a measurement needs, each once."""
    folders = []
    for name in NEEDED:
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            remedy = ": pip install 'pymec[profile]' (Linux and macOS)" if name == "memray" else ""
            raise RuntimeError(f"{name} is not installed{remedy}")
        found = Path(spec.origin).absolute()
        folders.append(str(found.parents[1 if spec.submodule_search_locations else 0]))
    return list(dict.fromkeys(folders))


def _failure(why: str) -> str:
    return f"the measuring process failed: {why}"


def _why(status: int, errors: str) -> str:
    if status < 0:
        ended = f"it was ended by {signal.Signals(-status).name}"
        return f"{ended}, as Linux does when memory runs out" if -status == signal.SIGKILL else ended
    lines = errors.strip().splitlines()
    return lines[-1] if lines else f"it ended with status {status}"
