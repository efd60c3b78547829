"""Workers on a Ray cluster of two nodes of this machine: the same bits, nodes lost."""

import sys

import numpy as np
import pytest

from sas_jax.envs import make as makers
from sas_jax.envs import tasks
from sas_jax.envs.vector.env import VectorEnv
from sas_jax.envs.vector.pool import WorkerError
from sas_jax.errors import UserError
from tests.helpers import short_goal, toy_suite

SLOTS = 5


@pytest.fixture(scope="module")
def task():
    with short_goal.registered() as name:
        yield name


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    cluster.nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def played(task, *, steps=20, at=None, act=None, **where):
    """Every batch of some steps. act: called before step `at`."""
    found, rng = [], np.random.default_rng(0)
    with VectorEnv(task, SLOTS, **where) as envs:
        found.append(envs.reset(7 + np.arange(SLOTS)))
        for step in range(steps):
            if step == at:
                act()
            found.append(envs.step(rng.uniform(-1, 1, (SLOTS, envs.action_dim))))
        mask = np.arange(SLOTS) % 2 == 0
        found.append(envs.reset(100 + np.arange(SLOTS), mask))
        found.append(envs.step(np.zeros((SLOTS, envs.action_dim))))
        layout = envs.layout(3)
    return found, layout


def same(one, other):
    for a, b in zip(one[0], other[0], strict=True):
        for name, x, y in zip(a._fields, a, b, strict=True):
            np.testing.assert_array_equal(x, y, err_msg=name)
    assert set(one[1]) == set(other[1])
    for name, rows in one[1].items():
        np.testing.assert_array_equal(rows, other[1][name])


@pytest.mark.slow
def test_the_same_bits_wherever_workers_are_and_when_a_node_is_lost(task, cluster):
    here = played(task, num_workers=2)
    same(here, played(task, num_workers=3, engine="ray"))

    def lose():
        cluster.remove_node(cluster.nodes.pop(), allow_graceful=False)

    same(here, played(task, num_workers=2, engine="ray", at=11, act=lose))


class Refusing(toy_suite.ToyEnv):
    """Refuses the seed 13."""

    def reset(self, seed):
        if seed == 13:
            raise ValueError("a world\nwith starting cost")
        return super().reset(seed)


def make_refusing(task, lean):
    return Refusing(task.episode_steps)


@pytest.mark.slow
def test_what_an_environment_raises_is_said_as_at_home(cluster, monkeypatch):
    """In one line that names the seed; the workers go on."""
    monkeypatch.setattr(makers, "SUITES", dict(makers.SUITES))
    monkeypatch.setattr(tasks, "TASKS", dict(tasks.TASKS))
    makers.register_suite("toys", f"{__name__}:make_refusing", [toy_suite.task()])
    texts = []
    for engine in ("local", "ray"):
        with VectorEnv("ToyLine", 2, num_workers=2, engine=engine) as envs:
            with pytest.raises(WorkerError) as error:
                envs.reset([3, 13])
            texts.append(str(error.value))
            assert not envs.reset([3, 14]).is_last.any()
    assert texts[0] == texts[1]
    assert texts[0].startswith("task ToyLine, seed 13: ") and "\n" not in texts[0]


def test_without_ray_or_with_another_python_it_is_refused(task, monkeypatch):
    with pytest.raises(UserError, match="engine 'slurm': expected local or ray"):
        VectorEnv(task, 1, engine="slurm")
    with pytest.raises(UserError, match="python: expected none with engine ray"):
        VectorEnv(task, 1, engine="ray", python="/usr/bin/python3")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="Ray is not installed"):
        VectorEnv(task, 1, engine="ray")
