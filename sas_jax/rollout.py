"""Runs episodes in blocks of one fixed shape.

Matrix products of different batch sizes round differently, and closed-loop episodes are
chaotic: a result must not depend on what else was run with it. So an agent always acts
on a group of `BLOCK` rows of one variant and one threshold, in that variant's program:
one for those with a prompt, one for those without, and so with a gate. Groups with
fewer episodes are filled up with copies, which reach no environment.

Several devices run a block each: `jax.shard_map` gives every device the same operations
of one block. XLA compiles them for several devices by other passes than for one, which
may fuse, and so round, differently; see `tiling`. Candidates and rows of a block are
not spread: other shapes would round differently.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sas_jax.envs.vector import VectorEnv
from sas_jax.errors import UserError
from sas_jax.types import Key, Learner, Rows, TimeStep

BLOCK = 32
_AXIS = "blocks"


class BlockRun(NamedTuple):
    """G groups (variant by variant, then thresholds) of E episodes.

    seeds: `[E]`. first_obs: `[E, O]`. layouts: episode seed -> layout at the start.
    reward, cost: `[G, E, T]`, 0 after an episode's end. pose: `[G, E, T, 6]` before
    each step. length, terminated: `[G, E]`. diagnostics: name -> `[G, E, ...]`.
    ended: the same names as the learner knew them at the end.
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
    ended: dict[str, np.ndarray]
    align_seconds: float


def _mesh_of(devices: int) -> Mesh | None:
    """A mesh of that many devices (0: all); None for a single one."""
    known = jax.devices()
    count = devices or len(known)
    if count > len(known):
        raise UserError(f"devices: {count}, but there are {len(known)}")
    return None if count == 1 else Mesh(np.array(known[:count]), (_AXIS,))


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
        devices: int = 1,
    ):
        """Jits the learner's functions.

        num_variants: static variants of the learner. cost_limits: thresholds that it
        acts under. key: base of every draw. devices: blocks at a time, each on a device
        of its own; 0 means all devices.

        Raises:
          UserError: more devices than there are.
        """
        self.num_groups = num_variants * len(cost_limits)
        self._mesh = _mesh_of(devices)
        self._blocks = 1 if self._mesh is None else self._mesh.size
        self.num_episodes = BLOCK * self._blocks
        self._num_variants = num_variants
        self._learner, self._key = learner, self._everywhere(key)
        self._variables = self._everywhere(variables)
        count = len(cost_limits) * BLOCK
        self._variant = np.repeat(np.arange(num_variants, dtype=np.int32), count)
        limits = np.repeat(np.asarray(cost_limits, np.float32), BLOCK)
        self._cost_limit = np.tile(limits, num_variants)
        self._target_return = None
        self._initial_carry = self._jit(learner.initial_carry, blockwise=(1,))
        self._begin = self._jit(learner.begin, blockwise=(1, 2), donate_argnums=1)
        self._begin_compiled = None
        self._act = self._jit(learner.act, blockwise=(1, 2), donate_argnums=1)
        self._split = self._jit(self._groups_of, blockwise=(0,))

    def set_tokens(
        self, cost_limits: Sequence[float], target_returns: Sequence[float]
    ) -> None:
        """What the groups of every variant ask for from the next `run` on.

        Values only: whatever they are, nothing is compiled again.

        cost_limits, target_returns: one of each per group of a variant.
        """
        groups = len(self._variant) // BLOCK
        tokens = np.float32([cost_limits, target_returns])
        if groups % tokens.shape[1]:
            raise ValueError(f"{tokens.shape[1]} pairs of tokens for {groups} groups")
        tokens = np.repeat(tokens, BLOCK, axis=1)
        tokens = np.tile(tokens, (1, len(self._variant) // tokens.shape[1]))
        self._cost_limit, self._target_return = tokens

    def _everywhere(self, tree):
        """Whole on every device."""
        if self._mesh is None:
            return tree
        return jax.device_put(tree, NamedSharding(self._mesh, PartitionSpec()))

    def _deal(self, tree):
        """Host arrays `[D, rows, ...]` -> `[D * rows, ...]`, each block on its device.

        Scalars are common to all blocks, here and everywhere.
        """
        tree = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)
        if self._mesh is None:
            return tree
        return jax.device_put(tree, NamedSharding(self._mesh, PartitionSpec(_AXIS)))

    def _jit(self, function, *, blockwise, **settings):
        """Jits a function of one block; on a mesh every device runs its own block.

        What a device is given to compile is, operation by operation, what a single one
        is: an axis for the blocks, even of length 1, would be one more thing to fuse.

        blockwise: which arguments, and all results, are dealt out by block.
        """
        if self._mesh is None:
            return jax.jit(function, **settings)

        def spec_of(x):
            return PartitionSpec(_AXIS) if x.ndim else PartitionSpec()

        def local(x):
            shape = (x.shape[0] // self._blocks, *x.shape[1:]) if x.ndim else ()
            return jax.ShapeDtypeStruct(shape, x.dtype)

        def whole(*arguments):
            specs, shapes = list(arguments), list(arguments)
            for i, argument in enumerate(arguments):
                specs[i] = PartitionSpec()
                if i in blockwise:
                    specs[i] = jax.tree.map(spec_of, argument)
                    shapes[i] = jax.tree.map(local, argument)
            run = jax.shard_map(
                function,
                mesh=self._mesh,
                in_specs=tuple(specs),
                out_specs=jax.tree.map(spec_of, jax.eval_shape(function, *shapes)),
                check_vma=False,
            )
            return run(*arguments)

        return jax.jit(whole, **settings)

    def _groups_of(self, carry):
        """A carry of all rows -> one per group; scalars are common to all rows.

        Each holds what its variant needs and no more, so that the program it acts in
        does not depend on the other variants.
        """
        limits = len(self._variant) // (BLOCK * self._num_variants)

        def part(x, group):
            # The sum makes a buffer of its own: carries are donated one by one.
            return x + 0 if x.ndim == 0 else x[group * BLOCK : (group + 1) * BLOCK]

        return [
            jax.tree.map(
                lambda x, g=g: part(x, g), self._learner.narrow(carry, g // limits)
            )
            for g in range(self.num_groups)
        ]

    def _start(self, seeds, obs):
        """Carries of all groups at their episodes' first observations.

        seeds: `[D, BLOCK]`. obs: `[D, BLOCK, O]`.
        """
        groups, blocks = self.num_groups, self._blocks
        rows = Rows(
            variant=np.tile(self._variant, (blocks, 1)),
            cost_limit=np.tile(self._cost_limit, (blocks, 1)),
            episode_seed=np.tile(np.asarray(seeds, np.uint32), (1, groups)),
        )
        if self._target_return is not None:
            rows = rows.replace(target_return=np.tile(self._target_return, (blocks, 1)))
        carry = self._initial_carry(self._variables, self._deal(rows), self._key)
        shape = (blocks, groups * BLOCK)
        first = TimeStep(
            obs=np.tile(obs, (1, groups, 1)),
            reward=np.zeros(shape, np.float32),
            cost=np.zeros(shape, np.float32),
            is_first=np.ones(shape, bool),
        )
        arguments = (self._variables, carry, self._deal(first), self._key)
        if self._begin_compiled is None:
            self._begin_compiled = self._begin.lower(*arguments).compile()
        started = time.perf_counter()
        carry = jax.block_until_ready(self._begin_compiled(*arguments))
        seconds = time.perf_counter() - started
        diagnostics = self._by_group(self._learner.diagnostics(carry))
        return self._split(carry), diagnostics, seconds

    def _by_group(self, diagnostics):
        """name -> `[G, D * BLOCK, ...]` from arrays of all groups' rows."""
        groups = self.num_groups

        def reorder(x):
            x = x.reshape(self._blocks, groups, BLOCK, *x.shape[1:])
            return np.moveaxis(x, 0, 1).reshape(groups, -1, *x.shape[3:])

        return {k: reorder(x) for k, x in jax.device_get(diagnostics).items()}

    def _ended(self, carries):
        """name -> `[G, D * BLOCK, ...]` as the groups' carries know it now."""
        found = [jax.device_get(self._learner.diagnostics(c)) for c in carries]
        return {name: np.stack([f[name] for f in found]) for name in found[0]}

    def run(
        self,
        envs: VectorEnv,
        seeds: np.ndarray,
        on_step: Callable[[int], None] | None = None,
    ) -> BlockRun:
        """Runs one block per device to its end.

        Args:
          envs: slots for `num_groups` x at least as many episodes as `seeds`, grouped.
          seeds: `[E]` episode seeds, at most `num_episodes`.
          on_step: called with the number of environment steps just made.
        """
        groups, count = self.num_groups, len(seeds)
        slots = envs.num_envs // groups
        in_use = np.tile(np.arange(slots) < count, groups)
        fill = np.minimum(np.arange(self.num_episodes), count - 1)
        fill = fill.reshape(self._blocks, BLOCK)

        def by_group(x):
            return x.reshape(groups, slots, *x.shape[1:])

        def padded(x, dtype=np.float32):
            """`[G, D, BLOCK, ...]` from the slots' rows."""
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
            is_running = padded(running, bool)
            pending = []
            for group in range(groups):
                ts = TimeStep(
                    obs[group],
                    reward[group],
                    cost[group],
                    is_first[group],
                    is_running[group],
                )
                ts = self._deal(ts)
                action, carries[group] = self._act(
                    self._variables, carries[group], ts, self._key
                )
                pending.append(action)
            for group, action in enumerate(pending):
                action = np.asarray(action).reshape(self.num_episodes, -1)
                actions[group, :count] = action[:count]
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
            diagnostics={name: x[:, :count] for name, x in diagnostics.items()},
            ended={name: x[:, :count] for name, x in self._ended(carries).items()},
            align_seconds=seconds,
        )
