"""
3 · See where the bytes went
============================

memray names the line that asked for each byte; some lines ask for bytes that nobody wrote down.

*Sizes: lesson 2's layer, one image of 56 × 56 × 64, 3 × 3, 64 output channels; about ten seconds, under 300 MB.*

You will build
    A measurement of im2col's memory that agrees with a formula to the last byte.

You will learn
    To read a program's peak: which line asked, how much of it is the algorithm's, what BLAS takes for itself,
    and why memory asked for is not memory used.

You need
    Lesson 2's im2col, and memray, which exists for Linux and macOS.
"""

# %%
# What is in memory when it is fullest?
# -------------------------------------
# memray writes down every allocation and every release of a program, with the lines of Python that led to it.  Run
# something inside a ``Tracker``, then ask its record for the *high-water mark*: what was in memory when memory was
# fullest.  Here is lesson 2's im2col again, and how to ask.

import linecache
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import memray
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

import pymec

plt.rcParams.update({"font.size": 11, "figure.dpi": 110, "axes.titlesize": 11})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
IM2COL, GREY, DARK = "#D55E00", "#B8B8B8", "#404040"
MIB = 2**20

rng = np.random.default_rng(0)
I = rng.standard_normal((1, 56, 56, 64), dtype=np.float32)
K = rng.standard_normal((3, 3, 64, 64), dtype=np.float32)


def conv2d_im2col(I, K):
    """im2col: copy the patches into a matrix, multiply once."""
    k_h, k_w, i_c, k_c = K.shape
    windows = sliding_window_view(I, (k_h, k_w), axis=(1, 2)).transpose(0, 1, 2, 4, 5, 3)
    L = windows.reshape(-1, k_h * k_w * i_c)
    O = L @ K.reshape(-1, k_c)
    return O.reshape(*windows.shape[:3], k_c)


def profile(function, *args):
    """Call under memray: what was in memory when it was fullest, in bytes by line of Python."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "record.bin"
        with memray.Tracker(record):
            function(*args)
        with memray.FileReader(record) as reader:
            held = list(reader.get_high_watermark_allocation_records(merge_threads=True))
    by_line = {}
    for allocation in held:
        _, file, number = next(iter(allocation.stack_trace()), ("", "", 0))  # the innermost line
        line = linecache.getline(file, number).strip()
        by_line[line] = by_line.get(line, 0) + allocation.size
    return by_line


O = conv2d_im2col(I, K)  # a first call, of which more below
found = profile(conv2d_im2col, I, K)
print(f"{sum(found.values()):,} bytes when memory was fullest")
for line, nbytes in sorted(found.items(), key=lambda item: -item[1]):
    if nbytes > 0.01 * sum(found.values()):
        print(f"{nbytes:>12,}  {line}")

# %%
# ``reshape`` is the line that copies.  It asked for as many bytes as the formula says:

o_h, o_w = O.shape[1:3]
L_nbytes = o_h * o_w * K[..., 0].size * 4
print(f"o_h·o_w·k_h·k_w·i_c numbers of four bytes: {L_nbytes:,}")
assert L_nbytes in found.values()

# %%
# :func:`pymec.memory.track` does this for any block of code and puts names to it: whose bytes, on which line, and
# how many *at its most*, as a line's own maximum may come at another time than the peak.

with pymec.memory.track() as t:
    conv2d_im2col(I, K)
print(t)

# %%
# The product's line asks for the output.  With OpenBLAS on several threads it also asks for a table by which the
# threads share the work.  That brings us to what BLAS does on the quiet.
#
# What BLAS keeps to itself
# -------------------------
# A good GEMM copies pieces of both matrices into buffers that fit the caches, *packing*.  We look in a fresh
# process, in which nobody has called BLAS before.  It multiplies two matrices of 512 × 512 three times.  The product
# is written into an array that exists already.
#
# .. admonition:: Predict, then run
#    :class: predict
#
#    How many bytes does the first product ask for?  And the second?

SCRIPT = """
import sys, memray, numpy as np
a = np.ones((512, 512), np.float32)
out = np.empty_like(a)
for call in ("first", "second", "third"):
    with memray.Tracker(f"{sys.argv[1]}/{call}.bin"):
        np.matmul(a, a, out=out)
    with memray.FileReader(f"{sys.argv[1]}/{call}.bin") as reader:
        print(f"{call:<7} product: {reader.metadata.peak_memory:>12,} bytes at the peak")
"""
with tempfile.TemporaryDirectory() as folder:
    done = subprocess.run([sys.executable, "-c", SCRIPT, folder], capture_output=True, text=True, check=True)
print(done.stdout)

# %%
# Whoever measured the first call would have measured BLAS.  Hence two rules for every number in this book:
# measure in a fresh process, and warm BLAS up before the tracker starts.
#
# Asked for, and touched
# ----------------------
# memray counts bytes when they are *asked for*.  The system hands out pages of memory only when they are
# *touched*; those make up the *resident* set that ``top`` shows.  memray notes both along the way.  We ask
# for a large array, wait, and write to it a quarter at a time.


def ask_then_write(nbytes):
    """Reserve, then touch a quarter at a time."""
    time.sleep(0.1)
    block = np.empty(nbytes, np.uint8)
    for quarter in np.split(block, 4):
        time.sleep(0.1)
        quarter[:] = 1
    time.sleep(0.1)
    del block
    time.sleep(0.1)


with tempfile.TemporaryDirectory() as folder:
    with memray.Tracker(Path(folder) / "record.bin", memory_interval_ms=5):
        ask_then_write(48 * MIB)
    with memray.FileReader(Path(folder) / "record.bin") as reader:
        snapshots = list(reader.get_memory_snapshots())

when = np.array([s.time - snapshots[0].time for s in snapshots])
heap = np.array([s.heap for s in snapshots]) / MIB
resident = np.array([s.rss - snapshots[0].rss for s in snapshots]) / MIB

fig, ax = plt.subplots(figsize=(8.4, 3.2), layout="constrained")
ax.plot(when, heap, color=IM2COL, lw=2.2, drawstyle="steps-post")
ax.fill_between(when, resident, step="post", color=GREY, alpha=0.6, lw=0)
ax.text(when[-1] * 0.27, heap.max() * 0.92, "heap: asked for", color=IM2COL, va="top")
ax.text(when[-1] * 0.62, heap.max() * 0.2, "resident: touched", color=DARK, ha="center")
ax.set(xlabel="milliseconds", ylabel="MiB", xlim=(0, when[-1]), ylim=0, yticks=range(0, 49, 12))
plt.show()

# %%
# A formula such as ``o_h·o_w·k_h·k_w·i_c`` speaks of bytes asked for, and so does every number that pymec
# calls *measured*.  Code that fills all it asks for, as im2col does, touches the same bytes, up to the
# granularity of a page.
#
# All of it at once
# -----------------
# :func:`pymec.memory.measure` follows the two rules and splits the peak by who asked, from memray's native
# stacks.  The layer is ours from above, on one thread.

report = pymec.memory.measure(I, K, algorithm="im2col", n_threads=1)
for name in ("predicted", "workspace", "output", "blas", "other", "peak", "resident"):
    print(f"{name:<10} {getattr(report, name):>11,}")
assert report.predicted == report.workspace == L_nbytes
assert report.output == O.nbytes

# %%
# ========== =======================================================================
# predicted  the formula, before anything ran
# workspace  the scratch memray saw: the same number, to the byte
# output     the result, which every algorithm must make
# blas       what BLAS took below the product, after the warm-up
# other      Python's own objects
# resident   pages touched, in a call of its own without memray; a rougher number
# ========== =======================================================================
#
# The table is worth learning by heart.  The *workspace* is what an algorithm is to blame for, and it is what this
# book compares.  The output is the same for all of them.
#
# The same as a picture
# ---------------------
# A flame graph shows the whole tree of calls at once.  Below every box stand the lines that it called, and a box is
# as wide as the bytes that were asked for below it.  memray draws them; on the command line it is
#
# .. code-block:: bash
#
#    pymec measure cv4 --algorithm im2col --record cv4.bin
#    memray flamegraph cv4.bin
#
# and from Python ``t.flamegraph("im2col.html")``.  :doc:`The results' pages </results/memory>` link to one for every
# layer and algorithm.

with tempfile.TemporaryDirectory() as folder:
    page = t.flamegraph(Path(folder) / "im2col.html")
    print(f"{page.name}: {page.stat().st_size >> 10} KiB")

# %%
# What to remember
# ----------------
# * The peak is a sum of parts with different owners: workspace, output, BLAS, the rest.  Compare algorithms by
#   workspace.
# * The first call is not the second.  Measure in a fresh process, and warm BLAS up before the tracker starts.
# * Asked for is not touched.  A formula speaks of bytes that are asked for.
#
# Try it
# ------
# ``tutorials/exercises/03_silent_copy`` has a function of five lines that makes one feature map, and takes several
# times the memory it needs.  No line says "copy".  Find those that do, and keep the limit:
#
# .. code-block:: bash
#
#    pytest tutorials/exercises/03_silent_copy
#
# Fine print
# ----------
# * memray sees what passes through malloc, its relatives and mmap.  It does not see arrays on the stack, nor
#   what a library carves out of a block that it asked for earlier: NumPy keeps blocks below about a kilobyte
#   in such a cache.
# * One process can have one ``Tracker`` at a time, and each record goes into a new file.
#
# References
# ----------
# * The memray manual, *Memory overview*: heap and resident size, and what is hooked.
