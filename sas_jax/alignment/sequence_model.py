"""The seam between networks and algorithms: what SAS needs of a sequence policy.

Alignment and imagination see the functions of `SequenceModel` only, so they work with
any model that offers them: our transformer (`stepping`), a policy that knows nothing
but whole histories (`history_model`), or one written by hand.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from sas_jax.shapes import expect_shape
from sas_jax.types import StepOutput, Trajectory


@struct.dataclass
class Prompt:
    """A segment given as context, and its memory, computed once and only read.

    segment: `[..., L]` trajectory it was made of, environment units.
    memory: `[..., H, slots, h]`, or without leading axes when all trajectories share
      it; another model's may be any arrays.
    is_present: `[...]` bool; False is the empty prompt.
    origin: `[...]` int32 time step at which the prompt was put in front; None means 0.
    """

    segment: Trajectory
    memory: Any
    is_present: jax.Array
    origin: jax.Array | None = None


@struct.dataclass
class ModelState:
    """What a trajectory is about to do next: its memory and its present tokens.

    ring: memory of K - 1 steps, `[P, H, (K-1) n, h]`, up to the one before the latest.
    latest: memory of the latest step, `[P, H, n, h]`, which the next step writes to the
      ring before it reads: a ring that is read and then written within one step would
      be copied whole by XLA, twice.
    cursor: int32 scalar, steps remembered so far, common to all.
    timestep: `[P]` int32. obs: `[P, O]` standardised.
    return_to_go, cost_to_go: `[P]` environment units.
    window: `[P]` int32, steps in sight including the present one, at most K.
    log_density: `[P]` log rho of `obs`.
    previous: `[P, O]` the observation before `obs`, if there was one.
    """

    ring: Any
    latest: Any
    cursor: jax.Array
    timestep: jax.Array
    obs: jax.Array
    return_to_go: jax.Array
    cost_to_go: jax.Array
    window: jax.Array
    log_density: jax.Array
    previous: Any = None


@struct.dataclass
class Observed:
    """After the state token.

    mean, log_std: `[P, A]` the policy's distribution. ring: the ring with the latest
    step in it. pending: memory of the tokens that came with the state.
    """

    mean: jax.Array
    log_std: jax.Array
    ring: Any
    pending: Any


class SequenceModel(NamedTuple):
    """What SAS needs of a sequence policy; all functions are pure.

    A model's state is a flax struct, or anything with `replace`, of at least the fields
    timestep, obs, return_to_go, cost_to_go, window and log_density of `ModelState`.

    encode_prompt(variables, segment, is_present) -> Prompt, for one segment `[L]`.
    start(variables, keys, obs, return_to_go, cost_to_go, window) -> ModelState of P
      trajectories at their first observation (environment units).
    step(variables, keys, state, prompt) -> (StepOutput, ModelState): imagines one step;
      keys `[P]`, prompt shared by all P or None.
    observe(variables, state, prompt) -> Observed: the policy at the present state;
      mean and log_std are what is read of it.
    commit(variables, state, observed, action, prompt) -> ModelState with the step
      remembered and the time step advanced; obs and tokens are the caller's to set.
    context: K. prompt_window: steps of the episode in sight beside the whole prompt; K
      where a prompt takes no room.

    May be left out:
    first_density_differs: the log_density of `start` is of another kind than that of
      later steps (a marginal beside transitions), so that they cannot be compared.
    make_room(state, steps) -> ModelState whose window leaves room for a prompt of that
      many steps; left out, it lowers `window` to K - steps where a prompt takes room.
    standardise(obs) -> obs in the model's units, those of `ModelState.obs`.
    foresee(variables, state, observed, action, prompt) -> (ModelState, prediction): as
      `commit`, and what the model says of the next observation. Drift needs it, and
    advance(variables, keys, state, observed, action, prompt, noise) -> (StepOutput,
      ModelState): imagines one step under an action that was given; `noise` scales the
      world's own draws. Planning needs it, and
    action_dim: A.
    score(variables, keys, prediction, obs) -> `[P]` log rho of that observation
      (environment units), as imagination would have scored it.
    obs_dim: O, the size of an observation; left out, any size is tried.
    is_censored: log pi of an action at a bound is the probability of all that is
      clipped to it; see `gaussian.action_log_prob`.
    check(variables, obs_dim): raises UserError where a function that the model was made
      of returns another shape than expected; runs nothing.
    """

    encode_prompt: Callable[..., Prompt]
    start: Callable[..., Any]
    step: Callable[..., tuple[StepOutput, Any]]
    observe: Callable[..., Observed]
    commit: Callable[..., Any]
    context: int
    prompt_window: int
    make_room: Callable[..., Any] | None = None
    standardise: Callable[[jax.Array], jax.Array] = lambda obs: obs
    foresee: Callable[..., tuple[Any, Any]] | None = None
    score: Callable[..., jax.Array] | None = None
    obs_dim: int | None = None
    first_density_differs: bool = False
    advance: Callable[..., tuple[StepOutput, Any]] | None = None
    action_dim: int | None = None
    is_censored: bool = False
    check: Callable[[Any, int], None] | None = None


def step_output(
    state: Any, obs: jax.Array, action: jax.Array, reward: jax.Array, cost: jax.Array
) -> StepOutput:
    """The step that is made from a state; its `log_prob` is 0 until somebody says it.

    obs: `[P, O]` the state's own, environment units. action: `[P, A]`. reward, cost:
    `[P]`.
    """
    return StepOutput(
        obs=obs,
        action=action,
        reward=reward,
        cost=cost,
        return_to_go=state.return_to_go,
        cost_to_go=state.cost_to_go,
        timestep=state.timestep,
        log_density=state.log_density,
        log_prob=jnp.zeros_like(cost),
    )


def window_beside(model: SequenceModel, steps: int) -> int:
    """Steps of the episode that the model sees beside a prompt of `steps` steps."""
    takes_room = model.prompt_window < model.context
    return model.context - steps if takes_room else model.context


def make_room(model: SequenceModel, state: Any, steps: int) -> Any:
    """The state with a window that leaves room for a prompt of `steps` steps."""
    if model.make_room is not None:
        return model.make_room(state, steps)
    window = jnp.minimum(state.window, window_beside(model, steps))
    return state.replace(window=window)


def checked(model: SequenceModel) -> SequenceModel:
    """The model, its functions telling when they return what nobody can use.

    Shapes are known when a program is traced: a look at them costs nothing later.
    """
    if getattr(model.step, "is_checked", False):
        return model

    def rows(function, count, **values):
        for name, value in values.items():
            expect_shape(function, name, value, count)

    def wrapped(name, look):
        function = getattr(model, name)
        if function is None:
            return None

        @functools.wraps(function)
        def call(*arguments):
            found = function(*arguments)
            look(found, *arguments)
            return found

        call.is_checked = True  # type: ignore[attr-defined]
        return call

    def look_at_start(state, variables, keys, obs, *_):
        rows("start", obs.shape[0], log_density=state.log_density)
        rows("start", obs.shape[0], timestep=state.timestep, window=state.window)

    def look_at_step(found, variables, keys, state, prompt):
        output, after = found
        count = keys.shape[0]
        for name in ("obs", "action"):
            expect_shape("step", name, getattr(output, name), count, None)
        for name in ("reward", "cost", "log_density", "log_prob", "timestep"):
            expect_shape("step", name, getattr(output, name), count)
        rows("step", count, timestep=after.timestep)

    def look_at_observed(observed, variables, state, prompt):
        count = state.timestep.shape[0]
        expect_shape("observe", "mean", observed.mean, count, None)
        expect_shape("observe", "log_std", observed.log_std, *observed.mean.shape)

    def look_at_commit(after, variables, state, *_):
        rows("commit", state.timestep.shape[0], timestep=after.timestep)

    def look_at_foreseen(found, variables, state, *_):
        rows("foresee", state.timestep.shape[0], timestep=found[0].timestep)

    def look_at_score(density, variables, keys, prediction, obs):
        rows("score", obs.shape[0], log_density=density)

    return model._replace(
        start=wrapped("start", look_at_start),
        step=wrapped("step", look_at_step),
        observe=wrapped("observe", look_at_observed),
        commit=wrapped("commit", look_at_commit),
        foresee=wrapped("foresee", look_at_foreseen),
        score=wrapped("score", look_at_score),
    )
