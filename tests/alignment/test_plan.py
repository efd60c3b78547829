"""Acting on imagination: the loop and its account, on known worlds."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.alignment import plan as plan_lib
from sas_jax.alignment import sub_blocks
from sas_jax.alignment.gate import RiskModel
from sas_jax.alignment.policy import make_policy
from sas_jax.errors import UserError
from tests.helpers import corridor
from tests.helpers.planning import CONFIG, PLAN, Runner


@functools.cache
def runner():
    return Runner(("none", "plan", "plan_rand", "plan_sas"))


def test_choosing_by_imagined_cost_saves_it():
    """Against the policy and against plans that nobody chose, at equal speed."""
    actions, costs, known, _ = runner().run()
    none, plan, rand, both = costs.sum(axis=(0, 2)) / 6
    assert plan < 0.4 * none and plan < 0.6 * rand and both < 0.4 * none
    assert actions[:, 1, :, 0].mean() > 0.25  # it still goes to the right
    assert (known["num_plans"][0] == 0).all() and (known["num_plans"][1] == 10).all()
    assert (known["plan_fallback"] == 0).all()
    # The model is the world: what was expected is what came.
    np.testing.assert_allclose(
        known["plan_expected"][1], known["plan_realised"][1], atol=1.1
    )
    assert (known["plan_error"][1:] < 1e-3).all()
    assert 0 < known["plan_out"][1].mean() < 1


@pytest.mark.slow
def test_a_critic_sees_beyond_a_short_horizon():
    """Two steps do not see the disc until they stand in front of it."""
    short = dataclasses.replace(
        PLAN, horizon=2, execute=1, push_steps=0, margin=None, tolerance=0.1
    )
    config = dataclasses.replace(CONFIG, plan=short)
    risk = RiskModel(risk=None, level=None, value=corridor.cost_ahead)
    runner = Runner(("none", "plan", "plan_value"), config, risk_model=risk)
    _, costs, known, _ = runner.run()
    none, plan, value = costs.sum(axis=(0, 2))
    assert value < 0.5 * plan and plan <= none
    # What a critic adds is no cost that a plan was to have.
    assert known["plan_expected"][2].sum() < none
    with pytest.raises(UserError, match="plan_value needs a cost critic with a value"):
        Runner(("plan_value",), config, risk_model=risk._replace(value=None))
    with pytest.raises(UserError, match="plan_value needs a cost critic"):
        Runner(("plan_value",), config)


def test_a_larger_budget_is_spent():
    few, many = (runner().run(limit)[1][:, 1].sum(axis=0).mean() for limit in (0, 30))
    assert many > few + 1


def test_where_no_candidate_costs_the_policy_acts():
    """Before the disc comes into reach, and when it is behind; not on fallback."""
    actions, _, known, _ = runner().run()
    own = (actions[:, 1] == actions[:, 0]).all(axis=-1)
    assert 0 < known["plan_idle"][1].mean() < 1
    np.testing.assert_allclose(own.mean(axis=0), known["plan_idle"][1], atol=1e-6)
    always = dataclasses.replace(PLAN, tolerance=None)
    run = Runner(("none", "plan"), dataclasses.replace(CONFIG, plan=always), 1).run
    actions, _, known, _ = run(steps=3)
    assert (known["plan_idle"] == 0)[1].all() and (actions[:, 1] != actions[:, 0]).all()


def test_costs_that_cannot_be_told_apart_leave_the_policy_alone():
    """All candidates cost 4.5 up to a hundredth; the policy allows itself 0."""

    def dull(variables, obs, action, next_obs):
        return next_obs[0] - obs[0], 0.3 + 0.001 * action[1]

    run = Runner(("none", "plan"), episodes=3, model=corridor.model(dull)).run
    actions, _, known, _ = run(steps=7)
    np.testing.assert_array_equal(actions[:, 1], actions[:, 0])
    assert (known["plan_idle"][1] == 1).all()
    assert (known["plan_fallback"][1] == 0).all()


@pytest.mark.slow
def test_plans_keep_to_the_data_where_the_energy_is_asked():
    wide = dataclasses.replace(CONFIG, plan=dataclasses.replace(PLAN, margin=None))
    loose, tight = (
        np.abs(np.cumsum(Runner(("plan",), config).run()[0][..., 1], axis=0)).max()
        for config in (wide, CONFIG)
    )
    assert tight < loose


def test_an_episode_does_not_depend_on_another_ones_phase():
    """Episode 1 begins anew at step 4 and is out of phase from then on."""
    actions = runner().run(steps=12)[0]
    shifted = runner().run(steps=12, restarts=((4, 1),))[0]
    others = [0, 2, 3, 4, 5]
    np.testing.assert_array_equal(actions[:, :, others], shifted[:, :, others])
    np.testing.assert_array_equal(shifted[4:, 1, 1], actions[:8, 1, 1])


@pytest.mark.slow
def test_rows_may_be_worked_off_all_at_once(monkeypatch):
    """As on an accelerator: the same plans, up to rounding."""
    few = runner().run(steps=4)
    monkeypatch.setitem(sub_blocks.SUB_BLOCK, "cpu", 2)
    pairs = Runner(("none", "plan", "plan_rand", "plan_sas")).run(steps=4)
    np.testing.assert_allclose(few[0], pairs[0], atol=1e-5)
    np.testing.assert_array_equal(few[2]["num_plans"], pairs[2]["num_plans"])


def test_a_model_of_nothing_but_nan_leaves_the_policy_alone():
    broken = {"broken": np.array(True)}
    actions, _, known, _ = runner().run(steps=7, variables=broken)
    np.testing.assert_array_equal(actions[:, 1], actions[:, 0])
    assert (known["plan_fallback"][1] == 7).all()
    assert (known["plan_out"][1] == 1).all()


@pytest.mark.slow
def test_a_model_that_foresees_worse_than_standing_still_is_not_followed():
    """The world moves the other way: it errs by twice of what moves, a share of 2/3.

    The mean of shares is no longer trusted from 1/2 on.
    """
    keep = 0.4
    plan = dataclasses.replace(PLAN, error_memory=keep, tolerance=None)
    run = Runner(("none", "plan"), dataclasses.replace(CONFIG, plan=plan))
    actions, _, known, _ = run.run(gain=-1.0)
    shares = [2 / 3 * (1 - keep**n) for n in (1, 2)]
    assert shares[0] <= plan.max_error < shares[1]
    np.testing.assert_allclose(known["plan_error"][1], shares[1], rtol=1e-4)
    assert (known["plan_fallback"][1] == 24).all()  # all but the first two plans
    np.testing.assert_array_equal(actions[6:, 1], actions[6:, 0])


def test_one_jump_that_nobody_foresees_is_forgiven():
    """However far it goes, it counts as one plan."""
    plan = plan_lib.empty(1, PLAN, corridor.OBS, corridor.ACTIONS)
    plan = plan.replace(is_kept=jnp.array([True]), age=jnp.array([PLAN.execute]))

    def judged(plan, obs):
        return plan_lib.judged(
            plan,
            jnp.float32([obs]),
            jnp.zeros(1),
            jnp.array([True]),
            lambda x: x,
            PLAN,
        )

    after = judged(plan, [1e6, 0.0])
    np.testing.assert_allclose(after.error, 0.5 * (1 - PLAN.error_memory), rtol=1e-5)
    assert plan_lib.trusted(after, PLAN).all()
    assert judged(plan, [0.0, 0.0]).error == 0  # nothing was expected to move


def test_plans_are_executed_as_they_were_imagined():
    actions, _, _, carry = runner().run(steps=3)
    plan = np.asarray(carry.plan.action).reshape(4, 6, PLAN.horizon, -1)
    executed = np.moveaxis(actions, 0, 2)
    np.testing.assert_array_equal(plan[1, :, :3], executed[1])


def test_a_model_without_outcomes_says_what_is_missing():
    blind = corridor.MODEL._replace(advance=None)
    with pytest.raises(UserError, match="plan needs a model with 'advance'.*outcome"):
        make_policy(blind, CONFIG, variants=("plan",), horizon=6, target_return=0.0)
