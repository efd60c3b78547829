"""Kernel densities and Lyapunov density models: closed forms, fits, files, faults."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from sas_jax.data.episodes import Episodes
from sas_jax.data.spec import from_episodes
from sas_jax.errors import UserError
from sas_jax.support import lyapunov
from sas_jax.support.file import load_support, save_support
from sas_jax.support.fit import fit_support
from sas_jax.support.model import SupportConfig, energy_to_come, log_density

SMALL = SupportConfig(
    num_centres=64, bandwidths=(0.2, 0.5, 1.0), hidden=(8,), num_steps=40, batch_size=32
)


def recordings(count=40, steps=10, seed=0) -> Episodes:
    """Standard normal observations; actions follow the first of them."""
    rng = np.random.default_rng(seed)
    obs = rng.normal(size=(count * steps, 60)).astype(np.float32)
    obs[:, 2:] = 0.5  # these never move
    action = np.tanh(obs[:, :2]) + 0.1 * rng.normal(size=(count * steps, 2))
    return Episodes(
        task="PointGoal1",
        observations=obs,
        actions=np.clip(action, -1, 1).astype(np.float32),
        rewards=np.zeros(count * steps, np.float32),
        costs=np.zeros(count * steps, np.float32),
        offsets=steps * np.arange(count + 1),
        final_observations=obs[:count],
        terminated=np.arange(count) % 2 == 0,
    )


@pytest.fixture(scope="module")
def data():
    return recordings()


@pytest.fixture(scope="module")
def spec(data):
    return from_episodes(data.split(0.5, seed=0)[0])


def fitted(data, spec, **settings):
    config = dataclasses.replace(SMALL, **settings)
    return fit_support(data, spec, config, 3, held_out=0.5)


def test_a_density_of_kernels_is_scipys():
    rng = np.random.default_rng(0)
    centres, z = rng.normal(size=(5, 3)), rng.normal(size=(2, 4, 3))
    found = log_density(jnp.float32(z), jnp.float32(centres), jnp.float32(0.7))
    normals = [stats.multivariate_normal(c, 0.7**2 * np.eye(3)) for c in centres]
    expected = np.log(np.mean([n.pdf(z) for n in normals], axis=0))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["guardian", "lyapunov"])
def test_a_share_of_new_steps_lies_within_the_level_and_others_far_off(
    kind, data, spec
):
    """The first two observations alone move; an action against them is off the data."""
    support, report = fitted(data, spec, kind=kind, num_steps=400, hidden=(32,))
    assert report["inside"] == pytest.approx(0.95, abs=0.06)
    assert support.level == pytest.approx(report["level"])
    obs = spec.standardised(data.observations[:100])
    action = jnp.asarray(data.actions[:100])
    score = jax.jit(lambda obs, action: support.score(obs, action))
    off = np.asarray(score(obs, -jnp.sign(action)))
    assert (off > np.asarray(score(obs, action))).mean() > 0.9
    assert (off > support.level).mean() > 0.5


def test_the_width_is_the_likeliest_of_those_that_are_tried(data, spec):
    _, report = fitted(data, spec)
    tried = report["log_density"]
    assert set(tried) == {"0.2", "0.5", "1.0"}
    assert tried[str(report["bandwidth"])] == max(tried.values())


def test_same_seed_same_bits_another_seed_other_kernels(data, spec):
    first, again = (fitted(data, spec)[0] for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    other, _ = fit_support(data, spec, SMALL, 4, held_out=0.5)
    assert (other.centres != first.centres).any()


def chain():
    """Four states, two recorded actions each; the fixed point by value iteration.

    What is met now: 0 or 3 at the first three states. The last one is met at 1, is
    left for itself, and ends in half of the rows.
    """
    energy = np.array([[0.0, 3.0], [2.0, 0.5], [0.0, 0.0], [1.0, 4.0]])
    after = np.array([[1, 2], [2, 3], [0, 3], [3, 0]])
    g = np.zeros((4, 2))
    for _ in range(200):
        g = np.maximum(energy, 0.9 * g.min(axis=1)[after])
    return energy, after, g


@pytest.mark.slow
def test_the_worst_to_come_is_the_fixed_point_of_a_chain():
    """max(E, gamma min G'), by networks that can represent it; a low expectile."""
    energy, after, exact = chain()
    state, action = (x.ravel() for x in np.indices((4, 2)))
    z = np.concatenate([np.eye(4)[state], np.eye(2)[action]], axis=1)
    steps = lyapunov.Steps(
        obs=jnp.float32(np.eye(4)[state]),
        z=jnp.float32(z),
        energy=jnp.float32(energy.ravel()),
        next_obs=jnp.float32(np.eye(4)[after.ravel()]),
        goes_on=jnp.ones(8),
    )
    config = SupportConfig(
        discount=0.9, expectile=0.01, hidden=(32,), num_steps=6000, batch_size=32
    )
    params = lyapunov.fit(steps, config, 0)
    found = energy_to_come(config, params, steps.z).reshape(4, 2)
    np.testing.assert_allclose(found, exact, atol=0.08)
    # Without a future it is what is met now.
    ends = steps._replace(goes_on=jnp.zeros(8))
    params = lyapunov.fit(ends, config, 0)
    found = energy_to_come(config, params, steps.z).reshape(4, 2)
    np.testing.assert_allclose(found, energy, atol=0.05)


@pytest.mark.parametrize("kind", ["guardian", "lyapunov"])
def test_it_goes_through_a_file(kind, data, spec, tmp_path):
    support, report = fitted(data, spec, kind=kind)
    path = tmp_path / "support.npz"
    save_support(path, support, report)
    again = load_support(path, spec)
    obs, action = spec.standardised(data.observations[:9]), data.actions[:9]
    np.testing.assert_array_equal(again.score(obs, action), support.score(obs, action))
    assert again.level == support.level and again.config == support.config


def test_files_that_do_not_fit_are_refused(data, spec, tmp_path):
    path = tmp_path / "support.npz"
    save_support(path, *fitted(data, spec))
    with pytest.raises(UserError, match="scaling .* expected"):
        load_support(path, from_episodes(recordings(seed=1)))
    with pytest.raises(UserError, match="no such file"):
        load_support(tmp_path / "other.npz", spec)
    arrays = dict(np.load(path))

    def spoilt(**changes):
        np.savez(tmp_path / "spoilt.npz", **(arrays | changes))
        return tmp_path / "spoilt.npz"

    nan = arrays["centres"].copy()
    nan[3, 1] = np.nan
    meta = json.loads(str(arrays["meta"]))
    for changes, message in (
        ({"centres": nan}, "centres has NaN or infinity"),
        ({"level": np.zeros(2, np.float32)}, r"level is float32\[2\]"),
        (
            {"meta": json.dumps(meta | {"config": {"kind": "flow"}})},
            "kind must be one of guardian, lyapunov",
        ),
        ({"meta": json.dumps(meta | {"format": "x"})}, "format 'x'"),
    ):
        with pytest.raises(UserError, match=message) as error:
            load_support(spoilt(**changes), spec)
        assert "\n" not in str(error.value)


def test_settings_and_losses_that_are_none():
    with pytest.raises(UserError, match=r"support\.quantile must lie in \(0, 1\)"):
        SupportConfig(quantile=1.0)
    steps = lyapunov.Steps(
        obs=jnp.zeros((4, 1)),
        z=jnp.zeros((4, 2)),
        energy=jnp.full(4, jnp.nan),
        next_obs=jnp.zeros((4, 1)),
        goes_on=jnp.ones(4),
    )
    with pytest.raises(UserError, match="support: loss nan after 2 steps"):
        lyapunov.fit(steps, SMALL, 0)
