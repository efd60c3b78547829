"""What about a data set deserves a look, by name: one list for inspect and train.

A finding does not stop anything: the data can be read and trained on. Each has a name,
by which it can be found in a log and filtered
(``warnings.filterwarnings("ignore", "fractional-costs")``), and a text with numbers. To
add one, write a function of the episodes and their task that returns a text or None,
and name it in `FINDINGS`.
"""

import dataclasses
import hashlib
from collections.abc import Callable

import numpy as np

from sas_jax.data.columns import constant_columns
from sas_jax.data.episodes import Episodes
from sas_jax.envs import tasks
from sas_jax.envs.tasks import Task

_MAX_LISTED = 8
# A value this many times larger than a column's 99.9th percentile is an outlier.
_OUTLIER = 100.0
_SAMPLE = 100_000  # steps from which percentiles are taken
# A first step this many times larger than any later one did not happen.
_JUMP = 1.5

# Columns of observations that cannot change, by sensor and place in it: the point robot
# moves in a plane.
_PLANAR = {
    "accelerometer": (2,),
    "velocimeter": (2,),
    "gyro": (0, 1),
    "magnetometer": (2,),
}
# And by number, where the suite documents no sensors: the ball rolls without lifting.
_CONSTANT = {"BallRun": frozenset({6})}


@dataclasses.dataclass(frozen=True)
class Finding:
    """name: of what was found, e.g. ``"negative-costs"``. text: numbers and places."""

    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


def look(episodes: Episodes) -> list[Finding]:
    """All that deserves a look, in the order of `FINDINGS`; empty if there is none."""
    task = tasks.get_task(episodes.task)
    found = ((name, find(episodes, task)) for name, find in FINDINGS.items())
    return [Finding(name, text) for name, text in found if text]


def known_constants(task: str) -> frozenset[int]:
    """Observation columns of a task that cannot change."""
    if not task.startswith("Point"):
        return _CONSTANT.get(task, frozenset())
    groups = tasks.get_task(task).obs_groups
    return frozenset(
        groups[name].start + offset
        for name, offsets in _PLANAR.items()
        for offset in offsets
    )


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


def jumps(episodes: Episodes) -> np.ndarray:
    """Episodes whose first step is larger in some column than any later step, `[J]`.

    Recorders that store what the simulator showed before its reset leave such a first
    observation: the step that follows leads from it into the real start state.
    """
    firsts = episodes.offsets[:-1]
    longer = np.flatnonzero(episodes.lengths > 1)
    if not len(longer):
        return longer
    # Differences within episodes; in place, one copy of the observations.
    change = np.diff(episodes.observations, axis=0)
    np.abs(change, out=change)
    ends = episodes.offsets[1:-1] - 1
    first_change = change[firsts[longer]].copy()
    change[ends] = 0.0
    change[firsts[longer]] = 0.0
    largest = change.max(axis=0)
    return longer[(first_change > _JUMP * largest).any(1) & (largest > 0).any()]


def _negative_costs(episodes: Episodes, task: Task) -> str | None:
    negative = episodes.costs < 0
    if not negative.any():
        return None
    return (
        f"{negative.sum()} of {episodes.num_steps} steps cost less than 0 (smallest "
        f"{episodes.costs.min():g}); the cost of a step of {task.name} is 0 or "
        f"{task.max_step_cost:g}"
    )


def _large_costs(episodes: Episodes, task: Task) -> str | None:
    large = episodes.costs > task.max_step_cost
    if not large.any():
        return None
    return (
        f"{large.sum()} of {episodes.num_steps} steps cost more than "
        f"{task.max_step_cost:g}, the most that {task.name} asks for one (largest "
        f"{episodes.costs.max():g}); thresholds would mean something else"
    )


def _fractional_costs(episodes: Episodes, task: Task) -> str | None:
    inside = (episodes.costs > 0) & (episodes.costs < task.max_step_cost)
    if not inside.any():
        return None
    return (
        f"{inside.sum()} of {episodes.num_steps} steps cost between 0 and "
        f"{task.max_step_cost:g} (smallest {episodes.costs[inside].min():g}); the cost "
        f"of a step of {task.name} is one or the other, and models see whether there "
        "was any"
    )


def _outlying_values(episodes: Episodes, task: Task) -> str | None:
    del task
    for name in ("observations", "actions", "rewards", "costs"):
        array = getattr(episodes, name).reshape(episodes.num_steps, -1)
        some = np.abs(array[:: max(1, episodes.num_steps // _SAMPLE)])
        usual = np.quantile(some, 0.999, axis=0, method="lower")
        largest = np.maximum(array.max(0), -array.min(0))
        columns = np.flatnonzero(largest > _OUTLIER * np.maximum(usual, 1.0))
        if len(columns):
            column = columns[
                np.argmax(largest[columns] / np.maximum(usual, 1)[columns])
            ]
            row = int(np.abs(array[:, column]).argmax())
            episode, step = _place(episodes, row)
            return (
                f"{name} reach {array[row, column]:g} in episode {episode}, step "
                f"{step}, column {column}; 99.9 % of that column lie within "
                f"{usual[column]:.3g}, and the scale would be the outlier's"
            )
    return None


def _constant(episodes: Episodes, task: Task) -> str | None:
    found = []
    known = known_constants(task.name) if task.obs_dim == episodes.obs_dim else ()
    for column in constant_columns(episodes.observations):
        if column not in known:
            found.append(f"observation {_sensor(task, int(column))}")
    found += [f"action {column}" for column in constant_columns(episodes.actions)]
    return f"{_listed(found)}; nothing can be learnt about them" if found else None


def _outside_actions(episodes: Episodes, task: Task) -> str | None:
    del task
    # float32 may round an action of 1 up by half a unit in the last place.
    outside = (np.abs(episodes.actions) > 1.0 + 1e-6).any(1)
    if not outside.any():
        return None
    return (
        f"{outside.sum()} of {episodes.num_steps} actions lie outside [-1, 1] (largest "
        f"{np.abs(episodes.actions).max():.3g}); they are clipped, as environments do"
    )


def _repeated(episodes: Episodes, task: Task) -> str | None:
    del task
    repeated = duplicate_episodes(episodes)
    if not len(repeated):
        return None
    return (
        f"{len(repeated)} of {episodes.num_episodes} episodes repeat an earlier one: "
        f"{_listed(repeated)}"
    )


def _first_observations(episodes: Episodes, task: Task) -> str | None:
    del task
    found = jumps(episodes)
    if not len(found):
        return None
    return (
        f"{len(found)} of {episodes.num_episodes} episodes jump at their first step, "
        "further than any later step goes: their first observation is not the state "
        f"that they start in (episodes {_listed(found)})"
    )


def _early_timeouts(episodes: Episodes, task: Task) -> str | None:
    early = ~episodes.terminated & (episodes.lengths < task.episode_steps)
    if not early.any():
        return None
    return (
        f"{early.sum()} of {episodes.num_episodes} episodes time out before "
        f"{task.episode_steps} steps, the limit of {task.name} (shortest "
        f"{episodes.lengths[early].min()}); their returns and costs are of a part"
    )


def _long_episodes(episodes: Episodes, task: Task) -> str | None:
    long = episodes.lengths > task.episode_steps
    if not long.any():
        return None
    return (
        f"{long.sum()} of {episodes.num_episodes} episodes are longer than "
        f"{task.episode_steps} steps, the limit of {task.name} (longest "
        f"{episodes.lengths.max()}): ends may be missing in 'terminals' and 'timeouts'"
    )


def _short_episodes(episodes: Episodes, task: Task) -> str | None:
    short = episodes.terminated & (episodes.lengths < task.episode_steps / 10)
    if 2 * short.sum() <= episodes.num_episodes:
        return None
    return (
        f"{short.sum()} of {episodes.num_episodes} episodes terminate within a tenth "
        f"of the {task.episode_steps} steps of {task.name} (shortest "
        f"{episodes.lengths.min()}): 'terminals' may mean something else"
    )


def _terminals_at_limit(episodes: Episodes, task: Task) -> str | None:
    at_limit = episodes.terminated & (episodes.lengths == task.episode_steps)
    if 2 * at_limit.sum() <= episodes.num_episodes:
        return None
    return (
        f"{at_limit.sum()} of {episodes.num_episodes} episodes terminate at exactly "
        f"{task.episode_steps} steps, the time limit of {task.name}; a time-out "
        "belongs into 'timeouts', where values go on after it"
    )


def _one_reward(episodes: Episodes, task: Task) -> str | None:
    del task
    low, high = episodes.rewards.min(), episodes.rewards.max()
    return f"every step has the reward {low:g}" if low == high else None


def _all_safe(episodes: Episodes, task: Task) -> str | None:
    largest, strictest = episodes.cost_returns().max(), min(task.cost_limits)
    if largest > strictest:
        return None
    return (
        f"the largest cost of an episode is {largest:g}, the strictest threshold "
        f"{strictest:g}; nothing here shows what to avoid"
    )


def _none_safe(episodes: Episodes, task: Task) -> str | None:
    smallest, loosest = episodes.cost_returns().min(), max(task.cost_limits)
    if smallest <= loosest:
        return None
    return (
        f"the smallest cost of an episode is {smallest:g}, the loosest threshold "
        f"{loosest:g}; nothing here shows how to keep it"
    )


# Name -> function of the episodes and their task.
FINDINGS: dict[str, Callable[[Episodes, Task], str | None]] = {
    "negative-costs": _negative_costs,
    "large-costs": _large_costs,
    "fractional-costs": _fractional_costs,
    "outlying-values": _outlying_values,
    "constant-columns": _constant,
    "actions-outside-box": _outside_actions,
    "repeated-episodes": _repeated,
    "first-observations": _first_observations,
    "early-timeouts": _early_timeouts,
    "long-episodes": _long_episodes,
    "short-episodes": _short_episodes,
    "terminals-at-limit": _terminals_at_limit,
    "one-reward": _one_reward,
    "all-episodes-safe": _all_safe,
    "no-episode-safe": _none_safe,
}


def _place(episodes: Episodes, row: int) -> tuple[int, int]:
    """Episode of a row, and the row's step in it."""
    episode = int(np.searchsorted(episodes.offsets, row, "right")) - 1
    return episode, int(row - episodes.offsets[episode])


def _sensor(task: Task, column: int) -> str:
    """A column's number, with the sensor it belongs to where that is known."""
    for group, columns in task.obs_groups.items():
        if columns.start <= column < columns.stop:
            return f"{column} ({group})"
    return str(column)


def _listed(items) -> str:
    shown = ", ".join(str(item) for item in items[:_MAX_LISTED])
    more = len(items) - _MAX_LISTED
    return f"{shown} and {more} more" if more > 0 else shown
