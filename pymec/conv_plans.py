"""Plans: a convolution, or a gradient of one, that was checked, chosen and sized once, to be called many times."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pymec import planning, registry
from pymec.execution import as_array, checked_operand, execute
from pymec.figures import counted, html_table
from pymec.kept_kernels import KeptKernel, can_take_over, form_of, keep
from pymec.kernels.mec.rows import tuned_schedule
from pymec.operations import CONV2D, operation_named
from pymec.recipes import Recipe, recipe_of
from pymec.saved_lowering import SavedLowering
from pymec.shapes import ConvShape, checked_integers
from pymec.spelling import shown
from pymec.threads import effective_n_threads
from pymec.workspace import allocate_workspace


class _Plan:
    """What plans of all operations have: a recipe, and recipes for batches of other sizes."""

    _keeps_kernel = False
    prepared_nbytes = 0

    def __init__(self, recipe: Recipe, limit: int | None = None, n_threads: int | None = None) -> None:
        self._recipe = recipe
        self._limit, self._asked_threads = limit, n_threads
        self._image_multiply_adds = replace(recipe.shape, i_n=1).multiply_adds
        self.shape = recipe.shape
        self.operation = recipe.operation.name
        self.algorithm = recipe.algorithm.name
        self.n_threads = recipe.n_threads
        self.workspace_nbytes = self._scratch(recipe)

    def __repr__(self) -> str:
        kind, nbytes = type(self).__name__, self.workspace_nbytes
        return f"<{kind} {self.algorithm}, {nbytes} bytes of workspace, {counted(self.n_threads, 'thread')}>"

    def _repr_html_(self) -> str:
        s = self.shape
        rows = [
            ("operation", self.operation),
            ("input", f"{s.i_n}×{s.i_h}×{s.i_w}×{s.i_c}"),
            ("kernel", f"{s.k_h}×{s.k_w}×{s.i_cg}×{s.k_c}"),
            ("algorithm", self.algorithm),
            ("threads", str(self.n_threads)),
            ("workspace bytes", f"{self.workspace_nbytes:,}"),
            ("bytes of the prepared kernel", f"{self.prepared_nbytes:,}"),
        ]
        return html_table((type(self).__name__, s.dtype), rows)

    def _scratch(self, recipe: Recipe) -> int:
        """Bytes of a call's workspace."""
        return recipe.planned_nbytes if self._keeps_kernel else recipe.workspace_nbytes

    def workspace_size(self, i_n: int) -> int:
        """Bytes of scratch that a call with ``i_n`` images needs, if its arrays are aligned and C-contiguous."""
        (i_n,) = checked_integers("i_n", (i_n,), 1, "a number of images", 0, got=i_n)
        return self._scratch(self._for_batch(i_n))

    def _arguments(self) -> tuple[Any, ...]:
        """What a copy is made of, here or on another machine."""
        made = self._recipe
        names = made.operation.name, made.algorithm.name
        return type(self), made.shape, *names, made.run_shape, self._limit, self._asked_threads

    def _execute(
        self, first: NDArray, second: Any, bias: Any, out: Any, workspace: Any, activation: str | None = None
    ) -> NDArray:
        """Run the plan on as many images as the first operand has."""
        limit = None if self._limit is None else self._limit - self.prepared_nbytes
        return execute(self._for_batch_of(first), first, second, bias, out, workspace, activation, limit)

    def _for_batch_of(self, array: NDArray) -> Recipe:
        """The recipe for as many images as the array has; whether the rest of it fits is checked later."""
        shape = array.shape
        return self._for_batch(shape[0]) if len(shape) == 4 else self._recipe

    def _for_batch(self, i_n: int) -> Recipe:
        if i_n == self.shape.i_n:
            return self._recipe
        n_threads = effective_n_threads(self._asked_threads, self._image_multiply_adds * i_n)
        return _recipe_for_batch(self._recipe, i_n, self._limit, n_threads)


@lru_cache(maxsize=256)
def _recipe_for_batch(made: Recipe, i_n: int, limit: int | None, n_threads: int) -> Recipe:
    batch = made.for_batch(i_n, limit, n_threads)
    planning.check_supported(batch.algorithm, batch.run_shape, batch.operation)
    return planning.within_limit(batch, limit)


class ConvPlan(_Plan):
    """A convolution, or the gradient of one with respect to its input, ready to be called; made by :func:`plan`.

    It is called with a batch of any size.  The algorithm, chosen for the planned batch, and the prepared kernel
    stay the same; a batch that needs more than ``workspace_limit`` is refused.

    It can be copied, pickled and sent to other processes and machines.  A copy takes the same algorithm and
    prepares its kernel where it arrives: ``copy.copy`` shares the kernel's array, unless the plan has taken it
    over; ``copy.deepcopy`` and ``pickle`` give it one of its own.

    Attributes
    ----------
    operation, algorithm : str
    workspace_nbytes : int
        Scratch that each call needs with the planned batch; :meth:`workspace_size` tells others.
    prepared_nbytes : int
        Bytes of the form of the kernel that :meth:`prepare` makes: packed in panels, say, or transformed by
        Winograd.  0 if the algorithm multiplies with the kernel as it is; with NCHW most turn it first, which
        takes as many bytes as the kernel (and none if that lies in memory as h-w-i-o).
    shape : ConvShape
    n_threads : int
    """

    _keeps_kernel = True

    def __init__(self, recipe: Recipe, limit: int | None = None, n_threads: int | None = None) -> None:
        super().__init__(recipe, limit, n_threads)
        self._kept: KeptKernel | None = None
        self.prepared_nbytes = recipe.prepared_nbytes

    def __repr__(self) -> str:
        kept = "not yet given" if self._kept is None else "taken over" if self._has_taken_over else "kept"
        return f"{super().__repr__()[:-1]}, kernel {kept}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """For ``copy`` and ``pickle``: the arguments, the algorithm chosen and the kernel.

        The prepared kernel is left out: it begins at a cache line, and its panels are as wide as this CPU's
        vectors.  A copy has another address and perhaps another CPU, so it prepares the kernel anew.
        """
        return _rebuilt, (*self._arguments(), self.kernel, self._has_taken_over)

    def _prepared_kernel(self) -> KeptKernel:
        if self._kept is None:
            raise ValueError("the plan has no kernel yet; call plan.prepare(kernel) first")
        return self._kept

    @property
    def _has_taken_over(self) -> bool:
        return self._kept is not None and self._kept.given is None

    @property
    def kernel(self) -> NDArray | None:
        """The kernel: the array that was given to :meth:`prepare`, or None before that.

        If the plan has taken the kernel over, this is a new array with the same bits.
        """
        return None if self._kept is None else self._kept.read_back(self._recipe)

    def prepare(self, kernel: Any, *, take_over: bool = False) -> ConvPlan:
        """Keep the kernel for the calls to come and return the plan.

        Parameters
        ----------
        kernel : array (k_h, k_w, i_c/groups, k_c), or with NCHW (k_c, i_c/groups, k_h, k_w)
            A kernel in the order that the algorithm reads is kept as it is, if it is aligned; another is turned
            once.  Most read h-w-i-o, and an NCHW kernel may lie in memory so.  It must not change until the plan
            is prepared again.  The form that the algorithm multiplies with takes ``prepared_nbytes`` more; a
            kernel that is neither C-contiguous nor in the algorithm's order is copied, in place of one that is.
        take_over : bool
            Whether the plan keeps that form alone.  Once the caller's array is gone, the kernel is in memory once;
            :attr:`kernel` reads it back.  An algorithm that multiplies with the caller's array itself keeps that.

        Returns
        -------
        ConvPlan
            The plan itself.

        Raises
        ------
        ValueError, TypeError
            If the kernel has another shape or dtype than the plan, or can't be read back from its form: Winograd
            and Fourier transforms round.
        """
        if not isinstance(take_over, (bool, np.bool_)):
            raise TypeError(f"take_over must be a bool, got {shown(take_over)}")
        kernel = np.require(checked_operand(self._recipe, 1, kernel, planned=True), requirements="A")
        self._kept = keep(self._recipe, kernel, bool(take_over))
        return self

    def share(self, other: ConvPlan) -> ConvPlan:
        """Keep the kernel of another plan and return this one, as for the same layer with images of other sizes.

        Where both multiply with the same form of the kernel, they share it.  Where they don't, this plan prepares
        its own, and takes the kernel over if the other has and it can.  Preparing the other plan again does not
        reach this one.

        Parameters
        ----------
        other : ConvPlan
            A prepared plan of a kernel with the same shape, dtype and layout.

        Returns
        -------
        ConvPlan
            The plan itself.
        """
        if not isinstance(other, ConvPlan):
            raise TypeError(f"other must be a pymec.ConvPlan, got {type(other).__name__}; prepare takes a kernel")
        if other._kept is None:
            raise ValueError("other has no kernel yet; call other.prepare(kernel) first")
        if self.shape.layout != other.shape.layout:
            raise ValueError(
                f"other has the layout {other.shape.layout}, this plan {self.shape.layout}; call prepare(kernel)"
            )
        if form_of(self._recipe) == form_of(other._recipe):
            self._kept = other._kept
            return self
        return self.prepare(other.kernel, take_over=other._has_taken_over and can_take_over(self._recipe))

    def __call__(
        self, x: Any, bias: Any = None, *, activation: str | None = None, out: Any = None, workspace: Any = None
    ) -> NDArray:
        """Convolve ``x``, whose images and dtype are those the plan was made for; see :func:`pymec.conv2d`.

        A plan of the input's gradient takes ``grad_out`` in the place of ``x``, and neither bias nor activation.
        """
        kept = self._prepared_kernel()
        if (bias is not None or activation is not None) and self._recipe.operation != CONV2D:
            name = "activation" if bias is None else "bias"
            raise ValueError(f"{name} must be None: the gradient with respect to the input has none")
        x = as_array(self._recipe.operation.operands[0].name, x)
        return self._execute(x, kept, bias, out, workspace, activation)

    def forward_saved(self, x: Any, bias: Any = None, *, out: Any = None) -> tuple[NDArray, SavedLowering]:
        """Convolve, and keep MEC's lowered matrix for the kernel's gradient.

        Only for plans with ``algorithm="mec"`` or ``"mec_b"`` and NHWC arrays.  Both keep L as ``mec`` stores
        it, without the rows that no output reads, and multiply by Solution B, as Solution A overwrites L at
        the end.

        Returns
        -------
        out : numpy.ndarray
            As from calling the plan.
        saved : SavedLowering
            ``saved.kernel_grad(grad_out)`` is the kernel's gradient, ``saved.nbytes`` what is kept.

        Examples
        --------
        >>> plan = pymec.plan(x.shape, kernel.shape, algorithm="mec").prepare(kernel)
        >>> out, saved = plan.forward_saved(x)
        >>> grad_kernel = saved.kernel_grad(grad_out)
        """
        shape = self.shape
        if self.operation != "conv2d" or self.algorithm not in ("mec", "mec_b") or shape.layout != "NHWC":
            raise ValueError(
                f"forward_saved keeps the lowered matrix of conv2d by 'mec' or 'mec_b' with layout='NHWC'; "
                f"this plan has {self.operation} by {self.algorithm!r} with {shape.layout!r}"
            )
        if isinstance(out, np.ndarray) and not out.flags.c_contiguous:
            raise ValueError(
                f"out must be C-contiguous for forward_saved, got strides {out.strides}; pass an array from "
                "numpy.empty"
            )
        kept = self._prepared_kernel()
        x = as_array("x", x)
        made = self._for_batch_of(x).for_this_process()  # a schedule made anew there would forget Solution B
        shape = made.shape
        schedule = tuned_schedule(shape, made.n_threads, None, solution="B")
        made = replace(made, algorithm=registry.get("mec"), schedule=schedule, run_shape=shape)
        given = checked_operand(made, 0, x)
        x = np.require(given, requirements=["C", "A"])
        lowered = allocate_workspace(made.workspace_nbytes)
        out = execute(made, x, kept, bias, out, lowered)
        if not shape.is_pointwise:
            return out, SavedLowering(shape, lowered.view(shape.dtype), made.workspace_nbytes, made.n_threads)
        kept_nbytes = 0 if np.may_share_memory(x, given) else x.nbytes
        return out, SavedLowering(shape, x.reshape(-1), kept_nbytes, made.n_threads)


class KernelGradPlan(_Plan):
    """The gradient of a convolution with respect to its kernel, ready to be called; made by :func:`plan`.

    It is called with a batch of any size, and can be copied, pickled and sent to other processes.

    Attributes
    ----------
    operation, algorithm : str
    workspace_nbytes : int
        Scratch that each call needs with the planned batch; :meth:`workspace_size` tells others.
    shape : ConvShape
    n_threads : int
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, self._arguments()

    def __call__(self, x: Any, grad_out: Any, *, out: Any = None, workspace: Any = None) -> NDArray:
        """The kernel's gradient, summed over the batch; see :func:`pymec.conv2d_kernel_grad`."""
        return self._execute(as_array("x", x), grad_out, None, out, workspace)


def _rebuilt(
    kind: type[_Plan],
    shape: ConvShape,
    operation: str,
    algorithm: str,
    run_shape: ConvShape,
    limit: int | None,
    n_threads: int | None,
    kernel: NDArray | None = None,
    taken_over: bool = False,
) -> _Plan:
    """A plan by the same algorithm, made by this process for this machine; prepared if there is a kernel."""
    wanted = operation_named(operation)
    threads = effective_n_threads(n_threads, shape.multiply_adds)
    made = recipe_of(registry.get(algorithm, operation), shape, limit, threads, wanted, run_shape)
    rebuilt = kind(planning.within_limit(made, limit), limit, n_threads)
    if isinstance(rebuilt, ConvPlan) and kernel is not None:
        rebuilt.prepare(kernel, take_over=taken_over)
    return rebuilt
