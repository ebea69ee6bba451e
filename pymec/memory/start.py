"""Where the processes that measure begin: a script that needs the standard library alone.

It is started as ``python start.py FOLDER``.  It imports what a measurement needs, makes no call, and forks for
each job, so that each finds a process in which no call was made before.  When its caller ends, it ends what runs,
removes the folder, and ends, too.
"""

import sys

if __name__ == "__main__":
    del sys.path[0]  # the folder of this script: nothing here may hide a module of the standard library

import json
import os
import select
import shutil
import signal
import traceback
import warnings
from collections.abc import Callable


def main() -> None:
    """Read where the packages lie, then jobs, one to a line; answer each."""
    folder = sys.argv[1]
    try:
        sys.path += json.loads(sys.stdin.readline() or "[]")
        from pymec.memory import child

        child.read_symbols(os.path.join(folder, "symbols.bin"))
        # BLAS has threads, which do nothing yet; it ends them before a fork and starts them when they are needed.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        for line in sys.stdin:
            print(json.dumps(in_a_fork(child.serve, json.loads(line))), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def in_a_fork(serve: Callable[[dict], None], job: dict) -> dict:
    """Serve one job in a process of its own; say how that process ended, and what it complained of."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.dup2(writing, 2)
            os.close(reading)
            os.close(writing)
            serve(job)
            sys.stdout.flush()
            status = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)
    os.close(writing)
    complaints = b""
    while True:
        ready, _, _ = select.select([reading, sys.stdin], [], [])
        if sys.stdin in ready:  # the caller sends nothing while it waits: it has ended
            os.kill(pid, signal.SIGKILL)
            break
        part = os.read(reading, 65536)
        complaints += part
        if not part:
            break
    os.close(reading)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {"status": status, "errors": complaints.decode(errors="replace")}


if __name__ == "__main__":
    main()
