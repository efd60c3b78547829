"""An episode depends on its seed and actions, not on what its environment did before.

Contacts amplify a rounding error until the episode is another one: the comparisons are
of bytes. Cheap representatives run by default, everything when slow.
"""

import os
import signal

import numpy as np
import pytest

from sas_jax.data import collect
from sas_jax.data.collection.episode import write_part
from sas_jax.envs import tasks
from sas_jax.envs.make import make as make_env
from sas_jax.envs.vector.env import VectorEnv
from tests.helpers import episodes, vector_runs

SUITE = [t.name for t in tasks.TASKS.values() if t.suite == "safety-gymnasium"]
NAVIGATION = [name for name in SUITE if tasks.get_task(name).obs_groups]
# Contacts from the first moment on; each differed before resets were made alike.
TOUCHY = ["CarButton2", "CarPush1", "CarGoal2"]
SLOTS = 4


def check_uses(name, lean, seeds, num_steps):
    """Compares new environments with those used 1 and 3 times before."""
    for seed in seeds:
        runs = []
        for uses in (0, 1, 3):
            env = make_env(name, lean=lean)
            for use in range(uses):  # broken off at various moments
                episodes.bytes_of(env, 100 + use, 5 * use)
            runs.append(episodes.bytes_of(env, seed, num_steps))
            env.close()
        assert runs[0] == runs[1] == runs[2], (name, lean, seed)


CHEAP = [(name, True) for name in [*TOUCHY, "PointCircle2", "HopperVelocity"]]
CHEAP += [("CarPush1", False), ("PointCircle2", False)]  # resets of others are slow


@pytest.mark.parametrize(("name", "lean"), CHEAP)
def test_used_environments_repeat_new_ones(name, lean):
    check_uses(name, lean, seeds=[0], num_steps=30)


@pytest.mark.slow
@pytest.mark.parametrize("name", SUITE)
def test_used_environments_repeat_new_ones_in_whole_episodes(name):
    check_uses(name, True, seeds=range(2), num_steps=None)
    check_uses(name, False, seeds=[3], num_steps=200)


@pytest.mark.parametrize("name", TOUCHY)
def test_comparison_notices_the_suites_own_first_reset(name):
    """Without a world in place the suite's first reset is another one: seen here."""
    env = make_env(name)
    env.unwrapped.task.world = None
    assert episodes.bytes_of(env, 0, 30) != episodes.bytes_of(env, 0, 30)


def vector_rows(name, num_workers, num_steps, *, kill_at=None):
    """Episodes of the slots' second use, `[num_steps + 1]` batches.

    kill_at: the step after which a worker is killed.
    """
    rng = np.random.default_rng(0)
    actions = rng.uniform(-0.4, 1, (num_steps, SLOTS, tasks.get_task(name).action_dim))
    with VectorEnv(name, SLOTS, num_workers=num_workers) as env:
        env.reset(np.arange(50, 50 + SLOTS))
        env.step(actions[0])
        batches = [env.reset(np.arange(SLOTS))]
        for step, action in enumerate(actions):
            if step == kill_at:
                os.kill(env.worker_pids[-1], signal.SIGKILL)
            batches.append(env.step(action))
    return batches


def fresh_rows(name, num_steps):
    """The same episodes, each in an environment of its own: (obs, reward, cost)."""
    rng = np.random.default_rng(0)
    actions = rng.uniform(-0.4, 1, (num_steps, SLOTS, tasks.get_task(name).action_dim))
    slots = []
    for slot in range(SLOTS):
        env = make_env(name)
        rows, ended = [(env.reset(slot), 0.0, 0.0)], False
        for action in actions[:, slot]:
            if ended:
                rows.append((rows[-1][0], 0.0, 0.0))
                continue
            obs, reward, cost, terminated, truncated = env.step(action)
            ended = terminated or truncated
            rows.append((obs, reward, cost))
        env.close()
        slots.append(rows)
    return slots


def check_vector(name, num_steps, workers):
    expected = fresh_rows(name, num_steps)
    runs = [vector_rows(name, count, num_steps) for count in workers]
    runs.append(vector_rows(name, 2, num_steps, kill_at=num_steps // 2))
    for batches in runs:
        vector_runs.assert_same(batches, runs[0])
        for slot, rows in enumerate(expected):
            for batch, (obs, reward, cost) in zip(batches, rows, strict=True):
                np.testing.assert_array_equal(batch.obs[slot], obs.astype(np.float32))
                assert (batch.reward[slot], batch.cost[slot]) == (reward, cost)


def test_slots_workers_and_replays_give_the_same_episodes():
    check_vector("CarButton2", 20, workers=[1])


@pytest.mark.slow
@pytest.mark.parametrize("name", SUITE)
def test_slots_workers_and_replays_give_the_same_episodes_of_all_tasks(name):
    check_vector(name, 300, workers=[3])


@pytest.mark.slow
def test_recorded_episodes_do_not_depend_on_earlier_ones():
    """Also when the recorder has just finished another episode, or half of one."""
    plan = collect.Plan("CarPush1", episodes=2, seed=0)
    fresh, used = make_env(plan.task), make_env(plan.task)
    episodes.bytes_of(used, 7, 3)
    expected = collect.record(fresh, plan, 1)
    for name, array in collect.record(used, plan, 1).items():
        assert array.tobytes() == expected[name].tobytes(), name


@pytest.mark.slow
@pytest.mark.parametrize("name", NAVIGATION)
def test_collections_are_the_same_bytes(name, tmp_path):
    """One worker, and two that go on from the part of another."""
    plan = collect.Plan(name, episodes=3, seed=1)
    collect.collect(plan, tmp_path / "one.hdf5", workers=1)
    parts = tmp_path / "resumed.hdf5.parts"
    collect._claim(parts, plan)
    env = make_env(name)
    write_part(parts, 1, collect.record(env, plan, 1))
    env.close()
    collect.collect(plan, tmp_path / "resumed.hdf5", workers=2)
    one, resumed = (tmp_path / f"{run}.hdf5" for run in ("one", "resumed"))
    assert one.read_bytes() == resumed.read_bytes()
