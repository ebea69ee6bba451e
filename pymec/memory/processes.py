"""Fresh processes: isolated from what surrounds the caller, and never left behind.

The process starts without site-packages (``python -s -S``), the current folder, and Python's environment
variables.  It is told where this process finds pymec and the packages that a measurement needs, behind the
standard library: a ``json.py`` in the current folder is not imported.

Python's own allocator is left out, too (``PYTHONMALLOC=malloc``).  It asks for a megabyte when it has no room left
for one more small object, and nobody could say during which call.

It holds one end of a pipe that nobody writes to.  When this process ends, however and whenever it ends, the pipe
closes (unless a process that it forked meanwhile lives on), and the fresh process (``start.py``) removes its
folder and ends, too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

NEEDED = ("pymec", "numpy", "scipy", "threadpoolctl", "memray")

_START = Path(__file__).with_name("start.py")


class Processes:
    """The fresh processes that run now, so that they can be ended together."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._ended = False

    def run(self, job: dict[str, Any], folder: str) -> dict[str, Any]:
        """Run a job in a fresh process and return its answer.

        Parameters
        ----------
        job : dict
            What :func:`pymec.memory.child.serve` is told.
        folder : str
            What the process removes when it ends.

        Raises
        ------
        MemoryError
            If the job has no room.
        RuntimeError
            If the process can't be started or fails; the last line of its error output says why.
        """
        lifeline, mine = os.pipe()
        process = None
        try:
            process = self._start(folder, lifeline)
            output, errors = process.communicate(json.dumps({**job, "import_folders": import_folders()}))
        finally:
            os.close(lifeline)
            os.close(mine)
            if process is not None:
                self._finish(process)
        # On a full disk memray says so, stops recording, and goes on.
        lost = [line for line in errors.splitlines() if "Memray ERROR" in line]
        if process.returncode or lost:
            why = lost[0] if lost else _why(process.returncode, errors)
            raise RuntimeError(f"the measuring process failed: {why}")
        answer = json.loads(output.splitlines()[-1])
        if "no_room" in answer:
            raise MemoryError(answer["no_room"])
        return answer

    def end(self) -> None:
        """End those that run, and start no others."""
        with self._lock:
            self._ended = True
            for process in self._running:
                process.kill()

    def _start(self, folder: str, lifeline: int) -> subprocess.Popen[str]:
        with self._lock:
            if self._ended:
                raise RuntimeError("the measurement was called off")
            process = subprocess.Popen(
                [sys.executable, "-s", "-S", str(_START), folder, str(lifeline)],
                env={**plain_environment(), "PYTHONMALLOC": "malloc"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                pass_fds=(lifeline,),
                start_new_session=True,  # Ctrl-C in a terminal reaches this process alone
            )
            self._running.add(process)
            return process

    def _finish(self, process: subprocess.Popen[str]) -> None:
        process.kill()  # it has ended already unless communicate() was interrupted
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        with self._lock:
            self._running.discard(process)


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


def _why(status: int, errors: str) -> str:
    if status < 0:
        ended = f"it was ended by {signal.Signals(-status).name}"
        return f"{ended}, as Linux does when memory runs out" if -status == signal.SIGKILL else ended
    lines = errors.strip().splitlines()
    return lines[-1] if lines else f"it ended with status {status}"
