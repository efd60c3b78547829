"""bfloat16 activations: what stays float32, and how far the losses move."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.data import device_rows
from sas_jax.experiment import make_model
from sas_jax.learners import sequence
from sas_jax.models import losses
from tests.helpers.model_fixtures import (
    make_config,
    make_episodes,
    make_spec,
    make_variables,
)

# Relative to 1 + |value|: eight bits of mantissa through the layers.
TOLERANCE = 0.02


def case_of(dtype):
    config = make_config(decoder={"depth": 1, "dtype": dtype, "dropout": 0.0})
    episodes = make_episodes()
    spec = make_spec(episodes)
    batch = device_rows.sample(
        device_rows.to_device(episodes, spec),
        jax.random.key(4),
        batch_rows=6,
        row_length=10,
    )
    return config, spec, batch


def equations(jaxpr):
    """All equations of a jaxpr and of those inside it."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(
            list(equation.params.values()),
            is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr"),
        ):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


@pytest.fixture(scope="module")
def traced():
    """Every equation of loss and gradient in bfloat16."""
    config, spec, batch = case_of("bfloat16")
    model, variables = make_model(config, spec), make_variables(config, spec)

    def run(params):
        return jax.grad(losses.loss, argnums=1, has_aux=True)(
            model, params, variables["variances"], batch, jax.random.key(1), 3
        )

    return list(equations(jax.make_jaxpr(run)(variables["params"]).jaxpr))


def dtypes_of(traced, *names):
    found = [
        str(v.aval.dtype) for e in traced if e.primitive.name in names for v in e.invars
    ]
    assert found, names
    return set(found)


def test_what_is_sensitive_is_float32(traced):
    """Exponentials (softmax, standard deviations), logarithms, LayerNorm's roots."""
    assert dtypes_of(traced, "exp", "exp2", "log", "log1p", "rsqrt") == {"float32"}
    assert "bfloat16" not in dtypes_of(traced, "reduce_max", "logistic", "expm1")


def test_the_layers_multiply_in_bfloat16(traced):
    products = [
        {str(v.aval.dtype) for v in e.invars}
        for e in traced
        if e.primitive.name == "dot_general"
    ]
    share = sum(p == {"bfloat16"} for p in products) / len(products)
    assert share > 0.6


def test_parameters_gradients_and_states_are_float32():
    config, spec, batch = case_of("bfloat16")
    learner = sequence.make_learner(config, spec)
    state = jax.eval_shape(learner.init, jax.random.key(0))
    after, metrics = jax.eval_shape(learner.update, state, batch)
    for tree in (state.params, state.opt_state, state.extra, after.params, metrics):
        kinds = {x.dtype for x in jax.tree.leaves(tree)}
        assert not kinds - {jnp.dtype("float32"), jnp.dtype("int32")}
    model, variables = make_model(config, spec), make_variables(config, spec)
    out = jax.eval_shape(
        lambda: model.apply(
            {"params": variables["params"]},
            batch,
            losses.draw_noise(model, batch, jax.random.key(0)),
            False,
            method="outputs",
        )
    )
    assert {str(x.dtype) for x in out.values()} == {"float32"}


def test_densities_are_float32():
    config, spec, batch = case_of("bfloat16")
    model, variables = make_model(config, spec), make_variables(config, spec)
    noise = jnp.zeros((2, 6, config.model.marginal_latent_dim))
    density = jax.eval_shape(
        lambda: model.apply(
            {"params": variables["params"]},
            batch.obs[:, 0],
            noise,
            jnp.zeros(spec.obs_dim),
            method="marginal_log_density",
        )
    )
    assert density.dtype == jnp.float32


@pytest.mark.slow
def test_losses_are_near_those_of_float32():
    found = {}
    for dtype in ("float32", "bfloat16"):
        config, spec, batch = case_of(dtype)
        model, variables = make_model(config, spec), make_variables(config, spec)
        _, (_, metrics) = jax.jit(losses.loss, static_argnums=0)(
            model,
            variables["params"],
            variables["variances"],
            batch,
            jax.random.key(1),
            jnp.int32(3),
        )
        found[dtype] = jax.device_get(metrics)
    assert found["float32"]["loss"] != found["bfloat16"]["loss"]
    for name, value in found["float32"].items():
        other = found["bfloat16"][name]
        assert abs(other - value) <= TOLERANCE * (1 + abs(value)), name
        assert np.isfinite(other)
