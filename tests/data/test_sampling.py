"""Which rows are drawn: weights by hand, draws against exact probabilities."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax import config as config_lib
from sas_jax.data import device_rows
from sas_jax.data import spec as spec_lib
from sas_jax.data.augment import AugmentConfig
from sas_jax.data.sampling import DataConfig, cost_weights, episode_shares
from sas_jax.errors import UserError
from sas_jax.experiment import PolicyConfig
from sas_jax.learners import default_config
from tests.helpers.model_fixtures import make_episodes

LENGTHS = (4, 9, 1, 6, 12)
DRAWS, ROW = 8000, 4


def episodes_with(costs, returns=(3.0, 1.0, 2.0, 5.0, 4.0)):
    """Episodes of `LENGTHS` with the given sums, all of it in their first step."""
    episodes = make_episodes(LENGTHS)
    per_step = {"costs": costs, "rewards": returns}
    for name, sums in per_step.items():
        values = np.zeros(episodes.num_steps, np.float32)
        values[episodes.offsets[:-1]] = sums
        object.__setattr__(episodes, name, values)
    return episodes


COSTS = np.array([0.0, 5.0, 60.0, 80.0, 10.0])
EPISODES = episodes_with(COSTS)
SPEC = spec_lib.from_episodes(EPISODES)


def draw(config, key=0, rows=DRAWS, seed=0):
    """Rows under `config`; episode and first step of each; the data."""
    data = device_rows.to_device(EPISODES, SPEC, config, seed)
    batch = jax.jit(
        lambda data, key: device_rows.sample(data, key, batch_rows=rows, row_length=ROW)
    )(data, jax.random.key(key))
    batch = jax.device_get(batch)
    entries = np.asarray(data.obs)
    where = (entries[None] == batch.obs[:, :1]).all(-1).argmax(1)
    starts = np.asarray(data.starts)
    episode = np.searchsorted(starts, where, side="right") - 1
    return batch, episode, where - starts[episode], data


def test_weights_by_hand():
    def weights(**settings):
        return cost_weights(COSTS, DataConfig(**settings))

    np.testing.assert_array_equal(weights(), 1.0)
    np.testing.assert_array_equal(weights(cost_sampling="linear"), [70, 65, 10, 0, 60])
    np.testing.assert_array_equal(
        weights(cost_sampling="linear", cost_zero=60.0), [60, 55, 0, 0, 50]
    )


def test_episodes_are_drawn_by_weight_times_length():
    config = DataConfig(cost_sampling="linear")
    share = cost_weights(COSTS, config) * LENGTHS
    share = share / share.sum()
    _, episode, _, _ = draw(config)
    found = np.bincount(episode, minlength=5) / DRAWS
    error = np.sqrt(share * (1 - share) / DRAWS)
    assert (np.abs(found - share) <= 4 * error).all()
    assert (found[share == 0] == 0).all()


def test_steps_of_an_episode_are_drawn_alike():
    """Steps around which rows lie; the clip gives 12 steps to the starts 0 .. 8."""
    _, episode, start, _ = draw(DataConfig(cost_sampling="linear"))
    found = np.bincount(start[episode == 4], minlength=9)
    count = found.sum()
    share = np.bincount(np.clip(np.arange(12) - ROW // 2, 0, 8)) / 12
    error = np.sqrt(share * (1 - share) * count)
    assert count > 2000 and (np.abs(found - share * count) <= 4 * error).all()


def test_equal_weights_are_no_weights():
    """Today's draws to the last bit: the formula written out once more."""
    assert episode_shares(COSTS, EPISODES.lengths, DataConfig()) is None
    batch, _, _, data = draw(DataConfig(), rows=50)
    assert data.shares is None and data.relabelled is None and batch.prompt is None
    step = jax.random.randint(jax.random.key(0), (50,), 0, sum(LENGTHS))
    episode = np.searchsorted(np.cumsum(LENGTHS), step, side="right")
    inside = step - (np.cumsum(LENGTHS) - LENGTHS)[episode]
    start = np.clip(
        inside - ROW // 2, 0, np.maximum(np.array(LENGTHS)[episode] - ROW, 0)
    )
    expected = device_rows.rows_at(data, jnp.asarray(episode), start, row_length=ROW)
    rows = batch.replace(lone=None)
    jax.tree.map(np.testing.assert_array_equal, rows, jax.device_get(expected))


AUGMENT = DataConfig(
    augment=AugmentConfig(augment_percent=0.6, max_reward=9.0, frontier_degree=0)
)


@pytest.fixture(scope="module")
def relabelled():
    return draw(AUGMENT), draw(DataConfig())


def test_relabelled_rows_come_with_their_probability_and_shift_tokens_only(relabelled):
    (batch, episode, start, data), (plain, _, _, _) = relabelled
    expected = jax.device_get(
        device_rows.rows_at(
            data, jnp.asarray(episode), jnp.asarray(start), row_length=ROW
        )
    )
    shift = batch.return_to_go - expected.return_to_go
    is_new = np.abs(shift[:, 0]) > 1e-5
    # Every step of the pool alike: 32 of the episodes, and those of the copies.
    copied = np.array(LENGTHS)[np.asarray(data.relabelled.episode)]
    share = copied.sum() / (copied.sum() + sum(LENGTHS))
    assert 0.1 < share < 0.6
    np.testing.assert_allclose(data.relabelled.probability, share)
    assert abs(is_new.mean() - share) < 4 * np.sqrt(share * (1 - share) / DRAWS)
    for name in ("obs", "action", "cost", "timestep", "is_valid"):
        np.testing.assert_array_equal(getattr(batch, name), getattr(expected, name))
    # One offset a row, next returns included, that of one of its episode's entries.
    cost_shift = batch.cost_to_go - expected.cost_to_go
    for found in (shift, cost_shift):
        np.testing.assert_allclose(found, np.tile(found[:, :1], ROW + 1), atol=1e-6)
    other = jax.device_get(data.relabelled)
    known = np.stack([other.episode, other.return_offset, other.cost_offset], 1)
    rows = np.stack([episode, shift[:, 0], cost_shift[:, 0]], 1)[is_new]
    distance = np.abs(rows[:, None] - known[None]).max(-1)
    assert (distance.min(1) < 1e-5).all()
    used = np.bincount(distance.argmin(1), minlength=len(known)) / is_new.sum()
    np.testing.assert_allclose(used, copied / copied.sum(), atol=0.04)
    # Rows that are not relabelled are those drawn without the augmentation.
    for a, b in zip(jax.tree.leaves(batch), jax.tree.leaves(plain), strict=True):
        np.testing.assert_array_equal(a[~is_new], b[~is_new])


def test_what_relabelled_rows_ask_for(relabelled):
    """Their first token of an episode is the sampled target, above the frontier."""
    (batch, _, start, data), _ = relabelled
    other = jax.device_get(data.relabelled)
    returns, costs = EPISODES.returns(), EPISODES.cost_returns()
    asked = returns[other.episode] + other.return_offset * SPEC.return_scale
    # The front: (0, 3), (10, 4), (80, 5); its mean is 4, and min_reward is 1.
    assert (asked >= 5 - 1e-5).all() and (asked <= 9 + 1e-5).all()
    limit = costs[other.episode] + other.cost_offset * SPEC.cost_scale
    np.testing.assert_allclose(limit, [0, 40, 80], atol=1e-4)
    firsts = batch.return_to_go[start == 0, 0] * SPEC.return_scale
    known = np.concatenate([returns, asked])
    assert (np.abs(firsts[:, None] - known[None]).min(1) < 1e-4).all()


def test_entries_follow_their_seed_and_weights():
    one, two = (device_rows.to_device(EPISODES, SPEC, AUGMENT, seed) for seed in (0, 1))
    assert (one.relabelled.return_offset != two.relabelled.return_offset).any()
    linear = dataclasses.replace(AUGMENT, cost_sampling="linear")
    data = device_rows.to_device(EPISODES, SPEC, linear)
    # Targets cost 0, 40, 80: weights 70, 30, 0 a step; episodes' 70, 65, 10, 0, 60.
    copied = np.array([70, 30, 0]) * np.array(LENGTHS)[data.relabelled.episode]
    own = np.array([70, 65, 10, 0, 60]) * LENGTHS
    np.testing.assert_allclose(
        data.relabelled.ends, np.cumsum(copied) / copied.sum(), rtol=1e-6
    )
    expected = copied.sum() / (copied.sum() + own.sum())
    np.testing.assert_allclose(data.relabelled.probability, expected)
    none = AugmentConfig(augment_percent=0.6, max_reward=-5.0)
    assert (
        device_rows.to_device(EPISODES, SPEC, DataConfig(augment=none)).relabelled
        is None
    )


def test_scales_and_ranges_are_the_data_s_own():
    assert (SPEC.return_scale, SPEC.cost_scale) == (5.0, 80.0)
    assert SPEC.return_range == (1.0, 5.0) and SPEC.cost_range == (0.0, 80.0)
    data = device_rows.to_device(EPISODES, SPEC)
    np.testing.assert_allclose(data.return_to_go[0], 0.6, rtol=1e-6)
    # What was written before the ranges were known can be read.
    old = {k: v for k, v in SPEC.to_json().items() if not k.endswith("_range")}
    assert spec_lib.DataSpec.from_json(old).cost_range is None


def test_cdt_trains_as_its_reference_code_does():
    config = default_config("PointGoal1", "cdt")
    assert config.policy.entropy_target == -2.0
    augment = config.data.augment
    assert augment.augment_percent == 0.2 and augment.frontier_degree == 0
    assert config.data.cost_sampling == "linear" and config.data.cost_zero == 70.0
    assert config.train.clip_norm == 0.25
    assert default_config("CarGoal1", "cdt").data.augment.frontier_degree == 1
    plain = default_config("PointGoal1")
    assert plain.policy == PolicyConfig() and plain.data == DataConfig()
    assert plain.policy.entropy_target is None and plain.prompting() is None


@pytest.mark.parametrize(
    "setting, message",
    [
        ("data.cost_sampling=liner", "did you mean 'linear'"),
        ("data.cost_zero=0", "data.cost_zero must be > 0"),
        ("data.cost_zero=inf", "data.cost_zero must be finite"),
        ("data.augment.beta=0", "beta must be > 0"),
    ],
)
def test_bad_settings_are_one_line(setting, message):
    with pytest.raises(UserError, match=message):
        config_lib.override(default_config("PointGoal1"), [setting])


def test_weights_that_leave_nothing_to_draw_are_named():
    config = DataConfig(cost_sampling="linear")
    with pytest.raises(
        UserError, match="cost_zero 70: every episode costs at least 90"
    ):
        episode_shares(np.full(5, 90.0), np.array(LENGTHS), config)
