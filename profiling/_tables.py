"""Tables made from records alone: what scripts print, and what README.md and the site show.

A script's ``tables(records)`` makes them.  Under each table stands where and when its numbers were measured; a
number whose kernel has changed since has a mark, and a line says which command measures it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from _common import counted, geometric_mean, markdown_table, network_of
from _store import Record

import pymec

MARKS = {
    "†": "measured before the kernel last changed",
    "‡": "measured with --no-wait, while threads shared a core or were held up",
}


@dataclass
class Table:
    """A title, a table of texts, notes, and the records that it was made from."""

    title: str
    header: Sequence[str]
    rows: list[list[str]]
    records: Sequence[Record]
    script: str
    notes: list[str] = field(default_factory=list)

    @property
    def footnotes(self) -> list[str]:
        """What the marks in the table mean, if there are any."""
        texts = "".join(cell for row in self.rows for cell in row) + "".join(self.notes)
        command = f"`python profiling/{self.script}.py"
        again = {"†": f"{command}` measures it again", "‡": f"{command} --again` measures it again"}
        return [f"{mark} {meaning}; {again[mark]}." for mark, meaning in MARKS.items() if mark in texts]

    def __str__(self) -> str:
        """Markdown."""
        parts = [f"**{self.title}**", markdown_table(self.header, self.rows)]
        parts += ["\n".join(f"- {note}" for note in self.notes)] * bool(self.notes)
        parts += [" ".join([caption(self.records), *self.footnotes])]
        return "\n\n".join(parts)


def show(tables: Iterable[Table]) -> None:
    """Print tables."""
    for table in tables:
        print(f"{table}\n")


def caption(records: Sequence[Record]) -> str:
    """Where and when records were made: machine, BLAS and its kernel, threads, seconds of timing, date, commit."""
    runs = [record.run for record in records]
    threads = entries(records, "n_threads")
    seconds = sorted({record.how["seconds"] for record in records if "seconds" in record.how})
    dates = sorted({run["date"] for run in runs})
    told = sorted({run["told"] for run in runs if run.get("told")})
    parts = [
        " and ".join(dict.fromkeys(run["cpu"] for run in runs)),
        f"{runs[0]['build']} build of pymec {runs[0]['pymec']}",
        f"BLAS {runs[0]['blas']}" + "".join(f" (by OPENBLAS_CORETYPE={name})" for name in told[:1]),
        " and ".join(map(plural, threads)),
        f"timed for {' to '.join(f'{s:g}' for s in sorted({*seconds[:1], *seconds[-1:]}))} s a call"
        * bool(seconds),
        " to ".join(sorted({dates[0], dates[-1]})),
        "commit " + ", ".join(dict.fromkeys(run["commit"] for run in runs)),
    ]
    return "; ".join(filter(None, parts)) + "."


def plural(n_threads: int) -> str:
    """``1 thread``, ``2 threads``."""
    return counted(n_threads, "thread")


# What tables are made of --------------------------------------------------------------------------------


def groups(records: Iterable[Record], *names: str) -> dict[tuple[Any, ...], list[Record]]:
    """Records by these entries of their cells, in order."""
    found: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        found.setdefault(tuple(record.cell[name] for name in names), []).append(record)
    return dict(sorted(found.items()))


def entries(records: Iterable[Record], name: str) -> list[Any]:
    """The different values of an entry of the records' cells, in order."""
    found = {record.cell[name] for record in records if name in record.cell}
    known = pymec.layers.names() if name == "layer" else ()
    return sorted(found, key=lambda value: (known.index(value) if value in known else len(known), value))


def by_network(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records by the network of their layers; the paper's twelve are one."""
    found: dict[str, list[Record]] = {}
    for record in records:
        network = network_of(record.cell["layer"])
        found.setdefault("the paper's twelve" if network == "paper" else network, []).append(record)
    return found


def contenders(records: Iterable[Record]) -> list[str]:
    """Every contender of some records, in the order in which they first came."""
    return list(dict.fromkeys(name for record in records for name in record.values))


def rate(record: Record, contender: str, which: str = "best") -> float | None:
    """GFLOP/s of a contender, by the definition's multiply-adds if not by its own; None if it didn't take part."""
    value = record.values.get(contender)
    return 1e-9 * (value.get("flops") or record.how["flops"]) / value[which] if value else None


def beside(record: Record, ours: str, others: Sequence[str]) -> float | None:
    """Our rate divided by the best of theirs; None if none of them took part."""
    mine, theirs = rate(record, ours), [found for name in others if (found := rate(record, name))]
    return mine / max(theirs) if mine and theirs else None


def ratio(record: Record, slow: str, fast: str, which: str = "best") -> float | None:
    """How many times as fast as ``slow`` is ``fast``; None if one of them didn't take part."""
    if slow not in record.values or fast not in record.values:
        return None
    return record.values[slow][which] / record.values[fast][which]


def number(value: float | None, record: Record, *of: str, form: str = "{:.0f}") -> str:
    """A number of these contenders with its marks, or a dash."""
    return "-" if value is None else form.format(value) + record.marks(*of)


def best_and_median(
    record: Record, name: str, of: Callable[..., float | None], *against: str, form: str = "{:.2f}"
) -> str:
    """``of(record, *against, name, which)`` for the best and for the median call, with marks, or a dash."""
    if name not in record.values:
        return "-"
    pair = (of(record, *against, name, which) for which in ("best", "median"))
    return " / ".join(map(form.format, pair)) + record.marks(name, *against)


Ratio = Callable[[Record], float | None]


def spread(records: Iterable[Record], of: Ratio) -> list[str]:
    """The geometric mean of a ratio, its least and its most, with their layers; dashes if no record has it."""
    found = {record.cell["layer"]: value for record in records if (value := of(record)) is not None}
    if not found:
        return ["-", "-", "-"]
    ends = min(found, key=found.__getitem__), max(found, key=found.__getitem__)
    return [
        f"{geometric_mean(found.values()):.2f}",
        *(f"{found[layer]:.2f} ({layer.rpartition('.')[2]})" for layer in ends),
    ]


def mean_of(records: Iterable[Record], of: Ratio) -> str:
    """The same in a line."""
    mean, least, most = spread(records, of)
    return f"geometric mean {mean}, least {least}, most {most}"
