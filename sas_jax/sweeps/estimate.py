"""How long a plan takes, from rates that were measured.

A table's own cells are the best measure: what their stages took stands beside the
rows. Where a table knows nothing yet, rates of one machine stand in.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sas_jax.envs.tasks import get_task
from sas_jax.evaluation.work import work_of
from sas_jax.files.results import EpisodeResult
from sas_jax.sweeps.cells import RECORD, Cell


class Rates:
    """Seconds a unit: an episode, a training step, a layout under all variants."""

    def __init__(self, records: Iterable[Mapping[str, Any]]):
        """records: of a `SweepTable`."""
        self._known: dict[tuple, list[float]] = {}
        for record in records:
            task, name, _ = record["place"]
            algo = record["description"]["experiment"]["algo"]
            for stage, found in record.get("measured", {}).items():
                if found["count"] > 0:
                    note = found.get("note", "")
                    # From the nearest kin to the farthest.
                    for kin in _kin(task, name, algo, stage, note):
                        self._known.setdefault(kin, []).append(
                            found["seconds"] / found["count"]
                        )

    def of(self, cell: Cell, stage: str, note: str = "") -> float | None:
        """Seconds a unit of a stage, None where nothing like it was measured."""
        for kin in _kin(cell.task, cell.name, cell.config.algo, stage, note):
            if kin in self._known:
                return sum(self._known[kin]) / len(self._known[kin])
        return None


def _kin(task: str, name: str, algo: str, stage: str, note: str) -> list[tuple]:
    """Under which names a rate is kept, the most alike first."""
    if stage == "collect":
        return [(stage, task), (stage,)]
    return [(stage, name, task, note), (stage, name, note), (stage, algo, note)]


class Estimate(NamedTuple):
    """Work that a cell has before it. seconds: by stage; None where nothing like it was
    measured. rows: that are missing.
    """

    seconds: dict[str, float | None]
    rows: int

    @property
    def total(self) -> float | None:
        """Seconds of all stages; None where one is not known."""
        known = [x for x in self.seconds.values() if x is not None]
        return sum(known) if len(known) == len(self.seconds) else None


def estimate(
    cell: Cell,
    rates: Rates,
    rows: Iterable[EpisodeResult],
    *,
    has_data: bool,
    has_model: bool,
) -> Estimate:
    """What is left of a cell.

    rows: that are there. has_data, has_model: whether those stages are done.
    """
    done, seconds = list(rows), {}
    if not has_data and not has_model and cell.data.source == RECORD:
        seconds["collect"] = _times(rates.of(cell, "collect"), cell.data.episodes)
    if not has_model:
        steps = cell.config.train.num_steps
        seconds["train"] = _times(rates.of(cell, "train"), steps)
    layouts = 0
    for config in cell.evaluations():
        for _, seeds in work_of(cell.acts_with, config, done):
            layouts += len(seeds)
    if layouts:
        note = ",".join(cell.evaluation.variants)
        seconds["evaluate"] = _times(rates.of(cell, "evaluate", note), layouts)
    return Estimate(seconds, len(cell.keys()) - len(done))


def _times(rate: float | None, count: int) -> float | None:
    return None if rate is None else rate * count


def steps_of(cell: Cell) -> int:
    """Environment steps of all that a cell evaluates."""
    steps = get_task(cell.task).episode_steps
    return sum(
        part.num_groups * len(seeds) * steps
        for config in cell.evaluations()
        for part, seeds in work_of(cell.acts_with, config)
    )
