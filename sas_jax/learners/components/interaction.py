"""Settings of learners that act while they learn: how often, and what they remember.

An iteration makes one step in each of `num_envs` environments and then
`updates_per_step` updates. A block is `block_steps` iterations: what was lived in it
can be drawn from the next block on. `train.num_steps` counts updates, as everywhere.
"""

import dataclasses
from typing import Any

from sas_jax.config import Number
from sas_jax.errors import UserError
from sas_jax.experiment import ExperimentConfig
from sas_jax.learners import memoryless
from sas_jax.learners.components.actor_critic import ActorCriticConfig


@dataclasses.dataclass(frozen=True)
class OnlineConfig(ActorCriticConfig):
    """num_envs: environments side by side, of each lane. updates_per_step: updates
    after each of their steps. capacity: transitions that a lane's buffer holds, a
    multiple of num_envs. start_steps: transitions of random actions before the first
    update, likewise. block_steps: iterations of a block.
    """

    actor_rate: float = 3e-4
    reward_scale: float = 1.0
    num_envs: int = 10
    updates_per_step: int = 1
    capacity: int = 1_000_000
    start_steps: int = 10_000
    block_steps: int = 20

    def rules(self) -> dict[str, Any]:
        """One rule a field."""
        count = Number(least=1, whole=True)
        return super().rules() | {
            "num_envs": count,
            "updates_per_step": count,
            "capacity": count,
            "start_steps": count,
            "block_steps": count,
        }

    @property
    def updates_per_block(self) -> int:
        """What `train.chunk` and `train.num_steps` must be multiples of."""
        return self.block_steps * self.updates_per_step


def check(config: ExperimentConfig) -> None:
    """Raises UserError for settings that do not fit one another."""
    memoryless.check(config)
    model, train = config.model, config.train
    for name in ("capacity", "start_steps"):
        if (given := getattr(model, name)) % model.num_envs:
            raise UserError(
                f"model.{name}: {given}; expected a multiple of model.num_envs "
                f"{model.num_envs}"
            )
    for name in ("start_steps", "block_steps"):
        most = model.capacity // (model.num_envs if name == "block_steps" else 1)
        if (given := getattr(model, name)) > most:
            raise UserError(
                f"model.{name}: {given}; expected at most {most}, what model.capacity "
                f"{model.capacity} holds"
            )
    for name in ("chunk", "num_steps"):
        if (given := getattr(train, name)) % model.updates_per_block:
            raise UserError(
                f"train.{name}: {given}; expected a multiple of "
                f"{model.updates_per_block}, model.block_steps x "
                "model.updates_per_step"
            )
    for name, wanted in (("stop_on", ""), ("devices", 1)):
        if (given := getattr(train, name)) != wanted:
            raise UserError(
                f"train.{name}: {given!r}; expected {wanted!r}, as algo "
                f"{config.algo!r} has no held-out data and runs on one device"
            )
