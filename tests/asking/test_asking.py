"""Which return to ask for: closed forms, what data teach, its file, its variant."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.asking import network
from sas_jax.asking.file import load_asking, save_asking
from sas_jax.asking.fit import fit_asking
from sas_jax.asking.network import Asking, AskingConfig, distribution, token
from sas_jax.data.episodes import Episodes
from sas_jax.data.spec import from_episodes
from sas_jax.errors import UserError
from tests.critic.test_network import make_spec
from tests.helpers.model_fixtures import random_params

OBS = 14
CONFIG = AskingConfig(hidden=(8,), first_quantile=0.9, last_quantile=0.5)
TOKEN = jax.jit(token)


def make_asking(config=CONFIG, **changes):
    params = random_params(network.network(config), jnp.zeros((1, OBS + 3)), seed=3)
    static = {
        "obs_dim": OBS,
        "return_scale": 20.0,
        "cost_scale": 50.0,
        "max_timestep": 100,
        "scaling": make_spec().scaling,
    }
    return Asking(params=params, config=config, **static | changes)


def test_the_token_is_a_quantile_that_falls_with_the_budget():
    asking, obs = make_asking(), jnp.ones((4, OBS))
    left = jnp.array([20.0, 10.0, 0.0, -5.0])
    time = jnp.array([0, 10, 20, 30])
    asked = TOKEN(asking, obs, left, jnp.full(4, 20.0), time)
    mean, std = distribution(asking, obs, left, time)
    # Phi^-1 of .9, .7, .5 and .5.
    expected = mean + std * np.array([1.2815516, 0.5244005, 0.0, 0.0])
    np.testing.assert_allclose(asked, expected, rtol=1e-4, atol=1e-5)
    # A budget that is overspent is one that is spent.
    same = TOKEN(asking, obs[:1], jnp.zeros(1), jnp.full(1, 20.0), time[3:])
    np.testing.assert_allclose(asked[3:], same, rtol=1e-4, atol=1e-5)
    # No budget at all is one that is spent, too.
    none = TOKEN(asking, obs[2:3], left[2:3], jnp.zeros(1), time[2:3])
    np.testing.assert_allclose(none, asked[2:3], rtol=1e-4, atol=1e-5)


def test_costs_and_time_are_told_in_units_of_the_data():
    seen = network.inputs(
        make_asking(), jnp.zeros((1, OBS)), jnp.array([25.0]), jnp.array([50])
    )
    np.testing.assert_allclose(
        seen[0, OBS:], [0.5, np.log(26.0), 0.5], rtol=1e-4, atol=1e-5
    )


def recordings(count=60, steps=20, seed=0) -> Episodes:
    """Whoever dares more earns more: the return to go is half of the cost to go, and
    noise.
    """
    rng = np.random.default_rng(seed)
    pace = rng.uniform(0, 1, (count, 1))
    costs = (rng.random((count, steps)) < pace).astype(np.float32)
    rewards = 0.5 * costs + rng.normal(0, 0.05, (count, steps))
    return Episodes(
        task="PointGoal1",
        observations=rng.normal(size=(count * steps, 60)).astype(np.float32),
        actions=np.zeros((count * steps, 2), np.float32),
        rewards=rewards.reshape(-1).astype(np.float32),
        costs=costs.reshape(-1),
        offsets=steps * np.arange(count + 1),
        final_observations=np.zeros((count, 60), np.float32),
        terminated=np.zeros(count, bool),
    )


def test_sums_to_an_episodes_end():
    episodes = dataclasses.replace(
        recordings(2, 3), offsets=np.array([0, 2, 6]), terminated=np.zeros(2, bool)
    )
    values = np.array([1.0, 2, 3, 4, 5, 6])
    assert episodes.to_go(values).tolist() == [3, 2, 18, 15, 11, 6]


@pytest.mark.slow
def test_what_data_teach_is_measured_on_episodes_that_chose_nothing():
    data = recordings(400)
    spec = from_episodes(data)
    config = AskingConfig(
        hidden=(16,), num_steps=400, check_every=100, batch_size=256, learning_rate=3e-3
    )
    looks = []
    asking, report = fit_asking(
        data, spec, config, held_out=0.3, on_look=lambda *x: looks.append(x)
    )
    again, _ = fit_asking(data, spec, config, held_out=0.3)
    jax.tree.map(np.testing.assert_array_equal, asking.params, again.params)
    assert report["correlation"] > 0.9 and report["nll"] < report["nll_of_normal"] - 0.5
    assert 0.3 < report["below"]["0.5"] < 0.7 < report["below"]["0.9"]
    assert [step for step, _ in looks] == [100, 200, 300, 400]
    obs = np.zeros((2, 60), np.float32)
    mean, _ = distribution(asking, obs, jnp.array([2.0, 10.0]), jnp.array([5, 5]))
    assert 2.0 < float(mean[1] - mean[0]) < 6.0  # half of 8 is 4


def test_a_file_holds_all_of_it(tmp_path):
    spec, asking = make_spec(), make_asking()
    path = tmp_path / "asking.npz"
    save_asking(path, asking, {"nll": 1.0})
    again = load_asking(path, spec)
    jax.tree.map(np.testing.assert_array_equal, again.params, asking.params)
    assert dataclasses.replace(again, params=0) == dataclasses.replace(asking, params=0)
    other = dataclasses.replace(spec, obs_std=2 * spec.obs_std)
    with pytest.raises(UserError, match="scaling .*; expected .* as in the checkpoint"):
        load_asking(path, other)
    with np.load(path) as file:
        arrays = dict(file)
    name = next(name for name in arrays if name.endswith("kernel"))
    np.savez(path, **arrays | {name: np.full_like(arrays[name], np.nan)})
    with pytest.raises(UserError, match="has NaN or infinity"):
        load_asking(path, spec)
    np.savez(path, **{k: v for k, v in arrays.items() if k != name})
    with pytest.raises(UserError, match=f"no array '{name}'"):
        load_asking(path, spec)
    meta = json.loads(str(arrays["meta"]))
    np.savez(path, **arrays | {"meta": json.dumps(meta | {"format": "sas_jax critic"})})
    with pytest.raises(UserError, match="return model .*format 'sas_jax critic'"):
        load_asking(path, spec)
    path.write_bytes(b"no archive")
    with pytest.raises(UserError, match="one that experiments.asking wrote"):
        load_asking(path, spec)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"first_quantile": 1.0}, "asking.first_quantile"),
        ({"last_quantile": 0.0}, "asking.last_quantile"),
        ({"hidden": (0,)}, "asking.hidden"),
        ({"num_steps": 0}, "asking.num_steps"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(UserError, match=message):
        AskingConfig(**settings)


@pytest.mark.slow
def test_data_that_cannot_be_fitted():
    data = recordings(20)
    spec = from_episodes(data)
    rewards = data.rewards.copy()
    rewards[3] = np.nan
    with pytest.raises(UserError, match="rewards"):
        fit_asking(dataclasses.replace(data, rewards=rewards), spec, CONFIG)
    wild = AskingConfig(hidden=(8,), num_steps=20, check_every=10, learning_rate=1e30)
    with pytest.raises(UserError, match="expected finite numbers"):
        fit_asking(data, spec, wild, held_out=0.3)
