"""Labels, calibration, levels and the fit of the critic, on data of known law."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from sas_jax.critic.calibration import (
    cross_fitted,
    fit_platt,
    level_table,
    probabilities,
    quality,
)
from sas_jax.critic.fit import fit_critic, make_labels
from sas_jax.critic.network import CriticConfig, gate_level, member_risk, risk
from sas_jax.data import spec as spec_lib
from sas_jax.data.episodes import Episodes
from sas_jax.errors import UserError
from sas_jax.report.critic_table import critic_tables
from tests.helpers.model_fixtures import make_episodes


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("horizon", [1, 3, 50])
def test_labels_against_a_plain_loop(horizon):
    episodes = make_episodes(lengths=(40, 25, 1, 31, 2, 40))
    episodes = dataclasses.replace(
        episodes,
        terminated=np.array([False, True, False, False, True, False]),
        costs=(episodes.costs * 2).astype(np.float32),
    )
    share, cost, whole = [], [], []
    for e in range(6):
        costs = episodes.costs[episodes.offsets[e] : episodes.offsets[e + 1]]
        for t in range(len(costs)):
            ahead = costs[t : t + horizon]
            share.append(sum(c > 0 for c in ahead) / horizon)
            cost.append(sum(ahead))
            whole.append(len(ahead) == horizon or bool(episodes.terminated[e]))
    found = make_labels(episodes, horizon)
    np.testing.assert_array_equal(found.share, np.float32(share))
    np.testing.assert_array_equal(found.cost, cost)
    np.testing.assert_array_equal(found.whole, whole)
    assert 0 < np.count_nonzero(found.share) < episodes.num_steps
    assert (not found.whole.all()) == (horizon > 1)


def test_platt_scaling_finds_the_scale_that_made_the_labels():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 1)) * 0.1 + 2 * rng.normal(size=(1, 40_000))
    label = rng.random(40_000) < sigmoid(0.6 * logits - 1.1).mean(0)
    slope, offset = fit_platt(logits, label)
    assert slope == pytest.approx(0.6, rel=0.05)
    assert offset == pytest.approx(-1.1, abs=0.05)
    assert probabilities(logits, slope, offset).mean() == pytest.approx(
        label.mean(), abs=2e-3
    )


def test_platt_scaling_of_labels_that_separate_stays_finite():
    logits = np.array([[-1.0, -0.5, 0.5, 1.0]])
    slope, offset = fit_platt(logits, logits[0] > 0)
    assert np.isfinite([slope, offset]).all()
    assert slope > 1


def test_cross_fitting_scales_each_half_by_the_other():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(2, 4000))
    episode = np.repeat(np.arange(40), 100)
    odd = episode % 2 == 1
    label = rng.random(4000) < np.where(odd, 0.8, 0.2)
    p = cross_fitted(logits, label, episode)
    assert p[odd].mean() == pytest.approx(label[~odd].mean(), abs=0.02)
    assert p[~odd].mean() == pytest.approx(label[odd].mean(), abs=0.02)


def test_quality_of_known_probabilities():
    p = np.array([0.05, 0.05, 0.95, 0.95, 0.95, 0.05])
    label = np.array([False, False, True, True, False, False])
    found = quality(p, label, np.array([0, 0, 0, 1, 1, 1]))
    bce = -(5 * np.log(0.95) + np.log(0.05)) / 6
    base = -(np.log(1 / 3) / 3 + 2 * np.log(2 / 3) / 3)
    assert found["bce"] == pytest.approx(bce)
    assert found["bce_of_base_rate"] == pytest.approx(base)
    assert found["skill"] == pytest.approx(1 - bce / base)
    assert found["skill_interval"][0] < found["skill"] < found["skill_interval"][1]
    assert found["auc"] == pytest.approx((8 - 0.5 * 2) / 8)
    assert found["correlation"] == pytest.approx(np.corrcoef(p, label)[0, 1])
    assert found["ece"] == pytest.approx((3 * 0.05 + 3 * (0.95 - 2 / 3)) / 6)
    assert found["reliability"]["steps"] == [3, *[0] * 8, 3]
    assert found["reliability"]["observed"][9] == pytest.approx(2 / 3)
    with pytest.raises(UserError, match="none of 6 calibration steps"):
        quality(p, np.zeros(6, bool), np.zeros(6, int))


def pooled(values, weights):
    """Isotonic regression: neighbours that fall are averaged until none does."""
    blocks = []
    for value, weight in zip(values, weights, strict=True):
        blocks.append([value, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            v, w, n = blocks.pop()
            u = blocks[-1]
            blocks[-1] = [(u[0] * u[1] + v * w) / (u[1] + w), u[1] + w, u[2] + n]
    return np.concatenate([[value] * n for value, _, n in blocks])


def test_the_level_table_against_a_plain_loop():
    rng = np.random.default_rng(2)
    risk = np.round(rng.beta(0.5, 3, size=3000), 2).astype(np.float32)  # with ties
    cost = rng.binomial(10, 0.6 * risk).astype(float)
    levels, rates = level_table(risk, cost, horizon=10, episode_steps=200)
    assert levels[-1] == 1
    assert set(levels[:-1]) <= set(risk)
    assert (np.diff(levels) > 0).all()
    means, counts, below = [], [], -1.0
    for level in levels[:-1]:
        inside = (risk > below) & (risk <= level)
        means.append(cost[inside].mean() / 10 * 200)
        counts.append(inside.sum())
        below = level
    np.testing.assert_allclose(rates[:-1], pooled(means, counts), rtol=1e-5)
    assert rates[-1] == rates[-2]
    assert (np.diff(rates) >= 0).all()


def test_a_level_table_whose_rates_do_not_rise_is_flat():
    risk = np.linspace(0.1, 0.9, 500)
    levels, rates = level_table(risk, 1 - risk, horizon=1, episode_steps=1)
    np.testing.assert_allclose(rates, np.mean(1 - risk), rtol=1e-5)
    assert len(levels) == len(rates)


def coin_episodes(count=60, length=60, seed=0):
    """Independent steps; each costs with probability sigmoid(3 x_0 + 2 a_0 - 2)."""
    rng = np.random.default_rng([8, seed])
    steps = count * length
    obs = rng.normal(size=(steps, 3)).astype(np.float32)
    action = rng.uniform(-1, 1, (steps, 2)).astype(np.float32)
    cost = rng.random(steps) < truth(obs, action)
    return Episodes(
        task="PointGoal1",
        observations=2 * obs + 5,
        actions=action,
        rewards=np.ones(steps, np.float32),
        costs=cost.astype(np.float32),
        offsets=np.arange(count + 1) * length,
        final_observations=np.zeros((count, 3), np.float32),
        terminated=np.zeros(count, bool),
    )


def truth(obs, action):
    return sigmoid(3 * obs[:, 0] + 2 * action[:, 0] - 2)


SMALL = CriticConfig(
    horizon=1,
    members=2,
    hidden=(16,),
    learning_rate=1e-2,
    batch_size=128,
    num_steps=300,
    check_every=50,
    patience=2,
)


@pytest.fixture(scope="module")
def fitted():
    episodes = coin_episodes()
    training, _ = episodes.split(0.4, seed=3)
    spec = spec_lib.from_episodes(training)
    looks = []
    critic, report = fit_critic(
        episodes,
        spec,
        SMALL,
        seed=1,
        held_out=0.4,
        split_seed=3,
        on_look=lambda step, losses: looks.append((step, losses)),
    )
    return episodes, spec, critic, report, looks


def test_the_fit_recovers_known_probabilities(fitted):
    _, spec, critic, report, _ = fitted
    fresh = coin_episodes(seed=1)
    raw = (fresh.observations - 5) / 2
    obs = (fresh.observations - spec.obs_mean) / spec.obs_std
    members = np.asarray(jax.jit(member_risk)(critic, obs, fresh.actions))
    known = truth(raw, fresh.actions)
    assert np.abs(members.mean(0) - known).mean() < 0.04
    assert members.mean() == pytest.approx(known.mean(), abs=0.03)
    assert not np.array_equal(members[0], members[1])
    assert (
        np.asarray(risk(critic, obs, fresh.actions)) >= members.mean(0) - 1e-6
    ).all()
    assert report["skill_interval"][0] > 0.2
    assert report["bce"] < 0.8 * report["bce_of_base_rate"]
    entropy = -np.mean(known * np.log(known) + (1 - known) * np.log(1 - known))
    assert report["bce"] == pytest.approx(entropy, rel=0.15)
    assert report["ece"] < 0.06


def test_the_report_speaks_of_episodes_that_chose_nothing(fitted):
    episodes, spec, critic, report, _ = fitted
    counts = {name: part["episodes"] for name, part in report["splits"].items()}
    assert counts == {"training": 36, "stopping": 12, "calibration": 12}
    calibration = episodes.split(0.4, seed=3)[1].split(0.5, seed=3)[1]
    labels = make_labels(calibration, 1)
    p = (calibration.observations - spec.obs_mean) / spec.obs_std
    found = np.asarray(jax.jit(risk)(critic, p, calibration.actions))
    assert report["base_rate"] == pytest.approx(labels.share.mean())
    mean = labels.cost.mean() * spec.max_timestep
    assert report["cost"] == pytest.approx(mean, rel=1e-5)
    # About a level of 20 costs an episode of 60 steps, a third of the steps costs.
    about = np.abs(found - float(gate_level(critic, 20.0))) < 0.1
    cost = labels.cost[about].mean() * spec.max_timestep
    assert about.sum() > 50 and cost == pytest.approx(20.0, abs=5.0)
    for line in report["gate"]:
        level = float(gate_level(critic, line["cost_limit"]))
        assert line["level"] == level and line["gated"] == np.mean(found > level)
    json.dumps(report, allow_nan=False)


def trap_episodes(count=60, length=60):
    """x_0 = 1 is inside a hazard, which costs until an action a_0 > 0 leaves it."""
    rng = np.random.default_rng(9)
    steps = count * length
    action = rng.uniform(-1, 1, (steps, 2)).astype(np.float32)
    inside = np.zeros(steps, bool)
    for t in range(1, steps):
        inside[t] = action[t - 1, 0] <= 0 if inside[t - 1] else rng.random() < 0.1
    obs = rng.normal(size=(steps, 3)).astype(np.float32)
    obs[:, 0] = inside
    return dataclasses.replace(
        coin_episodes(count, length),
        observations=obs,
        actions=action,
        costs=inside.astype(np.float32),
    )


@pytest.mark.slow
def test_the_share_of_costly_steps_tells_leaving_from_lingering():
    """Inside a hazard some cost within the horizon is certain whatever one does."""
    episodes = trap_episodes()
    spec = spec_lib.from_episodes(episodes)
    inside = (np.array([1.0, 0.0, 0.0]) - spec.obs_mean) / spec.obs_std
    obs = np.tile(inside.astype(np.float32), (2, 1))
    action = np.array([[-0.9, 0.0], [0.9, 0.0]], np.float32)
    config = dataclasses.replace(SMALL, horizon=4, pessimism=0.0)
    critic, _ = fit_critic(episodes, spec, config, held_out=0.4)
    found = np.asarray(risk(critic, obs, action))
    # A step inside, then: stays there for sure and by coins, or enters again.
    within, without = [0.0], [0.0]  # costly steps of the next n from either place
    for n in range(3):
        more = 1 + (within[n] + without[n]) / 2, 0.1 * within[n] + 0.9 * without[n]
        within.append(more[0])
        without.append(more[1])
    expected = [(1 + within[3]) / 4, (1 + without[3]) / 4]
    np.testing.assert_allclose(found, expected, atol=0.08)


def test_members_keep_the_parameters_of_their_best_look(fitted):
    *_, report, looks = fitted
    losses = np.array([losses for _, losses in looks])
    steps = np.array([step for step, _ in looks])
    np.testing.assert_allclose(report["stop_bce"], losses.min(0), rtol=1e-6)
    np.testing.assert_array_equal(report["steps_to_best"], steps[losses.argmin(0)])
    assert report["train_steps"] == steps[-1]


def test_the_tables_show_the_report(fitted):
    report = fitted[3]
    quality_table, reliability, gate = (t.text() for t in critic_tables(report))
    assert f"{report['bce']:.4f}" in quality_table
    assert "12 held-out episodes" in quality_table
    assert reliability.count("\n") == 13
    assert [line.split()[0] for line in gate.splitlines()[3:6]] == ["20", "40", "80"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_critic_and_another_does_not():
    episodes = coin_episodes(count=10, length=30)
    spec = spec_lib.from_episodes(episodes)
    config = dataclasses.replace(SMALL, num_steps=4, check_every=2)

    def fit(seed):
        critic, _ = fit_critic(episodes, spec, config, seed, held_out=0.4)
        return np.asarray(critic.params["dense"]["Dense_0"]["kernel"])

    first = fit(0)
    np.testing.assert_array_equal(first, fit(0))
    assert not np.array_equal(first, fit(1))


def test_data_that_cannot_be_learnt_from():
    episodes = coin_episodes(count=10, length=30)
    spec = spec_lib.from_episodes(episodes)

    def refused(said, config=SMALL, **changes):
        with pytest.raises(UserError, match=said):
            fit_critic(
                dataclasses.replace(episodes, **changes), spec, config, held_out=0.4
            )

    spoilt = episodes.observations.copy()
    spoilt[35, 2] = np.nan
    refused("observations has nan in episode 1, step 5, column 2", observations=spoilt)
    refused("0 of 180 training steps", costs=np.zeros(300, np.float32))
    refused("180 of 180 training steps", costs=np.ones(300, np.float32))
    wide = np.zeros((300, 3), np.float32)
    refused("expected 3 and 2 as in the data spec", actions=wide)
