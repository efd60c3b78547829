"""Which sensors a policy leans on: the slope of its mean action in what it observes.

Along real episodes the Jacobian J of the mean action is taken in units of the data's
standard deviations. Its largest singular value is how far the action moves for a small
change of the observation of length 1; the right singular vector, the direction that
moves it most, says by which sensors. (The question is that of "Understanding and
Diagnosing Deep Reinforcement Learning", 2024: along which directions of what it
observes is a policy unstable, and are they others where the world has changed?)
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax import learners
from sas_jax.checkpoint import Checkpoint
from sas_jax.config import Number
from sas_jax.envs.vector.env import VectorEnv
from sas_jax.errors import UserError
from sas_jax.evaluation.attack import mean_action_of
from sas_jax.evaluation.evaluate import task_of
from sas_jax.evaluation.watching import time_step
from sas_jax.types import Rows, TimeStep


class Slopes(NamedTuple):
    """E episodes, means over their looks.

    largest: `[E]` singular value, actions a standard deviation of observation.
    share: `[E, O]` what each column has of the strongest direction, squared; sums to 1.
    norm: `[E, O]` length of each column of J.
    """

    largest: np.ndarray
    share: np.ndarray
    norm: np.ndarray


def jacobian(mean_action, variables, carry, ts: TimeStep, scale) -> jax.Array:
    """`[B, A, O]` of a policy's `mean_action`, in units of `scale` `[O]`."""

    def one(index, change):
        there = ts.replace(obs=ts.obs + change * scale[None])
        return mean_action(variables, carry, there)[:, index].sum()

    still = jnp.zeros_like(ts.obs)
    count = jax.eval_shape(mean_action, variables, carry, ts).shape[1]
    return jnp.stack([jax.grad(one, 1)(i, still) for i in range(count)], axis=1)


def slopes(jacobians: jax.Array) -> Slopes:
    """Of Jacobians `[B, A, O]`, one look each."""
    _, singular, right = jnp.linalg.svd(jacobians, full_matrices=False)
    return Slopes(
        largest=singular[:, 0],
        share=jnp.square(right[:, 0]),
        norm=jnp.linalg.norm(jacobians, axis=1),
    )


def measure(
    loaded: Checkpoint,
    seeds: np.ndarray,
    *,
    cost_limit: float,
    every: int = 10,
    shift: str = "",
    seed: int = 0,
    train_seed: int = 0,
    num_workers: int | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Slopes:
    """Drives the plain policy and looks at every `every`-th step.

    Args:
      seeds: `[E]` layouts. cost_limit: kappa that it acts under. shift: a changed
        world. seed: base of its draws. on_step: called with steps just made.

    Raises:
      UserError: settings out of range, an attack, a policy without `mean_action`, or a
        checkpoint that does not fit its task.
    """
    if problem := Number(least=1, whole=True).problem(every):
        raise UserError(f"every {problem}, got {every!r}")
    algorithm = learners.get(loaded.config.algo)
    task = task_of(loaded, train_seed)
    policy = algorithm.make_policy(loaded.config, loaded.spec, variants=("none",))
    mean_action = mean_action_of(policy)
    lane = loaded.config.train.lane_of(train_seed, cost_limit)
    variables = algorithm.variables_of(jax.tree.map(lambda x: x[lane], loaded.state))
    std = loaded.spec.obs_spread
    scale = jnp.asarray(std, jnp.float32)
    key, count = jax.random.key(seed), len(seeds)
    rows = Rows(
        cost_limit=np.full(count, cost_limit, np.float32),
        episode_seed=np.asarray(seeds, np.uint32),
    )
    look = jax.jit(
        lambda variables, carry, ts: slopes(
            jacobian(mean_action, variables, carry, ts, scale)
        )
    )
    act = jax.jit(policy.act, donate_argnums=1)
    found, ran = [], []
    with VectorEnv(
        task.name, count, num_workers=num_workers, shift=shift, obs_std=std
    ) as envs:
        running, t = np.ones(count, bool), 0
        ts = time_step(envs.reset(np.asarray(seeds)))
        carry = jax.jit(policy.initial_carry)(variables, rows, key)
        carry = jax.jit(policy.begin)(variables, carry, ts, key)
        while running.any():
            if t % every == 0:
                found.append(jax.device_get(look(variables, carry, ts)))
                ran.append(running.astype(float))
            action, carry = act(variables, carry, ts, key)
            batch, t = envs.step(np.asarray(action)), t + 1
            running = running & ~batch.is_last
            ts = time_step(batch)
            if on_step:
                on_step(count)
    weights = np.stack(ran) / np.sum(ran, axis=0)

    def mean(*looks: np.ndarray) -> np.ndarray:
        return np.einsum("te,te...->e...", weights, np.stack(looks))

    return Slopes(*map(mean, *found))


def by_group(columns: np.ndarray, groups: dict[str, slice]) -> np.ndarray:
    """Sums of columns `[E, O]` over each group's, `[E, G]`."""
    return np.stack([columns[:, own].sum(axis=1) for own in groups.values()], axis=1)
