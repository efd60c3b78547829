"""What a data set is like: measures, and warnings about what spoils learning from it.

The two measures are those of Schweighofer et al., "A Dataset Perspective on Offline
Reinforcement Learning" (CoLLAs 2022). Both are defined there with quantities that a
file does not hold; each function says what stands in for them here.
"""

import dataclasses
import hashlib

import numpy as np

from sas_jax.data.episodes import Episodes
from sas_jax.envs import tasks

_PROJECTIONS = 8
_MAX_LISTED = 8


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

    The paper takes both references from trained and random policies; here they are
    DSRL's smallest and largest return of the task, as in its normalised score. Values
    outside [0, 1] mean that the data leave DSRL's range.
    """
    task = tasks.get_task(episodes.task)
    return float(task.normalized_return(episodes.returns().mean()))


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


def warnings(episodes: Episodes) -> list[str]:
    """One line for each thing that deserves a look; empty if there is none."""
    found = [*_constant_columns(episodes), *_actions_outside(episodes)]
    duplicates = duplicate_episodes(episodes)
    if len(duplicates):
        found.append(
            f"{len(duplicates)} of {episodes.num_episodes} episodes repeat an earlier "
            f"one: {_listed(duplicates)}"
        )
    task = tasks.get_task(episodes.task)
    costs = episodes.cost_returns()
    strictest, loosest = min(task.cost_limits), max(task.cost_limits)
    if costs.max() <= strictest:
        found.append(
            f"all episodes are safe: the largest cost is {costs.max():g}, the "
            f"strictest threshold {strictest:g}; nothing here shows what to avoid"
        )
    if costs.min() > loosest:
        found.append(
            f"no episode is safe: the smallest cost is {costs.min():g}, the loosest "
            f"threshold {loosest:g}; nothing here shows how to keep it"
        )
    return found


def duplicate_episodes(episodes: Episodes) -> np.ndarray:
    """Numbers of episodes whose observations and actions equal an earlier one's."""
    seen, repeated = set(), []
    for e in range(episodes.num_episodes):
        rows = slice(episodes.offsets[e], episodes.offsets[e + 1])
        digest = hashlib.sha256(episodes.observations[rows].tobytes())
        digest.update(episodes.actions[rows].tobytes())
        if digest.digest() in seen:
            repeated.append(e)
        seen.add(digest.digest())
    return np.array(repeated, dtype=np.int64)


def _moments(episodes: Episodes) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of (observation, action), `[O + A]`; no zeros."""
    arrays = (episodes.observations, episodes.actions)
    mean = np.concatenate([a.mean(0, dtype=np.float64) for a in arrays])
    scale = np.concatenate([a.std(0, dtype=np.float64) for a in arrays])
    return mean, np.where(scale > 1e-6, scale, 1.0)


def _constant_columns(episodes: Episodes) -> list[str]:
    found = []
    for name, array in (
        ("observation", episodes.observations),
        ("action", episodes.actions),
    ):
        constant = np.flatnonzero(array.min(0) == array.max(0))
        if len(constant):
            places = [_place(episodes.task, name, column) for column in constant]
            found.append(f"constant {name} columns: {_listed(places)}")
    return found


def _place(task: str, name: str, column: int) -> str:
    """A column's number, with the sensor it belongs to where that is known."""
    if name == "observation":
        for group, columns in tasks.get_task(task).obs_groups.items():
            if columns.start <= column < columns.stop:
                return f"{column} ({group})"
    return str(column)


def _actions_outside(episodes: Episodes) -> list[str]:
    # float32 may round an action of 1 up by half a unit in the last place.
    outside = (np.abs(episodes.actions) > 1.0 + 1e-6).any(1)
    if not outside.any():
        return []
    largest = float(np.abs(episodes.actions).max())
    return [
        f"{outside.sum()} of {episodes.num_steps} actions lie outside [-1, 1] (largest "
        f"{largest:.3g}): environments clip them, models should be told"
    ]


def _listed(items) -> str:
    shown = ", ".join(str(item) for item in items[:_MAX_LISTED])
    more = len(items) - _MAX_LISTED
    return f"{shown} and {more} more" if more > 0 else shown
