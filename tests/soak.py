"""200,000 calls of every kind on many shapes: the resident memory stays flat, and every result is right.

python tests/soak.py
python tests/soak.py --calls 1000000
"""

import argparse
import gc
import sys
import time
from pathlib import Path

import numpy as np
from cases import able
from geometries import whole_numbers

import pymec
from pymec import ConvShape, reference

PLATEAU = 4 * 2**20
"""What the resident memory may still grow by once everything has been called a few times."""


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def problems(rng, count):
    """Shapes with their operands and exact result, in whole numbers."""
    for seed in range(count):
        groups, i_cg, k_cg = (int(n) for n in rng.integers(1, 5, 3))
        shape = ConvShape.from_shapes(
            (int(rng.integers(1, 3)), *(int(n) for n in rng.integers(5, 12, 2)), groups * i_cg),
            (*(int(n) for n in rng.integers(1, 4, 2)), i_cg, groups * k_cg),
            stride=int(rng.integers(1, 3)), padding=int(rng.integers(0, 2)), groups=groups,
        )  # fmt: skip
        x, kernel = (whole_numbers(e, "float32", seed) for e in (shape.input_shape, shape.kernel_shape))
        yield shape, x, kernel, reference.conv2d(x, kernel, shape)


def one_call(rng, shape, x, kernel, exact):
    """A call or a plan of any exact algorithm, a limit, a refusal, or an explanation."""
    kind = rng.integers(6)
    names = able(shape.input_shape, shape.kernel_shape, "exact", **shape.arguments)
    name = str(rng.choice(names))
    options = {"n_threads": int(rng.integers(1, 3)), **shape.arguments}
    if kind == 0:
        pymec.explain(shape.input_shape, shape.kernel_shape, **options)
        return
    if kind == 1:
        try:
            pymec.conv2d(x, kernel, algorithm="mek", **options)
        except ValueError:
            return
    if kind == 2:
        plan = pymec.plan(shape.input_shape, shape.kernel_shape, algorithm=name, **options).prepare(kernel)
        out = plan(x)
    elif kind == 3:
        out = pymec.conv2d(x, kernel, workspace_limit=int(rng.integers(0, 5000)), **options)
    else:
        out = pymec.conv2d(x, kernel, algorithm=name, **options)
    np.testing.assert_array_equal(out, exact)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=200_000)
    calls = parser.parse_args().calls
    rng = np.random.default_rng(0)
    work = list(problems(rng, 400))  # more shapes than any cache keeps
    start, marks = time.perf_counter(), []
    for call in range(calls):
        one_call(rng, *work[int(rng.integers(len(work)))])
        if call % (calls // 10) == calls // 10 - 1:
            gc.collect()
            marks.append(resident())
            print(
                f"{call + 1:>9,} calls   {marks[-1] / 2**20:8.1f} MiB   {time.perf_counter() - start:6.1f} s",
                flush=True,
            )
    growth = marks[-1] - marks[len(marks) // 2 - 1]
    print(f"the second half of the calls added {growth / 1024:.0f} KiB")
    return growth > PLATEAU


if __name__ == "__main__":
    sys.exit(main())
