"""EXP3 over policies, from tables whose best policy is known."""

import dataclasses
import math

import numpy as np
import pytest

from sas_jax.errors import UserError
from sas_jax.studies import bandit
from tests.helpers import report_samples

POLICIES, WORLDS = ("none", "plan", "sas"), ("", "delay:1")


def table(values):
    return bandit.Losses(np.asarray(values, float), POLICIES, WORLDS, 1.0)


# Of three policies, in two worlds, on one layout.
STEADY = table([[[0.9], [0.9]], [[0.2], [0.2]], [[0.6], [0.6]]])


def test_the_distribution_is_that_of_the_equations():
    p = bandit.exp3(np.array([0.0, 1.0, 2.0]), 0.5)
    expected = np.exp([0.0, -0.5, -1.0])
    np.testing.assert_allclose(p, expected / expected.sum())
    eta, gamma = bandit.rates(3, 1000)
    assert eta == pytest.approx(2 * math.sqrt(math.log(3) / 3000)) and gamma == eta / 2


@pytest.mark.parametrize("adversary", bandit.ADVERSARIES)
def test_the_best_of_steady_policies_is_found(adversary):
    played = bandit.play(STEADY, rounds=2000, adversary=adversary, repeats=20)
    assert played.late.argmax() == 1 and played.late[1] > 0.9
    np.testing.assert_allclose(played.single, np.tile([0.9, 0.2, 0.6], (20, 1)))
    np.testing.assert_allclose(played.best, 0.2)
    assert played.share.sum() == pytest.approx(1) == played.late.sum()
    # Neu 2015: an expected regret of 2 sqrt(2 K T ln K) at most.
    bound = 2 * math.sqrt(2 * 3 * 2000 * math.log(3)) / 2000
    assert 0 < played.loss.mean() - 0.2 < bound


def test_an_adversary_who_knows_the_shares_is_worse_than_chance():
    """Each policy is good in one world: only a mixture holds against both."""
    crossed = table([[[0.0], [1.0]], [[1.0], [0.0]], [[0.7], [0.7]]])
    worst = bandit.play(crossed, rounds=1000, adversary="worst", repeats=20)
    drawn = bandit.play(crossed, rounds=1000, adversary="random", repeats=20)
    assert worst.loss.mean() > drawn.loss.mean()
    assert worst.loss.mean() < 0.65
    again = bandit.play(crossed, rounds=1000, adversary="worst", repeats=20)
    np.testing.assert_array_equal(again.loss, worst.loss)


def rows():
    base = report_samples.make_row()
    return [
        dataclasses.replace(
            base,
            variant=variant,
            shift=world,
            episode_seed=seed,
            cost_limit=20.0,
            episode_return=10.0 * index + seed,
            cost=15.0 + 10.0 * index,
        )
        for index, variant in enumerate(POLICIES)
        for world in WORLDS
        for seed in (1, 2)
    ]


def test_losses_are_returns_less_what_costs_beyond_the_threshold():
    losses = bandit.losses_of(rows(), limit=20.0, price=0.2)
    assert losses.policies == ("none", "sas", "plan") and losses.worlds == WORLDS
    raw = losses.values * losses.scale
    # none: -1; plan: 5 * 0.2 - 11; sas: 15 * 0.2 - 21.
    order = [losses.policies.index(name) for name in POLICIES]
    found = raw[order][:, 0, 0]
    np.testing.assert_allclose(found - found[0], [0.0, -9.0, -17.0])
    assert losses.values.min() == 0.0 and losses.values.max() == 1.0


def test_tables_that_do_not_fit_are_one_line():
    with pytest.raises(UserError, match="plan has not played layout 2"):
        bandit.losses_of(
            [
                r
                for r in rows()
                if (r.variant, r.episode_seed, r.shift) != ("plan", 2, "")
            ],
            limit=20.0,
            price=0.2,
        )
    with pytest.raises(UserError, match=r"no rows at the threshold 7 \(.*: 20\)"):
        bandit.losses_of(rows(), limit=7.0, price=0.2)
    with pytest.raises(UserError, match="adversary 'nice'"):
        bandit.play(STEADY, rounds=1, adversary="nice")
    with pytest.raises(UserError, match="rounds 0"):
        bandit.play(STEADY, rounds=0, adversary="worst")
