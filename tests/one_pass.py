"""One call of every algorithm of every operation, under valgrind's memcheck; its reports about pymec's code fail.

python tests/one_pass.py                the calls alone
python tests/one_pass.py --valgrind     under valgrind, where everything is fifty times slower
"""

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

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
    ConvShape.from_shapes((1, 9, 9, 20), (3, 3, 1, 20), groups=20, padding=1, stride=2),
]


def main():
    if sys.argv[1:] == ["--valgrind"]:
        return under_valgrind()
    call_every_algorithm()
    return 0


def under_valgrind():
    """Start these calls under valgrind and count its reports by whether they pass through pymec's files."""
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        command = ["valgrind", "--xml=yes", f"--xml-file={report.name}", sys.executable, __file__]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONMALLOC": "malloc"})
        errors = ElementTree.parse(report.name).findall("error")
    errors = [error for error in errors if not error.findtext("kind").startswith("Leak")]
    ours = [error for error in errors if passes_through_pymec(error)]
    for error in ours:
        print(error.findtext("what"), *(f"    {frame.findtext('fn')}" for frame in error.iter("frame")), sep="\n")
    print(f"memcheck: {len(ours)} reports about pymec, {len(errors) - len(ours)} about Python and the loader")
    return bool(ours)


def passes_through_pymec(error):
    """Whether a kernel is on the stack, or the hash below, which meets elements that no kernel has written."""
    objects = [obj.text or "" for obj in error.iter("obj")]
    functions = [function.text or "" for function in error.iter("fn")]
    return any("/pymec/kernels/" in obj for obj in objects) or "_Py_HashDouble" in functions


def call_every_algorithm():
    """One call each, on the first shapes that the algorithm can do."""
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
                for element in out.ravel().tolist():
                    hash(element)  # branches: memcheck reports it if nobody has written the element
                done.add((operation, name))
    missing = {(operation, name) for operation, table in registry.TABLES.items() for name in table} - done
    assert not missing, missing
    print(f"{len(done)} algorithms called")


if __name__ == "__main__":
    sys.exit(main())
