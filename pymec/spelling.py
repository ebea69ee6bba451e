"""How a wrong argument is shown in an error, and what somebody may have meant by a name that is not known."""

import reprlib
from collections.abc import Iterable
from difflib import get_close_matches

MOST_SHOWN = 100

_short = reprlib.Repr()
_short.maxstring = _short.maxlong = _short.maxother = 80


def shown(value: object) -> str:
    """A value's repr on one line and of a line's length: of a long one, the beginning."""
    try:
        text = " ".join(_short.repr(value).split())
        return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
    except ValueError:  # Python writes no integers of more than 4,300 digits
        return f"{type(value).__name__} too long to be written"


def did_you_mean(given: object, known: Iterable[str]) -> str:
    """``"; did you mean 'mec'?"`` for the closest known name, whatever its case; nothing if none is close."""
    if not isinstance(given, str):
        return ""
    names = {name.lower(): name for name in known}
    meant = get_close_matches(given.lower(), names, n=1)
    return f"; did you mean {names[meant[0]]!r}?" if meant else ""
