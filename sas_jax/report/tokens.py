"""How far achieved return and cost follow the tokens that were asked for: rows, sums.

Episodes on one layout are paired: intervals resample layouts (`stats`).
"""

import csv
import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path

from sas_jax.errors import UserError
from sas_jax.files.atomic import replacing
from sas_jax.files.places import as_path, fetched
from sas_jax.report.tables import Table
from sas_jax.stats.intervals import Interval, mean_interval
from sas_jax.stats.ranks import spearman

COLUMNS = ("target_return", "cost_limit", "episode_seed", "return", "cost", "run")
# The thresholds that are compared where the grid has them.
_PAIR = (20.0, 80.0)


@dataclasses.dataclass(frozen=True)
class TokenResult:
    """One episode. target_return, cost_limit: its tokens; the limit is NaN for policies
    without cost tokens. run: names the policy and its draws.
    """

    target_return: float
    cost_limit: float
    episode_seed: int
    episode_return: float
    cost: float
    run: str

    @property
    def tokens(self) -> tuple[float, float | None]:
        """What was asked for; None for no limit, so that equal tokens compare equal."""
        limit = None if math.isnan(self.cost_limit) else self.cost_limit
        return self.target_return, limit


def write_tokens(path: str | os.PathLike, rows: Sequence[TokenResult]) -> Path:
    """Writes `rows` as CSV, atomically; floats round-trip exactly."""
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            target, limit = row.tokens
            writer.writerow(
                [
                    repr(float(target)),
                    "" if limit is None else repr(float(limit)),
                    row.episode_seed,
                    repr(float(row.episode_return)),
                    repr(float(row.cost)),
                    row.run,
                ]
            )
    return as_path(path)


def read_tokens(path: str | os.PathLike) -> list[TokenResult]:
    """Reads what `write_tokens` wrote. UserError, with the line, for anything else."""
    try:
        with fetched(path) as copy, open(copy, newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"cannot read {str(path)!r} ({error}); expected a CSV written by "
            "experiments.follow_tokens"
        ) from error
    if not lines or tuple(lines[0]) != COLUMNS:
        raise UserError(f"{str(path)!r}: expected the columns {', '.join(COLUMNS)}")
    rows = []
    for number, line in enumerate(lines[1:], 2):
        try:
            target, limit, seed, value, cost, run = line
            rows.append(
                TokenResult(
                    float(target),
                    float(limit) if limit else math.nan,
                    int(seed),
                    float(value),
                    float(cost),
                    run,
                )
            )
        except ValueError as error:
            raise UserError(f"{str(path)!r}, line {number}: {error}") from error
    return rows


@dataclasses.dataclass(frozen=True)
class Following:
    """How a policy follows its tokens.

    cells: tokens -> intervals of achieved return and cost, by tokens.
    return_correlation, cost_correlation: Spearman of target and achieved return, and
      of limit and achieved cost, over all episodes; NaN where nothing varies.
    return_within, cost_within: the same within each layout, mean over the layouts on
      which it is defined; None where it is on none.
    cost_difference: cost at `limits[0]` minus cost at `limits[1]` on the same layout
      and target; None with one limit.
    """

    cells: dict[tuple[float, float | None], tuple[Interval, Interval]]
    return_correlation: float
    cost_correlation: float
    return_within: Interval | None
    cost_within: Interval | None
    cost_difference: Interval | None
    limits: tuple[float, float] | None


def summarise(rows: Sequence[TokenResult]) -> Following:
    """Sums up the episodes of one policy.

    Raises:
      UserError: no rows, or limits that were not run on the same layouts and targets.
    """
    if not rows:
        raise UserError("no episodes to sum up; expected at least one row")
    cells = {}
    for tokens in sorted({r.tokens for r in rows}, key=lambda t: (t[0], t[1] or 0.0)):
        own = [r for r in rows if r.tokens == tokens]
        layouts = [r.episode_seed for r in own]
        cells[tokens] = (
            mean_interval([r.episode_return for r in own], clusters=layouts),
            mean_interval([r.cost for r in own], clusters=layouts),
        )
    limits = sorted({t[1] for t in cells if t[1] is not None})
    pair = difference = None
    if len(limits) > 1:
        pair = _PAIR if set(_PAIR) <= set(limits) else (limits[0], limits[-1])
        difference = _paired_cost(rows, *pair)
    by_return = [(r.target_return, r.episode_return) for r in rows]
    by_cost = [(r.cost_limit, r.cost) for r in rows] if limits else [(0.0, 0.0)]
    return Following(
        cells=cells,
        return_correlation=spearman(*zip(*by_return, strict=True)),
        cost_correlation=spearman(*zip(*by_cost, strict=True)),
        return_within=_within(rows, by_return),
        cost_within=_within(rows, by_cost) if limits else None,
        cost_difference=difference,
        limits=pair,
    )


def _paired_cost(rows, low: float, high: float) -> Interval:
    """Cost at `low` minus cost at `high` over matched (layout, target)."""
    costs = {
        limit: {
            (r.episode_seed, r.target_return): r.cost
            for r in rows
            if r.cost_limit == limit
        }
        for limit in (low, high)
    }
    keys = sorted(costs[low])
    if keys != sorted(costs[high]):
        raise UserError(
            f"cost limits {low:g} and {high:g} were not run on the same layouts and "
            "targets; expected a finished grid"
        )
    differences = [costs[low][key] - costs[high][key] for key in keys]
    return mean_interval(differences, clusters=[seed for seed, _ in keys])


def _within(rows, pairs) -> Interval | None:
    """Mean over layouts of Spearman's correlation within each."""
    by_layout: dict[int, list] = {}
    for row, pair in zip(rows, pairs, strict=True):
        by_layout.setdefault(row.episode_seed, []).append(pair)
    values = [spearman(*zip(*own, strict=True)) for own in by_layout.values()]
    values = [value for value in values if math.isfinite(value)]
    return mean_interval(values) if values else None


def token_table(rows: Sequence[TokenResult], *, title: str = "") -> Table:
    """The summary as a table, one line per pair of tokens, and what it says."""
    found = summarise(rows)

    def text(x: Interval | None) -> str:
        if x is None:
            return "-"
        if math.isnan(x.low):
            return f"{x.mean:.2f}"
        return f"{x.mean:.2f} [{x.low:.2f}, {x.high:.2f}]"

    notes = [
        "Spearman of target and achieved return: "
        f"{found.return_correlation:.2f} over episodes, "
        f"{text(found.return_within)} within layouts"
    ]
    if found.cost_within is not None or math.isfinite(found.cost_correlation):
        notes.append(
            "Spearman of limit and achieved cost: "
            f"{found.cost_correlation:.2f} over episodes, "
            f"{text(found.cost_within)} within layouts"
        )
    if found.cost_difference is not None:
        low, high = found.limits
        notes.append(
            f"cost at limit {low:g} minus cost at limit {high:g}, paired: "
            f"{text(found.cost_difference)}"
        )
    notes.append("[low, high]: 95% bootstrap intervals over layouts.")
    return Table(
        title=title or "Achieved against asked",
        header=("target return", "cost limit", "return", "cost", "episodes"),
        rows=tuple(
            (
                f"{target:g}",
                "-" if limit is None else f"{limit:g}",
                text(value),
                text(cost),
                str(cost.num_values),
            )
            for (target, limit), (value, cost) in found.cells.items()
        ),
        notes=tuple(notes),
    )
