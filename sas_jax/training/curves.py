"""The curves of a training run: metrics.csv, and whatever sinks are open."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sas_jax.files import csv_table
from sas_jax.files.log_table import read_log
from sas_jax.training.sinks import Sink


class Curve:
    """metrics.csv: one row per log point and seed, rewritten atomically."""

    def __init__(self, path: Path, step: int, *, sinks: Sequence[Sink] = ()):
        """Goes on from the rows of `path` up to `step`.

        Raises:
          UserError: a file at `path` that is no such table.
        """
        self._path, self._sinks = path, sinks
        self._rows: list[dict[str, Any]] = []
        if path.exists():
            # A killed run may have logged past its last checkpoint.
            self._rows = [r for r in read_log(path) if int(r["step"]) <= step]

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Appends rows with `step`, `seed` and metrics, and writes the file."""
        self._rows += rows
        csv_table.write(self._path, self._rows)
        for sink in self._sinks:
            sink.add(rows)

    def close(self) -> None:
        """Closes the sinks."""
        for sink in self._sinks:
            sink.close()
