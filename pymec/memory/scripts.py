"""A whole script under :func:`pymec.memory.track`, as ``pymec profile`` runs it."""

from __future__ import annotations

import runpy
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from pymec.memory.tracking import Track, track

FAILED = 1


def run_script(
    script: str | Path, arguments: Sequence[str] = (), record: str | Path | None = None
) -> tuple[int, Track]:
    """Run a script as ``python script arguments`` does, and track its memory.

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
        The script's exit status; 1 after an error, whose traceback has been printed.
    track : Track
        What it had in memory until then.
    """
    path = Path(script).absolute()
    if not path.is_file():
        raise ValueError(f"script {str(script)!r} is no file")
    before = sys.argv, sys.path[:]
    sys.argv, sys.path[:] = [str(script), *arguments], [str(path.parent), *sys.path]
    status = 0
    tracked = track(record)
    try:
        with tracked:
            try:
                runpy.run_path(str(path), run_name="__main__")
            except SystemExit as end:
                status = _status(end)
            except Exception:
                traceback.print_exc()
                status = FAILED
    finally:
        sys.argv, sys.path[:] = before[0], before[1]
    return status, tracked


def _status(end: SystemExit) -> int:
    """What the shell is told: a number, or 1 for a message, which is printed."""
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    print(end.code, file=sys.stderr)
    return FAILED
