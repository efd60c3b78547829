"""Where the lanes act: environments on the device, one step of all of them at a time.

Letters: `U` lanes, `B` environments of a lane. All that is drawn comes from the lane's
key and the number of the step, so a lane lives the same life whichever lanes run beside
it.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from sas_jax.data.spec import DataSpec
from sas_jax.experiment import ExperimentConfig
from sas_jax.jax_envs.protocol import JaxEnv
from sas_jax.online import replay as replay_lib
from sas_jax.online.replay import Replay
from sas_jax.shapes import expect_shape
from sas_jax.types import Key, TransitionBatch

# Streams of a lane's seed beside that of its learner.
_STREAM, _FIRST = 0x0A11, 0xFFFFFFFF
# Episodes of random actions that scale the observations; the same for every run.
SCALE_EPISODES = 8
Act = Callable[[jax.Array, Key], jax.Array]


@struct.dataclass
class Scene:
    """env: states `[U, B]`. obs: `[U, B, O]`, in the environment's units. age:
    `[U, B]` steps of the episodes at hand. key: `[U]`, of all that is drawn.
    """

    env: Any
    obs: jax.Array
    age: jax.Array
    key: Key


class World(NamedTuple):
    """What a run goes on with beside the learner's states."""

    scene: Scene
    replay: Replay


def lane_keys(seeds: np.ndarray) -> Key:
    """`[U]` keys of what the lanes of these seeds live through."""
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32))
    return jax.vmap(jax.random.fold_in, (0, None))(keys, _STREAM)


def empty_replay(config: ExperimentConfig, spec: DataSpec) -> Replay:
    """A buffer without steps, for all lanes."""
    model = config.model
    return replay_lib.make(
        lanes=len(config.train.lanes),
        capacity=model.capacity,
        num_envs=model.num_envs,
        obs_dim=spec.obs_dim,
        action_dim=spec.action_dim,
    )


def make(config: ExperimentConfig, spec: DataSpec, env: JaxEnv) -> World:
    """The lanes' environments at the start of their first episodes; jittable."""
    keys = lane_keys(np.array([lane.seed for lane in config.train.lanes]))
    count = config.model.num_envs
    first = jax.vmap(
        lambda key: jax.random.split(jax.random.fold_in(key, _FIRST), count)
    )
    state, obs = jax.vmap(jax.vmap(env.reset))(first(keys))
    expect_shape("env.reset", "obs", obs, *obs.shape[:2], spec.obs_dim)
    age = jnp.zeros(obs.shape[:2], jnp.int32)
    return World(Scene(state, obs, age, keys), empty_replay(config, spec))


def random_act(spec: DataSpec, count: int) -> Act:
    """Uniform actions of a lane, `[B, A]`, B = count."""
    shape = count, spec.action_dim
    return lambda obs, key: jax.random.uniform(key, shape, minval=-1.0)


def step_keys(keys: Key, number: jax.Array) -> Key:
    """`[U, 2]` keys of a step of the lanes `[U]`: for acting, and for new episodes."""
    keys = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
    return jax.vmap(jax.random.split)(keys)


def step(
    spec: DataSpec,
    env: JaxEnv,
    scene: Scene,
    number: jax.Array,
    act: Callable[..., jax.Array],
) -> tuple[Scene, TransitionBatch]:
    """One step of all environments; what has ended begins anew.

    Args:
      number: `[]` of the step, from 0.
      act: (standardised observations `[U, B, O]`, keys `[U]`) -> actions `[U, B, A]`.

    Returns:
      The scene after it, and the step `[U, B, ...]`.
    """
    keys = step_keys(scene.key, number)
    seen = spec.standardised(scene.obs)
    action = jnp.clip(act(seen, keys[:, 0]), -1.0, 1.0)
    out = jax.vmap(jax.vmap(env.step))(scene.env, action)
    expect_shape("env.step", "obs", out.obs, *scene.obs.shape)
    age = scene.age + 1
    is_timeout = (age >= env.episode_steps) & ~out.terminated
    is_done = out.terminated | is_timeout
    row = TransitionBatch(
        obs=seen,
        action=action,
        reward=out.reward,
        cost=out.cost,
        next_obs=spec.standardised(out.obs),
        is_terminal=out.terminated,
        is_timeout=is_timeout,
    )

    def begin(state, obs):
        first = jax.vmap(functools.partial(jax.random.split, num=obs.shape[1]))
        fresh, start = jax.vmap(jax.vmap(env.reset))(first(keys[:, 1]))
        return _where(is_done, (fresh, start), (state, obs))

    # Most steps end no episode, and a reset may cost more than a step.
    state, obs = jax.lax.cond(
        is_done.any(), begin, lambda *old: old, out.state, out.obs
    )
    age = jnp.where(is_done, 0, age)
    return scene.replace(env=state, obs=obs, age=age), row


def _where(mask: jax.Array, new: Any, old: Any) -> Any:
    """Leaf by leaf, `new` where the mask `[U, B]` says so; keys of draws included."""

    def pick(x, y):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            data = pick(jax.random.key_data(x), jax.random.key_data(y))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
        return jnp.where(mask.reshape(mask.shape + (1,) * (x.ndim - 2)), x, y)

    return jax.tree.map(pick, new, old)
