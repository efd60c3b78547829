"""Where the lanes act when environments run in processes of this machine's.

The loop is the one of `chunk`: act, step, update, and what was lived in a block is
written after it. The environments step while the updates of the same step run, which
do not need what comes of it.

Letters: `U` lanes, `B` environments of a lane. An episode is named by its seed, which
follows from the lane's seed, the environment's number and how many episodes that has
had; so a lane has the same episodes whichever lanes run beside it, and the same bits
whatever the number of worker processes. What a checkpoint holds of an episode is its
seed and its actions: on resuming, those are made again.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from sas_jax.data import spec as spec_lib
from sas_jax.data.episodes import Episodes
from sas_jax.data.spec import DataSpec
from sas_jax.envs.tasks import get_task
from sas_jax.envs.vector.env import StepBatch, VectorEnv
from sas_jax.errors import UserError
from sas_jax.experiment import ExperimentConfig
from sas_jax.online import chunk as chunk_lib
from sas_jax.online import replay as replay_lib
from sas_jax.online import worlds
from sas_jax.online.worlds import World
from sas_jax.types import Metrics, TrainState, TransitionBatch

# The stream of a lane's seed that its episodes come from; and the one seed of the
# episodes that scale, the same for all runs.
_EPISODES, _SCALE = 0x0E15, 0x05CA


@struct.dataclass
class HostScene:
    """Where the episodes stand.

    episode: `[U, B]` int32, how many were begun before. age: `[U, B]` int32 steps of
    the episode at hand. actions: `[U, B, T, A]` float32, those that it has had.
    """

    episode: jax.Array
    age: jax.Array
    actions: jax.Array


def make_spec(task: str, *, num_workers: int | None = None) -> DataSpec:
    """Sizes and statistics, of a few episodes of random actions; the same for all."""
    steps = get_task(task).episode_steps
    rng = np.random.default_rng(_SCALE)
    seeds = np.random.SeedSequence(_SCALE).generate_state(worlds.SCALE_EPISODES)
    with VectorEnv(task, worlds.SCALE_EPISODES, num_workers=num_workers) as envs:
        batch = envs.reset(seeds)
        rows = [batch]
        size = envs.num_envs, steps, envs.action_dim
        actions = rng.uniform(-1.0, 1.0, size).astype(np.float32)
        for t in range(steps):
            if batch.is_last.all():
                break
            batch = envs.step(actions[:, t])
            rows.append(batch)
    lasts = np.stack([row.is_last for row in rows[1:]])
    lengths = 1 + np.argmax(lasts, axis=0)

    def put(name: str, first: int) -> np.ndarray:
        """A field of all steps `[E x T, ...]`; first: 0 before a step, 1 after it."""
        values = [getattr(row, name) for row in rows]
        return np.concatenate(
            [
                np.stack([v[e] for v in values[first : first + n]])
                for e, n in enumerate(lengths)
            ]
        )

    ended = rows[-1]
    return spec_lib.from_episodes(
        Episodes(
            task=get_task(task).name,
            observations=put("obs", 0),
            actions=np.concatenate(
                [a[:n] for a, n in zip(actions, lengths, strict=True)]
            ),
            rewards=put("reward", 1).astype(np.float32),
            costs=put("cost", 1).astype(np.float32),
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            final_observations=ended.obs,
            terminated=ended.terminated,
        )
    )


class HostRunner:
    """Environments of a run in worker processes; close it when the run ends.

    In the shape descriptions U, B, T and A are as above.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        spec: DataSpec,
        *,
        num_workers: int | None = None,
    ) -> None:
        """Starts the workers.

        Raises:
          UserError: see `VectorEnv`, or a spec of another size than the task's.
        """
        task = get_task(config.task)
        sizes = (spec.obs_dim, spec.action_dim), (task.obs_dim, task.action_dim)
        if sizes[0] != sizes[1]:
            raise UserError(
                f"spec: observations and actions of size {sizes[0]}; expected "
                f"{sizes[1]}, as task {task.name} has"
            )
        self.config, self.spec = config, spec
        self._lanes, self._count = len(config.train.lanes), config.model.num_envs
        self._seeds = np.array([lane.seed for lane in config.train.lanes])
        self._keys = worlds.lane_keys(self._seeds)
        size = self._lanes * self._count
        self._steps, self._actions = task.episode_steps, task.action_dim
        self._obs = np.zeros((size, spec.obs_dim), np.float32)
        self._scene = self._no_scene()
        self._act = jax.jit(self._make_act(chunk_lib.make_act(config, spec)))
        random = worlds.random_act(spec, self._count)
        self._random = jax.jit(
            self._make_act(lambda states, obs, keys: jax.vmap(random)(obs, keys))
        )
        self._learn = jax.jit(chunk_lib.make_learn(config, spec), donate_argnums=0)
        self._insert = jax.jit(self._standardised_insert, donate_argnums=0)
        # Last: from here on there is something to close.
        self._envs = VectorEnv(config.task, size, num_workers=num_workers)

    def close(self) -> None:
        """Ends the workers. Safe to call twice."""
        self._envs.close()

    def abstract(self) -> World:
        """Shapes of a world, without making one."""
        replay = jax.eval_shape(
            lambda: worlds.empty_replay(self.config, self.spec),
        )
        return World(jax.eval_shape(self._no_scene), replay)

    def begin(self) -> World:
        """The world after its first `start_steps`, of random actions."""
        model = self.config.model
        self._enter(self._no_scene())
        # Compiled, so that no two fields share memory: it is donated.
        replay = jax.jit(lambda: worlds.empty_replay(self.config, self.spec))()
        number, length = 0, model.start_steps // self._count
        while number < length:
            size = min(model.block_steps, length - number)
            rows = [self._step(self._random, None, number + i) for i in range(size)]
            replay = self._insert(replay, _stacked(rows))
            number += size
        return self._world(replay)

    def go_on(self, world: World) -> None:
        """Brings the environments to where a saved world stands.

        Raises:
          UserError: an episode ends earlier than it did when its actions were made.
        """
        self._enter(jax.tree.map(np.array, world.scene))

    def chunk(self, num_updates: int) -> Callable:
        """As `chunk.make_chunk`; worlds must be those that it returned last."""
        return functools.partial(self._chunk, num_updates)

    def _chunk(
        self, num_updates: int, states: TrainState, world: World
    ) -> tuple[TrainState, World, Metrics]:
        model, replay, told = self.config.model, world.replay, []
        # One look a chunk: what follows counts on.
        number = int(replay.written)
        for _ in range(num_updates // model.updates_per_block):
            rows = []
            for _ in range(model.block_steps):
                action, seen = self._acts(self._act, states, number)
                # Runs while the environments step.
                states, metrics = self._learn(states, replay)
                rows.append(self._live(action, seen))
                told.append((metrics, rows[-1]))
                number += 1
            replay = self._insert(replay, _stacked(rows))
        told = [jax.device_get(learnt) | chunk_lib.lived(row) for learnt, row in told]
        found = {name: np.mean([x[name] for x in told], axis=0) for name in told[0]}
        return states, self._world(replay), found

    def _make_act(self, act: Callable) -> Callable:
        """`(states, observations [U x B, O], keys [U], number) -> actions`."""

        def acting(states, obs, keys, number):
            obs = obs.reshape(self._lanes, self._count, -1)
            keys = worlds.step_keys(keys, number)[:, 0]
            return jnp.clip(act(states, self.spec.standardised(obs), keys), -1.0, 1.0)

        return acting

    def _acts(self, act: Callable, states: Any, number: int):
        """Actions `[U, B, A]` at what is seen now, and what that is."""
        seen = self._obs
        return np.asarray(act(states, seen, self._keys, np.int32(number))), seen

    def _step(self, act: Callable, states: Any, number: int) -> TransitionBatch:
        return self._live(*self._acts(act, states, number))

    def _live(self, action: np.ndarray, seen: np.ndarray) -> TransitionBatch:
        """One step of all environments `[U, B, ...]`; what has ended begins anew.

        Observations are in the environment's units.
        """
        shape, scene = (self._lanes, self._count), self._scene
        rows, columns = np.indices(shape)
        scene.actions[rows, columns, scene.age] = action
        scene.age[:] += 1
        batch = self._envs.step(action.reshape(len(seen), -1))
        row = TransitionBatch(
            obs=seen.reshape(*shape, -1),
            action=action,
            reward=np.float32(batch.reward).reshape(shape),
            cost=np.float32(batch.cost).reshape(shape),
            next_obs=batch.obs.reshape(*shape, -1),
            is_terminal=batch.terminated.reshape(shape),
            is_timeout=(batch.is_last & ~batch.terminated).reshape(shape),
        )
        if batch.is_last.any():
            batch = self._begin_anew(batch)
        self._obs = batch.obs
        return row

    def _begin_anew(self, batch: StepBatch) -> StepBatch:
        """Starts the next episode where one has ended."""
        ended = batch.is_last.reshape(self._lanes, self._count)
        self._scene.episode[ended] += 1
        self._scene.age[ended] = 0
        self._scene.actions[ended] = 0.0
        return self._envs.reset(self._episode_seeds(), batch.is_last)

    def _episode_seeds(self) -> np.ndarray:
        """`[U x B]` layout seeds of the episodes at hand."""
        found = [
            np.random.SeedSequence([int(lane), _EPISODES, b, int(episode)])
            for lane, row in zip(self._seeds, self._scene.episode, strict=True)
            for b, episode in enumerate(row)
        ]
        return np.array([int(s.generate_state(1)[0]) for s in found])

    def _no_scene(self) -> HostScene:
        """Before the first step."""
        shape = self._lanes, self._count
        none = np.zeros(shape, np.int32)
        size = self._steps, self._actions
        return HostScene(none, none.copy(), np.zeros((*shape, *size), np.float32))

    def _enter(self, scene: HostScene) -> None:
        """Begins the scene's episodes and makes their actions again.

        The longest begin first, so that all of them stand at their present at once.
        """
        self._scene = scene
        seeds, age = self._episode_seeds(), scene.age.reshape(-1)
        actions = scene.actions.reshape(len(age), self._steps, -1)
        most = int(age.max())
        for t in range(most + 1):
            begins = most - age == t
            if begins.any():
                batch = self._envs.reset(seeds, begins)
            if t == most:
                break
            runs = most - age <= t
            place = np.clip(t - (most - age), 0, self._steps - 1)
            now = actions[np.arange(len(age)), place] * runs[:, None]
            batch = self._envs.step(now)
            if (ended := runs & batch.is_last).any():
                slot = int(np.argmax(ended))
                raise UserError(
                    f"task {self.config.task}, seed {seeds[slot]}: ends after "
                    f"{place[slot] + 1} steps, where it had {age[slot]} when the "
                    "checkpoint was written; expected the same simulator"
                )
        self._obs = batch.obs

    def _world(self, replay: replay_lib.Replay) -> World:
        """What a run goes on with."""
        return World(jax.tree.map(np.array, self._scene), replay)

    def _standardised_insert(self, replay, rows: TransitionBatch):
        """The buffer with rows `[U, n, B, ...]`, whose observations get its units."""
        rows = rows.replace(
            obs=self.spec.standardised(rows.obs),
            next_obs=self.spec.standardised(rows.next_obs),
        )
        return replay_lib.insert(replay, rows)


def _stacked(rows: list[TransitionBatch]) -> TransitionBatch:
    """Steps `[U, B, ...]` as one batch `[U, n, B, ...]`."""
    return jax.tree.map(lambda *x: np.stack(x, axis=1), *rows)
