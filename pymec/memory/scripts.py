"""A whole script under :func:`pymec.memory.track`, as ``pymec profile`` runs it."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from pymec.memory.tracking import Track, track

FAILED, INTERRUPTED = 1, 130


def run_script(
    script: str | Path, arguments: Sequence[str] = (), record: str | Path | None = None
) -> tuple[int, Track]:
    """Run a script as ``python script arguments`` does, and track its memory.

    Processes that it starts are not followed.  Threads that it leaves behind are waited for.

    Parameters
    ----------
    script : path
    arguments : sequence of str
        What it finds in ``sys.argv``.
    record : path, optional
        As in :func:`pymec.memory.track`.

    Returns
    -------
    status : int
        The script's exit status; 1 after an error, whose traceback has been printed, and 130 after Ctrl-C.
    track : Track
        What it had in memory until then.
    """
    path = Path(script).absolute()
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no file"
        raise ValueError(f"script {str(script)!r} is {kind}; name a Python file")
    main = ModuleType("__main__")
    main.__dict__.update(__file__=str(path), __builtins__=__builtins__)
    before = sys.argv, sys.path[:], sys.modules["__main__"]
    sys.argv, sys.path[:], sys.modules["__main__"] = [str(script), *arguments], [str(path.parent), *sys.path], main
    status, pid = 0, os.getpid()
    tracked = track(record)
    try:
        with tracked:
            status = _run(path, main)
        if os.getpid() != pid:  # a child that the script has forked and let come here
            sys.stdout.flush()
            os._exit(status)
    finally:
        sys.argv, sys.path[:], sys.modules["__main__"] = before[0], before[1], before[2]
    return status, tracked


def _run(path: Path, main: ModuleType) -> int:
    """Run the file as that module, and say how it ended."""
    try:
        before = set(threading.enumerate())
        exec(compile(path.read_bytes(), str(path), "exec"), main.__dict__)
        _wait_for_threads(before)
    except SystemExit as end:
        return _status(end)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        trace = error.__traceback__
        traceback.print_exception(error.with_traceback(trace.tb_next if trace else None))  # without this function
        return FAILED
    return 0


def _wait_for_threads(before: set[threading.Thread]) -> None:
    """As Python does before it ends: for those that the script has started, but for daemons."""
    for thread in set(threading.enumerate()) - before:
        if not thread.daemon:
            thread.join()


def _status(end: SystemExit) -> int:
    """What the shell is told: a number, or 1 for a message, which is printed."""
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    print(end.code, file=sys.stderr)
    return FAILED
