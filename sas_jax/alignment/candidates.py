"""Candidates of a plan: what might be done from the present, and what would come of it.

What makes them worth choosing from (docs/results/plan.md):

- They differ, because most of a candidate's action noise is one draw for all of its
  steps. Independent noise averages out: all candidates go the same way.
- Their differences are real, because the world's own noise is the same for all of them
  (by default none). Otherwise the best of N is the luckiest draw.
"""

from typing import Any

import jax
import jax.numpy as jnp

from sas_jax.alignment.config import PlanConfig
from sas_jax.alignment.plan import Plan
from sas_jax.alignment.sequence_model import SequenceModel
from sas_jax.gaussian import normal_rows
from sas_jax.shapes import expect_shape
from sas_jax.types import Key, Params, StepOutput


def references(config: PlanConfig) -> range:
    """Candidates that do what the policy would."""
    return range(config.num_reference)


def others(config: PlanConfig) -> range:
    """The further candidates."""
    return range(config.num_reference, config.num_candidates)


def imagine(
    model: SequenceModel,
    variables: Params,
    keys: Key,
    state: Any,
    prompt: Any,
    plan: Plan,
    config: PlanConfig,
    which: range,
) -> StepOutput:
    """The candidates `which` of T steps from each row's present state, `[B, n, T]`.

    The first `num_reference` candidates have no push: candidate 0 is the policy's mean
    at every step, the others add the noise that changes from step to step. The next one
    goes on with the plan in hand. All further ones have a push of their own:
    eps_t = scale (rho push_t + sqrt(1 - rho^2) xi_t), in units of the policy's
    deviation. Every other push ends after `push_steps`: what a manoeuvre is worth if
    the policy goes on after it, as it will.
    A candidate is the same whichever others are imagined beside it.

    Args:
      keys: `[B]`, consumed. state, prompt, plan: of B rows.
    """
    count, size = keys.shape[0], len(which)
    index = jnp.arange(which.start, which.stop)
    goes_on = (index == config.num_reference)[None, :] & plan.is_kept[:, None]
    rho, scale = config.persistence, config.action_scale
    # The mean itself, and noise for all others; a push for those that are no reference.
    loud = scale * (index > 0) * (1.0 - rho**2) ** 0.5
    pushed = scale * rho * (index > config.num_reference)
    # Odd ones: which they are does not depend on how many are imagined.
    is_short = (index % 2 == 1) & (config.push_steps > 0)
    lasts = jnp.where(is_short, config.push_steps, config.horizon)

    def wide(tree):
        return jax.tree.map(
            lambda x: jnp.repeat(x, size, axis=0) if x.ndim else x, tree
        )

    candidates = jax.vmap(
        lambda key: jax.vmap(lambda i: jax.random.fold_in(key, i))(index)
    )(jax.vmap(lambda key: jax.random.fold_in(key, 0))(keys)).reshape(-1)
    # One stream of the world's noise for all candidates of a row.
    world = wide(jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys))
    actions = plan.action.shape[-1]
    push = jnp.tile(pushed, count)[:, None] * normal_rows(candidates, (actions,))
    lasts = jnp.tile(lasts, count)[:, None]
    held = wide(plan.action)
    goes_on = goes_on.reshape(-1)
    age = wide(plan.age)

    def advance(state, t):
        observed = model.observe(variables, state, wide_prompt)
        step_keys = jax.vmap(lambda key: jax.random.fold_in(key, t + 1))(candidates)
        noise = jnp.tile(loud, count)[:, None] * normal_rows(step_keys, (actions,))
        noise += jnp.where(t < lasts, push, 0.0)
        sample = observed.mean + jnp.exp(observed.log_std) * noise
        place = age + t
        planned = jnp.take_along_axis(
            held, jnp.minimum(place, config.horizon - 1)[:, None, None], axis=1
        )[:, 0]
        follows = goes_on & (place < config.horizon)
        action = jnp.where(follows[:, None], planned, jnp.clip(sample, -1.0, 1.0))
        output, state = model.advance(
            variables, world, state, observed, action, wide_prompt, config.world_noise
        )
        expect_shape("advance", "reward", output.reward, count * size)
        return state, output

    wide_prompt = None if prompt is None else wide(prompt)
    _, outputs = jax.lax.scan(advance, wide(state), jnp.arange(config.horizon))
    return jax.tree.map(
        lambda x: jnp.moveaxis(x, 0, 1).reshape(
            count, size, config.horizon, *x.shape[2:]
        ),
        outputs,
    )
