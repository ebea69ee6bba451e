"""What somebody may have meant by a name that is not known."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(given: object, known: Iterable[str]) -> str:
    """``"; did you mean 'mec'?"`` for the closest known name, whatever its case; nothing if none is close."""
    if not isinstance(given, str):
        return ""
    names = {name.lower(): name for name in known}
    meant = get_close_matches(given.lower(), names, n=1)
    return f"; did you mean {names[meant[0]]!r}?" if meant else ""
