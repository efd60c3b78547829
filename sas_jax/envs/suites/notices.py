"""Notices that packages print when they are imported, and that concern nobody here."""

import contextlib
import io
import sys


@contextlib.contextmanager
def without_adroit_notice():
    """Holds stderr back and passes on every line that is not gymnasium-robotics' own.

    It tells of Adroit hands, which no task here has, whenever gymnasium is imported.
    """
    held = io.StringIO()
    try:
        with contextlib.redirect_stderr(held):
            yield
    finally:
        for line in held.getvalue().splitlines():
            if "AdroitHand" not in line:
                print(line, file=sys.stderr)
