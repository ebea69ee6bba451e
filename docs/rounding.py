"""The directive ``rounding-table``: what rounding, NaN and threads do to each algorithm, tried at the build."""

import numpy as np
from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from kernel_pages import kernel_of

import pymec
from pymec import ConvShape, reference, registry

X_SHAPE = (2, 23, 24, 16)
KERNELS = (((3, 3, 16, 32), 1), ((1, 1, 16, 32), 1), ((3, 3, 1, 16), 16))
SCALES = (1, 1e30, 1e-30)


class RoundingTable(Directive):
    """A row for every algorithm."""

    def run(self):
        lines = [".. list-table::", "   :header-rows: 1", "   :widths: 20 16 16 28 20", ""]
        lines += [
            "   * - algorithm",
            "     - error at 1",
            "     - at 1e±30",
            "     - a NaN spoils",
            "     - threads",
        ]
        for name, row in registry.ALGORITHMS.items():
            shape = shape_for(row)
            errors = [error(name, shape, scale) for scale in SCALES]
            lines += [
                f"   * - :doc:`{name} </reference/kernels/{'/'.join(kernel_of(row))}>`",
                f"     - {errors[0]:.2f}",
                f"     - {max(errors[1:]):.2f}",
                f"     - {spoilt(name, shape)}",
                f"     - {'same bits' if same_bits(name, shape) else 'other sums'}",
            ]
        table = nodes.container()
        self.state.nested_parse(StringList(lines, source="docs/rounding.py"), self.content_offset, table)
        return table.children


def shape_for(row):
    """The first of a few shapes that the algorithm can do."""
    shapes = (ConvShape.from_shapes(X_SHAPE, kernel, groups=groups) for kernel, groups in KERNELS)
    return next(shape for shape in shapes if row.unsupported(shape) is None)


def operands(shape):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape.input_shape, np.float32)
    return x, rng.standard_normal(shape.kernel_shape, np.float32)


def error(name, shape, scale):
    """The largest error of an output, in u·Σ|x·k|: of one rounding of each product, at most 1 + 1 for the sum."""
    x, kernel = operands(shape)
    x = (x * scale).astype(np.float32)
    exact = reference.conv2d(x, kernel, shape)
    unit = np.finfo(np.float32).eps / 2 * reference.conv2d(np.abs(x), np.abs(kernel), shape)
    return float(np.max(np.abs(pymec.conv2d(x, kernel, algorithm=name, **shape.arguments) - exact) / unit))


def spoilt(name, shape):
    """Which outputs become NaN when one number of the input is, in words."""
    x, kernel = operands(shape)
    x[1, 11, 12, 0] = np.nan
    found = np.isnan(pymec.conv2d(x, kernel, algorithm=name, **shape.arguments)).any(axis=3)
    readers = np.isnan(pymec.conv2d(x, kernel, algorithm="direct", **shape.arguments)).any(axis=3)
    if (found == readers).all():
        return "the outputs that read it"
    if found[1].all() and not found[0].any():
        return "all outputs of its image"
    return f"{found.sum()} pixels, of which {readers.sum()} read it"


def same_bits(name, shape):
    """Whether one, two and three threads give the same result to the last bit."""
    x, kernel = operands(shape)
    results = [
        pymec.conv2d(x, kernel, algorithm=name, n_threads=n_threads, **shape.arguments) for n_threads in (1, 2, 3)
    ]
    return all(np.array_equal(result, results[0]) for result in results)


def setup(app):
    app.add_directive("rounding-table", RoundingTable)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
