"""The configuration of a run: every component's, nested, and how it is built."""

import dataclasses
import math
from typing import Any, NamedTuple

from sas_jax.alignment.config import SASConfig
from sas_jax.config import SEEDS, Choice, Many, Number, check
from sas_jax.data.device_rows import Prompting
from sas_jax.data.sampling import DataConfig
from sas_jax.data.spec import DataSpec
from sas_jax.envs.tasks import TASKS, get_task
from sas_jax.errors import UserError, nearest
from sas_jax.models.world_model import WorldModel, WorldModelConfig


class Lane(NamedTuple):
    """What is trained beside others in one program, along the states' leading axis.

    seed: the training seed. cost_limit: the threshold that these parameters are for,
    NaN where an algorithm does not train by threshold.
    """

    seed: int
    cost_limit: float = math.nan

    def __str__(self) -> str:
        limit = self.cost_limit
        return f"{self.seed}" + ("" if math.isnan(limit) else f", cost limit {limit:g}")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Optimisation; defaults are the paper's DT (Table 5) at equal tokens a batch.

    batch_rows x row_length: rows longer than the context K, so that the window mask is
      trained (64 x 20 steps of the paper become 16 x 80).
    schedule: "constant" or "cosine" (to a tenth) after `warmup` steps.
    clip_norm: most that a gradient's global norm may be; None clips nothing.
    chunk: steps per jitted call. checkpoint_every: steps, a multiple of chunk.
    held_out: share of the episodes kept for validation and the world-model card.
    num_seeds: training seeds, a vmap axis; seed, seed + 1, ...
    cost_limits: thresholds that have parameters of their own, for algorithms that train
      by threshold; every seed has a lane for each.
    tensorboard: also write the curves as TensorBoard events (extra `tensorboard`).
    devices: how many a batch's rows are spread over; 0 means all, of all hosts.
    accumulate: parts that a batch is worked off in, for memory (see `accumulate`).
    stop_on: validation metric, as metrics.csv names it ("val_loss"), that stops a seed
      when it has not fallen for `stop_patience` checkpoints; a leading - asks for the
      largest. The last checkpoint then holds each seed's best state. "" never stops.
    keep_fractions: shares of num_steps whose checkpoints are kept for good, each at the
      nearest multiple of chunk (anything else would change the steps that follow).
    """

    num_steps: int = 100_000
    batch_rows: int = 16
    row_length: int = 80
    learning_rate: float = 1e-4
    warmup: int = 10_000
    schedule: str = "constant"
    weight_decay: float = 1e-4
    clip_norm: float | None = 1.0
    chunk: int = 50
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    held_out: float = 0.1
    seed: int = 0
    num_seeds: int = 1
    cost_limits: tuple[float, ...] = ()
    tensorboard: bool = False
    devices: int = 1
    accumulate: int = 1
    stop_on: str = ""
    stop_patience: int = 5
    keep_fractions: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        count = Number(least=1, whole=True)
        rules = {
            "num_steps": count,
            "batch_rows": count,
            "row_length": count,
            "learning_rate": Number(above=0),
            "warmup": Number(least=0, whole=True),
            "schedule": Choice(("constant", "cosine")),
            "weight_decay": Number(least=0),
            "clip_norm": Number(above=0, optional=True),
            "chunk": count,
            "checkpoint_every": count,
            # A run that keeps no checkpoint has trained for nothing.
            "keep_checkpoints": count,
            "held_out": Number(above=0, below=1),
            "num_seeds": count,
            "seed": Number(least=0, below=SEEDS, whole=True),
            "cost_limits": Many(Number(least=0)),
            "devices": Number(least=0, whole=True),
            "accumulate": count,
            "stop_patience": count,
            "keep_fractions": Many(Number(above=0, most=1)),
        }
        check(self, "train", rules)
        if self.seed + self.num_seeds > SEEDS:
            raise UserError(
                f"train.seed {self.seed}: expected {self.num_seeds} seeds below 2**32"
            )
        if self.batch_rows % self.accumulate:
            raise UserError(
                f"train.batch_rows {self.batch_rows} must be a multiple of "
                f"train.accumulate {self.accumulate}"
            )
        if len(set(self.cost_limits)) != len(self.cost_limits):
            raise UserError(f"train.cost_limits {self.cost_limits}: names one twice")
        if self.checkpoint_every % self.chunk:
            raise UserError(
                f"train.checkpoint_every {self.checkpoint_every} must be a multiple of "
                f"train.chunk {self.chunk}"
            )

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """The leading axis of the training states: thresholds seed by seed."""
        limits = self.cost_limits or (math.nan,)
        seeds = range(self.seed, self.seed + self.num_seeds)
        return tuple(Lane(seed, limit) for seed in seeds for limit in limits)

    def lane_of(self, train_seed: int, cost_limit: float = math.nan) -> int:
        """Index of a lane. train_seed: index of the training seed, from 0.

        Raises:
          UserError: no such training seed, or no parameters for that threshold.
        """
        if not 0 <= train_seed < self.num_seeds:
            raise UserError(
                f"train_seed: {train_seed}; the checkpoint holds {self.num_seeds} "
                "seed(s), from 0"
            )
        if not self.cost_limits:
            return train_seed
        if cost_limit not in self.cost_limits:
            known = ", ".join(f"{x:g}" for x in self.cost_limits)
            raise UserError(
                f"cost_limits: {cost_limit:g}; the checkpoint was trained for {known}"
            )
        own = self.cost_limits.index(cost_limit)
        return train_seed * len(self.cost_limits) + own

    @property
    def kept_steps(self) -> tuple[int, ...]:
        """Steps of `keep_fractions`, in order: multiples of chunk, or the last step."""
        chunks = (
            max(round(f * self.num_steps / self.chunk), 1) * self.chunk
            for f in self.keep_fractions
        )
        return tuple(sorted({min(step, self.num_steps) for step in chunks}))


@dataclasses.dataclass(frozen=True)
class PolicyConfig:
    """What the policy's loss adds to the likelihood of the data's actions.

    entropy_target: least entropy of the policy in nats, summed over action dimensions
      (see `temperature`); None leaves the entropy alone. CDT: -action_dim.
    temperature: first weight of the entropy. temperature_rate: its learning rate.
    prompt_prob: share of the training rows that have a segment of their episode in
      sight, `sas.prompt_steps` long, as a prompt is in acting (Prompt-DT, Xu et al.
      2022): in sight of every step of the row, and in the place of as many of the K
      steps, or beside them all where `sas.prompt_place` is "beside".
    cost_drop: share of the training rows of a CDT whose costs to go are hidden, so that
      it also learns what is done without a limit; the variant `guided` needs it
      (classifier-free guidance; Ho and Salimans 2022).
    """

    entropy_target: float | None = None
    temperature: float = 0.1
    temperature_rate: float = 1e-4
    prompt_prob: float = 0.0
    cost_drop: float = 0.0

    def __post_init__(self) -> None:
        rules = {
            "entropy_target": Number(optional=True),
            "temperature": Number(above=0),
            "temperature_rate": Number(above=0),
            "prompt_prob": Number(least=0, most=1),
            "cost_drop": Number(least=0, below=1),
        }
        check(self, "policy", rules)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """One training run and how its policy is aligned.

    algo: name in the registry, see `learners`. model: settings of its networks, of the
      class that the algorithm has for them. Whether all fits together is checked by
      `learners.check`.
    """

    task: str = "PointGoal1"
    algo: str = "dt"
    model: Any
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    sas: SASConfig = dataclasses.field(default_factory=SASConfig)
    policy: PolicyConfig = dataclasses.field(default_factory=PolicyConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)

    def __post_init__(self) -> None:
        task = TASKS.get(self.task)
        longest = task.episode_steps if task else self.sas.horizon
        if self.sas.horizon > longest:
            raise UserError(
                f"sas.horizon {self.sas.horizon} must be <= {longest}, the steps of an "
                f"episode of {self.task}; 0 imagines all of them"
            )

    @property
    def has_cost_token(self) -> bool:
        """Whether the sequence model has cost-to-go tokens, as CDT's."""
        return self.algo == "cdt"

    def prompting(self) -> Prompting | None:
        """Prompts of the training rows; None without any."""
        if self.policy.prompt_prob == 0:
            return None
        context, length = self.model.decoder.context, self.sas.prompt_steps
        is_beside = self.sas.prompt_place == "beside"
        return Prompting(
            self.policy.prompt_prob,
            length=self.sas.prompt_length,
            window=context if is_beside else context - length,
            fragments=self.sas.fragments,
        )


def action_sensors(task: str) -> tuple[str, ...]:
    """The groups of a task's observations that show its last action.

    For `model.policy_blind`: a policy that sees them copies itself (docs/decisions.md).
    """
    groups = get_task(task).obs_groups
    return tuple(name for name in ("accelerometer", "gyro") if name in groups)


def make_model(config: ExperimentConfig, spec: DataSpec) -> WorldModel:
    """The networks for a data set's sizes.

    Raises:
      UserError: an algorithm without a world model, or `model.policy_blind` names a
        group that the task does not have.
    """
    if not isinstance(config.model, WorldModelConfig):
        raise UserError(
            f"algo {config.algo!r} has no world model; expected one that has"
        )
    return WorldModel(
        config=config.model,
        obs_dim=spec.obs_dim,
        action_dim=spec.action_dim,
        active=tuple(bool(x) for x in spec.obs_active),
        has_cost_token=config.has_cost_token,
        episode_steps=spec.max_timestep,
        reward_unit=spec.reward_std / spec.return_scale,
        seen=seen_columns(config.model.policy_blind, spec),
        rings=spec.rings,
        ring_scales=spec.ring_scales,
        ring_single=spec.ring_single or (False,) * len(spec.rings),
        compass=compass_of(spec),
    )


def compass_of(spec: DataSpec) -> tuple[tuple[int, float, float], ...]:
    """(column, mean, standard deviation) of a compass's two readings; see `WorldModel`.

    Only where the one lidar there is shows one thing that does not move, so that its
    bearing tells where the agent is: Circle's.
    """
    task = TASKS.get(spec.task)
    groups = task.obs_groups if task and task.obs_dim == spec.obs_dim else {}
    lidars = [name for name in groups if name.endswith("_lidar")]
    if "magnetometer" not in groups or lidars != ["circle_lidar"]:
        return ()
    first = groups["magnetometer"].start
    columns = range(first, first + 2)
    return tuple((i, float(spec.obs_mean[i]), float(spec.obs_std[i])) for i in columns)


def seen_columns(blind: tuple[str, ...], spec: DataSpec) -> tuple[bool, ...] | None:
    """Marks the observations `[O]` outside the groups `blind`; None if that is all.

    Raises:
      UserError: the task has no such group.
    """
    if not blind:
        return None
    task = TASKS.get(spec.task)
    groups = task.obs_groups if task and task.obs_dim == spec.obs_dim else {}
    seen = [True] * spec.obs_dim
    for name in blind:
        if name not in groups:
            raise UserError(
                f"model.policy_blind: {spec.task} has no observations {name!r}"
                f"{nearest(name, groups)}; it has {', '.join(groups) or 'no groups'}"
            )
        seen[groups[name]] = [False] * len(seen[groups[name]])
    return tuple(seen)
