"""The host-side container of offline data: complete episodes, end to end.

In the shape descriptions, `S` denotes all steps of the data set, `E` its episodes,
`O` the observation size and `A` the action size.
"""

import dataclasses
import hashlib

import numpy as np

from sas_jax.config import check_seed
from sas_jax.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class Episodes:
    """Complete episodes of one task, concatenated along time (numpy, never jax).

    task: registry name, e.g. ``"PointGoal1"``.
    observations: `[S, O]` float32, what the agent saw before acting.
    actions: `[S, A]` float32, as recorded (DSRL's Bullet files leave the [-1, 1] box).
    rewards: `[S]` float32.
    costs: `[S]` float32.
    offsets: `[E + 1]` int64; episode e holds steps offsets[e] .. offsets[e + 1] - 1.
    final_observations: `[E, O]` float32, the observation after each last step.
    terminated: `[E]` bool, True where the environment ended the episode (no time-out).
    source: the file they were read from, "" for others; no part of the content.
    """

    task: str
    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    costs: np.ndarray
    offsets: np.ndarray
    final_observations: np.ndarray
    terminated: np.ndarray
    source: str = ""

    def __post_init__(self) -> None:
        steps, episodes = len(self.observations), len(self.offsets) - 1
        expected = {
            "observations": (steps, self.observations.shape[-1]),
            "actions": (steps, self.actions.shape[-1]),
            "rewards": (steps,),
            "costs": (steps,),
            "final_observations": (episodes, self.observations.shape[-1]),
            "terminated": (episodes,),
        }
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                actual = getattr(self, name).shape
                raise ValueError(f"{name} has shape {actual}, expected {shape}")
        if self.offsets[0] != 0 or self.offsets[-1] != steps:
            raise ValueError("offsets must start at 0 and end at the number of steps")
        if episodes and self.lengths.min() < 1:
            raise ValueError("every episode needs at least one step")

    @property
    def num_episodes(self) -> int:
        """Number of episodes, E."""
        return len(self.offsets) - 1

    @property
    def num_steps(self) -> int:
        """Number of steps, S."""
        return len(self.observations)

    @property
    def obs_dim(self) -> int:
        """Observation size, O."""
        return self.observations.shape[1]

    @property
    def action_dim(self) -> int:
        """Action size, A."""
        return self.actions.shape[1]

    @property
    def lengths(self) -> np.ndarray:
        """Steps of each episode, `[E]` int64."""
        return np.diff(self.offsets)

    @property
    def nbytes(self) -> int:
        """Size of all arrays in bytes."""
        return sum(getattr(self, name).nbytes for name in _ARRAYS)

    def returns(self) -> np.ndarray:
        """Undiscounted return of each episode, `[E]` float64."""
        return _sum_by_episode(self.rewards, self.offsets)

    def cost_returns(self) -> np.ndarray:
        """Undiscounted cost of each episode, `[E]` float64."""
        return _sum_by_episode(self.costs, self.offsets)

    def to_go(self, values: np.ndarray) -> np.ndarray:
        """Undiscounted sums `[S]` of `values` `[S]` from each step to its episode's
        end, that step included; float64.
        """
        total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
        ends = np.repeat(self.offsets[1:], self.lengths)
        return total[ends] - total[: self.num_steps]

    def select(self, indices: np.ndarray) -> "Episodes":
        """Copies the chosen episodes, in the given order; repeats are allowed.

        Args:
          indices: `[K]` episode numbers, or a `[E]` bool mask.
        """
        indices = np.arange(self.num_episodes)[np.asarray(indices)]
        lengths = self.lengths[indices]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        # Row r of the result is row r + shift of the source, one shift per episode.
        shift = np.repeat(self.offsets[indices] - offsets[:-1], lengths)
        rows = np.arange(offsets[-1]) + shift
        return Episodes(
            task=self.task,
            observations=self.observations[rows],
            actions=self.actions[rows],
            rewards=self.rewards[rows],
            costs=self.costs[rows],
            offsets=offsets,
            final_observations=self.final_observations[indices],
            terminated=self.terminated[indices],
            source=self.source,
        )

    def split(self, fraction: float, seed: int) -> tuple["Episodes", "Episodes"]:
        """Splits by whole episodes into (train, held_out), both in recorded order.

        Args:
          fraction: share of episodes to hold out, in (0, 1); at least one is held out.
          seed: of the permutation; the same seed gives the same split.

        Raises:
          UserError: fraction outside (0, 1), a seed that is none, or fewer than two
            episodes to split.
        """
        check_seed(seed)
        if not 0.0 < fraction < 1.0:
            raise UserError(f"held-out fraction {fraction}: expected between 0 and 1")
        if self.num_episodes < 2:
            raise UserError(
                f"{self.task}: {self.num_episodes} episode cannot be split into "
                "training and held-out data; expected at least 2"
            )
        held = int(
            np.clip(round(fraction * self.num_episodes), 1, self.num_episodes - 1)
        )
        order = np.random.default_rng([seed]).permutation(self.num_episodes)
        return self.select(np.sort(order[held:])), self.select(np.sort(order[:held]))

    def fingerprint(self) -> str:
        """First 16 hex digits of the sha256 over task, shapes and contents."""
        digest = hashlib.sha256(self.task.encode())
        for name in _ARRAYS:
            array = np.ascontiguousarray(getattr(self, name))
            digest.update(f"{name}{array.shape}{array.dtype.str}".encode())
            digest.update(array.data if array.size else b"")
        return digest.hexdigest()[:16]


_ARRAYS = tuple(
    f.name for f in dataclasses.fields(Episodes) if f.name not in ("task", "source")
)


def concatenate(parts: list[Episodes]) -> Episodes:
    """Joins data sets of one task, in order. Raises UserError if their tasks differ."""
    tasks = sorted({part.task for part in parts})
    if len(tasks) != 1:
        raise UserError(f"cannot join data of different tasks: {', '.join(tasks)}")
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in _ARRAYS
        if name != "offsets"
    }
    lengths = np.concatenate([part.lengths for part in parts])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Episodes(task=tasks[0], offsets=offsets, **joined)


def _sum_by_episode(values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Sums `[S]` values within each episode in float64, `[E]`."""
    if len(offsets) == 1:
        return np.zeros(0)
    return np.add.reduceat(values, offsets[:-1], dtype=np.float64)
