"""The definition."""

from __future__ import annotations

from pymec.families._row import Algorithm, any_shape, no_workspace
from pymec.kernels import direct

ROWS = (
    Algorithm(
        name="direct",
        idea="the definition: seven loops, sums in double precision",
        source="the definition of a convolution layer",
        formula="0",
        order="none",
        unsupported=any_shape,
        schedule=no_workspace,
        run=direct.run,
        uses_blas=False,
    ),
)
