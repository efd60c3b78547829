"""Runs cases one by one, guarded, and writes what is known after each of them."""

import time
from collections.abc import Callable
from pathlib import Path

from experiments.benchmarks import common, results

MEMORY, SKIPPED = "out of memory", "not begun: the time was up"
_MEMORY_SIGNS = ("RESOURCE_EXHAUSTED", "out of memory", "Out of memory", "OOM")


class Recorder:
    """The benchmark's rows, in a JSON file that is whole after every case.

    budget: seconds after which no further case begins.
    """

    def __init__(self, path: str, settings: dict, environment: dict, budget: float):
        self._path, self._settings = path, settings
        self._environment, self._budget = environment, budget
        self._started = time.perf_counter()
        self.rows: list[dict] = []
        self._write()

    def measure(self, case: str, measure: Callable[..., dict], *args, **kwargs) -> dict:
        """The row of `measure(*args, **kwargs)`, or one with the key "error".

        An error of one case, out of memory above all, leaves the others alone.
        """
        begun = time.perf_counter()
        if begun - self._started > self._budget:
            row = {"error": SKIPPED}
        else:
            try:
                row = measure(*args, **kwargs)
            except Exception as error:  # whatever it is, the other cases can go on
                row = {"error": _reason(error)}
        row = {"case": case, **row, "took_seconds": time.perf_counter() - begun}
        self.rows.append(row)
        self._write()
        return row

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.perf_counter() - self._started

    @property
    def failures(self) -> list[dict]:
        """Rows of cases that failed for another reason than memory or time."""
        ends = (MEMORY, SKIPPED)
        return [row for row in self.rows if row.get("error", MEMORY) not in ends]

    def _write(self) -> Path:
        measured = {
            "device": common.machine(),
            "environment": self._environment,
            "took_seconds": self.seconds,
            "rows": self.rows,
        }
        return results.write_json(self._path, self._settings, measured)


def _reason(error: Exception) -> str:
    text = str(error)
    if isinstance(error, MemoryError) or any(sign in text for sign in _MEMORY_SIGNS):
        return MEMORY
    first = text.splitlines()[0] if text else ""
    return f"{type(error).__name__}: {first}"[:300]
