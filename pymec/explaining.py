"""Answers before anything runs: what each algorithm needs for a shape, and what "auto" takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pymec import layouts, planning, registry
from pymec.figures import aligned, counted, html_table
from pymec.operations import operation_named
from pymec.recipes import parse_bytes, recipe_of
from pymec.shapes import ConvShape, Padding, Pair


def workspace_size(
    x_shape: Sequence[int],
    kernel_shape: Sequence[int],
    *,
    algorithm: str,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    dtype: Any = "float32",
    layout: str = "NHWC",
    operation: str = "conv2d",
    workspace_limit: int | str | None = None,
    n_threads: int | None = None,
) -> int:
    """The bytes of workspace that a call would allocate, by the algorithm's formula.

    Parameters
    ----------
    x_shape, kernel_shape, stride, padding, dilation, groups, dtype, layout
        As in :meth:`pymec.ConvShape.from_shapes`.
    algorithm : str
        One of :func:`pymec.algorithms`, or "auto".
    workspace_limit : int or str, optional
        Bounded algorithms, such as ``im2col_blocked`` and ``mec_banded``, size their tiles by it.
    operation : {"conv2d", "conv2d_input_grad", "conv2d_kernel_grad"}
        What is computed; each operation has its own algorithms.
    n_threads : int, optional
        As in :func:`pymec.conv2d`, where some algorithms take a slice of workspace for each thread.

    Returns
    -------
    int
        Bytes, conversions from one layout to the other included.

    Examples
    --------
    >>> pymec.workspace_size((1, 227, 227, 3), (11, 11, 3, 96), stride=4, algorithm="im2col")
    4392300
    >>> pymec.workspace_size((1, 227, 227, 3), (11, 11, 3, 96), stride=4, algorithm="mec")
    1648020
    """
    shape = ConvShape.from_shapes(
        x_shape, kernel_shape, stride=stride, padding=padding, dilation=dilation, groups=groups,
        dtype=dtype, layout=layout,
    )  # fmt: skip
    limit = parse_bytes("workspace_limit", workspace_limit)
    return planning.recipe(
        shape, algorithm, "exact", limit, n_threads, operation_named(operation)
    ).workspace_nbytes


@dataclass(frozen=True)
class ExplainedAlgorithm:
    """One row of :class:`Explanation`."""

    algorithm: str
    idea: str
    formula: str
    reason: str | None
    workspace_nbytes: int | None
    ratio_to_im2col: float | None
    multiply_adds: int

    @property
    def supported(self) -> bool:
        """Whether the algorithm can do the shape (within the limit, if there is one)."""
        return self.reason is None


@dataclass(frozen=True)
class Explanation(Sequence[ExplainedAlgorithm]):
    """What every algorithm would need for one shape; prints as a table."""

    shape: ConvShape
    chosen: str
    planned: str
    n_threads: int
    limit: int | None
    rows: tuple[ExplainedAlgorithm, ...]

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[ExplainedAlgorithm]:
        return iter(self.rows)

    def __str__(self) -> str:
        return self.table()

    def table(self, *, formulas: bool = False, unsupported: bool = False) -> str:
        """The rows as text of 80 columns.

        Parameters
        ----------
        formulas : bool
            Whether each workspace stands as a formula, too, in the paper's symbols; lines are longer then.
        unsupported : bool
            Whether algorithms that can't do the shape, or not within the limit, are there with the reason.
        """
        rows = [row for row in self.rows if row.supported or unsupported]
        texts = [self._cells(row) for row in rows]
        notes = [row.formula if row.supported and formulas else row.reason or "" for row in rows]
        lines = aligned(("", "algorithm", "workspace bytes", "im2col ÷ it"), texts).splitlines()
        lines[1:] = [f"{line}  {note}".rstrip() for line, note in zip(lines[1:], notes, strict=True)]
        left_out = len(self.rows) - len(rows)
        if left_out:
            within = "" if self.limit is None else " within the limit"
            lines += ["", f"{left_out} more can't do this{within} (--all, or table(unsupported=True), shows why)."]
        return "\n".join([*self._head(), "", *lines, "", *self._choice()])

    def _repr_html_(self) -> str:
        rows = [(*self._cells(row), row.formula) for row in self.rows if row.supported]
        table = html_table(("", "algorithm", "workspace bytes", "im2col ÷ it", "formula"), rows)
        return f"<p>{'<br>'.join(self._head())}</p>{table}<p>{'<br>'.join(self._choice())}</p>"

    def _head(self) -> tuple[str, str]:
        s = self.shape
        return (
            f"input {s.i_n}×{s.i_h}×{s.i_w}×{s.i_c}  kernel {s.k_h}×{s.k_w}×{s.i_cg}×{s.k_c}  "
            f"output {s.i_n}×{s.o_h}×{s.o_w}×{s.k_c}",
            f"{s.dtype}  {s.multiply_adds:,} multiply-adds  {counted(self.n_threads, 'thread')}",
        )

    def _choice(self) -> list[str]:
        lines = [f"→ what algorithm='auto' takes: {self.chosen}"]
        return lines + [f"  for a plan, which keeps the kernel: {self.planned}"] * (self.planned != self.chosen)

    def _cells(self, row: ExplainedAlgorithm) -> tuple[str, str, str, str]:
        mark = "→" if row.algorithm == self.chosen else " "
        if row.workspace_nbytes is None:
            return mark, row.algorithm, "–", "–"
        ratio = "–" if not row.ratio_to_im2col else f"{1 / row.ratio_to_im2col:.2f}"
        return mark, row.algorithm, f"{row.workspace_nbytes:,}", ratio


def explain(
    x_shape: Sequence[int],
    kernel_shape: Sequence[int],
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    dtype: Any = "float32",
    layout: str = "NHWC",
    operation: str = "conv2d",
    accuracy: str = "exact",
    workspace_limit: int | str | None = None,
    n_threads: int | None = None,
) -> Explanation:
    """What every algorithm would need for a convolution, and which one ``algorithm="auto"`` would take.

    Parameters
    ----------
    x_shape, kernel_shape, stride, padding, dilation, groups, dtype, layout
        As in :meth:`pymec.ConvShape.from_shapes`.
    operation
        As in :func:`workspace_size`.
    accuracy, workspace_limit, n_threads
        As in :func:`pymec.conv2d`.

    Returns
    -------
    Explanation
        A sequence of rows (``algorithm``, ``reason`` why it can't or None, ``workspace_nbytes``,
        ``ratio_to_im2col``, ``multiply_adds``, ``formula``, ``idea``) that prints as a table; its method ``table``
        shows formulas and reasons, too.  ``chosen`` is what a single call takes, ``planned`` what
        :func:`pymec.plan` takes.
    """
    shape = ConvShape.from_shapes(
        x_shape, kernel_shape, stride=stride, padding=padding, dilation=dilation, groups=groups,
        dtype=dtype, layout=layout,
    )  # fmt: skip
    limit = parse_bytes("workspace_limit", workspace_limit)
    wanted = operation_named(operation)
    chosen = planning.recipe(shape, "auto", accuracy, limit, n_threads, wanted)
    planned = planning.recipe(shape, "auto", accuracy, limit, n_threads, wanted, planned=True)
    whole = (shape.im2col_size + layouts.conversion_size(shape, layouts.Reading.PIXELS)) * shape.itemsize
    rows = []
    for row in registry.TABLES[operation].values():
        reason, nbytes = row.unsupported(shape), None
        if reason is None:
            nbytes = recipe_of(row, shape, limit, chosen.n_threads, wanted).workspace_nbytes
            if limit is not None and nbytes > limit:
                reason, nbytes = f"needs {nbytes:,} bytes, more than the limit", None
        ratio = None if nbytes is None or not whole else nbytes / whole
        rows.append(
            ExplainedAlgorithm(row.name, row.idea, row.formula, reason, nbytes, ratio, shape.multiply_adds)
        )
    names = chosen.algorithm.name, planned.algorithm.name
    return Explanation(shape, *names, chosen.n_threads, limit, tuple(rows))
