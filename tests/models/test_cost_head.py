"""What the cost head can tell: causes that no single sensor shows."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sas_jax.data import spec as spec_lib
from sas_jax.envs.tasks import get_task
from sas_jax.experiment import among_of, make_model
from sas_jax.models import lidar
from tests.helpers.model_fixtures import make_config, make_episodes

TASK = get_task("PointButton1")


@pytest.fixture(scope="module")
def spec():
    episodes = make_episodes(obs_dim=TASK.obs_dim)
    return spec_lib.from_episodes(dataclasses.replace(episodes, task=TASK.name))


def draw_steps(spec, count, seed):
    """Standardised states beside one button, and whether it must not be touched.

    The goal is that button or another one, somewhere; touched is nearer than 20 cm.
    """
    rng = np.random.default_rng([7, seed])
    near, far = rng.uniform(0.1, 0.4, count), rng.uniform(1.0, 2.5, count)
    angles = rng.uniform(0, 2 * np.pi, (2, count))
    button, other = (
        np.asarray(lidar.lone(jnp.asarray(a), jnp.asarray(d), 16))
        for a, d in zip(angles, (near, far), strict=True)
    )
    is_goal = rng.random(count) < 0.5
    obs = np.tile(spec.obs_mean, (count, 1))
    obs[:, TASK.obs_groups["buttons_lidar"]] = np.maximum(button, other)
    goal = np.where(is_goal[:, None], button, other)
    obs[:, TASK.obs_groups["goal_lidar"]] = goal
    return spec.standardised(jnp.asarray(obs, jnp.float32)), (near < 0.2) & ~is_goal


@pytest.mark.parametrize("knows", [True, False])
def test_it_learns_that_the_wrong_button_costs_and_the_right_one_does_not(spec, knows):
    """From steps. Without the rest of the buttons as a cause of its own it cannot."""
    model = make_model(make_config(), spec)
    if not knows:
        model = model.clone(among=())
    states, costs = draw_steps(spec, 1000, seed=0)
    params = model.init(jax.random.key(0), states[:1], method="cost_logit")
    optimiser = optax.adam(3e-3)

    def loss(params, states, costs):
        logit = model.apply(params, states, method="cost_logit")
        return optax.sigmoid_binary_cross_entropy(logit, jnp.float32(costs)).mean()

    @jax.jit
    def step(carry, _):
        params, moments = carry
        gradient = jax.grad(loss)(params, states, costs)
        update, moments = optimiser.update(gradient, moments, params)
        return (optax.apply_updates(params, update), moments), None

    (params, _), _ = jax.lax.scan(step, (params, optimiser.init(params)), length=600)
    fresh = draw_steps(spec, 1000, seed=1)
    assert (float(loss(params, *fresh)) < 0.2) == knows


def test_only_button_tasks_have_one_lidar_among_another(spec):
    firsts = [first for first, _ in spec.rings]
    ((buttons, goal),) = among_of(spec)
    assert firsts[buttons] == TASK.obs_groups["buttons_lidar"].start
    assert firsts[goal] == TASK.obs_groups["goal_lidar"].start
    for name in ("PointGoal2", "CarPush1", "PointCircle1"):
        task = get_task(name)
        episodes = make_episodes(obs_dim=task.obs_dim)
        assert not among_of(
            spec_lib.from_episodes(dataclasses.replace(episodes, task=name))
        )
