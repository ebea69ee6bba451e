"""Where the fresh process begins: a script that needs the standard library alone.

It is started as ``python start.py FOLDER LIFELINE``.  Whichever way it ends, it removes the folder; and it ends
when its caller does, even before the caller has sent the job.
"""

import sys

del sys.path[0]  # the folder of this script: nothing here may hide a module of the standard library

import json  # noqa: E402
import os  # noqa: E402
import shutil  # noqa: E402
from threading import Thread  # noqa: E402


def remove(folder: str) -> None:
    """Remove the folder, and what the other thread may be putting there."""
    while os.path.exists(folder):
        shutil.rmtree(folder, ignore_errors=True)


def end_with_caller(folder: str, lifeline: int) -> None:
    """Wait until the caller has ended, then end this process."""
    os.read(lifeline, 1)  # returns when the pipe closes: nobody writes to it
    remove(folder)
    os._exit(1)


def main() -> None:
    """Read the job and run it."""
    folder, lifeline = sys.argv[1], int(sys.argv[2])
    Thread(target=end_with_caller, args=(folder, lifeline), daemon=True).start()
    try:
        job = json.load(sys.stdin)
        sys.path += job.pop("import_folders")
        from pymec.memory.child import serve

        serve(job)
    finally:
        remove(folder)


main()
