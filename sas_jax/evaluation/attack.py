"""Observations that are changed for the worst, within bounds.

State-adversarial attacks (Zhang et al. 2020): somebody between the sensors and the
policy changes every column of an observation by at most `size` standard deviations of
the data, so that the policy's mean action moves most (their "maximal action
difference"). What such a bound costs says how far a policy depends on exact sensors.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax.errors import UserError
from sas_jax.types import Key, Policy, TimeStep

# Corners of the box that are tried: the same ones at every step, so that an attack
# draws nothing and an episode depends on nothing else that runs.
NUM_CORNERS = 8
_SEED = 5


def mean_action_of(policy: Policy) -> Callable[..., jax.Array]:
    """The policy's `mean_action`.

    Raises:
      UserError: it has none.
    """
    if policy.mean_action is None:
        raise UserError(
            "this policy does not say its mean action, which attacks and slopes are "
            "of; expected one of a sequence model or of a learner on single steps"
        )
    return policy.mean_action


def corners(scale: jax.Array) -> jax.Array:
    """`[NUM_CORNERS, O]` of the box of half-widths `scale` `[O]`."""
    signs = np.random.default_rng(_SEED).choice((-1.0, 1.0), (NUM_CORNERS, len(scale)))
    return jnp.asarray(signs, jnp.float32) * scale[None]


def attacked(policy: Policy, size: float, obs_std: np.ndarray) -> Policy:
    """The policy behind such a channel; memory, plans and tokens see what it sees.

    Only alignment, before the first step, sees the true observation. Of some corners of
    the box the one that moves the mean action most is taken, and from there one step
    along the gradient's sign, if that moves it more.

    Args:
      size: of the box, in `obs_std` `[O]`; columns of 0 stay as they are.

    Raises:
      UserError: a policy without `mean_action`.
    """
    mean_action = mean_action_of(policy)
    scale = jnp.asarray(size * np.asarray(obs_std), jnp.float32)
    box = corners(scale)

    def act(
        variables: Any, carry: Any, ts: TimeStep, key: Key
    ) -> tuple[jax.Array, Any]:
        def beside(change: jax.Array) -> TimeStep:
            return dataclasses.replace(ts, obs=ts.obs + change)

        plain = mean_action(variables, carry, ts)

        def moved(change: jax.Array) -> jax.Array:
            """How far each row's mean action moves, `[B]`, under changes `[B, O]`."""
            there = mean_action(variables, carry, beside(change))
            return jnp.square(there - plain).sum(axis=1)

        def tried(corner: jax.Array) -> jax.Array:
            return moved(jnp.broadcast_to(corner, ts.obs.shape))

        best = box[jnp.argmax(jax.lax.map(tried, box), axis=0)]
        slope = jax.grad(lambda change: moved(change).sum())(best)
        # Where nothing depends on a column its corner stays.
        steepest = jnp.where(slope == 0, best, jnp.sign(slope) * scale[None])
        is_better = moved(steepest) > moved(best)
        change = jnp.where(is_better[:, None], steepest, best)
        return policy.act(variables, carry, beside(change), key)

    return policy._replace(act=act)
