"""The world model as a step function: acting and imagining with a ring of keys.

`SequenceModel` is the seam between networks and algorithms. Alignment and imagination
see its functions only, so they work with any model that offers them. `make` builds it
for our transformer.

The state of `P` trajectories holds the keys and values of the last K - 1 steps in a
ring that all of them write at the same slot, whatever their own time step: a trajectory
that began later simply does not look at slots older than itself.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from sas_jax import transformer
from sas_jax.networks import gaussian_log_prob
from sas_jax.spec import DataSpec
from sas_jax.transformer import Memory
from sas_jax.types import Key, StepOutput, Trajectory
from sas_jax.vae import decoder_log_std, normal_rows
from sas_jax.world_model import WorldModel


@struct.dataclass
class Prompt:
    """A segment given as context, and its memory, computed once and only read.

    segment: `[..., L]` trajectory it was made of, environment units.
    memory: `[..., H, S, h]`, or without leading axes when shared by all trajectories.
    is_present: `[...]` bool; False is the empty prompt.
    """

    segment: Trajectory
    memory: Memory
    is_present: jax.Array


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
    """

    ring: Memory
    latest: Memory
    cursor: jax.Array
    timestep: jax.Array
    obs: jax.Array
    return_to_go: jax.Array
    cost_to_go: jax.Array
    window: jax.Array
    log_density: jax.Array


@struct.dataclass
class Observed:
    """After the state token.

    mean, log_std: `[P, A]` the policy's distribution. ring: the ring with the latest
    step in it. pending: memory of the tokens that came with the state.
    """

    mean: jax.Array
    log_std: jax.Array
    ring: Memory
    pending: Memory


class SequenceModel(NamedTuple):
    """What SAS needs of a sequence policy; all functions are pure.

    encode_prompt(variables, segment, is_present) -> Prompt, for one segment `[L]`.
    start(variables, keys, obs, return_to_go, cost_to_go, window) -> ModelState of P
      trajectories at their first observation (environment units).
    step(variables, keys, state, prompt) -> (StepOutput, ModelState): imagines one step;
      keys `[P]`, prompt shared by all P or None.
    observe(variables, state, prompt) -> Observed: the policy at the present state.
    commit(variables, state, observed, action, prompt) -> ModelState with the step
      remembered and the time step advanced; obs and tokens are the caller's to set.
    make_room(state) -> ModelState whose window leaves room for a prompt.
    standardise(obs) -> obs in the model's units.
    context: K. prompt_window: steps of the episode in sight beside a prompt.
    """

    encode_prompt: Callable[..., Prompt]
    start: Callable[..., ModelState]
    step: Callable[..., tuple[StepOutput, ModelState]]
    observe: Callable[..., Observed]
    commit: Callable[..., Any]
    make_room: Callable[..., Any]
    standardise: Callable[[jax.Array], jax.Array]
    context: int
    prompt_window: int


def make(
    model: WorldModel,
    spec: DataSpec,
    *,
    prompt_length: int = 5,
    prompt_mode: str = "pinned",
    prompt_extra: bool = False,
    density: str = "transition",
    num_importance: int = 1,
    decoder_noise: float = 1.0,
) -> SequenceModel:
    """Builds the step functions of our transformer.

    Args:
      prompt_length: L, steps of a prompt.
      prompt_mode: "pinned" keeps the prompt in sight for the whole episode; "sliding"
        lets it leave the window of K steps as real steps fill it.
      prompt_extra: a pinned prompt adds to the window of K steps instead of taking L
        of them.
      density: "transition", the model's own predictive density, or "marginal", the
        density of the data's states; kind of `log_density` (algorithm, section 3).
      num_importance: importance samples of the density's bound; 1 is the ELBO.
      decoder_noise: scale of the decoder's noise in imagination; 1 samples the model.
    """
    config = model.config
    context, per_step = config.decoder.context, config.tokens_per_step
    if prompt_mode not in ("pinned", "sliding"):
        raise ValueError(f"prompt_mode must be pinned or sliding, got {prompt_mode!r}")
    if density not in ("transition", "marginal"):
        raise ValueError(f"density must be transition or marginal, got {density!r}")
    if num_importance < 1:
        raise ValueError(f"num_importance must be >= 1, got {num_importance}")
    takes_room = prompt_mode == "pinned" and not prompt_extra
    if takes_room and prompt_length >= context:
        raise ValueError(
            f"prompt_length {prompt_length} leaves no room in a context of {context} "
            "steps; shorten it or set prompt_extra"
        )
    blocks = context - 1
    mean, std = jnp.asarray(spec.obs_mean), jnp.asarray(spec.obs_std)

    def standardise(obs):
        wide = (1,) * (obs.ndim - 1) + (-1,)
        return (obs - mean.reshape(wide)) / std.reshape(wide)

    def apply(variables, method, *args):
        return model.apply({"params": variables["params"]}, *args, method=method)

    def log_std_of(variables, kind):
        return decoder_log_std(variables["variances"][kind], floor=config.decoder_floor)

    def tokens_of(state):
        return (
            state.obs,
            state.return_to_go / spec.return_scale,
            state.cost_to_go / spec.cost_scale,
            state.timestep,
        )

    def memories_of(state, ring, prompt):
        block = jnp.arange(blocks)
        age = (state.cursor - 1 - block) % blocks + 1
        limit = jnp.minimum(state.timestep, state.window - 1)
        visible = jnp.repeat(age[None, :] <= limit[:, None], per_step, axis=1)
        memories = [(ring, visible)]
        if prompt is not None:
            length = prompt.memory.num_slots // per_step
            present = jnp.broadcast_to(prompt.is_present, state.timestep.shape)[:, None]
            if prompt_mode == "sliding":
                ahead = length - jnp.arange(length)
                age = state.timestep[:, None] + ahead[None, :]
                present = present & (age < context)
            else:
                present = jnp.broadcast_to(present, (present.shape[0], length))
            memories.append((prompt.memory, jnp.repeat(present, per_step, axis=1)))
        return memories

    def encode_prompt(variables, segment, is_present):
        obs = standardise(segment.obs)
        memory = apply(
            variables,
            "encode_prompt",
            obs[None],
            segment.action[None],
            segment.return_to_go[None] / spec.return_scale,
            segment.cost_to_go[None] / spec.cost_scale,
            segment.timestep[None],
        )
        memory = jax.tree.map(lambda x: x[0], memory)
        return Prompt(segment=segment, memory=memory, is_present=is_present)

    def marginal_log_density(variables, obs, noise):
        return apply(
            variables,
            "marginal_log_density",
            obs,
            noise,
            log_std_of(variables, "marginal"),
        )

    def start(variables, keys, obs, return_to_go, cost_to_go, window):
        count = obs.shape[0]
        obs = standardise(obs)
        shape = (num_importance, config.marginal_latent_dim)
        noise = jnp.moveaxis(normal_rows(keys, shape), 1, 0)
        return ModelState(
            ring=transformer.empty_memory(config.decoder, blocks * per_step, (count,)),
            latest=transformer.empty_memory(config.decoder, per_step, (count,)),
            cursor=jnp.zeros((), jnp.int32),
            timestep=jnp.zeros(count, jnp.int32),
            obs=obs,
            return_to_go=jnp.asarray(return_to_go, jnp.float32),
            cost_to_go=jnp.asarray(cost_to_go, jnp.float32),
            window=jnp.broadcast_to(jnp.asarray(window, jnp.int32), (count,)),
            log_density=marginal_log_density(variables, obs, noise),
        )

    def observe(variables, state, prompt):
        tokens = apply(variables, "observation_tokens", *tokens_of(state))
        slot = ((state.cursor - 1) % blocks) * per_step
        ring = transformer.write(state.ring, state.latest, slot)
        memories = tuple(memories_of(state, ring, prompt))
        z, pending = apply(variables, "extend", tokens, memories, 1)
        mean, log_std = apply(variables, "action_distribution", z[:, 0], state.obs)
        return Observed(mean=mean, log_std=log_std, ring=ring, pending=pending)

    def remember(variables, state, observed, action, prompt):
        """Hidden state at the action token `[P, D]`, and the state one step on."""
        token = apply(variables, "action_token", action, state.timestep)
        pending = observed.pending
        everything = jnp.ones((action.shape[0], pending.num_slots), bool)
        memories = (
            *memories_of(state, observed.ring, prompt),
            (pending, everything),
        )
        z, new = apply(variables, "extend", token, memories, 1)
        state = state.replace(
            ring=observed.ring,
            latest=transformer.concatenate(pending, new),
            cursor=state.cursor + 1,
            timestep=state.timestep + 1,
        )
        return z[:, 0], state

    def commit(variables, state, observed, action, prompt):
        return remember(variables, state, observed, action, prompt)[1]

    prompt_window = context - prompt_length if takes_room else context

    def make_room(state):
        return state.replace(window=jnp.minimum(state.window, prompt_window))

    density_latents = (
        config.latent_dim if density == "transition" else config.marginal_latent_dim
    )
    draws = (
        spec.action_dim
        + config.latent_dim
        + spec.obs_dim
        + num_importance * density_latents
    )

    def step(variables, keys, state, prompt):
        count = state.obs.shape[0]
        keys = jax.vmap(jax.random.fold_in)(keys, state.timestep)
        # One draw, cut into pieces: as many calls of the generator as trajectories.
        action_noise, latent, obs_noise, density_noise = jnp.split(
            normal_rows(keys, (draws,)),
            [
                spec.action_dim,
                spec.action_dim + config.latent_dim,
                spec.action_dim + config.latent_dim + spec.obs_dim,
            ],
            axis=1,
        )
        density_noise = jnp.moveaxis(
            density_noise.reshape(count, num_importance, density_latents), 1, 0
        )
        observed = observe(variables, state, prompt)
        sample = observed.mean + jnp.exp(observed.log_std) * action_noise
        log_prob = gaussian_log_prob(sample, observed.mean, observed.log_std).sum(-1)
        action = jnp.clip(sample, -1.0, 1.0)
        z, after = remember(variables, state, observed, action, prompt)
        log_std = log_std_of(variables, "transition")
        obs = apply(
            variables,
            "next_obs",
            z,
            state.obs,
            action,
            latent,
            decoder_noise * obs_noise,
            log_std,
        )
        if density == "transition":
            log_density = apply(
                variables,
                "transition_log_density",
                z,
                state.obs,
                action,
                obs,
                density_noise,
                log_std,
            )
        else:
            log_density = marginal_log_density(variables, obs, density_noise)
        return_to_go = spec.return_scale * apply(
            variables,
            "next_return",
            z,
            state.obs,
            action,
            obs,
            state.return_to_go / spec.return_scale,
        )
        cost = jax.nn.sigmoid(apply(variables, "cost_logit", z, obs))
        output = StepOutput(
            obs=state.obs * std[None] + mean[None],
            action=action,
            reward=state.return_to_go - return_to_go,
            cost=cost,
            return_to_go=state.return_to_go,
            cost_to_go=state.cost_to_go,
            timestep=state.timestep,
            log_density=state.log_density,
            log_prob=log_prob,
        )
        after = after.replace(
            obs=obs,
            return_to_go=return_to_go,
            cost_to_go=state.cost_to_go - cost,
            log_density=log_density,
        )
        return output, after

    return SequenceModel(
        encode_prompt=encode_prompt,
        start=start,
        step=step,
        observe=observe,
        commit=commit,
        make_room=make_room,
        standardise=standardise,
        context=context,
        prompt_window=prompt_window,
    )


def split_keys(key: Key, count: int) -> Key:
    """Returns `count` keys, the i-th from i alone: more leave the first ones as is."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(count))
