"""What this package asks of `crax.envs`, with one environment of brax's form."""

import jax
import jax.numpy as jnp
from flax import struct

_envs = {"safe_line": None, "ant": None}


@struct.dataclass
class State:
    obs: jax.Array
    reward: jax.Array
    done: jax.Array
    info: dict


class Line:
    """A point on a line that costs 0.5 a metre beyond 0."""

    observation_size, action_size, episode_length = 1, 1, 7

    def __init__(self, level):
        self.level = level

    def reset(self, key):
        zero = jnp.zeros(())
        place = jax.random.uniform(key, (1,), minval=-1.0)
        return State(place, zero, zero, {"cost": zero, "steps": jnp.int32(0)})

    def step(self, state, action):
        place = state.obs + (self.level or 1) * action
        info = {
            "cost": 0.5 * jnp.maximum(place[0], 0.0),
            "steps": state.info["steps"] + 1,
        }
        done = (jnp.abs(place[0]) > 5.0).astype(jnp.float32)
        return State(place, -place[0], done, info)


def get_environment(name, level=None):
    return Line(level)


def supports_difficulty(name):
    return name == "safe_line"
