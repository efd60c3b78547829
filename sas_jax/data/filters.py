"""DSRL's ways to make data harder: thin out, hide, poison, blur (`pre_process_data`).

The formulas are DSRL's; three things differ. Every draw comes from one seeded generator
(DSRL thins out by Python's global one). Next observations are those of the following
step, noise included, where DSRL disturbs them once more. And an epsilon filter after an
inpainting one looks at the episodes that remain, where DSRL mixes up their numbers.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from sas_jax.data import density
from sas_jax.data.episodes import Episodes
from sas_jax.envs import tasks
from sas_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Filters:
    """What to do, in this order; the defaults do nothing.

    density: share of the data to keep in dense parts of the cost-return plane; one of
        those that DSRL has settings for, or 1.
    outliers: share of episodes turned into rewarding ones that only seem safe.
    inpaint: hidden rectangles (cost from, cost to, return from, return to) of the
        plane, each as shares of the data's range.
    epsilon: hides the safe episodes whose return is within this of the best safe one;
        negative, the unsafe ones within it of the best unsafe one.
    noise: standard deviation of noise on observations, in units of their overall one.
    cost_limit: what is safe; outliers and epsilon need it.
    """

    density: float = 1.0
    outliers: float | None = None
    inpaint: Sequence[tuple[float, float, float, float]] = ()
    epsilon: float | None = None
    noise: float | None = None
    cost_limit: float | None = None


@dataclasses.dataclass(frozen=True)
class Filtered:
    """The result.

    episodes: what remains.
    source: `[E]` number of each remaining episode in the original data.
    is_outlier: `[E]` True for the episodes that were made up.
    """

    episodes: Episodes
    source: np.ndarray
    is_outlier: np.ndarray


def apply(episodes: Episodes, filters: Filters, *, seed: int) -> Filtered:
    """Applies DSRL's filters; the same seed gives the same data.

    Raises:
      UserError: a setting out of its range, unknown for the task, or that leaves
        nothing.
    """
    _check(filters)
    if episodes.num_episodes == 0:
        raise UserError(f"{episodes.task}: no episodes to filter")
    rng = np.random.default_rng([seed])
    # DSRL takes the ranges for inpainting from the data before thinning out.
    span = _span(episodes.cost_returns()), _span(episodes.returns())
    source = np.arange(episodes.num_episodes)
    if filters.density != 1.0:
        source = _thin_out(episodes, grid_of(episodes.task, filters.density), rng)
    kept = episodes.select(source)
    is_outlier = np.zeros(len(source), bool)
    if filters.outliers is not None:
        kept, is_outlier = _poison(kept, filters.outliers, filters.cost_limit, rng)
    costs, returns = kept.cost_returns(), kept.returns()
    remains = np.ones(len(source), bool)
    for cost_low, cost_high, return_low, return_high in filters.inpaint:
        hidden = _within(costs, span[0], cost_low, cost_high)
        hidden &= _within(returns, span[1], return_low, return_high)
        remains &= ~hidden | is_outlier
    if filters.epsilon is not None:
        remains &= ~_best(costs, returns, remains, filters.epsilon, filters.cost_limit)
    if not remains.any():
        raise UserError(f"{episodes.task}: the filters leave no episode")
    kept = kept.select(remains)
    if filters.noise is not None:
        kept = _blur(kept, filters.noise, rng)
    return Filtered(kept, source[remains], is_outlier[remains])


def grid_of(task: str, share: float) -> density.Grid:
    """DSRL's settings of the density filter. Raises UserError if it has none."""
    known = density.GRIDS.get(tasks.get_task(task).name, {})
    if share not in known:
        names = ", ".join(map(str, known)) or "none"
        raise UserError(
            f"density {share}: DSRL has no settings for it on {task}; known: {names}"
        )
    return known[share]


def thin_out(
    costs: np.ndarray, returns: np.ndarray, grid: density.Grid, rng: np.random.Generator
) -> np.ndarray:
    """Chooses episodes so that no bin of the cost-return plane is over-full.

    Args:
      costs, returns: `[E]`.
      grid: bins and how many a bin may keep.
      rng: drawn from for over-full bins.

    Returns:
      Numbers of the chosen episodes, ascending, `[n]`.
    """
    bins = np.stack([_bins(costs, grid.cost_bins), _bins(returns, grid.return_bins)])
    _, bin_of, sizes = np.unique(bins, axis=1, return_inverse=True, return_counts=True)
    bin_of = bin_of.reshape(-1)
    chosen = []
    for number, size in enumerate(sizes):
        members = np.flatnonzero(bin_of == number)
        if size > grid.most:
            chosen.append(rng.choice(members, grid.most, replace=False))
        elif size > grid.least:
            chosen.append(members)
    return np.sort(np.concatenate([np.zeros(0, np.int64), *chosen]))


def _check(filters: Filters) -> None:
    """Raises UserError for settings that make no sense."""
    if filters.outliers is not None and not 0.0 < filters.outliers <= 1.0:
        raise UserError(f"outliers {filters.outliers}: expected a share in (0, 1]")
    if filters.noise is not None and not 0.0 <= filters.noise < np.inf:
        raise UserError(f"noise {filters.noise}: expected a number >= 0")
    needs_limit = filters.outliers is not None or filters.epsilon is not None
    if needs_limit and not (filters.cost_limit or -1.0) >= 1.0:
        raise UserError(
            f"cost limit {filters.cost_limit}: outliers and epsilon need one >= 1"
        )
    for window in filters.inpaint:
        if len(window) != 4 or not all(0.0 <= share <= 1.0 for share in window):
            raise UserError(f"inpaint {window}: expected four shares in [0, 1]")


def _thin_out(episodes, grid, rng):
    source = thin_out(episodes.cost_returns(), episodes.returns(), grid, rng)
    if len(source) == 0:
        raise UserError(
            f"{episodes.task}: density filter leaves none of {episodes.num_episodes} "
            "episodes: its settings are for data as large as DSRL's"
        )
    return source


def _bins(values: np.ndarray, count: int) -> np.ndarray:
    """Bin of each value; the largest value is a bin of its own, as in DSRL."""
    low, high = _span(values)
    width = (high - low) / count
    if width == 0:
        return np.zeros(len(values), np.int64)
    return np.floor((values - low) / width).astype(np.int64)


def _span(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _within(values, span, low, high):
    start, width = span[0], span[1] - span[0]
    return (values >= start + low * width) & (values <= start + high * width)


def _poison(episodes, share, cost_limit, rng):
    """Replaces risky episodes by ones of too good a return at too low a cost.

    DSRL: of those with at least half of the task's largest cost and return; rewards
    times 1.5, and costs 1 in as many random steps as a draw below the limit says.
    """
    task = tasks.get_task(episodes.task)
    count = max(int(episodes.num_episodes * share), 1)
    risky = episodes.cost_returns() >= task.references.cost_max / 2
    risky &= episodes.returns() >= task.references.return_max / 2
    candidates = np.flatnonzero(risky)
    if len(candidates) < count:
        raise UserError(
            f"outliers {share}: {count} of {episodes.num_episodes} episodes wanted, "
            f"but {len(candidates)} have half the task's largest cost and return"
        )
    chosen = rng.choice(candidates, count, replace=False)
    new_costs = rng.choice(int(cost_limit), count)
    rewards, costs = episodes.rewards.copy(), episodes.costs.copy()
    for episode, cost in zip(chosen, new_costs, strict=True):
        rows = slice(episodes.offsets[episode], episodes.offsets[episode + 1])
        length = episodes.lengths[episode]
        costs[rows] = 0.0
        steps = rng.choice(length, min(cost, length), replace=False)
        costs[rows.start + steps] = 1.0
        rewards[rows] *= np.float32(1.5)
    is_outlier = np.zeros(episodes.num_episodes, bool)
    is_outlier[chosen] = True
    return dataclasses.replace(episodes, rewards=rewards, costs=costs), is_outlier


def _best(costs, returns, remains, epsilon, cost_limit):
    """The remaining episodes that an epsilon filter hides, `[E]` bool."""
    side = remains & ((costs <= cost_limit) if epsilon > 0 else (costs > cost_limit))
    if epsilon == 0 or not side.any():
        return np.zeros(len(costs), bool)
    return side & (returns >= returns[side].max() - abs(epsilon))


def _blur(episodes, scale, rng):
    """Adds noise to observations; its size is the spread over all of them."""

    def blurred(array):
        noise = rng.standard_normal(array.shape, dtype=np.float32)
        return array + noise * np.float32(scale * np.std(array, dtype=np.float64))

    return dataclasses.replace(
        episodes,
        observations=blurred(episodes.observations),
        final_observations=blurred(episodes.final_observations),
    )
