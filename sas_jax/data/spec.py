"""What a model must know of its data: sizes, statistics, scales. JSON round trip."""

import dataclasses
import hashlib
from typing import Any

import numpy as np

from sas_jax.data import columns
from sas_jax.data.episodes import Episodes
from sas_jax.envs.tasks import TASKS
from sas_jax.errors import UserError
from sas_jax.models import lidar


@dataclasses.dataclass(frozen=True, eq=False)
class DataSpec:
    """Sizes and statistics of a training set.

    obs_mean, obs_std: `[O]` float32; obs_std is 1 where the column is constant, unless
      it is a bin of a lidar that varies elsewhere.
    obs_active: `[O]` bool, False where constant: copied by the transition model and
      left out of every density.
    max_timestep: longest episode in steps.
    return_scale, cost_scale: divide return and cost tokens; about the data's largest.
    reward_std: standard deviation of a step's reward (return units).
    target_return: default return token R_1 (return units).
    return_range, cost_range: smallest and largest return and cost of an episode;
      None in what was written before they were known.
    rings: (first, size) of each lidar among the observations: its bins share one mean
      and one standard deviation. ring_single: whether each shows one object at most,
      as far as the data tell.
    """

    task: str
    obs_dim: int
    action_dim: int
    obs_mean: np.ndarray
    obs_std: np.ndarray
    obs_active: np.ndarray
    max_timestep: int
    return_scale: float
    cost_scale: float
    reward_std: float
    target_return: float
    fingerprint: str
    return_range: tuple[float, float] | None = None
    cost_range: tuple[float, float] | None = None
    rings: tuple[tuple[int, int], ...] = ()
    ring_single: tuple[bool, ...] = ()

    @property
    def ring_scales(self) -> tuple[tuple[float, float], ...]:
        """(mean, standard deviation) of each lidar's readings."""
        firsts = [first for first, _ in self.rings]
        return tuple((float(self.obs_mean[f]), float(self.obs_std[f])) for f in firsts)

    @property
    def scaling(self) -> str:
        """Sixteen hex digits that tell one standardisation from another."""
        arrays = (
            np.ascontiguousarray(a, np.float32) for a in (self.obs_mean, self.obs_std)
        )
        return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()[:16]

    @property
    def obs_spread(self) -> np.ndarray:
        """`[O]` deviations of the observations; 0 for columns that never vary."""
        return np.where(self.obs_active, self.obs_std, 0.0)

    def standardised(self, obs: Any) -> Any:
        """Observations `[..., O]` in units of the data's mean and deviation."""
        wide = (1,) * (obs.ndim - 1) + (self.obs_dim,)
        return (obs - self.obs_mean.reshape(wide)) / self.obs_std.reshape(wide)

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers; floats survive the round trip exactly."""
        out = dataclasses.asdict(self)
        return {
            k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in out.items()
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "DataSpec":
        """Inverse of `to_json`. Raises UserError on a missing or unknown field."""
        fields = dataclasses.fields(cls)
        optional = {f.name for f in fields if f.default is not dataclasses.MISSING}
        wrong = (set(values) ^ {f.name for f in fields}) - (optional - set(values))
        if wrong:
            raise UserError(f"data spec: missing or unknown fields {sorted(wrong)}")
        values = dict(values)
        values["rings"] = tuple(tuple(ring) for ring in values.get("rings", ()))
        values["ring_single"] = tuple(values.get("ring_single", ()))
        for name in ("return_range", "cost_range"):
            if values.get(name) is not None:
                values[name] = tuple(values[name])
        for name, dtype in (
            ("obs_mean", np.float32),
            ("obs_std", np.float32),
            ("obs_active", bool),
        ):
            values[name] = np.asarray(values[name], dtype)
            if values[name].shape != (values["obs_dim"],):
                raise UserError(
                    f"data spec: {name} has shape {values[name].shape}, expected "
                    f"({values['obs_dim']},)"
                )
        return cls(**values)


def from_episodes(episodes: Episodes, target_return: float | None = None) -> DataSpec:
    """Computes the statistics of a training set.

    Tokens are divided by the largest |return| and the largest cost. (CDT's reference
    code divides returns by 10 and costs by 1; that suits embeddings of its size. Ours
    are normalised token by token, and a token much larger than its time embedding keeps
    its sign only.)

    Args:
      episodes: the training split only.
      target_return: default return token; None means the data's 95th percentile.
    """
    obs = episodes.observations
    mean, std = columns.moments(obs)
    active = columns.varies(mean, std)
    scale = np.where(active, std, 1.0)
    rings = lidar_rings(episodes.task, episodes.obs_dim)
    for first, size in rings:
        # One scale for all bins of a lidar: its law is the same in every direction, and
        # a bin that saw nothing in these data has it too.
        ring = slice(first, first + size)
        middle = mean[ring].mean()
        if active[ring].any():
            around = std[ring] ** 2 + (mean[ring] - middle) ** 2
            scale[ring] = np.sqrt(np.mean(around))
        mean[ring] = middle
    returns, costs = episodes.returns(), episodes.cost_returns()
    if target_return is None:
        target_return = float(np.percentile(returns, 95))
    return DataSpec(
        task=episodes.task,
        obs_dim=episodes.obs_dim,
        action_dim=episodes.action_dim,
        obs_mean=mean.astype(np.float32),
        obs_std=scale.astype(np.float32),
        obs_active=active,
        max_timestep=int(episodes.lengths.max()),
        return_scale=float(max(np.abs(returns).max(), 1e-6)),
        cost_scale=float(max(costs.max(), 1.0)),
        reward_std=float(max(episodes.rewards.std(dtype=np.float64), 1e-6)),
        target_return=float(target_return),
        fingerprint=episodes.fingerprint(),
        return_range=(float(returns.min()), float(returns.max())),
        cost_range=(float(costs.min()), float(costs.max())),
        rings=rings,
        ring_single=_single(obs, rings),
    )


def _single(obs: np.ndarray, rings) -> tuple[bool, ...]:
    """Whether each lidar has at most one peak, but for one observation in a thousand.

    A peak that stands exactly between two bins counts twice.
    """
    some = obs[:: max(len(obs) // 100_000, 1)]
    single = []
    for first, size in rings:
        peaks = np.asarray(lidar.is_own(some[:, first : first + size]))
        single.append(bool((peaks.sum(axis=1) > 1).mean() < 1e-3))
    return tuple(single)


def lidar_rings(task: str, obs_dim: int) -> tuple[tuple[int, int], ...]:
    """(first, size) of a task's lidars; none where the observation is not the task's.

    obs_dim: size of the observation at hand.
    """
    if task not in TASKS or TASKS[task].obs_dim != obs_dim:
        return ()
    groups = TASKS[task].obs_groups
    return tuple(
        (group.start, group.stop - group.start)
        for name, group in groups.items()
        if name.endswith("_lidar")
    )
