"""The CPU time that a container may take: the limits of Linux's control groups, versions 1 and 2."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path


@cache
def cpu_quota(root: Path = Path("/")) -> float | None:
    """How many CPUs' time this process may take, or None if nothing limits it (read once).

    A group may take no more than any group that contains it, so the smallest limit on the way up counts.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    limits = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":  # version 2
            folder, limit_of = root / "sys/fs/cgroup", _limit_2
        elif "cpu" in controllers.split(","):
            folder, limit_of = root / "sys/fs/cgroup/cpu", _limit_1
        else:
            continue
        limits += [limit for at in _upwards(folder, group) if (limit := limit_of(at)) is not None]
    return min(limits, default=None)


def _upwards(folder: Path, group: str) -> Iterator[Path]:
    """The folders of a group and of those that contain it; inside a container only the last may be there."""
    parts = [part for part in group.split("/") if part]
    for n in range(len(parts), -1, -1):
        yield folder.joinpath(*parts[:n])


def _limit_2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _limit_1(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        return None if quota < 0 else quota / int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
