"""The results of one run of the report, and the figures that follow from them.

Plain data: the terminal's table, the page and the plots read these and compute nothing themselves.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from pymec.layers import Layer
from pymec.memory import MemoryReport
from pymec.shapes import ConvShape


@dataclass(frozen=True)
class Check:
    """A result compared with the oracle's.

    Attributes
    ----------
    correct : bool
        Whether every output is within its error bound.
    worst : float or None
        The largest error, in units of its bound; None if some output is NaN.
    """

    correct: bool
    worst: float | None


@dataclass(frozen=True)
class Timing:
    """Seconds of one call, over some repeats."""

    fastest: float
    median: float
    repeats: int


@dataclass(frozen=True)
class Cell:
    """One algorithm on one layer: the results, or why it can't do the layer, or what ended its run."""

    algorithm: str
    reason: str | None = None
    error: str | None = None
    check: Check | None = None
    timing: Timing | None = None
    memory: MemoryReport | None = None

    @property
    def complete(self) -> bool:
        """Whether the results are there."""
        return self.reason is None and self.error is None

    @property
    def why_not(self) -> str:
        """Why they aren't."""
        return f"can't: {self.reason}" if self.error is None else f"not run: {self.error}"

    @property
    def exact(self) -> bool:
        """Whether formula and memray agree to the byte."""
        return self.memory is not None and self.memory.exact

    @property
    def correct(self) -> bool:
        """Whether the result equals the oracle's, within rounding."""
        return self.check is not None and self.check.correct


@dataclass(frozen=True)
class LayerRun:
    """All algorithms on one layer."""

    layer: Layer
    shape: ConvShape
    cells: tuple[Cell, ...]

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.layer.name

    def cell(self, algorithm: str) -> Cell | None:
        """That algorithm's cell, if it was run."""
        return next((cell for cell in self.cells if cell.algorithm == algorithm), None)

    @property
    def im2col_nbytes(self) -> int:
        """im2col's lowered matrix in bytes: measured, or by its formula where im2col was not run."""
        im2col = self.cell("im2col")
        if im2col is not None and im2col.memory is not None:
            return im2col.memory.workspace
        return self.shape.im2col_size * self.shape.itemsize

    def saving(self, algorithm: str) -> float | None:
        """im2col's workspace divided by the algorithm's: infinite if it needs none."""
        cell = self.cell(algorithm)
        if cell is None or cell.memory is None:
            return None
        return self.im2col_nbytes / cell.memory.workspace if cell.memory.workspace else math.inf

    def slowdown(self, algorithm: str) -> float | None:
        """The algorithm's fastest time divided by im2col's; None if im2col was not run."""
        cell, im2col = self.cell(algorithm), self.cell("im2col")
        if cell is None or cell.timing is None or im2col is None or im2col.timing is None:
            return None
        return cell.timing.fastest / im2col.timing.fastest

    def nbytes(self, algorithm: str) -> int | None:
        """The algorithm's measured workspace."""
        cell = self.cell(algorithm)
        return None if cell is None or cell.memory is None else cell.memory.workspace

    @property
    def front(self) -> tuple[str, ...]:
        """The Pareto front: algorithms that no other beats in both bytes and time, fewest bytes first."""
        found, fastest = [], math.inf
        able = [(c.memory.workspace, c.timing.fastest, c.algorithm) for c in self.cells if c.memory and c.timing]
        for _, seconds, name in sorted(able):
            if seconds < fastest:
                found.append(name)
                fastest = seconds
        return tuple(found)


PUBLISHED = ("mec_paper", "mec_b", "mec_a", "mec_vanilla")
"""The paper's algorithms; the first of them that was run stands for published MEC."""


@dataclass(frozen=True)
class Run:
    """All layers, and the machine and settings that they were run with."""

    algorithms: tuple[str, ...]
    layers: tuple[LayerRun, ...]
    batch: int
    n_threads: int
    versions: dict[str, str]
    made: str
    seconds: float
    blas_kernels: str = "unknown"
    blas_warning: str | None = None

    @property
    def published(self) -> str | None:
        """The algorithm that stands for MEC as the paper has it, if one was run."""
        return next((name for name in PUBLISHED if name in self.algorithms), None)

    @property
    def cells(self) -> list[tuple[LayerRun, Cell]]:
        """Every cell that has results, with its layer."""
        return [(layer, cell) for layer in self.layers for cell in layer.cells if cell.complete]

    @property
    def n_exact(self) -> int:
        """Cells where formula and memray agree to the byte."""
        return sum(cell.exact for _, cell in self.cells)

    @property
    def n_correct(self) -> int:
        """Cells whose result equals the oracle's, within rounding."""
        return sum(cell.correct for _, cell in self.cells)

    @property
    def failures(self) -> list[str]:
        """A sentence for each cell that is wrong, or was not run although the algorithm can do the layer."""
        found = [
            f"{cell.algorithm} on {layer.name} was not run: {cell.error}"
            for layer in self.layers
            for cell in layer.cells
            if cell.error is not None
        ]
        for layer, cell in self.cells:
            if not cell.correct:
                found.append(f"{cell.algorithm} on {layer.name}: the result is wrong, {_by_how_much(cell.check)}")
            if not cell.exact and cell.memory is not None:
                memory = cell.memory
                found.append(
                    f"{cell.algorithm} on {layer.name}: predicted {memory.predicted:,} bytes, "
                    f"measured {memory.workspace:,}"
                )
        return found

    def mean_saving(self, algorithm: str) -> float | None:
        """Geometric mean of :meth:`LayerRun.saving` over the layers."""
        return self._mean(lambda layer: layer.saving(algorithm))

    def mean_slowdown(self, algorithm: str) -> float | None:
        """Geometric mean of :meth:`LayerRun.slowdown` over the layers."""
        return self._mean(lambda layer: layer.slowdown(algorithm))

    def _mean(self, ratio: Callable[[LayerRun], float | None]) -> float | None:
        # Swapping dividend and divisor of every ratio inverts the geometric mean, but no other mean.
        ratios = [value for layer in self.layers if (value := ratio(layer)) is not None]
        if not ratios or math.inf in ratios:
            return math.inf if ratios else None
        return statistics.geometric_mean(ratios)

    def as_dict(self) -> dict[str, Any]:
        """All results and the ratios that follow, for JSON (where infinity is null)."""
        document = asdict(self)
        for layer, entry in zip(self.layers, document["layers"], strict=True):
            entry["pareto_front"] = layer.front
            for cell in entry["cells"]:
                saving = layer.saving(cell["algorithm"])
                cell["im2col_over_workspace"] = None if saving == math.inf else saving
                cell["time_over_im2col"] = layer.slowdown(cell["algorithm"])
        document["failures"] = self.failures
        return document


def _by_how_much(check: Check | None) -> str:
    if check is None or check.worst is None:
        return "with NaN among its outputs"
    return f"off by up to {check.worst:.3g} times what rounding explains"
