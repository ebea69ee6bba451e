"""No algorithm at all: it calls another one of pymec's, whose workspace nobody predicted."""

import pymec
from pymec.algorithm import Algorithm, Schedule


def run(x, kernel, out, workspace, shape, n_threads):
    out[...] = pymec.conv2d(x, kernel, algorithm="im2col", n_threads=1, **shape.arguments)


ROW = Algorithm(
    name="cheat",
    idea="ask somebody else",
    source="exercise 14",
    formula="0*o_w",
    order="none",
    unsupported=lambda shape: None,
    schedule=lambda shape, n_threads, limit: Schedule(0),
    run=run,
    uses_blas=False,
    fuses_bias_relu=False,
)
