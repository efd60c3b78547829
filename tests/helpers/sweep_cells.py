"""Cells and rows for tests of sweeps: nothing is trained."""

import dataclasses
from pathlib import Path

from sas_jax.evaluation.work import keys_of
from sas_jax.files.results import EpisodeResult, write_results
from sas_jax.sweeps import run_cell, status
from sas_jax.sweeps.cells import Cell
from sas_jax.sweeps.engines import Ended
from sas_jax.sweeps.plan import from_values
from sas_jax.sweeps.table import CELL, CHECKPOINT


def cells(**values) -> list[Cell]:
    """Two tasks, BC, two training seeds, unless told otherwise."""
    plan = {
        "tasks": ["PointGoal1", "CarGoal1"],
        "methods": [{"algo": "bc"}],
        "seeds": [0, 1],
        "layouts": 2,
        "cost_limits": [20],
    }
    return from_values(plan | values).cells()


def rows_of(cell: Cell, name: str, checkpoint: str = "aa", cost: float = 1.0):
    """All rows that a cell asks for, as its process would leave them."""
    rows = []
    for config in cell.evaluations():
        for variant, limit, seed, train_seed, shift in keys_of(cell.config, config):
            rows.append(
                EpisodeResult(
                    task=cell.task,
                    algo=cell.name,
                    variant=variant,
                    cost_limit=limit,
                    train_seed=train_seed,
                    episode_seed=seed,
                    episode_return=float(seed % 10),
                    cost=cost,
                    length=10,
                    failed=cost > 0,
                    normalized_return=0.5,
                    normalized_cost=cost / limit,
                    shift=shift,
                    extra={CELL: name, CHECKPOINT: checkpoint},
                )
            )
    return rows


@dataclasses.dataclass
class FakeEngine:
    """Writes all rows of every job at once. failing: places of cells that fail.

    asked: the jobs of the last call.
    """

    failing: tuple = ()
    asked: list = dataclasses.field(default_factory=list)

    def __call__(self, jobs, resources):
        self.asked = list(jobs)
        for index, job in enumerate(jobs):
            yield None
            folder = Path(job.folder)
            folder.mkdir(parents=True, exist_ok=True)
            if job.cell.place in self.failing:
                yield Ended(index, "no luck")
                continue
            rows = rows_of(job.cell, job.name)
            write_results(folder / run_cell.ROWS, rows)
            took = {"seconds": 10.0, "count": job.cell.evaluation.num_episodes}
            took["note"] = ",".join(job.cell.evaluation.variants)
            facts = {"measured": {"evaluate": took}, "checkpoint": "aa"}
            status.write_outcome(folder, facts | {"error": ""})
            yield Ended(index, "")
