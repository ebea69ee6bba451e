"""
14 · Add an algorithm of your own
=================================

A row in a table, a formula and a function: then the library calls it, checks it, predicts it and measures it.

*Sizes: layers of up to 56 × 56 × 64, and formulas for the paper's twelve; about ten seconds, under 300 MB.*

You will build
    A convolution algorithm that pymec doesn't have, and give it to pymec.

You will learn
    What the library wants to know of an algorithm; how a wrong formula and a silent copy come to light; and what
    your algorithm would have to pass to stay.

You need
    Lessons 2 to 5; lesson 6 for what it costs.
"""

# %%
# The idea
# --------
# im2col lowers the whole kernel window, MEC a strip of the image.  What if we lower one *kernel row* at a time?  For
# output row y and kernel row a, the pixels in question lie in a single image row.  Copy its ``o_w`` windows, each
# ``k_w·i_c`` numbers, into a matrix R.  Multiply R with the ``k_w·i_c × k_c`` numbers of kernel row a, and add the
# product to the output row:
#
# .. math::
#
#    O_y = \sum_{a<k_h} R_{y s_h + a} \, K_a, \qquad |R| = o_w \, k_w \, i_c.
#
# There is one R for the whole layer, used again and again.  Here are the windows of one image row, and R:

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle
from numpy.lib.stride_tricks import sliding_window_view
from threadpoolctl import threadpool_limits

import pymec
from pymec import registry
from pymec.algorithm import Algorithm, Schedule

plt.rcParams.update({"font.size": 11, "figure.dpi": 110, "axes.titlesize": 11})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
IM2COL, MEC, GREEN, GREY = "#D55E00", "#0072B2", "#009E73", "#8C8C8C"

# sphinx_gallery_start_ignore
row, k_w = np.arange(7), 3
windows = sliding_window_view(row, k_w)
fig, (left, right) = plt.subplots(1, 2, figsize=(8.6, 2.6), layout="constrained", width_ratios=(7, 4))
for ax, numbers, title in (
    (left, row[None], "an image row, 7 pixels"),
    (right, windows, "R: 5 windows of 3 pixels"),
):
    for (y, x), value in np.ndenumerate(numbers):
        ax.add_patch(Rectangle((x, y), 1, 1, fc=GREEN, alpha=0.25 + 0.1 * value, ec="white", lw=2))
        ax.text(x + 0.5, y + 0.55, value, ha="center", va="center")
    ax.set(xlim=(-0.1, numbers.shape[1] + 0.1), ylim=(numbers.shape[0] + 0.1, -0.1), aspect="equal", title=title)
    ax.axis("off")
plt.show()
# sphinx_gallery_end_ignore

# %%
# A function
# ----------
# pymec hands an algorithm its operands, the output to fill, its workspace, the shape, and the number of threads it may
# use.  It has checked all of them before.  An algorithm allocates nothing: what it needs is in ``workspace``, and what
# is in there at the start may be anything.


def run_by_kernel_row(x, kernel, out, workspace, shape, n_threads):
    """One kernel row at a time."""
    s = shape
    for n in range(s.i_n):
        for y in range(s.o_h):
            out[n, y] = 0
            for a in range(s.k_h):
                windows = sliding_window_view(x[n, y * s.s_h + a], s.k_w, axis=0)[:: s.s_w]
                R = windows.transpose(0, 2, 1).reshape(s.o_w, s.k_w * s.i_c)
                out[n, y] += R @ kernel[a].reshape(-1, s.k_c)


# %%
# A formula and a row
# -------------------
# The row says everything else.  ``formula`` is for people, and ``schedule`` is the same in Python: elements of
# workspace for a shape.  ``unsupported`` gives a reason if the algorithm can't do a shape.  A shape that it can't do
# must be refused: a wrong answer is worse than none.


def what_it_cannot_do(shape):
    """The reason, or None."""
    if shape.groups > 1 or shape.d_h > 1 or shape.d_w > 1:
        return "it has neither groups nor dilation"
    if shape.p_t or shape.p_b or shape.p_l or shape.p_r:
        return "it has no padding"
    return None


def row_of(name, run, size, formula):
    """A row of pymec's table."""
    return Algorithm(
        name=name,
        idea="lower the windows of one image row, multiply by one kernel row, add up",
        source="lesson 14",
        formula=formula,
        order="k",
        unsupported=what_it_cannot_do,
        schedule=lambda shape, n_threads, limit: Schedule(size(shape)),
        run=run,
        uses_blas=False,  # not SciPy's: NumPy's is none of pymec's business
        fuses_bias_relu=False,  # pymec adds the bias afterwards
    )


first = row_of("first_try", run_by_kernel_row, lambda s: s.o_w * s.k_w * s.i_c, "o_w·k_w·i_c")
registry.ALGORITHMS[first.name] = first

# %%
# That is all.  pymec knows it now, until this process ends:

rng = np.random.default_rng(0)
x = rng.standard_normal((1, 56, 56, 64), dtype=np.float32)
kernel = rng.standard_normal((3, 3, 64, 64), dtype=np.float32)
out = pymec.conv2d(x, kernel, algorithm="first_try")
print(f"{pymec.workspace_size(x.shape, kernel.shape, algorithm='first_try'):,} bytes of workspace")
try:
    pymec.conv2d(x, kernel, padding=1, algorithm="first_try")
except pymec.UnsupportedShape as error:
    print(str(error).partition(";")[0])

# %%
# Is it right?
# ------------
# "It looks right" is no check, and a tolerance out of thin air isn't one either.  A sum of n products, computed in any
# order, is off by (n + 1)·u times the sum of the products' magnitudes at most; u is half of the distance from 1 to the
# next number.  The row has this bound, output by output.  So we compare with a slow sum in float64 on shapes that have
# each broken some algorithm before: strides that come out uneven, kernels that aren't square, one row, one channel.

SHAPES = [
    ((2, 9, 8, 3), (3, 2, 3, 5), (1, 1)),
    ((1, 11, 10, 4), (4, 3, 4, 2), (2, 3)),
    ((1, 7, 7, 1), (7, 7, 1, 3), (1, 1)),
    ((3, 5, 12, 2), (1, 5, 2, 4), (4, 2)),
    ((0, 5, 5, 2), (2, 2, 2, 2), (1, 1)),
]


def check(row):
    """The largest error over its bound, on all shapes; it must be at most 1."""
    worst = 0
    for x_shape, kernel_shape, stride in SHAPES:
        shape = pymec.ConvShape.from_shapes(x_shape, kernel_shape, stride=stride)
        x = rng.standard_normal(x_shape, dtype=np.float32)
        kernel = rng.standard_normal(kernel_shape, dtype=np.float32)
        exact = pymec.conv2d(x.astype(np.float64), kernel.astype(np.float64), stride=stride, algorithm="direct")
        out = pymec.conv2d(x, kernel, stride=stride, algorithm=row.name)
        bound = row.error_bound(x, kernel, shape)
        worst = max(worst, np.max(np.abs(out - exact) / bound, initial=0))
    return worst


print(f"largest error: {check(first):.3f} of its bound")
assert check(first) <= 1

# %%
# Does the formula hold?
# ----------------------
# .. admonition:: Predict, then run
#    :class: predict
#
#    The row promises ``o_w·k_w·i_c`` numbers of workspace and nothing else beside the output.  Look at ``run`` again.
#    What will memray say?


def measure(row):
    """Whose bytes, at their most.  The output is there before; BLAS has one thread, and no table to share work by."""
    with threadpool_limits(1), pymec.memory.track(n_threads=1) as t:
        pymec.conv2d(x, kernel, out=out, algorithm=row.name, n_threads=1)
    return t


predicted = pymec.workspace_size(x.shape, kernel.shape, algorithm="first_try")
t = measure(first)
print(t)
beside = sum(use.most for owner, use in t.by_owner.items() if owner not in ("workspace", "other"))
print(f"predicted {predicted:,}; taken beside it {beside:,}")
assert beside > predicted / 4

# %%
# The workspace is there, as long as promised, and nobody uses it.  Where, then, is R?  In one image row of n-h-w-c the
# windows are a view whose rows overlap, so ``reshape`` had nothing to copy, and it is the product that has to copy:
# lesson 4's surprise.  Then there is the product itself, ``o_w·k_c`` numbers that wait to be added.  The formula was
# honest about the idea and wrong about the code.
#
# So we put both into the workspace, and into the formula: ``o_w·(k_w·i_c + k_c)``.


def run_in_workspace(x, kernel, out, workspace, shape, n_threads):
    """One kernel row at a time; R and the product are in the workspace."""
    s = shape
    R = workspace[: s.o_w * s.k_w * s.i_c].reshape(s.o_w, s.k_w, s.i_c)
    product = workspace[R.size : R.size + s.o_w * s.k_c].reshape(s.o_w, s.k_c)
    matrix = R.reshape(s.o_w, s.k_w * s.i_c)  # a view: R is contiguous
    for n in range(s.i_n):
        for y in range(s.o_h):
            out[n, y] = 0
            for a in range(s.k_h):
                windows = sliding_window_view(x[n, y * s.s_h + a], s.k_w, axis=0)[:: s.s_w]
                np.copyto(R, windows.transpose(0, 2, 1))
                np.matmul(matrix, kernel[a].reshape(-1, s.k_c), out=product)
                out[n, y] += product


row = row_of("by_kernel_row", run_in_workspace, lambda s: s.o_w * (s.k_w * s.i_c + s.k_c), "o_w·(k_w·i_c + k_c)")
registry.ALGORITHMS[row.name] = row

predicted = pymec.workspace_size(x.shape, kernel.shape, algorithm=row.name)
t = measure(row)
print(f"predicted {predicted:,}, measured {t.by_owner['workspace'].most:,}, all that was asked for {t.peak:,}")
assert check(row) <= 1
assert predicted == t.by_owner["workspace"].most
assert t.peak - predicted < 2**15  # Python's objects

# %%
# Predicted is measured now, and some kilobytes of Python's objects are the rest.
#
# Where does it stand?
# --------------------
# The formula answers that for any layer, without running one.
#
# .. admonition:: Predict, then run
#    :class: predict
#
#    R is one kernel row of one output row.  Is that less than MEC's L on all of the paper's layers?  On which of them
#    does ``k_c`` weigh more than ``k_w·i_c``?

layers = {name: pymec.layers.get(name).shape() for name in pymec.layers.PAPER}
sizes = {
    algorithm: [4 * registry.get(algorithm).schedule(s, 1, None).size for s in layers.values()]
    for algorithm in ("im2col", "mec_b", "by_kernel_row")
}
print("layer       im2col        mec_b   by_kernel_row")
for name, *cells in zip(layers, *sizes.values(), strict=True):
    print(f"{name:<5} {cells[0]:>12,} {cells[1]:>12,} {cells[2]:>15,}")
heavy = [name for name, s in layers.items() if s.k_c > s.k_w * s.i_c]
print("k_c weighs more in", ", ".join(heavy))

# sphinx_gallery_thumbnail_number = 2
# sphinx_gallery_start_ignore
fig, ax = plt.subplots(figsize=(8.6, 3.6), layout="constrained")
for (name, values), color in zip(sizes.items(), (IM2COL, MEC, GREEN), strict=True):
    ax.plot(list(layers), values, "o", color=color, ms=9, label=name)
ax.set(yscale="log", ylabel="workspace, bytes", ylim=(5e3, 5e8))
ax.grid(axis="y", color="#EBEBEB")
ax.set_axisbelow(True)
ax.legend(frameon=False, ncols=3, loc="upper right")
plt.show()
# sphinx_gallery_end_ignore

# %%
# Memory isn't everything.  Our algorithm makes ``o_h·k_h`` products of ``o_w`` rows for each image, calls NumPy for each,
# and copies as many numbers as im2col does, only not at the same time.  Lesson 6 has the means to say what that costs.
#
# To stay
# -------
# We take our rows out of the table again.  They would be gone when Python ends.

for name in (first.name, row.name):
    del registry.ALGORITHMS[name]

# %%
# An algorithm that stays in pymec has
#
# * its kernel in a file of its own, in one of the families of ``pymec/kernels``, with the idea, the formula and the
#   source in its first lines;
# * its row in the family's ``rows.py``.
#
# Nothing else changes.  The tests read the table.  They call each algorithm on hundreds of shapes, with NaN in its
# workspace and guard pages around its arrays, on one thread and several, and hold its error to its bound.  memray
# measures what the row predicts, the report draws it, and the reference gets a page about it.
#
# What to remember
# ----------------
# * An algorithm is a function, a formula, and an honest list of what it can't do.
# * A formula is a claim about code, so it is measured.  What the code asks for beside its workspace comes to light.
# * "Close enough" has a number: the error bound of a sum.
#
# Try it
# ------
# Now one of yours.  ``tutorials/exercises/14_your_own_algorithm`` takes any algorithm that needs at most a sixteenth of
# im2col's workspace on cv9.  The starter has all the parts, but the grader is not content with it:
#
# .. code-block:: bash
#
#    pytest tutorials/exercises/14_your_own_algorithm
#
# Fine print
# ----------
# * ``registry.ALGORITHMS`` is an ordinary dict.  A plugin that adds a row at run time works in its own process alone;
#   :func:`pymec.memory.measure`, which starts a fresh one, doesn't know the row.
# * ``order`` says what the workspace grows with, for the report's colours.  :class:`pymec.algorithm.Algorithm` lists
#   all fields, also those for prepared kernels, and for arrays that need not be contiguous.
# * A NumPy function holds the GIL, so ``n_threads`` is of no use to it.
#
# References
# ----------
# * :mod:`pymec.algorithm` and :mod:`pymec.registry`: what a row is, and the table.
# * N. Higham, *Accuracy and Stability of Numerical Algorithms*, SIAM, section 3.1: the error of a sum.
