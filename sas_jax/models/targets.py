"""What a policy reads of its targets, beside the tokens.

Targets that only pass through the transformer are lost beside the state
(docs/decisions.md).
"""

import jax
import jax.numpy as jnp

# Share of an episode below which a target per remaining step grows no further, and how
# often the mean rate of the data's largest episode it is at most. What an episode fell
# short of piles up in its last steps: uncut, the policy is asked for what no data show.
LEAST_LEFT = 0.05
MOST_PER_STEP = 2.0


def policy_targets(
    return_to_go: jax.Array, cost_to_go: jax.Array | None, timestep: jax.Array, longest
) -> jax.Array:
    """Targets and what they ask for per remaining step, `[..., 3]` or `[..., 6]`.

    Args:
      return_to_go: `[...]`, scaled by the data's largest return.
      cost_to_go: `[...]`, scaled alike; below 0, a limit exceeded, is none. None
        leaves costs out.
      timestep: `[...]`, of an episode of `longest` steps.
    """
    left = jnp.maximum(1.0 - timestep / longest, 1.0 / longest)
    targets = [left, return_to_go, _per_step(return_to_go, left)]
    if cost_to_go is not None:
        cost_to_go = jnp.maximum(cost_to_go, 0.0)
        targets += [cost_to_go, _per_step(cost_to_go, left)]
        # What matters is whether little is left or nothing.
        targets.append(jnp.log1p(50.0 * cost_to_go) / 4.0)
    return jnp.stack(targets, axis=-1)


def _per_step(to_go, left):
    """What is to come over the share of the episode that is left, cut."""
    rate = to_go / jnp.maximum(left, LEAST_LEFT)
    return jnp.clip(rate, -MOST_PER_STEP, MOST_PER_STEP)
