"""From a shape to an algorithm and its bytes; no arrays are touched."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from pymec import layouts, registry, threads
from pymec.execution import Recipe
from pymec.families._row import SLICE_BYTES, filled_panels, shared_lines
from pymec.families.winograd import best_tiles
from pymec.kernels._panels import panels_size
from pymec.kernels._tile_cut import fast_tiles
from pymec.kernels.direct_grouped import whole_lines
from pymec.kernels.mec import T_CUT, choose_solution
from pymec.operations import CONV2D, Operation, operation_named
from pymec.shapes import ConvShape, Padding, Pair, UnsupportedShape

ACCURACIES = ("exact", "fast")

MANY_PHASES = 16
"""Phases of a stride up to which a convolution for each is fast: each is a parallel region of its own."""

MANY_CHANNELS = 32
"""Input channels of a tap from which on gradients by products need no lowering to be fast."""

WINOGRAD_CHANNELS = 32
WINOGRAD_TILES = 36
"""Channels of a group and tiles of 4×4 outputs from which on Winograd by BLAS beats exact products."""

SMALL_WORKSPACE = 2**20
"""Bytes of lowered matrix that are not worth saving: full MEC is taken without a second thought."""

SMALL_PANELS = 64 * 1024
MANY_PIXELS = 1024
"""Bytes of K in panels that a single call may take, and output pixels from which on re-laying K pays: it costs
about ten cycles a line, and saves a tile some 3 % of the dozen cycles that it takes for each."""

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


# Choosing -----------------------------------------------------------------------------------------------


def recipe(
    shape: ConvShape,
    algorithm: str,
    accuracy: str,
    limit: int | None,
    n_threads: int | None,
    operation: Operation = CONV2D,
    planned: bool = False,
) -> Recipe:
    """Choose the algorithm, its threads and its workspace; raise if it can't be done within ``limit`` bytes.

    ``planned`` is whether the kernel will be prepared once and used often.
    """
    # The number of threads on offer may change between two calls, and a look-up takes True for 1.
    threads_used = threads.effective_n_threads(n_threads, shape.multiply_adds)
    if not isinstance(algorithm, str):
        registry.get(algorithm, operation.name)
    if not isinstance(accuracy, str):
        raise ValueError(f"accuracy must be 'exact' or 'fast', got {accuracy!r}")
    return cached_recipe(shape, algorithm, accuracy, limit, threads_used, operation, planned)


@lru_cache(maxsize=256)
def cached_recipe(
    shape: ConvShape,
    algorithm: str,
    accuracy: str,
    limit: int | None,
    n_threads: int,
    operation: Operation,
    planned: bool,
) -> Recipe:
    """:func:`recipe` for arguments that are checked."""
    if accuracy not in ACCURACIES:
        raise ValueError(f"accuracy must be 'exact' or 'fast', got {accuracy!r}")
    if algorithm != "auto":
        row = registry.get(algorithm, operation.name)
        _check_supported(row, shape, operation)
        made = recipe_of(row, shape, limit, n_threads, operation)
        if limit is not None and made.workspace_nbytes > limit:
            raise ValueError(
                f"workspace_limit of {limit} bytes is too small: {algorithm} needs at least "
                f"{made.workspace_nbytes} bytes for this shape; {_smallest_hint(shape, n_threads, operation)}"
            )
        return made
    order = _AUTO_ORDERS[operation.name](shape, n_threads, planned)
    if accuracy == "fast" and operation is CONV2D:
        order = *_fast_order(shape, n_threads, planned), *order
    for name in order:
        row = registry.get(name, operation.name)
        if row.unsupported(shape) is None:
            made = recipe_of(row, shape, limit, n_threads, operation)
            if limit is None or made.workspace_nbytes <= limit:
                return made
    raise ValueError(
        f"workspace_limit of {limit} bytes is too small for layout='NCHW', whose conversions alone take "
        f"{layouts.conversion_size(shape) * shape.itemsize} bytes; pass NHWC arrays"
    )


def _auto_order(shape: ConvShape, n_threads: int, planned: bool) -> tuple[str, ...]:
    """What ``algorithm="auto"`` tries: the first of these that can do the shape within the limit is taken.

    Register tiles are the fastest, and need no workspace (``profiling/README.md``), wherever a group has a
    line of output channels for them and the CPU has registers enough.  A plan re-lays K for them, and so does a
    single call where K is small and many pixels are multiplied with it; re-laid, K may also be filled up to a line
    of channels.  Small groups share a line.  Elsewhere products of BLAS are the fastest: :func:`_blas_order`.
    """
    blas = _blas_order(shape, n_threads)
    if shape.i_cg == shape.k_cg == 1:
        return "depthwise", *blas
    if registry.get("direct_grouped").unsupported(shape) is None and shared_lines(shape):
        return ("direct_grouped",)
    pixels = shape.i_n * shape.o_h * shape.o_w
    small = panels_size(shape) * shape.itemsize <= SMALL_PANELS and pixels >= MANY_PIXELS
    if fast_tiles(shape):
        return ("direct_panels", "direct_blocked") if planned or small else ("direct_blocked",)
    return ("direct_panels", *blas) if (planned or small) and filled_panels(shape) else blas


def _blas_order(shape: ConvShape, n_threads: int) -> tuple[str, ...]:
    """The algorithms that multiply by BLAS, in the order in which "auto" tries them.

    ``mec_banded`` is as fast as ``mec`` almost everywhere (``profiling/README.md``) in a fraction of the
    memory.  Where a band of a single output row is too wide for the cache, ``mec_column_split`` comes before it,
    and after it for limits that no such band fits.  Full ``mec`` comes first where there is little to save
    (with many threads the slices of the bands add up), and where several images with narrow outputs are multiplied
    side by side (Solution A), which bands can't.  ``im2col_blocked`` and ``mec_column_split`` get by with a single
    pixel's patch, ``mec_channel_split`` with one channel of it and ``direct`` with nothing at all, so that there
    is always an answer.
    """
    tiles = "mec_banded", "mec_column_split"
    if shape.band_size(1) * shape.itemsize > SLICE_BYTES:
        tiles = "mec_column_split", "mec_banded"
    side_by_side = shape.i_n > 1 and choose_solution(shape, T_CUT) == "A"
    tiled = registry.get(tiles[0]).schedule(shape, n_threads, None).size
    little_to_save = shape.mec_size <= max(2 * tiled, SMALL_WORKSPACE // shape.itemsize)
    smaller = *tiles, "im2col_blocked", "mec_channel_split", "direct"
    if shape.is_pointwise or side_by_side or little_to_save:
        return "mec", *smaller
    return smaller


def _fast_order(shape: ConvShape, n_threads: int, planned: bool) -> tuple[str, ...]:
    """What ``accuracy="fast"`` puts before the exact algorithms: Winograd's, where it takes less time.

    With registers for tiles of sums that is in bands, of the m that an estimate of cycles finds the best
    (``pymec/kernels/_band_cut.py``).  Products of BLAS want channels to add up at each point, and tiles enough to
    be worth transforming the kernel.
    """
    if fast_tiles(shape):
        m = best_tiles(shape, n_threads, planned)
        return () if m is None else (f"winograd_f{m}_banded",)
    channels = min(shape.i_cg, shape.k_cg) >= WINOGRAD_CHANNELS
    tiles = shape.i_n * -(-shape.o_h // 4) * -(-shape.o_w // 4) >= WINOGRAD_TILES
    return ("winograd_f4",) if channels and tiles else ()


def _input_grad_order(shape: ConvShape, n_threads: int, planned: bool) -> tuple[str, ...]:
    """Forward convolutions by register tiles; lines of registers for small groups.

    For a few pixels a single call multiplies with K as it is, by im2col: turning K would take it longer.  Without
    channels enough for tiles, and with large strides, whose phases have few pixels each, products of single taps,
    or with stride 1 or few channels MEC through L; without room for these, an algorithm without workspace.
    """
    dense = shape.s_h == shape.s_w == 1
    taps = not dense and shape.i_cg >= MANY_CHANNELS
    rest = ("pixel_gemm", "direct") if taps else ("mec", "pixel_gemm", "direct")
    able = registry.get("direct_grouped", "conv2d_input_grad").unsupported(shape) is None
    if able and shape.groups > 1 and whole_lines(shape, swapped=True):
        depthwise = dense and shape.i_cg == shape.k_cg == 1
        return ("direct_conv", "direct_grouped", *rest) if depthwise else ("direct_grouped", *rest)
    few = shape.groups == 1 and 2 * shape.im2col_size <= shape.kernel_size
    if few and not planned:
        return "im2col", "direct_conv", *rest
    turned = replace(shape, i_c=shape.k_c, k_c=shape.i_c)
    return ("direct_conv", *rest) if fast_tiles(turned) and shape.s_h * shape.s_w <= MANY_PHASES else rest


def _kernel_grad_order(shape: ConvShape, n_threads: int, planned: bool) -> tuple[str, ...]:
    """No workspace where a tap has channels enough for a good product; MEC where it hasn't."""
    if shape.i_cg >= MANY_CHANNELS:
        return "pixel_gemm", "direct"
    rest = "mec", "pixel_gemm", "direct"
    return ("direct_grouped", *rest) if shape.groups > 1 and whole_lines(shape) else rest


_AUTO_ORDERS = {
    "conv2d": _auto_order,
    "conv2d_input_grad": _input_grad_order,
    "conv2d_kernel_grad": _kernel_grad_order,
}


def recipe_of(
    row: registry.Algorithm, shape: ConvShape, limit: int | None, n_threads: int, operation: Operation = CONV2D
) -> Recipe:
    """What one algorithm, which can do the shape, takes within ``limit`` bytes, or the least it can."""
    conversion = layouts.conversion_size(shape)
    room = None if limit is None else max(0, limit // shape.itemsize - conversion)
    return Recipe(shape, row, n_threads, row.schedule(shape, n_threads, room), operation)


def _check_supported(row: registry.Algorithm, shape: ConvShape, operation: Operation) -> None:
    reason = row.unsupported(shape)
    if reason is not None:
        rows = registry.TABLES[operation.name].values()
        able = [other.name for other in rows if other.unsupported(shape) is None]
        raise UnsupportedShape(f"{row.name} can't do this shape: {reason}; {', '.join(able)} can")


def _smallest_hint(shape: ConvShape, n_threads: int, operation: Operation) -> str:
    needs = {
        row.name: recipe_of(row, shape, 0, n_threads, operation).workspace_nbytes
        for row in registry.TABLES[operation.name].values()
        if row.unsupported(shape) is None
    }
    name = min(needs, key=lambda key: needs[key])
    return f"the smallest is {name} with {needs[name]}"


def parse_bytes(argument: str, value: int | str | None) -> int | None:
    """Bytes as an int, from an int or a text such as ``"64MiB"``; None stays None."""
    if value is None:
        return None
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9]{1,30}(?:\.[0-9]{1,30})?)\s*([KMG]?i?B?)\s*", value, re.IGNORECASE)
        unit = match and match[2].upper()
        if unit in ("K", "M", "G", "KI", "MI", "GI"):
            unit += "B"
        if match and unit in _UNITS:
            return math.floor(Fraction(match[1]) * _UNITS[unit])
    elif isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= 0:
        return int(value)
    raise ValueError(
        f"{argument} must be a whole number of bytes or a text like '64MiB' (B, KB, MB, GB, KiB, MiB or GiB), "
        f"got {value!r}"
    )


# Asking -------------------------------------------------------------------------------------------------


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
    n_threads: int | None = 1,
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
        What is computed; each has algorithms of its own.
    n_threads : int, optional
        Bounded algorithms take a slice per thread.  One by default; None asks for what :func:`pymec.conv2d`
        takes by default.

    Returns
    -------
    int
        Bytes, the conversions of ``layout="NCHW"`` included.

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
    return recipe(shape, algorithm, "exact", limit, n_threads, operation_named(operation)).workspace_nbytes


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
    rows: tuple[ExplainedAlgorithm, ...]

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[ExplainedAlgorithm]:
        return iter(self.rows)

    def __str__(self) -> str:
        s = self.shape
        head = (
            f"input {s.i_n}×{s.i_h}×{s.i_w}×{s.i_c}  kernel {s.k_h}×{s.k_w}×{s.i_cg}×{s.k_c}  "
            f"output {s.i_n}×{s.o_h}×{s.o_w}×{s.k_c}  {s.dtype}  {s.multiply_adds:,} multiply-adds  "
            f"{self.n_threads} thread{'s' if self.n_threads > 1 else ''}"
        )
        table = [("", "algorithm", "workspace bytes", "im2col ÷ it", "formula or reason")]
        for row in self.rows:
            mark = "→" if row.algorithm == self.chosen else " "
            if row.workspace_nbytes is None:
                table.append((mark, row.algorithm, "-", "-", f"can't: {row.reason}"))
            else:
                ratio = "-" if not row.ratio_to_im2col else f"{1 / row.ratio_to_im2col:.2f}"
                table.append((mark, row.algorithm, f"{row.workspace_nbytes:,}", ratio, row.formula))
        widths = [max(len(line[i]) for line in table) for i in range(4)]
        lines = [f"{m} {n:<{widths[1]}}  {b:>{widths[2]}}  {r:>{widths[3]}}  {f}" for m, n, b, r, f in table]
        plan = "" if self.planned == self.chosen else f"; a plan, which keeps the kernel: {self.planned}"
        return "\n".join([head, "", *lines, "", f"→ what algorithm='auto' takes: {self.chosen}{plan}"])


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
        A sequence of rows (``algorithm``, ``reason`` why not or None, ``workspace_nbytes``,
        ``ratio_to_im2col``, ``multiply_adds``, ``formula``, ``idea``) that prints as a table; ``chosen`` is what a
        single call takes, ``planned`` what :func:`pymec.plan` does.
    """
    shape = ConvShape.from_shapes(
        x_shape, kernel_shape, stride=stride, padding=padding, dilation=dilation, groups=groups,
        dtype=dtype, layout=layout,
    )  # fmt: skip
    limit = parse_bytes("workspace_limit", workspace_limit)
    wanted = operation_named(operation)
    chosen = recipe(shape, "auto", accuracy, limit, n_threads, wanted)
    planned = recipe(shape, "auto", accuracy, limit, n_threads, wanted, planned=True)
    whole = (shape.im2col_size + layouts.conversion_size(shape)) * shape.itemsize
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
    return Explanation(shape, chosen.algorithm.name, planned.algorithm.name, chosen.n_threads, tuple(rows))
