"""
4 · Build MEC by hand
=====================

MEC copies vertical strips, once, and multiplies matrices that overlap in them.

*Sizes: 7 × 7 numbers, then a photograph of 600 × 512 pixels and layers of up to 4 × 56 × 56 × 32; a few
seconds, under 300 MB.*

You will build
    MEC, the memory-efficient convolution of Cho & Brand, in a dozen lines of NumPy; first for the example of
    their paper, then with batch, channels and stride.

You will learn
    Why one copy of the image in vertical strips is enough; how overlapping matrices can be multiplied
    without being copied; and that pymec's compiled L is yours, byte for byte.

You need
    Lessons 1 to 3: the letters, im2col, strides, and what memray measures.
"""

# %%
# The picture
# -----------
# im2col copies a pixel once for each patch it is in: across, because patches overlap their neighbours to the
# right, and down, because they overlap those below.  MEC copies for the first overlap only.
#
# The paper's example is a 7 × 7 image and a 3 × 3 kernel at stride 1.  The output has five columns, and for
# each of them the image has a vertical strip that holds everything the column will ever read: A, B, C, D, E.

import timeit

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.cbook import get_sample_data
from matplotlib.patches import Rectangle
from numpy.lib.stride_tricks import as_strided, sliding_window_view
from threadpoolctl import threadpool_limits

import pymec
from pymec.kernels import mec

plt.rcParams.update({"font.size": 11, "figure.dpi": 110, "axes.titlesize": 12})
STRIPS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9")  # told apart by colour-blind readers too

I = np.arange(49, dtype=np.float32).reshape(7, 7)
K = np.array([[1, 2, 1], [0, 0, 0], [-1, -2, -1]], np.float32)
i_h, i_w = I.shape
k_h, k_w = K.shape
o_h, o_w = i_h - k_h + 1, i_w - k_w + 1

# %%
# **Stage 1, lowering.**  Write each strip as one row of L: its first image row, then its second, to the last.

L = np.stack([I[:, x : x + k_w].ravel() for x in range(o_w)])
im2col = sliding_window_view(I, (k_h, k_w)).reshape(o_h * o_w, k_h * k_w)
print(f"im2col {im2col.shape}: {im2col.size} numbers")
print(f"L      {L.shape}: {L.size} numbers, {1 - L.size / im2col.size:.1%} less")

# %%
# **Stage 2, products.**  Where in L are the patches of output row y?  The patch of column x is in strip x, and
# in there it is image rows y to y + 2: since the strip's rows lie one after the other, that is an unbroken run
# of nine numbers, from 3y on.  All five patches of the row are therefore columns 3y to 3y + 9 of L.  The paper
# calls these five overlapping *partitions* P, Q, R, S, T.

# sphinx_gallery_start_ignore


def draw_strips_and_partitions(I, L, o_h, o_w, k_h, k_w):
    """The strips in the image, then L with its partitions."""
    i_h, i_w = I.shape
    fig = plt.figure(figsize=(10, 6.2), layout="constrained")
    top, bottom = fig.subfigures(2, 1, height_ratios=(1, 1.75))

    for x, (ax, color) in enumerate(zip(top.subplots(1, o_w), STRIPS, strict=True)):
        inside = (np.arange(i_w) >= x) & (np.arange(i_w) < x + k_w)
        for (row, column), value in np.ndenumerate(I):
            ax.add_patch(
                Rectangle((column, row), 1, 1, facecolor=color if inside[column] else "#F4F4F4",
                          alpha=0.62 if inside[column] else 1, edgecolor="white", lw=1)
            )  # fmt: skip
            ax.text(column + 0.5, row + 0.55, f"{value:.0f}", ha="center", va="center", fontsize=7.5,
                    color="black" if inside[column] else "#A0A0A0")  # fmt: skip
        ax.set(xlim=(0, i_w), ylim=(i_h, 0), aspect="equal", title=f"strip {'ABCDE'[x]}")
        ax.axis("off")

    ax = bottom.subplots()
    for (x, column), value in np.ndenumerate(L):
        ax.add_patch(Rectangle((column, x), 1, 1, facecolor=STRIPS[x], alpha=0.62, edgecolor="white", lw=1))
        ax.text(column + 0.5, x + 0.55, f"{value:.0f}", ha="center", va="center", fontsize=8)
    for x in range(o_w):
        ax.text(-0.4, x + 0.5, "ABCDE"[x], ha="right", va="center", color=STRIPS[x], weight="bold")
    for h in range(i_h + 1):
        ax.plot((h * k_w, h * k_w), (0, o_w), color="white", lw=3)
    for y in range(o_h):
        start, end = y * k_w, y * k_w + k_h * k_w
        # Brackets above and below by turns, so that neighbours do not hide each other.
        level = (-0.45, o_w + 0.45, -1.35, o_w + 1.35, -0.45)[y]
        tip = 0.28 if level < 0 else -0.28
        ax.plot((start + 0.12, start + 0.12, end - 0.12, end - 0.12), (level + tip, level, level, level + tip),
                color="0.2", lw=1.6)  # fmt: skip
        ax.text((start + end) / 2, level, f" {'PQRST'[y]} ", ha="center", va="center", weight="bold", color="0.2",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5})  # fmt: skip
    ax.set(xlim=(-1.2, i_h * k_w + 0.2), ylim=(o_w + 1.9, -1.9), aspect="equal")
    ax.set_title("L: five strips written out, and the five partitions that overlap in it")
    ax.axis("off")


draw_strips_and_partitions(I, L, o_h, o_w, k_h, k_w)
plt.show()
# sphinx_gallery_end_ignore
print(f"partition Q, output row 1, strip C: {L[2, 3:12].astype(int)}")
print(f"the patch there, in the image:      {I[1:4, 2:5].ravel().astype(int)}")

# %%
# Each partition times the kernel, read as a column of nine, is an output row.  A slice of columns is a view in
# NumPy, so nothing is copied from here on.

O = np.empty((o_h, o_w), np.float32)
for y in range(o_h):
    P_y = L[:, y * k_w : y * k_w + k_h * k_w]
    assert np.shares_memory(P_y, L)
    O[y] = P_y @ K.ravel()

expected = pymec.conv2d(I[None, :, :, None], K[:, :, None, None])[0, :, :, 0]
print(f"largest difference from pymec.conv2d: {np.abs(O - expected).max()}")
assert np.array_equal(O, expected)

# %%
# That is the whole of the paper's Algorithm 1.
#
# Why it needs no second copy
# ---------------------------
# BLAS takes a matrix as a pointer, a number of rows and columns, and the *leading dimension*: how far it is
# from the start of one row to the start of the next.  All five partitions at once are one array of three axes
# over the numbers of L.  Its strides tell how.

item = L.itemsize
P = as_strided(
    L,
    shape=(o_h, o_w, k_h * k_w),  # partition, strip, patch
    strides=(k_w * item, i_h * k_w * item, item),
    writeable=False,  # entries overlap: writing to one would write to several
)
print(f"partitions {P.shape}: {P.size} numbers to look at, in {L.size} that exist")
print(f"shares memory with L: {np.shares_memory(P, L)}")
print(f"next partition after {P.strides[0] // item}, next strip (leading dimension) after {P.strides[1] // item}")
assert np.array_equal(P @ K.ravel(), O)

# %%
# Could the image itself do it?
# -----------------------------
# Its windows are a view as well.  Take a larger image, with channels.  Under one kernel row lie ``k_w·i_c`` numbers,
# side by side, and the next window starts ``i_c`` numbers further on.  That is a matrix without any copy, and NumPy
# multiplies it.

rng = np.random.default_rng(0)
large = rng.standard_normal((56, 56, 64), dtype=np.float32)
K_row = rng.standard_normal((3 * 64, 64), dtype=np.float32)  # one row of a kernel 3 wide
view = as_strided(large, (56, 54, 3 * 64), (*large.strides[:2], item), writeable=False)
copy = view.copy()
assert np.shares_memory(view, large)
print(
    f"rows of {view.shape[2]} numbers, leading dimension {view.strides[1] // item}: the rows run into each other"
)

# %%
# .. admonition:: Predict, then run
#    :class: predict
#
#    ``view @ K_row`` and ``copy @ K_row`` multiply the same numbers.  Which of them is faster?  Which of them asks for
#    more memory?

for name, rows in (("view", view), ("copy", copy)):
    with threadpool_limits(1):
        seconds = min(timeit.repeat(lambda rows=rows: rows @ K_row, number=1, repeat=3))
        with pymec.memory.track(n_threads=1) as t:
            product = rows @ K_row
    print(f"{name} @ K_row: {seconds * 1e3:6.2f} ms, {t.peak - product.nbytes:>10,} bytes beside the product")
print(f"copy has {copy.nbytes:,} bytes, {copy[0].nbytes:,} for each product; this is NumPy {np.__version__}")

# %%
# NumPy accepts the view, but BLAS can't multiply it.  The manual of GEMM asks for a leading dimension that is at least
# as long as a row.  So NumPy does one of two things.  Since version 2.3 it copies the rows of one product at a time,
# ``54 × 192`` numbers here, behind your back: that is im2col, one kernel row and one output row at a time.  Older
# versions leave BLAS aside and take a loop of their own.  We ran this cell under 2.0 and 2.2 as well, and there the
# view took twenty to thirty times as long as the copy.
#
# In L the rows of a partition are ``k_h·k_w`` long and start ``i_h·k_w`` numbers apart.  They never run into each other
# *within one matrix*:

print(f"image: rows of {view.shape[2]}, leading dimension {view.strides[1] // item}")
print(f"L:     rows of {P.shape[2]}, leading dimension {P.strides[1] // item}")
assert P.shape[2] <= P.strides[1] // item

# %%
# So MEC is this: one copy, to pull the strips apart; it makes room between neighbours to the right, and the
# overlap downwards becomes a shift of the pointer.
#
# Batch, channels, stride
# -----------------------
# Nothing new is needed, only more axes.  A pixel brings its ``i_c`` channels along, so one row of a strip is
# ``k_w·i_c`` numbers, unbroken in memory.  With stride the strips start ``s_w`` pixels apart and the partitions
# shift by ``s_h`` rows.  Every image has strips of its own.
#
# ====================  ================================
# L                     ``(i_n, o_w, i_h, k_w, i_c)``
# leading dimension     ``i_h·k_w·i_c``
# shift per output row  ``s_h·k_w·i_c``
# row of a partition    ``k_h·k_w·i_c``
# ====================  ================================


def lower(I, k_w, s_w):
    """Stage 1: the strips of every image."""
    i_n, i_h, i_w, i_c = I.shape
    o_w = (i_w - k_w) // s_w + 1
    L = np.empty((i_n, o_w, i_h, k_w, i_c), I.dtype)
    for x in range(o_w):
        L[:, x] = I[:, :, x * s_w : x * s_w + k_w]
    return L


def partitions(L, k_h, s_h):
    """All partitions (n, y, x, k_h·k_w·i_c), as a view of L."""
    i_n, o_w, i_h, k_w, i_c = L.shape
    o_h = (i_h - k_h) // s_h + 1
    return as_strided(
        L,
        shape=(i_n, o_h, o_w, k_h * k_w * i_c),
        strides=(L.strides[0], s_h * L.strides[2], L.strides[1], L.itemsize),
        writeable=False,
    )


def multiply(P, K):
    """Stage 2, the paper's Solution B: a product for each image and output row."""
    return P @ K.reshape(-1, K.shape[3])


def conv2d_mec(I, K, s_h=1, s_w=1):
    """MEC."""
    return multiply(partitions(lower(I, K.shape[1], s_w), K.shape[0], s_h), K)


I = rng.standard_normal((2, 28, 28, 32), dtype=np.float32)
K = rng.standard_normal((5, 5, 32, 16), dtype=np.float32)
for stride in ((1, 1), (2, 1), (3, 4)):
    O = conv2d_mec(I, K, *stride)
    np.testing.assert_allclose(O, pymec.conv2d(I, K, stride=stride, algorithm="direct"), rtol=1e-3, atol=1e-3)
    print(f"stride {stride}: output {O.shape}, right")

# %%
# Measure
# -------
# If ``P @ K`` copied anything, memray would know.  Beside it the same layer with lesson 2's im2col.
#
# .. admonition:: Predict, then run
#    :class: predict
#
#    The kernel is 5 × 5 and the stride 1.  How many times as large as L will im2col's matrix be?


def conv2d_im2col(I, K):
    """Lesson 2."""
    k_h, k_w, i_c, k_c = K.shape
    windows = sliding_window_view(I, (k_h, k_w), axis=(1, 2)).transpose(0, 1, 2, 4, 5, 3)
    L = windows.reshape(-1, k_h * k_w * i_c)
    return (L @ K.reshape(-1, k_c)).reshape(*windows.shape[:3], k_c)


O = conv2d_mec(I, K)
L = lower(I, K.shape[1], 1)
im2col_nbytes = O[..., 0].size * K[..., 0].size * item
print(f"im2col's matrix is {im2col_nbytes / L.nbytes:.2f} times L")
for name, function, lowered in (("im2col", conv2d_im2col, im2col_nbytes), ("MEC", conv2d_mec, L.nbytes)):
    with pymec.memory.track() as t:
        function(I, K)
    rest = t.peak - lowered - O.nbytes
    print(f"{name:<7} peak {t.peak:>9,} = lowered {lowered:>9,} + output {O.nbytes:,} + the rest {rest:>7,}")
    assert 0 <= rest < lowered / 4  # nothing of L's size

# %%
# The rest is BLAS's table and Python's objects.  The partitions are in none of it.
#
# Look at L
# ---------
# L need not stay a table of numbers.  Lower a photograph, and set its strips side by side: it is the
# photograph again, drawn out sideways, because every column is there ``k_w/s_w`` times.  Downwards it has kept
# its size; im2col's L would be drawn out that way too.  A partition is a horizontal band of it, ``k_h`` rows
# high, and the next output row looks at the same band ``s_h`` rows further down.

photo = plt.imread(get_sample_data("grace_hopper.jpg", asfileobj=False)).astype(np.float32) / 255
k, s = 60, 40  # large, to be seen
strips = lower(photo[None], k, s)[0]  # (o_w, i_h, k_w, i_c)
gap = np.ones((*strips.shape[:2], 8, 3), np.float32)
side_by_side = np.concatenate([strips, gap], axis=2).transpose(1, 0, 2, 3).reshape(len(photo), -1, 3)

fig, (left, right) = plt.subplots(
    1, 2, figsize=(10, 4.6), layout="constrained", width_ratios=(photo.shape[1], side_by_side.shape[1])
)
left.imshow(photo)
left.set_title("the image")
right.imshow(side_by_side)
right.set_title(f"its {len(strips)} strips: {strips.size / photo.size:.2f} times the numbers")
for y, color, style in ((4, STRIPS[1], "-"), (5, "white", "--")):
    right.add_patch(
        Rectangle((0, y * s), side_by_side.shape[1] - 9, k, fill=False, edgecolor=color, lw=2, ls=style)
    )
for ax in (left, right):
    ax.axis("off")
plt.show()

# %%
# The solid band is one partition, the dashed one the next.
#
# Stage by stage in pymec
# -----------------------
# pymec's kernels are compiled, but their stages can be called one by one, with every array handed in.  So we
# can stop between the two stages and look.  The room for L holds NaN before, to be sure that all of it gets
# written.

stride = (2, 1)
shape = pymec.ConvShape.from_shapes(I.shape, K.shape, stride=stride)
room = np.full(shape.paper_mec_size, np.nan, np.float32)
out = np.empty(shape.output_shape, np.float32)

mec.lower(I, room, shape)
by_hand = lower(I, shape.k_w, shape.s_w)
print(f"L by hand   {by_hand.shape}")
print(f"L of pymec  {(shape.i_n, shape.o_w, shape.i_h, shape.k_w, shape.i_c)}")

# %%
# They are the same, to the byte:

assert by_hand.tobytes() == room.tobytes()
print(f"{room.nbytes:,} bytes, all equal")

mec.multiply(room, K, out, shape, "B")
np.testing.assert_allclose(out, conv2d_mec(I, K, *stride), rtol=1e-3, atol=1e-3)
assert np.array_equal(out, pymec.conv2d(I, K, stride=stride, algorithm="mec_b"))
print("the two stages give what pymec.conv2d gives, bit for bit")

# %%
# What to remember
# ----------------
# * im2col undoes both overlaps of the patches by copying.  MEC undoes one by copying; the other is a pointer,
#   shifted by ``s_h·k_w·i_c``.
# * A matrix for BLAS needs no memory of its own.  It needs a leading dimension that is at least the length
#   of a row.
# * L has ``i_n·o_w·i_h·k_w·i_c`` numbers: ``k_h/s_h`` times fewer than im2col's, as lesson 5 works out.
#
# Try it
# ------
# Why vertical strips?  Take horizontal ones: for every output row a strip ``k_h`` rows high, written down column by
# column, so that a partition belongs to an output *column*.  ``tutorials/exercises/04_mec_turned`` has the place for
# it.  It is graded by values and by memory: L of the size of the formula, and no copy of it.
#
# .. code-block:: bash
#
#    pytest tutorials/exercises/04_mec_turned
#
# Fine print
# ----------
# * The paper's Algorithm 2 has two ways to order the products.  *Solution B* is the one above.  *Solution A*
#   multiplies the strips of all images by one partition at a time, ``o_h`` taller products; for several images
#   its output comes out as h-n-w-c and is put in order through L, which nothing reads any more.  In pymec they
#   are ``mec_b`` and ``mec_a``, and ``mec_paper`` chooses as the paper does.
# * The turned form of the exercise, ``mec_w`` in pymec, writes its output in order for any batch.
# * Padding is zeros, written into the strips.  ``mec``, pymec's tuned form, stores no rows of padding above and
#   below, nor rows that no output reads: its products at the border are shorter.
# * ``as_strided`` does not check what it is told.  Ask for a read-only view, and for no number beyond the end.
#
# References
# ----------
# * M. Cho and D. Brand, *MEC: Memory-efficient Convolution for Deep Neural Network*, ICML 2017,
#   arXiv:1706.06873.
# * :doc:`/concepts/paper`: the algorithms' lines beside the Cython that does them.
# * The reference BLAS's documentation of SGEMM: what it asks of LDA, the leading dimension.
# * :mod:`pymec.kernels.mec.paper`: that file, and :mod:`pymec.kernels.mec.tuned`, what was made of it.
