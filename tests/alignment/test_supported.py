"""Plans that keep to the data as a support model knows them."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.alignment import policy as aligned_policy
from sas_jax.alignment import support
from sas_jax.alignment.config import PlanConfig, SASConfig
from sas_jax.alignment.gate import RiskModel
from sas_jax.errors import UserError
from tests.helpers import product_policy


def test_a_candidate_may_go_as_far_as_the_level_or_a_reference():
    peak = jnp.array([1.0, 4.0, 3.9, 4.1, jnp.nan])
    is_reference = jnp.array([True, True, False, False, False])
    for level, expected in (
        (0.0, [True, True, True, False, False]),
        (9.0, [True, True, True, True, False]),
    ):
        found = support.by_score(peak, jnp.float32(level), is_reference)
        np.testing.assert_array_equal(found, expected)
    # References that are no numbers say nothing, and are out.
    lost = jnp.array([jnp.nan, jnp.nan, 3.9, 4.1, jnp.inf])
    found = support.by_score(lost, jnp.float32(4.0), is_reference)
    np.testing.assert_array_equal(found, [False, False, True, False, False])


CONFIG = SASConfig(
    prompt_length=product_policy.LENGTH,
    num_first=2,
    num_second=2,
    plan=PlanConfig(num_candidates=8, horizon=4, execute=2, num_reference=2),
)


def make(variants, score, level):
    model = RiskModel(
        risk=lambda variables, obs, action: score(obs, action),
        level=lambda variables, limit: jnp.full_like(limit, level),
    )
    return aligned_policy.make_policy(
        product_policy.MODEL,
        dataclasses.replace(
            CONFIG, plan=dataclasses.replace(CONFIG.plan, tolerance=None)
        ),
        variants=variants,
        horizon=5,
        target_return=5.0,
        episode_steps=20,
        support_model=model,
    )


def played(variants, score, level):
    """Actions `[steps, B, A]` and diagnostics of six episodes of each variant."""
    policy = make(variants, score, level)
    actions, carry = product_policy.played(policy, variants, episodes=6)
    return actions, policy.diagnostics(carry)


def first_action(obs, action):
    return action[:, 0]


@pytest.mark.slow
def test_a_level_that_nothing_reaches_changes_nothing_and_a_strict_one_does():
    variants = ("plan", "plan_supported")
    actions, known = played(variants, first_action, 2.0)
    np.testing.assert_array_equal(actions[:, :6], actions[:, 6:])
    np.testing.assert_array_equal(known["plan_out"], 0.0)
    # Whoever pushes the first action beyond what the policy does itself is out.
    actions, known = played(variants, first_action, -2.0)
    out = np.asarray(known["plan_out"])
    assert (out[:6] == 0).all() and (out[6:] > 0).any() and (out[6:] < 1).all()
    assert (actions[:, :6] != actions[:, 6:]).any()


def test_without_a_support_model_it_is_refused():
    with pytest.raises(UserError, match="plan_supported needs a support model"):
        aligned_policy.make_policy(
            product_policy.MODEL,
            CONFIG,
            variants=("plan_supported",),
            horizon=5,
            target_return=5.0,
        )
