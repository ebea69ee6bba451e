"""Where the fresh process begins: a script that needs the standard library alone.

It is started as ``python start.py FOLDER LIFELINE``.  When it ends, unless it is killed, it removes the folder;
and it ends when its caller does, even before the caller has sent the job.
"""

import sys

if __name__ == "__main__":
    del sys.path[0]  # the folder of this script: nothing here may hide a module of the standard library

import json
import os
import shutil
import time
from threading import Thread


def remove(folder: str) -> None:
    """Remove the folder, and what the other thread may be putting there."""
    for _ in range(100):  # a second, should it never go
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):
            return
        time.sleep(0.01)


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


if __name__ == "__main__":
    main()
