"""--import: a module in the present folder registers a task, for workers as well."""

import os
import subprocess
import sys

import pytest

from sas_jax.data import dsrl
from sas_jax.envs import tasks
from tests.helpers.entry_points import ROOT

MY_TASKS = """
import sas_jax

sas_jax.register_task("Mine", "my_tasks:make_env", cost="my_tasks:cost")


def make_env():
    import gymnasium
    from gymnasium.wrappers import TimeLimit
    from tests.helpers.tiny_gymnasium import Free

    env = Free()
    env.spec = gymnasium.spec("TinyFree-v0")
    return TimeLimit(env, 7)


def cost(obs, action, new_obs, terminated, info):
    return float(new_obs[0] > 0)


def policy(task, rng):
    return lambda obs: [0.1]
"""


def collect(folder, *flags):
    """Runs `python -m experiments.collect FLAGS` in a folder of the user's own."""
    return subprocess.run(
        [sys.executable, "-m", "experiments.collect", "--episodes=2", *flags],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
def test_a_users_module_is_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "TASKS", dict(tasks.TASKS))
    (tmp_path / "my_tasks.py").write_text(MY_TASKS)
    flags = ["--import=my_tasks", "--task=Mine", "--policy=my_tasks:policy"]
    done = collect(tmp_path, *flags)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Adroit" not in done.stderr
    monkeypatch.setitem(
        tasks.TASKS, "Mine", tasks.Task("Mine", "gymnasium", "x", 2, 1, 12, (1.0,))
    )
    episodes = dsrl.load(tmp_path / "data" / "Mine.hdf5")
    first, second = episodes.lengths.tolist()
    # Its own time limit, unless it has left the line before.
    assert second == 7 and episodes.terminated.tolist() == [first < 7, False]
    seen = [*episodes.observations[1:first, 0], episodes.final_observations[0, 0]]
    assert episodes.costs[:first].tolist() == [float(x > 0) for x in seen]


def test_a_module_that_is_not_there_is_one_line(tmp_path):
    done = collect(tmp_path, "--import=my_taskz", "--task=Mine")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and "module 'my_taskz' cannot be imported" in lines[0]
