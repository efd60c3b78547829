"""What the constrained methods of DSRL's Table 2 share, and their reference code.

BCQ-Lag, BEAR-Lag, CPQ and COptiDICE have one public implementation, OSRL (Liu et al.
2023), which the published columns come from. `reference="osrl"` repeats where it
departs from the methods' definitions, to compare with those columns:

- Rewards end at a time-out and costs do not; by definition neither does.
- Of two cost critics the smaller one counts; here the larger one, the careful side.
- The limit is the discounted sum over an episode's steps, while its critics, which do
  not end, say the sum over all. (The same thing for episodes of 1000 steps.)

What it departs in besides stands in each method's module.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from sas_jax.config import Choice
from sas_jax.data.spec import DataSpec
from sas_jax.experiment import ExperimentConfig
from sas_jax.learners.components import limits
from sas_jax.learners.components.actor_critic import ActorCriticConfig
from sas_jax.types import TransitionBatch


@dataclasses.dataclass(frozen=True)
class ConstrainedConfig(ActorCriticConfig):
    """reference: "paper" or "osrl", see the module."""

    reference: str = "paper"

    def rules(self) -> dict[str, Any]:
        """One rule a field."""
        return super().rules() | {"reference": Choice(("paper", "osrl"))}

    @property
    def is_paper(self) -> bool:
        """Whether the method runs as it is defined."""
        return self.reference == "paper"


def bootstraps(
    config: ExperimentConfig, batch: TransitionBatch
) -> tuple[jax.Array, jax.Array]:
    """`[B]` weights of the next state's value, for rewards and for costs."""
    if config.model.is_paper:
        return batch.bootstrap, batch.bootstrap
    return batch.bootstrap * ~batch.is_timeout, jnp.ones_like(batch.bootstrap)


def careful(config: ExperimentConfig, values: jax.Array) -> jax.Array:
    """Cost critics `[members, ...]` -> the one that counts `[...]`."""
    return values.max(axis=0) if config.model.is_paper else values.min(axis=0)


def critic_limit(
    config: ExperimentConfig, spec: DataSpec, cost_limit: jax.Array
) -> jax.Array:
    """theta `[]`: the threshold as a cost critic sees it."""
    step = limits.per_step_limit(cost_limit, spec.max_timestep)
    ends = () if config.model.is_paper else (spec.max_timestep,)
    return jnp.asarray(limits.discounted_limit(step, config.model.discount, *ends))
