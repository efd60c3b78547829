"""Imagination: a scan over time, all candidates in parallel.

Knows nothing of networks: `step(variables, keys, state, prompt)` may be any function of
that form, such as a three-line analytic system in a test.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from sas_jax.types import Key, Params, StepOutput, Trajectory


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


def segment(
    outputs: StepOutput, index: jax.Array, start: jax.Array, length: int
) -> Trajectory:
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
