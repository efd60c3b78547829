"""A sequence policy that is not ours: a noisy line with exact densities.

The policy walks x' = 0.8 x + a with Gaussian actions; a prompt pulls it towards the
prompt's mean. It has no transformer, no flax and no trained weights.
"""

import math

import jax
import jax.numpy as jnp
from flax import struct

from sas_jax.seam import Prompt, SequenceModel
from sas_jax.types import StepOutput

LENGTH = 3  # steps of a prompt


@struct.dataclass
class LineState:
    x: jax.Array  # [P]
    t: jax.Array  # [P]
    has_room: jax.Array  # [P] bool, set by make_room
    born: jax.Array  # scalar, common to all


def pull_of(prompt, count):
    """`[P]`: the prompt's mean position, 0 without one."""
    if prompt is None:
        return jnp.zeros(count)
    pull = jnp.where(prompt.is_present, prompt.memory["mean"], 0.0)
    return jnp.broadcast_to(pull, (count,))


def encode_prompt(variables, segment, is_present):
    assert segment.obs.shape == (LENGTH, 1)
    return Prompt(
        segment=segment, memory={"mean": segment.obs.mean()}, is_present=is_present
    )


def step(variables, keys, state, prompt):
    """The cost is the pull the step felt, so that tests see what it was given."""
    pull = pull_of(prompt, state.x.shape[0])
    keys = jax.vmap(jax.random.fold_in)(keys, state.t)
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
        timestep=state.t,
        log_density=-0.5 * x**2,
        log_prob=-0.5 * noise**2 - 0.5 * math.log(2 * math.pi),
    )
    return output, state.replace(x=0.8 * x + action, t=state.t + 1)


MODEL = SequenceModel(
    encode_prompt=encode_prompt,
    start=None,
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
        t=jnp.zeros(1, jnp.int32),
        has_room=jnp.zeros(1, bool),
        born=jnp.zeros((), jnp.int32),
    )
