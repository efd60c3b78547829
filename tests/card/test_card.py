"""The card of a model that is exactly right, and of one that is spoilt.

The data are a damped walk with Gaussian noise and Gaussian actions; the model's weights
are set by hand to the same equations, so every number of the card is known.
"""

import json

import jax
import numpy as np
import pytest

from sas_jax.card import measure as card_lib
from sas_jax.card.imagined import correlation, imagine_from
from sas_jax.card.one_step import transition_parts
from sas_jax.card.rows import draw_rows
from sas_jax.card.whole_episode import whole_episodes
from sas_jax.data import device_rows
from sas_jax.data import spec as spec_lib
from sas_jax.data.episodes import Episodes
from sas_jax.experiment import make_model
from sas_jax.learners import sequence
from sas_jax.types import TrainState
from tests.helpers import dense_oracle
from tests.helpers.model_fixtures import make_config, make_episodes, make_variables

DAMPING, NOISE, ACTION_STD = 0.9, 0.1, 0.3
PUSH = np.array([[0.5, -0.2, 0.3, 0.1], [0.1, 0.4, -0.3, 0.2]])
COST_ABOVE = 0.25
WIDTH, OBS = 16, 5

CONFIG = make_config(
    decoder={"depth": 1},
    model={
        "policy_hidden": (),
        "head_hidden": (),
        "vae_hidden": (),
        "max_timestep": 200,
    },
    sas={"decoder_noise": 1.0},
)


def simulate(states, length, rng):
    """s' = 0.9 s + a P + 0.1 noise: actions `[E, T, 2]`, states `[E, T + 1, 4]`."""
    count = len(states)
    noise = NOISE * rng.normal(size=(count, length, 4))
    actions = np.clip(ACTION_STD * rng.normal(size=(count, length, 2)), -1, 1)
    states = [states]
    for t in range(length):
        states.append(DAMPING * states[-1] + actions[:, t] @ PUSH + noise[:, t])
    return actions, np.stack(states, axis=1)


def draw_starts(count, rng):
    """The spread that the walk settles to."""
    spread = np.sqrt((ACTION_STD**2 * (PUSH**2).sum(0) + NOISE**2) / (1 - DAMPING**2))
    return rng.normal(size=(count, 4)) * spread


def walk(num_episodes, length, seed):
    """Episodes of `simulate`, with a constant fifth state column."""
    rng = np.random.default_rng([9, seed])
    actions, states = simulate(draw_starts(num_episodes, rng), length, rng)
    states = np.concatenate([states, np.full((*states.shape[:2], 1), 7.0)], axis=-1)
    reward = states[:, 1:, 1] - states[:, :-1, 1] + 0.1
    cost = states[:, 1:, 0] > COST_ABOVE

    def flat(x):
        return x.reshape(num_episodes * length, *x.shape[2:]).astype(np.float32)

    return Episodes(
        task="PointGoal1",
        observations=flat(states[:, :-1]),
        actions=flat(actions),
        rewards=flat(reward),
        costs=flat(cost),
        offsets=np.arange(num_episodes + 1) * length,
        final_observations=states[:, -1].astype(np.float32),
        terminated=np.zeros(num_episodes, bool),
    )


def exact_state(spec):
    """The equations of `walk` written into the networks' weights."""
    variables = make_variables(CONFIG, spec)
    params = jax.tree.map(np.array, variables["params"])
    mean, std = np.float64(spec.obs_mean[:4]), np.float64(spec.obs_std[:4])

    def linear(layer, weights, bias):
        """weights: {input row: {output column: value}}; the rest is zero."""
        layer["kernel"][:] = 0.0
        for row, columns in weights.items():
            for column, value in columns.items():
                layer["kernel"][row, column] = value
        layer["bias"][:] = bias

    linear(params["policy"]["Dense_0"], {}, np.r_[0, 0, np.log([ACTION_STD] * 2)])
    for name in ("transition", "marginal"):
        linear(params[name]["encoder"]["Dense_0"], {}, 0.0)
    linear(params["marginal"]["decoder"]["Dense_0"], {}, 0.0)
    # Inputs of the transition's decoder: 3 latents, z, state, action, last change;
    # outputs: mean, log-scale.
    state, action = 3 + WIDTH, 3 + WIDTH + OBS
    weights = {state + i: {i: DAMPING - 1} for i in range(4)}
    for a in range(2):
        weights[action + a] = {i: PUSH[a, i] / std[i] for i in range(4)}
    bias = np.r_[(DAMPING - 1) * mean / std, np.zeros(6)]
    linear(params["transition"]["decoder"]["dense"]["Dense_0"], weights, bias)
    # Inputs of the reward head: z, state, action, change of state.
    change = WIDTH + OBS + 2
    weights = {change + 1: {0: std[1] / spec.reward_std}}
    linear(params["reward_head"]["Dense_0"], weights, 0.1 / spec.reward_std)
    # The noisy-or has one cause: the first coordinate above its threshold.
    threshold = (COST_ABOVE - mean[0]) / std[0]
    params["cost_head"]["slope"][:] = 0.0
    params["cost_head"]["bias"][:] = -0.075
    params["cost_head"]["slope"][0, 0] = 5.0
    params["cost_head"]["bias"][0, 0] = -5.0 * threshold
    variances = {
        "transition": np.float32(np.r_[(NOISE / std) ** 2, 1.0]),
        "marginal": np.ones(OBS, np.float32),
    }
    return TrainState(
        step=np.int32(17), key=None, params=params, opt_state=(), extra=variances
    )


@pytest.fixture(scope="module")
def setting():
    spec = spec_lib.from_episodes(walk(20, 80, seed=0))
    return spec, exact_state(spec), walk(200, 40, seed=1)


@pytest.fixture(scope="module")
def card(setting):
    spec, state, held_out = setting
    return card_lib.make_card(
        CONFIG,
        spec,
        state,
        held_out,
        num_starts=128,
        context=7,
        horizon=30,
        num_candidates=4,
        num_whole_episodes=200,
    )


def test_imagination_of_the_exact_model_is_like_the_data(card):
    ratio = np.array(card["spread"]["ratio"])
    assert len(ratio) == 30
    np.testing.assert_allclose(ratio[0], 1.0, atol=1e-4)  # the real state itself
    assert 0.85 < ratio.min() and ratio.max() < 1.18
    density = {k: np.array(v) for k, v in card["log_density"].items()}
    # Under N(0, 1) per dimension: -0.5 x^2 - 0.919 each, four of them.
    np.testing.assert_allclose(density["real_mean"].mean(), -4 * 1.419, atol=0.35)
    gap = density["imagined_mean"] - density["real_mean"]
    assert abs(gap[0]) < 1e-3 and np.abs(gap).max() < 1.0
    assert density["steps"].tolist() == list(range(1, 31))


def test_predicted_costs_of_the_exact_model_follow_the_real_ones(card):
    cost = card["cost"]
    assert cost["horizons"] == [10, 25]
    np.testing.assert_allclose(cost["rate_imagined"], cost["rate_real"], atol=0.05)
    assert 0.05 < cost["rate_real"][0] < 0.5
    # What four simulations tell of a fifth from the same start.
    rng = np.random.default_rng(0)
    starts = draw_starts(4000, rng)
    states = np.stack([simulate(starts, 25, rng)[1] for _ in range(5)])
    costs = states[:, :, 1:, 0] > COST_ABOVE
    for index, horizon in enumerate(cost["horizons"]):
        sums = costs[:, :, :horizon].sum(-1)
        four = np.corrcoef(sums[:4].mean(0), sums[4])[0, 1]
        one = np.corrcoef(sums[0], sums[4])[0, 1]
        # The standard error of 128 rows is 0.09 at most.
        assert abs(cost["correlation"][index] - four) < 0.2
        assert abs(cost["correlation_single"][index] - one) < 0.25
    assert card["cost_head"]["auc"] > 0.999
    assert card["cost_head"]["bce"] < 0.05 * card["cost_head"]["bce_of_base_rate"]


def test_the_exact_model_is_calibrated_and_its_likelihood_is_known(card, setting):
    spec = setting[0]
    counts = np.array(card["pit"]["counts"])
    total, steps = counts.sum(), card["pit"]["independent"]
    assert total == 4 * steps
    assert np.abs(counts / total - 0.1).max() < 0.03
    assert card["pit"]["ks_max"] < 1.63 / np.sqrt(steps) * 1.5
    # Entropy of the noise in standardised units.
    std = NOISE / np.float64(spec.obs_std[:4])
    expected = -(np.log(std) + 0.5 * np.log(2 * np.pi * np.e)).sum()
    found = card["transition"]["log_likelihood"]
    np.testing.assert_allclose(found, expected, atol=0.25)
    assert card["transition"]["per_dimension"] == pytest.approx(found / 4)


def test_the_remaining_numbers(card, setting):
    assert card["latents"] == {"active": 0, "total": 3}
    assert card["next_return"]["r2"] > 0.999
    assert card["next_return"]["rmse"] < 0.01 * card["next_return"]["reward_sd"]
    # Mean actions are 0; E|a| = 0.3 sqrt(2 / pi).
    policy = card["policy"]
    np.testing.assert_allclose(policy["mean_std"], ACTION_STD, rtol=1e-5)
    expected = ACTION_STD * np.sqrt(2 / np.pi)
    np.testing.assert_allclose(policy["mean_absolute_error"], expected, atol=0.015)
    assert card["settings"]["step"] == 17
    assert card["settings"]["held_out_fingerprint"] == setting[2].fingerprint()
    assert json.loads(json.dumps(card)) == card


def test_whole_episodes_of_the_exact_model_stay_with_the_data(card, setting):
    """200 episodes of 40 steps from the data's own first states."""
    whole = card["whole_episode"]
    assert whole["trajectories"] == 200 and whole["horizon"] == 40
    assert whole["blown_up"] == 0.0
    costs = setting[2].cost_returns()
    error = costs.std() / np.sqrt(200)
    assert abs(whole["cost_imagined"] - whole["cost_real"]) < 4 * 1.4 * error
    # Every tenth of 40 states in 200 episodes, which are not independent.
    assert whole["distance_mean"] < 0.1 and whole["distance_max"] < 0.15
    assert "speed" not in whole


def test_an_imagination_that_leaves_the_data_is_told(setting):
    """A walk that doubles its state at every step."""
    spec, state, held_out = setting
    params = jax.tree.map(np.array, state.params)
    kernel = params["transition"]["decoder"]["dense"]["Dense_0"]["kernel"]
    for i in range(4):
        kernel[3 + WIDTH + i, i] = 1.0
    whole = whole_episodes(
        sequence.make_sequence_model(CONFIG, spec),
        spec,
        {"params": params, "variances": state.extra},
        held_out,
        num_trajectories=64,
    )
    assert whole["blown_up"] == 1.0 and whole["distance_mean"] > 0.3


def test_a_decoder_that_is_too_wide_is_told(card, setting):
    """Three times the noise: PIT values crowd in the middle, the likelihood falls by
    log 3 - (1 - 1/9) / 2 a dimension.
    """
    spec, state, held_out = setting
    wide = {"transition": 9 * state.extra["transition"], "marginal": np.ones(OBS)}
    rows = draw_rows(device_rows.to_device(held_out, spec), 128, 7, 30, 0)
    parts = transition_parts(
        make_model(CONFIG, spec),
        spec,
        {"params": state.params, "variances": jax.tree.map(np.float32, wide)},
        rows,
        0,
    )
    counts = np.array(parts["pit"]["counts"]) / sum(parts["pit"]["counts"])
    assert counts[0] < 0.001 and counts[4] > 0.2
    assert parts["pit"]["ks_mean"] > 0.2 > card["pit"]["ks_mean"]
    fall = card["transition"]["per_dimension"] - parts["transition"]["per_dimension"]
    np.testing.assert_allclose(fall, np.log(3) - 4 / 9, atol=0.05)


def test_rows_fit_into_their_episodes(setting):
    spec, _, held_out = setting
    episodes = held_out.select([0, 1])
    data = device_rows.to_device(episodes, spec)
    rows = draw_rows(data, 50, 7, 30, seed=3)
    assert rows.batch.obs.shape == (50, 38, OBS)
    assert np.asarray(rows.batch.is_valid).all()
    starts = np.asarray(rows.batch.timestep[:, 0])
    assert starts.min() >= 0 and starts.max() <= 40 - 37
    assert len(np.unique(starts)) == 4


@pytest.mark.slow
def test_imagination_goes_on_from_the_real_history():
    """With random weights: the first imagined actions have the density that a full
    forward over the real steps before gives them, wherever in the episode they are.
    """
    config = make_config(decoder={"depth": 1})
    episodes = make_episodes((40, 25, 40))
    spec = spec_lib.from_episodes(episodes)
    variables = make_variables(config, spec)
    # A quieter policy, so that few actions are clipped.
    last = variables["params"]["policy"]["Dense_1"]
    last["kernel"][:] *= 0.3
    last["bias"][2:] -= 1.0
    # Three real steps: fewer than a window, so that it must still grow.
    rows = draw_rows(device_rows.to_device(episodes, spec), 12, 3, 2, seed=0)
    model = sequence.make_sequence_model(config, spec)

    @jax.jit
    def run(key):
        return imagine_from(model, spec, variables, rows, key, 1)

    outputs = jax.device_get(run(jax.random.key(0)))
    batch = jax.device_get(rows.batch)
    mask = dense_oracle.make_mask(4, 3, config.model.decoder.context)
    for b in range(12):
        action = outputs.action[0, b, 0]
        tokens = dense_oracle.tokens(
            variables["params"],
            config.model,
            batch.obs[b, :4],
            np.concatenate([batch.action[b, :3], action[None]]),
            batch.return_to_go[b, :4],
            batch.cost_to_go[b, :4],
            batch.timestep[b, :4],
        )
        z = dense_oracle.decoder(
            variables["params"]["decoder"],
            config.model.decoder,
            tokens.reshape(12, -1),
            mask,
        ).reshape(4, 3, -1)
        mean, log_std = dense_oracle.policy(
            variables["params"],
            spec.max_timestep,
            z[3:, 1],
            batch.obs[b, 3:4],
            batch.return_to_go[b, 3:4],
            batch.cost_to_go[b, 3:4],
            batch.timestep[b, 3:4],
        )
        scaled = (action - mean[0]) / np.exp(log_std[0])
        density = (-0.5 * scaled**2 - log_std[0] - 0.5 * np.log(2 * np.pi)).sum()
        np.testing.assert_allclose(outputs.log_prob[0, b, 0], density, atol=1e-3)
        assert outputs.timestep[0, b, 0] == batch.timestep[b, 3]
    assert (np.abs(outputs.action) == 1).any()  # clipped ones are among them


def test_correlation_on_literals():
    assert correlation([1, 2, 3], [2, 4, 6]) == pytest.approx(1.0)
    assert np.isnan(correlation([1, 1, 1], [2, 4, 6]))
