"""Which tokens to ask for: safe search over the two targets at deployment.

A policy's cost follows its target cost off the diagonal, but smoothly in both targets.
PLS (Wachi et al. 2025) therefore keeps the policy as it is and searches the pair
(return target, cost target) by few real episodes, staying where the cost is known to be
below the threshold kappa: a Gaussian process each for return and for cost,

    k(x, x') = exp(-|(x - x') / l|^2 / 2) + x . x',
    safe     = {x: mu_c(x) + beta s_c(x) <= kappa}
    next     = argmax over safe of mu_r(x) + beta s_r(x),

from the least targets on. While nothing is known to be safe, the pair with the least
upper bound of cost is asked. Beside PLS: a linear trend is part of the kernel, as more
is mostly answered by more, and few rounds tell how much; length scales are shares of
the box of targets (PLS: 50 or 100 of return and 5 of cost); the processes' means and
scales are those of what was seen, and the noise is the standard error of a round.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import linalg

from sas_jax.errors import UserError

# Length scale as a share of the box; standard deviations of the bounds.
_LENGTH, _BETA = 0.35, 2.0
# Before so many places are known their spread says little: the scale is at least this
# share of the mean, and of costs of the threshold. With 0.6 a corner of the box is not
# known to be safe from another that costs nothing, and a neighbour is.
_FEW, _LEAST_SCALE = 4, 0.6
# Of the threshold: a standard error of costs is no less, however equal a few are.
_LEAST_ERROR = 0.02


class Asked(NamedTuple):
    """A pair of targets, and mean and standard error of what came of it.

    targets: return and cost; NaN for a policy that sees no cost target.
    """

    targets: tuple[float, float]
    value: tuple[float, float]
    cost: tuple[float, float]


class Found(NamedTuple):
    """asked: in order. best: index of the pair to deploy, None if none is known to be
    safe. violations: of the asked pairs, those whose mean cost exceeded the threshold.
    """

    asked: tuple[Asked, ...]
    best: int | None
    violations: int


def posterior(
    known: np.ndarray,
    seen: np.ndarray,
    noise: np.ndarray,
    asked: np.ndarray,
    *,
    trend: float = _LENGTH**2,
    size: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation `[M]` of a Gaussian process at `asked` `[M, D]`.

    The prior's mean is that of `seen`, its scale their spread. All of `[N]` noise is a
    standard deviation.

    Args:
      known: `[N, D]` in units of length scales, around the box's middle. seen: `[N]`
        at those. trend: variance of the linear part, of a unit of length. size: what
        counts as much, where the mean of what was seen is less.
    """

    def kernel(a, b):
        squares = np.square(a[:, None] - b[None]).sum(axis=-1)
        return np.exp(-0.5 * squares) + trend * a @ b.T

    mean = seen.mean()
    scale = max(float(seen.std()), float(noise.mean()), 1e-6)
    if len({tuple(place) for place in known}) < _FEW:
        scale = max(scale, _LEAST_SCALE * max(abs(mean), size))
    inner = kernel(known, known) + np.diag((noise / scale) ** 2 + 1e-8)
    factor = linalg.cho_factor(inner, lower=True)
    cross = kernel(asked, known)
    middle = mean + scale * cross @ linalg.cho_solve(factor, (seen - mean) / scale)
    prior = 1.0 + trend * np.square(asked).sum(axis=1)
    left = prior - np.einsum("mn,nm->m", cross, linalg.cho_solve(factor, cross.T))
    return middle, scale * np.sqrt(np.maximum(left, 0.0))


def search(
    ask: Callable[[tuple[float, float], int], tuple[np.ndarray, np.ndarray]],
    pairs: Sequence[tuple[float, float]],
    *,
    limit: float,
    rounds: int,
) -> Found:
    """Asks for one pair a round, and says which to deploy.

    Args:
      ask: (pair, number of the round) -> returns and costs of some episodes.
      pairs: to choose among; the first is where nothing is known yet.
      limit: kappa, threshold of the mean cost. rounds: how many.

    Raises:
      UserError: no pairs or rounds.
    """
    if not len(pairs) or rounds < 1:
        raise UserError("search: expected at least one pair of targets, and one round")
    places = _places(pairs)
    asked: list[Asked] = []
    at: list[int] = []
    for number in range(rounds):
        index = 0 if not asked else _next(places, at, asked, limit)
        values, costs = ask(pairs[index], number)
        asked.append(Asked(pairs[index], _mean(values), _mean(costs)))
        at.append(index)
    value, _ = _of(places, at, [a.value for a in asked])
    cost, spread = _of(places, at, [a.cost for a in asked], limit)
    is_safe = (cost + _BETA * spread <= limit)[at]
    best = None
    if is_safe.any():
        best = int(np.where(is_safe, value[at], -np.inf).argmax())
    return Found(tuple(asked), best, sum(a.cost[0] > limit for a in asked))


def _places(pairs: Sequence[tuple[float, float]]) -> np.ndarray:
    """`[M, D]` in units of length scales, around the middle of the box; columns that do
    not vary are left out.
    """
    values = np.nan_to_num(np.asarray(pairs, float))
    low, width = values.min(axis=0), np.ptp(values, axis=0)
    if not (width > 0).any():
        return np.zeros((len(values), 1))
    shares = (values - low) / np.where(width > 0, width, 1.0) - 0.5
    return shares[:, width > 0] / _LENGTH


def _mean(x: np.ndarray) -> tuple[float, float]:
    """Mean and its standard error."""
    spread = float(np.std(x, ddof=1)) if len(x) > 1 else float(abs(np.mean(x)))
    return float(np.mean(x)), spread / np.sqrt(len(x))


def _of(
    places: np.ndarray,
    at: Sequence[int],
    seen: Sequence[tuple[float, float]],
    limit: float = 0.0,
):
    """Posterior everywhere, of means and errors seen at `at`. limit: of costs."""
    mean, error = np.array(seen).T
    error = np.maximum(error, _LEAST_ERROR * limit)
    return posterior(places[list(at)], mean, error, places, size=limit)


def _next(places, at, asked: Sequence[Asked], limit: float) -> int:
    value, open_value = _of(places, at, [a.value for a in asked])
    cost, open_cost = _of(places, at, [a.cost for a in asked], limit)
    bound = cost + _BETA * open_cost
    is_safe = bound <= limit
    if not is_safe.any():
        return int(bound.argmin())
    return int(np.where(is_safe, value + _BETA * open_value, -np.inf).argmax())
