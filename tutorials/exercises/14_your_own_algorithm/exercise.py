"""Exercise 14: an algorithm of your own.

``ROW`` is a row of pymec's table (:class:`pymec.algorithm.Algorithm`).  The grader gives it to pymec and holds it to
what every row promises: right within its error bound or refused with a reason, its workspace as predicted, nothing
beside it, and at most a sixteenth of im2col's workspace on cv9.

Below is im2col for one output row at a time.  It isn't content with its workspace, its formula forgets something, and
it claims shapes that it gets wrong.
"""

from numpy.lib.stride_tricks import sliding_window_view

from pymec.algorithm import Algorithm, Schedule


def cannot(shape):
    """The reason why the algorithm can't do a shape, or None."""
    return "it has no groups" if shape.groups > 1 else None


def size(shape):
    """Elements of workspace."""
    return shape.o_w * shape.k_h * shape.i_c


def run(x, kernel, out, workspace, shape, n_threads):
    """One output row at a time."""
    s = shape
    for n in range(s.i_n):
        windows = sliding_window_view(x[n], (s.k_h, s.k_w), axis=(0, 1))[:: s.s_h, :: s.s_w].transpose(
            0, 1, 3, 4, 2
        )
        for y in range(s.o_h):
            L = windows[y].reshape(s.o_w, s.k_h * s.k_w * s.i_c)
            out[n, y] = L @ kernel.reshape(-1, s.k_c)


ROW = Algorithm(
    name="mine",
    idea="im2col, one output row at a time",
    source="exercise 14",
    formula="o_w·k_h·i_c",
    order="k²",
    unsupported=cannot,
    schedule=lambda shape, n_threads, limit: Schedule(size(shape)),
    run=run,
    uses_blas=False,
    fuses_bias_relu=False,
)
