"""How bad it gets: the tail of episode costs, and how many layouts tell how much."""

import math
import statistics
from collections.abc import Sequence

import numpy as np

from sas_jax.errors import UserError
from sas_jax.stats.intervals import LEVEL, NUM_RESAMPLES, Interval

_POWER = 0.8
_CHUNK = 500  # resamples at a time


def cvar(costs, share: float, weights=None) -> np.ndarray:
    """Mean of the worst `share` of episodes (conditional value at risk; Rockafellar and
    Uryasev 2002). An episode at the edge counts in part, so that the shares add up.

    costs: `[R]`. share: in (0, 1]. weights: `[..., R]` how often each counts; None
    counts every episode once. Returns `[...]`.

    Raises:
      UserError: no costs, or a share out of range.
    """
    costs = np.asarray(costs, np.float64)
    if costs.ndim != 1 or not costs.size or not 0 < share <= 1:
        raise UserError(
            f"cvar of {costs.shape} costs at {share}; expected [R] and a share in (0, "
            "1]"
        )
    order = np.argsort(-costs, kind="stable")
    weights = np.ones(len(costs)) if weights is None else np.asarray(weights)
    weights = weights[..., order].astype(np.float64)
    room = share * weights.sum(axis=-1, keepdims=True)
    before = np.cumsum(weights, axis=-1) - weights
    taken = np.clip(room - before, 0.0, weights)
    # By deviations, so that constant costs come out as themselves.
    least = costs.min()
    return least + (taken * (costs[order] - least)).sum(axis=-1) / room[..., 0]


def cvar_interval(
    costs,
    share: float,
    clusters: Sequence,
    *,
    resamples: int = NUM_RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """`cvar` with a percentile bootstrap interval, whole clusters drawn.

    costs: `[R]`. clusters: `[R]` labels of what is drawn together, layouts.
    """
    costs = np.asarray(costs, np.float64)
    rank = {label: i for i, label in enumerate(sorted(set(clusters)))}
    index = np.array([rank[label] for label in clusters])
    point, count = float(cvar(costs, share)), len(rank)
    if count < 2:
        return Interval(point, math.nan, math.nan, len(costs), count)
    rng, values = np.random.default_rng(seed), []
    for first in range(0, resamples, _CHUNK):
        size = min(_CHUNK, resamples - first)
        times = rng.multinomial(count, np.full(count, 1 / count), size=size)
        values.append(cvar(costs, share, times[:, index]))
    low, high = np.quantile(np.concatenate(values), [(1 - level) / 2, (1 + level) / 2])
    return Interval(point, float(low), float(high), len(costs), count)


def layouts_to_see(effect: float, deviation: float, power: float = _POWER) -> int:
    """Layouts on which a paired difference is told from 0 with so much power.

    The two-sided test of a normal mean at 1 - `LEVEL`. effect: the true difference, not
    0. deviation: standard deviation of a layout's difference. power: probability.
    """
    normal = statistics.NormalDist()
    reach = normal.inv_cdf((1 + LEVEL) / 2) + normal.inv_cdf(power)
    return max(math.ceil((reach * deviation / abs(effect)) ** 2), 2)
