"""Where MEC stops paying: one layer at every stride from 1 to the height of its kernel.

MEC saves what vertically neighbouring patches share, so its gain falls with k_h ÷ s_h.  The paper's L
(``mec_paper``) has all i_h image rows, also those below the last patch; pymec's tuned ``mec`` leaves out rows
that no output row reads.  memray measures both, and im2col, in fresh processes.

    python profiling/stride_sweep.py                  # the paper's cv1, an 11 × 11 kernel: strides 1 to 11
    python profiling/stride_sweep.py --layer cv3

Prints a Markdown table and draws ``figures/stride_sweep.svg``; the exit status is 1 if a formula and memray
differ by a byte.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from _common import (
    BLUE,
    GREEN,
    HERE,
    ORANGE,
    Cell,
    command_line,
    markdown_table,
    measure_all,
    mib,
    save_figure,
    usable_cpus,
)

import pymec


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and draw; the exit status."""
    parser = command_line(__doc__)
    parser.add_argument("--layer", choices=pymec.layers.names(), default="cv1")
    parser.add_argument("--workers", type=int, default=usable_cpus(), help="processes at once")
    parser.add_argument("--figure", type=Path, default=HERE / "figures" / "stride_sweep.svg")
    options = parser.parse_args(arguments)

    layer = pymec.layers.get(options.layer)
    shapes = [replace(layer, s_h=s, s_w=s).shape() for s in range(1, layer.k_h + 1)]
    cells = {
        (shape.s_h, algorithm): Cell(f"s={shape.s_h}", shape, algorithm)
        for shape in shapes
        for algorithm in ("im2col", "mec_paper", "mec")
    }
    reports = measure_all(cells.values(), options.workers, "strides")
    measured = {key: reports[cell].workspace for key, cell in cells.items()}
    sizes = f"{layer.i_h}×{layer.i_w}×{layer.i_c}, kernel {layer.k_h}×{layer.k_w}"
    print(f"{layer.name} at all its strides: {sizes}, batch 1, float32, MiB\n")
    print(table(shapes, measured))
    print(f"\n{verdict(shapes)}")
    differing = [str(cell) for cell in cells.values() if not reports[cell].exact]
    print(f"predicted == measured, to the byte: {len(cells) - len(differing)} of {len(cells)} cells")
    if differing:
        print(f"different: {', '.join(differing)}")
    draw(shapes, layer.name, options.figure)
    return 1 if differing else 0


def table(shapes: list[pymec.ConvShape], measured: dict[tuple[int, str], int]) -> str:
    """A row per stride: the three measured matrices, and how much smaller than im2col's each L is."""
    header = ["stride", "k ÷ s", "output", "im2col", "L, all rows (paper)", "im2col ÷ L"]
    header += ["L, rows read (tuned)", "im2col ÷ L"]
    rows = []
    for s in shapes:
        im2col, mec = measured[s.s_h, "im2col"], measured[s.s_h, "mec"]
        paper = measured[s.s_h, "mec_paper"]
        row = [str(s.s_h), f"{s.k_h / s.s_h:.2f}", f"{s.o_h}×{s.o_w}", mib(im2col), mib(paper)]
        rows.append([*row, f"{im2col / paper:.3f}", mib(mec), f"{im2col / mec:.3f}"])
    return markdown_table(header, rows)


def verdict(shapes: list[pymec.ConvShape]) -> str:
    """The first strides at which MEC saves nothing, in both ways to store L."""
    parts = []
    for name, size in (("with all rows", "paper_mec_size"), ("with the rows that are read", "mec_size")):
        losing = [s.s_h for s in shapes if getattr(s, size) > s.im2col_size]
        even = [s.s_h for s in shapes if getattr(s, size) == s.im2col_size]
        parts.append(
            f"{name} L is larger than im2col's matrix at {listed(losing)} and equal to it at {listed(even)}"
        )
    return "; ".join(parts) + "."


def listed(strides: list[int]) -> str:
    """Strides as words."""
    return f"s = {', '.join(map(str, strides))}" if strides else "no stride"


def draw(shapes: list[pymec.ConvShape], layer: str, path: Path) -> None:
    """im2col ÷ L over the stride, for both ways to store L, and the line where nothing is saved."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    strides = [s.s_h for s in shapes]
    figure, axes = plt.subplots(figsize=(6.5, 3.8))
    for size, colour, marker, label in (
        ("paper_mec_size", ORANGE, "s", "all rows stored (paper)"),
        ("mec_size", BLUE, "o", "only rows that are read"),
    ):
        ratios = [s.im2col_size / getattr(s, size) for s in shapes]
        axes.plot(strides, ratios, color=colour, marker=marker, markersize=5, label=label)
    axes.plot(strides, [s.k_h / s.s_h for s in shapes], color=GREEN, linestyle=":", label="k ÷ s")
    axes.axhline(1, color="0.5", linewidth=1, linestyle="--")
    axes.set(yscale="log", xlabel="stride s", ylabel="im2col ÷ L, times less memory", xticks=strides)
    ticks = [tick for tick in (1, 1.5, 2, 3, 5, 10) if tick <= shapes[0].k_h]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_title(f"{layer}: what MEC saves, by stride", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    save_figure(figure, path)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
