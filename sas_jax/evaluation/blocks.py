"""Runs episodes in blocks of one fixed shape.

Matrix products of different batch sizes round differently, and closed-loop episodes are
chaotic: a result must not depend on what else was run with it. So episodes begin in
calls of `BLOCK` rows a variant at one threshold, and then act in groups of `BLOCK` rows
of one variant and one threshold, in that variant's program: one for those with a
prompt, one for those without, and so with a gate. Groups with fewer episodes are filled
up with copies, which reach no environment and, as they do not run, plan nothing.

Several devices run a block each, in the very programs of a single one: nothing is
partitioned, so XLA compiles for every device what it compiles for one. Arguments that
were put on a device decide where a call runs. Each device has a thread, so that all of
them compile and work at a time. Episodes are dealt evenly.
"""

import operator
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from sas_jax.envs.vector.env import VectorEnv
from sas_jax.errors import UserError
from sas_jax.types import Key, Policy, Rows, TimeStep

BLOCK = 32


class BlockRun(NamedTuple):
    """G groups (variant by variant, then thresholds) of E episodes.

    seeds: `[E]`. first_obs: `[E, O]`. layouts: episode seed -> layout at the start.
    reward, cost: `[G, E, T]`, 0 after an episode's end. pose: `[G, E, T, 6]` before
    each step. length, terminated: `[G, E]`. diagnostics: name -> `[G, E, ...]`.
    ended: the same names as the policy knew them at the end, less what it keeps of the
    start only.
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


def _devices_of(count: int) -> list[jax.Device | None]:
    """That many devices (0: all); None, wherever JAX puts it, for a single one."""
    known = jax.local_devices()
    count = count or len(known)
    if count > len(known):
        raise UserError(f"devices: {count}, but there are {len(known)}")
    return [None] if count == 1 else known[:count]


def dealt(count: int, places: int, least: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` episodes in blocks, one for each of so many places at most.

    least: episodes that are worth a place of their own.

    Returns `[D, BLOCK]` each: the episode of a row, and whether the row is the
    episode's own. The others fill a block up. Own rows, block after block, are the
    episodes in order.
    """
    # As few places as have room for all, or as many as are worth it.
    fewest = -(-count // BLOCK)
    size = -(-count // max(fewest, min(places, count // least)))
    first = np.arange(0, count, size)[:, None]
    episode = first + np.arange(BLOCK)
    end = np.minimum(first + size, count)
    return np.minimum(episode, end - 1), episode < end


def _joined(known, is_own):
    """name -> `[G, E, ...]` from `[D][G]` of name -> `[BLOCK, ...]`; see `dealt`."""
    return {
        name: np.stack([[group[name] for group in block] for block in known], 1)[
            :, is_own
        ]
        for name in known[0][0]
    }


class BlockRunner:
    """A policy under all variants and thresholds, block after block."""

    def __init__(
        self,
        policy: Policy,
        variables: Any,
        *,
        num_variants: int,
        cost_limits: Sequence[float],
        key: Key,
        devices: int = 1,
        least: int = BLOCK,
    ):
        """Jits the policy's functions.

        num_variants: static variants of the policy. cost_limits: thresholds that it
        acts under. key: base of every draw. devices: blocks at a time, each on a device
        of its own; 0 means all devices. least: episodes that are worth a device of
        their own, at most `BLOCK`. A block's cost is that of all its rows, but rows
        that fill it up plan nothing: where plans are the cost, half a block is cheaper.

        Raises:
          UserError: more devices than there are.
        """
        places = _devices_of(devices)
        self._least = least
        self.num_groups = num_variants * len(cost_limits)
        self.num_episodes = BLOCK * len(places)
        # Put there once: a call follows the arguments that are on a device.
        self._shared = [jax.device_put((variables, key), place) for place in places]
        # A thread for each device; a single one needs none.
        pool = ThreadPoolExecutor(len(places)) if len(places) > 1 else None
        self._map = pool.map if pool else map
        self._num_variants = num_variants
        self._policy = policy
        self._cost_limits = np.asarray(cost_limits, np.float32)
        self._target_returns = None
        self._initial_carry = jax.jit(policy.initial_carry)
        self._begin = jax.jit(policy.begin, donate_argnums=1)
        self._begin_compiled = []
        self._has_acted = False
        self._act = jax.jit(policy.act, donate_argnums=1)
        self._split = jax.jit(self._by_variant)

    def set_tokens(
        self, cost_limits: Sequence[float], target_returns: Sequence[float]
    ) -> None:
        """What the groups of every variant ask for from the next `run` on.

        Values only: whatever they are, nothing is compiled again.

        cost_limits, target_returns: one of each per group of a variant.
        """
        groups = len(self._cost_limits)
        tokens = np.float32([cost_limits, target_returns])
        if tokens.shape[1] != groups:
            raise ValueError(f"{tokens.shape[1]} pairs of tokens for {groups} groups")
        self._cost_limits, self._target_returns = tokens

    def _by_variant(self, carry):
        """A carry of all variants' rows -> one per variant.

        Each holds what its variant needs and no more, so that the program it acts in
        does not depend on the other variants. Scalars are common to all rows.
        """

        def part(x, variant):
            # The sum makes a buffer of its own: carries are donated one by one.
            return x + 0 if x.ndim == 0 else x[variant * BLOCK : (variant + 1) * BLOCK]

        return [
            jax.tree.map(lambda x, v=v: part(x, v), self._policy.narrow(carry, v))
            for v in range(self._num_variants)
        ]

    def _arguments(self, block, threshold, seeds, obs):
        """Of `begin`, for all variants' rows of a block at a threshold.

        block: index of its device. seeds: `[BLOCK]`. obs: `[BLOCK, O]`.
        """
        variables, key = self._shared[block]
        size = self._num_variants * BLOCK
        rows = Rows(
            cost_limit=np.full(size, self._cost_limits[threshold]),
            episode_seed=np.tile(np.asarray(seeds, np.uint32), self._num_variants),
        )
        if self._target_returns is not None:
            target = np.full(size, self._target_returns[threshold])
            rows = rows.replace(target_return=target)
        first = TimeStep(
            obs=np.tile(obs, (self._num_variants, 1)),
            reward=np.zeros(size, np.float32),
            cost=np.zeros(size, np.float32),
            is_first=np.ones(size, bool),
        )
        return variables, self._initial_carry(variables, rows, key), first, key

    def _start(self, seeds, obs, say):
        """Begins the episodes of D blocks at their first observations.

        seeds: `[D, BLOCK]`. obs: `[D, BLOCK, O]`. say: see `run`.

        Returns carries `[D][G]`, diagnostics `[D][G]` of name -> `[BLOCK, ...]`,
        seconds of `begin`.
        """
        variants, thresholds = self._num_variants, len(self._cost_limits)
        given = [
            [
                self._arguments(block, t, seeds[block], obs[block])
                for t in range(thresholds)
            ]
            for block in range(len(seeds))
        ]
        if len(self._begin_compiled) < len(given):
            say("compiling")
        self._begin_compiled += self._map(
            lambda calls: self._begin.lower(*calls[0]).compile(),
            given[len(self._begin_compiled) :],
        )
        say("aligning")
        started = time.perf_counter()
        begun = [
            [begin(*arguments) for arguments in calls]
            for begin, calls in zip(self._begin_compiled, given, strict=False)
        ]
        jax.block_until_ready(begun)
        seconds = time.perf_counter() - started
        groups = list(np.ndindex(variants, thresholds))
        # Of the whole carries: what only the start is asked for is not split.
        known = [
            [
                {k: x[v * BLOCK : (v + 1) * BLOCK] for k, x in block[t].items()}
                for v, t in groups
            ]
            for block in self._known(begun)
        ]
        parts = [[self._split(carry) for carry in block] for block in begun]
        carries = [[block[t][v] for v, t in groups] for block in parts]
        return carries, known, seconds

    def _known(self, carries):
        """`[D][...]` name -> `[B, ...]` on the host, what each of the carries knows."""
        return [
            jax.device_get([self._policy.diagnostics(carry) for carry in block])
            for block in carries
        ]

    def _act_all(self, carries, steps):
        """Actions `[G, D, BLOCK, A]` for steps `[G, D, BLOCK, ...]`.

        carries: `[D][G]`; the new ones take their places.
        """

        def acted(block):
            (variables, key), held, pending = self._shared[block], carries[block], []
            for group in range(self.num_groups):
                ts = jax.tree.map(operator.itemgetter((group, block)), steps)
                action, held[group] = self._act(variables, held[group], ts, key)
                pending.append(action)
            # Only now: the device has all of its work by then.
            return np.stack(pending)

        return np.stack(list(self._map(acted, range(len(carries)))), axis=1)

    def run(
        self,
        envs: VectorEnv,
        seeds: np.ndarray,
        on_step: Callable[[int], None] | None = None,
        on_stage: Callable[[str], None] | None = None,
    ) -> BlockRun:
        """Runs episodes to their end, dealt over the devices.

        Args:
          envs: slots for `num_groups` x at least as many episodes as `seeds`, grouped.
          seeds: `[E]` episode seeds, at most `num_episodes`.
          on_step: called with the number of environment steps just made.
          on_stage: called with what begins: "compiling", "aligning" (or whatever else
            episodes begin with), "acting".
        """
        groups, count = self.num_groups, len(seeds)
        say = on_stage or (lambda words: None)
        slots = envs.num_envs // groups
        in_use = np.tile(np.arange(slots) < count, groups)
        fill, is_own = dealt(count, len(self._shared), self._least)

        def by_group(x):
            return x.reshape(groups, slots, *x.shape[1:])

        def padded(x, dtype=np.float32):
            """`[G, D, BLOCK, ...]` from the slots' rows."""
            return by_group(x)[:, fill].astype(dtype)

        slot_seeds = np.tile(seeds[np.minimum(np.arange(slots), count - 1)], groups)
        batch = envs.reset(slot_seeds, in_use)
        first_obs = by_group(batch.obs)[0, :count].copy()
        layouts = {int(seed): envs.layout(i) for i, seed in enumerate(seeds)}
        carries, known, seconds = self._start(seeds[fill], first_obs[fill], say)
        actions = np.zeros((groups, slots, envs.action_dim), np.float32)
        poses, rewards, costs = [], [], []
        length = np.zeros(envs.num_envs, np.int64)
        running = in_use.copy()
        say("acting" if self._has_acted else "compiling")
        while running.any():
            poses.append(batch.pose)
            actions[:, :count] = self._act_all(
                carries,
                TimeStep(
                    padded(batch.obs),
                    padded(batch.reward),
                    padded(batch.cost),
                    padded(batch.is_first, bool),
                    padded(running, bool) & is_own,
                ),
            )[:, is_own]
            batch = envs.step(actions.reshape(envs.num_envs, -1))
            rewards.append(np.where(running, batch.reward, 0.0))
            costs.append(np.where(running, batch.cost, 0.0))
            length += running
            if not self._has_acted:
                say("acting")
            self._has_acted = True
            if on_step:
                on_step(int(running.sum()))
            running &= ~batch.is_last

        diagnostics = _joined(known, is_own)
        ended = _joined(self._known(carries), is_own)

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
            diagnostics=diagnostics,
            ended=ended,
            align_seconds=seconds,
        )
