"""Single steps on the device, against a loop over the episodes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.data import spec as spec_lib
from sas_jax.data import transitions
from sas_jax.errors import UserError
from tests.helpers.model_fixtures import make_episodes

LENGTHS = (4, 9, 1, 6)


@pytest.fixture(scope="module")
def data():
    """Episodes of which the second and the third ended by themselves."""
    episodes = dataclasses.replace(
        make_episodes(LENGTHS), terminated=np.array([False, True, True, False])
    )
    spec = spec_lib.from_episodes(episodes)
    return episodes, spec, transitions.to_device(episodes, spec)


def naive_steps(episodes, spec):
    """All steps by a loop, the cheapest episode first (stable)."""
    steps = []
    for e in sorted(
        range(episodes.num_episodes), key=lambda e: episodes.cost_returns()[e]
    ):
        first, last = episodes.offsets[e], episodes.offsets[e + 1]
        for t in range(first, last):
            is_last = t == last - 1
            after = (
                episodes.final_observations[e]
                if is_last
                else episodes.observations[t + 1]
            )
            steps.append(
                {
                    "obs": (episodes.observations[t] - spec.obs_mean) / spec.obs_std,
                    "action": np.clip(episodes.actions[t], -1, 1),
                    "reward": episodes.rewards[t],
                    "cost": episodes.costs[t],
                    "next_obs": (after - spec.obs_mean) / spec.obs_std,
                    "is_terminal": is_last and episodes.terminated[e],
                    "is_timeout": is_last and not episodes.terminated[e],
                    "episode": e,
                }
            )
    return steps


def test_steps_against_a_loop(data):
    episodes, spec, device = data
    expected = naive_steps(episodes, spec)
    batch = transitions.at(device, jnp.arange(episodes.num_steps))
    for field in dataclasses.fields(batch):
        wanted = np.array([step[field.name] for step in expected])
        np.testing.assert_array_equal(getattr(batch, field.name), wanted, field.name)


def test_a_time_out_bootstraps_and_a_terminal_step_does_not(data):
    episodes, spec, device = data
    batch = transitions.at(device, jnp.arange(episodes.num_steps))
    steps = naive_steps(episodes, spec)
    ends = {i for i, s in enumerate(steps) if s["is_terminal"] or s["is_timeout"]}
    assert len(ends) == 4
    expected = [0.0 if s["episode"] in (1, 2) and i in ends else 1.0 for i, s in
                enumerate(steps)]  # fmt: skip
    np.testing.assert_array_equal(batch.bootstrap, expected)
    # The target of a value that is 1 everywhere, by hand.
    target = batch.reward + 0.9 * batch.bootstrap
    for i in ends:
        more = 0.0 if steps[i]["is_terminal"] else 0.9
        np.testing.assert_allclose(target[i], steps[i]["reward"] + more, rtol=1e-6)


def test_exactly_the_episodes_within_a_threshold(data):
    episodes, spec, device = data
    costs = episodes.cost_returns()
    assert len(set(costs)) > 1
    within = jax.jit(transitions.num_steps_within)
    for limit in (*costs, costs.min() - 1, costs.max() + 1, np.nan):
        chosen = costs <= limit if np.isfinite(limit) else costs < np.inf
        count = int(within(device, np.float32(limit)))
        assert count == episodes.lengths[chosen].sum()
        drawn = {s["episode"] for s in naive_steps(episodes, spec)[:count]}
        assert drawn == set(np.flatnonzero(chosen))


def test_draws_are_uniform_over_the_first_steps(data):
    """Chi-square at the 0.999 quantile of nine degrees of freedom."""
    batch = transitions.sample(
        data[2], jax.random.key(0), batch_size=4000, num_steps=np.int32(10)
    )
    known = np.asarray(transitions.at(data[2], jnp.arange(20)).reward)
    which = (np.asarray(batch.reward)[:, None] == known[None]).argmax(1)
    counts = np.bincount(which, minlength=20)
    assert counts[10:].sum() == 0
    assert np.square(counts[:10] - 400).sum() / 400 < 27.9


def test_data_of_another_size_are_refused(data):
    with pytest.raises(UserError, match="observations of size 6.*expected 5 and 2"):
        transitions.to_device(make_episodes((4, 4), obs_dim=6), data[1])
