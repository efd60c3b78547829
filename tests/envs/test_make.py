"""Suites from outside: registered once, used everywhere, told what is wrong."""

import json

import numpy as np
import pytest

from sas_jax.envs import make as makers
from sas_jax.envs import tasks
from sas_jax.envs.checked import CheckedEnv
from sas_jax.envs.vector.env import VectorEnv
from sas_jax.errors import UserError
from tests.helpers import toy_suite


@pytest.fixture
def registries(monkeypatch):
    """Registrations of a test are undone after it."""
    monkeypatch.setattr(makers, "SUITES", dict(makers.SUITES))
    monkeypatch.setattr(tasks, "TASKS", dict(tasks.TASKS))


@pytest.fixture
def toys(registries):
    line, spoilt = toy_suite.task(), toy_suite.task("ToySpoilt")
    makers.register_suite("toys", toy_suite.ENTRY, [line, spoilt])
    return line


def test_a_registered_suite_works_by_name(toys):
    env = makers.make("toyline")
    first = env.reset(3)
    np.testing.assert_array_equal(first, [np.random.default_rng(3).normal(), 0, 0])
    observation, reward, cost, terminated, truncated = env.step([0.5])
    np.testing.assert_array_equal(observation, [first[0] + 0.5, 0.5, 1.0])
    assert reward == 0.5 and cost == float(abs(observation[0]) > 1)
    assert terminated is False and truncated is False
    assert env.step([7.0])[1] == 1.5  # clipped to the box: 0.5 + 1
    with pytest.raises(UserError, match=r"ToyLine: action of shape \(2,\)"):
        env.step([0.0, 0.0])
    assert env.layout() == {} and np.isnan(env.pose()[:5]).all()
    assert tasks.get_task("ToyLine").references.dsrl_stem == ""
    assert np.isnan(toys.normalized_return(3.0))


def test_a_registered_suite_works_in_workers(toys):
    with VectorEnv("ToyLine", 3, num_workers=2) as env:
        batch = env.reset([5, 6, 7])
        expected = [np.random.default_rng(seed).normal() for seed in (5, 6, 7)]
        np.testing.assert_array_equal(batch.obs[:, 0], np.float32(expected))
        for _ in range(5):
            batch = env.step([[0.5], [0.0], [-0.5]])
        np.testing.assert_array_equal(batch.reward, [2.5, 0.0, -2.5])
        assert batch.is_last.all()


def test_a_task_survives_the_way_to_a_worker(toys):
    for task in (toys, tasks.get_task("CarButton1")):
        again = tasks.from_json(tasks.to_json(task))
        assert again.obs_groups == task.obs_groups
        assert again.cost_limits == task.cost_limits and again.name == task.name
    assert makers.registration(tasks.get_task("CarButton1")) is None
    makers.register_in_worker(makers.registration(toys))  # again: nothing changes
    # A module that both sides import has registered it with references.
    known = toy_suite.task("Known", references=tasks.get_task("PointGoal1").references)
    makers.register_suite("toys", toy_suite.ENTRY, [known])
    makers.register_in_worker(json.loads(json.dumps(makers.registration(known))))
    assert tasks.get_task("Known") is known
    with pytest.raises(UserError, match="'Known' is registered already"):
        other = toy_suite.task("Known", episode_steps=7)
        sent = {"entry": toy_suite.ENTRY, "task": tasks.to_json(other)}
        makers.register_in_worker(sent)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_numbers_that_are_not_finite_name_the_episode(toys, num_workers):
    """Also by the vector environment itself, which checks every suite."""
    with VectorEnv("ToySpoilt", 2, num_workers=num_workers) as env:
        env.reset([8, 9])
        env.step([[0.0], [0.0]])
        with pytest.raises(UserError, match="ToySpoilt, seed 8.* nan at index 1"):
            env.step([[0.0], [0.0]])


def test_vector_environment_checks_what_it_passes_on(toys):
    with VectorEnv("ToyLine", 2, num_workers=1) as env:
        env.reset([8, 9])
        run = env._pool.run

        def spoil(*args):
            run(*args)
            env._slots.rewards[1] = np.inf

        env._pool.run = spoil
        with pytest.raises(UserError, match="seed 9, step 1: .* reward inf"):
            env.step([[0.0], [0.0]])
        with pytest.raises(RuntimeError, match="closed"):
            env.step([[0.0], [0.0]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("toys", "no_colon", [toy_suite.task()]), "expected 'module:function'"),
        (("toys", "a:b c", [toy_suite.task()]), "expected 'module:function'"),
        (("toys", "a:b", []), "at least one task"),
        (("other", "a:b", [toy_suite.task()]), "of suite 'toys', expected 'other'"),
        (("safety-gymnasium", "a:b", [toy_suite.task()]), "registered already"),
        (("toys", "a:b", [toy_suite.task("PointGoal1")]), "'PointGoal1' is registered"),
    ],
)
def test_registrations_that_make_no_sense(registries, arguments, message):
    before = dict(makers.SUITES), dict(tasks.TASKS)
    with pytest.raises(UserError, match=message):
        makers.register_suite(*arguments)
    assert before == (makers.SUITES, tasks.TASKS)


@pytest.mark.parametrize("entry", ["no.such.module:make", "sas_jax.errors:absent"])
def test_an_entry_that_cannot_be_imported_is_named(registries, entry):
    makers.register_suite("toys", entry, [toy_suite.task()])
    with pytest.raises(UserError, match=f"'{entry}' cannot be imported"):
        makers.make("ToyLine")


def test_a_task_of_no_suite_is_named(registries):
    tasks.TASKS["ToyLine"] = toy_suite.task()
    with pytest.raises(UserError, match="ToyLine: unknown suite 'toys'"):
        makers.make("ToyLine")


GOOD = (np.zeros(3), 0.0, 0.0, False, False)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (GOOD[:4], "step returned tuple of 4; expected a tuple of 5"),
        ((*GOOD, {}), "step returned tuple of 6; expected a tuple of 5"),
        (None, "step returned NoneType; expected a tuple of 5"),
        ((np.zeros((3, 1)), *GOOD[1:]), r"shape \(3, 1\); expected \(3,\)"),
        ((0.0, *GOOD[1:]), r"shape \(\); expected \(3,\)"),
        (("abc", *GOOD[1:]), "returned str; expected an array"),
        ((np.array([0, np.inf, 0]), *GOOD[1:]), "inf at index 1; expected finite"),
        ((GOOD[0], np.zeros(1), *GOOD[2:]), r"a reward of shape \(1,\); expected one"),
        ((GOOD[0], None, *GOOD[2:]), "a reward of NoneType; expected one number"),
        ((*GOOD[:2], np.nan, *GOOD[3:]), "a cost of nan; expected a finite number"),
        ((*GOOD[:3], 0, False), "terminated of int; expected a bool"),
        ((*GOOD[:4], np.array([False])), r"truncated of shape \(1,\); expected a bool"),
    ],
)
def test_what_a_step_returns_is_checked(result, message):
    inner = toy_suite.ToyEnv()
    env = CheckedEnv(inner, toy_suite.task())
    env.reset(0)
    inner.step = lambda action: result
    with pytest.raises(UserError, match=f"task ToyLine: .*{message}") as error:
        env.step([0.0])
    assert "\n" not in str(error.value)


def test_reset_pose_and_methods_are_checked():
    inner = toy_suite.ToyEnv()
    env = CheckedEnv(inner, toy_suite.task(obs_dim=4))
    with pytest.raises(UserError, match=r"reset returned .*shape \(3,\); expected \(4"):
        env.reset(0)
    inner.pose = lambda: np.zeros(2)
    with pytest.raises(UserError, match=r"pose returned shape \(2,\); expected \(6,\)"):
        env.pose()
    with pytest.raises(UserError, match=r"\(object\) has no method reset"):
        CheckedEnv(object(), toy_suite.task())
