"""The gate: a cost critic looks at an action before it is taken.

Beyond the paper (algorithm, section 10). Whoever picks by a learnt number picks its
errors too, so the gate is pessimistic: the critic's risk is an upper estimate, and
every action that is good enough is left alone. `rules.least_risk` chooses imaginations
by the same critic.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from sas_jax.alignment.config import SASConfig
from sas_jax.alignment.sequence_model import Observed, SequenceModel
from sas_jax.shapes import expect_shape
from sas_jax.types import Params, StepOutput


class RiskModel(NamedTuple):
    """What a cost critic must offer, or a support model; pure functions.

    risk: (variables, obs `[..., O]` as the sequence model standardises it,
      action `[..., A]`) -> `[...]` risk of the step, no unit, the higher the worse.
    level: (variables, cost_limit `[...]`) -> `[...]` the largest risk to accept under
      that threshold.
    value: as `risk`, but cost units: what is still to come from that step on. None
      where nobody asks for it (`plan_value` does).
    """

    risk: Callable[[Any, jax.Array, jax.Array], jax.Array]
    level: Callable[[Any, jax.Array], jax.Array]
    value: Callable[[Any, jax.Array, jax.Array], jax.Array] | None = None


def gate(risk: jax.Array, level: jax.Array) -> jax.Array:
    """Which of A candidate actions to take: `[B, A]`, `[B]` -> `[B]` index.

    The first one unless its risk exceeds the level; then the least risky, the first of
    equals. A risk that is not a number is the worst.
    """
    chex.assert_rank([risk, level], [2, 1])
    known = jnp.where(jnp.isnan(risk), jnp.inf, risk)
    is_fine = known[:, 0] <= level
    return jnp.where(is_fine, 0, jnp.argmin(known, axis=1)).astype(jnp.int32)


def pass_gate(
    risk_model: RiskModel,
    config: SASConfig,
    variables: Any,
    observed: Observed,
    *,
    obs: jax.Array,
    first: jax.Array,
    noise: jax.Array,
    cost_limit: jax.Array,
    is_gated: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """The actions `[B, A]`, before clipping, that a batch of rows takes.

    Args:
      observed: the policy's distributions. obs: `[B, O]` standardised.
      first: `[B, A]` the policy's own choices.
      noise: `[B, gate_actions - 1, A]` standard normal draws of the others.
      cost_limit: `[B]` thresholds. is_gated: `[B]`; the other rows keep their first.

    Returns:
      `[B, A]`, and `[B]` bool, which rows do not take their first choice.
    """
    std = jnp.exp(observed.log_std)[:, None]
    others = observed.mean[:, None] + std * noise
    samples = jnp.concatenate([first[:, None], others], axis=1)
    wide = jnp.broadcast_to(obs[:, None], (*samples.shape[:2], obs.shape[-1]))
    risk = risk_model.risk(variables, wide, jnp.clip(samples, -1.0, 1.0))
    level: Any = config.gate_level
    if level is None:
        level = risk_model.level(variables, cost_limit)
    level = jnp.broadcast_to(jnp.asarray(level, risk.dtype), first.shape[:1])
    index = jnp.where(is_gated, gate(risk, level), 0)
    chosen = jnp.take_along_axis(samples, index[:, None, None], axis=1)[:, 0]
    return chosen, index > 0


def risk_of_steps(
    risk_model: RiskModel, model: SequenceModel, variables: Params, steps: StepOutput
) -> jax.Array:
    """A cost critic's risk `[P, T]` of imagined steps `[P, T]`.

    Step by step: a critic's hidden layers over all steps of all episodes at once would
    take gigabytes.
    """

    def of_step(step):
        obs, action = step
        found = risk_model.risk(variables, model.standardise(obs), action)
        expect_shape("risk_model.risk", "risk", found, action.shape[0])
        return found

    by_step = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), (steps.obs, steps.action))
    return jnp.moveaxis(jax.lax.map(of_step, by_step), 0, 1)
