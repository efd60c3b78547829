"""Workers that die, hang, refuse or lose their parent.

Most of them run a toy that starts at once; what must hold of a simulator is also shown
on PointGoal1.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from sas_jax.envs import make as makers
from sas_jax.envs import tasks
from sas_jax.envs.vector import pool, process
from sas_jax.envs.vector.env import VectorEnv
from sas_jax.envs.vector.pool import WorkerError
from tests.helpers import toy_suite
from tests.helpers.vector_runs import (
    ROOT,
    SEEDS,
    actions_at,
    assert_same,
    is_running,
    rollout,
    wait_until_gone,
)

TOY = "ToyLong"
REGISTER = (
    "from sas_jax.envs.make import register_suite\n"
    "from tests.helpers import toy_suite\n"
    "register_suite('toys', toy_suite.ENTRY, [toy_suite.long_task()])\n"
)


@pytest.fixture(scope="module", autouse=True)
def toy():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(makers, "SUITES", dict(makers.SUITES))
        patch.setattr(tasks, "TASKS", dict(tasks.TASKS))
        makers.register_suite("toys", toy_suite.ENTRY, [toy_suite.long_task()])
        yield


def undisturbed(task):
    """40 steps of workers that nothing happens to."""
    with VectorEnv(task, len(SEEDS), num_workers=1) as env:
        return rollout(env, 40)


@pytest.fixture(scope="module")
def reference(toy):
    return undisturbed(TOY)


@pytest.mark.parametrize(
    "task, victim, delay", [(TOY, 0, 0.0), ("PointGoal1", 1, 0.0003)]
)
def test_killed_worker_changes_no_result(task, victim, delay):
    """Killed while idle, and (most likely) in the midst of a step."""
    reference = undisturbed(task)
    with VectorEnv(task, len(SEEDS), num_workers=2) as env:
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
    with VectorEnv(TOY, len(SEEDS), num_workers=1) as env:
        rollout(env, 10)
        os.kill(env.worker_pids[0], signal.SIGKILL)
        batch = env.reset([0, 3, 0, 0], mask=np.array([False, True, False, False]))
        np.testing.assert_array_equal(batch.obs[1], reference[0].obs[0])
        for slot in (0, 2, 3):
            np.testing.assert_array_equal(batch.obs[slot], reference[10].obs[slot])
        batch = env.step(actions_at(10))
        for slot in (0, 2, 3):
            np.testing.assert_array_equal(batch.obs[slot], reference[11].obs[slot])


WORKER = """\
#!PYTHON
import os, sys, time
sys.path.insert(0, ROOT)
sys.argv = sys.argv[1:]
from sas_jax.envs import make as makers
from sas_jax.envs.vector import worker

def is_first():
    try:
        open(MARK, "x").close()
    except FileExistsError:
        return False
    return True

plain_make = makers.make
def make(*args, **kwargs):
    env = plain_make(*args, **kwargs)
    plain_reset, plain_step = env.reset, env.step
    def reset(seed):
        env.seed, env.steps = seed, 0
        ON_RESET
        return plain_reset(seed)
    def step(action):
        env.steps += 1
        if env.seed == 92 and env.steps == 3:
            IN_STEP
        return plain_step(action)
    env.reset, env.step = reset, step
    return env
makers.make = make
worker.main()
"""


def interpreter(folder, *, on_reset="pass", in_step="pass"):
    """A Python whose workers do something else on a reset, or in step 3 of seed 92."""
    words = {
        "PYTHON": sys.executable,
        "ROOT": repr(str(ROOT)),
        "MARK": repr(str(folder / "mark")),
        "ON_RESET": on_reset,
        "IN_STEP": in_step,
    }
    script = WORKER
    for word, text in words.items():
        script = script.replace(word, text)
    path = folder / "python"
    path.write_text(script)
    path.chmod(0o755)
    return str(path)


def test_worker_that_keeps_dying_is_reported_with_task_and_seed(tmp_path):
    python = interpreter(tmp_path, in_step="os._exit(1)")
    env = VectorEnv(TOY, len(SEEDS), num_workers=2, python=python)
    env.reset(SEEDS)
    env.step(actions_at(0))
    env.step(actions_at(1))
    pids = env.worker_pids
    with pytest.raises(WorkerError, match="task ToyLong, seed 92") as error:
        env.step(actions_at(2))
    assert "\n" not in str(error.value)
    assert wait_until_gone(pids)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(pool, "_HANG_SECONDS", 2.0)
    monkeypatch.setattr(process, "_LOOK_SECONDS", 0.3)


@pytest.mark.slow
def test_hanging_worker_is_replaced_and_changes_no_result(
    tmp_path, reference, impatient
):
    python = interpreter(tmp_path, in_step="if is_first(): time.sleep(3600)")
    with VectorEnv(TOY, len(SEEDS), num_workers=2, python=python) as env:
        before = env.worker_pids
        assert_same(rollout(env, 10), reference[:11])
        assert (tmp_path / "mark").exists()
        assert env.worker_pids[1] != before[1]
        assert env.worker_pids[0] == before[0]
    assert wait_until_gone(before)


@pytest.mark.slow
def test_worker_that_keeps_hanging_is_reported_with_task_and_seed(tmp_path, impatient):
    python = interpreter(tmp_path, in_step="time.sleep(3600)")
    env = VectorEnv(TOY, len(SEEDS), num_workers=2, python=python)
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
    refuse = "assert seed != 13, 'World has starting cost!'"
    python = interpreter(tmp_path, on_reset=refuse)
    with VectorEnv(TOY, len(SEEDS), num_workers=2, python=python) as env:
        with pytest.raises(WorkerError, match="task ToyLong, seed 13.*starting cost"):
            env.reset([3, 14, 15, 13])
        batch = env.step(actions_at(0))
        assert batch.is_last.all() and not batch.reward.any()
        # Nor does the refused seed trouble a worker that has to be replaced.
        os.kill(env.worker_pids[1], signal.SIGKILL)
        assert_same(rollout(env, 5), reference[:6])


@pytest.mark.slow
def test_worker_finds_its_own_package(tmp_path):
    """Started by path under an interpreter that has no sas_jax, or another copy."""
    script = tmp_path / "python"
    script.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, runpy, sys\n"
        "sys.argv = sys.argv[1:]\n"
        "here = lambda p: (pathlib.Path(p) / 'sas_jax').is_dir()\n"
        "sys.path[1:] = [p for p in sys.path[1:] if not here(p)]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    script.chmod(0o755)
    with VectorEnv("PointCircle1", 1, num_workers=1, python=str(script)) as env:
        assert env.reset([0]).obs.any()


@pytest.mark.slow
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
    env = VectorEnv(TOY, 2, num_workers=2)
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
        "import os, sys, json; from sas_jax.envs.vector.env import VectorEnv\n"
        f"{REGISTER}env = VectorEnv({TOY!r}, 2, num_workers=2); env.reset([0, 1])\n"
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


@pytest.mark.slow
def test_no_orphan_in_the_midst_of_a_step(tmp_path):
    """A worker that does not look at its pipe notices its parent's end, too."""
    python = interpreter(tmp_path, in_step="time.sleep(3600)")
    script = (
        "import sys, json; from sas_jax.envs.vector.env import VectorEnv\n"
        f"{REGISTER}env = VectorEnv({TOY!r}, 1, num_workers=1, python={python!r})\n"
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
    env = VectorEnv(TOY, 2, num_workers=2)
    pids = env.worker_pids
    env.reset([0, 1])

    def interrupted(index):
        raise KeyboardInterrupt

    env._pool._receive = interrupted
    with pytest.raises(KeyboardInterrupt):
        env.step(np.zeros((2, 2)))
    assert wait_until_gone(pids)
