"""Compiled pieces of learning while acting: acting, updates, whole chunks."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from sas_jax import learners
from sas_jax.data.spec import DataSpec
from sas_jax.experiment import ExperimentConfig
from sas_jax.jax_envs.protocol import JaxEnv
from sas_jax.online import replay as replay_lib
from sas_jax.online import worlds
from sas_jax.online.replay import Replay
from sas_jax.online.worlds import World
from sas_jax.shapes import expect_shape
from sas_jax.training.step import make_step
from sas_jax.types import Learner, Metrics, TrainState, TransitionBatch


def make_learner(config: ExperimentConfig, spec: DataSpec) -> Learner:
    """The algorithm's learner, drawing from a lane's buffer: (steps, rows written)."""
    learner = learners.get(config.algo).make_learner(config, spec)

    def sample(data, key, state):
        del state
        return replay_lib.sample(*data, key, config.train.batch_rows)

    return learner._replace(sample=sample)


def make_act(config: ExperimentConfig, spec: DataSpec) -> Callable[..., jax.Array]:
    """`(states [U], standardised observations [U, B, O], keys [U]) -> [U, B, A]`."""
    algorithm = learners.get(config.algo)
    assert algorithm.make_explorer is not None
    explore = algorithm.make_explorer(config, spec)

    def one(state, obs, key):
        action = explore(algorithm.variables_of(state), obs, key)
        expect_shape("explore", "action", action, len(obs), spec.action_dim)
        return action

    if len(config.train.lanes) > 1:
        return jax.vmap(one)

    def single(states, obs, keys):
        only = jax.tree.map(lambda x: x[0], (states, obs, keys))
        return one(*only)[None]

    return single


def make_learn(config: ExperimentConfig, spec: DataSpec) -> Callable:
    """`(states [U], replay) -> (states, metrics [U])`: an iteration's updates."""
    count, is_single = config.model.updates_per_step, len(config.train.lanes) == 1
    one_step = make_step(config, make_learner(config, spec), data_axes=(0, None))

    def learn(states: TrainState, replay: Replay) -> tuple[TrainState, Metrics]:
        data = replay.steps, replay.written
        # Where the lanes stand that have not failed.
        steps = states.step.max() + jnp.arange(count)
        if is_single:
            states = jax.tree.map(lambda x: x[0], states)
            data = jax.tree.map(lambda x: x[0], data[0]), data[1]
        states, metrics = jax.lax.scan(functools.partial(one_step, data), states, steps)
        out = states, jax.tree.map(lambda x: x.mean(axis=0), metrics)
        return jax.tree.map(lambda x: x[None], out) if is_single else out

    return learn


def lived(row: TransitionBatch) -> Metrics:
    """What a step `[U, B, ...]` brought, `[U]`: reward and cost of one environment."""
    return {
        "step_reward": row.reward.mean(axis=1),
        "step_cost": row.cost.mean(axis=1),
    }


def make_chunk(
    config: ExperimentConfig, spec: DataSpec, env: JaxEnv, num_updates: int
) -> Callable:
    """`(states [U], world) -> (states, world, mean metrics [U])`, jitted, both donated.

    Acting, environments, buffer and updates are one program; nothing leaves the device.
    num_updates: a multiple of `updates_per_block`.
    """
    act, learn = make_act(config, spec), make_learn(config, spec)

    def block(carry, _):
        states, world = carry
        replay = world.replay

        def iteration(carry, number):
            states, scene = carry
            acting = functools.partial(act, states)
            scene, row = worlds.step(spec, env, scene, replay.written + number, acting)
            states, metrics = learn(states, replay)
            return (states, scene), (row, metrics | lived(row))

        numbers = jnp.arange(config.model.block_steps)
        carry, (rows, metrics) = jax.lax.scan(iteration, (states, world.scene), numbers)
        rows = jax.tree.map(lambda x: x.swapaxes(0, 1), rows)
        world = World(carry[1], replay_lib.insert(replay, rows))
        return (carry[0], world), jax.tree.map(lambda x: x.mean(axis=0), metrics)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def chunk(states, world):
        length = num_updates // config.model.updates_per_block
        carry, metrics = jax.lax.scan(block, (states, world), length=length)
        return *carry, jax.tree.map(lambda x: x.mean(axis=0), metrics)

    return chunk


def begin(config: ExperimentConfig, spec: DataSpec, env: JaxEnv) -> World:
    """The world after its first `start_steps`, of random actions; jittable."""
    act = jax.vmap(worlds.random_act(spec, config.model.num_envs))

    def one(scene, number):
        return worlds.step(spec, env, scene, number, act)

    length = config.model.start_steps // config.model.num_envs
    world = worlds.make(config, spec, env)
    scene, rows = jax.lax.scan(one, world.scene, jnp.arange(length))
    rows = jax.tree.map(lambda x: x.swapaxes(0, 1), rows)
    return World(scene, replay_lib.insert(world.replay, rows))
