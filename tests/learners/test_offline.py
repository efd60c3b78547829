"""What holds for every actor-critic learner: bits, lanes, resume, acting, bad input."""

import dataclasses
import functools
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax import checkpoint, learners
from sas_jax.data import spec as spec_lib
from sas_jax.errors import UserError
from sas_jax.evaluation.evaluate import EvaluationConfig, evaluate
from sas_jax.training import fit as training_fit
from sas_jax.types import Rows, TimeStep
from tests.helpers.model_fixtures import make_episodes
from tests.learners.test_bc import small_task, values_of

LENGTHS = (8,) * 6 + (14, 14)
SAFE = ("cpq", "coptidice", "bcq_lag", "bear_lag", "caps", "o3srl", "fisor")
ALGOS = (*SAFE, "cql", "sac_n", "ape_v", "td3_bc", "prdc", "doc")
TRAIN = {
    "num_steps": 8,
    "batch_rows": 16,
    "chunk": 2,
    "checkpoint_every": 4,
    "held_out": 0.3,
    "keep_checkpoints": 9,
    "num_seeds": 2,
    "seed": 3,
}
SMALL = {"hidden": (8,), "vae_hidden": (8,), "num_draws": 3, "num_candidates": 3}
SMALL |= {"width": 8, "blocks": 1, "critics": 3, "candidates": 20}
SMALL |= {"members": 2, "latent_dim": 2, "future": 4, "negatives": 3}


def make_config(algo, task="PointGoal1", **train):
    """Tiny networks, two seeds, and two thresholds where there are lanes for each."""
    config = learners.default_config(task, algo)
    limits = (0.0, 6.0) if learners.get(algo).by_threshold else ()
    names = {field.name for field in dataclasses.fields(config.model)}
    small = {k: v for k, v in SMALL.items() if k in names}
    settings = TRAIN | {"cost_limits": limits} | train
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, **small),
        train=dataclasses.replace(config.train, **settings),
    )


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """(algo) -> folder and result of its whole run, made once."""

    @functools.cache
    def run(algo):
        folder = tmp_path_factory.mktemp(algo)
        return folder, training_fit.fit(
            make_config(algo), make_episodes(LENGTHS), folder
        )

    return run


@pytest.mark.slow
@pytest.mark.parametrize("algo", ALGOS)
def test_it_trains_resumes_to_the_bit_and_is_evaluated(
    algo, whole_run, tmp_path, monkeypatch
):
    """Seeds and thresholds in one program, the threshold 0 among them."""
    config, episodes = make_config(algo), make_episodes(LENGTHS)
    folder, whole = whole_run(algo)
    lanes = len(config.train.lanes)
    assert np.asarray(whole.state.step).tolist() == [8] * lanes
    kernels = jax.tree.leaves(whole.state.params["actor"])[-1]
    assert len({np.asarray(kernel).tobytes() for kernel in kernels}) >= 2

    def stop(step, *_):
        if step == 6:
            raise Stop

    with pytest.raises(Stop):
        training_fit.fit(config, episodes, tmp_path / "cut", progress=stop)
    assert checkpoint.load(tmp_path / "cut").step == 4
    again = training_fit.fit(config, episodes, tmp_path / "cut")
    jax.tree.map(
        np.testing.assert_array_equal, values_of(again.state), values_of(whole.state)
    )
    small_task(monkeypatch)
    limits = config.train.cost_limits or (1.0, 6.0)
    asked = EvaluationConfig(variants=("none",), cost_limits=limits, num_episodes=3)
    rows = evaluate(checkpoint.load(tmp_path / "cut"), asked).results
    assert len(rows) == 3 * len(limits) and {row.algo for row in rows} == {algo}
    assert all(np.isfinite(row.episode_return) for row in rows)
    header = (folder / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"loss", "gradient_norm", "val_loss", "val_actor_loss"} <= {*header}


@pytest.mark.slow
@pytest.mark.parametrize("algo", ALGOS)
def test_every_parameter_is_trained_for_one_action_under_a_threshold_of_zero(algo):
    """One-dimensional actions; kappa = 0 is finite; no group stands still."""
    episodes, config = make_episodes(LENGTHS, action_dim=1), make_config(algo)
    algorithm, spec = learners.get(algo), spec_lib.from_episodes(episodes)
    learner = algorithm.make_learner(config, spec)
    data = algorithm.to_device(config, spec, episodes, is_training=True)

    @jax.jit
    def step(state):
        key = jax.random.fold_in(state.key, 2 * state.step)
        return learner.update(state, learner.sample(data, key, state))

    key, init = jax.random.key(0), jax.jit(learner.init)
    _, strict = step(init(key, jnp.float32(0.0)))
    before = init(key, jnp.float32(60.0))
    # Some actors step every second time.
    after, metrics = step(step(before)[0])
    for value in (*strict.values(), *metrics.values()):
        assert np.isfinite(value)
    for name, group in before.params.items():
        moved = [
            np.any(np.asarray(old) != np.asarray(new))
            for old, new in zip(
                jax.tree.leaves(group), jax.tree.leaves(after.params[name]), strict=True
            )
        ]
        assert all(moved), name
    policy = algorithm.make_policy(config, spec, variants=("none",))
    rows = Rows(jnp.zeros(3), jnp.arange(3, dtype=jnp.uint32))
    zeros = jnp.zeros(3)
    ts = TimeStep(jnp.asarray(episodes.observations[:3]), zeros, zeros, zeros == 0)
    variables = algorithm.variables_of(after)
    carry = policy.initial_carry(variables, rows, key)
    carry = policy.begin(variables, carry, ts, key)
    action, _ = jax.jit(policy.act)(variables, carry, ts, key)
    assert action.shape == (3, 1) and np.abs(action).max() <= 1


@pytest.mark.parametrize("algo", SAFE)
def test_data_without_costs_are_refused(algo, tmp_path):
    episodes = make_episodes(LENGTHS)
    free = dataclasses.replace(episodes, costs=np.zeros_like(episodes.costs))
    with pytest.raises(UserError) as error:
        training_fit.fit(make_config(algo), free, tmp_path)
    assert f"none of 76 steps has a cost; expected some, as algo '{algo}'" in str(
        error.value
    )
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_lane_that_fails_is_named_and_the_others_go_on(whole_run, tmp_path):
    """The targets of seed 3 under threshold 6 are no numbers: that lane stops."""
    config, episodes = make_config("cpq"), make_episodes(LENGTHS)
    whole = whole_run("cpq")[1]
    make_chunk = training_fit.make_train_chunk

    def spoiling(*args):
        chunk = make_chunk(*args)

        def run(states, data):
            if int(states.step.max()) == 2:
                reward = jax.tree.map(
                    lambda x: x.at[1].set(jnp.nan), states.extra["targets"]
                )
                states = states.replace(extra=states.extra | {"targets": reward})
            return chunk(states, data)

        return run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_fit, "make_train_chunk", spoiling)
        with pytest.warns(training_fit.SeedWarning, match="seed 3, cost limit 6 is"):
            result = training_fit.fit(config, episodes, tmp_path / "spoilt")
    assert np.asarray(result.state.step).tolist() == [8, 2, 8, 8]
    others = np.array([0, 2, 3])
    for x, y in zip(
        jax.tree.leaves(values_of(result.state)),
        jax.tree.leaves(values_of(whole.state)),
        strict=True,
    ):
        np.testing.assert_array_equal(x[others], y[others])


@pytest.mark.parametrize(
    "algo, setting, message",
    [
        ("cpq", "model.reference=paper2", "model.reference must be one of paper, osrl"),
        ("cpq", "model.ood_share=1", "model.ood_share must lie in (0, 1)"),
        ("bcq_lag", "model.num_candidates=0", "model.num_candidates must be >= 1"),
        ("bear_lag", "model.sigma=0", "model.sigma must be > 0"),
        ("coptidice", "model.alpha=0", "model.alpha must be > 0"),
        ("coptidice", "train.cost_limits=()", "at least one with algo 'coptidice'"),
        ("caps", "model.heads=1", "model.heads must be >= 2"),
        ("caps", "train.cost_limits=20", "expected none with algo 'caps'"),
        ("o3srl", "model.arms=1", "model.arms must have at least 2 of them"),
        ("fisor", "model.dropout=1", "model.dropout must lie in [0, 1)"),
        ("prdc", "model.candidates=-1", "model.candidates must be >= 0"),
        ("td3_bc", "model.greed=0", "model.greed must be > 0"),
        ("sac_n", "model.critics=0", "model.critics must be >= 1"),
        ("ape_v", "model.members=0", "model.members must be >= 1"),
        ("ape_v", "model.forgetting=2", "model.forgetting must lie in [0, 1]"),
        ("cql", "model.alpha=-1", "model.alpha must be >= 0"),
        ("cpq", "model.discount=1", "model.discount must lie in (0, 1)"),
    ],
)
def test_settings_that_do_not_fit(algo, setting, message):
    with pytest.raises(UserError) as error:
        learners.override(learners.default_config("PointGoal1", algo), [setting])
    assert message in str(error.value) and "\n" not in str(error.value)


def mlp(*sizes):
    """Number of parameters of a chain of layers."""
    return sum((a + 1) * b for a, b in zip(sizes, sizes[1:], strict=False))


# Observations of 5, 2 actions; layers of 8; see SMALL.
CRITICS, VALUE, ACTOR = 2 * mlp(7, 8, 1), mlp(5, 8, 1), mlp(5, 8, 4)
VAE = mlp(7, 8, 8) + mlp(9, 8, 2)
COUNTS = {
    "cpq": {"critic": CRITICS, "cost_critic": CRITICS, "vae": VAE, "actor": ACTOR},
    "coptidice": {"nu": VALUE, "chi": VALUE, "multiplier": 1, "tau": 1, "actor": ACTOR},
    "bcq_lag": {
        "critic": CRITICS,
        "cost_critic": CRITICS,
        "vae": VAE,
        "actor": mlp(7, 8, 2),
    },
    # Two heads, each with a mean and, for each action, a deviation of its own.
    "caps": {
        "critic": CRITICS,
        "cost_critic": CRITICS,
        "value": VALUE,
        "cost_value": VALUE,
        "actor": mlp(5, 8, 4) + 4,
    },
    "o3srl": {"critic": CRITICS, "cost_critic": CRITICS, "actor": mlp(5, 8, 2)},
    # 32 waves, their layers; the inputs' layer, one block with its norm, the output.
    "fisor": {
        "critic": CRITICS,
        "cost_critic": CRITICS,
        "value": VALUE,
        "cost_value": VALUE,
        "actor": 32
        + mlp(64, 128, 128)
        + mlp(2 + 128 + 5, 8)
        + 16
        + mlp(8, 32, 8)
        + mlp(8, 2),
    },
    "sac_n": {"critic": 3 * mlp(7, 8, 1), "actor": ACTOR, "entropy": 1},
}
# Two members of three critics; all see the belief.
COUNTS["ape_v"] = {"critic": 6 * mlp(9, 8, 1), "actor": mlp(7, 8, 4), "entropy": 1}
COUNTS |= {"bear_lag": COUNTS["cpq"], "cql": COUNTS["sac_n"]}
COUNTS |= dict.fromkeys(("td3_bc", "prdc"), {"critic": CRITICS, "actor": mlp(5, 8, 2)})
# A step with its place and the encoder; prior, policy, value. z with what it is told
# from others by: two states and an action; then a reward and a state more.
COUNTS["doc"] = {
    "actor": mlp(14, 8, 8) + mlp(8, 8, 4) + mlp(5, 8, 4) + mlp(7, 8, 2) + mlp(7, 8, 1),
    "contrast": mlp(14, 8, 1) + mlp(20, 8, 1),
}


@pytest.mark.parametrize("algo", ALGOS)
def test_what_is_trained_is_what_the_configuration_says(algo):
    """The number of parameters of each group, and of what its optimiser follows."""
    spec = spec_lib.from_episodes(make_episodes(LENGTHS))
    learner = learners.get(algo).make_learner(make_config(algo), spec)
    state = jax.eval_shape(learner.init, jax.random.key(0), jnp.float32(6.0))

    def count(tree):
        return sum(x.size for x in jax.tree.leaves(tree))

    assert {k: count(v) for k, v in state.params.items()} == COUNTS[algo]
    for name, number in COUNTS[algo].items():
        # Adam's two moments and its counter.
        assert count(state.opt_state[name]) == 2 * number + 1


@pytest.mark.parametrize("algo", ALGOS)
def test_every_number_of_the_settings_has_a_rule(algo):
    """Whatever is no number there is named."""
    kind = learners.get(algo).config_class
    numbers = {int, float, tuple[int, ...], tuple[float, ...]}
    hints = typing.get_type_hints(kind).items()
    names = [name for name, hint in hints if hint in numbers]
    assert len(names) >= 5
    for name in names:
        for value in (np.nan, True, None, "4", (np.nan,)):
            with pytest.raises(UserError, match=rf"^model\.{name} must "):
                kind(**{name: value})
