"""
1 · Compute a convolution layer from its definition
===================================================

Seven nested loops say what a convolution layer is; every size in them has a letter.

*Sizes: a toy of 2 × 6 × 7 × 3 numbers, then a photograph of 600 × 512 pixels; a few seconds, under 300 MB.*

You will build
    A convolution layer out of seven nested loops, and the same layer again out of two.

You will learn
    What the layer computes, number by number; how its sizes follow from each other; and why what everybody
    calls a convolution is a correlation.

You need
    Python, NumPy's indexing, and the product of two matrices.  No calculus, no neural networks.
"""

# %%
# The picture
# -----------
# A kernel, smaller than the image, is laid on the image.  Numbers that lie on each other are multiplied, the
# products are added up, and the sum is one pixel of the output.  Then the kernel moves on by the *stride*.
#
# Every size has a letter, and this book never uses another one for it:
#
# ==================  ========================================================
# ``i_n``             images in a batch
# ``i_h  i_w  i_c``   height, width and channels of the input
# ``k_h  k_w``        height and width of the kernel
# ``k_c``             channels of the output: how many kernels there are
# ``o_h  o_w``        height and width of the output
# ``s_h  s_w``        stride, downwards and to the right
# ==================  ========================================================

import time
import timeit

import matplotlib.pyplot as plt
import numpy as np
import scipy.signal
from matplotlib.cbook import get_sample_data
from matplotlib.patches import Rectangle

import pymec

plt.rcParams.update({"font.size": 11, "figure.dpi": 110, "axes.titlesize": 11})
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#8C8C8C"

# sphinx_gallery_start_ignore


def draw_grid(ax, left, rows, columns, name):
    """An array as squares, its name above."""
    for row in range(rows):
        for column in range(columns):
            ax.add_patch(Rectangle((left + column, row), 1, 1, fc="white", ec="#CFCFCF", lw=0.8))
    ax.text(left + columns / 2, -0.5, name, ha="center", va="bottom", fontsize=13)


def draw_window(ax, left, top, width, height, color):
    """A filled window on such an array."""
    ax.add_patch(Rectangle((left, top), width, height, fc=color, alpha=0.35, ec="none"))
    ax.add_patch(Rectangle((left, top), width, height, fill=False, ec=color, lw=2.2))


def draw_length(ax, start, end, letter, after=False):
    """A length and its letter, which stands below or to the left (or, ``after``, to the right) of it."""
    ax.annotate("", start, end, arrowprops={"arrowstyle": "<->", "color": "0.3", "shrinkA": 0, "shrinkB": 0})
    x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    if start[1] == end[1]:
        ax.text(x, y + 0.12, letter, ha="center", va="top", family="monospace")
    else:
        ax.text(x + (0.15 if after else -0.2), y, letter, ha="left" if after else "right", va="center",
                family="monospace")  # fmt: skip


def draw_layer(i_h, i_w, k_h, k_w, s_h, s_w, y, x):
    """Input, kernel and output, with the window of output pixel (y, x) and two of its neighbours."""
    o_h, o_w = (i_h - k_h) // s_h + 1, (i_w - k_w) // s_w + 1
    kernel, output = i_w + 3.4, i_w + k_w + 6.8  # where they begin
    _, ax = plt.subplots(figsize=(10, 4), layout="constrained")
    for left, rows, columns, name in (
        (0, i_h, i_w, "input I"),
        (kernel, k_h, k_w, "kernel K"),
        (output, o_h, o_w, "output O"),
    ):
        draw_grid(ax, left, rows, columns, name)
        letter = name[-1].lower()
        draw_length(ax, (left - 0.3, 0), (left - 0.3, rows), f"{letter}_h")
        draw_length(ax, (left, rows + 0.25), (left + columns, rows + 0.25), f"{letter}_w")
    for left, top in (((x - 1) * s_w, y * s_h), (x * s_w, (y - 1) * s_h)):
        ax.add_patch(Rectangle((left, top), k_w, k_h, fill=False, ec=GREY, lw=1.6, ls="--"))
    draw_window(ax, x * s_w, y * s_h, k_w, k_h, BLUE)
    draw_window(ax, kernel, 0, k_w, k_h, ORANGE)
    draw_window(ax, output + x, y, 1, 1, BLUE)
    below, beside = y * s_h + k_h + 0.2, x * s_w + k_w + 0.35
    draw_length(ax, ((x - 1) * s_w, below), (x * s_w, below), "s_w")
    draw_length(ax, (beside, (y - 1) * s_h), (beside, y * s_h), "s_h", after=True)
    ax.text(i_w + 1.0, k_h / 2, "×", fontsize=20, ha="center", va="center")
    ax.text(kernel + k_w + 1.0, k_h / 2, "=", fontsize=20, ha="center", va="center")
    ax.set(xlim=(-1.6, output + o_w + 0.3), ylim=(i_h + 1.2, -1.4), aspect="equal")
    ax.axis("off")


# sphinx_gallery_end_ignore
i_h, i_w, k_h, k_w, s_h, s_w = 7, 9, 3, 3, 2, 2
draw_layer(i_h, i_w, k_h, k_w, s_h, s_w, y=1, x=2)
plt.show()

# %%
# The blue window is multiplied with the orange kernel, and nine products become one blue pixel.  The dashed
# windows are the neighbours above and to the left, one stride away.  The last window must end inside the
# image, and that is where the output's size comes from:
#
# .. math::
#
#    o_h = \left\lfloor \frac{i_h - k_h}{s_h} \right\rfloor + 1, \qquad
#    o_w = \left\lfloor \frac{i_w - k_w}{s_w} \right\rfloor + 1.

o_h, o_w = (i_h - k_h) // s_h + 1, (i_w - k_w) // s_w + 1
print(f"the picture: o_h = ({i_h} - {k_h}) // {s_h} + 1 = {o_h},  o_w = ({i_w} - {k_w}) // {s_w} + 1 = {o_w}")

# %%
# Seven loops
# -----------
# A layer adds three things to the picture.  There is a batch of images.  A pixel has ``i_c`` channels, and
# the sum runs over them as well, so a kernel is a box and not a square.  And there are ``k_c`` kernels,
# each making a channel of the output.  Written out, with n, y, x, m naming an output number and a, b, c a
# product of its sum:
#
# .. math::
#
#    O_{n,y,x,m} = \sum_{a<k_h} \; \sum_{b<k_w} \; \sum_{c<i_c}
#                  I_{n,\; y s_h + a,\; x s_w + b,\; c} \; K_{a,b,c,m}
#
# Seven letters, seven loops.


def conv2d_loops(I, K, s_h=1, s_w=1):
    """A convolution layer, as it is defined."""
    i_n, i_h, i_w, i_c = I.shape
    k_h, k_w, _, k_c = K.shape
    o_h, o_w = (i_h - k_h) // s_h + 1, (i_w - k_w) // s_w + 1
    O = np.zeros((i_n, o_h, o_w, k_c), I.dtype)
    for n in range(i_n):  # every image,
        for y in range(o_h):  # every output row
            for x in range(o_w):  # and column,
                for m in range(k_c):  # every kernel:
                    for a in range(k_h):  # add up over the rows
                        for b in range(k_w):  # and columns of the patch
                            for c in range(i_c):  # and over its channels
                                O[n, y, x, m] += I[n, y * s_h + a, x * s_w + b, c] * K[a, b, c, m]
    return O


rng = np.random.default_rng(0)
I = rng.standard_normal((2, 6, 7, 3))
K = rng.standard_normal((3, 2, 3, 4))
O = conv2d_loops(I, K, s_h=2, s_w=1)
print(f"I {I.shape}  K {K.shape}  ->  O {O.shape}")

# %%
# One number of it, taken apart: the patch under the kernel, times the kernel, summed.

patch = I[1, 2:5, 4:6, :]
print(f"patch {patch.shape} · kernel {K[..., 3].shape}: {np.sum(patch * K[..., 3]):+.6f}")
print(f"O[1, 1, 4, 3] of the loops:      {O[1, 1, 4, 3]:+.6f}")

# %%
# A definition should not be its own judge.  SciPy knows nothing of layers, but its ``correlate`` of two boxes
# with equally many channels is one image and one kernel at stride 1; a stride then drops rows and columns.


def conv2d_scipy(I, K, s_h=1, s_w=1):
    """The same layer, from scipy.signal."""
    per_image = [
        [scipy.signal.correlate(image, K[..., m], mode="valid")[::s_h, ::s_w, 0] for m in range(K.shape[3])]
        for image in I
    ]
    return np.array(per_image).transpose(0, 2, 3, 1)


for name, other in (
    ("scipy.signal.correlate", conv2d_scipy(I, K, 2, 1)),
    ("pymec.conv2d", pymec.conv2d(I, K, stride=(2, 1))),
):
    print(f"{name:<24} largest difference from the loops {np.abs(other - O).max():.1e}")
    np.testing.assert_allclose(other, O, rtol=1e-12, atol=1e-12)

# %%
# It is a correlation
# -------------------
# In mathematics a convolution turns the kernel upside down and back to front before it slides.  A layer
# does not: its kernel is learned, and training would only learn it turned.  So what a convolution layer
# computes is called *cross-correlation* elsewhere.  Nothing more than a turned kernel lies between the two.

one, K1 = I[0, :, :, 0], K[:, :, 0, 0]
correlated = scipy.signal.correlate(one, K1, mode="valid")
convolved = scipy.signal.convolve(one, K1, mode="valid")
turned = scipy.signal.convolve(one, K1[::-1, ::-1], mode="valid")
print(f"largest difference, correlation and convolution:         {np.abs(correlated - convolved).max():.2f}")
print(f"largest difference, correlation and turned convolution:  {np.abs(correlated - turned).max():.1e}")
assert np.allclose(correlated, turned)

# %%
# Measure: what a loop costs
# --------------------------
# The definition holds no memory but its output.  Its price is time: in Python every multiply-add passes
# through the interpreter.  We time a small corner of a photograph and work out what the whole would take.
#
# .. admonition:: Predict, then run
#    :class: predict
#
#    The photograph has 600 × 512 pixels, and four kernels of 7 × 7 × 3 numbers slide over it.  How many
#    multiply-adds is that?  How long do you think seven Python loops take for them, and how long does compiled
#    code?
#
# The four kernels below are made from one Gaussian bell: the bell itself blurs, its slopes to the right and
# downwards answer to edges, its curvature answers to spots.  The channels red, green and blue are weighed
# as the eye weighs them.

photo = plt.imread(get_sample_data("grace_hopper.jpg", asfileobj=False)).astype(np.float32) / 255
t = np.arange(-3, 4)
down, right = np.meshgrid(t, t, indexing="ij")
bell = np.exp(-(down**2 + right**2) / (2 * 1.5**2))
spots = ((down**2 + right**2) / 1.5**2 - 2) * bell
filters = {
    "blur": bell / bell.sum(),
    "edges, left to right": right * bell / np.abs(right * bell).sum(),
    "edges, top to bottom": down * bell / np.abs(down * bell).sum(),
    "spots": (spots - spots.mean()) / np.abs(spots).sum(),
}
weights = np.array([0.299, 0.587, 0.114])
K = np.stack([f[:, :, None] * weights for f in filters.values()], axis=-1).astype(np.float32)
I = photo[None]  # a batch of one
print(f"I {I.shape}  K {K.shape}")

corner = np.ascontiguousarray(I[:, 100:122, 100:122])
start = time.perf_counter()
O_corner = conv2d_loops(corner, K)
seconds = time.perf_counter() - start
in_corner = O_corner.size * K[..., 0].size
in_photo = pymec.ConvShape.from_shapes(I.shape, K.shape).multiply_adds
print(f"corner: {in_corner:,} multiply-adds in {seconds:.2f} s, {seconds / in_corner * 1e9:.0f} ns each")
print(f"photo:  {in_photo:,} multiply-adds would take {seconds / in_corner * in_photo:.0f} s")

# %%
# One change: the taps outside
# ----------------------------
# A sum may be added up in any order.  Put the two loops over the kernel's taps (a, b) outside and everything
# else inside, and the inside is something NumPy does in one step: take the input shifted by (a, b), in
# strides, and multiply its pixels, ``i_c`` numbers each, with the ``i_c × k_c`` matrix of that tap.


def conv2d_taps(I, K, s_h=1, s_w=1):
    """A convolution layer, tap by tap."""
    (i_n, i_h, i_w, _), (k_h, k_w, _, k_c) = I.shape, K.shape
    o_h, o_w = (i_h - k_h) // s_h + 1, (i_w - k_w) // s_w + 1
    O = np.zeros((i_n, o_h, o_w, k_c), I.dtype)
    for a in range(k_h):
        for b in range(k_w):
            shifted = I[:, a : a + (o_h - 1) * s_h + 1 : s_h, b : b + (o_w - 1) * s_w + 1 : s_w]
            O += shifted @ K[a, b]
    return O


O, O_pymec = conv2d_taps(I, K), pymec.conv2d(I, K)  # the first calls of all are not timed
seconds_taps = min(timeit.repeat(lambda: conv2d_taps(I, K), number=1, repeat=3))
seconds_pymec = min(timeit.repeat(lambda: pymec.conv2d(I, K, n_threads=1), number=1, repeat=3))
seconds_loops = seconds / in_corner * in_photo
print(f"seven loops:  {seconds_loops * 1e3:9,.0f} ms for the photograph, worked out from the corner")
print(f"taps, NumPy:  {seconds_taps * 1e3:9,.0f} ms, the best of three")
print(
    f"pymec.conv2d: {seconds_pymec * 1e3:9,.1f} ms on one thread: {seconds_loops / seconds_pymec:,.0f} times as fast"
)
np.testing.assert_allclose(O, O_pymec, atol=1e-5)
np.testing.assert_allclose(O[:, 100:116, 100:116], O_corner, atol=1e-5)

# %%
# Same sums, another order, and no more waiting.  NumPy pays for its order with memory: ``shifted @ K[a, b]`` is an
# array as large as the output, made and thrown away for every tap.  The compiled code holds nothing of the kind.
#
# Each map below is one output channel.  Blurred brightness
# is a picture again; the other three swing around zero, orange below and blue above.

# sphinx_gallery_thumbnail_number = 2
fig, axes = plt.subplots(1, 5, figsize=(10, 2.95), layout="constrained")
axes[0].imshow(photo)
axes[0].set_title("input, 3 channels")
for m, (name, ax) in enumerate(zip(filters, axes[1:], strict=True)):
    channel = O[0, :, :, m]
    limit = np.quantile(np.abs(channel), 0.985)
    low, colors = (0, "gray") if name == "blur" else (-limit, "PuOr")
    ax.imshow(channel, cmap=colors, vmin=low, vmax=limit)
    ax.set_title(name)
for ax in axes:
    ax.axis("off")
plt.show()

# %%
# Sizes again: padding
# --------------------
# The maps are smaller than the photograph by ``k_h - 1`` rows and ``k_w - 1`` columns.  Zeros around the
# input, *padding*, make up for that: with p_h rows above and below, i_h + 2 p_h takes the place of i_h in the
# formula.  ``padding="same"`` chooses the zeros so that only the stride makes the output smaller.

print("stride  padding   output")
for stride in (1, 2, 4):
    for padding in (0, 3, "same"):
        s = pymec.ConvShape.from_shapes(I.shape, K.shape, stride=stride, padding=padding)
        height, width = photo.shape[0] + s.p_t + s.p_b, photo.shape[1] + s.p_l + s.p_r
        assert (s.o_h, s.o_w) == ((height - s.k_h) // stride + 1, (width - s.k_w) // stride + 1)
        print(f"{stride:>6}  {padding!s:<8}  {s.o_h} × {s.o_w} × {s.k_c}")

# %%
# What to remember
# ----------------
# * An output number is a patch times a kernel, summed over ``k_h·k_w·i_c`` products.
# * The whole layer is ``i_n·o_h·o_w·k_h·k_w·i_c·k_c`` multiply-adds, in whatever order.  Order is what
#   algorithms differ in, and what they keep in memory to make an order fast is what this book is about.
# * The kernel is not turned: a convolution layer is a cross-correlation.
#
# Try it
# ------
# The simple way to pad is ``numpy.pad``, and it copies the whole input.  ``tutorials/exercises/01_padding`` has a
# ``conv2d_padded`` that does so.  Make it do without, in half of the input's bytes:
#
# .. code-block:: bash
#
#    pytest tutorials/exercises/01_padding
#
# Fine print
# ----------
# * The arrays here are *n-h-w-c* with the channels of a pixel side by side, and the kernels *h-w-i-o*.  pymec
#   takes the other common order too, ``layout="NCHW"``, mostly by copying, and counts the copies.
# * Layers often add a bias per output channel.  It changes no memory that matters: ``pymec.conv2d`` has
#   ``bias=``, and the book ignores it.
# * Two orders of the same sum differ by rounding.  :mod:`pymec` bounds the difference instead of guessing a
#   tolerance: its tests use the classical bound on the error of a sum, (n + 1) u times the sum of the
#   products' magnitudes.
#
# References
# ----------
# * M. Cho and D. Brand, *MEC: Memory-efficient Convolution for Deep Neural Network*, ICML 2017,
#   arXiv:1706.06873: where the letters come from.
# * V. Dumoulin and F. Visin, *A guide to convolution arithmetic for deep learning*, 2016, arXiv:1603.07285:
#   stride and padding in many pictures.
# * N. Higham, *Accuracy and Stability of Numerical Algorithms*, SIAM, section 3.1: the error of a sum.
