"""The sizes of one convolution, by the paper's symbols, and the checks of the arguments that give them.

Pure arithmetic in Python integers, which do not overflow; no array is touched here.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np

from pymec.lattice import values_below
from pymec.spelling import shown

Layout = Literal["NHWC", "NCHW"]
Pair = int | Sequence[int]
Padding = int | str | Sequence[int] | Sequence[Sequence[int]]

MOST_BANDS = 16
"""The most bands whose rows are counted one by one, if every band touches the padding."""

LAYOUTS: dict[str, str] = {"NHWC": "HWIO", "NCHW": "OIHW"}
DTYPES = ("float32", "float64")
SIZES = (
    "i_n", "i_h", "i_w", "i_c", "k_h", "k_w", "k_c",
    "s_h", "s_w", "p_t", "p_b", "p_l", "p_r", "d_h", "d_w", "groups",
)  # fmt: skip
"""The fields of :class:`ConvShape` that are numbers."""


class UnsupportedShape(ValueError):
    """A valid convolution that the named algorithm can't do; the message says why and which ones can."""


class _TooLargeError(ValueError):
    """An array of a layer, its "input", "kernel" or "output", would have more bytes than NumPy can count."""

    def __init__(self, role: str, extents: tuple[int, ...], shape: ConvShape) -> None:
        self.role = role
        nbytes = math.prod(extents) * shape.itemsize
        super().__init__(
            f"the {role}, {' × '.join(map(str, extents))} {shape.dtype}, would have {nbytes} bytes, more than an "
            f"array can have ({LARGEST_NBYTES})"
        )


@dataclass(frozen=True)
class ConvShape:
    """One convolution, without its data.

    Sizes carry the paper's symbols: ``i_n i_h i_w i_c`` input, ``k_h k_w k_c`` kernel, ``o_h o_w`` output,
    ``s`` stride, ``p`` padding (top, bottom, left, right), ``d`` dilation.  All *sizes* are in elements,
    all ``nbytes`` in bytes.  Make one with :meth:`from_shapes`, which checks its arguments.
    """

    i_n: int
    i_h: int
    i_w: int
    i_c: int
    k_h: int
    k_w: int
    k_c: int
    s_h: int = 1
    s_w: int = 1
    p_t: int = 0
    p_b: int = 0
    p_l: int = 0
    p_r: int = 0
    d_h: int = 1
    d_w: int = 1
    groups: int = 1
    dtype: str = "float32"
    layout: str = "NHWC"

    def __reduce__(self) -> tuple[Any, ...]:
        """For ``copy`` and ``pickle``: the fields alone, as what was derived from them is made anew."""
        return type(self), tuple(vars(self)[field] for field in self.__dataclass_fields__)

    def __hash__(self) -> int:
        """That of the fields, worked out once: every call looks up what it knows of its shape."""
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(tuple(vars(self)[field] for field in self.__dataclass_fields__))

    def __post_init__(self) -> None:
        """Check the fields, however the shape was made: kernels trust them."""
        fields = vars(self)
        numbers = [fields[name] for name in SIZES]
        if any(type(number) is not int for number in numbers):
            for name in SIZES:
                number = fields[name]
                object.__setattr__(self, name, checked_integers(name, (number,), 1, "an integer", got=number)[0])
        if not isinstance(self.dtype, str) or self.dtype not in DTYPES:
            object.__setattr__(self, "dtype", dtype_name("dtype", self.dtype))
        if not isinstance(self.layout, str) or self.layout not in LAYOUTS:
            raise ValueError(f"layout must be 'NHWC' or 'NCHW', got {shown(self.layout)}")
        positive = (self.i_h, self.i_w, self.i_c, self.k_h, self.k_w, self.k_c, self.s_h, self.s_w)
        if min(*positive, self.d_h, self.d_w, self.groups) < 1 or self.i_n < 0:
            raise ValueError(f"sizes must be positive (the batch may be 0), got {self}")
        if min(self.p_t, self.p_b, self.p_l, self.p_r) < 0:
            raise ValueError(f"padding must not be negative, got {self}")
        if self.i_c % self.groups or self.k_c % self.groups:
            raise ValueError(f"groups must divide i_c and k_c, got {self}")
        if self.o_h < 1 or self.o_w < 1:
            raise ValueError(f"the kernel must fit into the padded input, got {self}")
        if max(numbers) > 2**14:  # no product of smaller sizes comes near the limits
            self._check_limits()

    def _check_limits(self) -> None:
        """Refuse positions that don't fit into 64 bits, and arrays that no machine could hold."""
        for name in ("s_h", "s_w", "p_t", "p_b", "p_l", "p_r", "d_h", "d_w"):
            if vars(self)[name] > LARGEST:
                raise ValueError(f"{name} must be at most {LARGEST}, got {vars(self)[name]}")
        arrays = {"input": self.input_shape, "kernel": self.kernel_shape, "output": self.output_shape}
        for name, extents in arrays.items():
            if math.prod(extents) * self.itemsize > LARGEST_NBYTES:
                raise _TooLargeError(name, extents, self)

    @classmethod
    def from_shapes(
        cls,
        x_shape: Sequence[int],
        kernel_shape: Sequence[int],
        *,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        groups: int = 1,
        dtype: Any = "float32",
        layout: str = "NHWC",
        names: tuple[str, str] = ("x_shape", "kernel_shape"),
    ) -> ConvShape:
        """Check the arguments of a convolution and work out its sizes.

        Parameters
        ----------
        x_shape : four integers
            (i_n, i_h, i_w, i_c), or (i_n, i_c, i_h, i_w) with ``layout="NCHW"``.
        kernel_shape : four integers
            (k_h, k_w, i_c/groups, k_c), or (k_c, i_c/groups, k_h, k_w) with ``layout="NCHW"``.
        stride, dilation : int or pair of ints
            Vertical and horizontal.
        padding : int, pair, two pairs, "valid" or "same"
            Zeros around the input: p, (p_h, p_w) or ((top, bottom), (left, right)).  "valid" is none; "same"
            gives o = ceil(i / s), the odd zero at the end as in JAX and ONNX's SAME_UPPER.
        groups : int
            Number of independent convolutions into which the input and output channels are split.
        dtype : {"float32", "float64"} or anything NumPy takes for one of them
        layout : {"NHWC", "NCHW"}
        names : pair of str
            What errors call the two shapes.

        Raises
        ------
        TypeError, ValueError
            Naming the argument, the value given, and valid ones.
        """
        arguments = (x_shape, kernel_shape, stride, padding, dilation, groups, dtype, layout, names)
        options = (stride, padding, dilation, groups, layout)
        if (
            type(x_shape) is type(kernel_shape) is tuple
            and set(map(type, x_shape + kernel_shape)) <= _INTEGER
            and (set(map(type, options)) <= _PLAIN or all(map(_is_plain, options)))
        ):
            # Programs repeat such calls: a look-up replaces 20 microseconds of checks.
            try:
                return _remembered_shape(*arguments)
            except TypeError as error:  # a dtype that can't be looked up; let the checks name it
                if "unhashable" not in str(error):
                    raise
        return _checked_shape(*arguments)

    # Output ---------------------------------------------------------------------------------------------

    @cached_property
    def e_h(self) -> int:
        """Effective kernel height: the image rows a dilated kernel spans."""
        return self.d_h * (self.k_h - 1) + 1

    @cached_property
    def e_w(self) -> int:
        """Effective kernel width."""
        return self.d_w * (self.k_w - 1) + 1

    @cached_property
    def o_h(self) -> int:
        """Output height."""
        return (self.i_h + self.p_t + self.p_b - self.e_h) // self.s_h + 1

    @cached_property
    def o_w(self) -> int:
        """Output width."""
        return (self.i_w + self.p_l + self.p_r - self.e_w) // self.s_w + 1

    # Groups ---------------------------------------------------------------------------------------------

    @cached_property
    def i_cg(self) -> int:
        """Input channels of one group."""
        return self.i_c // self.groups

    @cached_property
    def k_cg(self) -> int:
        """Output channels of one group."""
        return self.k_c // self.groups

    # Arrays ---------------------------------------------------------------------------------------------

    @cached_property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape of the input in n-h-w-c, whatever the layout outside."""
        return self.i_n, self.i_h, self.i_w, self.i_c

    @cached_property
    def kernel_shape(self) -> tuple[int, int, int, int]:
        """Shape of the kernel in h-w-i-o, whatever the layout outside."""
        return self.k_h, self.k_w, self.i_cg, self.k_c

    @cached_property
    def output_shape(self) -> tuple[int, int, int, int]:
        """Shape of the output in n-h-w-c, whatever the layout outside."""
        return self.i_n, self.o_h, self.o_w, self.k_c

    def extents(self, role: str) -> tuple[int, int, int, int]:
        """Shape of the "input", "kernel" or "output", as kernels see it: n-h-w-c and h-w-i-o."""
        return {"input": self.input_shape, "kernel": self.kernel_shape, "output": self.output_shape}[role]

    @cached_property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return np.dtype(self.dtype).itemsize

    @cached_property
    def input_size(self) -> int:
        """\\|I\\| = i_n·i_h·i_w·i_c."""
        return math.prod(self.input_shape)

    @cached_property
    def kernel_size(self) -> int:
        """\\|K\\| = k_h·k_w·(i_c/G)·k_c."""
        return math.prod(self.kernel_shape)

    @cached_property
    def output_size(self) -> int:
        """\\|O\\| = i_n·o_h·o_w·k_c."""
        return math.prod(self.output_shape)

    @cached_property
    def output_nbytes(self) -> int:
        """Bytes of the output."""
        return self.output_size * self.itemsize

    @cached_property
    def multiply_adds(self) -> int:
        """Multiply-adds of the definition: i_n·o_h·o_w·k_h·k_w·(i_c/G)·k_c (padding counted in full)."""
        return self.output_size * self.k_h * self.k_w * self.i_cg

    # Lowered matrices -----------------------------------------------------------------------------------

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of :func:`pymec.conv2d` that say this convolution of two arrays."""
        return {
            "stride": (self.s_h, self.s_w),
            "padding": ((self.p_t, self.p_b), (self.p_l, self.p_r)),
            "dilation": (self.d_h, self.d_w),
            "groups": self.groups,
        }

    @cached_property
    def is_pointwise(self) -> bool:
        """Whether the input is its own lowered matrix: 1×1, stride 1, no padding, one group."""
        return self.k_h == self.k_w == self.s_h == self.s_w == self.groups == 1 and not self.is_padded

    @cached_property
    def is_padded(self) -> bool:
        """Whether there is padding on any side."""
        return any((self.p_t, self.p_b, self.p_l, self.p_r))

    @cached_property
    def im2col_size(self) -> int:
        """Elements of im2col's lowered matrix: i_n·o_h·o_w·k_h·k_w·i_c."""
        return self.i_n * self.o_h * self.o_w * self.k_h * self.k_w * self.i_c

    @cached_property
    def paper_mec_size(self) -> int:
        """Elements of L as the paper writes it, all padded rows stored: i_n·o_w·(i_h + p_t + p_b)·k_w·i_c."""
        return self.i_n * self.o_w * (self.i_h + self.p_t + self.p_b) * self.k_w * self.i_c

    @cached_property
    def mec_size(self) -> int:
        """Elements of MEC's lowered matrix L: i_n·o_w·r_h·k_w·i_c with r_h = ``lowered_rows()``."""
        return self.i_n * self.o_w * self.lowered_rows() * self.k_w * self.i_c

    def lowered_rows(self, y0: int = 0, n_y: int | None = None) -> int:
        """The number of image rows that n_y output rows from y0 on read: r_h, the height of a strip of L.

        Without padding and dilation it is (n_y - 1)·s_h + k_h, or n_y·k_h if s_h > k_h.  Rows of the padding
        are not counted.  ``pymec/kernels/mec/lowered_rows.pxd`` says where each row is stored.
        """
        n_y = self.o_h - y0 if n_y is None else n_y
        common = math.gcd(self.s_h, self.d_h)
        first = y0 * self.s_h - self.p_t  # the image row under the first output row's first tap

        def rows_before(row: int) -> int:
            """The number of different rows read before image row ``row``, padding above included."""
            limit = -((first - row) // common)
            return values_below(limit, n_y, self.s_h // common, self.k_h, self.d_h // common)

        return rows_before(self.i_h) - rows_before(0)

    def band_rows_kept(self, band_rows: int) -> int:
        """r_b: the most image rows that any band of ``band_rows`` output rows reads.

        If more than :data:`MOST_BANDS` bands touch the image and none of them lies inside it, this is an
        upper bound: the least of i_h, the rows that a band reads without padding, and the image rows that
        have the residues, modulo d_h, of the rows that a band reads.
        """
        # A band that touches no padding reads the most, and the first such band is as good as any.
        y0 = -(-self.p_t // (self.s_h * band_rows)) * band_rows
        inside = (y0 + band_rows - 1) * self.s_h + self.e_h - self.p_t <= self.i_h
        if inside:
            return self.lowered_rows(y0, min(band_rows, self.o_h - y0))
        # Otherwise all bands that touch the image; much padding may make many more that do not.
        first = max(0, (self.p_t - self.e_h) // self.s_h) // band_rows * band_rows
        end = min(self.o_h, (self.p_t + self.i_h) // self.s_h + 1)
        bands = range(first, end, band_rows)
        if len(bands) > MOST_BANDS:
            without_padding = replace(self, i_h=(band_rows - 1) * self.s_h + self.e_h, p_t=0, p_b=0)
            residues = min(band_rows, self.d_h // math.gcd(self.s_h, self.d_h))  # of the rows read, modulo d_h
            return min(self.i_h, without_padding.lowered_rows(), residues * -(-self.i_h // self.d_h))
        return max((self.lowered_rows(y, min(band_rows, self.o_h - y)) for y in bands), default=0)

    def band_size(self, band_rows: int) -> int:
        """Elements of the strips of one band of rows in ``mec_banded``: o_w·r_b·k_w·i_c/G."""
        return self.tile_size(band_rows, self.o_w)

    def tile_size(self, band_rows: int, columns: int, channels: int | None = None) -> int:
        """Elements of a band's strips, one per column: w_b·r_b·k_w·c_b, by default with all i_c/G channels."""
        if band_rows < 1:
            raise ValueError(f"band_rows must be positive, got {band_rows}")
        return columns * self.band_rows_kept(band_rows) * self.k_w * (channels or self.i_cg)

    def lowered_columns(self) -> int:
        """The number of image columns that the outputs read: r_w, the length of a strip of MEC-w's L."""
        return self.transposed().lowered_rows()

    @cached_property
    def mec_w_size(self) -> int:
        """Elements of MEC-w's lowered matrix L: i_n·o_h·r_w·k_h·i_c with r_w = ``lowered_columns()``."""
        return self.transposed().mec_size

    @cached_property
    def is_row_of_taps(self) -> bool:
        """Whether the input is MEC-w's lowered matrix: 1×k, all columns read, vertical stride 1, one group."""
        plain = self.k_h == self.s_h == self.d_w == self.groups == 1 and self.p_t == self.p_b == 0
        return plain and self.lowered_columns() == self.i_w

    @cached_property
    def is_column(self) -> bool:
        """Whether images, kernel and outputs are one pixel wide: in memory a column is then a row."""
        return self.i_w == self.k_w == self.o_w == 1 and self.p_l == self.p_r == 0 and self.i_h > 1

    @cached_property
    def permuted_kernel_size(self) -> int:
        """Elements of the kernel in MEC-w's order, k_w before k_h: \\|K\\|, or 0 where the orders are the same."""
        return 0 if 1 in (self.k_h, self.k_w) else self.kernel_size

    # Relatives ------------------------------------------------------------------------------------------

    def single_image(self) -> ConvShape:
        """The same convolution of one image."""
        return replace(self, i_n=1)

    def transposed(self) -> ConvShape:
        """The convolution of the images' and the kernel's transposes: rows and columns change places."""
        return self._transposed

    def rows_as_images(self) -> ConvShape:
        """The same pointwise convolution, with every image row as an image of its own."""
        return self._rows_as_images

    # Kernels ask for these at every call: to make a shape and check it takes longer than a small convolution.

    @cached_property
    def _transposed(self) -> ConvShape:
        return replace(
            self, i_h=self.i_w, i_w=self.i_h, k_h=self.k_w, k_w=self.k_h, s_h=self.s_w, s_w=self.s_h,
            p_t=self.p_l, p_l=self.p_t, p_b=self.p_r, p_r=self.p_b, d_h=self.d_w, d_w=self.d_h,
        )  # fmt: skip

    @cached_property
    def _rows_as_images(self) -> ConvShape:
        return replace(self, i_n=self.i_n * self.i_h, i_h=1)


# Argument checks ----------------------------------------------------------------------------------------

_INTEGER, _PLAIN = {int}, {int, str}
_DTYPE_CLASSES = {type(np.dtype(name)): name for name in DTYPES}

LARGEST_NBYTES = 2**63 - 1
"""The most bytes that NumPy can count in an array."""

LARGEST = 2**31 - 1
"""The largest stride, dilation and padding: positions in an image then fit into 64 bits."""


def _is_plain(value: Any) -> bool:
    """Whether a value is an int or a str, or a tuple of such: equal ones then mean the same (True equals 1)."""
    kind = type(value)
    return kind in _PLAIN or (kind is tuple and all(map(_is_plain, value)))


def _checked_shape(
    x_shape: Sequence[int],
    kernel_shape: Sequence[int],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    dtype: Any,
    layout: str,
    names: tuple[str, str],
) -> ConvShape:
    if not isinstance(layout, str) or layout not in LAYOUTS:
        raise ValueError(f"layout must be 'NHWC' or 'NCHW', got {shown(layout)}")
    kernel_layout = LAYOUTS[layout]
    x_sizes = checked_integers(names[0], x_shape, 4, f"four sizes, {layout}")
    kernel_sizes = checked_integers(names[1], kernel_shape, 4, f"four sizes, {kernel_layout}")
    x = dict(zip(layout, x_sizes, strict=True))
    kernel = dict(zip(kernel_layout, kernel_sizes, strict=True))
    if x["N"] < 0:
        raise ValueError(f"{names[0]} must not have a negative batch, got {x_sizes}")
    if min(x["H"], x["W"], x["C"]) < 1:
        raise ValueError(f"{names[0]} must have a positive size along H, W and C ({layout}), got {x_sizes}")
    if min(kernel_sizes) < 1:
        raise ValueError(f"{names[1]} must have a positive size along {kernel_layout}, got {kernel_sizes}")
    (groups,) = checked_integers("groups", (groups,), 1, "a positive integer", low=1, got=groups)
    if x["C"] % groups or kernel["O"] % groups:
        raise ValueError(
            f"groups={groups} must divide the {x['C']} input channels of {names[0]} and the {kernel['O']} output "
            f"channels of {names[1]}"
        )
    if kernel["I"] * groups != x["C"]:
        raise ValueError(
            f"{names[1]} has {kernel['I']} input channels per group, so with groups={groups} {names[0]} would "
            f"need {kernel['I'] * groups} channels; {names[0]} has {x['C']} "
            f"({names[0]} is read as {layout}, {names[1]} as {kernel_layout}; see layout)"
        )
    s_h, s_w = _pair("stride", stride, low=1)
    d_h, d_w = _pair("dilation", dilation, low=1)
    e_h, e_w = d_h * (kernel["H"] - 1) + 1, d_w * (kernel["W"] - 1) + 1
    (p_t, p_b), (p_l, p_r) = _four_sides(padding, (x["H"], x["W"]), (e_h, e_w), (s_h, s_w))
    if e_h > x["H"] + p_t + p_b or e_w > x["W"] + p_l + p_r:
        raise ValueError(
            f"{names[1]} spans {e_h} × {e_w} pixels (dilation included), more than the padded input's "
            f"{x['H'] + p_t + p_b} × {x['W'] + p_l + p_r}; pad more or use a smaller kernel"
        )
    try:
        return ConvShape(
            i_n=x["N"], i_h=x["H"], i_w=x["W"], i_c=x["C"],
            k_h=kernel["H"], k_w=kernel["W"], k_c=kernel["O"],
            s_h=s_h, s_w=s_w, p_t=p_t, p_b=p_b, p_l=p_l, p_r=p_r, d_h=d_h, d_w=d_w,
            groups=groups, dtype=dtype_name("dtype", dtype), layout=layout,
        )  # fmt: skip
    except _TooLargeError as error:
        sizes = {"input": names[0], "kernel": names[1], "output": f"{names[0]} with padding={shown(padding)}"}
        raise ValueError(f"{sizes[error.role]} is too large: {error}") from None


_remembered_shape = lru_cache(maxsize=256, typed=True)(_checked_shape)


def dtype_name(argument: str, dtype: Any) -> str:
    """The name of a dtype pymec computes in, or a TypeError that names the argument."""
    if type(dtype) in _DTYPE_CLASSES and dtype.isnative:
        return _DTYPE_CLASSES[type(dtype)]  # of nearly every array; NumPy takes microseconds to say its name
    try:
        given = None if dtype is None else np.dtype(dtype)
    except Exception:  # NumPy reads many things as a dtype, and raises as many errors
        given = None
    if given is None or given.name not in DTYPES:
        got, remedy = (shown(dtype), "pass one of these names") if given is None else (given, "convert it")
        raise TypeError(f"{argument} must be float32 or float64, got {got}; {remedy}")
    if not given.isnative:
        raise TypeError(
            f"{argument} must be in this machine's byte order, got {dtype!s}; use astype('{given.name}')"
        )
    return given.name


def checked_integers(
    argument: str, values: Any, length: int, wanted: str, low: int | None = None, got: Any = ...
) -> tuple[int, ...]:
    """Values as Python integers; booleans and floats are refused as mistakes.

    Errors show ``got``, the caller's argument, if ``values`` was made from it.
    """
    got = values if got is ... else got
    try:
        items = tuple(values)
        numbers = tuple(operator.index(item) for item in items)
    except TypeError:
        if isinstance(got, np.ndarray) and got.ndim > 2:  # the array instead of its shape
            raise TypeError(f"{argument} must be {wanted}, got an array of shape {got.shape}") from None
        raise TypeError(f"{argument} must be {wanted}, got {shown(got)}") from None
    if len(numbers) != length or any(isinstance(item, (bool, np.bool_)) for item in items):
        raise ValueError(f"{argument} must be {wanted}, got {shown(got)}")
    if low is not None and not low <= min(numbers) <= max(numbers) <= LARGEST:
        raise ValueError(f"{argument} must be at least {low} and at most {LARGEST}, got {shown(got)}")
    return numbers


def _pair(argument: str, value: Any, low: int) -> tuple[int, int]:
    wanted = "an integer or a (vertical, horizontal) pair of integers"
    both = value if isinstance(value, (tuple, list, np.ndarray)) else (value, value)
    first, second = checked_integers(argument, both, 2, wanted, low, got=value)
    return first, second


def _four_sides(
    padding: Any, sizes: tuple[int, int], extents: tuple[int, int], strides: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    if isinstance(padding, str):
        if padding == "valid":
            return (0, 0), (0, 0)
        if padding == "same":
            vertical, horizontal = (
                max((-(-size // stride) - 1) * stride + extent - size, 0)
                for size, extent, stride in zip(sizes, extents, strides, strict=True)
            )
            return (vertical // 2, vertical - vertical // 2), (horizontal // 2, horizontal - horizontal // 2)
        raise ValueError(f"padding must be numbers, 'valid' or 'same', got {shown(padding)}")
    wanted = "an integer, (p_h, p_w), ((top, bottom), (left, right)), 'valid' or 'same'"
    if isinstance(padding, np.ndarray):
        padding = padding.tolist()
    if (
        isinstance(padding, (tuple, list))
        and len(padding) == 2
        and all(isinstance(p, (tuple, list)) for p in padding)
    ):
        (p_t, p_b), (p_l, p_r) = (
            checked_integers("padding", sides, 2, wanted, low=0, got=padding) for sides in padding
        )
        return (p_t, p_b), (p_l, p_r)
    both = padding if isinstance(padding, (tuple, list)) else (padding, padding)
    p_h, p_w = checked_integers("padding", both, 2, wanted, low=0, got=padding)
    return (p_h, p_h), (p_w, p_w)
