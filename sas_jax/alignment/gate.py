"""What a cost critic is used for: choosing imaginations, and gating actions.

Beyond the paper (algorithm, section 10). Whoever picks by a learnt number picks its
errors too, so both uses are pessimistic: the critic's risk is an upper estimate, an
imagination that is less likely than its rivals pays for it, and the gate leaves alone
every action that is good enough.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from sas_jax.alignment import lyapunov
from sas_jax.alignment.config import SASConfig
from sas_jax.alignment.sequence_model import Observed


class RiskModel(NamedTuple):
    """What a cost critic must offer; pure functions.

    risk: (variables, obs `[..., O]` as the sequence model standardises it,
      action `[..., A]`) -> `[...]` risk of the step, no unit, the higher the worse.
    level: (variables, cost_limit `[...]`) -> `[...]` the largest risk to accept under
      that threshold.
    """

    risk: Callable[[Any, jax.Array, jax.Array], jax.Array]
    level: Callable[[Any, jax.Array], jax.Array]


def _standardised(x, is_valid):
    """`[N]` less its mean, over its standard deviation; 0 where all are equal."""
    count = jnp.maximum(is_valid.sum(), 1)
    x = jnp.where(is_valid, x, 0.0)
    away = jnp.where(is_valid, x - x.sum() / count, 0.0)
    spread = jnp.sqrt(jnp.square(away).sum() / count)
    return jnp.where(spread > 1e-9, away / jnp.maximum(spread, 1e-9), 0.0)


def select_by_risk(
    energies: jax.Array,
    risk: jax.Array,
    *,
    penalty: chex.Numeric,
    num_steps: jax.Array | None = None,
) -> lyapunov.Selection:
    """The imagination with the least risk, among those that are likely.

    Its score, the smaller the better, is its mean risk plus `penalty` times its mean
    energy, both standardised over the candidates, so that the penalty means the same
    for all densities and critics.

    Args:
      energies: `[N, T]`. A non-finite energy or risk disqualifies its trajectory.
      risk: `[N, T]` of every step.
      penalty: weight of being unlikely; 0 trusts the critic alone.
      num_steps: `[]` steps that count; None means all.

    Returns:
      Selection; peak and level are those of the chosen trajectory's energy.
    """
    chex.assert_rank([energies, risk], [2, 2])
    is_valid = jnp.all(jnp.isfinite(energies) & jnp.isfinite(risk), axis=1)
    horizon = energies.shape[1]
    counts = jnp.arange(horizon) < (horizon if num_steps is None else num_steps)
    counts = counts[None, :] & is_valid[:, None]

    def mean(x):
        total = jnp.where(counts, x, 0.0).sum(axis=1)
        return total / jnp.maximum(counts.sum(axis=1), 1)

    score = _standardised(mean(risk), is_valid)
    score = score + penalty * _standardised(mean(energies), is_valid)
    clean = jnp.where(is_valid[:, None], energies, 0.0)
    return lyapunov.choose(
        score, clean.max(axis=1), clean.argmax(axis=1), score, is_valid
    )


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
    noise: Callable[[], jax.Array],
    cost_limit: jax.Array,
    is_gated: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """The actions `[B, A]`, before clipping, that a batch of rows takes.

    Args:
      observed: the policy's distributions. obs: `[B, O]` standardised.
      first: `[B, A]` the policy's own choices.
      noise: makes `[B, gate_actions - 1, A]` standard normal draws of the others.
      cost_limit: `[B]` thresholds. is_gated: `[B]`; the other rows keep their first.

    Returns:
      `[B, A]`, and `[B]` bool, which rows do not take their first choice.
    """

    def choose():
        std = jnp.exp(observed.log_std)[:, None]
        others = observed.mean[:, None] + std * noise()
        samples = jnp.concatenate([first[:, None], others], axis=1)
        wide = jnp.broadcast_to(obs[:, None], (*samples.shape[:2], obs.shape[-1]))
        risk = risk_model.risk(variables, wide, jnp.clip(samples, -1.0, 1.0))
        level = config.gate_level
        if level is None:
            level = risk_model.level(variables, cost_limit)
        level = jnp.broadcast_to(jnp.asarray(level, risk.dtype), first.shape[:1])
        index = jnp.where(is_gated, gate(risk, level), 0)
        chosen = jnp.take_along_axis(samples, index[:, None, None], axis=1)[:, 0]
        return chosen, index > 0

    def keep():
        return first, jnp.zeros(first.shape[:1], bool)

    # Rows of a batch have one variant, as a rule: others pay nothing for the gate.
    return jax.lax.cond(is_gated.any(), choose, keep)
