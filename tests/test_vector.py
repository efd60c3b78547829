"""The vector environment on real PointGoal1: invariance, boundaries, dying workers."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

from sas_jax.envs import pool, safety_gym, tasks
from sas_jax.envs.pool import WorkerError
from sas_jax.envs.vector import VectorEnv
from sas_jax.errors import UserError

SEEDS = np.array([3, 14, 15, 92])
ROOT = pathlib.Path(__file__).parents[1]


def actions_at(step, num_envs=4):
    rng = np.random.default_rng([7, step])
    return rng.uniform(-1, 1, (num_envs, 2))


def rollout(env, num_steps, after_step=lambda step: None):
    batches = [env.reset(SEEDS)]
    for step in range(num_steps):
        batches.append(env.step(actions_at(step)))
        after_step(step)
    return batches


def assert_same(left, right):
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        for name, a, b in zip(one._fields, one, other, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=name)


@pytest.fixture(scope="module")
def reference():
    """40 steps under one worker."""
    with VectorEnv("PointGoal1", len(SEEDS), num_workers=1) as env:
        return rollout(env, 40)


def is_running(pid):
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except FileNotFoundError:
        return False
    return state[0] != "Z"


def wait_until_gone(pids, seconds=10.0):
    deadline = time.monotonic() + seconds
    while any(map(is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(is_running, pids))


def test_results_do_not_depend_on_the_number_of_workers(reference):
    with VectorEnv("PointGoal1", len(SEEDS), num_workers=2) as env:
        assert env.num_workers == 2
        assert_same(rollout(env, 40), reference)


def test_vector_environment_equals_the_single_one(reference):
    env = safety_gym.make("PointGoal1")
    for slot, seed in enumerate(SEEDS):
        np.testing.assert_array_equal(
            env.reset(int(seed)).astype(np.float32), reference[0].obs[slot]
        )
        np.testing.assert_array_equal(env.pose(), reference[0].pose[slot])
        for step, batch in enumerate(reference[1:]):
            obs, reward, cost, terminated, truncated = env.step(actions_at(step)[slot])
            np.testing.assert_array_equal(obs.astype(np.float32), batch.obs[slot])
            assert (reward, cost) == (batch.reward[slot], batch.cost[slot])
            assert (terminated or truncated) == batch.is_last[slot]


def test_first_batch(reference):
    first = reference[0]
    assert first.obs.dtype == np.float32 and first.obs.shape == (4, 60)
    assert first.reward.dtype == first.cost.dtype == first.pose.dtype == np.float64
    assert first.is_first.all() and not first.is_last.any()
    assert not reference[1].is_first.any()


def test_last_step_of_an_episode_keeps_its_reward_and_cost():
    """Circle ends after 500 steps; one slot starts 3 steps before the other ends."""
    task = tasks.get_task("PointCircle1")
    steps = task.episode_steps
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (steps + 10, 2, 2)) + [0.8, 0.0]
    single = safety_gym.make("PointCircle1")
    single.reset(5)
    alone = [single.step(action) for action in actions[:steps, 0]]
    assert alone[-1][4] and alone[-1][1] != 0.0

    with VectorEnv("PointCircle1", 2, num_workers=1) as env:
        env.reset([5, 6])
        batches = []
        for step in range(steps - 3):
            batches.append(env.step(actions[step]))
        env.reset([0, 8], mask=np.array([False, True]))
        for step in range(steps - 3, steps):
            batches.append(env.step(actions[step]))
        total = sum(batch.reward[0] for batch in batches)
        assert total == sum(row[1] for row in alone)
        assert sum(b.cost[0] for b in batches) == sum(row[2] for row in alone)
        last = batches[-1]
        assert last.is_last.tolist() == [True, False] and not last.terminated.any()
        assert last.reward[0] == alone[-1][1]
        np.testing.assert_array_equal(last.obs[0], alone[-1][0].astype(np.float32))

        # Nothing more is paid or charged, and the final observation stays.
        unused_row = np.stack([np.full(2, np.nan), actions[steps, 1]])
        after = env.step(unused_row)
        assert after.reward[0] == after.cost[0] == 0.0 and after.is_last[0]
        np.testing.assert_array_equal(after.obs[0], last.obs[0])
        assert after.reward[1] != 0.0

        # The next episode starts clean and leaves the running one alone.
        fresh = env.reset([5, 0], mask=np.array([True, False]))
        assert fresh.is_first.tolist() == [True, False] and not fresh.is_last.any()
        assert fresh.reward.tolist() == fresh.cost.tolist() == [0.0, 0.0]
        np.testing.assert_array_equal(fresh.obs[1], after.obs[1])
        again = env.step(actions[0])
        assert (again.reward[0], again.cost[0]) == alone[0][1:3]


@pytest.mark.parametrize("victim, delay", [(0, 0.0), (1, 0.0003)])
def test_killed_worker_changes_no_result(reference, victim, delay):
    """Killed while idle, and (most likely) in the midst of a step."""
    with VectorEnv("PointGoal1", len(SEEDS), num_workers=2) as env:
        before = env.worker_pids

        def kill_once(step):
            if step == 20:
                kill = threading.Timer(delay, os.kill, (before[victim], signal.SIGKILL))
                kill.start()
                if delay == 0.0:
                    kill.join()

        assert_same(rollout(env, 40, kill_once), reference)
        assert env.worker_pids[victim] != before[victim]
        assert env.worker_pids[1 - victim] == before[1 - victim]
    assert wait_until_gone([*before])


def test_worker_killed_before_a_masked_reset(reference):
    with VectorEnv("PointGoal1", len(SEEDS), num_workers=1) as env:
        rollout(env, 10)
        os.kill(env.worker_pids[0], signal.SIGKILL)
        batch = env.reset([0, 3, 0, 0], mask=np.array([False, True, False, False]))
        np.testing.assert_array_equal(batch.obs[1], reference[0].obs[0])
        for slot in (0, 2, 3):
            np.testing.assert_array_equal(batch.obs[slot], reference[10].obs[slot])
        batch = env.step(actions_at(10))
        for slot in (0, 2, 3):
            np.testing.assert_array_equal(batch.obs[slot], reference[11].obs[slot])


def interpreter(folder, *, body):
    """A Python that runs `body` before the worker, with `make` at hand to replace."""
    path = folder / "python"
    script = f"""\
        #!{sys.executable}
        import os, sys
        sys.path.insert(0, {str(ROOT)!r})
        sys.argv = sys.argv[1:]
        from sas_jax.envs import safety_gym, worker
        """
    path.write_text(
        textwrap.dedent(script) + textwrap.dedent(body) + "\nworker.main()\n"
    )
    path.chmod(0o755)
    return str(path)


def test_worker_that_keeps_dying_is_reported_with_task_and_seed(tmp_path):
    python = interpreter(
        tmp_path,
        body="""
        plain_make = safety_gym.make
        def make(*args, **kwargs):
            env = plain_make(*args, **kwargs)
            plain_reset, plain_step = env.reset, env.step
            def reset(seed):
                env.seed, env.steps = seed, 0
                return plain_reset(seed)
            def step(action):
                env.steps += 1
                if env.seed == 92 and env.steps == 3:
                    os._exit(1)
                return plain_step(action)
            env.reset, env.step = reset, step
            return env
        safety_gym.make = make
        """,
    )
    env = VectorEnv("PointGoal1", len(SEEDS), num_workers=2, python=python)
    env.reset(SEEDS)
    env.step(actions_at(0))
    env.step(actions_at(1))
    pids = env.worker_pids
    with pytest.raises(WorkerError, match="task PointGoal1, seed 92") as error:
        env.step(actions_at(2))
    assert "\n" not in str(error.value)
    assert wait_until_gone(pids)


HANGING = """
import time
def is_first():
    try:
        open(MARK, "x").close()
    except FileExistsError:
        return False
    return True
plain_make = safety_gym.make
def make(*args, **kwargs):
    env = plain_make(*args, **kwargs)
    plain_reset, plain_step = env.reset, env.step
    def reset(seed):
        env.seed, env.steps = seed, 0
        return plain_reset(seed)
    def step(action):
        env.steps += 1
        if env.seed == 92 and env.steps == 3 and CONDITION:
            time.sleep(3600)
        return plain_step(action)
    env.reset, env.step = reset, step
    return env
safety_gym.make = make
"""


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(pool, "_HANG_SECONDS", 2.0)
    monkeypatch.setattr(pool, "_LOOK_SECONDS", 0.3)


def test_hanging_worker_is_replaced_and_changes_no_result(
    tmp_path, reference, impatient
):
    mark = tmp_path / "mark"
    body = HANGING.replace("MARK", repr(str(mark))).replace("CONDITION", "is_first()")
    python = interpreter(tmp_path, body=body)
    with VectorEnv("PointGoal1", len(SEEDS), num_workers=2, python=python) as env:
        before = env.worker_pids
        assert_same(rollout(env, 10), reference[:11])
        assert mark.exists() and env.worker_pids[1] != before[1]
        assert env.worker_pids[0] == before[0]
    assert wait_until_gone(before)


def test_worker_that_keeps_hanging_is_reported_with_task_and_seed(tmp_path, impatient):
    python = interpreter(tmp_path, body=HANGING.replace("CONDITION", "True"))
    env = VectorEnv("PointGoal1", len(SEEDS), num_workers=2, python=python)
    env.reset(SEEDS)
    env.step(actions_at(0))
    env.step(actions_at(1))
    pids = env.worker_pids
    with pytest.raises(
        WorkerError, match="seed 92.*first it hung for 2 s, then it hung"
    ) as error:
        env.step(actions_at(2))
    assert "\n" not in str(error.value)
    assert wait_until_gone(pids)


def test_refused_seed_is_reported_and_others_go_on(tmp_path, reference):
    python = interpreter(
        tmp_path,
        body="""
        plain_make = safety_gym.make
        def make(*args, **kwargs):
            env = plain_make(*args, **kwargs)
            plain_reset = env.reset
            def reset(seed):
                assert seed != 13, "World has starting cost!"
                return plain_reset(seed)
            env.reset = reset
            return env
        safety_gym.make = make
        """,
    )
    with VectorEnv("PointGoal1", len(SEEDS), num_workers=2, python=python) as env:
        with pytest.raises(
            WorkerError, match="task PointGoal1, seed 13.*starting cost"
        ):
            env.reset([3, 14, 15, 13])
        batch = env.step(actions_at(0))
        assert batch.is_last.all() and not batch.reward.any()
        # Nor does the refused seed trouble a worker that has to be replaced.
        os.kill(env.worker_pids[1], signal.SIGKILL)
        assert_same(rollout(env, 5), reference[:6])


def test_workers_load_no_jax():
    with VectorEnv("PointGoal1", 2, num_workers=1) as env:
        env.reset([0, 1])
        maps = pathlib.Path(f"/proc/{env.worker_pids[0]}/maps").read_text()
    assert "mujoco" in maps and "jaxlib" not in maps


def test_layout_of_a_slot_survives_its_worker():
    with VectorEnv("PointGoal1", 2, num_workers=1) as env:
        env.reset([0, 1])
        env.step(actions_at(0, 2))
        layout = env.layout(1)
        assert layout["hazards"].shape == (8, 3)
        os.kill(env.worker_pids[0], signal.SIGKILL)
        again = env.layout(1)
        assert layout.keys() == again.keys()
        for name, rows in layout.items():
            np.testing.assert_array_equal(rows, again[name])


def test_close_leaves_no_process():
    env = VectorEnv("PointGoal1", 2, num_workers=2)
    pids = env.worker_pids
    assert all(map(is_running, pids))
    env.close()
    env.close()
    assert wait_until_gone(pids, 0.0)
    with pytest.raises(RuntimeError, match="closed"):
        env.step(np.zeros((2, 2)))


@pytest.mark.parametrize("ending", ["raise ValueError", "os.kill(os.getpid(), 9)"])
def test_no_orphans_however_the_parent_ends(ending):
    script = (
        "import os, sys, json; from sas_jax.envs.vector import VectorEnv\n"
        "env = VectorEnv('PointGoal1', 2, num_workers=2); env.reset([0, 1])\n"
        "print(json.dumps(env.worker_pids), flush=True)\n" + ending
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert done.returncode != 0
    assert wait_until_gone(json.loads(done.stdout))


def test_no_orphan_in_the_midst_of_a_step(tmp_path):
    """A worker that does not look at its pipe notices its parent's end, too."""
    python = interpreter(tmp_path, body=HANGING.replace("CONDITION", "True"))
    script = (
        "import sys, json; from sas_jax.envs.vector import VectorEnv\n"
        f"env = VectorEnv('PointGoal1', 1, num_workers=1, python={python!r})\n"
        "env.reset([92]); print(json.dumps(env.worker_pids), flush=True)\n"
        "for _ in range(3): env.step([[0, 0]]); print(flush=True)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    pids = json.loads(parent.stdout.readline())
    parent.stdout.readline(), parent.stdout.readline()  # two steps are done
    time.sleep(0.3)  # for the third to be under way
    assert all(map(is_running, pids))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert wait_until_gone(pids)


def test_interrupt_during_an_exchange_closes_the_workers():
    env = VectorEnv("PointGoal1", 2, num_workers=2)
    pids = env.worker_pids
    env.reset([0, 1])

    def interrupted(index):
        raise KeyboardInterrupt

    env._pool._receive = interrupted
    with pytest.raises(KeyboardInterrupt):
        env.step(np.zeros((2, 2)))
    assert wait_until_gone(pids)


@pytest.fixture(scope="module")
def small():
    with VectorEnv("PointGoal1", 2, num_workers=1) as env:
        env.reset([0, 1])
        yield env


@pytest.mark.parametrize(
    "actions, message",
    [
        (np.zeros(2), r"shape \(2,\): expected \(2, 2\)"),
        (np.zeros((2, 3)), r"shape \(2, 3\): expected \(2, 2\)"),
        (np.array([[0, 0], [0, np.nan]]), "slot 1 is not finite"),
        (np.array([[np.inf, 0], [0, 0]]), "slot 0 is not finite"),
    ],
)
def test_bad_actions(small, actions, message):
    with pytest.raises(UserError, match=message):
        small.step(actions)


@pytest.mark.parametrize(
    "seeds, mask, message",
    [
        ([0], None, r"seeds of shape \(1,\)"),
        ([0, -1], None, "seed -1"),
        ([0, 2**32], None, "seed 4294967296"),
        ([0.5, 1.0], None, "seed 0.5"),
        ([0, 1], [True], r"mask of shape \(1,\)"),
        ([0, 1], [1, 0], "expected .2,. bool"),
    ],
)
def test_bad_resets(small, seeds, mask, message):
    with pytest.raises(UserError, match=message):
        small.reset(seeds, mask)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"num_workers": 0}, "num_workers=0"),
        ({"num_workers": -2}, "num_workers=-2"),
        ({"num_workers": 1.5}, "num_workers=1.5"),
        ({"num_envs": 0}, "num_envs=0"),
        ({"task": "PointGaol1"}, "did you mean 'PointGoal1'"),
        ({"python": "/nonexistent/python"}, "cannot be started"),
        ({"python": "/bin/false"}, "status 1 while starting"),
    ],
)
def test_bad_vector_environment(kwargs, message):
    arguments = {"task": "PointGoal1", "num_envs": 2} | kwargs
    with pytest.raises(UserError, match=message) as error:
        VectorEnv(**arguments)
    assert "\n" not in str(error.value)
