"""
6 · Ask whether it is faster
============================

MEC holds fewer bytes.  Whether it takes less time depends on the shape of its products, and on who its rival is.

*Sizes: four of the paper's layers, one image each, float32; about ten seconds, under 300 MB.*

You will build
    A table of what three algorithms hold, move and multiply, with the time that each of them takes.

You will learn
    Why the same number of multiply-adds can take several times as long; which rival MEC has to beat; and what MEC is
    good for where no lowering at all is faster.

You need
    Lessons 4 and 5.
"""

# %%
# Three ways to make one output
# -----------------------------
# All three below do the multiply-adds of the definition.  They differ in how the work reaches BLAS.
#
# ==================  =====================================  ===========================================
# algorithm           products                               rows × sum × columns of each
# ==================  =====================================  ===========================================
# im2col              1                                      ``o_h·o_w`` × ``k_h·k_w·i_c`` × ``k_c``
# published MEC       ``o_h``, one for each output row       ``o_w`` × ``k_h·k_w·i_c`` × ``k_c``
# im2col in blocks    some, each of a block of pixels        a block × ``k_h·k_w·i_c`` × ``k_c``
# ==================  =====================================  ===========================================
#
# The third is the obvious answer to im2col's appetite: lower a block of pixels, multiply, and use the same memory for
# the next block.  We write it, since it will be the measure of everything else.

import timeit

import matplotlib.pyplot as plt
import numpy as np
from numpy.lib.stride_tricks import as_strided, sliding_window_view
from threadpoolctl import threadpool_limits

import pymec

plt.rcParams.update({"font.size": 11, "figure.dpi": 110, "axes.titlesize": 11})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
IM2COL, MEC, GREY = "#D55E00", "#0072B2", "#8C8C8C"
MIB = 2**20
rng = np.random.default_rng(0)


def best(call, repeat=25):
    """Seconds of the fastest of some calls, with BLAS on one thread."""
    with threadpool_limits(1):
        return min(timeit.repeat(call, number=1, repeat=repeat))


def windows_of(x, k_h, k_w, s):
    """Every patch, as a view (y, x, a, b, c) of an image."""
    return sliding_window_view(x, (k_h, k_w), axis=(0, 1))[::s, ::s].transpose(0, 1, 3, 4, 2)


def im2col(x, kernel, s):
    """All patches, one product."""
    k_h, k_w, i_c, k_c = kernel.shape
    windows = windows_of(x, k_h, k_w, s)
    L = windows.reshape(-1, k_h * k_w * i_c)
    return (L @ kernel.reshape(-1, k_c)).reshape(*windows.shape[:2], k_c)


def mec(x, kernel, s):
    """Strips, and a product for each output row: lesson 4."""
    (i_h, i_w, i_c), (k_h, k_w, _, k_c) = x.shape, kernel.shape
    o_h, o_w = (i_h - k_h) // s + 1, (i_w - k_w) // s + 1
    L = np.stack([x[:, w * s : w * s + k_w] for w in range(o_w)])
    step = k_w * i_c * L.itemsize
    partitions = as_strided(L, (o_h, o_w, k_h * k_w * i_c), (s * step, i_h * step, L.itemsize), writeable=False)
    return partitions @ kernel.reshape(-1, k_c)


def im2col_in_blocks(x, kernel, s, nbytes=MIB // 2):
    """As many output rows at a time as fit into some bytes."""
    k_h, k_w, i_c, k_c = kernel.shape
    windows = windows_of(x, k_h, k_w, s)
    o_h, o_w = windows.shape[:2]
    rows = max(1, min(o_h, nbytes // (o_w * k_h * k_w * i_c * x.itemsize)))
    block = np.empty((rows, *windows.shape[1:]), x.dtype)
    out = np.empty((o_h, o_w, k_c), x.dtype)
    for y in range(0, o_h, rows):
        part = block[: min(rows, o_h - y)]
        np.copyto(part, windows[y : y + rows])
        flat = part.reshape(-1, k_h * k_w * i_c)
        np.matmul(flat, kernel.reshape(-1, k_c), out=out[y : y + rows].reshape(-1, k_c))
    return out


# %%
# Measure
# -------
# .. admonition:: Predict, then run
#    :class: predict
#
#    MEC writes between a third and a half of the bytes that im2col writes.  On how many of these four layers will it be faster?  And
#    how much memory will the blocks take?

layers = {name: pymec.layers.get(name).shape() for name in ("cv1", "cv6", "cv9", "cv12")}
rivals = {"im2col": im2col, "MEC": mec, "in blocks": im2col_in_blocks}
seconds, held = {}, {}
for name, s in layers.items():
    x = rng.standard_normal(s.input_shape[1:], dtype=np.float32)
    kernel = rng.standard_normal(s.kernel_shape, dtype=np.float32)
    expected = pymec.conv2d(x[None], kernel, stride=s.s_h)[0]
    for rival, function in rivals.items():
        np.testing.assert_allclose(function(x, kernel, s.s_h), expected, rtol=1e-3, atol=1e-2)
        seconds[name, rival] = best(lambda f=function, x=x, kernel=kernel, s=s: f(x, kernel, s.s_h))
        with threadpool_limits(1), pymec.memory.track(n_threads=1) as t:
            function(x, kernel, s.s_h)
        held[name, rival] = t.peak - s.output_nbytes

print("layer   " + "".join(f"{rival + ', MiB':>16}{'time':>7}" for rival in rivals) + "   (im2col's time is 1)")
for name in layers:
    cells = [f"{held[name, r] / MIB:>16.2f}{seconds[name, r] / seconds[name, 'im2col']:>7.2f}" for r in rivals]
    print(f"{name:<8}{''.join(cells)}")

# %%
# The blocks hold half a MiB at most, less than L where L is larger than that.  How their time and MEC's compare with
# im2col's is a matter of the machine; the table is from the one that built this page.  One thing should be the same on
# yours: MEC stands worst on cv12, and that is what we look into now.
#
# Why the shape counts
# --------------------
# im2col makes one tall product.  MEC makes ``o_h`` low ones, each ``o_w`` rows high.  Take cv12's kernel matrix,
# 4,608 × 512 numbers, and multiply it with matrices of more and more rows.
#
# .. admonition:: Predict, then run
#    :class: predict
#
#    With 5 rows, as in MEC's products on cv12, how much of BLAS's best rate will be left?

heights = (1, 5, 12, 25, 50, 100, 200)
matrix = rng.standard_normal((3 * 3 * 512, 512), dtype=np.float32)
rates = []
for height in heights:
    rows = rng.standard_normal((height, len(matrix)), dtype=np.float32)
    rates.append(2 * rows.size * matrix.shape[1] / best(lambda rows=rows: rows @ matrix) * 1e-9)
print("rows   " + "".join(f"{height:>7}" for height in heights))
print("GFLOP/s" + "".join(f"{rate:>7.0f}" for rate in rates))

# sphinx_gallery_start_ignore
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.7), layout="constrained")
left.plot(heights, rates, "o-", color=GREY)
left.axvline(layers["cv12"].o_w, color=MEC, lw=1.5, ls="--")
left.axvline(layers["cv12"].o_h * layers["cv12"].o_w, color=IM2COL, lw=1.5, ls="--")
left.text(5.4, max(rates) * 0.93, "MEC", color=MEC, weight="bold")
left.text(26.5, max(rates) * 0.08, "im2col", color=IM2COL, weight="bold")
left.set(xscale="log", xlabel="rows of the product", ylabel="GFLOP/s", ylim=0)
left.set_xticks(heights, [str(h) for h in heights])
left.minorticks_off()
places = np.arange(len(layers))
for shift, (rival, color) in zip(
    (-0.27, 0, 0.27), (("im2col", IM2COL), ("MEC", MEC), ("in blocks", GREY)), strict=True
):
    values = [seconds[name, rival] / seconds[name, "im2col"] for name in layers]
    right.bar(places + shift, values, 0.25, color=color, label=rival)
right.set(xticks=places, xticklabels=list(layers), ylabel="time ÷ im2col's", ylim=(0, None))
right.legend(frameon=False, loc="upper left")
plt.show()
# sphinx_gallery_end_ignore

# %%
# A product has to read its right-hand matrix, here the kernel, however few rows there are to the left.  With one row each
# of its numbers is used once, with 200 rows 200 times.  So count what is read:

print("layer  products      rows    kernel's bytes read      multiply-adds per byte of it")
for name, s in layers.items():
    kernel_nbytes = s.kernel_size * 4
    for rival, products in (("im2col", 1), ("MEC", s.o_h)):
        rows = s.o_h * s.o_w // products
        read = products * kernel_nbytes
        print(f"{name:<6} {rival:<7}{products:>4} {rows:>7} {read:>22,} {s.multiply_adds / read:>20.1f}")

# %%
# *Bytes held* are one thing, and *bytes moved* another.  MEC moves fewer on the way into L, where each image number is
# copied about ``k_w/s_w`` times in place of ``k_h·k_w/(s_h·s_w)``.  It moves more on the way through the products: the
# kernel is read again for each output row, unless it fits into a cache.  On cv12, with 5 × 5 outputs and a kernel of 9 MiB,
# the second weighs more.  On cv1, whose kernel is small and whose output rows are long, it weighs little.
#
# Then why MEC?
# -------------
# ``pymec.conv2d`` doesn't lower at all where it can.  Register tiles take the numbers of the image where they lie, and
# need no workspace:

s = layers["cv9"]
x = rng.standard_normal(s.input_shape, dtype=np.float32)
kernel = rng.standard_normal(s.kernel_shape, dtype=np.float32)
print(f"cv9: 'auto' takes {pymec.explain(x.shape, kernel.shape).chosen}")
base = best(lambda: pymec.conv2d(x, kernel, algorithm="im2col", n_threads=1))
for algorithm in ("im2col", "mec_b", "im2col_blocked", "mec_banded", "direct_blocked"):
    time = best(lambda a=algorithm: pymec.conv2d(x, kernel, algorithm=a, n_threads=1))
    nbytes = pymec.workspace_size(x.shape, kernel.shape, algorithm=algorithm, n_threads=1)
    print(f"{algorithm:<15} {nbytes:>10,} bytes, {time / base:.2f} of im2col's time")

# %%
# So the honest answer has four parts.
#
# * *Where products of matrices are the only fast thing you have*, as in a BLAS that somebody else tuned, or on a device
#   that has nothing but a matrix unit, you must lower.  MEC's L is the smallest of all lowered matrices that need no
#   second copy, and it is made once.  Im2col in blocks holds less, but it copies every number ``k_h·k_w`` times.
# * *Where L is used again.*  Training reads it once more for the gradient of the kernel.  A block that has been
#   overwritten is of no use for that, and L is ``k_h/s_h`` times smaller than the matrix im2col would have to keep.
# * *As an idea.*  One copy, and then matrices that overlap in it: later algorithms keep the second half and drop the
#   first.  Read in n-h-w-c, one kernel row of the image is such a matrix already.
# * *Not* as the fastest algorithm on a CPU like the one that built this page.  The table above says so, and
#   :doc:`the claims page </results/claims>` says it for all twelve layers, with the reasons.
#
# What to remember
# ----------------
# * Bytes held, bytes moved and the shape of the products are three different things.
# * A low product reads its kernel for few rows.  ``o_w`` rows are MEC's, unless several images or output rows share one.
# * The rival of a low-memory algorithm is im2col in blocks, not im2col.
#
# Try it
# ------
# ``tutorials/exercises/06_fewer_products`` has MEC for a layer such as cv12.  It makes a product for each output row.  Cut
# them to ``k_h``, however many output rows there are, and keep within the memory that is allowed.  The test counts your
# products.
#
# .. code-block:: bash
#
#    pytest tutorials/exercises/06_fewer_products
#
# Fine print
# ----------
# * Times here are the best of some calls on one thread; times of NumPy contain its own overhead of a few microseconds for
#   each product.  pymec's ``mec_b`` calls BLAS from compiled code and has none of it.
# * ``mec`` and ``mec_banded`` are pymec's own tuned forms: the strips are the paper's, the products are register tiles.
#   What they gain is the tiles' merit.  ``im2col_blocked`` gets the same tiles.
# * OpenBLAS may choose other inner loops for other machines; ``pymec versions`` tells which ones ran.
#
# References
# ----------
# * M. Cho and D. Brand, *MEC: Memory-efficient Convolution for Deep Neural Network*, ICML 2017, arXiv:1706.06873.
# * S. Williams, A. Waterman and D. Patterson, *Roofline: An Insightful Visual Performance Model for Multicore
#   Architectures*, CACM 52(4), 2009: multiply-adds per byte.
# * :doc:`/concepts/traffic`: bytes moved by every algorithm, counted.
