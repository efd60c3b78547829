"""Recording with a trained policy: who acts, that it is told, that it is the same."""

import dataclasses

import numpy as np
import pytest

from sas_jax import trained
from sas_jax.data import collect
from sas_jax.data.behaviours import given
from sas_jax.envs import tasks
from sas_jax.envs.make import make as make_env
from sas_jax.errors import UserError
from sas_jax.packed import SHIPPED
from tests.helpers import toy_suite


class Told:
    """Acts by what it was told, and by its text."""

    def __init__(self, text):
        self.text, self.sum = float(text), 0.0

    def __call__(self, obs):
        return [np.clip(self.text + self.sum, -1, 1)]

    def told(self, reward, cost):
        self.sum += 0.001 * reward + 0.01 * cost


def by_text(task, rng, text):
    return Told(text)


def test_a_policy_gets_its_text_and_is_told_what_a_step_brought(monkeypatch):
    monkeypatch.setattr(tasks, "TASKS", dict(tasks.TASKS) | {"Toy": toy_suite.task()})
    act = given.start(tasks.get_task("Toy"), f"{__name__}:by_text:0.25", 0, 0)
    assert act(np.zeros(3)).tolist() == [0.25]
    act.told(100.0, 1.0)
    np.testing.assert_allclose(act(np.zeros(3)), [0.36], rtol=1e-6)


@pytest.mark.slow
def test_a_checkpoint_records_the_same_episode_again():
    name = trained.name_of(SHIPPED, "PointGoal1")
    plan = collect.Plan("PointGoal1", 2, 0, policy=name)
    env = make_env("PointGoal1")
    first, again, other = (collect.record(env, plan, e) for e in (0, 0, 1))
    for key, value in first.items():
        np.testing.assert_array_equal(value, again[key])
    assert not np.array_equal(
        first["actions"], other["actions"][: len(first["actions"])]
    )
    # It drives to goals; random actions return about 0.
    assert first["rewards"].sum() > 10 and len(first["rewards"]) == 1000
    # Who is told of another reward counts its token down otherwise.
    obs, bits = first["observations"], []
    for reward in (float(first["rewards"][0]), 5.0):
        act = given.start(env.task, plan.policy, plan.seed, 0)
        bits.append(act(obs[0]))
        act.told(reward, float(first["costs"][0]))
        bits.append(act(obs[1]))
    np.testing.assert_array_equal(bits[0], bits[2])
    assert not np.array_equal(bits[1], bits[3])
    with pytest.raises(UserError, match="trained on PointGoal1; expected CarGoal1"):
        trained.name_of(SHIPPED, "CarGoal1")
    wrong = dataclasses.replace(plan, policy=name.replace("policy:", "policy:0"))
    with pytest.raises(UserError, match="has changed since the recording began"):
        collect.record(env, wrong, 0)
