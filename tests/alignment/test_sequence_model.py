"""Models that return what nobody can use are told which function, and what shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.alignment.algorithm1 import align
from sas_jax.alignment.config import SASConfig
from sas_jax.alignment.gate import RiskModel
from sas_jax.alignment.policy import make_policy
from sas_jax.alignment.sequence_model import checked
from sas_jax.errors import UserError
from sas_jax.types import Rows, TimeStep
from tests.helpers import product_policy
from tests.helpers.line_policy import LENGTH, MODEL, state_at

CONFIG = SASConfig(num_first=2, num_second=2, prompt_length=LENGTH)


def wide(x):
    return x[:, None]


def run_align(model, variant="sas", **settings):
    return align(
        model,
        {"edge": jnp.float32(np.inf)},
        jax.random.key(0),
        state_at(0.0),
        jnp.ones(1),
        config=CONFIG,
        variants=(variant,),
        horizon=6,
        **settings,
    )


@pytest.mark.parametrize("name", ["reward", "cost", "log_density", "log_prob"])
def test_a_step_with_a_wrong_shape_is_named(name):
    def step(*arguments):
        output, after = MODEL.step(*arguments)
        return output.replace(**{name: wide(getattr(output, name))}), after

    message = rf"step returned {name} of shape \(2, 1\); expected \(2\)"
    with pytest.raises(UserError, match=message):
        run_align(MODEL._replace(step=step))


def test_a_step_that_forgets_an_axis_is_named():
    def step(*arguments):
        output, after = MODEL.step(*arguments)
        return output.replace(action=output.action[:, 0]), after

    with pytest.raises(UserError, match=r"step returned action of shape \(2,\)"):
        run_align(MODEL._replace(step=step))


@pytest.mark.slow
def test_a_critic_with_a_wrong_shape_is_named():
    risk = RiskModel(risk=lambda variables, obs, action: action, level=None)
    with pytest.raises(UserError, match=r"risk_model.risk returned risk of shape"):
        run_align(MODEL, "critic", risk_model=risk)


@pytest.mark.parametrize("name", ["observe", "commit", "start"])
def test_a_policy_with_a_wrong_shape_is_named(name):
    model = product_policy.MODEL
    function = getattr(model, name)

    def wrong(*arguments):
        found = function(*arguments)
        if name == "observe":
            return found.replace(log_std=found.log_std[:, :1])
        return found.replace(timestep=wide(found.timestep))

    policy = make_policy(
        model._replace(**{name: wrong}),
        SASConfig(prompt_length=product_policy.LENGTH),
        variants=("none",),
        horizon=4,
        target_return=1.0,
    )
    ones = np.ones(2, np.float32)
    rows = Rows(cost_limit=ones, episode_seed=np.arange(2, dtype=np.uint32))
    ts = TimeStep(np.ones((2, product_policy.OBS), np.float32), ones, ones, ones > 0)
    with pytest.raises(UserError, match=f"{name} returned"):
        variables, key = product_policy.make_variables(), jax.random.key(0)
        carry = policy.initial_carry(variables, rows, key, product_policy.OBS)
        policy.act(variables, carry, ts, key)


def test_a_model_is_wrapped_once():
    once = checked(MODEL)
    assert checked(once) is once and once.observe is None
