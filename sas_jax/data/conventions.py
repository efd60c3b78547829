"""Data as people have them: other names, and other marks of ends, than DSRL's.

`to_episodes` takes arrays by name, one row a step, as D4RL's files, NPZ archives and
plain dicts hold them. Names it knows are those of `named_columns.NAMES`; all others are
left alone. What is missing is derived where there is one way to, and named in one line
where not.

In the shape descriptions, `N` is the number of rows, `O` and `A` are sizes of
observations and actions.
"""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sas_jax.data import checks, named_columns
from sas_jax.data.dsrl import (
    DataWarning,
    IncompleteEpisodeWarning,
    RowOrderWarning,
)
from sas_jax.data.episodes import Episodes
from sas_jax.data.row_order import RowOrder
from sas_jax.envs import tasks
from sas_jax.envs.suites.gymnasium import cost_function
from sas_jax.errors import UserError


def from_dict(
    arrays: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *,
    task: str,
    source: str = "",
    allow_breaks: bool = False,
) -> Episodes:
    """Episodes from a dict of arrays, or from a list of such dicts, one an episode.

    Args:
      arrays: by name, each with a row for every step; see
        `named_columns`. Dicts within count
        as ``"infos/cost"``. In a list an episode's end needs no mark; it is a time-out
        unless its last row is terminal.
      task: name of the task. source: what to call the data in messages.
      allow_breaks: accept rows that do not follow one another, with a warning.

    Raises:
      UserError: see `to_episodes`.
    """
    known, source = tasks.get_task(task), source or "data"
    if isinstance(arrays, Mapping):
        return to_episodes(
            named_columns.flat(arrays), known, source, allow_breaks=allow_breaks
        )
    parts = [named_columns.flat(part) for part in arrays]
    if not parts:
        raise UserError(f"{source}: no episodes; expected at least one")
    names = named_columns.known_names(parts[0])
    joined = {}
    for name in names:
        try:
            joined[name] = np.concatenate([np.asarray(part[name]) for part in parts])
        except (KeyError, ValueError) as error:
            raise UserError(
                f"{source}: {name!r} is not alike in all episodes ({error}); expected "
                "the same keys and sizes in each"
            ) from error
    reward = next((n for n in named_columns.NAMES["rewards"] if n in joined), None)
    if reward is not None:
        joined["lengths"] = np.array([len(part[reward]) for part in parts])
    return to_episodes(joined, known, source, allow_breaks=allow_breaks)


def to_episodes(
    arrays: Mapping[str, Any],
    task: tasks.Task,
    source: str,
    *,
    allow_breaks: bool = False,
) -> Episodes:
    """Episodes from arrays by the names of `named_columns.NAMES`, `[N, ...]`.

    Ends: ``terminals`` and ``timeouts``; ``dones`` where it is alone, then an end at
    the task's time limit counts as a time-out; ``lengths``. Without any mark of
    time-outs, an episode ends at the task's time limit. Costs: where there are none,
    what the task's own `cost` says ("terminated", "none" or a function).
    Next observations: where there are none, the next row's; the last step of an
    episode that timed out is then dropped, as nothing says where it led.

    Raises:
      UserError: a column that is missing and cannot be derived, two that contradict
        each other, a wrong shape or size, NaN, no complete episode, or rows that do not
        follow one another.

    Warns:
      DataWarning: what was derived by dropping something, or is ambiguous.
    """
    found = named_columns.columns(arrays, source)
    rows = len(found["observations"])
    ends, terminated = _ends(found, task, source)
    if not len(ends):
        raise UserError(
            f"{source}: no complete episode in {rows} steps; expected 'terminals', "
            f"'timeouts' or 'lengths' to mark ends, or {task.episode_steps} steps of "
            f"{task.name}'s time limit"
        )
    used = int(ends[-1])
    if used < rows:
        warnings.warn(
            f"{source}: dropped the last {rows - used} of {rows} steps: nothing ends "
            "their episode",
            IncompleteEpisodeWarning,
            stacklevel=2,
        )
    sizes = found["observations"].shape[1], found["actions"].shape[1]
    if sizes != (task.obs_dim, task.action_dim):
        raise UserError(
            f"{source}: observations of size {sizes[0]} and actions of size "
            f"{sizes[1]}, expected {task.obs_dim} and {task.action_dim} for {task.name}"
        )
    episodes = Episodes(
        task=task.name,
        observations=found["observations"][:used],
        actions=found["actions"][:used],
        rewards=found["rewards"][:used],
        costs=found.get("costs", np.zeros(rows, np.float32))[:used],
        offsets=np.concatenate([[0], ends]).astype(np.int64),
        final_observations=found["observations"][ends - 1],
        terminated=terminated,
        source=source,
    )
    if "next_observations" in found:
        following = found["next_observations"][:used]
        _check_order(episodes, following, source, allow_breaks)
        episodes = dataclasses.replace(
            episodes, final_observations=following[ends - 1].copy()
        )
    if "costs" not in found:
        costs = _costs(episodes, task, named_columns.missing("costs", arrays, source))
        episodes = dataclasses.replace(episodes, costs=costs)
    if "next_observations" not in found:
        episodes = _without_last_of_timeouts(episodes, source)
    checks.check_finite(episodes)
    return episodes


def _ends(
    found: Mapping[str, np.ndarray], task: tasks.Task, source: str
) -> tuple[np.ndarray, np.ndarray]:
    """The row after each episode's last `[E]`, and whether it was terminated `[E]`."""
    rows = len(found["observations"])
    none = np.zeros(rows, bool)
    terminals, timeouts = found.get("terminals", none), found.get("timeouts", none)
    done = found.get("dones")
    if "lengths" in found:
        ends = np.cumsum(found["lengths"])
        if ends[-1] != rows:
            raise UserError(
                f"{source}: 'lengths' make {ends[-1]} steps, but there are {rows}"
            )
        marked = terminals | timeouts | (none if done is None else done)
        marked[ends - 1] = False
        _agree(~marked, np.ones(rows, bool), "'lengths'", "the marks of ends", source)
        last = terminals | (none if done is None else done & ~timeouts)
        return ends, last[ends - 1]
    if done is None:
        is_end = terminals | timeouts
        if "timeouts" not in found:
            is_end = _cut(is_end, task.episode_steps)
        ends = np.flatnonzero(is_end) + 1
        return ends, terminals[ends - 1]
    if "terminals" in found and "timeouts" in found:
        both = "'terminals' or 'timeouts'"
        _agree(done, terminals | timeouts, "'dones'", both, source)
        ends = np.flatnonzero(done) + 1
        return ends, terminals[ends - 1]
    if "timeouts" in found:
        ends = np.flatnonzero(done | timeouts) + 1
        return ends, ~timeouts[ends - 1]
    if "terminals" in found:
        _agree(done | ~terminals, done | True, "'dones'", "'terminals'", source)
        ends = np.flatnonzero(_cut(done, task.episode_steps)) + 1
        return ends, terminals[ends - 1]
    ends = np.flatnonzero(_cut(done, task.episode_steps)) + 1
    lengths = np.diff(ends, prepend=0)
    warnings.warn(
        f"{source}: 'dones' does not say why an episode ended; those of "
        f"{task.episode_steps} steps count as time-outs, the others as terminated",
        DataWarning,
        stacklevel=3,
    )
    return ends, lengths < task.episode_steps


def _agree(left, right, name: str, other: str, source: str) -> None:
    """UserError with the first row where two marks contradict each other."""
    wrong = np.flatnonzero(left != right)
    if len(wrong):
        raise UserError(
            f"{source}: {name} and {other} contradict each other in {len(wrong)} rows "
            f"(first: {wrong[0]}); expected them to mark the same ends"
        )


def _cut(is_end: np.ndarray, longest: int) -> np.ndarray:
    """Marks ends of a time limit as well, counted from the end before."""
    is_end, start = is_end.copy(), 0
    for end in [*(np.flatnonzero(is_end) + 1), len(is_end)]:
        is_end[start + longest - 1 : end : longest] = True
        start = int(end)
    return is_end


def _check_order(episodes: Episodes, following, source: str, allow_breaks) -> None:
    """Refuses rows that do not follow one another."""
    is_end = np.zeros(episodes.num_steps, bool)
    is_end[episodes.offsets[1:] - 1] = True
    order = RowOrder(episodes.observations, is_end)
    order.add(0, following.copy())
    if order.count and not allow_breaks:
        raise UserError(
            f"{source}: {order.describe()}; expected one episode after the other, each "
            "in the order of its steps (allow_breaks takes the rows as they are)"
        )
    if order.count:
        warnings.warn(f"{source}: {order.describe()}", RowOrderWarning, stacklevel=3)


def _costs(episodes: Episodes, task: tasks.Task, missing: UserError) -> np.ndarray:
    """Costs `[S]` by the task's own rule, for data without any.

    The rule gets actions of the environment's box, as it does in an episode.
    """
    if not task.cost or task.cost.startswith("info"):
        raise UserError(
            f"{missing}; {task.name} has no rule to compute costs by: expected a key "
            f"of {', '.join(named_columns.NAMES['costs'])}, or a task with "
            "cost=MODULE:FUNCTION, cost=terminated or cost=none"
        )
    rule, last = cost_function(task.cost), episodes.offsets[1:] - 1
    after = np.concatenate([episodes.observations[1:], episodes.observations[-1:]])
    after[last] = episodes.final_observations
    ended = np.zeros(episodes.num_steps, bool)
    ended[last] = episodes.terminated
    actions = episodes.actions
    if task.action_range:
        low, high = np.asarray(task.action_range, actions.dtype).T
        actions = low + (actions + 1) / 2 * (high - low)
    steps = zip(episodes.observations, actions, after, ended, strict=True)
    try:
        costs = [float(rule(obs, a, new, bool(e), {})) for obs, a, new, e in steps]
    except Exception as error:  # whatever the user's function does
        raise UserError(
            f"{episodes.source}: cost {task.cost!r} raised {type(error).__name__} "
            f"({error}) on the recorded steps; expected a number of (observation, "
            "action, next observation, terminated, info), where info is empty"
        ) from error
    return np.asarray(costs, np.float32)


def _without_last_of_timeouts(episodes: Episodes, source: str) -> Episodes:
    """Drops steps of which nobody knows where they led.

    The last observation of a terminated episode stands for the one after it: nothing
    follows, and its reward and cost are kept.
    """
    lengths = episodes.lengths
    is_cut = ~episodes.terminated
    keep = np.ones(episodes.num_steps, bool)
    keep[episodes.offsets[1:][is_cut] - 1] = False
    enough = lengths - is_cut > 0
    warnings.warn(
        f"{source}: there are no next observations; dropped the last step of "
        f"{int(is_cut.sum())} episodes that timed out",
        DataWarning,
        stacklevel=3,
    )
    if not enough.any():
        raise UserError(f"{source}: only episodes of one step; expected longer ones")
    kept = (lengths - is_cut)[enough]
    return dataclasses.replace(
        episodes,
        **{
            name: getattr(episodes, name)[keep]
            for name in ("observations", "actions", "rewards", "costs")
        },
        offsets=np.concatenate([[0], np.cumsum(kept)]).astype(np.int64),
        final_observations=episodes.final_observations[enough],
        terminated=episodes.terminated[enough],
    )
