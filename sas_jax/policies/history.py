"""Step functions for a policy that knows nothing but whole histories.

Such a policy is one pure function of what has happened so far; `from_history_policy`
keeps the last K steps and the prompt in a buffer and hands it the whole of it at every
step. That costs a full pass a step where a model with a memory of its own pays for one,
but nothing has to be known about the model. What lies further back than K steps is
forgotten, through the policy's layers too.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from sas_jax.alignment.sequence_model import Observed, Prompt, SequenceModel
from sas_jax.errors import UserError
from sas_jax.gaussian import gaussian_log_prob, normal_rows
from sas_jax.types import StepOutput, Trajectory


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
    *,
    action_dim: int,
    context: int,
    prompt_steps: int,
    prompt_place: str = "pinned",
    outcome: Callable[..., tuple[jax.Array, jax.Array]] = _no_outcome,
    density: Callable[..., jax.Array] | None = None,
) -> SequenceModel:
    """Builds a `SequenceModel` out of functions of one trajectory.

    Args:
      policy: (variables, history, mask) -> mean, log_std `[A]` of a Gaussian; actions
        are clipped to [-1, 1] when executed. history is a `Trajectory` of S steps: the
        prompt's, then those of the episode, oldest first; the last one is the present,
        without an action yet. mask `[S]` bool says which of them exist.
      dynamics: (variables, history, mask, action) -> mean, log_std `[O]` of the next
        observation, a Gaussian.
      context: K, steps of the episode in sight, the present one included.
      prompt_steps: steps of a whole prompt (fragments x L). It takes as many steps of
        the context where prompt_place is "pinned", and none where it is "beside".
      outcome: (variables, obs, action, next_obs) -> reward, cost of an imagined step.
      density: (variables, obs) -> log rho of an observation under the data; left out,
        the dynamics' own density, and 0 for an episode's first observation.

    Raises:
      UserError: a prompt that leaves no room in the context, or another place.
    """
    if prompt_place not in ("pinned", "beside"):
        raise UserError(
            f"prompt_place {prompt_place!r}: expected pinned or beside for a policy of "
            "whole histories"
        )
    takes_room = prompt_place == "pinned"
    if takes_room and prompt_steps >= context:
        raise UserError(
            f"prompt_steps: a prompt of {prompt_steps} steps leaves no room in a "
            f"context of {context} steps; shorten it or set prompt_place=beside"
        )

    def present(state):
        """The step that is about to be made, `[P, 1]`."""
        count = state.timestep.shape[0]
        zeros = jnp.zeros((count, 1))
        return Trajectory(
            obs=state.obs[:, None],
            action=jnp.zeros((count, 1, action_dim)),
            reward=zeros,
            cost=zeros,
            return_to_go=state.return_to_go[:, None],
            cost_to_go=state.cost_to_go[:, None],
            timestep=state.timestep[:, None],
            is_valid=jnp.ones((count, 1), bool),
        )

    def context_of(state, prompt):
        """History `[P, S]` and mask `[P, S]` as the policy reads them."""
        count = state.timestep.shape[0]
        history = jax.tree.map(
            lambda a, b: jnp.concatenate([a, b], axis=1), state.past, present(state)
        )
        last = jnp.zeros((count, 1))
        # A step's reward and cost are what its tokens lost until the next one.
        reward, cost = (
            jnp.concatenate([token[:, :-1] - token[:, 1:], last], axis=1)
            for token in (history.return_to_go, history.cost_to_go)
        )
        age = jnp.arange(context)[::-1]
        limit = jnp.minimum(state.timestep, state.window - 1)
        mask = age[None, :] <= limit[:, None]
        history = history.replace(reward=reward, cost=cost, is_valid=mask)
        if prompt is None:
            return history, mask
        steps = prompt.segment
        if steps.reward.ndim == 1:  # one prompt for all
            steps = jax.tree.map(
                lambda x: jnp.broadcast_to(x[None], (count, *x.shape)), steps
            )
        shown = jnp.broadcast_to(prompt.is_present, (count,))[:, None]
        shown = jnp.broadcast_to(shown, steps.reward.shape)
        history = jax.tree.map(
            lambda a, b: jnp.concatenate([a, b], axis=1), steps, history
        )
        return history, jnp.concatenate([shown, mask], axis=1)

    def score(variables, keys, prediction, obs):
        del keys
        if density is not None:
            return jax.vmap(density, (None, 0))(variables, obs)
        return gaussian_log_prob(obs, *prediction).sum(-1)

    def start(variables, keys, obs, return_to_go, cost_to_go, window):
        count = obs.shape[0]
        empty = jnp.zeros((count, context - 1))
        past = Trajectory(
            obs=jnp.zeros((count, context - 1, obs.shape[1])),
            action=jnp.zeros((count, context - 1, action_dim)),
            reward=empty,
            cost=empty,
            return_to_go=empty,
            cost_to_go=empty,
            timestep=jnp.zeros((count, context - 1), jnp.int32),
            is_valid=empty > 0,
        )
        first = jnp.zeros(count)
        if density is not None:
            first = score(variables, keys, None, obs)
        return HistoryState(
            past=past,
            timestep=jnp.zeros(count, jnp.int32),
            obs=jnp.asarray(obs, jnp.float32),
            return_to_go=jnp.asarray(return_to_go, jnp.float32),
            cost_to_go=jnp.asarray(cost_to_go, jnp.float32),
            window=jnp.broadcast_to(jnp.asarray(window, jnp.int32), (count,)),
            log_density=first,
        )

    def encode_prompt(variables, segment, is_present):
        return Prompt(segment=segment, memory=(), is_present=is_present)

    def observe(variables, state, prompt):
        history, mask = context_of(state, prompt)
        mean, log_std = jax.vmap(policy, (None, 0, 0))(variables, history, mask)
        return Observed(mean=mean, log_std=log_std, ring=(), pending=())

    def commit(variables, state, observed, action, prompt):
        made = present(state).replace(action=action[:, None])
        past = jax.tree.map(
            lambda old, new: jnp.concatenate([old[:, 1:], new], axis=1),
            state.past,
            made,
        )
        return state.replace(past=past, timestep=state.timestep + 1)

    def foresee(variables, state, observed, action, prompt):
        history, mask = context_of(state, prompt)
        prediction = jax.vmap(dynamics, (None, 0, 0, 0))(
            variables, history, mask, action
        )
        return commit(variables, state, observed, action, prompt), prediction

    def step(variables, keys, state, prompt):
        keys = jax.vmap(jax.random.fold_in)(keys, state.timestep)
        noise = normal_rows(keys, (action_dim + state.obs.shape[1],))
        observed = observe(variables, state, prompt)
        spread = jnp.exp(observed.log_std)
        sample = observed.mean + spread * noise[:, :action_dim]
        action = jnp.clip(sample, -1.0, 1.0)
        after, prediction = foresee(variables, state, observed, action, prompt)
        obs = prediction[0] + jnp.exp(prediction[1]) * noise[:, action_dim:]
        reward, cost = jax.vmap(outcome, (None, 0, 0, 0))(
            variables, state.obs, action, obs
        )
        log_prob = gaussian_log_prob(sample, observed.mean, observed.log_std)
        output = StepOutput(
            obs=state.obs,
            action=action,
            reward=reward,
            cost=cost,
            return_to_go=state.return_to_go,
            cost_to_go=state.cost_to_go,
            timestep=state.timestep,
            log_density=state.log_density,
            log_prob=log_prob.sum(-1),
        )
        return output, after.replace(
            obs=obs,
            return_to_go=state.return_to_go - reward,
            cost_to_go=state.cost_to_go - cost,
            log_density=score(variables, keys, prediction, obs),
        )

    return SequenceModel(
        encode_prompt=encode_prompt,
        start=start,
        step=step,
        observe=observe,
        commit=commit,
        context=context,
        prompt_window=context - prompt_steps if takes_room else context,
        first_density_differs=density is None,
        foresee=foresee,
        score=score,
    )
