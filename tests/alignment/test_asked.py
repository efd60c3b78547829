"""The learnt return token in the acting loop: who gets it, and when it is needed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.alignment import policy as aligned_policy
from sas_jax.alignment.config import PlanConfig, SASConfig
from sas_jax.alignment.return_model import ReturnModel
from sas_jax.errors import UserError
from sas_jax.policies.history import from_history_policy
from sas_jax.types import Rows, TimeStep
from tests.helpers import product_policy

OBS = product_policy.OBS
CONFIG = SASConfig(
    prompt_length=product_policy.LENGTH,
    num_first=2,
    num_second=2,
    sample_actions=False,
    plan=PlanConfig(num_candidates=4, horizon=3, execute=2, num_reference=2),
)
# Half of what is left, and a tenth of the threshold; later steps ask for more.
RETURNS = ReturnModel(
    token=lambda variables, obs, left, limit, t: 0.5 * left + 0.1 * limit + t
)


def told(variables, history, mask):
    """Acts by its return token alone."""
    del mask
    return jnp.stack([0.01 * history.return_to_go[-1], 0.0]), jnp.full(2, -1.5)


MODEL = from_history_policy(
    told,
    product_policy.dynamics,
    outcome=product_policy.outcome,
    action_dim=2,
    context=5,
    prompt_steps=product_policy.LENGTH,
)


def make(variants, *, model=MODEL, return_model=RETURNS, **changes):
    return aligned_policy.make_policy(
        model,
        dataclasses.replace(CONFIG, **changes),
        variants=variants,
        horizon=5,
        target_return=5.0,
        episode_steps=20,
        return_model=return_model,
    )


def actions(variants, steps=3, cost=3.0):
    """First action components `[steps, B]`, two episodes of each variant."""
    policy, count = make(variants), 2 * len(variants)
    variables = product_policy.make_variables()
    rows = Rows(
        cost_limit=jnp.full(count, 20.0),
        episode_seed=jnp.tile(jnp.arange(2, dtype=jnp.uint32), len(variants)),
    )
    key = jax.random.key(0)
    carry = policy.initial_carry(variables, rows, key, obs_dim=OBS)
    act, found = jax.jit(policy.act), []
    for t in range(steps):
        ts = TimeStep(
            jnp.ones((count, OBS)),
            jnp.full(count, 1.0),
            jnp.full(count, cost),
            jnp.full(count, t == 0),
        )
        action, carry = act(variables, carry, ts, key)
        found.append(np.asarray(action)[:, 0])
    return np.stack(found)


def test_the_token_follows_the_budget_and_other_rows_keep_theirs():
    found = actions(("none", "cprtg"))
    # The target, less what was earned.
    np.testing.assert_allclose(found[:, :2], 0.01 * np.array([[5], [4], [3]]) + [0, 0])
    # Half of 20, 17 and 14, and two, and the step.
    asked = 0.01 * np.array([[12.0], [11.5], [11.0]])
    np.testing.assert_allclose(found[:, 2:], np.tile(asked, 2), rtol=1e-5)


@pytest.mark.slow
def test_plans_are_imagined_under_the_token_that_acts():
    """Nothing costs by the plans' account, so the policy acts, by its learnt token."""
    policy = make(("plan_cprtg",), plan=dataclasses.replace(CONFIG.plan, tolerance=1e9))
    variables = product_policy.make_variables()
    rows = Rows(jnp.full(2, 20.0), jnp.arange(2, dtype=jnp.uint32))
    key = jax.random.key(0)
    carry = policy.initial_carry(variables, rows, key, obs_dim=OBS)
    ts = TimeStep(jnp.ones((2, OBS)), jnp.zeros(2), jnp.zeros(2), jnp.ones(2, bool))
    action, carry = jax.jit(policy.act)(variables, carry, ts, key)
    np.testing.assert_allclose(action[:, 0], 0.12, rtol=1e-5)
    assert np.asarray(carry.plan.num_idle).tolist() == [1, 1]


@pytest.mark.parametrize("variant", ["cprtg", "plan_cprtg"])
def test_a_variant_without_its_model_says_so(variant):
    with pytest.raises(
        UserError, match=f"{variant} needs a model of the return to ask"
    ):
        make((variant,), return_model=None)


def test_a_token_of_another_shape_is_told():
    wrong = ReturnModel(token=lambda variables, obs, *_: obs)
    policy = make(("cprtg",), return_model=wrong)
    variables = product_policy.make_variables()
    rows = Rows(jnp.full(2, 20.0), jnp.arange(2, dtype=jnp.uint32))
    carry = policy.initial_carry(variables, rows, jax.random.key(0), obs_dim=OBS)
    ts = TimeStep(jnp.ones((2, OBS)), jnp.zeros(2), jnp.zeros(2), jnp.ones(2, bool))
    with pytest.raises(UserError, match="return_model.token returned token of shape"):
        policy.act(variables, carry, ts, jax.random.key(0))
