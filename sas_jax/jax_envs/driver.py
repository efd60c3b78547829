"""A driver of PointGoal in the plane, to be recorded: some careless, some careful.

    sas-jax collect --task=PlanePointGoal --on_device=256 \
        --policy=sas_jax.jax_envs.driver:varied

It sees what a policy sees: it steers for the goal's lidar and, by an amount that each
episode draws, away from near hazards. With the scripts of the MuJoCo tasks it has only
the purpose in common; those know where things are.
"""

import jax
import jax.numpy as jnp

from sas_jax.jax_envs.point_goal import LIDAR_BINS
from sas_jax.jax_envs.protocol import JaxEnv
from sas_jax.types import Key

_ANGLES = (jnp.arange(LIDAR_BINS) + 0.5) * (2 * jnp.pi / LIDAR_BINS)
_GOAL, _HAZARDS = slice(12, 28), slice(28, 44)
# Readings from which on a hazard is near: 0.75 m, where its edge is 0.55 m away.
_NEAR = 0.75
_MOST_CARE, _LEAST_SPEED, _NOISE = 24.0, 0.3, 0.3


def varied(env: JaxEnv, key: Key):
    """Draws an episode's care and speed; see `jax_envs.recording`."""
    del env
    care, speed = jax.random.uniform(key, (2,))
    care, speed = _MOST_CARE * care, _LEAST_SPEED + (1 - _LEAST_SPEED) * speed

    def act(obs: jax.Array, key: Key) -> jax.Array:
        return law(obs, care, speed, _NOISE * jax.random.normal(key, (2,)))

    return act


def law(obs: jax.Array, care, speed, noise: jax.Array) -> jax.Array:
    """The action `[2]` for an observation `[60]`.

    care: weight of hazards beside the goal; 0 does not see them. speed: of 1. noise:
    `[2]`, added.
    """
    towards = _pull(jnp.where(_is_bright(obs[_GOAL]), obs[_GOAL], 0.0))
    towards /= jnp.maximum(jnp.linalg.norm(towards), 1e-6)
    away = _pull(jnp.maximum(obs[_HAZARDS] - _NEAR, 0.0))
    wanted = towards - care * away
    angle = jnp.arctan2(wanted[1], wanted[0])
    action = jnp.stack([speed * jnp.cos(angle), 1.5 * angle]) + noise
    return jnp.clip(action, -1.0, 1.0)


def _pull(weights: jax.Array) -> jax.Array:
    """`[2]`, the bins' directions by their weights `[16]`, summed."""
    return jnp.stack([(weights * jnp.cos(_ANGLES)).sum(), weights @ jnp.sin(_ANGLES)])


def _is_bright(readings: jax.Array) -> jax.Array:
    return readings > 0.7 * readings.max()
