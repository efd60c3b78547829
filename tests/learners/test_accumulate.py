"""A batch in parts has the whole batch's loss and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.data import device_rows
from sas_jax.errors import UserError
from sas_jax.experiment import make_model
from sas_jax.learners import accumulate
from sas_jax.models import losses
from tests.helpers.model_fixtures import (
    make_config,
    make_episodes,
    make_spec,
    make_variables,
)

LENGTHS = (8, 14, 12, 3)  # rows of ten: some end in padding, unequally


@pytest.fixture(scope="module")
def case():
    config = make_config(decoder={"depth": 1, "dropout": 0.0}, train={"batch_rows": 8})
    episodes = make_episodes(LENGTHS)
    spec = make_spec(episodes)
    batch = device_rows.sample(
        device_rows.to_device(episodes, spec),
        jax.random.key(4),
        batch_rows=8,
        row_length=10,
    )
    return make_model(config, spec), make_variables(config, spec), batch


def gradient_of(model, variables, batch, temperature=None):
    @jax.jit
    def run(params):
        return jax.value_and_grad(losses.loss, argnums=1, has_aux=True)(
            model,
            params,
            variables["variances"],
            batch,
            jax.random.key(1),
            jnp.int32(3),
            temperature=temperature,
        )

    return run(variables["params"])


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_parts_give_loss_gradient_and_variances_of_the_whole(case, count):
    """Input noise and latents too: they are drawn for the whole batch."""
    model, variables, batch = case
    assert len(set(np.asarray(batch.is_valid.sum(1)))) > 1
    (loss, (variances, metrics)), gradient = gradient_of(*case)
    (found, (other, some)), parts = gradient_of(
        accumulate.in_parts(model, count), variables, batch
    )
    np.testing.assert_allclose(found, loss, rtol=1e-5)
    compare = (variances, metrics, gradient), (other, some, parts)
    for x, y in zip(*map(jax.tree.leaves, compare), strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-4, atol=1e-5)
    largest = max(np.abs(x).max() for x in jax.tree.leaves(gradient))
    assert largest > 1e-2


def test_one_part_is_the_model_itself(case):
    assert accumulate.in_parts(case[0], 1) is case[0]


@pytest.mark.slow
def test_parts_need_less_memory():
    """What the backward pass holds shrinks with the parts."""
    config = make_config(decoder={"depth": 2}, train={"batch_rows": 32})
    episodes = make_episodes((40,) * 4)
    spec = make_spec(episodes)
    model, variables = make_model(config, spec), make_variables(config, spec)
    batch = device_rows.sample(
        device_rows.to_device(episodes, spec),
        jax.random.key(4),
        batch_rows=32,
        row_length=40,
    )

    def temporary(count):
        def run(params):
            return jax.grad(losses.loss, argnums=1, has_aux=True)(
                accumulate.in_parts(model, count),
                params,
                variables["variances"],
                batch,
                jax.random.key(1),
                jnp.int32(3),
            )

        compiled = jax.jit(run).lower(variables["params"]).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(8) < 0.5 * temporary(1)


def test_rows_that_do_not_divide_are_named(case):
    model, variables, batch = case
    with pytest.raises(UserError, match="batch_rows 8.*multiple of train.accumulate 3"):
        gradient_of(accumulate.in_parts(model, 3), variables, batch)
    with pytest.raises(UserError, match="batch_rows 8.*multiple of train.accumulate 3"):
        make_config(train={"batch_rows": 8, "accumulate": 3})
