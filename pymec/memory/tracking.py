"""``with pymec.memory.track() as t:``, the memory of any code by owner and by line; and the same from a record."""

from __future__ import annotations

import atexit
import gc
import html
import itertools
import os
import shutil
import tempfile
import warnings
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pymec.figures import counted, mib
from pymec.kernels.shared.guard import Entered
from pymec.memory import flamegraphs, tables
from pymec.memory.measuring import new_file
from pymec.memory.owners import Line
from pymec.memory.warming import warm_up
from pymec.spelling import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from pymec.memory.timeline import Call, Timeline, Use


class Track:
    """What a block of code had in memory, by owner and by line; made by :func:`track` or :func:`read`.

    Attributes
    ----------
    record : pathlib.Path or None
        memray's record; None before the block has ended, or if the block was not tracked.
    notes : list of str
        What a reader should know of this measurement.
    """

    def __init__(self, record: Path | None = None, notes: list[str] | None = None) -> None:
        self.record = record
        self.notes = list(notes or ())

    @cached_property
    def timeline(self) -> Timeline:
        """Every allocation and release, in order."""
        import memray

        from pymec.memory.timeline import timeline_of

        if self.record is None:
            raise RuntimeError(self._untracked())
        with memray.FileReader(self.record) as reader:
            has_native_stacks = reader.metadata.has_native_traces
            timeline = timeline_of(reader.get_allocation_records())
        if not has_native_stacks:
            self.notes.append(
                "the record has no native stacks: BLAS, FFT and NumPy are told by Python lines alone"
            )
        return timeline

    def _untracked(self) -> str:
        why = self.notes[-1] if self.notes else "the block has not begun or not ended yet"
        return f"nothing was tracked: {why}"

    @property
    def peak(self) -> int:
        """Bytes in memory when it was fullest; what was there before the block is not counted."""
        return self.timeline.peak

    @property
    def by_owner(self) -> dict[str, Use]:
        """For each owner its bytes when memory was fullest, and at its own fullest."""
        return self.timeline.by_owner()

    @property
    def by_line(self) -> dict[tuple[Line, str], Use]:
        """The same for each line of the program and owner, the one that had most first."""
        return self.timeline.by_line()

    @property
    def calls(self) -> list[Call]:
        """Every call of pymec's that took workspace, in order, with the peak while it had it."""
        return self.timeline.calls()

    def table(self) -> str:
        """Owners, lines and calls as text, of 100 columns or so."""
        if self.record is None:
            return self._untracked()
        parts = [
            f"peak: {mib(self.peak)} ({self.peak:,} bytes)",
            tables.of_owners(self.by_owner),
            tables.of_lines(self.by_line, self.peak),
        ]
        parts += [tables.of_calls(self.calls)] if self.calls else []
        parts += [f"note: {note}" for note in self.notes]
        return "\n\n".join(parts)

    __str__ = table

    def __repr__(self) -> str:
        return f"<Track of {self.record or 'nothing yet'}>"

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw what was in memory after every allocation and release, stacked by owner.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default in a new figure.
        """
        from pymec.memory.drawing import draw

        return draw(self.timeline, ax)

    def flamegraph(self, path: str | Path, *, temporal: bool = False) -> Path:
        """Write memray's flame graph of the record, a page that needs no network; return its path.

        A page of the peak weighs a megabyte and leaves out memray's small plot of memory over time, which
        :meth:`plot` draws with owners.  A temporal page weighs 4.5 MB: its slider needs all of memray's scripts.

        Parameters
        ----------
        path : path
            A file that does not exist yet.
        temporal : bool
            Whether the page shows what was in memory at any time, and not at the peak alone.
        """
        target = new_file("path", path)
        self.timeline  # noqa: B018  # or the error that nothing was tracked
        assert self.record is not None
        flamegraphs.draw(self.record, target, temporal=temporal)
        return target

    def _repr_html_(self) -> str:
        from pymec.memory.drawing import page

        if self.record is None:
            return f"<p>{html.escape(self._untracked())}</p>"
        return page(self, whole=False)

    def save_page(self, path: str | Path, title: str = "memory") -> Path:
        """Write tables and plot as a page that needs no network; return its path."""
        from pymec.memory.drawing import page

        target = new_file("path", path)
        target.write_text(page(self, whole=True, title=title), encoding="utf-8")
        return target


class track(Track, Entered):
    """Track the memory of a block of code.

    Parameters
    ----------
    record : path, optional
        Keep memray's record here, for :func:`read` and memray's own reporters.  By default it is removed when
        this process ends in an ordinary way.
    n_threads : int, optional
        Before the block BLAS is made to map its buffers for as many threads (:func:`warm_up`), by default for as
        many as pymec takes: they are mapped once for a process, and belong to no line.  0 leaves that out.

    Raises
    ------
    RuntimeError
        If memray is not installed.

    Notes
    -----
    Where memray is tracking already, as under ``memray run``, the block runs untracked, and a warning says so; the
    table says so, too, and numbers raise a RuntimeError.

    memray sees what is requested of the system's allocator, by all threads.  Objects that Python puts into memory
    it already has are not seen, nor is memory that NumPy keeps for arrays of up to a kilobyte.

    Examples
    --------
    >>> with pymec.memory.track() as t:  # doctest: +SKIP
    ...     y = np.maximum(pymec.conv2d(x, kernel, algorithm="im2col"), 0)
    >>> print(t)  # doctest: +SKIP
    """

    def __init__(self, record: str | Path | None = None, *, n_threads: int | None = None) -> None:
        if find_spec("memray") is None:
            raise RuntimeError("memray is not installed: pip install 'pymec[profile]' (Linux and macOS)")
        super().__init__()
        self._kept = None if record is None else new_file("record", record)
        if n_threads is not None and (
            isinstance(n_threads, bool) or not isinstance(n_threads, int) or n_threads < 0
        ):
            raise ValueError(f"n_threads must be an integer of at least 0, or None, got {shown(n_threads)}")
        self._n_threads = n_threads
        self._path = Path()
        self._used = False

    def _prepared(self) -> Any:
        """memray's tracker, with BLAS warmed up, if no other tracker would see that."""
        import memray

        if self._used:
            raise ValueError("this block has been tracked already; make a new pymec.memory.track()")
        self._used = True
        self._path = self._kept or _records(os.getpid()) / f"{next(_numbers)}.bin"
        if self._n_threads != 0 and self._is_alone():
            threads = counted(warm_up(self._n_threads), "thread")
            self.notes.append(f"BLAS mapped its buffers for {threads} before the block")
        gc.collect()
        return memray.Tracker(self._path, native_traces=True)

    def _is_alone(self) -> bool:
        """Whether no other tracker would see what is done now."""
        import memray

        alone = False
        try:
            with memray.Tracker(self._path):
                alone = True
        except RuntimeError:
            pass
        finally:
            self._path.unlink(missing_ok=True)
        return alone

    def _refused(self, error: RuntimeError) -> None:
        """Another tracker is at work, and memray allows for one."""
        self.notes.append(f"another tracker of memray's is at work ({error}); the block ran untracked")
        warnings.warn(f"pymec.memory.track: {self.notes[-1]}", RuntimeWarning, stacklevel=2)

    def _left(self) -> None:
        self.record = self._path


_numbers = itertools.count()


@cache
def _records(pid: int) -> Path:
    """The folder for the records of this process, removed when it ends; a forked child has another."""
    folder = tempfile.mkdtemp(prefix="pymec-")

    def remove() -> None:
        if os.getpid() == pid:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return Path(folder)


def read(record: str | Path) -> Track:
    """What a record of memray's says, made by :func:`track`, ``memray run`` or ``memray.Tracker``.

    Parameters
    ----------
    record : path
        Of a file that memray has written; with native stacks (``--native``) more owners are told apart.

    Raises
    ------
    ValueError
        If it is no such file.
    """
    import memray

    if not isinstance(record, (str, Path)):
        raise TypeError(f"record must be a path, got {type(record).__name__}")
    path = Path(record)
    try:
        with memray.FileReader(path) as reader:
            kind = reader.metadata.file_format
    except (OSError, ValueError) as error:
        raise ValueError(f"record {str(record)!r} can't be read as a record of memray's: {error}") from error
    if kind != memray.FileFormat.ALL_ALLOCATIONS:
        raise ValueError(
            f"record {str(record)!r} is aggregated, its events are gone; record it without --aggregate"
        )
    return Track(path)
