"""A limit on the address space: a MemoryError, never a process that hangs or is ended."""

import os
import subprocess
import sys

import pytest

from pymec import _build_info

ONE_ARENA = {**os.environ, "MALLOC_ARENA_MAX": "1"}
"""glibc maps 128 MiB for the arena of a thread that starts, and gives half of them back.  While it does, what is
mapped is no measure of what will be.
"""

SCRIPT = """
import faulthandler, resource, sys
import numpy as np, pymec
name, room = sys.argv[1], int(sys.argv[2])
conv2d = pymec.conv2d  # which is imported now, while there is room
x, kernel = np.ones((1, 60, 60, 32), np.float32), np.ones((3, 3, 32, 32), np.float32)
nbytes = pymec.workspace_size(x.shape, kernel.shape, algorithm=name, n_threads=2)
out, workspace = np.full((1, 58, 58, 32), 7, np.float32), np.empty(nbytes, np.uint8)
faulthandler.dump_traceback_later(60, exit=True)
with open("/proc/self/statm") as file:
    mapped = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (mapped + room, resource.RLIM_INFINITY))
try:
    conv2d(x, kernel, algorithm=name, n_threads=2, out=out, workspace=workspace)
except MemoryError as error:
    assert "ulimit -v" in str(error) and (out == 7).all()
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    conv2d(x, kernel, algorithm=name, n_threads=2, out=out, workspace=workspace)
    print("refused")
else:
    print("done")
assert abs(out - 288).max() < 1
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space by way of /proc")
@pytest.mark.skipif(not _build_info.OPENMP, reason="needs OpenMP's threads")
def test_no_room_to_turn_a_kernel_is_a_memory_error(tmp_path):
    """A plan's kernel is turned on several threads: room for them is found before."""
    script = SCRIPT[: SCRIPT.index("try:")].replace("sys.argv[1], int(sys.argv[2])", "'direct', 1")
    plan = "plan = pymec.plan((1, 32, 9, 9), (64, 32, 3, 3), layout='NCHW', n_threads=16)"
    script = script.replace("nbytes =", f"{plan}\nnbytes =")
    script += "try:\n    plan.prepare(np.ones((64, 32, 3, 3), 'f'))\nexcept MemoryError:\n    print('refused')\n"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=ONE_ARENA)
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space by way of /proc")
@pytest.mark.skipif(not _build_info.OPENMP, reason="needs OpenMP's threads")
@pytest.mark.parametrize(
    ("algorithm", "room", "ending"),
    [
        ("direct", 1, "refused"),
        ("direct", 200, "done"),
        ("im2col", 1, "refused"),
        ("fft", 1, "refused"),
        ("fft", 18, "refused"),
        ("fft", 50, "refused"),
        ("fft", 250, "done"),
        ("winograd_f4", 18, "refused"),
        ("winograd_f4", 250, "done"),
    ],
)
def test_no_room_for_threads_is_a_memory_error(algorithm, room, ending, tmp_path):
    """With ``room`` MB left: refused with the output untouched, and right as soon as there is room."""
    command = [sys.executable, "-c", SCRIPT, algorithm, str(room * 10**6)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=ONE_ARENA)
    assert (done.returncode, done.stdout) == (0, f"{ending}\n"), done.stderr
