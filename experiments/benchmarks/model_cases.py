"""Made-up models and data of a task's sizes: what was learnt costs no time."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax.data import dsrl
from sas_jax.data.episodes import Episodes
from sas_jax.data.spec import DataSpec, lidar_rings
from sas_jax.envs.tasks import get_task
from sas_jax.errors import UserError
from sas_jax.experiment import ExperimentConfig
from sas_jax.learners import sequence
from sas_jax.types import Learner, TrainState


def numbers(name: str, values: list[str], least: int = 1) -> list[int]:
    """Integers of a list flag; UserError names the flag."""
    if not values or not all(v.isdecimal() and int(v) >= least for v in values):
        raise UserError(f"--{name}={','.join(values)}: expected integers >= {least}")
    return [int(v) for v in values]


def make_spec(config: ExperimentConfig) -> DataSpec:
    """Unit statistics of the task's sizes."""
    task = get_task(config.task)
    rings = lidar_rings(task.name, task.obs_dim)
    return DataSpec(
        task=task.name,
        obs_dim=task.obs_dim,
        action_dim=task.action_dim,
        obs_mean=np.zeros(task.obs_dim, np.float32),
        obs_std=np.ones(task.obs_dim, np.float32),
        obs_active=np.ones(task.obs_dim, bool),
        max_timestep=task.episode_steps,
        return_scale=30.0,
        cost_scale=100.0,
        reward_std=0.02,
        target_return=20.0,
        fingerprint="0" * 16,
        rings=rings,
        # The goal's, which comes first, shows one thing.
        ring_single=tuple(i == 0 for i in range(len(rings))),
    )


def make_state(learner: Learner) -> TrainState:
    """A training state with small random weights; nothing is compiled for it.

    Scales and variances are one, moments and counters zero.
    """
    key = jax.random.key(0)
    shapes = jax.eval_shape(learner.init, key)
    rng = np.random.default_rng(2)

    def fill(path, leaf):
        if path[-1].key == "scale":
            return jnp.ones(leaf.shape, leaf.dtype)
        return jnp.asarray(0.02 * rng.standard_normal(leaf.shape), leaf.dtype)

    def constant(value, tree):
        return jax.tree.map(lambda x: jnp.full(x.shape, value, x.dtype), tree)

    return TrainState(
        step=constant(0, shapes.step),
        key=key,
        params=jax.tree_util.tree_map_with_path(fill, shapes.params),
        opt_state=constant(0, shapes.opt_state),
        extra=constant(1, shapes.extra),
    )


def make_variables(config: ExperimentConfig, spec: DataSpec) -> dict:
    """What acting and imagining read of `make_state`."""
    return sequence.variables_of(make_state(sequence.make_learner(config, spec)))


def make_observations(spec: DataSpec, count: int) -> np.ndarray:
    """`[count, O]` normal, with the data's means and deviations."""
    rng = np.random.default_rng([0, count])
    normal = rng.standard_normal((count, spec.obs_dim), np.float32)
    return np.asarray(spec.obs_mean + spec.obs_std * normal, np.float32)


def make_episodes(config: ExperimentConfig, count: int) -> Episodes:
    """`count` made-up episodes of the task's length."""
    task = get_task(config.task)
    steps = count * task.episode_steps
    rng = np.random.default_rng([1, count])
    return Episodes(
        task=task.name,
        observations=rng.standard_normal((steps, task.obs_dim), np.float32),
        actions=rng.uniform(-1, 1, (steps, task.action_dim)).astype(np.float32),
        rewards=0.02 * rng.standard_normal(steps, np.float32),
        costs=(rng.random(steps, np.float32) < 0.05).astype(np.float32),
        offsets=np.arange(count + 1, dtype=np.int64) * task.episode_steps,
        final_observations=rng.standard_normal((count, task.obs_dim), np.float32),
        terminated=np.zeros(count, bool),
    )


def write_episodes(path: Path, config: ExperimentConfig, count: int) -> None:
    """A DSRL file of `make_episodes`."""
    dsrl.write(path, make_episodes(config, count))
