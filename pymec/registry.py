"""The one table that names every algorithm: what it needs, what it can't do, and what runs it.

To add an algorithm, write its kernel file and a row in its family's ``rows.py``; the public functions, the
tests, the memory measurements, the report and the documentation find it by its row.
"""

from __future__ import annotations

from pymec.algorithm import Algorithm, Schedule
from pymec.kernels.direct.rows import ROWS as DIRECT
from pymec.kernels.fourier.rows import ROWS as FOURIER
from pymec.kernels.gradients.rows import INPUT_GRAD_ROWS, KERNEL_GRAD_ROWS
from pymec.kernels.im2col.rows import ROWS as IM2COL
from pymec.kernels.mec.rows import ROWS as MEC
from pymec.kernels.register_tiles.rows import ROWS as REGISTER_TILES
from pymec.kernels.small_products.rows import ROWS as SMALL_PRODUCTS
from pymec.kernels.winograd.rows import ROWS as WINOGRAD
from pymec.operations import operation_named
from pymec.spelling import did_you_mean, shown

__all__ = ["ALGORITHMS", "TABLES", "Algorithm", "Schedule", "get", "names"]

FAMILIES = (DIRECT, IM2COL, MEC, SMALL_PRODUCTS, WINOGRAD, FOURIER, REGISTER_TILES)

ALGORITHMS: dict[str, Algorithm] = {row.name: row for family in FAMILIES for row in family}

TABLES: dict[str, dict[str, Algorithm]] = {
    "conv2d": ALGORITHMS,
    "conv2d_input_grad": {row.name: row for row in INPUT_GRAD_ROWS},
    "conv2d_kernel_grad": {row.name: row for row in KERNEL_GRAD_ROWS},
}
"""An algorithm table for each operation of a layer."""


def names(operation: str = "conv2d") -> tuple[str, ...]:
    """The names of all algorithms, in the table's order.

    Parameters
    ----------
    operation : {"conv2d", "conv2d_input_grad", "conv2d_kernel_grad"}
    """
    return tuple(TABLES[operation_named(operation).name])


def every_name() -> tuple[str, ...]:
    """The names in any of the tables, each once."""
    return tuple(dict.fromkeys(name for table in TABLES.values() for name in table))


def get(name: str, operation: str = "conv2d") -> Algorithm:
    """The row of that name, or a ValueError that lists the names."""
    table = TABLES[operation]
    try:
        return table[name]
    except (KeyError, TypeError):
        hint = did_you_mean(name, ["auto", *table])
        may_be_a_name = isinstance(name, str) and len(name) <= 2 * max(map(len, table))
        known = ", ".join(table) if may_be_a_name else "pymec.algorithms()"
        raise ValueError(f"algorithm must be 'auto' or one of {known}; got {shown(name)}{hint}") from None
