"""Arrays of more than 2³¹ elements: the input, the output, or a lowered matrix.  Needs 20 GiB, and takes an hour.

    python tests/huge.py
    python tests/huge.py --algorithms mec,im2col --all

Each algorithm runs whole on one case whose arrays fit, or with ``--all`` on every such case, which takes hours.
One after the other they begin the search at the next case, so that all cases are tried.  Some thousand outputs,
the last ones among them, are compared with the definition.  The numbers are small integers, so that exact
algorithms must give the very sums.
"""

import argparse
import gc
import sys
import time

import numpy as np

import pymec
from pymec import ConvShape, registry

GIB = 2**30
CASES = {
    "x": ((1, 46_342, 46_342, 1), (3, 3, 1, 1), {}),
    "x, with a stride": ((1, 46_342, 46_342, 1), (3, 3, 1, 4), {"stride": 16}),
    "x, channels in groups": ((1, 11_586, 11_586, 16), (3, 3, 1, 16), {"stride": 4, "groups": 16}),
    "x, pointwise": ((1, 4_097, 4_097, 128), (1, 1, 128, 4), {}),
    "out": ((1, 6_690, 6_690, 3), (3, 3, 3, 48), {}),
    "out, wide lines": ((1, 5_795, 5_795, 1), (3, 3, 1, 64), {}),
    "the lowered matrix": ((1, 5_470, 5_470, 8), (3, 3, 8, 2), {}),
    "MEC's lowered matrix": ((1, 9_500, 9_500, 8), (3, 3, 8, 1), {}),
}


def whole_numbers(extents, seed):
    """Integers from -2 to 2, filled in by rows: no second array of this size is needed."""
    rng = np.random.default_rng(seed)
    array = np.empty(extents, np.float32)
    for row in array.reshape(-1, *extents[2:]):
        row[...] = rng.integers(-2, 3, row.shape, np.int8)
    return array


def pixels(shape, rng):
    """Outputs to compare: the corners, the last ones in memory, and others anywhere."""
    s = shape
    chosen = [(0, 0), (0, s.o_w - 1), (s.o_h - 1, 0)]
    chosen += [(s.o_h - 1, s.o_w - 1 - column) for column in range(min(s.o_w, 200))]
    chosen += [(int(rng.integers(s.o_h)), int(rng.integers(s.o_w))) for _ in range(2000)]
    return chosen


def by_definition(x, kernel, shape, y, column):
    s = shape
    patch = x[0, y * s.s_h : y * s.s_h + s.k_h, column * s.s_w : column * s.s_w + s.k_w].astype(np.float64)
    patch = patch.reshape(s.k_h, s.k_w, s.groups, s.i_cg)
    taps = kernel.reshape(s.k_h, s.k_w, s.i_cg, s.groups, s.k_cg)
    return np.einsum("abgc,abcgm->gm", patch, taps).ravel()


def runs_past(name, case, most_bytes):
    """Whether the algorithm can do the case in so many bytes, with an array of more than 2³¹ elements."""
    x_shape, kernel_shape, arguments = CASES[case]
    shape = ConvShape.from_shapes(x_shape, kernel_shape, **arguments)
    if registry.get(name).unsupported(shape) is not None:
        return False
    nbytes = pymec.workspace_size(x_shape, kernel_shape, algorithm=name, **arguments)
    largest = max(shape.input_size, shape.output_size, nbytes // 4)
    arrays = (shape.input_size + shape.output_size) * shape.itemsize
    return largest > 2**31 and arrays + nbytes <= most_bytes


def cases_of(algorithms, every, most_bytes):
    """The cases that each algorithm runs."""
    found = {}
    for i, name in enumerate(algorithms):
        first = i % len(CASES)
        able = [case for case in (*CASES, *CASES)[first : first + len(CASES)] if runs_past(name, case, most_bytes)]
        found[name] = able if every else able[:1]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithms", type=lambda text: text.split(","), default=list(registry.ALGORITHMS))
    parser.add_argument("--gib", type=float, default=20, help="memory that a case may take")
    parser.add_argument("--all", action="store_true", help="every algorithm on every case")
    options = parser.parse_args()
    chosen_cases = cases_of(options.algorithms, options.all, options.gib * GIB)
    wrong, done = [], {}
    for case, (x_shape, kernel_shape, arguments) in CASES.items():
        names = [name for name, cases in chosen_cases.items() if case in cases]
        if not names:
            continue
        shape = ConvShape.from_shapes(x_shape, kernel_shape, **arguments)
        x, kernel = whole_numbers(x_shape, 0), whole_numbers(kernel_shape, 1)
        chosen = pixels(shape, np.random.default_rng(2))
        exact = np.array([by_definition(x, kernel, shape, *pixel) for pixel in chosen])
        rows, columns = np.array(chosen).T
        for name in names:
            row = registry.get(name)
            nbytes = pymec.workspace_size(x_shape, kernel_shape, algorithm=name, **arguments)
            start = time.perf_counter()
            out = pymec.conv2d(x, kernel, algorithm=name, **arguments)
            error = np.abs(out[0, rows, columns] - exact).max()
            good = error == 0 if row.accuracy == "exact" else error < 0.05
            done.setdefault(name, []).append(case)
            if not good:
                wrong.append((case, name, error))
            print(
                f"{'right' if good else 'WRONG'}  {case:24}{name:22}x {shape.input_size:,}  out "
                f"{shape.output_size:,}  workspace {nbytes // 4:,}  {time.perf_counter() - start:.1f} s",
                flush=True,
            )
            del out
            gc.collect()
        del x
    print(f"\n{sum(map(len, done.values()))} runs of {len(done)} algorithms, wrong: {wrong or 'none'}")
    print("not run (their arrays don't fit):", ", ".join(sorted(set(options.algorithms) - set(done))) or "none")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
