"""A policy that a prompt moves by a known amount; observations are expected to stay."""

import jax.numpy as jnp
from flax import struct

from sas_jax.alignment.sequence_model import Observed, Prompt, SequenceModel

SHIFT, SCALE = 0.25, 0.4


@struct.dataclass
class State:
    """`[P]` each but obs `[P, 1]`; what a model's state must hold."""

    obs: jnp.ndarray
    timestep: jnp.ndarray
    return_to_go: jnp.ndarray
    cost_to_go: jnp.ndarray
    window: jnp.ndarray
    log_density: jnp.ndarray


def start(variables, keys, obs, return_to_go, cost_to_go, window):
    count = obs.shape[0]
    zeros = jnp.zeros(count, jnp.int32)
    window = jnp.full(count, window, jnp.int32)
    density = -0.5 * jnp.asarray(obs)[:, 0] ** 2
    return State(jnp.asarray(obs), zeros, return_to_go, cost_to_go, window, density)


def observe(variables, state, prompt):
    mean = 0.1 * state.obs + 0.01 * state.return_to_go[:, None]
    if prompt is not None:
        present = jnp.broadcast_to(prompt.is_present, mean.shape[:1])
        mean = mean + SHIFT * present[:, None]
    log_std = jnp.full_like(mean, jnp.log(SCALE))
    return Observed(mean=mean, log_std=log_std, ring=(), pending=())


def commit(variables, state, observed, action, prompt):
    return state.replace(timestep=state.timestep + 1)


def foresee(variables, state, observed, action, prompt):
    return commit(variables, state, observed, action, prompt), state.obs


def score(variables, keys, prediction, obs):
    return -0.5 * jnp.sum((obs - prediction) ** 2, axis=-1)


MODEL = SequenceModel(
    encode_prompt=None,
    start=start,
    step=None,
    observe=observe,
    commit=commit,
    context=8,
    prompt_window=5,
    foresee=foresee,
    score=score,
)
# For two rows: the first has a prompt.
PROMPT = Prompt(segment=(), memory=(), is_present=jnp.array([True, False]))
