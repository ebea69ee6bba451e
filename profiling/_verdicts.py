"""How the paper's claims are judged: what an answer is, and the rules that several claims share."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from _common import geometric_mean
from _store import Record

import pymec

HOLDS, IN_PART, NO, UNKNOWN = "holds", "in part", "no", "not measured yet"


class Records(NamedTuple):
    """What each script has kept: the newest record of each cell."""

    memory: list[Record]
    time: list[Record]
    strides: list[Record]
    solutions: list[Record]


@dataclass(frozen=True)
class Answer:
    """What was measured, whether the claim holds, and why."""

    measured: str
    verdict: str
    why: str

    @property
    def known(self) -> bool:
        """Whether there were records to judge by."""
        return self.verdict != UNKNOWN


def unknown(command: str) -> Answer:
    """Without records nothing is said."""
    return Answer(f"Nothing yet: ``python profiling/{command}`` measures it.", UNKNOWN, "–")


def all_some_none(goods: Iterable[bool]) -> str:
    """Of claims about every layer: it holds if it does on all, in part if on some, and not if on none."""
    goods = list(goods)
    return HOLDS if all(goods) else IN_PART if any(goods) else NO


def mostly(ratios: Iterable[float]) -> str:
    """Of claims about layers in general, from "how many times as fast" on each.

    It holds if the geometric mean is above 1 and three quarters of the layers are; it doesn't if the mean is not
    and no more than a quarter are; otherwise it holds in part.
    """
    ratios = list(ratios)
    better = sum(ratio > 1 for ratio in ratios) / len(ratios)
    if geometric_mean(ratios) > 1:
        return HOLDS if better >= 0.75 else IN_PART
    return IN_PART if better > 0.25 else NO


def together(verdicts: Iterable[str]) -> str:
    """One verdict of several: theirs where they agree, in part where they don't."""
    different = set(verdicts)
    return different.pop() if len(different) == 1 else IN_PART


# Words --------------------------------------------------------------------------------------------------


def in_words(ratios: Mapping[str, float]) -> str:
    """How many are above 1, mean and range: "3 of 12 layers, mean 0.78, from 0.42 (cv6) to 1.79 (cv7)"."""
    low, high = min(ratios, key=lambda name: ratios[name]), max(ratios, key=lambda name: ratios[name])
    return (
        f"{sum(ratio > 1 for ratio in ratios.values())} of {len(ratios)} layers, mean "
        f"{geometric_mean(ratios.values()):.2f}, from {ratios[low]:.2f} ({low}) to {ratios[high]:.2f} ({high})"
    )


def so_far(found: Collection[str]) -> str:
    """A sentence where layers are missing."""
    missing = len(pymec.layers.PAPER) - len(found)
    return f" Of the paper's twelve layers {missing} are not measured yet." if missing else ""


def listed(names: Iterable[str]) -> str:
    """Names as a list in a sentence."""
    names = list(names)
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else "none"
