"""Imagination: a scan over time, all candidates in parallel.

Knows nothing of networks: `step(variables, keys, state, prompt)` may be any function of
that form, such as a three-line analytic system in a test. A model may also offer its
step in stages, of which only one has to wait for the step before (`Stages`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sas_jax.types import Key, Params, StepOutput, Trajectory

# Steps whose noise is drawn at once and that are scored one after another: enough that
# the work around them vanishes, few enough that what they hand on stays in the cache.
_BLOCK_STEPS = 32
_LEAST_BLOCK_STEPS = 8


class Stages(NamedTuple):
    """A step cut in three; together they must do what `step` does.

    Noise needs the keys alone, and nothing in the next step waits for the density of
    the state it begins in. So only the middle part must run step by step.

    draw(keys, timestep) -> noise of P trajectories at `timestep` `[P]`.
    advance(variables, noise, state, prompt) -> (StepOutput, state, situation), all but
      the next state's log-density; state is a flax struct with `timestep` and
      `log_density` `[P]`, and the latter is left as it was.
    score(variables, situation) -> `[P]` log-density of the state that `advance` led to.
    """

    draw: Callable[..., Any]
    advance: Callable[..., tuple[StepOutput, Any, Any]]
    score: Callable[..., jax.Array]


def imagine(
    step: Callable[..., tuple[StepOutput, Any]],
    variables: Params,
    keys: Key,
    state: Any,
    prompt: Any = None,
    *,
    horizon: int,
) -> tuple[StepOutput, Any]:
    """Rolls out `P` trajectories for `horizon` steps (algorithm, section 2).

    Args:
      step: `(variables, keys, state, prompt) -> (StepOutput, state)` for P
        trajectories; it folds the time step into the keys itself.
      keys: `[P]`, one stream per trajectory, so that the draws of one depend neither
        on how many others there are nor on their order.
      state: where to start, batched `[P]`.
      prompt: context shared by all P trajectories, or None.
      horizon: T, static.

    Returns:
      `StepOutput` with shapes `[P, T, ...]`, and the final state.
    """

    def body(state, _):
        output, state = step(variables, keys, state, prompt)
        return state, output

    state, outputs = jax.lax.scan(body, state, length=horizon)
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), outputs), state


def imagine_in_stages(
    stages: Stages,
    variables: Params,
    keys: Key,
    state: Any,
    prompt: Any = None,
    *,
    horizon: int,
) -> tuple[StepOutput, Any]:
    """As `imagine`, the stages of several steps at a time.

    The weights that only the density reads are then read once in a while, not between
    those of every step, which is what a few trajectories' steps take their time for.
    """

    def run(state, length):
        """`length` steps: outputs `[length, P, ...]`."""
        times = state.timestep[None, :] + jnp.arange(length)[:, None]
        noise = jax.vmap(stages.draw, (None, 0))(keys, times)

        def body(state, noise):
            output, state, situation = stages.advance(variables, noise, state, prompt)
            return state, (output, situation)

        first = state.log_density
        state, (outputs, situations) = jax.lax.scan(body, state, noise)
        scores = jax.lax.map(lambda x: stages.score(variables, x), situations)
        outputs = outputs.replace(
            log_density=jnp.concatenate([first[None], scores[:-1]])
        )
        return state.replace(log_density=scores[-1]), outputs

    length = _block_length(horizon)
    count, rest = divmod(horizon, length)
    state, outputs = jax.lax.scan(lambda s, _: run(s, length), state, length=count)
    outputs = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), outputs)
    if rest:
        state, last = run(state, rest)
        outputs = jax.tree.map(lambda *x: jnp.concatenate(x), outputs, last)
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), outputs), state


def _block_length(horizon):
    """Steps of a block: a divisor of the horizon if there is one of a good size."""
    longest = min(horizon, _BLOCK_STEPS)
    lengths = range(longest, min(longest, _LEAST_BLOCK_STEPS) - 1, -1)
    return next((n for n in lengths if horizon % n == 0), longest)


def imagine_with(
    model: Any,
    variables: Params,
    keys: Key,
    state: Any,
    prompt: Any = None,
    *,
    horizon: int,
) -> tuple[StepOutput, Any]:
    """Imagination by a `SequenceModel`: in its stages if it has any, else by `step`."""
    if model.stages is None:
        return imagine(model.step, variables, keys, state, prompt, horizon=horizon)
    return imagine_in_stages(
        model.stages, variables, keys, state, prompt, horizon=horizon
    )


def segment(outputs: StepOutput, index: jax.Array, start: jax.Array, length: int):
    """Cuts steps `[start, start + length)` of trajectory `index` out of `[P, T]`.

    Returns a `Trajectory` `[length]`; index and start may be traced.
    """

    def cut(x):
        return jax.lax.dynamic_slice_in_dim(x[index], start, length, axis=0)

    return Trajectory(
        obs=cut(outputs.obs),
        action=cut(outputs.action),
        reward=cut(outputs.reward),
        cost=cut(outputs.cost),
        return_to_go=cut(outputs.return_to_go),
        cost_to_go=cut(outputs.cost_to_go),
        timestep=cut(outputs.timestep),
        is_valid=jnp.ones(length, bool),
    )
