"""
5 · Check the paper's memory analysis to the byte
=================================================

Formulas for twelve layers, each held against the bytes of a real call.

*Sizes: the twelve layers of the paper's Table 2 on one image, float32; about twelve seconds, under 400 MB.*

You will build
    The paper's comparison of MEC with im2col: formulas, tables and plots, each checked against memray.

You will learn
    When MEC saves memory and how much; where it saves nothing; and what the test |O| ≤ |L| in
    Algorithm 2 is for.

You need
    Lesson 4's L, and lesson 3's memray for the measured columns.
"""

# %%
# The formulas
# ------------
# Lesson 2 counted im2col's lowered matrix, lesson 4 MEC's:
#
# .. math::
#
#    |L_\mathrm{im2col}| = i_n \, o_h \, o_w \, k_h \, k_w \, i_c, \qquad
#    |L| = i_n \, o_w \, i_h \, k_w \, i_c.
#
# All factors but two agree.  Where im2col has ``o_h·k_h`` rows of patches under each other, MEC has ``i_h`` rows
# of the image:
#
# .. math::
#
#    \frac{|L_\mathrm{im2col}|}{|L|} = \frac{o_h \, k_h}{i_h} \approx \frac{k_h}{s_h}
#
# for an image much higher than the kernel.  The saving is the difference,
#
# .. math::
#
#    D = i_n \, i_c \, o_w \, k_w \, (o_h k_h - i_h)
#      = i_n \, i_c \, o_w \, k_w \, (i_h - k_h) \left( \frac{k_h}{s_h} - 1 \right),
#
# the second form where ``s_h`` divides ``i_h - k_h``.  It holds the whole answer to when MEC helps: **when the
# kernel is higher than the stride**, so that patches below each other overlap.

from fractions import Fraction

import matplotlib.pyplot as plt
import numpy as np

import pymec
from pymec.kernels.mec import choose_solution

plt.rcParams.update({"font.size": 11, "figure.dpi": 110, "axes.titlesize": 11})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
IM2COL, MEC, OURS, GREY = "#D55E00", "#0072B2", "#009E73", "#8C8C8C"
MIB = 2**20

layers = [pymec.layers.get(name) for name in pymec.layers.PAPER]
shapes = {layer.name: layer.shape() for layer in layers}

for s in shapes.values():
    D = s.im2col_size - s.paper_mec_size
    assert s.i_n * s.i_c * s.o_w * s.k_w * (s.o_h * s.k_h - s.i_h) == D
    if (s.i_h - s.k_h) % s.s_h == 0:
        assert s.i_n * s.i_c * s.o_w * s.k_w * (s.i_h - s.k_h) * (Fraction(s.k_h, s.s_h) - 1) == D
print(f"both forms of D hold for {', '.join(n for n, s in shapes.items() if not (s.i_h - s.k_h) % s.s_h)};")
print(f"only the first for {', '.join(n for n, s in shapes.items() if (s.i_h - s.k_h) % s.s_h)}")

# %%
# Twelve layers
# -------------
# The paper's Table 2 takes twelve layers from well-known networks and calls them cv1 to cv12.  None has padding.
# Here they are with the formulas' answers.

print(f"layer  {'input':>11}  {'kernel':>9}  s  {'output':>7}  im2col MiB  MEC MiB  ratio   k/s   saved")
for name, s in shapes.items():
    image, kernel, output = f"{s.i_h}×{s.i_w}×{s.i_c}", f"{s.k_h}×{s.k_w}×{s.k_c}", f"{s.o_h}×{s.o_w}"
    im2col, mec = s.im2col_size * 4, s.paper_mec_size * 4
    print(
        f"{name:<5}  {image:>11}  {kernel:>9}  {s.s_h}  {output:>7}  {im2col / MIB:>10.3f}  {mec / MIB:>7.3f}"
        f"  {im2col / mec:>5.2f}  {s.k_h / s.s_h:>4.2f}  {1 - mec / im2col:>6.1%}"
    )
total = sum(s.im2col_size for s in shapes.values()) / sum(s.paper_mec_size for s in shapes.values())
print(f"\nall together: im2col {total:.2f} times MEC")

# %%
# In a plot, with the megabytes on a logarithmic axis so that a ratio is a length:

fig, ax = plt.subplots(figsize=(8.8, 4.6), layout="constrained")
rows = np.arange(len(shapes))
left = np.array([s.paper_mec_size * 4 / MIB for s in shapes.values()])
right = np.array([s.im2col_size * 4 / MIB for s in shapes.values()])
ax.hlines(rows, left, right, color="#D0D0D0", lw=5)
ax.plot(left, rows, "o", color=MEC, ms=9)
ax.plot(right, rows, "o", color=IM2COL, ms=9)
for row, a, b in zip(rows, left, right, strict=True):
    ax.text(b * 1.16, row, f"{b / a:.2f}×", va="center", color="#404040")
ax.text(left[0], -0.85, "MEC", color=MEC, ha="center", weight="bold")
ax.text(right[0], -0.85, "im2col", color=IM2COL, ha="center", weight="bold")
ax.set(
    xscale="log", xlabel="lowered matrix, MiB, one image", yticks=rows, yticklabels=list(shapes), xlim=(0.15, 300)
)
ax.set_xticks([0.25, 1, 4, 16, 64, 256], ["¼", "1", "4", "16", "64", "256"])
ax.minorticks_off()
ax.grid(axis="x", color="#EBEBEB")
ax.set_axisbelow(True)
ax.invert_yaxis()
ax.tick_params(axis="y", length=0)
ax.spines["left"].set_visible(False)
plt.show()

# %%
# All formulas have the factor ``i_n``: a larger batch moves both dots, and the ratio stays.
#
# Measure
# -------
# A formula on its own is a hope.  So we run all twelve layers by both algorithms while memray watches, and set its
# bytes beside the formula's.

print("layer        im2col, predicted and measured           MEC, predicted and measured")
for name, s in shapes.items():
    x, kernel = np.ones(s.input_shape, np.float32), np.ones(s.kernel_shape, np.float32)
    cells = []
    for algorithm, size in (("im2col", s.im2col_size), ("mec_paper", s.paper_mec_size)):
        with pymec.memory.track(n_threads=1) as t:
            pymec.conv2d(x, kernel, stride=(s.s_h, s.s_w), algorithm=algorithm, n_threads=1)
        measured = t.by_owner["workspace"].most
        assert measured == size * 4
        cells.append(f"{size * 4:>16,} {measured:>16,}")
    print(f"{name:<5} {'    '.join(cells)}")

# %%
# All agree to the last byte.  Were the bytes really used, and not just asked for?  A process of its own tells, in
# which the pages that were touched are counted, too:

report = pymec.memory.measure_shape(shapes["cv1"], "mec_paper", n_threads=1)
print(f"workspace {report.workspace:,} + output {report.output:,} = {report.workspace + report.output:,} bytes")
print(f"resident  {report.resident:,} bytes more than before the call")

# %%
# One change: a stride as large as the kernel
# -------------------------------------------
# k_h/s_h is what matters, so vary it.  We take cv1 and move its stride from 1 to 11, the height of its kernel.
#
# .. admonition:: Predict, then run
#    :class: predict
#
#    At stride 11 no two patches share a pixel.  How large is MEC's L then, beside im2col's matrix?
#
# The paper's L stores all ``i_h`` rows of the image, also those that no output reads: below the last kernel
# position, and, once the stride exceeds the kernel, between the kernel's positions.  So do ``mec_vanilla``,
# ``mec_a``, ``mec_b`` and ``mec_paper``.  pymec's tuned form, ``mec``, keeps only rows that some output reads,
#
# .. math::
#
#    r_h = \min\left( (o_h - 1)\, s_h + k_h,\; o_h k_h \right),
#
# so that its L never exceeds im2col's matrix.  :attr:`~pymec.ConvShape.paper_mec_size` is the one,
# :attr:`~pymec.ConvShape.mec_size` the other.

cv1 = pymec.layers.get("cv1")
strides = range(1, cv1.k_h + 1)
sweep = [
    pymec.ConvShape.from_shapes((1, cv1.i_h, cv1.i_w, cv1.i_c), (cv1.k_h, cv1.k_w, cv1.i_c, cv1.k_c), stride=s)
    for s in strides
]
print(" s    k/s    o   im2col MiB   MEC, paper   MEC, tuned   rows kept   ratio, paper   ratio, tuned")
for p in sweep:
    r_h = p.lowered_rows()
    assert r_h == min((p.o_h - 1) * p.s_h + p.k_h, p.o_h * p.k_h)
    im2col, paper, kept = p.im2col_size * 4, p.paper_mec_size * 4, p.mec_size * 4
    print(
        f"{p.s_h:>2}  {p.k_h / p.s_h:>5.2f}  {p.o_h:>3}   {im2col / MIB:>10.3f}   {paper / MIB:>10.3f}   "
        f"{kept / MIB:>10.3f}  {r_h:>4} of {p.i_h}   {im2col / paper:>12.3f}   {im2col / kept:>12.3f}"
    )

# %%
# Left the memory, right the ratio.

k_over_s = np.array([cv1.k_h / s for s in strides])
im2col = np.array([p.im2col_size for p in sweep])
paper = np.array([p.paper_mec_size for p in sweep])
clamped = np.array([p.mec_size for p in sweep])

fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.9), layout="constrained")
left.plot(strides, im2col * 4 / MIB, "o-", color=IM2COL)
left.plot(strides, paper * 4 / MIB, "o-", color=MEC)
left.text(4.2, im2col[3] * 4 / MIB * 1.25, "im2col", color=IM2COL, weight="bold")
left.text(3.8, paper[3] * 4 / MIB * 0.8, "MEC", color=MEC, weight="bold", ha="right", va="top")
left.set(yscale="log", xlabel="stride $s$, cv1", ylabel="lowered matrix, MiB", xticks=strides, ylim=(0.4, 100))
left.set_yticks([0.5, 1, 2, 4, 8, 16, 32, 64], ["½", "1", "2", "4", "8", "16", "32", "64"])
left.minorticks_off()

right.axhline(1, color=GREY, lw=1)
right.plot((1, 2.8), (1, 2.8), color=GREY, lw=1, ls="--")
right.plot(k_over_s, im2col / paper, "o-", color=MEC)
right.plot(k_over_s, im2col / clamped, "o", mfc="none", mec=OURS, ms=10, mew=1.8)
right.text(2.78, 2.86, "$k/s$", color=GREY, ha="right")
right.text(2.75, 1.03, "im2col's size", color=GREY, ha="right", va="bottom")
right.plot([], [], "o-", color=MEC, label="all rows stored, as in the paper")
right.plot([], [], "o", mfc="none", mec=OURS, ms=10, mew=1.8, label="rows that are read")
right.legend(frameon=False, loc="upper left")
right.set(xlabel="$k/s$", ylabel="im2col ÷ MEC", xlim=(0.93, 2.85), ylim=(0.85, 3))
plt.show()

worst = np.argmin(im2col / paper)
ratios = (im2col / paper)[worst], (im2col / clamped)[worst]
print(f"k/s = {k_over_s[worst]:.2f}: {ratios[0]:.3f} with all rows, {ratios[1]:.3f} with those read")
assert (im2col >= clamped).all()

# %%
# The ratio follows k/s and, as the kernel is not small beside the image, stays a little below it.  At k = s
# nothing overlaps, nothing can be saved, and the paper's form even needs more than im2col, for rows that nothing reads.
#
# On the paper's own layers the two sizes differ only where the strides do not come out even:

for name, s in shapes.items():
    if s.mec_size != s.paper_mec_size:
        unread = s.i_h - s.lowered_rows()
        print(f"{name}: {unread} row unread, {(s.paper_mec_size - s.mec_size) * 4:,} bytes less")

# %%
# The test in line 8
# ------------------
# With several images Algorithm 2 multiplies in one of two ways.  Solution A makes ``o_h`` products, each over the
# strips of *all* images: tall, which suits BLAS when ``o_w`` is small.  But its output comes out in the order
# h-n-w-c.  To put it in order without memory of its own, the output is first copied into L, which is no longer
# needed, and written back row by row.  For that it must fit.  Solution B makes ``i_n·o_h`` products straight into
# n-h-w-c.
#
# So line 8 reads: A if ``o_w <= T`` and |O| ≤ |L|, otherwise B; T is a constant of the platform.  Put the
# formulas in, and ``i_n`` and ``o_w`` cancel: it is a property of the layer, ``o_h·k_c <= i_h·k_w·i_c``.
#
# .. admonition:: Predict, then run
#    :class: predict
#
#    cv1, cv2, cv3 and cv7 all have three input channels and many output channels.  Which of them fail the test?

T = 100  # the paper's value for GPUs
i_n = 32
shapes = {layer.name: layer.shape(i_n) for layer in layers}
print(f"{i_n} images")
print(f"layer   o_w     |O| MiB   |L| MiB   |O| <= |L|   o_w <= {T}   choice")
for layer, s in zip(layers, shapes.values(), strict=True):
    fits = s.output_size <= s.paper_mec_size
    assert fits == (s.o_h * s.k_c <= s.i_h * s.k_w * s.i_c)
    assert all((layer.shape(i_n).output_size <= layer.shape(i_n).paper_mec_size) == fits for i_n in (2, 32))
    print(
        f"{layer.name:<6} {s.o_w:>4}   {s.output_nbytes / MIB:>9.3f} {s.paper_mec_size * 4 / MIB:>9.3f}   "
        f"{'yes' if fits else 'no':<10}   {'yes' if s.o_w <= T else 'no':<10}   "
        f"{choose_solution(s, T)}"
    )
refused = [name for name, s in shapes.items() if s.output_size > s.paper_mec_size]
print(f"\n|O| > |L|: {', '.join(refused)}")

# %%
# Three input channels are not enough to fail.  A tall kernel with a large stride helps: it makes ``k_w`` large and
# ``o_h`` small, and cv1 and cv2 have both.  In cv3 and cv7 the output has more numbers in a column, ``o_h·k_c``, than
# L has in a strip, ``i_h·k_w·i_c``:

for name in ("cv1", "cv2", "cv3", "cv7"):
    s = shapes[name]
    print(f"{name}: o_h·k_c = {s.o_h * s.k_c:>6,}   i_h·k_w·i_c = {s.i_h * s.k_w * s.i_c:>6,}")

# %%
# For Solution A L must then have the size of O, and memray sees it:

s = pymec.layers.get(refused[0]).shape(i_n=2)
for algorithm in ("mec_b", "mec_a"):
    report = pymec.memory.measure_shape(s, algorithm, n_threads=1)
    print(f"{refused[0]}, two images, {algorithm}: {report.workspace:>12,} bytes")
    assert report.exact
print(f"{'|L|':>24}: {s.paper_mec_size * 4:>12,}\n{'|O|':>24}: {s.output_nbytes:>12,}")
assert report.workspace == max(s.paper_mec_size, s.output_size) * 4

# %%
# What to remember
# ----------------
# * im2col stores ``o_h·k_h`` rows for each output column and kernel column, MEC ``i_h``.  The ratio is about
#   ``k_h/s_h``.
# * No overlap, no saving: at ``s_h >= k_h`` L is as large as im2col's matrix, if only the rows that are read are
#   kept, and larger if all are.
# * Neither size depends on ``k_c``.  The output does, and so does the test |O| ≤ |L|.
#
# Try it
# ------
# Predict your layer, then measure it.  ``tutorials/exercises/05_predict_your_layer`` asks for the bytes of im2col's
# matrix, of the paper's L, and of an L that keeps only rows that are read, for any kernel and stride, with padding.
# pymec's own measured bytes are the judge.
#
# .. code-block:: bash
#
#    pytest tutorials/exercises/05_predict_your_layer
#
# Fine print
# ----------
# * MiB is 2\ :sup:`20` bytes, an element four.
# * The output's size is rounded down, as in lesson 1, so that a layer such as cv4, whose stride does not come out
#   even, has a last image row that nothing reads.
# * im2col's size here is that of the whole batch.  Taking one image at a time divides it by ``i_n``, and the same
#   goes for MEC: compare like with like.
# * ``pymec.conv2d(..., algorithm="mec_paper")`` takes |L| and no more, whichever solution line 8 chooses.
#
# References
# ----------
# * M. Cho and D. Brand, *MEC: Memory-efficient Convolution for Deep Neural Network*, ICML 2017,
#   arXiv:1706.06873: Table 2 and Algorithm 2.
