"""What a policy reads of its targets, beside the tokens.

Targets that only pass through the transformer are lost beside the state
(docs/decisions.md).
"""

import jax
import jax.numpy as jnp

from sas_jax.types import NO_LIMIT

# Share of an episode below which a target per remaining step grows no further, and how
# often the mean rate of the data's largest episode it is at most. What an episode fell
# short of piles up in its last steps: uncut, the policy is asked for what no data show.
LEAST_LEFT = 0.05
MOST_PER_STEP = 2.0
# What networks read in the place of `NO_LIMIT`: a value that no limit has.
_READ_WITHOUT_LIMIT = -1.0


def read_cost(cost_to_go: jax.Array) -> jax.Array:
    """A cost-to-go, scaled, as networks read it, elementwise.

    Below 0, a limit already exceeded, it is none: the data have no other.
    """
    is_limited = cost_to_go < NO_LIMIT
    return jnp.where(is_limited, jnp.maximum(cost_to_go, 0.0), _READ_WITHOUT_LIMIT)


def policy_targets(
    return_to_go: jax.Array, cost_to_go: jax.Array | None, timestep: jax.Array, longest
) -> jax.Array:
    """Targets and what they ask for per remaining step, `[..., 3]` or `[..., 6]`.

    Args:
      return_to_go: `[...]`, scaled by the data's largest return.
      cost_to_go: `[...]`, scaled alike, see `read_cost`. None leaves costs out.
      timestep: `[...]`, of an episode of `longest` steps.
    """
    left = jnp.maximum(1.0 - timestep / longest, 1.0 / longest)
    targets = [left, return_to_go, _per_step(return_to_go, left)]
    if cost_to_go is not None:
        known = read_cost(cost_to_go)
        targets += [known, _per_step(known, left)]
        # What matters is whether little is left or nothing.
        little = jnp.log1p(50.0 * jnp.maximum(known, 0.0)) / 4.0
        targets.append(jnp.where(known < 0.0, known, little))
    return jnp.stack(targets, axis=-1)


def _per_step(to_go, left):
    """What is to come over the share of the episode that is left, cut."""
    rate = to_go / jnp.maximum(left, LEAST_LEFT)
    return jnp.clip(rate, -MOST_PER_STEP, MOST_PER_STEP)
