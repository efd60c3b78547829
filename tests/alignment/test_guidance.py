"""Guidance on the limit of cost: w by hand, a memory of its own, who may have it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.alignment import variants as variants_lib
from sas_jax.alignment.variants import Variant
from sas_jax.errors import UserError
from sas_jax.experiment import PolicyConfig
from sas_jax.learners import sequence
from sas_jax.types import Batch, Rows, TimeStep
from tests.alignment import test_asked
from tests.helpers import product_policy
from tests.helpers.model_fixtures import make_config, make_spec, make_variables


def told(variables, history, mask):
    """Acts by how many steps in sight have a limit, and by the present limit."""
    limited = jnp.isfinite(history.cost_to_go) & mask
    here = jnp.where(limited[-1], 0.01 * history.cost_to_go[-1], -0.1)
    return jnp.stack([here, 0.05 * limited.sum()]), jnp.full(2, -1.5)


def history_model():
    return test_asked.from_history_policy(
        told,
        product_policy.dynamics,
        outcome=product_policy.outcome,
        action_dim=2,
        context=5,
        prompt_steps=product_policy.LENGTH,
    )


def test_it_does_w_times_what_the_limit_changes():
    """Under the limit 20, then 17, then 14; without one -0.1 and no step with a limit.

    guided: -0.1 + 2 (0.2 + 0.1) = 0.5; and 2 x 0.05 for each step in sight.
    """
    policy = test_asked.make(("none", "guided"), model=history_model())
    variables = product_policy.make_variables()
    rows = Rows(jnp.full(2, 20.0), jnp.zeros(2, jnp.uint32))
    carry = policy.initial_carry(
        variables, rows, jax.random.key(0), obs_dim=product_policy.OBS
    )
    act = jax.jit(policy.act)
    alone = policy.narrow(carry, 1)
    alone = jax.tree.map(lambda x: x[1:] if x.ndim else x, alone)
    for t, limit in enumerate((0.20, 0.17, 0.14)):
        ts = TimeStep(
            jnp.ones((2, product_policy.OBS)),
            jnp.zeros(2),
            jnp.full(2, 3.0 if t else 0.0),
            jnp.full(2, t == 0),
        )
        mean = policy.mean_action(variables, carry, ts)
        action, carry = act(variables, carry, ts, jax.random.key(0))
        steps = 0.05 * (t + 1)
        expected = [[limit, steps], [-0.1 + 2 * (limit + 0.1), 2 * steps]]
        np.testing.assert_allclose(action, expected, rtol=1e-5)
        np.testing.assert_array_equal(mean, action)
        # A batch of its own, as evaluation narrows it, does the same.
        own, alone = act(
            variables, alone, jax.tree.map(lambda x: x[1:], ts), jax.random.key(0)
        )
        np.testing.assert_array_equal(own[0], action[1])
    assert policy.narrow(carry, 0).free is None


@pytest.mark.slow
def test_the_transformer_keeps_a_memory_without_limits():
    """The guided mean is that of two whole policies on the same steps.

    One is told the limit, the other that there is none; both are made to take the
    guided row's actions.
    """
    config = make_config(algo="cdt", sas={"sample_actions": False})
    config = dataclasses.replace(config, policy=PolicyConfig(cost_drop=0.2))
    spec = make_spec()
    variables = make_variables(config, spec)
    policy = sequence.make_policy(config, spec, variants=("none", "guided"))
    model = sequence.make_sequence_model(config, spec)
    key = jax.random.key(0)
    rows = Rows(jnp.full(2, 6.0), jnp.zeros(2, jnp.uint32))
    carry = policy.initial_carry(variables, rows, key)
    start = (variables, key[None], jnp.zeros((1, spec.obs_dim)), jnp.zeros(1))
    both = [model.start(*start, jnp.array([limit]), 5) for limit in (6.0, np.inf)]
    act, rng = jax.jit(policy.act), np.random.default_rng(0)
    for t in range(7):  # two more steps than are in sight
        obs = jnp.asarray(rng.normal(size=(1, spec.obs_dim)), jnp.float32)
        ts = TimeStep(
            jnp.tile(obs, (2, 1)),
            jnp.full(2, 0.5 * (t > 0)),
            jnp.full(2, 1.0 * (t > 0)),
            jnp.full(2, t == 0),
        )
        action, carry = act(variables, carry, ts, key)
        means = []
        for i, (state, limit) in enumerate(zip(both, (6.0 - t, np.inf), strict=True)):
            state = state.replace(
                obs=model.standardise(obs),
                return_to_go=jnp.array([spec.target_return - 0.5 * t]),
                cost_to_go=jnp.array([limit]),
            )
            seen = model.observe(variables, state, None)
            means.append(seen.mean)
            both[i] = model.commit(variables, state, seen, action[1:], None)
        guided = means[1] + 2 * (means[0] - means[1])
        np.testing.assert_allclose(
            action[1], jnp.clip(guided[0], -1, 1), rtol=1e-4, atol=1e-5
        )
        assert np.abs(means[0] - means[1]).max() > 1e-4
    assert np.isfinite(np.asarray(action)).all()


def test_a_share_of_the_rows_has_no_limit():
    count = 4000
    batch = Batch(
        obs=jnp.zeros((count, 3, 1)),
        action=jnp.zeros((count, 2, 1)),
        return_to_go=jnp.ones((count, 3)),
        cost_to_go=jnp.ones((count, 3)),
        cost=jnp.zeros((count, 2)),
        timestep=jnp.zeros((count, 2), jnp.int32),
        is_valid=jnp.ones((count, 2), bool),
    )
    key = jax.random.key(1)
    assert sequence.without_limits(batch, key, 0.0) is batch
    hidden = np.isinf(sequence.without_limits(batch, key, 0.25).cost_to_go)
    assert (hidden.all(axis=1) == hidden.any(axis=1)).all()
    # Three standard deviations of a share of 4000.
    assert hidden[:, 0].mean() == pytest.approx(0.25, abs=0.021)


def test_who_may_be_guided():
    config, spec = make_config(algo="cdt"), make_spec()
    with pytest.raises(UserError, match=r"guided needs a policy .* policy\.cost_drop"):
        sequence.make_policy(config, spec, variants=("guided",))
    wrong = dataclasses.replace(
        make_config(algo="dt"), policy=PolicyConfig(cost_drop=0.1)
    )
    with pytest.raises(UserError, match=r"policy\.cost_drop: 0\.1; expected 0"):
        sequence.check(wrong)
    with pytest.raises(UserError, match="expected no prompt and no plan"):
        variants_lib.add_variant("bad", Variant(plan="budget", guidance=2.0))
    assert Variant(guidance=2.0).sees_limit and not Variant().sees_limit
