"""The paper's tables with our numbers beside its own, from a sweep's rows.

published.csv beside this file has what the paper prints. Ours is the mean over all
layouts, thresholds and training seeds of a cell, as the paper's is. Where nothing was
run the table says so.
"""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sas_jax.errors import UserError
from sas_jax.files.results import EpisodeResult
from sas_jax.report.tables import Table, interval_text
from sas_jax.stats.intervals import METRICS, layouts_of, mean_interval

NOT_RUN = "not run"
# The paper's name of a method -> our method and variant; None: not implemented here.
METHODS: dict[str, tuple[str, str] | None] = {
    "DT": ("dt", "none"),
    "DT+rand": ("dt", "rand"),
    "DT+maxmax": ("dt", "maxmax"),
    "DT+SAS": ("dt", "sas"),
    "CDT": ("cdt", "none"),
    "CDT+SAS": ("cdt", "sas"),
    "BC-All": ("bc", "none"),
    "BC-Safe": ("bc_safe", "none"),
    "BCQ-Lag": ("bcq_lag", "none"),
    "BEAR-Lag": ("bear_lag", "none"),
    "CPQ": ("cpq", "none"),
    "COptiDICE": ("coptidice", "none"),
    "CQL": ("cql", "none"),
    "SAC-N": ("sac_n", "none"),
    "DCRL": None,
    "APE-V": None,
}
TITLES = {
    "1": "Table 1: variants of DT",
    "2": "Table 2: Safety-Gymnasium",
    "3": "Table 3: MuJoCo",
    "6": "Table 6: Circle and Bullet tasks",
    "7": "Table 7: spread over training seeds",
    "8": "Table 8: D4RL",
}
_SHOWN = {
    "normalized_return": "return",
    "normalized_cost": "cost",
    "failed": "failure rate",
}
_NOTES = (
    "Returns and costs are normalised as in DSRL (D4RL's returns by 100). Ours: mean "
    "over layouts, thresholds and training seeds; [low, high]: 95% bootstrap over "
    "layouts. The paper's data and simulator differ from those of our rows, whatever "
    "the sweep says: columns beside each other are no test of one against the other.",
)


class Published(NamedTuple):
    """A number of the paper. sd: over training seeds, NaN where none is printed."""

    task: str
    method: str
    metric: str
    value: float
    sd: float


def published(number: str) -> list[Published]:
    """What the paper prints in one of its tables, in its order.

    Raises:
      UserError: a table that has no numbers of methods.
    """
    if number not in TITLES:
        raise UserError(f"table {number!r}: expected one of {', '.join(TITLES)}")
    with open(Path(__file__).with_name("published.csv"), encoding="utf-8") as file:
        return [
            Published(
                line["task"],
                line["method"],
                line["metric"],
                float(line["value"]),
                float(line["sd"] or math.nan),
            )
            for line in csv.DictReader(file)
            if line["table"] == number
        ]


def paper_table(
    number: str,
    rows: Sequence[EpisodeResult],
    *,
    tasks: Sequence[str] = (),
    names: dict[str, str] | None = None,
) -> Table:
    """One of the paper's tables, a line a task and method, ours beside the paper's.

    Args:
      number: of the table. rows: of a sweep, in their tasks' own worlds.
      tasks: the only ones to show; empty shows all.
      names: algorithm -> name of the sweep's method that stands for it.

    Raises:
      UserError: an unknown table, or a task that it does not have.
    """
    known = published(number)
    all_tasks = list(dict.fromkeys(x.task for x in known))
    for task in tasks:
        if task not in all_tasks:
            raise UserError(f"task {task!r}: table {number} has {', '.join(all_tasks)}")
    metrics = [m for m in _SHOWN if any(x.metric == m for x in known)]
    header = ["task, method"]
    for metric in metrics:
        header += [f"{_SHOWN[metric]}, paper", "ours"]
    header += ["layouts", "seeds"]
    values = {(x.task, x.method, x.metric): x for x in known}
    lines = []
    for task in tasks or all_tasks:
        for method in dict.fromkeys(x.method for x in known if x.task == task):
            ours = rows_of(rows, task, method, names or {})
            line = [f"{task}, {method}"]
            for metric in metrics:
                theirs = values.get((task, method, metric))
                line += [_theirs(theirs), _ours(number, method, metric, ours)]
            line += [
                str(len({row.episode_seed for row in ours})),
                str(len({row.train_seed for row in ours})),
            ]
            lines.append(tuple(line))
    return Table(TITLES[number], tuple(header), tuple(lines), _NOTES)


def rows_of(
    rows: Sequence[EpisodeResult], task: str, method: str, names: dict[str, str]
) -> list[EpisodeResult]:
    """Our rows of one of the paper's methods; D4RL's sets are methods of their own.

    A row of the data set ``hopper-expert`` is one of the task Hopper whose method has
    the set's name behind it, such as ``dt-hopper-expert``.
    """
    if METHODS.get(method) is None:
        return []
    algo, variant = METHODS[method]  # type: ignore[misc]
    algo = names.get(algo, algo)
    body = task.partition("-")[0].capitalize() if "-" in task else task
    algo = f"{algo}-{task}" if "-" in task else algo
    return [
        row
        for row in rows
        if (row.task, row.algo, row.variant, row.shift) == (body, algo, variant, "")
    ]


def _theirs(found: Published | None) -> str:
    if found is None:
        return "-"
    spread = "" if math.isnan(found.sd) else f" ± {found.sd:g}"
    return f"{found.value:g}{spread}"


def _ours(number: str, method: str, metric: str, rows: Sequence[EpisodeResult]) -> str:
    """Our number in text: an interval, or the spread over training seeds."""
    if METHODS.get(method) is None:
        return "not here"
    if not rows:
        return NOT_RUN
    get = METRICS[metric]
    scale = 100.0 if number in "38" and metric == "normalized_return" else 1.0
    values = np.array([scale * get(row) for row in rows])
    if number != "7":
        return interval_text(mean_interval(values, clusters=layouts_of(rows)), metric)
    seeds = np.array([row.train_seed for row in rows])
    means = [values[seeds == seed].mean() for seed in sorted(set(seeds))]
    if len(means) < 2:
        return f"{means[0]:.2f} (one seed)"
    return f"{np.mean(means):.2f} ± {np.std(means, ddof=1):.2f}"
