"""The world model as a step function: acting and imagining with a ring of keys.

`make` builds the `SequenceModel` of our transformer.

The state of `P` trajectories holds the keys and values of the last K - 1 steps in a
ring that all of them write at the same slot, whatever their own time step: a trajectory
that began later simply does not look at slots older than itself.
"""

import jax
import jax.numpy as jnp

from sas_jax.alignment.config import PROMPT_PLACES
from sas_jax.alignment.sequence_model import ModelState, Observed, Prompt, SequenceModel
from sas_jax.data.spec import DataSpec
from sas_jax.errors import UserError
from sas_jax.gaussian import gaussian_log_prob, normal_rows
from sas_jax.models import transformer
from sas_jax.models.vae import decoder_log_std
from sas_jax.models.world_model import WorldModel
from sas_jax.types import StepOutput


def make(
    model: WorldModel,
    spec: DataSpec,
    *,
    prompt_length: int = 5,
    prompt_place: str = "pinned",
    density: str = "transition",
    num_importance: int = 1,
    decoder_noise: float = 1.0,
) -> SequenceModel:
    """Builds the step functions of our transformer.

    Args:
      prompt_length: steps of a whole prompt, all fragments together.
      prompt_place: "pinned", "beside" or "sliding"; see `SASConfig`.
      density: "transition", the model's own predictive density, or "marginal", the
        density of the data's states; kind of `log_density` (algorithm, section 3).
      num_importance: importance samples of the density's bound; 1 is the ELBO.
      decoder_noise: scale of the decoder's noise in imagination; 1 samples the model.
    """
    config = model.config
    context, per_step = config.decoder.context, config.tokens_per_step
    if prompt_place not in PROMPT_PLACES:
        raise ValueError(
            f"prompt_place must be one of {', '.join(PROMPT_PLACES)}, "
            f"got {prompt_place!r}"
        )
    if density not in ("transition", "marginal"):
        raise ValueError(f"density must be transition or marginal, got {density!r}")
    if num_importance < 1:
        raise ValueError(f"num_importance must be >= 1, got {num_importance}")
    takes_room = prompt_place == "pinned"
    if takes_room and prompt_length >= context:
        raise UserError(
            f"prompt_length: a prompt of {prompt_length} steps leaves no room in a "
            f"context of {context} steps; shorten it or set prompt_place=beside"
        )
    if prompt_place == "sliding" and prompt_length > context:
        raise UserError(
            f"prompt_length: a sliding prompt of {prompt_length} steps is longer than "
            f"the context of {context} steps; shorten it"
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
        visible = age[None, :] <= limit[:, None]
        since = state.timestep
        if prompt is not None and prompt.origin is not None:
            since = since - jnp.broadcast_to(prompt.origin, since.shape)
        if prompt is None:
            return [(ring, jnp.repeat(visible, per_step, axis=1))]
        length = prompt.memory.num_slots // per_step
        present = jnp.broadcast_to(prompt.is_present, since.shape)[:, None]
        if prompt_place == "sliding" and prompt.origin is not None:
            # Steps from before the prompt are as much older as it is long.
            is_before = age[None, :] > since[:, None]
            is_pushed_out = is_before & (age[None, :] + length >= context)
            visible = visible & ~(present & is_pushed_out)
        memories = [(ring, jnp.repeat(visible, per_step, axis=1))]
        if prompt_place == "sliding":
            ahead = length - jnp.arange(length)
            age = since[:, None] + ahead[None, :]
            present = present & (age < context)
        else:
            present = jnp.broadcast_to(present, (present.shape[0], length))
        memories.append((prompt.memory, jnp.repeat(present, per_step, axis=1)))
        return memories

    def change_of(state):
        """s_t - s_{t-1} `[P, O]`, 0 where no earlier step is in sight."""
        has_previous = jnp.minimum(state.timestep, state.window - 1) > 0
        return jnp.where(has_previous[:, None], state.obs - state.previous, 0.0)

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
            previous=jnp.zeros_like(obs),
        )

    def observe(variables, state, prompt):
        tokens = apply(variables, "observation_tokens", *tokens_of(state))
        slot = ((state.cursor - 1) % blocks) * per_step
        ring = transformer.write(state.ring, state.latest, slot)
        memories = tuple(memories_of(state, ring, prompt))
        z, pending = apply(variables, "extend", tokens, memories, 1)
        mean, log_std = apply(
            variables, "action_distribution", z[:, 0], *tokens_of(state)
        )
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
            previous=state.obs,
        )
        return z[:, 0], state

    def commit(variables, state, observed, action, prompt):
        return remember(variables, state, observed, action, prompt)[1]

    def foresee(variables, state, observed, action, prompt):
        z, after = remember(variables, state, observed, action, prompt)
        if density == "marginal":
            return after, ()
        return after, (z, state.obs, change_of(state), action)

    def score(variables, keys, prediction, obs):
        obs = standardise(obs)
        noise = normal_rows(keys, (num_importance, density_latents))
        noise = jnp.moveaxis(noise, 1, 0)
        if density == "marginal":
            return marginal_log_density(variables, obs, noise)
        log_std = log_std_of(variables, "transition")
        method = "transition_log_density"
        return apply(variables, method, *prediction, obs, noise, log_std)

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
        change = change_of(state)
        log_std = log_std_of(variables, "transition")
        obs = apply(
            variables,
            "next_obs",
            z,
            state.obs,
            change,
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
                change,
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
        context=context,
        prompt_window=context - prompt_length if takes_room else context,
        standardise=standardise,
        foresee=foresee,
        score=score,
    )
