"""What a cell's process tells of itself, in small files of its folder.

Whatever engine runs a cell, these files are how the sweep hears of it: the folder is
the one thing that all of them share.
"""

import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sas_jax.errors import UserError
from sas_jax.files import atomic

_PROGRESS, _OUTCOME = "progress.json", "outcome.json"
_EVERY = 1.0  # seconds between two reports


class Reporter:
    """Writes how far a cell is, at most once a second."""

    def __init__(self, folder: Path):
        """folder: of the cell."""
        self._path, self._last = folder / _PROGRESS, 0.0

    def __call__(self, stage: str, done: float, total: float) -> None:
        """stage: such as "train". done, total: of the stage, in its own units."""
        now = time.monotonic()
        if now - self._last < _EVERY:
            return
        self._last = now
        # A report that cannot be written is no reason to stop the work.
        with contextlib.suppress(UserError, OSError):
            text = json.dumps({"stage": stage, "done": done, "total": total})
            atomic.write_text(self._path, text)


def progress_of(folder: Path) -> dict[str, Any]:
    """What `Reporter` wrote last; empty where there is nothing."""
    return _read(folder / _PROGRESS)


def write_outcome(folder: Path, outcome: Mapping[str, Any]) -> None:
    """Keeps how a cell's run ended."""
    atomic.write_text(folder / _OUTCOME, json.dumps(outcome, indent=1) + "\n")


def outcome_of(folder: Path) -> dict[str, Any]:
    """How the last run of a cell ended; empty where none has."""
    return _read(folder / _OUTCOME)


def clear(folder: Path) -> None:
    """Forgets what an earlier run told."""
    for name in (_PROGRESS, _OUTCOME):
        with contextlib.suppress(OSError):
            (folder / name).unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
