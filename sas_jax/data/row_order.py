"""Whether the rows of a file follow one another in time.

Inside an episode the observation that a step leads to is the next row's observation.
Rows that were shuffled, or written as several environments produced them, break this,
and nothing else in a file shows it. In the shape descriptions, `O` is the observation
size and `R` a number of rows.
"""

import dataclasses

import numpy as np

# Lossy filters keep a few digits, and not the same ones in both arrays; a step is a
# break only where it differs by more than this share of the column's deviation ...
_OF_DEVIATION = 1e-3
# ... and of its size, which covers rounding in columns that do not vary.
_OF_SIZE = 1e-5
_SAMPLE = 20_000  # rows from which deviation and size are taken
_MAX_LISTED = 5


@dataclasses.dataclass
class RowOrder:
    """Counts the breaks while a file is read, block by block.

    observations: `[S, O]` of all rows that are used.
    is_end: `[S]` bool, True at each last step of an episode.
    count: breaks so far. first: row, column and both values of the first one.
    rows: the first few rows that break.
    """

    observations: np.ndarray
    is_end: np.ndarray
    count: int = 0
    first: tuple[int, int, float, float] | None = None
    rows: list[int] = dataclasses.field(default_factory=list)
    _tolerance: np.ndarray | None = None

    def add(self, start: int, following: np.ndarray) -> None:
        """Looks at the next observations `[R, O]` of the rows from `start` on.

        `following` is overwritten: a copy would double the memory of a block.
        """
        end = min(start + len(following), len(self.observations) - 1)
        gap = following[: end - start]
        if not len(gap):
            return
        gap -= self.observations[start + 1 : end + 1]
        gap[self.is_end[start:end]] = 0.0
        if not gap.any():
            return
        np.abs(gap, out=gap)
        wrong = (gap > self._tolerances()).any(1)
        found = np.flatnonzero(wrong)
        if not len(found):
            return
        if self.first is None:
            row, column = start + int(found[0]), int(gap[found[0]].argmax())
            here = float(self.observations[row + 1, column])
            self.first = row, column, float(gap[found[0], column]), here
        self.count += len(found)
        room = _MAX_LISTED - len(self.rows)
        self.rows += [start + int(row) for row in found[:room]]

    def describe(self) -> str:
        """Where and how many; only after a break."""
        row, column, gap, value = self.first
        inside = int((~self.is_end).sum())
        listed = ", ".join(map(str, self.rows))
        if self.count > len(self.rows):
            listed += f" and {self.count - len(self.rows)} more"
        return (
            f"'next_observations' is not the next row's 'observations' in {self.count} "
            f"of {inside} steps inside episodes: rows {listed} (row {row}, column "
            f"{column}: {gap:.3g} away from {value:.3g})"
        )

    def _tolerances(self) -> np.ndarray:
        """Largest difference `[O]` that is no break."""
        if self._tolerance is None:
            every = max(1, len(self.observations) // _SAMPLE)
            some = self.observations[::every].astype(np.float64)
            self._tolerance = _OF_DEVIATION * some.std(0)
            self._tolerance += _OF_SIZE * np.abs(some).mean(0)
        return self._tolerance
