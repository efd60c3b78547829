"""The configuration of a run: every component's, nested, and how it is built."""

import dataclasses

from sas_jax.alignment import SASConfig
from sas_jax.errors import UserError, nearest
from sas_jax.spec import DataSpec
from sas_jax.transformer import DecoderConfig
from sas_jax.world_model import WorldModel, WorldModelConfig

ALGORITHMS = ("dt", "cdt")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Optimisation; defaults are the paper's DT (Table 5) at equal tokens a batch.

    batch_rows x row_length: rows longer than the context K, so that the window mask is
      trained (64 x 20 steps of the paper become 16 x 80).
    schedule: "constant" or "cosine" (to a tenth) after `warmup` steps.
    chunk: steps per jitted call. checkpoint_every, log_every: multiples of chunk.
    held_out: share of the episodes kept for validation and the world-model card.
    num_seeds: training seeds, a vmap axis; seed, seed + 1, ...
    tensorboard: also write the curves as TensorBoard events (extra `tensorboard`).
    """

    num_steps: int = 100_000
    batch_rows: int = 16
    row_length: int = 80
    learning_rate: float = 1e-4
    warmup: int = 10_000
    schedule: str = "constant"
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    chunk: int = 50
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    held_out: float = 0.1
    seed: int = 0
    num_seeds: int = 1
    tensorboard: bool = False

    def __post_init__(self):
        for name in ("num_steps", "batch_rows", "row_length", "chunk", "num_seeds"):
            if getattr(self, name) < 1:
                raise UserError(f"train.{name} must be >= 1, got {getattr(self, name)}")
        if self.checkpoint_every < 1 or self.checkpoint_every % self.chunk:
            raise UserError(
                f"train.checkpoint_every {self.checkpoint_every} must be a multiple of "
                f"train.chunk {self.chunk}"
            )
        if self.schedule not in ("constant", "cosine"):
            raise UserError(
                f"train.schedule must be constant or cosine, got {self.schedule!r}"
            )
        if not 0.0 < self.held_out < 1.0:
            raise UserError(f"train.held_out must lie in (0, 1), got {self.held_out}")


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """One training run and how its policy is aligned."""

    task: str = "PointGoal1"
    algo: str = "dt"
    model: WorldModelConfig = dataclasses.field(default_factory=WorldModelConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    sas: SASConfig = dataclasses.field(default_factory=SASConfig)

    def __post_init__(self):
        if self.algo not in ALGORITHMS:
            raise UserError(
                f"algo: unknown {self.algo!r}{nearest(self.algo, ALGORITHMS)} "
                f"(known: {', '.join(ALGORITHMS)})"
            )
        if self.model.cost_token != (self.algo == "cdt"):
            raise UserError(
                f"model.cost_token is {self.model.cost_token}, but algo {self.algo!r} "
                f"{'has' if self.algo == 'cdt' else 'has no'} cost tokens"
            )


def default_config(task: str, algo: str = "dt") -> ExperimentConfig:
    """The paper's settings of an algorithm (Table 5; CDT's context as in OSRL)."""
    if algo == "cdt":
        return ExperimentConfig(
            task=task,
            algo=algo,
            model=WorldModelConfig(
                decoder=DecoderConfig(num_heads=8, context=10), cost_token=True
            ),
            train=TrainConfig(batch_rows=512, row_length=40),
        )
    return ExperimentConfig(task=task, algo=algo)


def make_model(config: ExperimentConfig, spec: DataSpec) -> WorldModel:
    """The networks for a data set's sizes."""
    return WorldModel(
        config=config.model,
        obs_dim=spec.obs_dim,
        action_dim=spec.action_dim,
        active=tuple(bool(x) for x in spec.obs_active),
        reward_unit=spec.reward_std / spec.return_scale,
    )
