"""How good a data set is, and how much of the space it covers.

The two measures are those of Schweighofer et al., "A Dataset Perspective on Offline
Reinforcement Learning" (CoLLAs 2022). Both are defined there with quantities that a
file does not hold; each function says what stands in for them here.
"""

import dataclasses

import numpy as np

from sas_jax.data.episodes import Episodes
from sas_jax.envs import tasks

_PROJECTIONS = 8


@dataclasses.dataclass(frozen=True)
class Coverage:
    """State-action coverage (SACo).

    cells: occupied cells. samples: steps looked at. share: the measure.
    """

    cells: int
    samples: int
    share: float


def trajectory_quality(episodes: Episodes) -> float:
    """TQ: mean return, 0 at a random policy's and 1 at an expert's.

    The paper takes both references from trained and random policies; here they are the
    benchmark's smallest and largest return of the task, as in its normalised score.
    Values outside [0, 1] mean that the data leave that range. Where no benchmark lists
    the task they are the data's own; NaN where all episodes return the same.
    """
    returns = episodes.returns()
    known = tasks.get_task(episodes.task).references
    known = known.or_range((float(returns.min()), float(returns.max())))
    return float(known.normalized_return(returns.mean()))


def state_action_coverage(
    episodes: Episodes,
    reference: Episodes | None = None,
    *,
    samples: int = 100_000,
    width: float = 1.0,
    seed: int = 0,
) -> Coverage:
    """SACo: how many different state-action pairs there are, u(D) / u(D_ref).

    Counting unique pairs needs discrete spaces. Continuous ones are cut into cells:
    (observation, action) is standardised by the reference's mean and deviation,
    projected on 8 random directions, and every coordinate cut into intervals of
    `width` (p-stable hashing, Datar et al. 2004; near pairs share a cell, far ones
    hardly). As counts grow with the data, both sets are thinned to the same number of
    steps. The number depends on `width` and `samples`: compare equal ones only.

    Args:
      episodes: the data D.
      reference: D_ref; without one, a set in which every step has a cell to itself.
      samples: steps looked at, at most.
      width: of the intervals, in standard deviations.
      seed: of the thinning and the directions.
    """
    against = episodes if reference is None else reference
    count = min(samples, episodes.num_steps, against.num_steps)
    mean, scale = _moments(against)
    rng = np.random.default_rng([seed, 0])
    directions = rng.standard_normal((len(mean), _PROJECTIONS)) / np.sqrt(len(mean))
    shift = rng.uniform(0.0, width, _PROJECTIONS)

    def cells(data: Episodes) -> int:
        picker = np.random.default_rng([seed, 1])
        rows = np.sort(picker.choice(data.num_steps, count, replace=False))
        pairs = np.concatenate([data.observations[rows], data.actions[rows]], axis=1)
        # Unit variance per direction whatever the correlations would need a second
        # pass; the directions are divided by sqrt(O + A), which is enough to compare.
        codes = np.floor(((pairs - mean) / scale @ directions + shift) / width)
        return len(np.unique(codes.astype(np.int32), axis=0))

    found = cells(episodes)
    total = count if reference is None else cells(reference)
    return Coverage(cells=found, samples=count, share=found / total)


def _moments(episodes: Episodes) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of (observation, action), `[O + A]`; no zeros."""
    arrays = (episodes.observations, episodes.actions)
    mean = np.concatenate([a.mean(0, dtype=np.float64) for a in arrays])
    scale = np.concatenate([a.std(0, dtype=np.float64) for a in arrays])
    return mean, np.where(scale > 1e-6, scale, 1.0)
