"""The layers that all bins of all lidars share.

What happens in one bin of a lidar depends on its neighbours and on how the agent moves
relative to it, by the same law in every direction. So the bins share one network: each
sees its neighbourhood, and the motion turned into its own direction. A hazard ahead is
learnt once, and not once for every bin.

These are functions for the inside of a compact flax module, which owns the parameters.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

# Neighbours in sight on either side of a bin: an object shows in three bins at once,
# and turns by a third of a bin in a step.
REACH = 2
# Widths of the shared layers.
HIDDEN = (64, 64)


def indices(rings, obs_dim: int) -> tuple[list[int], list[int]]:
    """The dimensions of an observation that belong to `rings`, and the others.

    rings: (first, size) of each lidar.
    """
    inside = [first + i for first, size in rings for i in range(size)]
    return inside, [i for i in range(obs_dim) if i not in set(inside)]


def of_rings(x: jax.Array, rings) -> jax.Array:
    """The lidars' part of x `[..., O]`: `[..., lidars, bins]`; all are of one size."""
    return jnp.stack([x[..., first : first + size] for first, size in rings], axis=-2)


def shared_layers(
    module: nn.Module,
    near: jax.Array,
    motion: jax.Array,
    *,
    hidden: tuple[int, ...],
    dtype: jnp.dtype | None = None,
) -> jax.Array:
    """Applies the shared layers; to be called by a compact method of `module`.

    Args:
      near: `[..., lidars, bins, F]` what each bin sees around itself.
      motion: `[..., M]` how the agent moves, in its own frame.
      hidden: widths of the layers, at least one.

    Returns:
      `[..., lidars, bins, hidden[-1]]`.
    """
    count, size = near.shape[-3:-1]
    features = hidden[0]
    near = nn.Dense(features, dtype=dtype, name="near")(near)
    motion = nn.Dense(3 * features, dtype=dtype, name="motion")(motion)
    still, ahead, aside = jnp.split(motion[..., None, None, :], 3, axis=-1)
    lead = (1,) * (near.ndim - 3)
    angle = (jnp.arange(size) + 0.5) * (2 * math.pi / size)
    angle = angle.reshape(*lead, 1, size, 1)
    turned = still + jnp.cos(angle) * ahead + jnp.sin(angle) * aside
    kind = module.param("kind", nn.initializers.normal(0.1), (count, 1, features))
    x = nn.relu(near + turned + kind.reshape(*lead, *kind.shape))
    for width in hidden[1:]:
        x = nn.relu(nn.Dense(width, dtype=dtype)(x))
    return x
