"""Shared data types. No logic.

Shape letters used in all docstrings: `B` batch, `N` first-loop candidates, `M`
second-loop candidates, `P` parallel trajectories (any of them), `T` time steps, `W` row
length in steps, `K` context in steps, `L` prompt length in steps, `O` observation size,
`A` action size, `D` model width, `H` attention heads, `h` head size, `E` episodes, `S`
steps of a data set, `R` rows of any table, `U` lanes of a training.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import struct

# On the device, or still on the host.
Array = jax.Array | np.ndarray
Key = jax.Array
Params = Any
Metrics = dict[str, jax.Array]

# The cost-to-go of somebody who has no limit.
NO_LIMIT = math.inf


@struct.dataclass
class Trajectory:
    """Steps of an episode, real or imagined. Leading axes are free, e.g. `[N, T]`.

    obs: `[..., T, O]` observations in the environment's units.
    action: `[..., T, A]` actions as executed (inside the box).
    reward: `[..., T]` reward of the step.
    cost: `[..., T]` cost of the step; a probability where it is predicted.
    return_to_go: `[..., T]` the return token the step was conditioned on.
    cost_to_go: `[..., T]` the cost token, or `NO_LIMIT`; ignored by models without cost
      tokens.
    timestep: `[..., T]` int32, absolute within the episode, from 0.
    is_valid: `[..., T]` bool, False on padding.
    """

    obs: jax.Array
    action: jax.Array
    reward: jax.Array
    cost: jax.Array
    return_to_go: jax.Array
    cost_to_go: jax.Array
    timestep: jax.Array
    is_valid: jax.Array


@struct.dataclass
class TimeStep:
    """What an agent may see before it acts, batched over environments.

    obs: `[B, O]`; reward, cost: `[B]` of the step just made (0 where is_first);
    is_first: `[B]` bool, the observation starts an episode.
    is_running: `[B]` bool, False after an episode's end; None means that all run.
    """

    obs: Array
    reward: Array
    cost: Array
    is_first: Array
    is_running: Array | None = None


@struct.dataclass
class Rows:
    """The episodes that one batched run consists of, one per row.

    Rows come variant by variant, as many of each: row `v * E + e` is episode e.

    cost_limit: `[B]` cost threshold of the episode.
    episode_seed: `[B]` uint32; fixes the layout and every random draw of the agent.
    target_return: `[B]` return token at the start; None means the policy's own.
    """

    cost_limit: Array
    episode_seed: Array
    target_return: Array | None = None


@struct.dataclass
class PromptRows:
    """Prompts of training rows, `L` steps a row, in model units.

    obs `[B, L, O]`, action `[B, L, A]`, and `[B, L]` return_to_go, cost_to_go and
    timestep (absolute, as in the episode). is_present: `[B]` bool; the other rows see
    no prompt. window: static, steps that rows with a prompt have in sight.
    """

    obs: jax.Array
    action: jax.Array
    return_to_go: jax.Array
    cost_to_go: jax.Array
    timestep: jax.Array
    is_present: jax.Array
    window: int = struct.field(pytree_node=False)


@struct.dataclass
class LoneSteps:
    """Steps drawn alike from all the data, each on its own: next_obs `[S, O]`
    standardised, where it led; cost `[S]` in {0, 1}.
    """

    next_obs: jax.Array
    cost: jax.Array


@struct.dataclass
class Batch:
    """Training rows of `W` consecutive steps; model units, padding last.

    obs: `[B, W + 1, O]` standardised; the entry after a row's last step is its next
      state. action `[B, W, A]`. return_to_go, cost_to_go: `[B, W + 1]` scaled.
    cost: `[B, W]` in {0, 1}: the step had a cost. timestep: `[B, W]` int32.
    is_valid: `[B, W]` bool. prompt: segments that the rows have in sight, or None.
    lone: further steps, for what rows of neighbours teach badly, or None.
    """

    obs: jax.Array
    action: jax.Array
    return_to_go: jax.Array
    cost_to_go: jax.Array
    cost: jax.Array
    timestep: jax.Array
    is_valid: jax.Array
    prompt: PromptRows | None = None
    lone: LoneSteps | None = None


@struct.dataclass
class TransitionBatch:
    """`B` single steps, for learners without a sequence; observations standardised.

    obs `[B, O]`, action `[B, A]` as executed, reward and cost `[B]`; next_obs `[B, O]`
    is where the step led, at an episode's end too. is_terminal: `[B]` bool, the
    environment ended the episode. is_timeout: `[B]` bool, the recording ended, and the
    state that follows has a value like any other.
    """

    obs: jax.Array
    action: jax.Array
    reward: jax.Array
    cost: jax.Array
    next_obs: jax.Array
    is_terminal: jax.Array
    is_timeout: jax.Array

    @property
    def bootstrap(self) -> jax.Array:
        """`[B]` weight of the next state's value in a target: 0 where terminal."""
        return 1.0 - self.is_terminal


@struct.dataclass
class StepOutput:
    """One imagined step of `P` trajectories; what scoring and prompting need.

    obs `[P, O]`, action `[P, A]`, and `[P]` reward, cost, return_to_go, cost_to_go and
    timestep as in `Trajectory`; log_density `[P]` log rho(s_t) in standardised units,
    log_prob `[P]` log pi(a_t | s_t, z_t) of the action as executed.
    """

    obs: jax.Array
    action: jax.Array
    reward: jax.Array
    cost: jax.Array
    return_to_go: jax.Array
    cost_to_go: jax.Array
    timestep: jax.Array
    log_density: jax.Array
    log_prob: jax.Array


@struct.dataclass
class TrainState:
    """Everything a training step reads and writes.

    extra holds what the optimiser must not touch: the decoders' closed-form variances,
    and under "temperature" the entropy term's weight where there is one.
    """

    step: jax.Array
    key: Key
    params: Params
    opt_state: Any
    extra: Any


class Learner(NamedTuple):
    """The training half of an algorithm, as pure functions; `fit` knows nothing else.

    init(key, cost_limit `[]`) -> TrainState. The limit is the lane's of
        `TrainConfig.lanes`, NaN where an algorithm does not train by threshold.
    sample(data, key, state) -> batch: `data` as `Algorithm.to_device` made them.
    update(state, batch) -> (state, metrics): unjitted, vmappable over lanes. Training
        stops where the metric "loss" or "gradient_norm" is not finite.
    validate(state, batch, key) -> metrics of a held-out batch; state stays as it is.
    """

    init: Callable[..., TrainState]
    sample: Callable[..., Any]
    update: Callable[..., tuple[TrainState, Metrics]]
    validate: Callable[..., Metrics]


class Policy(NamedTuple):
    """The acting half of an algorithm; loops never ask which one they drive.

    `variables` is what `Algorithm.variables_of` reads of a training state.

    initial_carry(variables, rows, key) -> carry: the agent's memory for the rows of
        `Rows`, which come variant by variant. Leaves of a carry have the rows as their
        leading axis, or are scalars common to all; () where there is no memory.
    begin(variables, carry, timestep, key) -> carry: called when episodes start; where
        SAS imagines and chooses. Identity for most.
    act(variables, carry, timestep, key) -> (action [B, A], carry); any part of the
        rows may be given.
    diagnostics(carry) -> dict of `[B, ...]` arrays, per episode (may be empty).
    narrow(carry, variant) -> the carry of rows of that one variant, a static index,
        without what it has no use for; left out, the carry as it is.
    mean_action(variables, carry, timestep) -> `[B, A]`: what it would do about an
        observation, without noise and plans, differentiable in `timestep.obs`; the
        surrogate of attacks. None: it cannot be attacked.
    """

    initial_carry: Callable[..., Any]
    begin: Callable[..., Any]
    act: Callable[..., tuple[jax.Array, Any]]
    diagnostics: Callable[..., dict[str, jax.Array]] = lambda carry: {}
    narrow: Callable[[Any, int], Any] = lambda carry, variant: carry
    mean_action: Callable[..., jax.Array] | None = None
