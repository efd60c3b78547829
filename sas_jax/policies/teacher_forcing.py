"""What a sequence policy makes of steps that have happened: teacher-forced.

The policy sees the true observations, actions and tokens, through the same step
functions that act and imagine, so that nothing here can differ from acting.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sas_jax.alignment import lyapunov
from sas_jax.alignment.config import SASConfig
from sas_jax.alignment.sequence_model import SequenceModel
from sas_jax.gaussian import gaussian_log_prob
from sas_jax.types import Key, Params


class Steps(NamedTuple):
    """Episodes from their first step, padded to one length; environment units.

    obs: `[B, T, O]`. action: `[B, T, A]` as executed. return_to_go, cost_to_go:
    `[B, T]` tokens. length: `[B]` int32 steps that count.
    """

    obs: jax.Array
    action: jax.Array
    return_to_go: jax.Array
    cost_to_go: jax.Array
    length: jax.Array


class Replay(NamedTuple):
    """The policy's distribution at every step, and the densities of what happened.

    mean, log_std: `[B, T, A]`. log_prob: `[B, T]` log pi of the action as executed.
    log_density: `[B, T]` log rho of the observation, as imagination would score it;
    NaN for a model that cannot score observations.
    """

    mean: jax.Array
    log_std: jax.Array
    log_prob: jax.Array
    log_density: jax.Array


def replay(
    model: SequenceModel,
    variables: Params,
    keys: Key,
    steps: Steps,
    *,
    prompt: Any = None,
    window: int | None = None,
    is_scored: bool = True,
) -> Replay:
    """Runs a policy along real steps.

    Args:
      model: step functions. variables: its parameters.
      keys: `[B]` streams of the density's samples.
      steps: what happened.
      prompt: batched `[B]`, or shared by all, or None.
      window: steps in sight; None means the model's context.
      is_scored: False leaves log_density out (NaN), which costs more than the policy.
    """
    can_score = is_scored and model.foresee is not None and model.score is not None
    count = steps.obs.shape[0]
    state = model.start(
        variables,
        keys,
        steps.obs[:, 0],
        steps.return_to_go[:, 0],
        steps.cost_to_go[:, 0],
        model.context,
    )
    window = jnp.full(count, model.context if window is None else window, jnp.int32)
    state = state.replace(
        timestep=jnp.zeros(count, jnp.int32), window=window.astype(state.window.dtype)
    )

    def advance(carry, now):
        """carry: state and the density of the observation it stands at."""
        state, log_density = carry
        t, obs, action, return_to_go, cost_to_go, following = now
        state = state.replace(
            obs=model.standardise(obs), return_to_go=return_to_go, cost_to_go=cost_to_go
        )
        observed = model.observe(variables, state, prompt)
        log_prob = gaussian_log_prob(action, observed.mean, observed.log_std).sum(-1)
        given = (variables, state, observed, action, prompt)
        out = Replay(observed.mean, observed.log_std, log_prob, log_density)
        if not can_score:
            return (model.commit(*given), log_density), out
        state, prediction = model.foresee(*given)
        step_keys = jax.vmap(lambda key: jax.random.fold_in(key, t + 1))(keys)
        return (state, model.score(variables, step_keys, prediction, following)), out

    def by_step(x):
        return jnp.moveaxis(jnp.asarray(x), 1, 0)

    obs = by_step(steps.obs)
    inputs = (
        jnp.arange(obs.shape[0]),
        obs,
        by_step(steps.action),
        by_step(steps.return_to_go),
        by_step(steps.cost_to_go),
        jnp.concatenate([obs[1:], obs[-1:]]),
    )
    first = state.log_density if can_score else jnp.full(count, jnp.nan)
    _, out = jax.lax.scan(advance, (state, first), inputs)
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), out)


def energies_of(run: Replay, length: jax.Array, config: SASConfig) -> jax.Array:
    """Energies `[B, T]` of a replay (algorithm, section 3); NaN after `length`."""
    inside = jnp.arange(run.log_prob.shape[1])[None, :] < length[:, None]
    scores = jnp.where(inside, run.log_density + run.log_prob, -jnp.inf)
    energies = jax.vmap(
        lambda row: lyapunov.energy(
            row, discount=config.discount, window=config.energy_window
        )
    )(scores)
    return jnp.where(inside, energies, jnp.nan)
