"""A solution of exercise 14: one kernel row at a time, as in the lesson, with strides, padding and dilation.

A product of all windows under a kernel row needs neither the taps that fall on padding above and below nor their rows
of the image: such kernel rows are left out.  To the left and right the windows in R get zeros.
"""

import numpy as np

from pymec.algorithm import Algorithm, Schedule


def cannot(shape):
    """The reason why the algorithm can't do a shape, or None."""
    return "it has no groups" if shape.groups > 1 else None


def size(shape):
    """Elements of workspace: R and a product."""
    return shape.o_w * (shape.k_w * shape.i_c + shape.k_c)


def fill(R, row, s):
    """The windows of one image row, tap by tap; zeros where a window hangs over the edge."""
    for b in range(s.k_w):
        first = b * s.d_w - s.p_l  # the column under tap b of window 0
        start = max(0, -(first // s.s_w))  # the first window whose tap b is on the image
        end = min(s.o_w, (s.i_w - 1 - first) // s.s_w + 1)
        R[:start, b] = 0
        R[max(start, end) :, b] = 0
        if start < end:
            R[start:end, b] = row[first + start * s.s_w : first + (end - 1) * s.s_w + 1 : s.s_w]


def run(x, kernel, out, workspace, shape, n_threads):
    """One kernel row at a time; R and the product are in the workspace."""
    s = shape
    R = workspace[: s.o_w * s.k_w * s.i_c].reshape(s.o_w, s.k_w, s.i_c)
    product = workspace[R.size : R.size + s.o_w * s.k_c].reshape(s.o_w, s.k_c)
    matrix = R.reshape(s.o_w, s.k_w * s.i_c)
    for n in range(s.i_n):
        for y in range(s.o_h):
            out[n, y] = 0
            for a in range(s.k_h):
                h = y * s.s_h + a * s.d_h - s.p_t
                if 0 <= h < s.i_h:
                    fill(R, x[n, h], s)
                    np.matmul(matrix, kernel[a].reshape(-1, s.k_c), out=product)
                    out[n, y] += product


ROW = Algorithm(
    name="by_kernel_row",
    idea="lower the windows of one image row, multiply by one kernel row, add up",
    source="exercise 14",
    formula="o_w·(k_w·i_c + k_c)",
    order="k",
    unsupported=cannot,
    schedule=lambda shape, n_threads, limit: Schedule(size(shape)),
    run=run,
    uses_blas=False,
    fuses_bias_relu=False,
)
