"""Pareto augmentation: good episodes relabelled with targets they did not reach.

A user may ask for more return than the data shows at a cost. CDT (Liu et al. 2023,
section 4.2, and its reference code) answers with what is safest: it samples such pairs
(cost, return) above the data's Pareto frontier, gives each to the nearest episode that
costs no more, and trains on a copy whose tokens begin at the pair. The policy learns to
imitate the best safe behaviour when the targets conflict.

Nothing is copied here: an entry is an episode's number and what to add to its tokens.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from sas_jax.config import Number, check


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Settings of the augmentation; most names are those of CDT's reference code.

    augment_percent: relabelled copies per episode; 0 turns it off (CDT: 0.2). They and
      the episodes are one pool, weighted by `cost_sampling`, a copy by the cost that it
      asks for; how many rows are relabelled follows from that.
    frontier_degree: degree of the polynomial through the Pareto frontier (`deg` in
      CDT's code: 0 or 1 on most tasks of this suite).
    max_reward: largest return target; None means the data's largest return and
      a seventh of its range. min_reward: least distance of a target above the frontier.
    max_rew_decrease: where several targets fall to one episode, all but the first go
      to cheaper ones that return at most this much less; None means a seventh of the
      range. (CDT's values on the navigation tasks: 5 to 10 of 15 to 45.)
    beta: such an episode at distance d is chosen with weight 1 / (d + beta).
    """

    augment_percent: float = 0.0
    frontier_degree: int = 1
    max_reward: float | None = None
    min_reward: float = 1.0
    max_rew_decrease: float | None = None
    beta: float = 1.0

    def __post_init__(self):
        rules = {
            "augment_percent": Number(least=0, most=1),
            "frontier_degree": Number(least=0, whole=True),
            "max_reward": Number(optional=True),
            "min_reward": Number(),
            "max_rew_decrease": Number(least=0, optional=True),
            "beta": Number(above=0),
        }
        check(self, "data.augment", rules)


class Entries(NamedTuple):
    """Relabelled copies, `n` of them.

    episode: `[n]` int64, whose steps. target_return, target_cost: `[n]` what the copy's
    first tokens say. return_offset, cost_offset: `[n]` what to add to every token of
    the episode for that (environment units).
    """

    episode: np.ndarray
    target_return: np.ndarray
    target_cost: np.ndarray
    return_offset: np.ndarray
    cost_offset: np.ndarray


def pareto_front(costs: np.ndarray, returns: np.ndarray) -> np.ndarray:
    """Numbers of the episodes `[F]`, by cost, that no other beats in both respects.

    Another beats an episode with no more cost and no less return, one of them strictly;
    of equal episodes the first stands for all.
    """
    order = np.lexsort((-returns, costs))
    best = np.maximum.accumulate(returns[order])
    before = np.concatenate([[-np.inf], best[:-1]])
    return order[returns[order] > before]


def frontier(
    costs: np.ndarray, returns: np.ndarray, degree: int
) -> np.polynomial.Polynomial:
    """Least-squares polynomial, return as a function of cost, through the Pareto front.

    Of that degree, or less where the front has too few different costs.
    """
    front = pareto_front(costs, returns)
    x, y = costs[front], returns[front]
    if len(front) == 1 or degree == 0:
        return np.polynomial.Polynomial([y.mean()])
    return np.polynomial.Polynomial.fit(x, y, min(degree, len(front) - 1))


def relabel(
    returns: np.ndarray,
    costs: np.ndarray,
    config: AugmentConfig,
    rng: np.random.Generator,
) -> Entries:
    """Samples targets above the frontier and finds each its episode.

    Costs lie evenly over the data's range; returns are uniform between the frontier
    plus `min_reward` and `max_reward`. Costs where nothing lies between the two get no
    entry. Distances are Euclidean in environment units, as in the reference code.

    Args:
      returns, costs: `[E]` of the training episodes.
    """
    count = round(config.augment_percent * len(costs))
    span = float(np.ptp(returns))
    top, decrease = config.max_reward, config.max_rew_decrease
    top = float(returns.max()) + span / 7 if top is None else top
    decrease = span / 7 if decrease is None else decrease
    target_cost = np.linspace(costs.min(), costs.max(), count)
    low = (
        frontier(costs, returns, config.frontier_degree)(target_cost)
        + config.min_reward
    )
    drawn = rng.uniform(size=count)
    room = low < top
    target_cost, low, drawn = target_cost[room], low[room], drawn[room]
    target_return = low + (top - low) * drawn
    episode = _associate(costs, returns, target_cost, target_return)
    # One episode must not carry all targets: later ones go to its neighbours.
    seen = set()
    for i, number in enumerate(episode):
        if number in seen:
            shares = neighbour_shares(costs, returns, number, decrease, config.beta)
            episode[i] = rng.choice(len(costs), p=shares)
        seen.add(number)
    return Entries(
        episode=episode,
        target_return=target_return,
        target_cost=target_cost,
        return_offset=target_return - returns[episode],
        cost_offset=target_cost - costs[episode],
    )


def neighbour_shares(
    costs: np.ndarray, returns: np.ndarray, number: int, decrease: float, beta: float
) -> np.ndarray:
    """Probability `[E]` of each episode to stand in for episode `number`.

    Those that cost no more and return at most `decrease` less share it by
    1 / (distance + beta), the episode itself among them.
    """
    near = (costs <= costs[number]) & (returns >= returns[number] - decrease)
    distance = np.hypot(costs - costs[number], returns - returns[number])
    weight = np.where(near, 1.0 / (distance + beta), 0.0)
    return weight / weight.sum()


def _associate(costs, returns, target_cost, target_return) -> np.ndarray:
    """Nearest episode `[n]` to each target among those that cost no more."""
    episode = np.empty(len(target_cost), np.int64)
    for i, (cost, value) in enumerate(zip(target_cost, target_return, strict=True)):
        distance = np.hypot(costs - cost, returns - value)
        episode[i] = np.argmin(np.where(costs <= cost, distance, np.inf))
    return episode
