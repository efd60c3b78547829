"""Copies of a running environment: the same world, and the real one never notices."""

import os
import signal
import time

import numpy as np
import pytest

from sas_jax.envs import make as makers
from sas_jax.envs import tasks
from sas_jax.envs.branching.env import BranchingEnv
from sas_jax.errors import UserError
from tests.helpers import toy_suite


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setattr(tasks, "TASKS", dict(tasks.TASKS))
    monkeypatch.setattr(makers, "SUITES", dict(makers.SUITES))
    makers.register_suite("toys", toy_suite.ENTRY, [toy_suite.task()])
    with BranchingEnv("ToyLine") as env:
        yield env


def children(pid):
    """Processes whose parent is `pid`."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8") as file:
                state, parent = file.read().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(name))
    return found


def test_copies_go_their_own_ways_from_the_present(toy):
    first = toy.reset(3)
    real = toy.step([0.5])
    assert real.reward == 0.5
    toy.branch(3)
    tried = toy.step_branches(np.array([[-1.0], [0.0], [1.0]]))
    # A point on a line: speed 0.5 plus the action, and what it reaches.
    np.testing.assert_allclose(tried.obs[:, 1], [-0.5, 0.5, 1.5])
    np.testing.assert_allclose(tried.obs[:, 0], real.obs[0] + tried.obs[:, 1])
    np.testing.assert_allclose(tried.reward, [-0.5, 0.5, 1.5])
    again = toy.step_branches(np.zeros((3, 1)))
    np.testing.assert_allclose(again.obs[:, 1], [-0.5, 0.5, 1.5])
    # The real episode has made one step, whatever was tried.
    moved = toy.step([0.0])
    np.testing.assert_allclose(moved.obs, [first[0] + 1.0, 0.5, 2.0])


def test_a_copy_after_the_end_stays_where_it_is(toy):
    toy.reset(0)
    for _ in range(3):
        toy.step([1.0])
    toy.branch(2)
    seen = [toy.step_branches(np.ones((2, 1))) for _ in range(4)]
    assert [step.is_last.tolist() for step in seen] == [[False] * 2] + [[True] * 2] * 3
    np.testing.assert_array_equal(seen[1].obs, seen[3].obs)
    assert seen[1].reward.all() and not seen[2].reward.any() and not seen[2].cost.any()
    assert not toy.step([1.0]).is_last


def test_wrong_requests_are_named(toy):
    toy.reset(0)
    with pytest.raises(UserError, match="2 actions for 0 copies"):
        toy.step_branches(np.zeros((2, 1)))
    with pytest.raises(UserError, match="0 copies; expected at least 1"):
        toy.branch(0)
    toy.branch(1)
    with pytest.raises(UserError, match=r"shape \(2,\): expected \(1,\)"):
        toy.step_branches(np.zeros((1, 2)))
    with pytest.raises(UserError, match="unknown task"):
        BranchingEnv("PointGaol1")


def test_copies_end_with_their_owner(toy):
    toy.reset(0)
    toy.branch(2)
    worker = toy._process.popen.pid
    copies = children(worker)
    assert len(copies) == 2
    toy.branch(1)
    assert len(children(worker)) == 1
    # However the owner ends, its copies see their pipes close.
    (copy,) = children(worker)
    os.kill(worker, signal.SIGKILL)
    for _ in range(200):
        if not os.path.exists(f"/proc/{copy}"):
            break
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{copy}")
    with pytest.raises(UserError, match="process of ToyLine has ended"):
        toy.step([0.0])


@pytest.mark.parametrize("task", ["PointButton1", "CarPush1"])
def test_copies_see_what_the_real_episode_will_see(task):
    """Moving gremlins, timers of buttons, contacts and the draws to come: all of it."""
    rng = np.random.default_rng(0)
    with BranchingEnv(task) as env:
        env.reset(5)
        for action in rng.uniform(-1, 1, (20, 2)):
            env.step(action)
        env.branch(2)
        actions = rng.uniform(-1, 1, (60, 2))
        tried = [env.step_branches(np.stack([a, -a])) for a in actions]
        real = [env.step(a) for a in actions]
    for copy, step in zip(tried, real, strict=True):
        np.testing.assert_array_equal(copy.obs[0], step.obs)
        assert (copy.reward[0], copy.cost[0]) == (step.reward, step.cost)
    assert not np.array_equal(tried[-1].obs[0], tried[-1].obs[1])
