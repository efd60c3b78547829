"""Many episodes at once, in worker processes, with results that depend on seeds only.

Slots are dealt to workers round-robin. There is no reset within a step: the row whose
`is_last` is set carries that episode's own last reward, cost and observation, and the
caller starts the next episode when it wants to (safety-gymnasium's own vector
environment mixes the two, and last costs get lost).
"""

import dataclasses
import functools
import json
import os
import weakref
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from sas_jax.envs import shift as shifts
from sas_jax.envs import tasks
from sas_jax.envs.interface import check_seed
from sas_jax.envs.make import python_of, registration
from sas_jax.envs.vector import pool, shared
from sas_jax.errors import UserError


class StepBatch(NamedTuple):
    """One time step of B slots with observation size O.

    obs: `[B, O]` float32. After the last step of an episode its final observation.
    reward, cost: `[B]` float64; 0 on a reset and where the episode has ended before.
    is_first: `[B]` bool, the slot has just been reset.
    is_last: `[B]` bool, this step has ended the episode, or it had ended before.
    terminated: `[B]` bool, it ended by itself and not by the time limit.
    pose: `[B, 6]` float64: agent x, y, yaw, goal x, y, 0; NaN where there is none.
    """

    obs: np.ndarray
    reward: np.ndarray
    cost: np.ndarray
    is_first: np.ndarray
    is_last: np.ndarray
    terminated: np.ndarray
    pose: np.ndarray


class VectorEnv:
    """B environments of one task, spread over worker processes.

    In the shape descriptions B is the number of slots, A the action size.
    """

    def __init__(
        self,
        task: str,
        num_envs: int,
        *,
        num_workers: int | None = None,
        python: str | None = None,
        lean: bool = True,
        shift: "str | shifts.Shift | None" = None,
        obs_std: np.ndarray | None = None,
        engine: str = "local",
        cluster: str = "",
    ) -> None:
        """Starts the workers.

        num_workers: processes; default one per usable core, never more than slots.
        python: interpreter for the workers; default this one, or the one named by
            ``$SAS_JAX_BULLET_PYTHON`` (Bullet tasks) or ``$SAS_JAX_GYMNASIUM_PYTHON``
            (gymnasium tasks).
        lean: use the fast simulation path where there is one.
        shift, obs_std: a changed world; see `envs.make.make`.
        engine: where the workers are: ``"local"``, processes of this machine, or
            ``"ray"``, actors of a Ray cluster, wherever it puts them (extra ``ray``);
            results are the same. cluster: its address, see `cluster.join`.

        Raises:
          UserError: unknown task or engine, fewer than one slot or worker, a shift that
            makes no sense, or workers that cannot start.
        """
        self.task = tasks.get_task(task)
        self.shift = shifts.parse(shift)
        obs_std = shifts.check(self.shift, self.task, obs_std)
        self.num_envs = _positive(num_envs, "num_envs")
        if num_workers is None:
            num_workers = len(os.sched_getaffinity(0))
        self.num_workers = min(_positive(num_workers, "num_workers"), self.num_envs)
        python = python or python_of(self.task)
        make_pool = _pool_of(engine, cluster, python)
        self.obs_dim = self.task.obs_dim
        self.action_dim = self.task.action_dim
        batch = self.num_envs
        self._slots = shared.SharedSlots(
            batch, self.num_workers, self.obs_dim, self.action_dim
        )
        # Seeds (-1: no episode) and actions: enough to run the episodes again.
        self._seeds = np.full(batch, -1, np.int64)
        self._actions = np.zeros((batch, self.task.episode_steps, self.action_dim))
        self._lengths = np.zeros(batch, np.int64)
        self._live = np.zeros(batch, bool)
        self._pool = make_pool(
            self.task.name,
            self._slots,
            num_envs=batch,
            num_workers=self.num_workers,
            python=python,
            making={
                "lean": bool(lean),
                "shift": dataclasses.asdict(self.shift),
                "obs_std": None if obs_std is None else obs_std.tolist(),
            },
            registered=registration(self.task),
        )
        self._finalizer = weakref.finalize(self, self._pool.close)
        with self._closing_on_error():
            self._pool.start()

    def reset(self, seeds: Any, mask: Any = None) -> StepBatch:
        """Starts the episode `seeds[i]` in every slot i of the mask.

        seeds: `[B]` integers in [0, 2**32); those outside the mask are not looked at.
        mask: `[B]` bool; default all slots.

        Raises:
          UserError: wrong shapes, or a seed out of range.
          WorkerError: the environment refuses a seed (the masked slots then have no
            episode), or keeps killing its worker or returns what is not finite (the
            vector environment is closed).
        """
        mask = self._check_mask(mask)
        seeds = np.asarray(seeds)
        if seeds.shape != (self.num_envs,):
            raise UserError(
                f"seeds of shape {seeds.shape}: expected ({self.num_envs},), one a slot"
            )
        for slot in np.flatnonzero(mask):
            self._slots.seeds[slot] = check_seed(seeds[slot].item())
        self._slots.mask[:] = mask
        self._live[mask] = False  # until the workers have answered
        self._seeds[mask] = -1
        with self._closing_on_error():
            self._pool.run(shared.RESET, mask, self._history)
        self._live[mask] = True
        self._seeds[mask] = self._slots.seeds[mask]
        self._lengths[mask] = 0
        self._check_finite(mask)
        return self._batch(is_first=mask, moved=mask)

    def step(self, actions: Any) -> StepBatch:
        """Steps every slot whose episode runs; the others stay put.

        actions: `[B, A]` floats, clipped to [-1, 1] before they act. Rows of slots that
        have ended must be finite and are not used.

        Raises:
          UserError: wrong shape, NaN or infinity.
          WorkerError: the environment raises, keeps killing its worker or returns
            what is not finite; the vector environment is closed.
        """
        actions = np.asarray(actions)
        expected = (self.num_envs, self.action_dim)
        if actions.shape != expected:
            raise UserError(f"actions of shape {actions.shape}: expected {expected}")
        actions = actions.astype(np.float64)
        live = self._live.copy()
        bad = live & ~np.isfinite(actions).all(axis=1)
        if bad.any():
            slot = int(bad.argmax())
            raise UserError(f"action of slot {slot} is not finite: expected floats")
        self._slots.actions[:] = actions
        self._slots.mask[:] = live
        with self._closing_on_error():
            try:
                self._pool.run(shared.STEP, live, self._history)
            except pool.WorkerError:
                self.close()  # some slots have moved and others have not
                raise
        self._actions[live, self._lengths[live]] = actions[live]
        self._lengths[live] += 1
        self._live &= ~self._slots.ended
        self._check_finite(live)
        return self._batch(is_first=np.zeros(self.num_envs, bool), moved=live)

    def layout(self, slot: int) -> dict[str, np.ndarray]:
        """Where things stand in a slot: name -> `[k, 3]` x, y, radius.

        Raises:
          UserError: no such slot, or no episode has been started in it.
        """
        if not 0 <= slot < self.num_envs or self._seeds[slot] < 0:
            raise UserError(f"slot {slot}: expected one with an episode")
        with self._closing_on_error():
            things = self._pool.ask_layout(slot, self._history)
        return {name: np.array(rows).reshape(-1, 3) for name, rows in things.items()}

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the workers."""
        return self._pool.pids

    def close(self) -> None:
        """Ends the workers. Safe to call twice."""
        self._finalizer()

    def __enter__(self) -> "VectorEnv":
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.close()

    def _closing_on_error(self):
        """An interrupted exchange leaves answers in the pipes: end the workers then."""
        return pool.closing_unless_finished(self.close)

    def _check_mask(self, mask: Any) -> np.ndarray:
        """Returns the mask as `[B]` bool."""
        if mask is None:
            return np.ones(self.num_envs, bool)
        mask = np.asarray(mask)
        if mask.shape != (self.num_envs,) or mask.dtype != bool:
            raise UserError(
                f"mask of shape {mask.shape} and type {mask.dtype}: "
                f"expected ({self.num_envs},) bool"
            )
        return mask

    def _check_finite(self, moved: np.ndarray) -> None:
        """Refuses what a simulation that has broken down returns, and closes.

        Three sums over arrays that lie at hand: a few microseconds a step.
        """
        slots = self._slots
        rows = np.isfinite(slots.observations).all(axis=1)
        bad = moved & ~(rows & np.isfinite(slots.rewards) & np.isfinite(slots.costs))
        if not bad.any():
            return
        slot = int(bad.argmax())
        what = "an observation"
        if rows[slot]:
            what = f"reward {slots.rewards[slot]} and cost {slots.costs[slot]}"
        self.close()
        raise pool.WorkerError(
            f"task {self.task.name}, seed {self._seeds[slot]}, step "
            f"{self._lengths[slot]}: the environment returned {what} that is not "
            "finite; expected finite numbers"
        )

    def _history(self, slots: Iterable[int]) -> bytes:
        """Packs the episodes of some slots for `Worker.replay`."""
        header, actions = [], []
        for slot in slots:
            if self._seeds[slot] < 0:
                continue
            length = int(self._lengths[slot])
            header.append([int(slot), int(self._seeds[slot]), length])
            actions.append(self._actions[slot, :length].tobytes())
        return json.dumps(header).encode() + b"\n" + b"".join(actions)

    def _batch(self, is_first: np.ndarray, moved: np.ndarray) -> StepBatch:
        """Copies the slots' results; slots that did not move have no reward or cost."""
        slots = self._slots
        return StepBatch(
            obs=slots.observations.copy(),
            reward=np.where(moved, slots.rewards, 0.0),
            cost=np.where(moved, slots.costs, 0.0),
            is_first=is_first.copy(),
            is_last=~self._live,
            terminated=slots.terminated.copy(),
            pose=slots.poses.copy(),
        )


def _pool_of(
    engine: str, cluster: str, python: str | None
) -> Callable[..., pool.WorkerPool]:
    """What makes the pool of an engine."""
    if engine == "local":
        return pool.WorkerPool
    if engine != "ray":
        raise UserError(f"engine {engine!r}: expected local or ray")
    if python is not None:
        raise UserError(
            "python: expected none with engine ray, whose nodes have theirs"
        )
    from sas_jax.envs.vector import ray_pool

    return functools.partial(ray_pool.RayPool, address=cluster)


def _positive(value: Any, name: str) -> int:
    """Returns `value` as an int >= 1 or raises UserError."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise UserError(f"{name}={value!r}: expected an integer >= 1")
    if value < 1:
        raise UserError(f"{name}={value}: expected an integer >= 1")
    return int(value)
