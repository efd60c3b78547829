"""A sequence policy that is not ours: a noisy line with exact densities.

The policy walks x' = 0.8 x + a with Gaussian actions; a prompt pulls it towards the
prompt's mean. It has no transformer, no flax and no trained weights.
"""

import math

import jax
import jax.numpy as jnp
from flax import struct

from sas_jax.alignment.sequence_model import Prompt, SequenceModel
from sas_jax.types import StepOutput

LENGTH = 3  # steps of a prompt


@struct.dataclass
class LineState:
    x: jax.Array  # [P]
    timestep: jax.Array  # [P]
    log_density: jax.Array  # [P], that of `x` anyway
    window: jax.Array  # [P]
    return_to_go: jax.Array  # [P]
    cost_to_go: jax.Array  # [P]
    has_room: jax.Array  # [P] bool, set by make_room
    born: jax.Array  # scalar, common to all


def pull_of(prompt, count):
    """`[P]`: the prompt's mean position, 0 without one."""
    if prompt is None:
        return jnp.zeros(count)
    pull = jnp.where(prompt.is_present, prompt.memory["mean"], 0.0)
    return jnp.broadcast_to(pull, (count,))


def encode_prompt(variables, segment, is_present):
    assert segment.obs.shape[0] % LENGTH == 0 and segment.obs.ndim == 2
    return Prompt(
        segment=segment, memory={"mean": segment.obs.mean()}, is_present=is_present
    )


def step(variables, keys, state, prompt):
    """The cost is the pull the step felt, so that tests see what it was given."""
    pull = pull_of(prompt, state.x.shape[0])
    keys = jax.vmap(jax.random.fold_in)(keys, state.timestep)
    noise = jax.vmap(jax.random.normal)(keys)
    action = 0.3 * pull + noise
    # Beyond `edge` nothing is a number any more.
    x = jnp.where(state.x > variables["edge"], jnp.nan, state.x)
    output = StepOutput(
        obs=x[:, None],
        action=action[:, None],
        reward=jnp.zeros_like(pull),
        cost=pull,
        return_to_go=state.has_room.astype(jnp.float32),
        cost_to_go=x,
        timestep=state.timestep,
        log_density=-0.5 * x**2,
        log_prob=-0.5 * noise**2 - 0.5 * math.log(2 * math.pi),
    )
    return output, state.replace(x=0.8 * x + action, timestep=state.timestep + 1)


def start(variables, keys, obs, return_to_go, cost_to_go, window):
    count = obs.shape[0]
    return LineState(
        x=obs[:, 0],
        timestep=jnp.zeros(count, jnp.int32),
        log_density=-0.5 * obs[:, 0] ** 2,
        window=jnp.full(count, window),
        return_to_go=return_to_go,
        cost_to_go=cost_to_go,
        has_room=jnp.zeros(count, bool),
        born=jnp.zeros((), jnp.int32),
    )


MODEL = SequenceModel(
    encode_prompt=encode_prompt,
    start=start,
    step=step,
    observe=None,
    commit=None,
    make_room=lambda state, _: state.replace(has_room=jnp.ones_like(state.has_room)),
    standardise=lambda obs: obs,
    context=10,
    prompt_window=7,
)


def state_at(x):
    return LineState(
        x=jnp.full(1, x, jnp.float32),
        timestep=jnp.zeros(1, jnp.int32),
        log_density=jnp.zeros(1),
        window=jnp.full(1, 10),
        return_to_go=jnp.zeros(1),
        cost_to_go=jnp.zeros(1),
        has_room=jnp.zeros(1, bool),
        born=jnp.zeros((), jnp.int32),
    )
