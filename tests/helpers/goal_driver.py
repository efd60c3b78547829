"""A driver that sees the goal's lidar only: the same law for numpy and for JAX.

For `experiments.collect` it is ``tests.helpers.goal_driver:recorded``, and beside
``--on_device`` ``tests.helpers.goal_driver:on_device``.
"""

import jax
import jax.numpy as jnp
import numpy as np

ANGLES = (np.arange(16) + 0.5) * 2 * np.pi / 16


def law(obs, noise, xp=np):
    """obs: `[60]`; noise: `[2]` standard normal. Returns the action `[2]`."""
    seen = obs[12:28]
    weight = xp.where(seen > 0.7 * seen.max(), seen, 0.0)
    angle = xp.arctan2((weight * np.sin(ANGLES)).sum(), (weight * np.cos(ANGLES)).sum())
    action = xp.stack(
        [0.6 * xp.cos(angle) + 0.3 * noise[0], 1.5 * angle + 0.3 * noise[1]]
    )
    return xp.clip(action, -1.0, 1.0)


def recorded(task, rng):
    return lambda obs: law(obs, rng.normal(size=2))


def on_device(env, key):
    return lambda obs, key: law(obs, jax.random.normal(key, (2,)), jnp)
