"""How long a plan takes, from rates that were measured.

A table's own cells are the best measure: what their stages took stands beside the
rows. Where a table knows nothing yet, rates of one machine stand in (`built_in`).
"""

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple

from sas_jax import config as config_lib
from sas_jax import learners
from sas_jax.alignment.variants import VARIANTS
from sas_jax.envs.tasks import get_task
from sas_jax.evaluation.work import work_of
from sas_jax.files.results import EpisodeResult
from sas_jax.sweeps.cells import RECORD, Cell

# What of a model's settings says how large it is.
_SIZES = ("hidden", "width", "depth", "heads", "context", "critics", "members")
_SIZES += ("candidates", "draws", "blocks")


class BuiltIn(NamedTuple):
    """machine: in words. rates: kin (see `Rates`) -> seconds a unit."""

    machine: str
    rates: Mapping[tuple[str, ...], float]


@functools.cache
def built_in() -> BuiltIn:
    """The rates that come with the package (experiments.benchmarks.sweep_rates)."""
    text = resources.files("sas_jax.sweeps").joinpath("rates.json").read_text()
    known = json.loads(text)
    return BuiltIn(known["machine"], {tuple(k): v for k, v in known["rates"]})


class Rates:
    """Seconds a unit: an episode that is recorded, a training step, an episode that is
    evaluated. Known by kin, from the most alike to the least.

    borrowed: whether a rate was another machine's.
    """

    def __init__(
        self, records: Iterable[Mapping[str, Any]], others: BuiltIn | None = None
    ):
        """records: of a `SweepTable`. others: where those have nothing alike."""
        self._known: dict[tuple, list[float]] = {}
        self._others, self.borrowed = others, False
        for record in records:
            for kin, rate in rates_of(record):
                self._known.setdefault(kin, []).append(rate)

    @property
    def machine(self) -> str:
        """Whose rates are borrowed."""
        return self._others.machine if self._others else ""

    def of(self, cell: Cell, stage: str, note: str = "") -> float | None:
        """Seconds a unit of a stage, None where nothing like it was measured."""
        size = size_of(json.loads(json.dumps(config_lib.to_dict(cell.config))))
        kin = _kin(cell.task, cell.name, cell.config.algo, size, stage, note)
        for each in kin:
            if each in self._known:
                return sum(self._known[each]) / len(self._known[each])
        for each in kin:
            if self._others and each in self._others.rates:
                self.borrowed = True
                return self._others.rates[each]
        return None


def rates_of(record: Mapping[str, Any]) -> list[tuple[tuple[str, ...], float]]:
    """Kin and rate of all that a cell has measured."""
    task, name, _ = record["place"]
    experiment = record["description"]["experiment"]
    size, found = size_of(experiment), []
    for stage, measured in record.get("measured", {}).items():
        note, count = measured.get("note", ""), measured["count"]
        if stage == "evaluate":
            # Tables of before have layouts alone.
            count = measured.get("episodes", count * len(note.split(",")))
        if count > 0:
            rate = measured["seconds"] / count
            for kin in _kin(task, name, experiment["algo"], size, stage, note):
                found.append((kin, rate))
    return found


def counted(
    record: Mapping[str, Any], rows: Sequence[EpisodeResult]
) -> Mapping[str, Any]:
    """A cell's record with the number of episodes that its evaluation has run.

    rows: of the cell; tables of before tell it by them.
    """
    found = record.get("measured", {}).get("evaluate")
    if not found or "episodes" in found:
        return record
    algorithm = learners.get(record["description"]["experiment"]["algo"])
    own = algorithm.sees_cost_limit or algorithm.by_threshold

    def seen(row: EpisodeResult) -> float | None:
        """The threshold that an episode ran under; None where it is all the same."""
        variant = VARIANTS.get(row.variant)
        return row.cost_limit if own or (variant and variant.sees_limit) else None

    runs = {(row.variant, row.episode_seed, seen(row)) for row in rows}
    layouts = len({row.episode_seed for row in rows}) or 1
    # Layouts were counted once for variants that see thresholds and once for others;
    # rows may be of more layouts than were timed.
    parts = len({limit is None for _, _, limit in runs}) or 1
    episodes = round(len(runs) / layouts * found["count"] / parts)
    measured = record["measured"] | {"evaluate": found | {"episodes": episodes}}
    return {**record, "measured": measured}


def size_of(experiment: Mapping[str, Any]) -> str:
    """What says how much work a training step is, of an experiment's plain values."""

    def sizes(values, prefix=""):
        for name, value in sorted(values.items()):
            if isinstance(value, Mapping):
                yield from sizes(value, f"{prefix}{name}.")
            elif any(word in name for word in _SIZES):
                yield f"{prefix}{name}={value}"

    train = experiment["train"]
    lanes = train["num_seeds"] * max(len(train["cost_limits"]), 1)
    rows = f"{train['batch_rows']}x{train['row_length']}x{lanes}"
    return " ".join([rows, *sizes(experiment["model"])])


def _kin(
    task: str, name: str, algo: str, size: str, stage: str, note: str
) -> list[tuple[str, ...]]:
    """Under which names a rate is kept, the most alike first."""
    if stage == "collect":
        return [(stage, task), (stage,)]
    named = [(stage, name, task, size, note), (stage, name, size, note)]
    alike = [(stage, algo, size, note)]
    # Episodes of other variants, which take longer or not as long.
    return named + alike + ([(stage, algo, size)] if stage == "evaluate" else [])


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
    episodes = 0
    for config in cell.evaluations():
        for part, seeds in work_of(cell.acts_with, config, done):
            episodes += part.num_groups * len(seeds)
    if episodes:
        note = ",".join(cell.evaluation.variants)
        seconds["evaluate"] = _times(rates.of(cell, "evaluate", note), episodes)
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
