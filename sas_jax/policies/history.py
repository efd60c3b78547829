"""Step functions for a policy that knows nothing but whole histories.

Such a policy is one pure function of what has happened so far; `from_history_policy`
keeps the last K steps and the prompt in a buffer and hands it the whole of it at every
step. That costs a full pass a step where a model with a memory of its own pays for one,
but nothing has to be known about the model. What lies further back than K steps is
forgotten, through the policy's layers too.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from sas_jax.alignment.sequence_model import (
    Observed,
    Prompt,
    SequenceModel,
    step_output,
)
from sas_jax.errors import UserError
from sas_jax.gaussian import action_log_prob, gaussian_log_prob, normal_rows
from sas_jax.policies.foreign import look_at
from sas_jax.types import Key, Params, StepOutput, Trajectory


@struct.dataclass
class HistoryState:
    """P trajectories and their last K - 1 steps, oldest first.

    past: `[P, K-1]`; its reward and cost are not used. The rest as in `ModelState`.
    """

    past: Trajectory
    timestep: jax.Array
    obs: jax.Array
    return_to_go: jax.Array
    cost_to_go: jax.Array
    window: jax.Array
    log_density: jax.Array


def _no_outcome(variables, obs, action, next_obs):
    """No reward and no cost."""
    return jnp.zeros(()), jnp.zeros(())


def from_history_policy(
    policy: Callable[..., tuple[jax.Array, jax.Array]],
    dynamics: Callable[..., tuple[jax.Array, jax.Array]],
    **settings: Any,
) -> SequenceModel:
    """A `SequenceModel` out of functions of one trajectory; see `HistoryPolicy`."""
    return HistoryPolicy(policy, dynamics, **settings).sequence_model()


@dataclasses.dataclass(frozen=True, eq=False)
class HistoryPolicy:
    """The functions of a `SequenceModel` for a policy of whole histories.

    policy: (variables, history, mask) -> mean, log_std `[A]` of a Gaussian; actions are
      clipped to [-1, 1] when executed. history is a `Trajectory` of n steps: the
      prompt's, then those of the episode, oldest first; the last one is the present,
      without an action yet. mask `[n]` bool says which of them exist.
    dynamics: (variables, history, mask, action) -> mean, log_std `[O]` of the next
      observation, a Gaussian.
    context: K, steps of the episode in sight, the present one included.
    prompt_steps: steps of a whole prompt (fragments x L). It takes as many steps of the
      context where prompt_place is "pinned", and none where it is "beside".
    outcome: (variables, obs, action, next_obs) -> reward, cost of an imagined step.
    density: (variables, obs) -> log rho of an observation under the data; left out, the
      dynamics' own density, and 0 for an episode's first observation.
    is_censored: how actions at a bound are scored; see `SequenceModel`.
    obs_dim: O; given, a policy made of it checks the functions' shapes at once.

    Functions of numpy arrays (torch's, for instance) become such ones by `from_host`.

    Raises:
      UserError: a prompt that leaves no room in the context, or another place.
    """

    policy: Callable[..., tuple[jax.Array, jax.Array]]
    dynamics: Callable[..., tuple[jax.Array, jax.Array]]
    _: dataclasses.KW_ONLY
    action_dim: int
    context: int
    prompt_steps: int
    prompt_place: str = "pinned"
    outcome: Callable[..., tuple[jax.Array, jax.Array]] = _no_outcome
    density: Callable[..., jax.Array] | None = None
    is_censored: bool = False
    obs_dim: int | None = None

    def __post_init__(self) -> None:
        if self.prompt_place not in ("pinned", "beside"):
            raise UserError(
                f"prompt_place {self.prompt_place!r}: expected pinned or beside for a "
                "policy of whole histories"
            )
        if self.takes_room and self.prompt_steps >= self.context:
            raise UserError(
                f"prompt_steps: a prompt of {self.prompt_steps} steps leaves no room "
                f"in a context of {self.context} steps; shorten it or set "
                "prompt_place=beside"
            )

    @property
    def takes_room(self) -> bool:
        """Whether a prompt takes as many steps of the context as it is long."""
        return self.prompt_place == "pinned"

    def sequence_model(self) -> SequenceModel:
        """These functions as alignment and imagination see them."""
        room = self.prompt_steps if self.takes_room else 0
        return SequenceModel(
            encode_prompt=self.encode_prompt,
            start=self.start,
            step=self.step,
            observe=self.observe,
            commit=self.commit,
            context=self.context,
            prompt_window=self.context - room,
            foresee=self.foresee,
            score=self.score,
            first_density_differs=self.density is None,
            # Without rewards and costs there is nothing to plan by.
            advance=None if self.outcome is _no_outcome else self.advance,
            action_dim=self.action_dim,
            is_censored=self.is_censored,
            obs_dim=self.obs_dim,
            check=self.check,
        )

    def check(self, variables: Params, obs_dim: int) -> None:
        """Traces the four functions for observations of a size; runs nothing.

        Raises:
          UserError: one of them raises, or returns another number of arrays or other
            shapes than its place asks for; names it.
        """
        steps, sizes = self.context + self.prompt_steps, (obs_dim, self.action_dim)

        def like(*shape: int, dtype: Any = jnp.float32) -> Any:
            return jax.ShapeDtypeStruct(shape, dtype)

        obs, action = (like(size) for size in sizes)
        history = Trajectory(
            obs=like(steps, obs_dim),
            action=like(steps, self.action_dim),
            reward=like(steps),
            cost=like(steps),
            return_to_go=like(steps),
            cost_to_go=like(steps),
            timestep=like(steps, dtype=jnp.int32),
            is_valid=like(steps, dtype=bool),
        )
        seen = (history, history.is_valid)
        gaussian = ("mean", "log_std")
        functions: dict[str, tuple[tuple[Any, ...], dict[str, tuple]]] = {
            "policy": (seen, {name: (self.action_dim,) for name in gaussian}),
            "dynamics": ((*seen, action), {name: (obs_dim,) for name in gaussian}),
            "outcome": ((obs, action, obs), {"reward": (), "cost": ()}),
        }
        if self.density is not None:
            functions["density"] = ((obs,), {"density": ()})
        for name, (arguments, expected) in functions.items():
            look_at(name, getattr(self, name), (variables, *arguments), expected)

    def _present(self, state: HistoryState) -> Trajectory:
        """The step that is about to be made, `[P, 1]`."""
        count = state.timestep.shape[0]
        zeros = jnp.zeros((count, 1))
        return Trajectory(
            obs=state.obs[:, None],
            action=jnp.zeros((count, 1, self.action_dim)),
            reward=zeros,
            cost=zeros,
            return_to_go=state.return_to_go[:, None],
            cost_to_go=state.cost_to_go[:, None],
            timestep=state.timestep[:, None],
            is_valid=jnp.ones((count, 1), bool),
        )

    def _in_sight(self, state, prompt):
        """History `[P, n]` and mask `[P, n]` as the policy reads them."""
        count = state.timestep.shape[0]
        history = _joined(state.past, self._present(state))
        last = jnp.zeros((count, 1))
        # A step's reward and cost are what its tokens lost until the next one.
        reward, cost = (
            jnp.concatenate([token[:, :-1] - token[:, 1:], last], axis=1)
            for token in (history.return_to_go, history.cost_to_go)
        )
        age = jnp.arange(self.context)[::-1]
        limit = jnp.minimum(state.timestep, state.window - 1)
        mask = age[None, :] <= limit[:, None]
        history = dataclasses.replace(history, reward=reward, cost=cost, is_valid=mask)
        if prompt is None:
            return history, mask
        steps = prompt.segment
        if steps.reward.ndim == 1:  # one prompt for all
            steps = jax.tree.map(
                lambda x: jnp.broadcast_to(x[None], (count, *x.shape)), steps
            )
        shown = jnp.broadcast_to(prompt.is_present, (count,))[:, None]
        shown = jnp.broadcast_to(shown, steps.reward.shape)
        return _joined(steps, history), jnp.concatenate([shown, mask], axis=1)

    def encode_prompt(
        self, variables: Params, segment: Trajectory, is_present: jax.Array
    ) -> Prompt:
        """The segment itself: there is no memory to compute."""
        del variables
        return Prompt(segment=segment, memory=(), is_present=is_present)

    def start(
        self,
        variables: Params,
        keys: Key,
        obs: jax.Array,
        return_to_go: jax.Array,
        cost_to_go: jax.Array,
        window: jax.Array,
    ) -> HistoryState:
        """P trajectories at their first observation `[P, O]`."""
        count = obs.shape[0]
        empty = jnp.zeros((count, self.context - 1))
        past = Trajectory(
            obs=jnp.zeros((count, self.context - 1, obs.shape[1])),
            action=jnp.zeros((count, self.context - 1, self.action_dim)),
            reward=empty,
            cost=empty,
            return_to_go=empty,
            cost_to_go=empty,
            timestep=jnp.zeros((count, self.context - 1), jnp.int32),
            is_valid=empty > 0,
        )
        first = jnp.zeros(count)
        if self.density is not None:
            first = self.score(variables, keys, None, obs)
        return HistoryState(
            past=past,
            timestep=jnp.zeros(count, jnp.int32),
            obs=jnp.asarray(obs, jnp.float32),
            return_to_go=jnp.asarray(return_to_go, jnp.float32),
            cost_to_go=jnp.asarray(cost_to_go, jnp.float32),
            window=jnp.broadcast_to(jnp.asarray(window, jnp.int32), (count,)),
            log_density=first,
        )

    def observe(
        self, variables: Params, state: HistoryState, prompt: Prompt | None
    ) -> Observed:
        """The policy's distribution at the present state."""
        history, mask = self._in_sight(state, prompt)
        mean, log_std = jax.vmap(self.policy, (None, 0, 0))(variables, history, mask)
        return Observed(mean=mean, log_std=log_std, ring=(), pending=())

    def commit(
        self,
        variables: Params,
        state: HistoryState,
        observed: Observed,
        action: jax.Array,
        prompt: Prompt | None,
    ) -> HistoryState:
        """The state with the step remembered; its action is `[P, A]`."""
        del variables, observed, prompt
        made = dataclasses.replace(self._present(state), action=action[:, None])
        past = _joined(jax.tree.map(lambda x: x[:, 1:], state.past), made)
        return dataclasses.replace(state, past=past, timestep=state.timestep + 1)

    def foresee(
        self,
        variables: Params,
        state: HistoryState,
        observed: Observed,
        action: jax.Array,
        prompt: Prompt | None,
    ) -> tuple[HistoryState, Any]:
        """As `commit`, and the dynamics' Gaussian of the next observation."""
        history, mask = self._in_sight(state, prompt)
        prediction = jax.vmap(self.dynamics, (None, 0, 0, 0))(
            variables, history, mask, action
        )
        return self.commit(variables, state, observed, action, prompt), prediction

    def score(
        self, variables: Params, keys: Key, prediction: Any, obs: jax.Array
    ) -> jax.Array:
        """`[P]` log-density of an observation `[P, O]`."""
        del keys
        if self.density is not None:
            return jax.vmap(self.density, (None, 0))(variables, obs)
        return gaussian_log_prob(obs, *prediction).sum(-1)

    def step(
        self, variables: Params, keys: Key, state: HistoryState, prompt: Prompt | None
    ) -> tuple[StepOutput, HistoryState]:
        """Imagines one step of P trajectories."""
        action_noise, obs_noise = self._draw(keys, state)
        observed = self.observe(variables, state, prompt)
        sample = observed.mean + jnp.exp(observed.log_std) * action_noise
        action = jnp.clip(sample, -1.0, 1.0)
        output, after = self._imagined(
            variables, keys, state, observed, action, prompt, obs_noise
        )
        log_prob = self._log_prob(observed, action)
        return dataclasses.replace(output, log_prob=log_prob), after

    def advance(
        self,
        variables: Params,
        keys: Key,
        state: HistoryState,
        observed: Observed,
        action: jax.Array,
        prompt: Prompt | None,
        noise: jax.Array,
    ) -> tuple[StepOutput, HistoryState]:
        """Imagines one step under the action `[P, A]`; see `SequenceModel`."""
        obs_noise = noise * self._draw(keys, state)[1]
        output, after = self._imagined(
            variables, keys, state, observed, action, prompt, obs_noise
        )
        log_prob = self._log_prob(observed, action)
        return dataclasses.replace(output, log_prob=log_prob), after

    def _log_prob(self, observed: Observed, action: jax.Array) -> jax.Array:
        """log pi `[P]` of executed actions `[P, A]`."""
        mean, log_std = observed.mean, observed.log_std
        return action_log_prob(action, mean, log_std, is_censored=self.is_censored)

    def _draw(self, keys: Key, state: HistoryState) -> list[jax.Array]:
        """One step's standard normal draws: action `[P, A]`, observation `[P, O]`."""
        keys = jax.vmap(jax.random.fold_in)(keys, state.timestep)
        noise = normal_rows(keys, (self.action_dim + state.obs.shape[1],))
        return jnp.split(noise, [self.action_dim], axis=1)

    def _imagined(self, variables, keys, state, observed, action, prompt, obs_noise):
        """What follows an action: the step without `log_prob`, and the next state."""
        after, prediction = self.foresee(variables, state, observed, action, prompt)
        obs = prediction[0] + jnp.exp(prediction[1]) * obs_noise
        reward, cost = jax.vmap(self.outcome, (None, 0, 0, 0))(
            variables, state.obs, action, obs
        )
        keys = jax.vmap(jax.random.fold_in)(keys, state.timestep)
        output = step_output(state, state.obs, action, reward, cost)
        return output, dataclasses.replace(
            after,
            obs=obs,
            return_to_go=state.return_to_go - reward,
            cost_to_go=state.cost_to_go - cost,
            log_density=self.score(variables, keys, prediction, obs),
        )


def _joined(first: Trajectory, second: Trajectory) -> Trajectory:
    """Two stretches `[P, ...]` one after the other along time."""
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), first, second)
