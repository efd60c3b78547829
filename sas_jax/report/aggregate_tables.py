"""Tables over tasks, and of the tail of costs: what a sweep's page ends with."""

from collections.abc import Sequence

import numpy as np

from sas_jax.files.results import EpisodeResult, variants_of
from sas_jax.report.tables import NAMES, Table, interval_text
from sas_jax.stats.aggregate import improvement_interval, iqm_interval
from sas_jax.stats.intervals import (
    METRICS,
    layouts_of,
    matched_rows,
    mean_interval,
    metric_interval,
)
from sas_jax.stats.tail import cvar_interval, layouts_to_see

TAILS = (0.1, 0.05)
# A difference of mean episode cost that one would not like to miss.
_EFFECT = 5.0
# (task and world) -> `[S, E]`
Scores = dict[str, np.ndarray]


def scores_of(rows: Sequence[EpisodeResult], metric: str) -> Scores:
    """A metric by task: `[S, E]`, of the layouts that all of its training seeds have.

    rows: of one method and variant, at one threshold.
    """
    get, found = METRICS[metric], {}
    for task in sorted({_world(row) for row in rows}):
        values: dict[int, dict[int, float]] = {}
        for row in rows:
            if _world(row) == task:
                values.setdefault(row.train_seed, {})[row.episode_seed] = get(row)
        shared = sorted(set.intersection(*(set(v) for v in values.values())))
        if shared:
            table = [[values[s][e] for e in shared] for s in sorted(values)]
            found[task] = np.array(table)
    return found


def _world(row: EpisodeResult) -> str:
    return f"{row.task} [{row.shift}]" if row.shift else row.task


def groups_of_methods(
    rows: Sequence[EpisodeResult],
) -> list[tuple[str, float, str, list[EpisodeResult]]]:
    """(method, threshold, variant, its rows), in the order of the tables.

    Rows of several tasks stay together.
    """
    found = []
    for algo in sorted({row.algo for row in rows}):
        mine = [row for row in rows if row.algo == algo]
        for limit in sorted({row.cost_limit for row in mine}):
            here = [row for row in mine if row.cost_limit == limit]
            for variant in variants_of(here):
                chosen = [row for row in here if row.variant == variant]
                found.append((algo, limit, variant, chosen))
    return found


def aggregate_table(rows: Sequence[EpisodeResult], reference: str = "none") -> Table:
    """Over tasks: interquartile means, and how likely a run beats the reference's.

    rows: of several tasks. reference: a variant of the same method.
    """
    header = ("method, variant", "threshold", "tasks", "runs", "IQM norm. return")
    header += ("IQM norm. cost", f"P(return > {reference})", f"P(cost < {reference})")
    lines = []
    groups = groups_of_methods(rows)
    by_name = {(a, limit, v): chosen for a, limit, v, chosen in groups}
    for algo, limit, variant, chosen in groups:
        returns, costs = (
            scores_of(chosen, name) for name in ("normalized_return", "normalized_cost")
        )
        means = [iqm_interval(list(x.values())) for x in (returns, costs)]
        other = by_name.get((algo, limit, reference), [])
        better = ["", ""]
        if other and variant != reference:
            better = [
                _better(chosen, other, metric, sign)
                for metric, sign in (("return", 1.0), ("cost", -1.0))
            ]
        count = sum(len(x) for x in costs.values())
        shown = (interval_text(m, "normalized_cost") for m in means)
        name = f"{algo}, {variant}"
        lines.append((name, f"{limit:g}", str(len(costs)), str(count), *shown, *better))
    notes = (
        "IQM: interquartile mean over runs (a training seed on a task, mean over its "
        "layouts). P: probability that a run beats one of the reference on the same "
        "task, mean over the tasks that both have. [low, high]: 95% bootstrap, "
        "training seeds and layouts drawn within tasks; with one seed a task it says "
        "nothing of other seeds.",
    )
    return Table("All tasks", header, tuple(lines), notes)


def _better(
    rows: Sequence[EpisodeResult],
    other: Sequence[EpisodeResult],
    metric: str,
    sign: float,
) -> str:
    """Probability of improvement in text, on the tasks and layouts that both have."""
    common = {(*_place(row),) for row in rows} & {(*_place(row),) for row in other}
    x, y = (
        scores_of([row for row in side if _place(row) in common], metric)
        for side in (rows, other)
    )
    tasks = [task for task in x if task in y]
    if not tasks:
        return ""
    found = improvement_interval(
        [sign * x[task] for task in tasks], [sign * y[task] for task in tasks]
    )
    return interval_text(found, "normalized_cost")


def _place(row: EpisodeResult) -> tuple:
    return row.task, row.shift, row.episode_seed


def tail_table(rows: Sequence[EpisodeResult]) -> Table:
    """By task: the tail of episode costs, and three ways to count what went wrong."""
    header = ("task, method, variant", "threshold", "episodes", "cost")
    header += tuple(f"CVaR {share:.0%}" for share in TAILS)
    header += ("costly steps", "above threshold", NAMES["failed"])
    lines = []
    for task in sorted({_world(row) for row in rows}):
        here = [row for row in rows if _world(row) == task]
        for algo, limit, variant, chosen in groups_of_methods(here):
            costs, clusters = [row.cost for row in chosen], layouts_of(chosen)
            steps = sum(row.length for row in chosen)
            tails = (cvar_interval(costs, share, clusters) for share in TAILS)
            above = [float(not row.within_limit) for row in chosen]
            shares = (
                mean_interval(above, clusters=clusters),
                metric_interval(chosen, "failed"),
            )
            lines.append(
                (
                    f"{task}, {algo}, {variant}",
                    f"{limit:g}",
                    str(len(chosen)),
                    interval_text(metric_interval(chosen, "cost"), "cost"),
                    *(interval_text(tail, "cost") for tail in tails),
                    f"{sum(costs) / max(steps, 1):.3f}",
                    *(interval_text(share, "failed") for share in shares),
                )
            )
    notes = (
        "CVaR 10%: mean cost of the worst tenth of the episodes. Costly steps: cost a "
        "step. Above threshold: share of episodes that cost more than it. Any cost: "
        "the paper's failure; on tasks whose only cost is a fall, an early end.",
    )
    return Table("The tail of costs", header, tuple(lines), notes)


def power_table(rows: Sequence[EpisodeResult], reference: str = "none") -> Table:
    """How many layouts would show a difference of cost, by task and variant."""
    header = ("task, method, variant", "threshold", "layouts", "sd of a layout's")
    header += (f"needed for {_EFFECT:g}",)
    lines = []
    for task in sorted({_world(row) for row in rows}):
        here = [row for row in rows if _world(row) == task]
        for algo, limit, variant, chosen in groups_of_methods(here):
            both = [r for r in here if r.algo == algo and r.cost_limit == limit]
            if variant == reference or reference not in variants_of(both):
                continue
            seeds = {r.key for r in chosen}
            seeds &= {r.key for r in both if r.variant == reference}
            shared = [r for r in both if r.key in seeds]
            ours, theirs = matched_rows(shared, variant, reference)
            layouts: dict[int, list[float]] = {}
            for a, b in zip(ours, theirs, strict=True):
                layouts.setdefault(a.episode_seed, []).append(a.cost - b.cost)
            means = [float(np.mean(found)) for found in layouts.values()]
            if len(means) < 2:
                continue
            spread = float(np.std(means, ddof=1))
            needed = str(layouts_to_see(_EFFECT, spread)) if spread else "-"
            name = f"{task}, {algo}, {variant}"
            lines.append((name, f"{limit:g}", str(len(means)), f"{spread:.1f}", needed))
    notes = (
        f"Needed for {_EFFECT:g}: layouts on which a true difference of {_EFFECT:g} of "
        "mean episode cost is told from 0 in four of five repetitions (two-sided 5 %).",
    )
    return Table(f"Power, minus {reference}", header, tuple(lines), notes)
