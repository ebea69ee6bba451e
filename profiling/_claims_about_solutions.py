"""The paper's claims about Solutions A and B and the T between them, judged by batches that took turns."""

from __future__ import annotations

import math

from _common import geometric_mean
from _in_turns import kernels_in
from _store import Record
from _tables import groups, plural
from _verdicts import HOLDS, IN_PART, NO, Answer, Records, listed, mostly, unknown
from solutions import KINDS, T_OF_THE_PAPER, Row, T_that_loses_least, loss, rows_of

LITTLE, SOME = 0.03, 0.1
"""Shares of the time that a T may lose: up to the first it is right, up to the second in part."""

Tables = dict[tuple[int, int], list[Row]]
"""The rows of each batch and number of threads."""


def solution_a(records: Records) -> Answer:
    """By the rule of :func:`_verdicts.mostly`, over all batches of the layers for which line 8 takes A."""
    tables = tables_of(records.solutions)
    ratios = {kind: narrow(tables, kind) for kind in KINDS}
    published, tiles = ratios["published"], ratios["register_tiles"]
    if not published:
        return unknown("solutions.py")
    wide = [
        row["published", "B"] / row["published", "A"]
        for rows in tables.values()
        for row in rows
        if row["o_w"] > T_OF_THE_PAPER
    ]
    measured = f"{asked(tables)} As published, where outputs are narrow A was {counted(published)}"
    measured += f"; where they are wider than {T_OF_THE_PAPER} B was {counted(wide)}." if wide else "."
    if tiles:
        measured += f" Tuned, by register tiles, A was {counted(tiles)}."
    verdict = mostly(published)
    why = {
        HOLDS: "BLAS packs K once for A's product of all images and once for each image in B; A's repair, which "
        "moves O twice, costs less.",
        IN_PART: "BLAS packs K less often for A, but A's repair moves O twice: it depends on the layer which "
        "weighs more.",
        NO: "A's repair, which moves O twice, costs more than taller products bring.",
    }[verdict]
    if tiles and geometric_mean(tiles) < geometric_mean(published):
        why += " Register tiles don't pack K for each product, and gain less from A."
    return Answer(measured, verdict, why)


def t_100(records: Records) -> Answer:
    """Holds if choosing by T = 100 loses at most 3 % against the better solutions, in part if at most 10 %."""
    tables = tables_of(records.solutions)
    if not tables:
        return unknown("solutions.py")
    losses = {cell: loss(rows, "published", T_OF_THE_PAPER) - 1 for cell, rows in tables.items()}
    parts = [
        f"batch {batch}, {plural(n_threads)}: T = {T_OF_THE_PAPER} loses {lost:.1%}, "
        f"least is lost by T {span(*T_that_loses_least(tables[batch, n_threads], 'published'))}"
        for (batch, n_threads), lost in losses.items()
    ]
    tiled = [rows for rows in tables.values() if ("register_tiles", "A") in rows[0]]
    if tiled:
        spans = dict.fromkeys(span(*T_that_loses_least(rows, "register_tiles")) for rows in tiled)
        parts.append(f"tuned, by register tiles, least is lost by T {', '.join(spans)}")
    worst = max(losses.values())
    verdict = HOLDS if worst <= LITTLE else IN_PART if worst <= SOME else NO
    why = {
        HOLDS: "Where outputs are wide both solutions pack K rarely for what they multiply, so a T that is off by "
        "a layer or two costs little.",
        IN_PART: "A T for this machine would choose better.",
        NO: "T depends on the machine, and this one asks for another.",
    }[verdict]
    measured = "; ".join(parts)
    return Answer(
        f"{measured[0].upper()}{measured[1:]}.",
        verdict,
        f"{why} With one image A and B are the same products, and T decides nothing.",
    )


def tables_of(records: list[Record]) -> Tables:
    """The rows of each batch and number of threads, under the CPU's own kernels."""
    if not records:
        return {}
    own = [record for record in records if record.cell["blas"] == kernels_in(records)[0]]
    tables = {cell: rows_of(found) for cell, found in groups(own, "i_n", "n_threads").items()}
    both = {("published", "A"), ("published", "B")}
    compared = {cell: [row for row in rows if both <= row.keys()] for cell, rows in tables.items()}
    return {cell: rows for cell, rows in compared.items() if rows}


def narrow(tables: Tables, kind: str) -> list[float]:
    """B's time ÷ A's where line 8 takes A."""
    return [
        row[kind, "A"] / row[kind, "B"]
        for rows in tables.values()
        for row in rows
        if row["fits"] and row["o_w"] <= T_OF_THE_PAPER and (kind, "A") in row
    ]


def counted(ratios: list[float]) -> str:
    """How often, and by how much in geometric mean."""
    often = sum(value > 1 for value in ratios)
    return f"faster {often} of {len(ratios)} times (mean {geometric_mean(ratios):.2f})"


def span(low: float, following: float) -> str:
    """A range of T in words."""
    return f"from {low:.0f} on" if following == math.inf else f"from {low:.0f} to {following - 1:.0f}"


def asked(tables: Tables) -> str:
    """What was measured: "Batches of 8 and 32, threads: 1 and 2."."""
    batches, counts = ({str(cell[place]): None for cell in tables} for place in (0, 1))
    return f"Batches of {listed(batches)}, threads: {listed(counts)}."
