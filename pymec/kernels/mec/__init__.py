"""MEC: the paper's algorithms, and what was made of them.

Read ``paper.pyx`` first, with the paper beside it: it is all that a reader of the paper needs.  Then
``tuned.pyx``, whose docstring lists what it changes and what each change gains; the others use its units of work.

==================  ============================================================================================
``paper``           Algorithms 1 and 2 line by line: ``mec_vanilla``, ``mec_a``, ``mec_b``, ``mec_paper``
``tuned``           ``mec``: the same two stages made faster, and any dilation and groups (ours)
``lowered_rows``    which image rows the tuned forms keep in L, and where an output row finds its own
``banded``          ``mec_banded``: a band of output rows at a time, in a fraction of L (ours)
``column_bands``    ``mec_banded`` where a limit has no room for a row on every thread: bands of columns (ours)
``split``           ``mec_column_split``, ``mec_channel_split``: tiles of a band, a few channels at a time (ours)
``transposed``      ``mec_w``: lowers along the other axis (ours)
``im2win``          the transposed lowering, multiplied window by window without BLAS
``bands``           how large bands and tiles are: the schedules of ``banded``, ``column_bands`` and ``split``
``rows``            the table's rows of all these: limits, workspace, solution and blocking
==================  ============================================================================================

The stages of the paper's algorithms are here under their own names: :func:`lower`, :func:`multiply`,
:func:`repair`, and :func:`choose_solution` for line 8.
"""

from pymec.kernels.mec.paper import choose_solution, lower, multiply, repair

__all__ = ["choose_solution", "lower", "multiply", "repair"]
