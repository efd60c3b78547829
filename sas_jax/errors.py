"""The one exception that users see as a single line.

Anything caused by input (a file, a flag, a configuration) raises `UserError` with a
message that names the culprit and what was expected. Entry points print that line and
exit with status 2; every other exception is a defect of ours and keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input. The message is one line: the culprit, then what was expected."""


def one_line(error: BaseException, most: int = 300) -> str:
    """What somebody else's exception says, on one line of at most `most` characters."""
    return " ".join(str(error).split())[:most]


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns ``"; did you mean 'x'?"`` for the closest known name, else ``""``."""
    known = list(known)
    lowered = {k.lower(): k for k in known}
    match = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.5)
    return f"; did you mean {lowered[match[0]]!r}?" if match else ""
