"""Runs episodes in blocks of one fixed shape.

Matrix products of different batch sizes round differently, and closed-loop episodes are
chaotic: a result must not depend on what else was run with it. So an agent always acts
on a group of `BLOCK` rows of one variant and one threshold. Groups with fewer episodes
are filled up with copies, which reach no environment.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax.envs.vector import VectorEnv
from sas_jax.types import Key, Learner, Rows, TimeStep

BLOCK = 32


class BlockRun(NamedTuple):
    """One block: G groups (variant by variant, then thresholds) of E episodes.

    seeds: `[E]`. first_obs: `[E, O]`. layouts: episode seed -> layout at the start.
    reward, cost: `[G, E, T]`, 0 after an episode's end. pose: `[G, E, T, 6]` before
    each step. length, terminated: `[G, E]`. diagnostics: name -> `[G, E, ...]`.
    align_seconds: wall time of `begin` for all groups, compilation left out.
    """

    seeds: np.ndarray
    first_obs: np.ndarray
    layouts: dict[int, dict[str, np.ndarray]]
    reward: np.ndarray
    cost: np.ndarray
    pose: np.ndarray
    length: np.ndarray
    terminated: np.ndarray
    diagnostics: dict[str, np.ndarray]
    align_seconds: float


class BlockRunner:
    """A learner's policy under all variants and thresholds, block after block."""

    def __init__(
        self,
        learner: Learner,
        variables: Any,
        *,
        num_variants: int,
        cost_limits: Sequence[float],
        key: Key,
    ):
        """Jits the learner's functions.

        num_variants: static variants of the learner. cost_limits: thresholds that it
        acts under. key: base of every draw.
        """
        self.num_groups = num_variants * len(cost_limits)
        self._learner, self._variables, self._key = learner, variables, key
        count = len(cost_limits) * BLOCK
        self._variant = jnp.repeat(jnp.arange(num_variants), count)
        limits = jnp.repeat(jnp.asarray(cost_limits, jnp.float32), BLOCK)
        self._cost_limit = jnp.tile(limits, num_variants)
        self._initial_carry = jax.jit(learner.initial_carry)
        self._begin = jax.jit(learner.begin, donate_argnums=1)
        self._begin_compiled = None
        self._act = jax.jit(learner.act, donate_argnums=1)
        self._split = jax.jit(self._groups_of)

    def _groups_of(self, carry):
        """A carry of all rows -> one per group; scalars are common to all rows."""

        def part(x, group):
            # The sum makes a buffer of its own: carries are donated one by one.
            return x + 0 if x.ndim == 0 else x[group * BLOCK : (group + 1) * BLOCK]

        return [
            jax.tree.map(lambda x, g=g: part(x, g), carry)
            for g in range(self.num_groups)
        ]

    def _start(self, seeds, obs):
        """Carries of all groups at their episodes' first observations `[BLOCK, O]`."""
        rows = Rows(
            variant=self._variant,
            cost_limit=self._cost_limit,
            episode_seed=jnp.tile(jnp.asarray(seeds, jnp.uint32), self.num_groups),
        )
        carry = self._initial_carry(self._variables, rows, self._key)
        count = self.num_groups * BLOCK
        first = TimeStep(
            obs=np.tile(obs, (self.num_groups, 1)),
            reward=np.zeros(count, np.float32),
            cost=np.zeros(count, np.float32),
            is_first=np.ones(count, bool),
        )
        arguments = (self._variables, carry, first, self._key)
        if self._begin_compiled is None:
            self._begin_compiled = self._begin.lower(*arguments).compile()
        started = time.perf_counter()
        carry = jax.block_until_ready(self._begin_compiled(*arguments))
        seconds = time.perf_counter() - started
        diagnostics = jax.device_get(self._learner.diagnostics(carry))
        return self._split(carry), diagnostics, seconds

    def run(
        self,
        envs: VectorEnv,
        seeds: np.ndarray,
        on_step: Callable[[int], None] | None = None,
    ) -> BlockRun:
        """Runs one block to its end.

        Args:
          envs: slots for `num_groups` x at least as many episodes as `seeds`, grouped.
          seeds: `[E]` episode seeds, at most `BLOCK`.
          on_step: called with the number of environment steps just made.
        """
        groups, count = self.num_groups, len(seeds)
        slots = envs.num_envs // groups
        in_use = np.tile(np.arange(slots) < count, groups)
        fill = np.minimum(np.arange(BLOCK), count - 1)

        def by_group(x):
            return x.reshape(groups, slots, *x.shape[1:])

        def padded(x, dtype=np.float32):
            return by_group(x)[:, fill].astype(dtype)

        slot_seeds = np.tile(seeds[np.minimum(np.arange(slots), count - 1)], groups)
        batch = envs.reset(slot_seeds, in_use)
        first_obs = by_group(batch.obs)[0, :count].copy()
        layouts = {int(seed): envs.layout(i) for i, seed in enumerate(seeds)}
        carries, diagnostics, seconds = self._start(seeds[fill], first_obs[fill])
        actions = np.zeros((groups, slots, envs.action_dim), np.float32)
        poses, rewards, costs = [], [], []
        length = np.zeros(envs.num_envs, np.int64)
        running = in_use.copy()
        while running.any():
            poses.append(batch.pose)
            obs, reward = padded(batch.obs), padded(batch.reward)
            cost, is_first = padded(batch.cost), padded(batch.is_first, bool)
            pending = []
            for group in range(groups):
                ts = TimeStep(obs[group], reward[group], cost[group], is_first[group])
                action, carries[group] = self._act(
                    self._variables, carries[group], ts, self._key
                )
                pending.append(action)
            for group, action in enumerate(pending):
                actions[group, :count] = np.asarray(action)[:count]
            batch = envs.step(actions.reshape(envs.num_envs, -1))
            rewards.append(np.where(running, batch.reward, 0.0))
            costs.append(np.where(running, batch.cost, 0.0))
            length += running
            if on_step:
                on_step(int(running.sum()))
            running &= ~batch.is_last

        def of_episodes(steps):
            return by_group(np.stack(steps, 1))[:, :count]

        return BlockRun(
            seeds=seeds,
            first_obs=first_obs,
            layouts=layouts,
            reward=of_episodes(rewards),
            cost=of_episodes(costs),
            pose=of_episodes(poses),
            length=by_group(length)[:, :count],
            terminated=by_group(batch.terminated)[:, :count].copy(),
            diagnostics={
                name: x.reshape(groups, BLOCK, *x.shape[1:])[:, :count]
                for name, x in diagnostics.items()
            },
            align_seconds=seconds,
        )
