"""The paper's claims, each with what was measured here, whether it holds, and why.

A verdict is computed from records that the scripts of this folder have kept, by the rule in its function; nobody
writes it.  The documentation shows the same table.

    python profiling/claims.py

Sources: ``paper_memory.py`` (bytes), ``paper_time.py`` (seconds), ``stride_sweep.py`` (both, by stride),
``solutions.py`` (Solution A against B).  "Published" is ``mec_paper``, Algorithm 2 with its whole BLAS products.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from _claims_about_memory import (
    each_layer,
    fft,
    k_over_s,
    resnet_memory,
    taller_than_stride,
    whole_batch,
    winograd,
)
from _claims_about_solutions import solution_a, t_100
from _claims_about_time import (
    batch_1_one_thread,
    batch_1_threads,
    batch_32,
    papers_cpu,
    resnet_time,
    stride_time,
)
from _common import command_line
from _in_turns import add_store_options, newest, store_of
from _store import Record
from _tables import MARKS, caption
from _verdicts import Answer, Records

STORES = ("paper_memory", "paper_time", "stride_sweep", "solutions")


class Claim(NamedTuple):
    """What the paper says and where, and the function that answers."""

    says: str
    source: str
    judge: Callable[[Records], Answer]


CLAIMS = (
    Claim("MEC's lowered matrix is smaller than im2col's on every layer.", "abstract; Table 2", each_layer),
    Claim("It is smaller by about k/s, kernel over stride.", "Equations 2 to 4", k_over_s),
    Claim("It is smaller whenever the kernel is higher than the stride.", "Equation 4", taller_than_stride),
    Claim("It is smaller with batches of 32, as on the paper's server.", "server experiments", whole_batch),
    Claim("Winograd's algorithm needs more memory than MEC.", "abstract", winograd),
    Claim("Convolution by Fourier transforms needs more memory than MEC.", "abstract", fft),
    Claim("MEC is faster than im2col: one image, one thread.", "abstract; mobile experiments", batch_1_one_thread),
    Claim("MEC is faster than im2col: one image, several threads.", "abstract", batch_1_threads),
    Claim("MEC is faster than im2col: batches of 32.", "server experiments", batch_32),
    Claim("MEC is faster than im2col on the paper's kind of CPU, with AVX.", "server experiments", papers_cpu),
    Claim("The larger k/s, the more time MEC saves.", "Figure 4", stride_time),
    Claim("Solution A is faster than B where outputs are narrow.", "Algorithm 2", solution_a),
    Claim("Outputs are narrow up to about T = 100.", "Algorithm 2, line 8; said of GPUs", t_100),
    Claim("MEC needs less memory for ResNet-101's layers.", "ResNet-101 experiment", resnet_memory),
    Claim("MEC needs less time for ResNet-101's layers.", "ResNet-101 experiment", resnet_time),
)
"""In the order of the table.  Of what the paper says only the gist is given, and none of its own numbers."""


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    claim: Claim
    answer: Answer


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 if something isn't measured yet."""
    parser = command_line(__doc__)
    add_store_options(parser)
    options = parser.parse_args(arguments)
    records = Records(*(newest(store_of(script, options)) for script in STORES))
    found = rows(records)
    for row in found:
        print(f"[{row.answer.verdict}] {row.claim.says}  ({row.claim.source})")
        for name, text in (("measured", row.answer.measured), ("why", row.answer.why)):
            shown = f"{name}: {text}".replace("``", "`")
            print(textwrap.fill(shown, 110, initial_indent="  ", subsequent_indent="    "))
        print()
    for script, line in sources(records).items():
        print(f"{script}: {line}")
    return int(not all(row.answer.known for row in found))


def rows(records: Records) -> list[Row]:
    """Every claim answered."""
    return [Row(claim, claim.judge(records)) for claim in CLAIMS]


def sources(records: Records) -> dict[str, str]:
    """Where each script's records come from, and what has changed since; a script without any is left out."""
    kept: dict[str, list[Record]] = dict(zip(STORES, records, strict=True))
    found = {}
    for script, of in kept.items():
        for blas in dict.fromkeys(record.run["blas"] for record in of):
            under = [record for record in of if record.run["blas"] == blas]
            stale = sorted({name for record in under for name in record.stale})
            marks = sorted({mark for record in under for mark in record.marks()})
            notes = [f"{mark} {MARKS[mark]}" + f" ({', '.join(stale)})" * (mark == "†") for mark in marks]
            found[f"{script}.py, {blas}"] = " ".join([caption(under), *notes])
    return found


if __name__ == "__main__":
    sys.exit(main())
