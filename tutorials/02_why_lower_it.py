"""
2 · Lower a convolution to one matrix product
=============================================

A view shows all patches for nothing, and is slow; a copy of them costs memory, and is fast.

*Sizes: one image of 56 × 56 × 64, a 3 × 3 kernel, 64 output channels, float32; a few seconds, under 200 MB.*

You will build
    im2col: copy every patch into a row of a matrix, multiply once.

You will learn
    Why the same sums run so much faster as a product of matrices; how many times each pixel is copied for it;
    and when NumPy's ``reshape`` copies and when it doesn't.

You need
    Lesson 1: the letters, and what a layer computes.
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

import timeit

import matplotlib.pyplot as plt
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from threadpoolctl import threadpool_limits

import pymec

plt.rcParams.update({"font.size": 11, "figure.dpi": 110, "axes.titlesize": 11})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
IM2COL, DARK = "#D55E00", "#404040"

pixels = np.arange(25).reshape(5, 5)
lowered = sliding_window_view(pixels, (3, 3)).reshape(9, 9)
copies = np.bincount(lowered.ravel())

# sphinx_gallery_start_ignore
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
# sphinx_gallery_end_ignore
print(f"copied most often: pixel {copies.argmax()}, {copies.max()} times; least often: the corners, once")
print(f"image {pixels.size} numbers, L {lowered.size}: {lowered.size / pixels.size:.2f} times as many")
assert copies[[0, 4, 20, 24]].tolist() == [1] * 4

# %%
# Windows that copy nothing
# -------------------------
# Do we have to copy?  NumPy can show all patches without moving a number.  An array is a pointer, a shape, and
# the distance in bytes to the next entry along every axis, its *strides*.  A view of all patches of the image
# has two axes more, and steps along them that it already took along others.

rng = np.random.default_rng(0)
I = rng.standard_normal((1, 56, 56, 64), dtype=np.float32)
K = rng.standard_normal((3, 3, 64, 64), dtype=np.float32)


def patches(I, k_h, k_w):
    """Every patch, as a view (n, y, x, a, b, c) of the image."""
    return sliding_window_view(I, (k_h, k_w), axis=(1, 2)).transpose(0, 1, 2, 4, 5, 3)


windows = patches(I, 3, 3)
print(f"image    shape {I.shape}, strides {I.strides}")
print(f"windows  shape {windows.shape}, strides {windows.strides}")
print(f"they share memory: {np.shares_memory(I, windows)}; the view shows {windows.nbytes:,} bytes and owns none")

# %%
# The strides say it all: one row down in the output (y) is one row down in the patch (a), the same number of
# bytes.  The definition of lesson 1 is now a single line, a sum over a, b and c.


def conv2d_view(I, K):
    """The definition, over a view of all patches."""
    return np.einsum("nyxabc,abcm->nyxm", patches(I, K.shape[0], K.shape[1]), K)


# %%
# Copy, then multiply
# -------------------
# Now the other way.  BLAS is the library of vector and matrix routines that NumPy and SciPy call; GEMM, *general
# matrix multiply*, is the one that multiplies two matrices.  To hand our windows to it they must be a matrix, with rows
# (n, y, x) and columns (a, b, c).  For NumPy that is one ``reshape``.  But no single stride leads through all
# pixels of a patch, so this reshape can't be a view.  It copies.


def conv2d_im2col(I, K):
    """im2col: copy the patches into a matrix, multiply once."""
    k_h, k_w, i_c, k_c = K.shape
    windows = patches(I, k_h, k_w)
    L = windows.reshape(-1, k_h * k_w * i_c)
    O = L @ K.reshape(-1, k_c)
    return O.reshape(*windows.shape[:3], k_c)


L = windows.reshape(-1, K[..., 0].size)
print(f"L {L.shape} shares memory with the image: {np.shares_memory(I, L)}")
np.testing.assert_allclose(conv2d_im2col(I, K), pymec.conv2d(I, K), rtol=1e-3, atol=1e-3)

# %%
# .. admonition:: Predict, then run
#    :class: predict
#
#    Both functions do the same multiply-adds.  The second one copies every patch first.  Which of them takes
#    longer, and how many times as long?  How many times as large as the image is L?

with threadpool_limits(1):  # BLAS on one thread: a fair match for the loop of einsum
    seconds_view = min(timeit.repeat(lambda: conv2d_view(I, K), number=1, repeat=3))
    seconds_im2col = min(timeit.repeat(lambda: conv2d_im2col(I, K), number=1, repeat=5))
np.testing.assert_allclose(conv2d_view(I, K), conv2d_im2col(I, K), rtol=1e-3, atol=1e-3)
print(f"a sum over the view: {seconds_view * 1e3:6.1f} ms")
print(f"copy and multiply:   {seconds_im2col * 1e3:6.1f} ms, {seconds_view / seconds_im2col:.1f} times as fast")
print(f"L has {L.nbytes:,} bytes, {L.nbytes / I.nbytes:.1f} times the image's")

# %%
# That is the bargain: more speed for more memory.  Where does the speed come from?  The sum over the view runs
# through a general loop.  It fetches both factors from memory for every multiply-add, and adds one product at a
# time.  GEMM knows that its operands are matrices.  It takes a small block of each, loads it once, and uses every
# number of it many times while it is in a register or a cache.
#
# .. admonition:: Predict, then run
#    :class: predict
#
#    Is it the copying that takes im2col's time, or the product?

with threadpool_limits(1):
    seconds_copy = min(timeit.repeat(lambda: windows.reshape(-1, K[..., 0].size), number=1, repeat=5))
    seconds_product = min(timeit.repeat(lambda: L @ K.reshape(-1, 64), number=1, repeat=5))
multiply_adds = L.size * K.shape[3]
print(f"copying {seconds_copy * 1e3:.1f} ms, product {seconds_product * 1e3:.1f} ms")
print(f"the product: {2 * multiply_adds / seconds_product * 1e-9:.0f} GFLOP/s", end="; ")
print(f"the sum over the view: {2 * multiply_adds / seconds_view * 1e-9:.1f} GFLOP/s")

# %%
# A GFLOP/s is 10\ :sup:`9` multiplications and additions in a second.  The copy is not free, but each number in L
# is used ``k_c`` times, once for every output channel.  With a single output channel the copy would be most of the
# work.
#
# How large is L?
# ---------------
# A row for each output pixel, a column for each number under the kernel:
#
# .. math::
#
#    |L_\mathrm{im2col}| = i_n \, o_h \, o_w \, k_h \, k_w \, i_c.
#
# At stride 1 the output has nearly as many pixels as the input.  So L is about ``k_h·k_w`` times the input, and the
# kernel's size is squared in it.

ks = range(1, 12, 2)
expansion = [pymec.ConvShape.from_shapes(I.shape, (k, k, 64, 64), padding="same").im2col_size / I.size for k in ks]
assert pymec.ConvShape.from_shapes(I.shape, K.shape).im2col_size == L.size

# sphinx_gallery_start_ignore
fig, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
ax.plot(ks, expansion, "o-", color=IM2COL)
for k, ratio in zip(ks, expansion, strict=True):
    ax.annotate(f"{ratio:.0f}×", (k, ratio), (-6, 5), textcoords="offset points", ha="right", color=DARK)
ax.set(xlabel="kernel k × k, stride 1", ylabel="L ÷ input", xticks=ks, ylim=(0, 135), xlim=(0, 11.6))
plt.show()
# sphinx_gallery_end_ignore
print("  ".join(f"{k}×{k}: {ratio:.1f}" for k, ratio in zip(ks, expansion, strict=True)))

# %%
# What to remember
# ----------------
# * A view of all patches is free; a *matrix* of all patches is a copy, about ``k_h·k_w`` times the input at stride 1.
# * The product of two matrices is fast because each number that is fetched is used many times.
# * im2col buys speed with memory.  The rest of this book is about paying less.
#
# Try it
# ------
# Which reshape copies?  Axes can be merged without a copy only if one step along the first of them is as long as
# all the steps along the next.  ``tutorials/exercises/02_which_reshape_copies`` has a function ``merges`` that
# should tell, from shape and strides alone, whether some axes of an array can become one without a copy:
#
# .. code-block:: bash
#
#    pytest tutorials/exercises/02_which_reshape_copies
#
# Fine print
# ----------
# * With the channels of a pixel side by side (n-h-w-c) a patch is a *row* of L, and the form is also called
#   im2row.  In n-c-h-w it becomes a column, which is where the name is from.  The size is the same.
# * A kernel of 1 × 1 with stride 1 and no padding needs no L: the input is its own lowered matrix.
# * Lowering one image of a batch at a time divides L by ``i_n``.
# * ``np.einsum`` has an argument ``optimize``.  With it NumPy looks for a matrix product, and copies for it, as
#   we did.
#
# References
# ----------
# * K. Chellapilla, S. Puri and P. Simard, *High Performance Convolutional Neural Networks for Document
#   Processing*, IWFHR 2006: where the lowering comes from.
# * K. Goto and R. van de Geijn, *Anatomy of High-Performance Matrix Multiplication*, ACM TOMS 34(3), 2008: how
#   GEMM uses what it has loaded.
