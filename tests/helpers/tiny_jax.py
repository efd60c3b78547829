"""Small environments in JAX, good ones and such that do not fit, by name."""

import jax
import jax.numpy as jnp

from sas_jax.envs import imports, tasks
from sas_jax.jax_envs import named
from sas_jax.jax_envs.protocol import JaxEnv, Step

OBS, ACTIONS, STEPS = 3, 2, 12


def _reset(key):
    state = jax.random.normal(key, (OBS,))
    return state, state


def _step(state, action):
    state = 0.9 * state + 0.3 * jnp.pad(action, (0, OBS - ACTIONS))
    cost = (state[0] > 0.3).astype(jnp.float32)
    return Step(state, state, -jnp.abs(state[1]), cost, state[1] > 0.8)


def make():
    """Pushed about; costs to the right; ends by itself where it gets far up."""
    return JaxEnv(_reset, _step, OBS, ACTIONS, STEPS)


def fixed():
    """All episodes begin at one place."""
    start = jnp.array([0.1, 0.7, -0.3])
    return make()._replace(reset=lambda key: (start, start))


def nothing():
    return "an environment"


def narrow():
    return make()._replace(obs_dim=OBS + 1)


def restless():
    """Its step returns a state of another kind than its reset."""

    def step(state, action):
        out = _step(state, action)
        return out._replace(state=(out.state, out.state))

    return make()._replace(step=step)


def whole():
    """Whole numbers for costs."""

    def step(state, action):
        out = _step(state, action)
        return out._replace(cost=out.cost.astype(jnp.int32))

    return make()._replace(step=step)


def broken():
    return make()._replace(reset=lambda key: float(jax.random.normal(key)))


def raising():
    raise ValueError("two\nlines")


def needy(argument):
    return argument


def endless():
    return make()._replace(episode_steps=0)


def halved():
    return make()._replace(episode_steps=2.5)


def lost():
    """Its observations are not numbers any more after some steps."""

    def step(state, action):
        out = _step(state, action)
        obs = jnp.where(state[0] > 0, out.obs, jnp.nan)
        return out._replace(obs=obs)

    return make()._replace(step=step)


def leaning(env, key):
    """A behaviour to record: to a side of each episode's own."""
    side = jax.random.uniform(key, (env.action_dim,), minval=-1.0)
    return lambda obs, key: side + 0.1 * jax.random.normal(key, side.shape)


def forgotten(monkeypatch):
    """Body of a fixture: registrations of a test are undone after it."""
    monkeypatch.setattr(tasks, "TASKS", dict(tasks.TASKS))
    monkeypatch.setattr(imports, "MODULES", [])
    yield
    named._make.cache_clear()
    named._limited.cache_clear()
