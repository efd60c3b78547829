"""A memory beside the model's in the acting loop: when it sees, and what it changes."""

import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.alignment import policy as aligned_policy
from sas_jax.alignment.config import PlanConfig, SASConfig
from sas_jax.alignment.recall import Recall
from sas_jax.errors import UserError
from tests.helpers import product_policy

CONFIG = SASConfig(
    prompt_length=product_policy.LENGTH,
    num_first=2,
    num_second=2,
    plan=PlanConfig(
        num_candidates=8, horizon=4, execute=2, num_reference=2, tolerance=None
    ),
)


def counting(weight):
    """Remembers how many observations it saw; each costs `weight` a step ahead."""

    def see(memory, obs, is_first):
        return jnp.where(is_first, 0.0, memory) + 1.0

    def cost(variables, memory, obs, cost):
        del variables
        push = (obs[..., 0] > 0).astype(jnp.float32)
        return cost + weight * memory[:, None, None] * push

    return Recall(lambda count: jnp.zeros(count), see, cost)


def make(variants, recall):
    return aligned_policy.make_policy(
        product_policy.MODEL,
        CONFIG,
        variants=variants,
        horizon=5,
        target_return=5.0,
        episode_steps=20,
        recall=recall,
    )


def played(variants, recall, steps=5):
    policy = make(variants, recall)
    return *product_policy.played(policy, variants, episodes=4, steps=steps), policy


@pytest.mark.slow
def test_a_memory_that_says_nothing_changes_nothing_and_others_do():
    variants = ("plan", "plan_recall")
    actions, carry, policy = played(variants, counting(0.0))
    np.testing.assert_array_equal(actions[:, :4], actions[:, 4:])
    np.testing.assert_array_equal(carry.recalled, 5.0)
    actions, _, _ = played(variants, counting(3.0))
    assert (actions[:, :4] != actions[:, 4:]).any()
    assert policy.narrow(carry, 0).recalled is None
    assert policy.narrow(carry, 1).recalled is not None


def test_without_one_it_is_refused_and_a_wrong_shape_is_named():
    with pytest.raises(UserError, match="plan_recall needs a memory"):
        make(("plan_recall",), None)
    wrong = counting(0.0)._replace(cost=lambda v, memory, obs, cost: cost[..., :-1])
    with pytest.raises(UserError, match=r"recall\.cost"):
        played(("plan_recall",), wrong, steps=1)
