"""
2 · Lower a convolution to one product, and see where its bytes go
==================================================================

Copying every patch turns a layer into one fast matrix product; memray tells what the copies cost.

*Sizes: one image of 56 × 56 × 64, a 3 × 3 kernel, 64 output channels, float32; a few seconds, under 300 MB.*

You will build
    im2col, the algorithm behind most convolution layers: copy the patches into a matrix, multiply once.

You will learn
    Which line of it asks for how many bytes, under memray; why that matrix is about ``k_h·k_w`` times the
    input; and the difference between memory asked for, memory touched, and memory BLAS keeps to itself.

You need
    Lesson 1, and memray, which exists for Linux and macOS.
"""

# %%
# The picture
# -----------
# Lesson 1 took a patch, multiplied it with the kernel and added up.  That is a row times a column, one entry
# of a matrix product.  So write every patch into a row of a matrix L, lay the kernel out as a matrix with a
# column for each of its ``k_c`` channels, and the whole layer is one product.  It is called *im2col*, and L
# the *lowered matrix*.
#
# Patches overlap, so the same pixel goes into many rows.  Here is a 5 × 5 image with a 3 × 3 kernel, each
# pixel coloured by how many times it is copied.

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

pixels = np.arange(25).reshape(5, 5)
lowered = sliding_window_view(pixels, (3, 3)).reshape(9, 9)
copies = np.bincount(lowered.ravel())

fig, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained", width_ratios=(5, 9))
for ax, array, title in (
    (axes[0], pixels, "image: 5 × 5"),
    (axes[1], lowered, "L: a row of 3 × 3 numbers for each of 3 × 3 patches"),
):
    ax.pcolormesh(copies[array], cmap="Oranges", vmin=0, vmax=13, edgecolor="white", lw=1.5)
    for (row, column), pixel in np.ndenumerate(array):
        ax.text(column + 0.5, row + 0.5, pixel, ha="center", va="center", color=DARK)
    ax.set(title=title, aspect="equal")
    ax.invert_yaxis()
    ax.axis("off")
plt.show()
print(
    f"copied most often: pixel {copies.argmax()}, {copies.max()} times; least often: the corners, {copies.min()} time"
)
print(f"image {pixels.size} numbers, L {lowered.size}: {lowered.size / pixels.size:.2f} times as many")

# %%
# Windows that copy nothing
# -------------------------
# NumPy can show all patches without moving a number.  An array is a pointer, a shape, and the distance in
# bytes to the next entry along every axis, its *strides*.  A view of all patches of the image has two axes
# more, and steps along them that it already took along others.

rng = np.random.default_rng(0)
I = rng.standard_normal((1, 56, 56, 64), dtype=np.float32)
K = rng.standard_normal((3, 3, 64, 64), dtype=np.float32)


def patches(I, k_h, k_w):
    """Every patch, as a view (n, y, x, a, b, c) of the image."""
    return sliding_window_view(I, (k_h, k_w), axis=(1, 2)).transpose(0, 1, 2, 4, 5, 3)


windows = patches(I, 3, 3)
print(f"image    shape {I.shape}, strides {I.strides}")
print(f"windows  shape {windows.shape}, strides {windows.strides}")
print(
    f"they share memory: {np.shares_memory(I, windows)};  the view claims {windows.nbytes:,} bytes and owns none"
)

# %%
# The strides say it all: one row down in the output (y) is one row down in the patch (a), the same number of
# bytes.  The definition of lesson 1 is now a single line, a sum over a, b and c.


def conv2d_view(I, K):
    """The definition, over a view."""
    windows = patches(I, K.shape[0], K.shape[1])
    return np.einsum("nyxabc,abcm->nyxm", windows, K)


# %%
# Measure
# -------
# memray writes down every allocation of a program, with its size and the line that asked.  Put what you want
# to know inside a ``Tracker``, then ask its record for the *high-water mark*: everything that was alive at
# the moment when the most bytes were.


def profile(function, *args):
    """Call under memray; return the result, the peak in bytes, and what was alive at the peak."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "record.bin"
        with memray.Tracker(record):
            result = function(*args)
        with memray.FileReader(record) as reader:
            peak = reader.metadata.peak_memory
            alive = list(reader.get_high_watermark_allocation_records(merge_threads=True))
    return result, peak, alive


def show(title, peak, alive):
    """The lines that asked for more than a hundredth of the peak."""
    print(f"{title}: {peak:,} bytes at the peak")
    for allocation in sorted(alive, key=lambda a: -a.size):
        stack = [place for place in allocation.stack_trace() if place[1] == conv2d_view.__code__.co_filename]
        if allocation.size > peak / 100 and stack:
            _, file, line = stack[0]
            print(f"  {allocation.size:>12,}  {linecache.getline(file, line).strip()}")


def seconds(function, *args):
    """The best of three."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        function(*args)
        times.append(time.perf_counter() - start)
    return min(times)


O, peak_view, alive = profile(conv2d_view, I, K)
seconds_view = seconds(conv2d_view, I, K)
show("a sum over the view", peak_view, alive)
print(f"the output alone is {O.nbytes:,} bytes;  {seconds_view * 1e3:.0f} ms")
np.testing.assert_allclose(O, pymec.conv2d(I, K), rtol=1e-3, atol=1e-3)

# %%
# Nothing but the output and small change.  The memory is as good as it gets and the time is not: the sum
# runs through a general loop, which knows nothing of caches or of vector registers.
#
# One change: reshape
# -------------------
# The fastest loop on the machine is the matrix product in BLAS, GEMM.  To hand our windows to it they must
# be a matrix: rows (n, y, x), columns (a, b, c).  For NumPy that is one ``reshape``.  But no single stride
# leads through all pixels of a patch, so the reshape can't be a view.  It copies.


def conv2d_im2col(I, K):
    """im2col: copy the patches into a matrix, multiply once."""
    k_h, k_w, i_c, k_c = K.shape
    windows = patches(I, k_h, k_w)
    L = windows.reshape(-1, k_h * k_w * i_c)
    O = L @ K.reshape(-1, k_c)
    return O.reshape(*windows.shape[:3], k_c)


conv2d_im2col(I, K)  # a warm-up, of which more below
O_im2col, peak_im2col, alive = profile(conv2d_im2col, I, K)
seconds_im2col = seconds(conv2d_im2col, I, K)
np.testing.assert_allclose(O_im2col, O, rtol=1e-3, atol=1e-3)

o_h, o_w = O.shape[1:3]
L_nbytes = o_h * o_w * K[..., 0].size * 4
show("im2col", peak_im2col, alive)
print(f"L by formula: o_h·o_w·k_h·k_w·i_c numbers = {L_nbytes:,} bytes")
print(f"{seconds_im2col * 1e3:.1f} ms, {seconds_view / seconds_im2col:.0f} times as fast as over the view")
print(f"L is {L_nbytes / I.nbytes:.2f} times the input")

# %%
# This is the bargain that most libraries strike.  The loop became fast because its operands lie in rows, and
# they lie in rows because we paid for a copy of nearly every pixel for each of the ``k_h·k_w`` positions
# under the kernel.
#
# The line of the product asked for more than the output's bytes if your BLAS, as OpenBLAS does, makes itself
# a table to share the work among threads.  That brings us to what BLAS does on the quiet.
#
# What BLAS keeps to itself
# -------------------------
# A good GEMM copies pieces of both matrices into buffers that fit the caches, *packing*.  OpenBLAS takes
# these buffers when it first needs them and keeps them for as long as the process lives.  Whoever calls it
# first seems to have asked for them.  So we look in a fresh process, where nobody called it before; the
# product writes into an array that exists already, and allocates nothing itself.

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
# And how does it grow?  The left plot is our layer; the right one asks the formula about the same layer with
# other kernels.

sizes = {"input": I.nbytes, "kernel": K.nbytes, "output": O.nbytes, "im2col's L": report.workspace}
ks = range(1, 12, 2)
expansion = [pymec.ConvShape.from_shapes(I.shape, (k, k, 64, 64), padding="same").im2col_size / I.size for k in ks]
fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.1), layout="constrained", width_ratios=(5, 4))
bars = left.barh(list(sizes), [size / MIB for size in sizes.values()], color=[GREY] * 3 + [IM2COL], height=0.62)
left.bar_label(bars, fmt="%.2f", padding=4)
left.invert_yaxis()
left.set(xlabel="MiB", xlim=(0, max(sizes.values()) / MIB * 1.15))
left.tick_params(axis="y", length=0)
left.spines["left"].set_visible(False)
right.plot(ks, expansion, "o-", color=IM2COL)
for k, ratio in zip(ks, expansion, strict=True):
    right.annotate(f"{ratio:.0f}×", (k, ratio), (-6, 5), textcoords="offset points", ha="right", color=DARK)
right.set(xlabel="kernel k × k, stride 1", ylabel="L ÷ input", xticks=ks, ylim=(0, 135), xlim=(0, 11.6))
plt.show()

# %%
# What to remember
# ----------------
# * A view of all patches is free; a *matrix* of all patches is a copy, ``k_h·k_w`` times the input at stride 1.
# * The peak is a sum of parts with different owners: workspace, output, BLAS, the rest.  Compare
#   algorithms by workspace.
# * Asked for is not touched, and the first call is not the second.
#
# Try it
# ------
# The product does not need all rows of L at once.  Write ``conv2d_blocks(I, K, limit)``, which lowers as many
# output rows at a time as fit into ``limit`` bytes, multiplies, and uses the same memory for the next ones.
#
# *Hint.*  Make the block once, ``np.empty``, before the loop.  ``np.copyto`` fills a part of it, and
# ``np.matmul(..., out=...)`` writes into a part of the output.
#
# The check is a memory limit: the block, the output, and a little for BLAS and Python.


def check(conv2d_blocks):
    """Right to rounding, within the limit."""
    for limit in (MIB, MIB // 4):
        conv2d_blocks(I, K, limit)  # the warm-up
        result, peak, _ = profile(conv2d_blocks, I, K, limit)
        np.testing.assert_allclose(result, O, rtol=1e-3, atol=1e-3)
        allowed = O.nbytes + limit + MIB  # the last for BLAS's table and Python's objects
        assert peak <= allowed, f"{peak:,} bytes, but {allowed:,} are allowed"
        print(f"limit {limit:>9,}: {peak:,} bytes at the peak, im2col took {peak_im2col:,}")


# %%
# .. raw:: html
#
#    <details class="solution"><summary>A solution</summary>


def conv2d_blocks(I, K, limit):
    """im2col, some output rows at a time."""
    k_h, k_w, i_c, k_c = K.shape
    windows = patches(I, k_h, k_w)
    i_n, o_h, o_w = windows.shape[:3]
    rows = min(o_h, limit // (o_w * k_h * k_w * i_c * I.itemsize))
    block = np.empty((rows, *windows.shape[2:]), I.dtype)
    O = np.empty((i_n, o_h, o_w, k_c), I.dtype)
    for n in range(i_n):
        for y in range(0, o_h, rows):
            part = block[: min(rows, o_h - y)]
            np.copyto(part, windows[n, y : y + rows])
            L = part.reshape(-1, k_h * k_w * i_c)
            np.matmul(L, K.reshape(-1, k_c), out=O[n, y : y + rows].reshape(-1, k_c))
    return O


check(conv2d_blocks)

# %%
# .. raw:: html
#
#    </details>
#
# pymec has this algorithm as ``im2col_blocked``, in blocks of pixels and on several threads.  Its limit is a
# guarantee:

bounded = pymec.memory.measure(I, K, algorithm="im2col_blocked", workspace_limit="256KiB", n_threads=1)
print(f"predicted {bounded.predicted:,}, measured {bounded.workspace:,}, limit {256 * 1024:,}")
assert bounded.exact
assert bounded.workspace <= 256 * 1024

# %%
# Fine print
# ----------
# * With the channels of a pixel side by side (n-h-w-c) a patch is a *row* of L, and the form is also called
#   im2row.  Caffe's order puts it into a column.  The size is the same.
# * memray sees what passes through malloc, its relatives and mmap.  It does not see arrays on the stack, nor
#   what a library carves out of a block that it asked for earlier: NumPy keeps blocks below about a kilobyte
#   in such a cache.
# * One process can have one ``Tracker`` at a time, and each record goes into a new file.
# * A kernel of 1 × 1 with stride 1 and no padding needs no L: the input is its own lowered matrix.
#
# References
# ----------
# * K. Chellapilla, S. Puri and P. Simard, *High Performance Convolutional Neural Networks for Document
#   Processing*, IWFHR 2006: where the lowering comes from.
# * T. Zhao et al., *ECBC: Efficient Convolution via Blocked Columnizing*, IEEE TNNLS 34(1), 2023: the exercise,
#   done inside GEMM.
# * The memray manual, *Memory overview*: heap and resident size, and what is hooked.
