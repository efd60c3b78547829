"""The matched-return baseline: what the plain policy costs when it returns as much.

Whoever returns less also costs less, as a rule. So a variant's cost is held against the
plain policy's at the return target with which it returns the same: a point on the curve
of (mean return, mean cost) over the targets of `experiments.follow_tokens`.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from sas_jax.errors import UserError
from sas_jax.files.results import EpisodeResult, variants_of
from sas_jax.report.tables import INTERVAL_NOTE, Table, interval_text
from sas_jax.report.tokens import TokenResult
from sas_jax.stats.intervals import LEVEL, NUM_RESAMPLES, Interval

_HEADER = (
    "variant",
    "cost limit",
    "return",
    "cost",
    "plain policy's cost",
    "difference",
    "within its curve",
)


@dataclasses.dataclass(frozen=True)
class MatchedCost:
    """A variant against the plain policy at the same mean return.

    cost_limit: threshold the variant acted under, NaN where none matters.
    episode_return, cost: the variant's means. baseline: the plain policy's cost at that
    return. difference: cost less baseline, with its interval over layouts.
    inside: share of resamples in which the return lies within the curve; beyond its
    ends the end's cost stands in.
    """

    variant: str
    cost_limit: float
    episode_return: float
    cost: float
    baseline: float
    difference: Interval
    inside: float


def curve_of(tokens: Sequence[TokenResult], cost_limit: float | None):
    """Layouts `[E]`, returns and costs `[K, E]` of the plain policy's K targets.

    cost_limit: the policy's own cost token, None for a policy without one.

    Raises:
      UserError: fewer than two targets with a layout in common.
    """
    table: dict[float, dict[int, tuple[float, float]]] = {}
    for row in tokens:
        target, limit = row.tokens
        if limit == cost_limit:
            table.setdefault(target, {})[row.episode_seed] = (
                row.episode_return,
                row.cost,
            )
    layouts = sorted(
        set.intersection(*(set(t) for t in table.values())) if table else ()
    )
    if len(table) < 2 or not layouts:
        named = "no limit" if cost_limit is None else f"limit {cost_limit:g}"
        raise UserError(
            f"tokens: {len(table)} return target(s) at {named} with layouts in common; "
            "expected two or more (experiments.follow_tokens --target_returns=...)"
        )
    both = np.array([[table[t][seed] for seed in layouts] for t in sorted(table)])
    return layouts, both[..., 0], both[..., 1]


def means_of(tokens: Sequence[TokenResult]) -> tuple[np.ndarray, np.ndarray]:
    """Mean costs and returns `[K]` of every pair of tokens, by increasing return."""
    table: dict[tuple, list[tuple[float, float]]] = {}
    for row in tokens:
        table.setdefault(row.tokens, []).append((row.cost, row.episode_return))
    means = np.array([np.mean(values, axis=0) for values in table.values()])
    costs, returns = means[np.argsort(means[:, 1])].T
    return costs, returns


def matched_cost(
    rows: Sequence[EpisodeResult],
    tokens: Sequence[TokenResult],
    *,
    resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> MatchedCost:
    """One variant's episodes at one threshold against the plain policy's curve.

    rows, tokens: of the same layouts, at least in part; the others are left out.
    The interval resamples layouts, for the variant and all targets together.

    Raises:
      UserError: no layout in common, or no curve; see `curve_of`.
    """
    limits = {row.tokens[1] for row in tokens}
    own = None if None in limits else rows[0].cost_limit
    layouts, returns, costs = curve_of(tokens, own)
    mine = {row.episode_seed: (row.episode_return, row.cost) for row in rows}
    keep = [i for i, layout in enumerate(layouts) if layout in mine]
    if not keep:
        raise UserError(
            f"variant {rows[0].variant!r}: no layout in common with the tokens' table; "
            "expected the same --first_seed"
        )
    returns, costs = returns[:, keep], costs[:, keep]
    values = np.array([mine[layouts[i]] for i in keep])
    count = len(keep)
    draws = np.random.default_rng(seed).multinomial(
        count, np.full(count, 1 / count), resamples
    )
    weights = np.concatenate([np.full((1, count), 1 / count), draws / count])
    gain, cost = weights @ values[:, 0], weights @ values[:, 1]
    curve_return, curve_cost = weights @ returns.T, weights @ costs.T
    order = np.argsort(curve_return, axis=1)
    curve_return = np.take_along_axis(curve_return, order, 1)
    curve_cost = np.take_along_axis(curve_cost, order, 1)
    baseline = np.array(
        [np.interp(*row) for row in zip(gain, curve_return, curve_cost, strict=True)]
    )
    inside = (gain >= curve_return[:, 0]) & (gain <= curve_return[:, -1])
    difference = cost - baseline
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(difference[1:], [tail, 100 - tail])
    if count < 2:
        low = high = math.nan
    return MatchedCost(
        variant=rows[0].variant,
        cost_limit=rows[0].cost_limit,
        episode_return=float(gain[0]),
        cost=float(cost[0]),
        baseline=float(baseline[0]),
        difference=Interval(
            float(difference[0]), float(low), float(high), count, count
        ),
        inside=float(inside[1:].mean()),
    )


def matched_table(
    rows: Sequence[EpisodeResult], tokens: Sequence[TokenResult], *, title: str = ""
) -> Table:
    """Every variant but `none`, at every threshold at which it acts differently."""
    lines = []
    for variant in variants_of(rows):
        if variant == "none":
            continue
        seen = set()
        for limit in sorted({row.cost_limit for row in rows}):
            mine = [r for r in rows if r.variant == variant and r.cost_limit == limit]
            played = frozenset((r.episode_seed, r.episode_return, r.cost) for r in mine)
            if not mine or played in seen:
                continue
            seen.add(played)
            found = matched_cost(mine, tokens)
            lines.append(
                (
                    variant,
                    f"{limit:g}",
                    f"{found.episode_return:.2f}",
                    f"{found.cost:.2f}",
                    f"{found.baseline:.2f}",
                    interval_text(found.difference, "cost", signed=True),
                    f"{found.inside:.0%}",
                )
            )
    return Table(
        title or "Cost against the plain policy's at the same return",
        _HEADER,
        tuple(lines),
        (INTERVAL_NOTE, "The plain policy's curve runs over its return targets."),
    )
