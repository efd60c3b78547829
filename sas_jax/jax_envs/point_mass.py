"""A point mass among fixed hazards: what state-wise prices are looked at on.

It starts on the left, its goal is the right edge, and three hazards stand in between,
so that the straight way costs. Whoever gets there starts anew. Small enough that a
learner's own arithmetic is all that takes time.
"""

import jax
import jax.numpy as jnp
from flax import struct

from sas_jax.jax_envs.protocol import JaxEnv, Step
from sas_jax.types import Key

HAZARDS = ((0.0, 0.0, 0.3), (0.1, 0.85, 0.25), (0.1, -0.85, 0.25))
EPISODE_STEPS = 100
_DRAG, _PUSH = 0.8, 0.03


@struct.dataclass
class State:
    """position, velocity: `[2]`, the map is [-1, 1] twice. key: of starts to come."""

    position: jax.Array
    velocity: jax.Array
    key: Key


def make() -> JaxEnv:
    """The environment; see `protocol.JaxEnv`. Observations: position, velocity."""
    return JaxEnv(reset, step, 4, 2, EPISODE_STEPS)


def reset(key: Key) -> tuple[State, jax.Array]:
    """A start on the left, at rest, and its observation `[4]`."""
    own, key = jax.random.split(key)
    state = State(_start(own), jnp.zeros(2), key)
    return state, observe(state)


def step(state: State, action: jax.Array) -> Step:
    """One step. action: `[2]` push. Reward: metres to the right, 1 for arriving."""
    velocity = _DRAG * state.velocity + _PUSH * jnp.clip(action, -1.0, 1.0)
    position = jnp.clip(state.position + velocity, -1.0, 1.0)
    has_arrived = position[0] >= 0.9
    reward = position[0] - state.position[0] + has_arrived
    hazards = jnp.array(HAZARDS)
    away = jnp.linalg.norm(hazards[:, :2] - position[None], axis=1)
    own, key = jax.random.split(state.key)
    after = State(
        position=jnp.where(has_arrived, _start(own), position),
        velocity=jnp.where(has_arrived, 0.0, velocity),
        key=key,
    )
    cost = (away < hazards[:, 2]).any().astype(jnp.float32)
    return Step(after, observe(after), reward, cost, jnp.bool_(False))


def observe(state: State) -> jax.Array:
    """`[4]`; a speed of 0.1 counts as one."""
    return jnp.concatenate([state.position, 10.0 * state.velocity])


def _start(key: Key) -> jax.Array:
    y = jax.random.uniform(key, (), minval=-0.3, maxval=0.3)
    return jnp.stack([jnp.float32(-0.8), y])
