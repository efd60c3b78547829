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
from sas_jax.gaussian import action_log_prob
from sas_jax.shapes import expect_shape
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


class Forced(NamedTuple):
    """What the model says at each of T real steps.

    mean, log_std: `[B, T, A]` the policy's distribution. following: `[B, T]` log rho of
    the observation that follows; at the last step, of that step's own; NaN where
    nothing was scored.
    """

    mean: jax.Array
    log_std: jax.Array
    following: jax.Array


def at_present(
    state: Any, obs: jax.Array, return_to_go: jax.Array, cost_to_go: jax.Array
) -> Any:
    """The model's state at a real observation with the true tokens.

    obs: `[B, O]` in the model's units. return_to_go, cost_to_go: `[B]`.
    """
    return state.replace(obs=obs, return_to_go=return_to_go, cost_to_go=cost_to_go)


def force(
    model: SequenceModel,
    variables: Params,
    state: Any,
    steps: Steps,
    *,
    prompt: Any = None,
    score_keys: Key | None = None,
    is_standardised: bool = False,
) -> tuple[Any, Forced]:
    """Runs a policy along real steps, which it remembers as if they were its own.

    The steps may begin anywhere in an episode: nothing before them is in sight.

    Args:
      state: at the first step's time step; its window is the most that comes in sight.
      steps: what happened; `length` is not looked at.
      prompt: batched `[B]`, or shared by all, or None.
      score_keys: `[B]` streams of the density's samples; None scores nothing.
      is_standardised: the observations are in the model's units already.

    Returns:
      The state after the last step, with its window as before, and what was seen.

    Raises:
      UserError: fields of `steps` whose shapes do not fit one another.
    """
    _check(steps)
    most = state.window

    def advance(state, now):
        t, raw, action, return_to_go, cost_to_go, following = now
        obs = raw if is_standardised else model.standardise(raw)
        state = at_present(state, obs, return_to_go, cost_to_go)
        state = state.replace(window=jnp.minimum(most, t + 1))
        observed = model.observe(variables, state, prompt)
        given = (variables, state, observed, action, prompt)
        if score_keys is None:
            state, score = model.commit(*given), jnp.full(action.shape[0], jnp.nan)
        else:
            state, prediction = model.foresee(*given)
            keys = jax.vmap(lambda key: jax.random.fold_in(key, t + 1))(score_keys)
            score = model.score(variables, keys, prediction, following)
        return state, Forced(observed.mean, observed.log_std, score)

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
    state, out = jax.lax.scan(advance, state, inputs)
    out = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), out)
    return state.replace(window=most), out


def _check(steps: Steps) -> None:
    """UserError unless the fields fit one another; `length` may be left out."""
    where, given = "force", {"verb": "was given"}
    expect_shape(where, "steps.obs", steps.obs, None, None, None, **given)
    rows, count, _ = jnp.shape(steps.obs)
    expect_shape(where, "steps.action", steps.action, rows, count, None, **given)
    for name in ("return_to_go", "cost_to_go"):
        value = getattr(steps, name)
        expect_shape(where, f"steps.{name}", value, rows, count, **given)
    if steps.length is not None:
        expect_shape(where, "steps.length", steps.length, rows, **given)


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
    """Judges episodes from their first step as if the model had imagined them.

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
    first = state.log_density if can_score else jnp.full(count, jnp.nan)
    score_keys = keys if can_score else None
    _, seen = force(
        model, variables, state, steps, prompt=prompt, score_keys=score_keys
    )
    log_prob = action_log_prob(
        steps.action, seen.mean, seen.log_std, is_censored=model.is_censored
    )
    log_density = jnp.concatenate([first[:, None], seen.following[:, :-1]], axis=1)
    return Replay(seen.mean, seen.log_std, log_prob, log_density)


def energies_of(run: Replay, length: jax.Array, config: SASConfig) -> jax.Array:
    """Energies `[B, T]` of a replay, as `lyapunov.energy`; NaN after `length`."""
    inside = jnp.arange(run.log_prob.shape[1])[None, :] < length[:, None]
    scores = jnp.where(inside, run.log_density + run.log_prob, -jnp.inf)
    energies = jax.vmap(
        lambda row: lyapunov.energy(
            row, discount=config.discount, window=config.energy_window
        )
    )(scores)
    return jnp.where(inside, energies, jnp.nan)
