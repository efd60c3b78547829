"""A worker of a collection that gets no further is told, and a slow one is not."""

import time

import numpy as np
import pytest

from sas_jax.data import collect
from sas_jax.data.collection import pool
from sas_jax.envs import make as makers
from sas_jax.envs import tasks
from sas_jax.errors import UserError
from tests.helpers import toy_suite

SLOW, ASLEEP = (f"{__name__}:{name}" for name in ("takes_its_time", "falls_asleep"))


def takes_its_time(task, rng):
    """Five steps of it take longer than a worker may hang."""
    return lambda obs: time.sleep(0.6) or np.zeros(1)


def falls_asleep(task, rng):
    return lambda obs: time.sleep(3600) if obs[2] == 3 else np.zeros(1)


@pytest.fixture(autouse=True)
def impatient_for_toys(monkeypatch):
    monkeypatch.setattr(makers, "SUITES", dict(makers.SUITES))
    monkeypatch.setattr(tasks, "TASKS", dict(tasks.TASKS))
    makers.register_suite("toys", toy_suite.ENTRY, [toy_suite.task()])
    monkeypatch.setattr(pool, "_HANG_SECONDS", 2.0)
    monkeypatch.setattr(pool, "_LOOK_SECONDS", 0.2)


@pytest.mark.slow
def test_a_worker_that_makes_no_step_is_named_with_its_episode(tmp_path):
    plan = collect.Plan("ToyLine", episodes=2, seed=5, policy=ASLEEP)
    with pytest.raises(UserError) as error:
        collect.collect(plan, tmp_path / "a.hdf5", workers=1)
    seed = plan.environment_seed(0)
    expected = f"hung for 2 s while recording episode 0 (seed {seed})"
    assert str(error.value).startswith(f"ToyLine: a worker process {expected}; ")
    assert "\n" not in str(error.value)
    assert (tmp_path / "a.hdf5.parts").is_dir() and not (tmp_path / "a.hdf5").exists()


@pytest.mark.slow
def test_a_worker_that_gets_on_may_take_its_time(tmp_path):
    plan = collect.Plan("ToyLine", episodes=1, seed=5, policy=SLOW)
    data = collect.collect(plan, tmp_path / "a.hdf5", workers=1)
    assert data.lengths.tolist() == [5]
