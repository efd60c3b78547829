"""Which plan is chosen, and where the policy acts instead."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.alignment import choosing
from sas_jax.alignment.rules import RULES, Candidates
from tests.helpers.planning import CONFIG, PLAN, imagined


def table_of(gain, cost, limit, is_valid):
    shape = gain.shape
    return Candidates(
        energies=jnp.zeros(shape),
        reward=gain,
        cost=cost,
        risk=None,
        level=None,
        cost_limits=jnp.float32([limit]),
        num_steps=jnp.int32(shape[1] - 1),
        counts=jnp.ones(shape[1], bool),
        is_valid=is_valid,
    )


@pytest.mark.slow
def test_rules_against_plain_python():
    rng = np.random.default_rng(4)
    seen_kinds = set()
    for _ in range(200):
        gain, cost = rng.integers(0, 4, (2, 5, 4)).astype(np.float32)
        is_valid, limit = rng.random(5) < 0.8, float(rng.integers(0, 9))
        seen = table_of(gain, cost, limit, is_valid)
        total = [
            (float(g[:3].sum()), float(c[:3].sum()))
            for g, c in zip(gain, cost, strict=True)
        ]
        valid = [i for i in range(5) if is_valid[i]]
        for rule in ("budget", "weighted"):
            found = RULES[rule].choose(jax.random.key(0), seen, CONFIG)
            assert bool(found.is_valid) == bool(valid)
            if not valid:
                continue
            spare = limit if rule == "budget" else 0.0

            def worth(i, total=total, spare=spare):
                return total[i][0] - 3 * max(total[i][1] - spare, 0.0), -i

            best = max(valid, key=worth)
            seen_kinds.add((rule, total[best][1] <= limit))
            assert int(found.index) == best
    assert len(seen_kinds) == 4


@pytest.mark.slow
def test_the_budgets_share_falls_evenly_on_what_is_left():
    """9 of budget, 30 steps left, a horizon of 15: a plan may cost 4.5 x slack."""
    allowed = []

    def spy(key, seen, config):
        allowed.append(seen.cost_limits)
        return RULES["budget"].choose(key, seen, config)

    outputs = jax.tree.map(lambda x: x[0], imagined(PLAN, 1))
    sas = dataclasses.replace(CONFIG, plan=dataclasses.replace(PLAN, slack=2.0))
    due = choosing.Due(jax.random.key(0), jnp.int32(30), jnp.float32(9.0))
    held = dict(RULES)
    RULES["spy"] = RULES["budget"]._replace(choose=spy)
    try:
        for budget, steps in ((9.0, 30), (9.0, 10), (-3.0, 30)):
            due = due._replace(budget=jnp.float32(budget), num_steps=jnp.int32(steps))
            choosing.choose("spy", jax.random.key(0), outputs, due, sas)
    finally:
        RULES.clear()
        RULES.update(held)
    np.testing.assert_allclose(np.ravel(allowed), [9.0, 18.0, 0.0])


def one_due(budget, num_steps=30):
    return choosing.Due(jax.random.key(0), jnp.int32(num_steps), jnp.float32(budget))


def test_the_policys_own_cost_is_the_mean_of_its_imaginations():
    """Up to the episode's end; what is not finite does not count."""
    outputs = jax.tree.map(
        lambda x: jnp.zeros_like(x[0]), imagined(PLAN, 1, which=range(4))
    )
    cost = np.zeros((4, 15), np.float32)
    cost[0, :2], cost[1, 5:], cost[2, 3] = 1.0, 1.0, 2.0
    outputs = outputs.replace(cost=jnp.asarray(cost))
    assert choosing.own_cost(outputs, one_due(0.0)) == (2 + 10 + 2 + 0) / 4
    assert choosing.own_cost(outputs, one_due(0.0, num_steps=6)) == (2 + 1 + 2 + 0) / 4
    broken = outputs.replace(obs=outputs.obs.at[1, 14, 0].set(jnp.nan))
    assert choosing.own_cost(broken, one_due(0.0)) == np.float32(4 / 3)
    none = outputs.replace(reward=jnp.full_like(outputs.reward, jnp.inf))
    assert np.isnan(choosing.own_cost(none, one_due(0.0)))


def test_what_a_critic_adds_counts_in_the_last_step_and_within_the_episode():
    outputs = jax.tree.map(
        lambda x: jnp.zeros_like(x[0]), imagined(PLAN, 1, which=range(4))
    )
    assert choosing.counted(outputs, None) is outputs
    more = choosing.counted(outputs, jnp.array([1.0, 2.0, 3.0, 6.0]))
    assert choosing.own_cost(more, one_due(0.0)) == 3.0
    # The horizon of 15 reaches beyond the end: there is nothing to come.
    assert choosing.own_cost(more, one_due(0.0, num_steps=6)) == 0.0
    lost = choosing.counted(outputs, jnp.array([jnp.nan, 2.0, 2.0, 2.0]))
    assert choosing.is_finite(lost).tolist() == [False, True, True, True]


def test_the_policy_acts_where_its_own_cost_is_allowed():
    """9 of budget, 30 steps left, a horizon of 15: 4.5 and the tolerance are free."""

    def fits(own, rule="budget", **settings):
        config = dataclasses.replace(PLAN, tolerance=0.1, **settings)
        return bool(choosing.fits(rule, jnp.float32(own), one_due(9.0), config))

    assert fits(4.59) and not fits(4.61)
    assert fits(2.3, slack=0.5) and not fits(2.4, slack=0.5)
    # A rule that sees no threshold allows nothing.
    assert fits(0.09, rule="weighted") and not fits(0.11, rule="weighted")
    assert not fits(np.nan)
    config = dataclasses.replace(PLAN, tolerance=None)
    assert not choosing.fits("budget", jnp.float32(0.0), one_due(9.0), config)
