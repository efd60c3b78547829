"""The container: bookkeeping per episode, selection, splits, fingerprints."""

import dataclasses

import numpy as np
import pytest

from sas_jax.data import episodes as episodes_lib
from sas_jax.data.episodes import Episodes
from sas_jax.errors import UserError


def make(lengths=(3, 1, 2), obs_dim=4, action_dim=2, seed=0) -> Episodes:
    rng = np.random.default_rng(seed)
    steps = sum(lengths)
    return Episodes(
        task="PointGoal1",
        observations=rng.normal(size=(steps, obs_dim)).astype(np.float32),
        actions=rng.uniform(-1, 1, (steps, action_dim)).astype(np.float32),
        rewards=np.arange(steps, dtype=np.float32),
        costs=(np.arange(steps) % 2).astype(np.float32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        final_observations=rng.normal(size=(len(lengths), obs_dim)).astype(np.float32),
        terminated=np.arange(len(lengths)) % 2 == 1,
    )


def test_sums_and_sizes():
    data = make()
    assert (data.num_episodes, data.num_steps) == (3, 6)
    assert (data.obs_dim, data.action_dim) == (4, 2)
    np.testing.assert_array_equal(data.lengths, [3, 1, 2])
    # Rewards 0+1+2, 3, 4+5; costs 0+1+0, 1, 0+1.
    np.testing.assert_array_equal(data.returns(), [3, 3, 9])
    np.testing.assert_array_equal(data.cost_returns(), [1, 1, 1])
    assert data.returns().dtype == np.float64


def test_returns_are_summed_in_float64():
    data = dataclasses.replace(
        make(lengths=(20_000,)), rewards=np.full(20_000, 0.1, np.float32)
    )
    exact = 20_000 * float(np.float32(0.1))
    assert abs(data.returns()[0] - exact) < 1e-8


def test_select_copies_episodes_in_order():
    data = make()
    chosen = data.select(np.array([2, 0, 2]))
    np.testing.assert_array_equal(chosen.lengths, [2, 3, 2])
    np.testing.assert_array_equal(chosen.rewards, [4, 5, 0, 1, 2, 4, 5])
    np.testing.assert_array_equal(chosen.terminated, [False, False, False])
    np.testing.assert_array_equal(
        chosen.final_observations, data.final_observations[[2, 0, 2]]
    )
    chosen.observations[:] = 0
    assert np.abs(data.observations).min() > 0


def test_select_takes_a_mask_and_may_be_empty():
    data = make()
    mask = np.array([False, True, True])
    assert data.select(mask).fingerprint() == data.select([1, 2]).fingerprint()
    empty = data.select(np.zeros(3, bool))
    assert (empty.num_episodes, empty.num_steps) == (0, 0)
    assert empty.returns().shape == (0,)


def test_split_is_disjoint_complete_and_seeded():
    data = make(lengths=[1 + i % 4 for i in range(20)])
    train, held = data.split(0.25, seed=3)
    assert (train.num_episodes, held.num_episodes) == (15, 5)
    # Rewards number the steps, so they tell which ones went where.
    joined = np.sort(np.concatenate([train.rewards, held.rewards]))
    np.testing.assert_array_equal(joined, data.rewards)
    again, _ = data.split(0.25, seed=3)
    other, _ = data.split(0.25, seed=4)
    assert train.fingerprint() == again.fingerprint() != other.fingerprint()


def test_split_always_leaves_both_sides_an_episode():
    data = make(lengths=(2, 2))
    for fraction in (0.01, 0.99):
        assert [part.num_episodes for part in data.split(fraction, seed=0)] == [1, 1]


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_split_rejects_fractions(fraction):
    with pytest.raises(UserError, match="fraction"):
        make().split(fraction, seed=0)


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5, None])
def test_split_by_what_is_no_seed(seed):
    with pytest.raises(UserError, match="^seed must"):
        make().split(0.5, seed=seed)


def test_split_of_one_episode_is_refused():
    with pytest.raises(UserError, match="at least 2"):
        make(lengths=(5,)).split(0.5, seed=0)


def test_fingerprint_sees_every_field_but_the_source():
    data = make()
    prints = {data.fingerprint()}
    assert dataclasses.replace(data, source="a.hdf5").fingerprint() in prints
    fields = [f for f in dataclasses.fields(Episodes) if f.name != "source"]
    for field in fields:
        value = getattr(data, field.name)
        if field.name == "task":
            changed = "CarGoal1"
        elif field.name == "offsets":
            changed = np.array([0, 2, 4, 6])
        else:
            changed = value.copy()
            changed.flat[-1] = not changed.flat[-1]
        prints.add(dataclasses.replace(data, **{field.name: changed}).fingerprint())
    assert len(prints) == 1 + len(fields)
    assert all(len(p) == 16 for p in prints)


def test_concatenate_undoes_select():
    data = make()
    parts = [data.select([0]), data.select([1, 2])]
    assert episodes_lib.concatenate(parts).fingerprint() == data.fingerprint()
    other = dataclasses.replace(data, task="CarGoal1")
    with pytest.raises(UserError, match="different tasks"):
        episodes_lib.concatenate([data, other])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rewards", np.zeros(5, np.float32)),
        ("actions", np.zeros((5, 2), np.float32)),
        ("final_observations", np.zeros((3, 5), np.float32)),
        ("offsets", np.array([0, 3, 3, 6])),
        ("offsets", np.array([0, 3, 4, 5])),
    ],
)
def test_inconsistent_arrays_are_refused(field, value):
    with pytest.raises(ValueError):
        dataclasses.replace(make(), **{field: value})
