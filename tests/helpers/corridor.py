"""A world in which planning pays, with a model that knows it exactly.

The agent walks in the plane, the policy to the right at full speed. A disc around
(1.5, 0) costs 1 a step. The data lie within |y| < 1 or so.
"""

import jax.numpy as jnp
import numpy as np

from sas_jax.policies.history import from_history_policy

OBS, ACTIONS, LENGTH, SPEED = 2, 2, 2, 0.2
CENTRE, RADIUS = np.float32([1.5, 0.0]), 0.6


def policy(variables, history, mask):
    return jnp.array([0.5, 0.0]), jnp.full(ACTIONS, -0.7)


def dynamics(variables, history, mask, action):
    return history.obs[-1] + SPEED * action, jnp.full(OBS, -3.0)


def cost_at(obs):
    return (((obs - CENTRE) ** 2).sum(-1) < RADIUS**2).astype(jnp.float32)


def outcome(variables, obs, action, next_obs):
    broken = jnp.where(variables["broken"], jnp.nan, 0.0)
    return next_obs[0] - obs[0] + broken, cost_at(next_obs)


def cost_ahead(variables, obs, action):
    """Cost of going on to the right, as the policy does, from where a step leads to."""
    place = obs + SPEED * action
    height = jnp.clip(RADIUS**2 - (place[..., 1] - CENTRE[1]) ** 2, 0.0)
    ends = CENTRE[0] + jnp.sqrt(height)
    begins = jnp.maximum(CENTRE[0] - jnp.sqrt(height), place[..., 0])
    return jnp.maximum(ends - begins, 0.0) / (0.5 * SPEED)


def density(variables, obs):
    return -0.5 * (obs[1] / 0.5) ** 2


def model(outcome=outcome):
    """The world's own model; outcome: another one than the world's."""
    return from_history_policy(
        policy,
        dynamics,
        outcome=outcome,
        density=density,
        action_dim=ACTIONS,
        context=4,
        prompt_steps=LENGTH,
    )


MODEL = model()
VARIABLES = {"broken": np.array(False)}
