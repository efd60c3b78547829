"""The entropy term: closed forms, which way the temperature moves, where it is kept."""

import csv
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax import checkpoint, learners
from sas_jax.errors import UserError
from sas_jax.experiment import PolicyConfig, make_model
from sas_jax.learners import sequence
from sas_jax.models import losses, temperature
from sas_jax.training import fit as training_fit
from tests.helpers.model_fixtures import (
    make_config,
    make_episodes,
    make_spec,
    make_variables,
)
from tests.models.test_losses import draw_batch


def config_with(**policy):
    config = make_config(
        decoder={"depth": 1}, train={"num_steps": 4, "warmup": 1, "row_length": 5}
    )
    return dataclasses.replace(config, policy=PolicyConfig(**policy))


def test_the_first_steps_against_adam_by_hand():
    """Gradient T (H - target); Adam's first step is the rate, whatever the gradient."""
    start = temperature.initial(0.5)
    np.testing.assert_allclose(start.value, 0.5, rtol=1e-6)
    once = temperature.update(start, jnp.asarray(-3.0), target=-2.0, rate=0.1)
    np.testing.assert_allclose(once.log_value, np.log(0.5) + 0.1, rtol=1e-5)
    twice = temperature.update(once, jnp.asarray(1.0), target=-2.0, rate=0.1)
    gradients = [0.5 * -1.0, float(once.value) * 3.0]
    first = (0.1 * 0.9 * gradients[0] + 0.1 * gradients[1]) / (1 - 0.9**2)
    second = 0.001 * 0.999 * gradients[0] ** 2 + 0.001 * gradients[1] ** 2
    step = 0.1 * first / (np.sqrt(second / (1 - 0.999**2)) + 1e-8)
    np.testing.assert_allclose(twice.log_value, once.log_value - step, rtol=1e-4)


def test_the_temperature_keeps_a_free_entropy_at_its_target():
    """A policy that wants an entropy of -5 settles where the temperature holds it.

    Its loss is (H + 5)^2 / 20 - T H, and its gradient is followed; at H = -2 the two
    balance at T = 0.3.
    """

    def body(carry, _):
        entropy, own = carry
        own = temperature.update(own, entropy, target=-2.0, rate=0.001)
        entropy = entropy - 0.02 * (0.1 * (entropy + 5) - own.value)
        return (entropy, own), (entropy, own.value)

    start = (jnp.asarray(1.0), temperature.initial(0.1))
    _, (entropy, value) = jax.lax.scan(body, start, None, length=20_000)
    np.testing.assert_allclose(entropy[10_000:].mean(), -2.0, atol=0.1)
    np.testing.assert_allclose(value[10_000:].mean(), 0.3, atol=0.03)


@pytest.fixture(scope="module")
def problem():
    spec, config = make_spec(), make_config(decoder={"depth": 1})
    model, variables = make_model(config, spec), make_variables(config, spec)
    batch = draw_batch(spec)

    @jax.jit
    def run(params, weight):
        loss = functools.partial(losses.loss, model, temperature=weight)
        key = jax.random.key(2)
        run = jax.value_and_grad(loss, has_aux=True)
        return run(params, variables["variances"], batch, key, 0)

    return variables["params"], run


@pytest.mark.slow
def test_the_loss_pays_temperature_times_entropy(problem):
    params, run = problem
    (plain, _), gradient = run(params, jnp.asarray(0.0))
    (value, (_, with_it)), other = run(params, jnp.asarray(0.7))
    np.testing.assert_allclose(value, plain - 0.7 * with_it["entropy"], rtol=1e-5)
    assert with_it["loss"] == value and with_it["temperature"] == np.float32(0.7)
    # H = mean log-std + 1/2 ln(2 pi e) for each of the two action dimensions.
    expected = 2 * (with_it["action_log_std"] + 1.4189385)
    np.testing.assert_allclose(with_it["entropy"], expected, rtol=1e-5)
    moved = [
        jax.tree_util.keystr(path)
        for (path, a), b in zip(
            jax.tree_util.tree_leaves_with_path(gradient),
            jax.tree.leaves(other),
            strict=True,
        )
        if np.abs(a - b).max() > 1e-6
    ]
    # The policy's head and what is below it; no head of the world model.
    assert any("policy" in name for name in moved)
    for head in ("transition", "marginal", "reward_head", "cost_head"):
        assert not any(head in name for name in moved), head


def test_no_target_is_no_temperature():
    spec = make_spec()
    config = config_with()
    state = jax.eval_shape(sequence.make_learner(config, spec).init, jax.random.key(0))
    assert set(state.extra) == {"transition", "marginal"}
    assert sequence.temperature_of(state) is None


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run whose target is far above any entropy, with prompts in half the rows."""
    workdir = tmp_path_factory.mktemp("run")
    config = config_with(entropy_target=10.0, temperature_rate=0.05, prompt_prob=0.5)
    return workdir, training_fit.fit(config, make_episodes(), workdir)


@pytest.mark.slow
def test_training_moves_the_temperature_towards_the_target(trained):
    """Four steps of Adam at 0.05 with one sign."""
    values = trained[1].state.extra["temperature"].value
    np.testing.assert_allclose(values, 0.1 * np.exp(0.2), rtol=1e-2)


@pytest.mark.slow
def test_checkpoint_and_curve_hold_the_temperature(trained):
    workdir, run = trained
    loaded = checkpoint.load(workdir)
    assert loaded.config.policy == PolicyConfig(
        entropy_target=10.0, temperature_rate=0.05, prompt_prob=0.5
    )
    own, read = run.state.extra["temperature"], loaded.state.extra["temperature"]
    jax.tree.map(np.testing.assert_array_equal, own, read)
    state = jax.tree.map(lambda x: x[0], loaded.state)
    assert set(sequence.variables_of(state)["variances"]) == {"transition", "marginal"}
    # Weight decay reaches parameters only, and this is none of them.
    assert "temperature" not in str(jax.tree.structure(loaded.state.params))
    with open(workdir / "metrics.csv", newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert float(last["temperature"]) > 0.1 and float(last["entropy"]) != 0
    assert float(last["val_temperature"]) == pytest.approx(float(own.value[0]))


@pytest.mark.parametrize(
    "setting, message",
    [
        ("policy.temperature=0", "policy.temperature must be > 0"),
        ("policy.temperature_rate=-1", "policy.temperature_rate must be > 0"),
        ("policy.entropy_target=nan", "policy.entropy_target: expected float"),
        ("policy.prompt_prob=1.5", "prompt_prob must lie in"),
    ],
)
def test_bad_settings_are_one_line(setting, message):
    with pytest.raises(UserError, match=message):
        learners.override(learners.default_config("PointGoal1"), [setting])
