"""Rows drawn from data on the device, against a loop over the episodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.data import device_rows
from sas_jax.data import spec as spec_lib
from sas_jax.data.spec import DataSpec
from sas_jax.errors import UserError
from tests.helpers.model_fixtures import make_episodes

LENGTHS = (4, 9, 1, 6)


@pytest.fixture(scope="module")
def data():
    episodes = make_episodes(LENGTHS)
    spec = spec_lib.from_episodes(episodes)
    return episodes, spec, device_rows.to_device(episodes, spec)


def naive_row(episodes, spec, episode, start, row_length):
    """One row by a loop over its steps; None where it is padding."""
    first, last = episodes.offsets[episode], episodes.offsets[episode + 1]
    rows = []
    for t in range(start, start + row_length):
        step = first + t
        if step >= last:
            rows.append(None)
            continue
        after = step + 1 < last
        next_obs = (
            episodes.observations[step + 1]
            if after
            else episodes.final_observations[episode]
        )
        rows.append(
            {
                "obs": (episodes.observations[step] - spec.obs_mean) / spec.obs_std,
                "next_obs": (next_obs - spec.obs_mean) / spec.obs_std,
                "action": np.clip(episodes.actions[step], -1, 1),
                "return_to_go": np.sum(episodes.rewards[step:last], dtype=np.float64)
                / spec.return_scale,
                "cost_to_go": np.sum(episodes.costs[step:last], dtype=np.float64)
                / spec.cost_scale,
                "cost": float(episodes.costs[step] > 0),
                "timestep": t,
            }
        )
    return rows


def test_rows_against_a_loop(data):
    """Every start of every episode, rows that fit and rows that do not."""
    episodes, spec, device = data
    row_length = 5
    cases = [(e, s) for e, n in enumerate(LENGTHS) for s in range(n)]
    episode, start = np.asarray(cases, np.int32).T
    batch = jax.device_get(
        device_rows.rows_at(device, episode, start, row_length=row_length)
    )
    assert batch.obs.shape == (len(cases), row_length + 1, 5)
    for b, (e, s) in enumerate(cases):
        for i, expected in enumerate(naive_row(episodes, spec, e, s, row_length)):
            assert batch.is_valid[b, i] == (expected is not None)
            if expected is None:
                # Padding repeats the entry after the last step.
                np.testing.assert_array_equal(batch.obs[b, i], batch.obs[b, i + 1])
                continue
            got = {
                "obs": batch.obs[b, i],
                "next_obs": batch.obs[b, i + 1],
                "action": batch.action[b, i],
                "return_to_go": batch.return_to_go[b, i],
                "cost_to_go": batch.cost_to_go[b, i],
                "cost": batch.cost[b, i],
                "timestep": batch.timestep[b, i],
            }
            for name, value in expected.items():
                np.testing.assert_allclose(got[name], value, 2e-6, 2e-6, err_msg=name)
            if i + 1 == LENGTHS[e] - s:
                assert batch.return_to_go[b, i + 1] == batch.cost_to_go[b, i + 1] == 0


def test_sums_to_go_are_exact_in_float32(data):
    """To the last bit those of a float64 sum, also late in a long data set."""
    episodes = make_episodes((300, 7, 450))
    spec = spec_lib.from_episodes(episodes)
    device = device_rows.to_device(episodes, spec)
    for values, found, scale in (
        (episodes.rewards, device.return_to_go, spec.return_scale),
        (episodes.costs, device.cost_to_go, spec.cost_scale),
    ):
        expected = []
        for episode in np.split(values.astype(np.float64), episodes.offsets[1:-1]):
            expected += [episode[t:].sum() / scale for t in range(len(episode) + 1)]
        np.testing.assert_allclose(found, np.float32(expected), rtol=1e-6, atol=1e-8)


@pytest.fixture(scope="module")
def drawn(data):
    """8000 rows of five steps: (episode, start, is_valid) of each."""
    device = data[2]
    batch = jax.jit(
        lambda key: device_rows.sample(device, key, batch_rows=8000, row_length=5)
    )(jax.random.key(0))
    # The first state of a row tells where it comes from.
    entries, firsts = np.asarray(device.obs), np.asarray(batch.obs[:, 0])
    where = (entries[None] == firsts[:, None]).all(-1).argmax(1)
    starts = np.asarray(device.starts)
    episode = np.searchsorted(starts, where, side="right") - 1
    return episode, where - starts[episode], np.asarray(batch.is_valid)


def test_every_step_is_drawn_and_only_short_episodes_are_padded(drawn):
    seen = set()
    for episode, start, is_valid in zip(*drawn, strict=True):
        count, length = int(is_valid.sum()), LENGTHS[episode]
        assert is_valid[:count].all()
        assert count == min(5, length)
        assert start == 0 or start + 5 <= length
        seen |= {(int(episode), int(start) + i) for i in range(count)}
    assert seen == {(e, t) for e, n in enumerate(LENGTHS) for t in range(n)}


def test_rows_are_drawn_by_steps_not_by_episodes(drawn):
    """4 + 9 + 1 + 6 = 20 steps: an episode's share is its length."""
    share = np.bincount(drawn[0], minlength=4) / 8000
    # Standard errors are at most 0.0056.
    np.testing.assert_allclose(share, np.array(LENGTHS) / 20, atol=0.025)


def test_lone_steps_are_drawn_alike_with_the_state_that_they_lead_to(data):
    """20 steps of four episodes; a multiple of the rows, whatever these are."""
    device = data[2]
    sample = jax.jit(
        lambda key: device_rows.sample(device, key, batch_rows=3000, row_length=5)
    )
    lone = sample(jax.random.key(4)).lone
    assert lone.cost.shape == (3000,)
    few = device_rows.sample(device, jax.random.key(0), batch_rows=3, row_length=5)
    assert few.lone.cost.shape == (1023,)
    entries = np.asarray(device.obs)
    where = (entries[None] == np.asarray(lone.next_obs)[:, None]).all(-1).argmax(1)
    starts, lengths = np.asarray(device.starts), np.asarray(device.lengths)
    nexts = [a + 1 + t for a, n in zip(starts, lengths, strict=True) for t in range(n)]
    found, counts = np.unique(where, return_counts=True)
    assert found.tolist() == sorted(nexts)
    # Standard errors are 0.004.
    np.testing.assert_allclose(counts / 3000, 1 / len(nexts), atol=0.02)
    cost = np.asarray(device.cost)
    np.testing.assert_array_equal(lone.cost, cost[where - 1])


def test_actions_are_those_executed_and_constant_columns_become_zero(data):
    episodes, _, _ = data
    wild = episodes.actions.copy()
    wild[3] = [1.7, -2.0]
    episodes = make_episodes(LENGTHS)
    object.__setattr__(episodes, "actions", wild)
    spec = spec_lib.from_episodes(episodes)
    device = device_rows.to_device(episodes, spec)
    np.testing.assert_array_equal(device.action[3], [1.0, -1.0])
    np.testing.assert_array_equal(np.asarray(device.obs)[:, 4], 0.0)
    assert not spec.obs_active[4] and spec.obs_std[4] == 1.0


def test_spec_against_numpy_and_its_json_round_trip(data):
    episodes, spec, device = data
    obs = episodes.observations.astype(np.float64)
    np.testing.assert_allclose(spec.obs_mean, obs.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(spec.obs_std[:4], obs.std(0)[:4], rtol=1e-5)
    assert spec.max_timestep == 9
    assert spec.return_scale == np.abs(episodes.returns()).max()
    assert spec.cost_scale == max(episodes.cost_returns().max(), 1.0)
    assert spec.target_return == np.percentile(episodes.returns(), 95)
    assert jnp.isfinite(device.obs).all()
    back = DataSpec.from_json(spec.to_json())
    for name, value in vars(spec).items():
        np.testing.assert_array_equal(getattr(back, name), value, err_msg=name)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda v: v.pop("obs_mean"), "obs_mean"),
        (lambda v: v.update(colour=1), "colour"),
        (lambda v: v.update(obs_std=[1.0]), "obs_std"),
    ],
)
def test_a_damaged_spec_is_named(data, change, message):
    values = data[1].to_json()
    change(values)
    with pytest.raises(UserError, match=message):
        DataSpec.from_json(values)
