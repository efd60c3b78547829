"""The world model as a step function: acting and imagining with a ring of keys.

The state of `P` trajectories holds the keys and values of the last K - 1 steps in a
ring that all of them write at the same slot, whatever their own time step: a trajectory
that began later simply does not look at slots older than itself.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from sas_jax.alignment.config import DENSITIES, PROMPT_PLACES
from sas_jax.alignment.sequence_model import (
    ModelState,
    Observed,
    Prompt,
    SequenceModel,
    step_output,
)
from sas_jax.data.spec import DataSpec
from sas_jax.errors import UserError
from sas_jax.gaussian import action_log_prob, normal_rows
from sas_jax.models import transformer
from sas_jax.models.vae import decoder_log_std
from sas_jax.models.world_model import WorldModel
from sas_jax.types import Key, Params, StepOutput, Trajectory


def make(model: WorldModel, spec: DataSpec, **settings) -> SequenceModel:
    """The step functions of our transformer; settings are those of `CachedPolicy`."""
    return CachedPolicy(model, spec, **settings).sequence_model()


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class CachedPolicy:
    """The functions of a `SequenceModel` for our transformer; all are pure.

    `variables` is a dict of the model's "params" and the decoders' "variances".

    prompt_length: steps of a whole prompt, all fragments together.
    prompt_place: "pinned", "beside" or "sliding"; see `SASConfig`.
    density: "transition", the model's own predictive density, or "marginal", the
      density of the data's states (docs/concepts/algorithm.md, section 3).
    num_importance: importance samples of the density's bound; 1 is the ELBO.
    decoder_noise: scale of the decoder's noise in imagination; 1 samples the model.
    """

    model: WorldModel = dataclasses.field(kw_only=False)
    spec: DataSpec = dataclasses.field(kw_only=False)
    prompt_length: int = 5
    prompt_place: str = "pinned"
    density: str = "transition"
    num_importance: int = 1
    decoder_noise: float = 1.0

    def __post_init__(self):
        for name, known in (("prompt_place", PROMPT_PLACES), ("density", DENSITIES)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be one of {', '.join(known)}, "
                    f"got {getattr(self, name)!r}"
                )
        if self.num_importance < 1:
            raise ValueError(f"num_importance must be >= 1, got {self.num_importance}")
        if self.takes_room and self.prompt_length >= self.context:
            raise UserError(
                f"prompt_length: a prompt of {self.prompt_length} steps leaves no room "
                f"in a context of {self.context} steps; shorten it or set "
                "prompt_place=beside"
            )
        if self.prompt_place == "sliding" and self.prompt_length > self.context:
            raise UserError(
                f"prompt_length: a sliding prompt of {self.prompt_length} steps is "
                f"longer than the context of {self.context} steps; shorten it"
            )

    def sequence_model(self) -> SequenceModel:
        """These functions as alignment and imagination see them."""
        room = self.prompt_length if self.takes_room else 0
        return SequenceModel(
            encode_prompt=self.encode_prompt,
            start=self.start,
            step=self.step,
            observe=self.observe,
            commit=self.commit,
            context=self.context,
            prompt_window=self.context - room,
            standardise=self.spec.standardised,
            foresee=self.foresee,
            score=self.score,
            obs_dim=self.spec.obs_dim,
            advance=self.advance,
            action_dim=self.spec.action_dim,
            first_density_differs=self.density == "transition",
            is_censored=self.model.config.censored_actions,
        )

    # Sizes ----------------------------------------------------------------------

    @property
    def takes_room(self) -> bool:
        """Whether a prompt takes as many steps of the context as it is long."""
        return self.prompt_place == "pinned"

    @property
    def context(self) -> int:
        """K, steps in sight."""
        return self.model.config.decoder.context

    @property
    def per_step(self) -> int:
        """Tokens of a step."""
        return self.model.tokens_per_step

    @property
    def density_latents(self) -> int:
        """Latents that one importance sample of the density draws."""
        config = self.model.config
        if self.density == "transition":
            return config.latent_dim
        return config.marginal_latent_dim

    # Helpers --------------------------------------------------------------------

    def _apply(self, variables: Params, method: str, *args):
        params = {"params": variables["params"]}
        return self.model.apply(params, *args, method=method)

    def _log_std(self, variables: Params, kind: str) -> jax.Array:
        """`[O]` log of the decoder's closed-form standard deviations."""
        variance = variables["variances"][kind]
        return decoder_log_std(variance, floor=self.model.config.decoder_floor)

    def _tokens(self, state: ModelState):
        """Observation, targets and time step of the present, in model units."""
        return (
            state.obs,
            state.return_to_go / self.spec.return_scale,
            state.cost_to_go / self.spec.cost_scale,
            state.timestep,
        )

    def _change(self, state: ModelState) -> jax.Array:
        """s_t - s_{t-1} `[P, O]`, 0 where no earlier step is in sight."""
        has_previous = jnp.minimum(state.timestep, state.window - 1) > 0
        return jnp.where(has_previous[:, None], state.obs - state.previous, 0.0)

    def _memories(self, state: ModelState, ring, prompt: Prompt | None):
        """What the next token may look at: (memory, `[P, slots]` visible) pairs."""
        blocks, per_step = self.context - 1, self.per_step
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
        is_sliding = self.prompt_place == "sliding"
        if is_sliding and prompt.origin is not None:
            # Steps from before the prompt are as much older as it is long.
            is_before = age[None, :] > since[:, None]
            is_pushed_out = is_before & (age[None, :] + length >= self.context)
            visible = visible & ~(present & is_pushed_out)
        memories = [(ring, jnp.repeat(visible, per_step, axis=1))]
        if is_sliding:
            ahead = length - jnp.arange(length)
            age = since[:, None] + ahead[None, :]
            present = present & (age < self.context)
        else:
            present = jnp.broadcast_to(present, (present.shape[0], length))
        memories.append((prompt.memory, jnp.repeat(present, per_step, axis=1)))
        return memories

    def _log_prob(self, observed: Observed, action: jax.Array) -> jax.Array:
        """log pi `[P]` of executed actions `[P, A]`."""
        is_censored = self.model.config.censored_actions
        mean, log_std = observed.mean, observed.log_std
        return action_log_prob(action, mean, log_std, is_censored=is_censored)

    def _marginal_log_density(self, variables, obs, noise) -> jax.Array:
        log_std = self._log_std(variables, "marginal")
        return self._apply(variables, "marginal_log_density", obs, noise, log_std)

    # What a `SequenceModel` offers ----------------------------------------------

    def encode_prompt(
        self, variables: Params, segment: Trajectory, is_present: jax.Array
    ) -> Prompt:
        """The prompt that a segment `[L]` makes; see `SequenceModel`."""
        obs = self.spec.standardised(segment.obs)
        memory = self._apply(
            variables,
            "encode_prompt",
            obs[None],
            segment.action[None],
            segment.return_to_go[None] / self.spec.return_scale,
            segment.cost_to_go[None] / self.spec.cost_scale,
            segment.timestep[None],
        )
        memory = jax.tree.map(lambda x: x[0], memory)
        return Prompt(segment=segment, memory=memory, is_present=is_present)

    def start(
        self, variables: Params, keys: Key, obs, return_to_go, cost_to_go, window
    ) -> ModelState:
        """P trajectories at their first observation `[P, O]`, environment units."""
        decoder = self.model.config.decoder
        count = obs.shape[0]
        obs = self.spec.standardised(obs)
        shape = (self.num_importance, self.model.config.marginal_latent_dim)
        noise = jnp.moveaxis(normal_rows(keys, shape), 1, 0)
        slots = (self.context - 1) * self.per_step
        return ModelState(
            ring=transformer.empty_memory(decoder, slots, (count,)),
            latest=transformer.empty_memory(decoder, self.per_step, (count,)),
            cursor=jnp.zeros((), jnp.int32),
            timestep=jnp.zeros(count, jnp.int32),
            obs=obs,
            return_to_go=jnp.asarray(return_to_go, jnp.float32),
            cost_to_go=jnp.asarray(cost_to_go, jnp.float32),
            window=jnp.broadcast_to(jnp.asarray(window, jnp.int32), (count,)),
            log_density=self._marginal_log_density(variables, obs, noise),
            previous=jnp.zeros_like(obs),
        )

    def observe(
        self, variables: Params, state: ModelState, prompt: Prompt | None
    ) -> Observed:
        """The policy's distribution at the present state."""
        tokens = self._apply(variables, "observation_tokens", *self._tokens(state))
        slot = ((state.cursor - 1) % (self.context - 1)) * self.per_step
        ring = transformer.write(state.ring, state.latest, slot)
        memories = tuple(self._memories(state, ring, prompt))
        z, pending = self._apply(variables, "extend", tokens, memories, 1)
        mean, log_std = self._apply(
            variables, "action_distribution", z[:, 0], *self._tokens(state)
        )
        return Observed(mean=mean, log_std=log_std, ring=ring, pending=pending)

    def _remember(self, variables, state, observed, action, prompt):
        """Hidden state at the action token `[P, D]`, and the state one step on."""
        token = self._apply(variables, "action_token", action, state.timestep)
        pending = observed.pending
        everything = jnp.ones((action.shape[0], pending.num_slots), bool)
        memories = (
            *self._memories(state, observed.ring, prompt),
            (pending, everything),
        )
        z, new = self._apply(variables, "extend", token, memories, 1)
        state = state.replace(
            ring=observed.ring,
            latest=transformer.concatenate(pending, new),
            cursor=state.cursor + 1,
            timestep=state.timestep + 1,
            previous=state.obs,
        )
        return z[:, 0], state

    def commit(self, variables, state, observed, action, prompt) -> ModelState:
        """The state with the step remembered; its action is `[P, A]`."""
        return self._remember(variables, state, observed, action, prompt)[1]

    def foresee(
        self, variables, state, observed, action, prompt
    ) -> tuple[ModelState, Any]:
        """As `commit`, and what `score` needs to judge the next observation."""
        z, after = self._remember(variables, state, observed, action, prompt)
        if self.density == "marginal":
            return after, ()
        return after, (z, state.obs, self._change(state), action)

    def score(self, variables: Params, keys: Key, prediction, obs) -> jax.Array:
        """`[P]` log-density of an observation `[P, O]`, environment units."""
        obs = self.spec.standardised(obs)
        noise = normal_rows(keys, (self.num_importance, self.density_latents))
        noise = jnp.moveaxis(noise, 1, 0)
        if self.density == "marginal":
            return self._marginal_log_density(variables, obs, noise)
        log_std = self._log_std(variables, "transition")
        method = "transition_log_density"
        return self._apply(variables, method, *prediction, obs, noise, log_std)

    def _draw(self, keys: Key, timestep: jax.Array):
        """One step's standard normal draws.

        Returns:
          action `[P, A]`, latent `[P, Z]`, observation `[P, O]`, and density
          `[num_importance, P, Z]` (latents of its kind).
        """
        spec, latents = self.spec, self.model.config.latent_dim
        keys = jax.vmap(jax.random.fold_in)(keys, timestep)
        sizes = (spec.action_dim, latents, spec.obs_dim)
        of_density = (self.num_importance, self.density_latents)
        total = sum(sizes) + of_density[0] * of_density[1]
        # One draw, cut into pieces: as many calls of the generator as trajectories.
        first, second, third = sizes[0], sum(sizes[:2]), sum(sizes)
        action, latent, obs, density = jnp.split(
            normal_rows(keys, (total,)), [first, second, third], axis=1
        )
        density = density.reshape(timestep.shape[0], *of_density)
        return action, latent, obs, jnp.moveaxis(density, 1, 0)

    def step(
        self, variables: Params, keys: Key, state: ModelState, prompt: Prompt | None
    ) -> tuple[StepOutput, ModelState]:
        """Imagines one step of P trajectories."""
        draws = self._draw(keys, state.timestep)
        observed = self.observe(variables, state, prompt)
        sample = observed.mean + jnp.exp(observed.log_std) * draws[0]
        # As executed: a replay knows no other action.
        action = jnp.clip(sample, -1.0, 1.0)
        log_prob = self._log_prob(observed, action)
        output, after = self._imagined(
            variables, state, observed, action, prompt, draws, 1.0
        )
        return output.replace(log_prob=log_prob), after

    def advance(
        self, variables, keys, state, observed, action, prompt, noise
    ) -> tuple[StepOutput, ModelState]:
        """Imagines one step under the action `[P, A]`; see `SequenceModel`."""
        draws = self._draw(keys, state.timestep)
        output, after = self._imagined(
            variables, state, observed, action, prompt, draws, noise
        )
        log_prob = self._log_prob(observed, action)
        return output.replace(log_prob=log_prob), after

    def _imagined(self, variables, state, observed, action, prompt, draws, noise):
        """What follows an action: the step without `log_prob`, and the next state."""
        spec = self.spec
        _, latent, obs_noise, density_noise = draws
        z, after = self._remember(variables, state, observed, action, prompt)
        change = self._change(state)
        log_std = self._log_std(variables, "transition")
        situation = (z, state.obs, change, action)
        if noise != 1.0:
            latent = noise * latent
        obs_noise = noise * self.decoder_noise * obs_noise
        obs = self._apply(variables, "next_obs", *situation, latent, obs_noise, log_std)
        if self.density == "transition":
            method = "transition_log_density"
            log_density = self._apply(
                variables, method, *situation, obs, density_noise, log_std
            )
        else:
            log_density = self._marginal_log_density(variables, obs, density_noise)
        return_to_go = spec.return_scale * self._apply(
            variables,
            "next_return",
            z,
            state.obs,
            action,
            obs,
            state.return_to_go / spec.return_scale,
        )
        cost = jax.nn.sigmoid(self._apply(variables, "cost_logit", obs))
        std, mean = jnp.asarray(spec.obs_std), jnp.asarray(spec.obs_mean)
        seen = state.obs * std[None] + mean[None]
        reward = state.return_to_go - return_to_go
        output = step_output(state, seen, action, reward, cost)
        after = after.replace(
            obs=obs,
            return_to_go=return_to_go,
            cost_to_go=state.cost_to_go - cost,
            log_density=log_density,
        )
        return output, after
