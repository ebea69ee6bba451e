"""Arrays of more than 2³¹ elements: the input, the output, or a lowered matrix.  Needs 20 GiB and two hours.

    python tests/huge.py
    python tests/huge.py --algorithms mec,im2col --all
    python tests/huge.py --operations conv2d_input_grad,conv2d_kernel_grad

Each algorithm runs whole on one case whose arrays fit, or with ``--all`` on every such case, which takes hours.
One after the other they begin the search at the next case, so that all cases are tried.  Some thousand results,
the last ones among them, are compared with the definition, and of a kernel's gradient all.  The numbers are small
integers, so that exact algorithms must give the very sums.
"""

import argparse
import gc
import sys
import time

import numpy as np

import pymec
from pymec import ConvShape, registry
from pymec.operations import OPERATIONS

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


def pixels(height, width):
    """Pixels to compare: the corners, the last ones in memory, and others anywhere."""
    rng = np.random.default_rng(2)
    chosen = [(0, 0), (0, width - 1), (height - 1, 0)]
    chosen += [(height - 1, width - 1 - column) for column in range(min(width, 200))]
    return chosen + [(int(rng.integers(height)), int(rng.integers(width))) for _ in range(2000)]


# What the definition gives: the places that are compared, and the exact values there.  No case is padded.


def outputs(x, kernel, s):
    taps = kernel.reshape(s.k_h, s.k_w, s.i_cg, s.groups, s.k_cg)
    exact, chosen = [], pixels(s.o_h, s.o_w)
    for y, column in chosen:
        patch = x[0, y * s.s_h : y * s.s_h + s.k_h, column * s.s_w : column * s.s_w + s.k_w].astype(np.float64)
        patch = patch.reshape(s.k_h, s.k_w, s.groups, s.i_cg)
        exact.append(np.einsum("abgc,abcgm->gm", patch, taps).ravel())
    return (0, *np.array(chosen).T), np.array(exact)


def input_grads(grad_out, kernel, s):
    taps = kernel.reshape(s.k_h, s.k_w, s.i_cg, s.groups, s.k_cg)
    chosen = pixels(s.i_h, s.i_w)
    exact = np.zeros((len(chosen), s.groups, s.i_cg))
    for grad, (y, column) in zip(exact, chosen, strict=True):
        for a in range(s.k_h):
            for b in range(s.k_w):
                (h, no_row), (w, no_column) = divmod(y - a, s.s_h), divmod(column - b, s.s_w)
                if not (no_row or no_column) and 0 <= h < s.o_h and 0 <= w < s.o_w:
                    above = grad_out[0, h, w].reshape(s.groups, s.k_cg).astype(np.float64)
                    grad += np.einsum("gm,cgm->gc", above, taps[a, b])
    return (0, *np.array(chosen).T), exact.reshape(len(chosen), s.i_c)


def kernel_grads(x, grad_out, s):
    exact = np.zeros((s.k_h, s.k_w, s.i_cg, s.groups, s.k_cg))
    for h in range(s.o_h):
        above = grad_out[0, h].reshape(s.o_w, s.groups, s.k_cg).astype(np.float64)
        for a in range(s.k_h):
            row = x[0, h * s.s_h + a].reshape(s.i_w, s.groups, s.i_cg).astype(np.float64)
            for b in range(s.k_w):
                met = row[b : b + (s.o_w - 1) * s.s_w + 1 : s.s_w]
                for g in range(s.groups):
                    exact[a, b, :, g] += met[:, g].T @ above[:, g]
    return (), exact.reshape(s.kernel_shape)


DEFINITIONS = {"conv2d": outputs, "conv2d_input_grad": input_grads, "conv2d_kernel_grad": kernel_grads}


def shape_of(case):
    x_shape, kernel_shape, arguments = CASES[case]
    return ConvShape.from_shapes(x_shape, kernel_shape, **arguments)


def operands(operation, shape):
    """The two operands of an operation."""
    extents = {
        "conv2d": (shape.input_shape, shape.kernel_shape),
        "conv2d_input_grad": (shape.output_shape, shape.kernel_shape),
        "conv2d_kernel_grad": (shape.input_shape, shape.output_shape),
    }[operation]
    return [whole_numbers(each, seed) for seed, each in enumerate(extents)]


def call(operation, first, second, shape, name):
    told = {"conv2d": (), "conv2d_input_grad": (shape.input_shape,), "conv2d_kernel_grad": (shape.kernel_shape,)}
    return getattr(pymec, operation)(first, second, *told[operation], algorithm=name, **shape.arguments)


def workspace_elements(operation, name, shape):
    arguments = {"algorithm": name, "operation": operation, **shape.arguments}
    return pymec.workspace_size(shape.input_shape, shape.kernel_shape, **arguments) // 4


def runs_past(operation, name, case, most_bytes):
    """Whether the algorithm can do the case in so many bytes, with an array of more than 2³¹ elements."""
    shape = shape_of(case)
    if registry.get(name, operation).unsupported(shape) is not None:
        return False
    extra = workspace_elements(operation, name, shape)
    largest = max(shape.input_size, shape.output_size, extra)
    return largest > 2**31 and 4 * (shape.input_size + shape.output_size + extra) <= most_bytes


def cases_of(operation, algorithms, every, most_bytes):
    """The cases that each algorithm runs."""
    found = {}
    for i, name in enumerate(algorithms):
        first = i % len(CASES)
        turned = (*CASES, *CASES)[first : first + len(CASES)]
        able = [case for case in turned if runs_past(operation, name, case, most_bytes)]
        found[name] = able if every else able[:1]
    return found


def comma_list(text):
    return text.split(",")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operations", type=comma_list, default=list(OPERATIONS))
    parser.add_argument("--algorithms", type=comma_list, default=None, help="default: all of them")
    parser.add_argument("--gib", type=float, default=20, help="memory that a case may take")
    parser.add_argument("--all", action="store_true", help="every algorithm on every case")
    options = parser.parse_args()
    wrong = sum(run_all(operation, options) for operation in options.operations)
    return wrong > 0


def run_all(operation, options):
    """Run an operation's algorithms, say what came of it, and return how many results were wrong."""
    algorithms = [name for name in registry.TABLES[operation] if name in (options.algorithms or [name])]
    chosen_cases = cases_of(operation, algorithms, options.all, options.gib * GIB)
    wrong, done = [], {}
    for case in CASES:
        names = [name for name, cases in chosen_cases.items() if case in cases]
        if not names:
            continue
        shape = shape_of(case)
        first, second = operands(operation, shape)
        places, exact = DEFINITIONS[operation](first, second, shape)
        for name in names:
            start = time.perf_counter()
            out = call(operation, first, second, shape, name)
            error = np.abs(out[places] - exact).max()
            good = error == 0 if registry.get(name, operation).accuracy == "exact" else error < 0.05
            done.setdefault(name, []).append(case)
            if not good:
                wrong.append((case, name, error))
            print(
                f"{'right' if good else 'WRONG'}  {operation:19}{case:24}{name:22}x {shape.input_size:,}  "
                f"out {shape.output_size:,}  workspace {workspace_elements(operation, name, shape):,}  "
                f"{time.perf_counter() - start:.1f} s",
                flush=True,
            )
            del out
            gc.collect()
        del first, second
    left_out = ", ".join(sorted(set(algorithms) - set(done)))
    print(f"\n{operation}: {sum(map(len, done.values()))} runs of {len(done)} algorithms")
    print(f"wrong: {wrong or 'none'}; not run, as their arrays don't fit: {left_out or 'none'}\n", flush=True)
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())
