"""What was in memory after every allocation and every release, by owner and by line.

memray's record is a list of events.  Here it becomes three arrays: how many bytes an event adds, which line asked
for them, and whose they are; a release takes away what its allocation added.  Sums along them answer everything:
how much was in memory, when it was fullest and with what, and how much each line or owner had at its own fullest.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from memray import AllocatorType
from numpy.typing import NDArray

from pymec.memory.owners import OWNERS, SMALL_BYTES, Line, line_of, owner_of, symbols_of


class Use(NamedTuple):
    """The bytes of one line, or of one owner."""

    at_peak: int
    """When memory was fullest."""
    most: int
    """At their own fullest."""


class Call(NamedTuple):
    """A call of pymec's that took workspace."""

    line: Line
    workspace: int
    peak: int
    """All that was in memory at its fullest, from the workspace's allocation to its release."""


@dataclass(frozen=True)
class Timeline:
    """The events of a record, in their order.

    Attributes
    ----------
    delta : array (n,), int64
        Bytes that each event adds; negative for a release.
    line, owner : array (n,), int32 and int8
        Indices of :attr:`lines`, and of the keys of :data:`pymec.memory.owners.OWNERS`.
    lines : list of Line
    released : array (n,), int64
        For an allocation the index of the event that releases it, n if none does; for a release its own index.
    """

    delta: NDArray[np.int64]
    line: NDArray[np.int32]
    owner: NDArray[np.int8]
    lines: list[Line]
    released: NDArray[np.int64]

    @property
    def in_memory(self) -> NDArray[np.int64]:
        """Bytes in memory after each event."""
        return np.cumsum(self.delta)

    @property
    def peak_event(self) -> int:
        """The first event after which memory is fullest; -1 if it never holds anything."""
        total = self.in_memory
        return int(np.argmax(total)) if total.size and total.max() > 0 else -1

    @property
    def peak(self) -> int:
        """Bytes in memory then."""
        event = self.peak_event
        return 0 if event < 0 else int(self.in_memory[event])

    def by_owner(self) -> dict[str, Use]:
        """What each owner had, those who had something."""
        found = self.uses(self.owner.astype(np.int64), len(OWNERS))
        return {name: use for name, use in zip(OWNERS, found, strict=True) if use.most > 0}

    def by_line(self) -> dict[tuple[Line, str], Use]:
        """What each line had of each owner's, the most first."""
        names = list(OWNERS)
        key = self.line.astype(np.int64) * len(names) + self.owner
        found = self.uses(key, len(self.lines) * len(names))
        uses = {
            (self.lines[i // len(names)], names[i % len(names)]): use
            for i, use in enumerate(found)
            if use.most > 0
        }
        return dict(sorted(uses.items(), key=lambda item: (-item[1].most, -item[1].at_peak, item[0])))

    def of_owner(self, name: str) -> NDArray[np.int64]:
        """Bytes of one owner in memory after each event."""
        return np.cumsum(np.where(self.owner == list(OWNERS).index(name), self.delta, 0))

    def calls(self) -> list[Call]:
        """Every call of pymec's that took workspace, in order."""
        total = self.in_memory
        workspace = list(OWNERS).index("workspace")
        begun = np.flatnonzero((self.owner == workspace) & (self.delta > 0))
        return [
            Call(self.lines[self.line[i]], int(self.delta[i]), int(total[i : max(self.released[i], i + 1)].max()))
            for i in begun
        ]

    def uses(self, key: NDArray[np.int64], count: int) -> list[Use]:
        """For each of ``count`` keys its bytes at the peak, and the maximum of its own running sum."""
        until = self.peak_event + 1
        at_peak = np.zeros(count, np.int64)
        np.add.at(at_peak, key[:until], self.delta[:until])
        most = np.zeros(count, np.int64)
        order = np.argsort(key, kind="stable")  # each key's events side by side, in their order
        firsts = np.flatnonzero(np.diff(key[order], prepend=-1))
        for first, end in zip(firsts, [*firsts[1:], key.size][: firsts.size], strict=True):
            most[key[order[first]]] = max(0, np.cumsum(self.delta[order[first:end]]).max())
        return [Use(int(a), int(b)) for a, b in zip(at_peak, most, strict=True)]


class Mapped(NamedTuple):
    """Addresses of a mapping that are still mapped, and the event that mapped them."""

    start: int
    end: int
    event: int


class _Events:
    """The lists that become a timeline, and what is in memory at the moment."""

    def __init__(self) -> None:
        self.delta: list[int] = []
        self.asker: list[int] = []  # whose stack it was: an index of askers
        self.released: list[int] = []
        self.askers: list[Any] = []  # a record of each stack
        self.totals: list[int] = []  # all bytes that a stack asked for
        self._numbers: dict[tuple[int, int], int] = {}
        self._blocks: dict[int, int] = {}  # where a block begins, and the event that allocated it
        self._mapped: list[Mapped] = []  # in the order of their addresses

    def allocate(self, record: Any) -> None:
        key = record.stack_id, record.native_stack_id
        asker = self._numbers.setdefault(key, len(self.askers))
        if asker == len(self.askers):
            self.askers.append(record)
            self.totals.append(0)
        self.totals[asker] += record.size
        event = self._add(record.size, asker)
        if record.allocator == AllocatorType.MMAP:
            insort(self._mapped, Mapped(record.address, record.address + record.size, event))
        else:
            self._blocks[record.address] = event

    def free(self, address: int) -> None:
        """Release a block; one from before the record is none of ours."""
        event = self._blocks.pop(address, None)
        if event is not None:
            self._release(event, self.delta[event])

    def unmap(self, start: int, end: int) -> None:
        """Release what is mapped of these addresses: parts of mappings, or several of them."""
        first = bisect_left(self._mapped, (start,))
        if first > 0 and self._mapped[first - 1].end > start:
            first -= 1
        last = first
        rest: list[Mapped] = []
        while last < len(self._mapped) and self._mapped[last].start < end:
            part = self._mapped[last]
            gone_from, gone_to = max(part.start, start), min(part.end, end)
            if gone_from < gone_to:
                self._release(part.event, gone_to - gone_from)
            kept = Mapped(part.start, gone_from, part.event), Mapped(gone_to, part.end, part.event)
            rest += [some for some in kept if some.start < some.end]
            last += 1
        self._mapped[first:last] = rest

    def _release(self, event: int, size: int) -> None:
        at = self._add(-size, self.asker[event])
        self.released[event] = self.released[at] = at

    def _add(self, size: int, asker: int) -> int:
        self.delta.append(size)
        self.asker.append(asker)
        self.released.append(-1)
        return len(self.delta) - 1


def timeline_of(records: Iterable[Any]) -> Timeline:
    """The events of memray's allocation records, in the order in which they happened."""
    events = _Events()
    for record in records:
        if record.allocator in (AllocatorType.FREE, AllocatorType.PYMALLOC_FREE):
            events.free(record.address)
        elif record.allocator == AllocatorType.MUNMAP:
            events.unmap(record.address, record.address + record.size)
        else:
            events.allocate(record)
    lines: dict[Line, int] = {}
    line, owner = [], []
    for record, total in zip(events.askers, events.totals, strict=True):
        stack = record.stack_trace()
        name = owner_of(stack, symbols_of(record) if total >= SMALL_BYTES else [])
        line.append(lines.setdefault(line_of(stack), len(lines)))
        owner.append(list(OWNERS).index(name))
    asker = np.array(events.asker, np.int64)
    released = np.array(events.released, np.int64)
    return Timeline(
        np.array(events.delta, np.int64),
        np.array(line, np.int32)[asker],
        np.array(owner, np.int8)[asker],
        list(lines),
        np.where(released < 0, released.size, released),
    )
