"""The learning rate of the steps, against its closed form."""

import math

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sas_jax.experiment import TrainConfig
from sas_jax.learners.optimizer import make_optimizer


def rates(steps, **settings):
    """How far the first steps of a constant gradient move a weight of zero.

    Adam divides a constant gradient by itself: each step is the learning rate.
    """
    config = TrainConfig(weight_decay=0.0, learning_rate=0.5, **settings)
    optimizer = make_optimizer(config)
    weight, moved = jnp.zeros(()), []
    state = optimizer.init(weight)
    for _ in range(steps):
        update, state = optimizer.update(jnp.ones(()), state, weight)
        moved.append(-float(update))
        weight = optax.apply_updates(weight, update)
    return moved


def test_the_rate_rises_to_its_value_and_stays():
    found = rates(6, warmup=4)
    np.testing.assert_allclose(found, [0, 0.125, 0.25, 0.375, 0.5, 0.5], rtol=1e-4)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_without_a_warm_up_the_first_step_has_the_full_rate(schedule):
    found = rates(3, warmup=0, schedule=schedule, num_steps=100)
    assert found[0] == pytest.approx(0.5, rel=1e-4)
    assert min(found) > 0.49


def test_a_cosine_ends_at_a_tenth():
    found = rates(9, warmup=0, schedule="cosine", num_steps=8)
    middle = 0.05 + 0.45 * 0.5 * (1 + math.cos(math.pi / 2))
    np.testing.assert_allclose([found[4], found[8]], [middle, 0.05], rtol=1e-4)
