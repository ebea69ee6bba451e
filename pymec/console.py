"""How every command prints and ends: encodings, signals, errors, exit status.

Exit status: 0 all is well, 1 a check failed, 2 a mistake in the call or a lack of room, and 128 + n for signal n:
129 the terminal has gone, 130 Ctrl-C, 141 nobody reads the output any more, 143 terminated.  Of an error one line
on stderr says what it was.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

OK, CHECK_FAILED, USER_MISTAKE = 0, 1, 2
INTERRUPTED = 128 + signal.SIGINT
READER_GONE = 128 + 13  # SIGPIPE, which Windows has not

PLAIN = {
    "×": "x", "·": "*", "÷": "/", "≠": "!=", "≤": "<=", "≥": ">=", "→": "->", "…": "...", "−": "-", "–": "-",
    "⌊": "floor(", "⌋": ")", "⌈": "ceil(", "⌉": ")", "Σ": "sum ", "‖": "||", "₁": "1", "₂": "2", "√": "sqrt ",
    "²": "^2", "═": "=", "─": "-", "━": "-", "╸": "-", "╺": "-",
}  # fmt: skip
"""What stands for a character that a terminal's encoding does not have; a question mark for any other."""


class _Ended(BaseException):
    """A signal asked this process to end."""

    def __init__(self, number: int) -> None:
        self.number = number


def run(command: Callable[[], int], typed: Callable[[str], str] = str) -> int:
    """Run a command to its end and return the exit status.

    ``typed`` rewrites an error's message in the words of the command line.
    """
    if sys.stdout is None or sys.stderr is None:  # closed by the caller's shell: pymec layers >&-
        return _fail("standard output is closed", USER_MISTAKE)
    _write_any_text()
    with _ending_by_signal():
        try:
            status = command()
            sys.stdout.flush()
            return status
        except BrokenPipeError:
            _discard_output()
            return READER_GONE
        except KeyboardInterrupt:
            return _fail("interrupted", INTERRUPTED)
        except _Ended as ended:
            return _fail(f"ended by {signal.Signals(ended.number).name}", 128 + ended.number)
        except (ValueError, TypeError, OSError, MemoryError, RuntimeError, ImportError) as error:
            text = " ".join(typed(str(error)).split()) or "out of memory"
            if isinstance(error, OSError):  # what is left in the buffer would fail again as Python ends
                _discard_output()
            return _fail(f"error: {text}", USER_MISTAKE)


def _fail(text: str, status: int) -> int:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(f"pymec: {text}", file=sys.stderr, flush=True)
    return status


@contextlib.contextmanager
def _ending_by_signal() -> Iterator[None]:
    """Unwind the stack at SIGTERM and SIGHUP, so that processes are ended and folders removed."""

    def end(number: int, frame: FrameType | None) -> None:
        raise _Ended(number)

    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP
                before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write_any_text() -> None:
    """Let stdout and stderr take every text, whatever their encoding."""
    codecs.register_error("pymec-plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # a stream of somebody else's making
            stream.reconfigure(errors="pymec-plain")  # type: ignore[union-attr]


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(PLAIN.get(c, "?") for c in error.object[error.start : error.end]), error.end


def _discard_output() -> None:
    """Point stdout at nothing: Python writes what is left in the buffer when it ends."""
    with contextlib.suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
