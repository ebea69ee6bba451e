"""One call of every algorithm of every operation, by itself, for valgrind: everything is fifty times slower there.

PYTHONMALLOC=malloc valgrind python tests/one_pass.py
"""

import numpy as np

import pymec
from pymec import ConvShape, registry

SHAPES = [
    ConvShape.from_shapes((2, 9, 10, 6), (3, 2, 6, 20), stride=(1, 2), padding=((1, 0), (2, 1))),
    ConvShape.from_shapes((1, 9, 8, 16), (3, 3, 16, 33), padding=1, dtype="float64"),
    ConvShape.from_shapes((2, 7, 9, 8), (3, 3, 2, 12), groups=4, padding=1, dilation=(1, 2)),
    ConvShape.from_shapes((1, 8, 9, 24), (3, 3, 3, 32), groups=8),
    ConvShape.from_shapes((1, 9, 9, 20), (3, 3, 1, 20), groups=20, padding=1),
    ConvShape.from_shapes((2, 5, 6, 7), (1, 1, 7, 40)),
]


def main():
    rng = np.random.default_rng(0)
    done = set()
    for shape in SHAPES:
        s = shape
        options = {**s.arguments, "n_threads": 2}
        x, kernel, grad_out, bias = (
            rng.standard_normal(extents).astype(s.dtype)
            for extents in (s.input_shape, s.kernel_shape, s.output_shape, (s.k_c,))
        )
        for operation, table in registry.TABLES.items():
            for name, row in table.items():
                if row.unsupported(shape) is not None:
                    continue
                if operation == "conv2d":
                    out = pymec.conv2d(x, kernel, bias, activation="relu", algorithm=name, **options)
                elif operation == "conv2d_input_grad":
                    out = pymec.conv2d_input_grad(grad_out, kernel, s.input_shape, algorithm=name, **options)
                else:
                    out = pymec.conv2d_kernel_grad(x, grad_out, s.kernel_shape, algorithm=name, **options)
                # a branch on every element: memcheck reports those that nobody has written
                assert all(element == element for element in out.ravel().tolist())
                done.add((operation, name))
    missing = {(operation, name) for operation, table in registry.TABLES.items() for name in table} - done
    assert not missing, missing
    print(f"{len(done)} algorithms called")


if __name__ == "__main__":
    main()
