"""Behaviour cloning: its loss, which episodes it clones, its lanes, its policy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import inspect
from experiments.benchmarks.model_cases import make_spec as case_spec
from sas_jax import checkpoint, learners
from sas_jax.data import spec as spec_lib
from sas_jax.data import transitions
from sas_jax.errors import UserError
from sas_jax.evaluation import blocks
from sas_jax.evaluation import evaluate as evaluate_lib
from sas_jax.evaluation.evaluate import EvaluationConfig, evaluate
from sas_jax.files.results import read_results, write_results
from sas_jax.learners import bc
from sas_jax.training import fit as training_fit
from sas_jax.types import TimeStep, TransitionBatch
from tests.helpers.fake_envs import FakeEnvs
from tests.helpers.model_fixtures import make_episodes, make_spec, random_params
from tests.helpers.victim import killed_at

LENGTHS = (8,) * 6 + (14, 14)
LIMITS = (1.0, 6.0, 80.0)
TRAIN = {
    "num_steps": 40,
    "batch_rows": 16,
    "chunk": 5,
    "checkpoint_every": 10,
    "held_out": 0.3,
    "keep_checkpoints": 9,
    "seed": 3,
}


def make_config(algo="bc_safe", task="PointGoal1", hidden=(8,), **train):
    config = learners.default_config(task, algo)
    limits = LIMITS if algo == "bc_safe" else ()
    train = {"cost_limits": limits} | TRAIN | train
    return dataclasses.replace(
        config,
        model=bc.BCConfig(hidden),
        train=dataclasses.replace(config.train, **train),
    )


CONFIG = make_config(num_seeds=2)


def values_of(state):
    state = state.replace(key=jax.random.key_data(state.key))
    return jax.tree.map(np.asarray, state)


@pytest.mark.slow
def test_the_loss_is_the_mean_squared_error_of_tanh():
    """Against two layers in numpy, the gradient against its closed form."""
    config, spec = make_config("bc"), make_spec()
    learner = learners.get("bc").make_learner(config, spec)
    state = learner.init(jax.random.key(0), jnp.nan)
    net, _ = bc.make_network(config, spec)
    params = random_params(net, np.zeros((1, spec.obs_dim)))
    state = state.replace(params=params)
    rng = np.random.default_rng(0)
    obs, action = rng.normal(size=(7, 5)), rng.uniform(-1, 1, (7, 2))
    zeros = np.zeros(7)
    batch = TransitionBatch(obs, action, zeros, zeros, obs, zeros > 0, zeros > 0)
    first, last = params["Dense_0"], params["Dense_1"]
    hidden = np.maximum(obs @ first["kernel"] + first["bias"], 0)
    pi = np.tanh(hidden @ last["kernel"] + last["bias"])
    _, metrics = learner.update(state, batch)
    np.testing.assert_allclose(metrics["loss"], np.mean((pi - action) ** 2), rtol=1e-5)
    found = learner.validate(state, batch, jax.random.key(0))["loss"]
    np.testing.assert_allclose(found, metrics["loss"], rtol=1e-6)
    # d loss / d bias of the last layer, summed over the batch.
    slope = 2 * (pi - action) * (1 - pi**2) / pi.size
    after = jax.grad(
        lambda p: learner.validate(state.replace(params=p), batch, 0)["loss"]
    )
    np.testing.assert_allclose(
        after(params)["Dense_1"]["bias"], slope.sum(0), rtol=1e-4
    )


@pytest.mark.slow
def test_a_handful_of_transitions_is_learnt_by_heart():
    """Actions that are a function of the state: the error falls below a hundredth."""
    episodes = make_episodes((16, 16))
    known = np.tanh(episodes.observations[:, :2])
    episodes = dataclasses.replace(episodes, actions=known)
    config = make_config("bc", hidden=(32,), num_steps=300, learning_rate=1e-2)
    algorithm, spec = learners.get("bc"), spec_lib.from_episodes(episodes)
    learner = algorithm.make_learner(config, spec)
    data = algorithm.to_device(config, spec, episodes, is_training=True)
    state = jax.tree.map(lambda x: x[None], learner.init(jax.random.key(0), jnp.nan))
    first = np.mean(known**2)
    state, _ = training_fit.make_train_chunk(config, learner, 300)(state, data)
    state = jax.tree.map(lambda x: x[0], state)
    batch = transitions.at(data, jnp.arange(32))
    last = learner.validate(state, batch, jax.random.key(0))["loss"]
    assert last < 0.01 * first


def test_every_lane_draws_from_the_episodes_within_its_threshold():
    episodes, config = make_episodes(LENGTHS), make_config()
    algorithm, spec = learners.get("bc_safe"), make_spec(episodes)
    learner = algorithm.make_learner(config, spec)
    data = algorithm.to_device(config, spec, episodes, is_training=True)
    costs = episodes.cost_returns()
    assert min(costs) < 1 and len({tuple(costs <= limit) for limit in LIMITS}) == 3
    for limit in (*LIMITS, np.nan):
        state = learner.init(jax.random.key(1), limit)
        keys = jax.random.split(jax.random.key(2), 40)
        drawn = jax.jit(jax.vmap(lambda k, s=state: learner.sample(data, k, s)))(keys)
        rewards = np.unique(np.asarray(drawn.reward))
        within = costs <= (np.inf if np.isnan(limit) else limit)
        expected = np.unique(episodes.select(within).rewards)
        np.testing.assert_array_equal(rewards, expected)


def test_no_episode_within_the_threshold_names_the_least_cost(tmp_path):
    episodes = make_episodes(LENGTHS)
    costly = dataclasses.replace(episodes, costs=np.ones_like(episodes.costs))
    with pytest.raises(UserError) as error:
        training_fit.fit(make_config(), costly, tmp_path)
    assert "train.cost_limits: 1; the cheapest of 6 training episodes" in str(
        error.value
    )
    assert "costs 8" in str(error.value) and "\n" not in str(error.value)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """Two seeds x three thresholds; the folder, the result, traces of the update."""
    workdir, traces = tmp_path_factory.mktemp("bc_safe"), []
    algorithm = learners.get("bc_safe")

    def counting(*args):
        learner = algorithm.make_learner(*args)

        def update(state, batch):
            traces.append(1)
            return learner.update(state, batch)

        return learner._replace(update=update)

    with pytest.MonkeyPatch.context() as patch:
        counted = dataclasses.replace(algorithm, make_learner=counting)
        patch.setattr(learners, "get", lambda name: counted)
        result = training_fit.fit(CONFIG, make_episodes(LENGTHS), workdir)
    return workdir, result, len(traces)


@pytest.mark.slow
def test_seeds_and_thresholds_are_lanes_of_one_program(whole_run):
    """One trace for all six; each is, up to the order of sums, a run of its own."""
    workdir, result, traces = whole_run
    assert traces == 1
    lanes = [(3, 1.0), (3, 6.0), (3, 80.0), (4, 1.0), (4, 6.0), (4, 80.0)]
    assert [tuple(lane) for lane in CONFIG.train.lanes] == lanes
    assert np.asarray(result.state.extra["cost_limit"]).tolist() == [1, 6, 80] * 2
    assert np.asarray(result.state.step).tolist() == [40] * 6
    # The same split, so that the data are the same: seed 3 holds it.
    for limit, lane in ((1.0, 0), (6.0, 1)):
        alone = make_config(cost_limits=(limit,))
        found = training_fit.fit(
            alone, make_episodes(LENGTHS), workdir.parent / f"alone_{limit:g}"
        )
        for x, y in zip(
            jax.tree.leaves(found.state.params),
            jax.tree.leaves(result.state.params),
            strict=True,
        ):
            np.testing.assert_allclose(x[0], y[lane], atol=1e-4)
    kernels = np.asarray(result.state.params["Dense_0"]["kernel"])
    assert len({kernel.tobytes() for kernel in kernels}) == 6


def test_curves_name_seed_and_threshold(whole_run):
    lines = (whole_run[0] / "metrics.csv").read_text().splitlines()
    header = lines[0].split(",")
    assert header[:3] == ["step", "seed", "cost_limit"] and "val_loss" in header
    rows = [tuple(line.split(",")[:3]) for line in lines[1:]]
    expected = [(s, c) for s in ("3", "4") for c in ("1.0", "6.0", "80.0")]
    assert rows == [(str(n), *lane) for n in range(10, 41, 10) for lane in expected]
    first = inspect.list_checkpoints(str(whole_run[0])).splitlines()[0]
    assert "(seed 3, cost limit 1)" in first and "(seed 4, cost limit 80)" in first


@pytest.mark.slow
def test_a_killed_run_resumes_bit_for_bit(whole_run, tmp_path):
    """kill -9 at step 25: step 20 is whole on disk, five steps are repeated."""
    killed_at(25, tmp_path, module="tests.learners.test_bc")
    assert checkpoint.load(tmp_path).step == 20
    steps = []
    resumed = training_fit.fit(
        CONFIG,
        make_episodes(LENGTHS),
        tmp_path,
        progress=lambda step, *_: steps.append(step),
    )
    assert steps == [25, 30, 35, 40]
    jax.tree.map(
        np.testing.assert_array_equal,
        values_of(resumed.state),
        values_of(whole_run[1].state),
    )


@pytest.mark.slow
def test_a_lane_that_fails_is_named_and_the_others_go_on(whole_run, tmp_path):
    """Seed 4's parameters at threshold 6 are no numbers from step 10 on."""
    make_chunk = training_fit.make_train_chunk

    def spoiling(*args):
        chunk = make_chunk(*args)

        def run(states, data):
            if int(states.step.max()) == 10:
                params = jax.tree.map(lambda x: x.at[4].set(jnp.nan), states.params)
                states = states.replace(params=params)
            return chunk(states, data)

        return run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_fit, "make_train_chunk", spoiling)
        with pytest.warns(training_fit.SeedWarning) as caught:
            result = training_fit.fit(CONFIG, make_episodes(LENGTHS), tmp_path)
    said = [str(w.message) for w in caught if w.category is training_fit.SeedWarning]
    assert len(said) == 1
    assert "seed 4, cost limit 6 is not finite at step 11;" in said[0]
    assert np.asarray(result.state.step).tolist() == [40, 40, 40, 40, 10, 40]
    others = np.array([0, 1, 2, 3, 5])
    for x, y in zip(
        jax.tree.leaves(values_of(result.state)),
        jax.tree.leaves(values_of(whole_run[1].state)),
        strict=True,
    ):
        np.testing.assert_array_equal(x[others], y[others])


class Envs(FakeEnvs):
    """Ten steps an episode, with the sizes of `make_episodes`."""

    def __init__(self, task, num_envs, **others):
        super().__init__(num_envs, steps=10)


def small_task(monkeypatch):
    """PointGoal1 with the sizes of `make_episodes`."""
    task = evaluate_lib.get_task("PointGoal1")
    small = dataclasses.replace(task, obs_dim=5, action_dim=2)
    monkeypatch.setattr(evaluate_lib, "get_task", lambda name: small)
    monkeypatch.setattr(evaluate_lib, "VectorEnv", Envs)
    monkeypatch.setattr(blocks, "BLOCK", 4)


def test_each_thresholds_own_policy_acts_under_it(whole_run, tmp_path, monkeypatch):
    small_task(monkeypatch)
    loaded = checkpoint.load(whole_run[0])
    config = EvaluationConfig(
        variants=("none",), cost_limits=(80.0, 1.0), num_episodes=6, train_seed=1
    )
    rows = evaluate(loaded, config).results
    assert len(rows) == 12
    assert {(r.algo, r.variant, r.train_seed) for r in rows} == {("bc_safe", "none", 4)}
    # The same episodes by hand: the parameters of lanes 5 and 3.
    algorithm = learners.get("bc_safe")
    policy = algorithm.make_policy(loaded.config, loaded.spec)
    for limit, lane in ((80.0, 5), (1.0, 3)):
        state = jax.tree.map(lambda x, i=lane: x[i], loaded.state)
        variables = algorithm.variables_of(state)
        envs = FakeEnvs(6, steps=10)
        batch = envs.reset(1_000_000 + np.arange(6), np.ones(6, bool))
        total = np.zeros(6)
        while not batch.is_last.any():
            zeros = np.zeros(6, np.float32)
            ts = TimeStep(np.float32(batch.obs), zeros, zeros, zeros > 0)
            action, _ = policy.act(variables, (), ts, jax.random.key(0))
            batch = envs.step(np.asarray(action))
            total += batch.reward
        found = [r.episode_return for r in rows if r.cost_limit == limit]
        np.testing.assert_allclose(found, total, rtol=1e-4, atol=1e-5)
    path = write_results(tmp_path / "r.csv", rows)
    assert [repr(row) for row in read_results(path)] == [repr(row) for row in rows]


def test_an_attack_is_on_what_the_policy_sees_and_no_world(whole_run, monkeypatch):
    small_task(monkeypatch)
    worlds = []

    class Seen(Envs):
        def __init__(self, *arguments, shift, **others):
            worlds.append(str(shift))
            super().__init__(*arguments, **others)

    monkeypatch.setattr(evaluate_lib, "VectorEnv", Seen)
    loaded, returns = checkpoint.load(whole_run[0]), []
    for shift in ("delay:1", "delay:1,attack:0.5"):
        config = EvaluationConfig(("none",), (1.0,), num_episodes=4, shift=shift)
        rows = evaluate(loaded, config).results
        assert {row.shift for row in rows} == {shift}
        returns.append({row.episode_return for row in rows})
    assert worlds == ["delay:1", "delay:1"] and not returns[0] & returns[1]


@pytest.mark.parametrize(
    "settings, message",
    [
        (
            {"cost_limits": (20.0,)},
            "cost_limits: 20; the checkpoint was trained for",
        ),
        ({"train_seed": 2}, "train_seed: 2; the checkpoint holds 2 seed"),
        ({"variants": ("none", "sas")}, "none, sas; this policy has 'none' only"),
        ({"target_return": 3.0}, "target_return: algo 'bc_safe' acts on none"),
    ],
)
def test_evaluations_that_do_not_fit(whole_run, monkeypatch, settings, message):
    small_task(monkeypatch)
    loaded = checkpoint.load(whole_run[0])
    given = {"variants": ("none",), "cost_limits": (1.0,), "num_episodes": 1} | settings
    with pytest.raises(UserError) as error:
        evaluate(loaded, EvaluationConfig(**given))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_observations_are_standardised_before_acting():
    config, spec = make_config("bc"), make_spec()
    net, pi = bc.make_network(config, spec)
    params = random_params(net, np.zeros((1, spec.obs_dim)))
    policy = learners.get("bc").make_policy(config, spec)
    obs = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    zeros = np.zeros(3, np.float32)
    raw = obs * spec.obs_std + spec.obs_mean
    variables = {"params": params}
    action, carry = policy.act(
        variables, (), TimeStep(raw, zeros, zeros, zeros > 0), jax.random.key(0)
    )
    np.testing.assert_allclose(action, pi(params, obs), atol=1e-5)
    assert carry == () and np.abs(action).max() < 1
    wide = TimeStep(np.zeros((3, 6), np.float32), zeros, zeros, zeros > 0)
    with pytest.raises(UserError, match=r"obs of shape \(3, 6\); expected \(any, 5\)"):
        policy.act(variables, (), wide, jax.random.key(0))


def test_a_policy_is_kept_from_groups_of_observations():
    """Neither its actions nor its gradients know of them."""
    config = learners.default_config("PointGoal1", "bc")
    blind = ["model.hidden=8", "model.policy_blind=accelerometer,gyro"]
    config = learners.override(config, blind)
    spec = case_spec(config)
    net, pi = bc.make_network(config, spec)
    params = random_params(net, np.zeros((1, spec.obs_dim)))
    obs = np.random.default_rng(0).normal(size=spec.obs_dim).astype(np.float32)
    slope = np.abs(jax.jacobian(lambda x: pi(params, x))(obs)).max(0)
    hidden = np.r_[0:3, 6:9]  # as in the task's observations
    assert not slope[hidden].any() and (np.delete(slope, hidden) > 0).all()
    config = learners.override(config, ["model.policy_blind=giro"])
    with pytest.raises(UserError, match="no observations 'giro'; did you mean 'gyro'"):
        bc.make_network(config, spec)


@pytest.mark.parametrize(
    "algo, setting, message",
    [
        ("bc", "model.hidden=0", "model.hidden must be >= 1, got (0,)"),
        ("bc", "model.hiden=8", "model.hiden: no such setting; did you mean 'hidden'?"),
        ("bc", "model.decoder.width=8", "model.decoder: no such group"),
        ("bc", "train.row_length=8", "train.row_length: 8; expected 1, as algo 'bc'"),
        ("bc", "sas.num_first=3", "sas.*: algo 'bc' has no such settings"),
        ("bc", "train.cost_limits=20", "expected none with algo 'bc'"),
        ("bc_safe", "train.cost_limits=()", "at least one with algo 'bc_safe'"),
        ("bc_safe", "train.cost_limits=5,5", "names one twice"),
    ],
)
def test_settings_that_do_not_fit(algo, setting, message):
    with pytest.raises(UserError) as error:
        learners.override(learners.default_config("PointGoal1", algo), [setting])
    assert message in str(error.value) and "\n" not in str(error.value)


def test_the_thresholds_are_the_tasks_own_unless_said_otherwise():
    config = learners.default_config("PointGoal1", "bc_safe")
    assert config.train.cost_limits == (20.0, 40.0, 80.0)
    changed = learners.override(config, ["train.cost_limits=5,10"])
    assert changed.train.cost_limits == (5.0, 10.0)
