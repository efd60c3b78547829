"""The critic's inference: risk, the gate's level, its settings and its file."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.critic import network as critic_network
from sas_jax.critic.file import load_critic, load_report, save_critic
from sas_jax.critic.network import Critic, CriticConfig, gate_level, member_risk, risk
from sas_jax.data.spec import DataSpec
from sas_jax.errors import UserError
from tests.helpers.model_fixtures import random_params

OBS, ACTION, SIZE = 14, 2, 4
RINGS = ((6, SIZE), (10, SIZE))
# Compiled as a whole: operation by operation takes longer to compile.
LOGITS, RISK = jax.jit(critic_network.member_logits), jax.jit(risk)
CONFIG = CriticConfig(members=3, hidden=(8,), pessimism=2.0)


def make_spec(rings=RINGS, obs_dim=OBS):
    rng = np.random.default_rng(1)
    mean, std = rng.uniform(0.1, 0.4, obs_dim), rng.uniform(0.1, 0.3, obs_dim)
    for first, size in rings:
        mean[first : first + size], std[first : first + size] = 0.2, 0.25
    return DataSpec(
        task="PointGoal1",
        obs_dim=obs_dim,
        action_dim=ACTION,
        obs_mean=mean.astype(np.float32),
        obs_std=std.astype(np.float32),
        obs_active=np.ones(obs_dim, bool),
        max_timestep=100,
        return_scale=1.0,
        cost_scale=1.0,
        reward_std=1.0,
        target_return=1.0,
        fingerprint="0" * 16,
        rings=rings,
    )


def make_critic(config=CONFIG, rings=RINGS, **values):
    spec = make_spec(rings)
    net = critic_network.network(config, OBS, rings, spec.ring_scales)
    members = [
        random_params(net, jnp.zeros((1, OBS)), jnp.zeros((1, ACTION)), seed=k)
        for k in range(config.members)
    ]
    table = {
        "levels": [0.1, 0.2, 0.4, 0.7, 1.0],
        "rates": [1.0, 5.0, 8.0, 40.0, 40.0],
    }
    scalars = {"slope": 1.3, "offset": -0.4}
    arrays = {k: jnp.asarray(v, jnp.float32) for k, v in (table | scalars).items()}
    return Critic(
        params=jax.tree.map(lambda *x: jnp.stack(x), *members),
        **arrays | values,
        config=config,
        obs_dim=OBS,
        action_dim=ACTION,
        rings=rings,
        ring_scales=spec.ring_scales,
        scaling=spec.scaling,
    )


def draw(*shape, seed=0):
    rng = np.random.default_rng([2, seed])
    return (
        rng.normal(size=(*shape, OBS)).astype(np.float32),
        rng.uniform(-1, 1, (*shape, ACTION)).astype(np.float32),
    )


def plain_logit(params, obs, action, spec):
    """One member's log-odds of one row, bin by bin."""

    def dense(layer, x):
        return x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])

    own = np.concatenate([obs[:6], action])
    still, ahead, aside = np.split(dense(params["motion"], own), 3)
    seen = []
    for g, (first, size) in enumerate(spec.rings):
        bins = obs[first : first + size]
        reading = np.clip(spec.obs_mean[first] + spec.obs_std[first] * bins, 0, 1)
        columns = []
        for i in range(size):
            around = []
            for shift in (-2, -1, 0, 1, 2):
                j = (i - shift) % size
                around += [bins[j], reading[j] ** 4]
            angle = 2 * np.pi * (i + 0.5) / size
            x = dense(params["near"], np.array(around)) + params["kind"][g, 0]
            x = x + still + np.cos(angle) * ahead + np.sin(angle) * aside
            columns.append(np.maximum(dense(params["Dense_0"], np.maximum(x, 0)), 0))
        seen += [np.max(columns, axis=0), np.mean(columns, axis=0)]
    x = np.concatenate([own, *seen])
    x = np.maximum(dense(params["dense"]["Dense_0"], x), 0)
    return dense(params["dense"]["Dense_1"], x)[0]


@pytest.mark.slow
def test_the_network_against_a_plain_loop_over_bins():
    critic, spec = make_critic(), make_spec()
    obs, action = draw(3)
    logits = LOGITS(critic, obs, action)
    for k in range(3):
        params = jax.tree.map(lambda x, k=k: np.asarray(x[k]), critic.params)
        for row in range(3):
            expected = plain_logit(params, obs[row], action[row], spec)
            np.testing.assert_allclose(logits[k, row], expected, rtol=2e-4, atol=1e-5)


def test_a_dense_critic_of_a_task_without_lidars():
    critic = make_critic(rings=())
    obs, action = draw(2, 3)
    logits = LOGITS(critic, obs, action)
    dense = jax.tree.map(np.asarray, critic.params["dense"])
    x = np.concatenate([obs, action], -1)
    for k in range(3):
        first, last = dense["Dense_0"], dense["Dense_1"]
        hidden = np.maximum(x @ first["kernel"][k] + first["bias"][k], 0)
        expected = (hidden @ last["kernel"][k] + last["bias"][k])[..., 0]
        np.testing.assert_allclose(logits[k], expected, rtol=2e-4, atol=1e-5)


def test_risk_is_the_mean_and_a_multiple_of_the_deviation():
    obs, action = draw(50)
    critic = make_critic()
    logits = np.asarray(LOGITS(critic, obs, action))
    members = 1 / (1 + np.exp(-(1.3 * logits - 0.4)))
    found = jax.jit(member_risk)(critic, obs, action)
    np.testing.assert_allclose(found, members, rtol=1e-4)
    expected = np.clip(members.mean(0) + 2 * members.std(0), 0, 1)
    np.testing.assert_allclose(RISK(critic, obs, action), expected, rtol=1e-4)
    for pessimism in (0.0, 1.0, 30.0):
        expected = np.clip(members.mean(0) + pessimism * members.std(0), 0, 1)
        found = np.asarray(critic_network.pessimistic(jnp.asarray(members), pessimism))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
        assert (found == 1).any() == (pessimism == 30)


@pytest.mark.slow
def test_jit_vmap_and_leading_axes_give_the_same():
    critic = make_critic()
    obs, action = draw(2, 3)
    plain = risk(critic, obs, action)
    assert plain.shape == (2, 3)
    np.testing.assert_allclose(RISK(critic, obs, action), plain, rtol=1e-5)
    mapped = jax.jit(jax.vmap(risk, in_axes=(None, 0, 0)))(critic, obs, action)
    np.testing.assert_allclose(mapped, plain, rtol=1e-5)
    single = RISK(critic, obs[1, 2], action[1, 2])
    np.testing.assert_allclose(single, plain[1, 2], rtol=1e-5)


def test_rows_do_not_depend_on_their_neighbours():
    critic = make_critic()
    obs, action = draw(32)
    whole = np.asarray(RISK(critic, obs, action))
    order = np.random.default_rng(0).permutation(32)
    np.testing.assert_array_equal(RISK(critic, obs[order], action[order]), whole[order])
    others, other_actions = draw(32, seed=1)
    others[7], other_actions[7] = obs[7], action[7]
    others[8] = np.nan
    found = np.asarray(RISK(critic, others, other_actions))
    assert found[7] == whole[7]
    assert np.isnan(found[8])
    assert np.isfinite(np.delete(found, 8)).all()


def plain_level(levels, rates, limit):
    """Largest level with rate <= limit, interpolated towards the next."""
    allowed = [i for i in range(len(levels)) if rates[i] <= limit]
    if not allowed:
        return levels[0]
    i = allowed[-1]
    if i == len(levels) - 1:
        return levels[i]
    share = (limit - rates[i]) / (rates[i + 1] - rates[i])
    return levels[i] + share * (levels[i + 1] - levels[i])


@pytest.mark.parametrize(
    "rates", [[1.0, 5.0, 8.0, 40.0, 40.0], [1.0, 4.0, 4.0, 9.0, 9.0]]
)
def test_the_gate_level_against_a_plain_loop(rates):
    critic = make_critic(rates=jnp.float32(rates))
    limits = np.sort(np.append(np.linspace(0, 50, 101), np.asarray(rates)))
    found = jax.jit(gate_level)(critic, limits)
    levels, rates = np.asarray(critic.levels), np.float32(rates)
    expected = [plain_level(levels, rates, x) for x in limits]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert (np.diff(found) >= 0).all()
    assert gate_level(critic, 0.0) == np.float32(0.1)
    assert gate_level(critic, 1e9) == 1.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("horizon", 0),
        ("members", True),
        ("batch_size", 1.5),
        ("patience", 0),
        ("learning_rate", 0.0),
        ("weight_decay", -1.0),
        ("pessimism", float("nan")),
        ("hidden", (8, 0)),
    ],
)
def test_settings_out_of_range(name, value):
    with pytest.raises(UserError, match=f"critic.{name} must"):
        CriticConfig(**{name: value})


def test_a_file_gives_back_every_bit(tmp_path):
    critic, path = make_critic(), tmp_path / "new" / "critic.npz"
    save_critic(path, critic, {"bce": 0.1 + 0.2, "gate": [1.0]})
    loaded = load_critic(path, make_spec())
    assert jax.tree.structure(loaded) == jax.tree.structure(critic)
    jax.tree.map(np.testing.assert_array_equal, loaded, critic)
    assert load_report(path) == {"bce": 0.1 + 0.2, "gate": [1.0]}
    assert [p.name for p in path.parent.iterdir()] == ["critic.npz"]


def test_files_of_other_data_are_refused(tmp_path):
    path = tmp_path / "critic.npz"
    save_critic(path, make_critic(), {})
    spec = make_spec()
    moved = dataclasses.replace(spec, obs_mean=spec.obs_mean + 1)
    for other, said in (
        (dataclasses.replace(spec, action_dim=3), r"\(14, 2\); expected \(14, 3\)"),
        (make_spec(obs_dim=15), r"size \(14, 2\); expected \(15, 2\)"),
        (make_spec(rings=((6, SIZE),)), "lidars"),
        (moved, "standardisation of observations"),
    ):
        with pytest.raises(UserError, match=said):
            load_critic(path, other)


def test_files_that_are_no_critic_are_refused(tmp_path):
    spec, path = make_spec(), tmp_path / "critic.npz"
    save_critic(path, make_critic(), {})
    with np.load(path) as file:
        arrays = dict(file)
    meta = json.loads(str(arrays["meta"]))

    def refused(said, **changes):
        changed = {k: v for k, v in (arrays | changes).items() if v is not None}
        np.savez(path, **changed)
        with pytest.raises(UserError, match=said) as caught:
            load_critic(path, spec)
        assert "\n" not in str(caught.value)

    def text(**changes):
        new = {k: v for k, v in (meta | changes).items() if v is not None}
        return np.array(json.dumps(new))

    kernel = "params/near/kernel"
    refused("no array 'params/near/kernel'", **{kernel: None})
    refused("near/kernel has NaN", **{kernel: arrays[kernel] * np.nan})
    refused(r"near/kernel is float32\[3, 10\]", **{kernel: arrays[kernel][..., 0]})
    refused("slope is float64", slope=np.float64(1.0))
    refused("no array 'levels'", levels=None)
    refused("levels do not rise", levels=arrays["levels"][::-1])
    refused("rates is", rates=arrays["rates"][:-1])
    refused("not a critic's file", meta=None)
    refused("not a critic's file", meta=np.array("{"))
    refused("format 'x'", meta=text(format="x"))
    refused("'rings' in its description", meta=text(rings=None))
    refused("in its description", meta=text(config=[1]))
    refused("no such setting", meta=text(config=meta["config"] | {"horizn": 3}))
    refused(
        "critic.horizon must be >= 1, got -1 in its desc",
        meta=text(config=meta["config"] | {"horizon": -1}),
    )
    path.write_text("hello")
    with pytest.raises(UserError, match="not a critic's file"):
        load_critic(path, spec)
    with pytest.raises(UserError, match="no such file"):
        load_critic(tmp_path / "none.npz", spec)
