"""Tokens and heads of the modified Decision Transformer (DT and CDT).

Tokens of a time step, in order: return-to-go, [cost-to-go,] state, action. Two hidden
states are read: z at the state token feeds the policy, z at the action token the
predictions (docs/concepts/algorithm.md, section 1). A hidden state of width 64 to 128
cannot carry 60 state dimensions, so both sets of heads see the raw inputs too. The
policy also reads the targets themselves, and what they ask for per remaining step:
targets that only pass through the transformer are lost beside the state
(docs/decisions.md).

States are standardised and returns and costs scaled on entry; everything inside this
module is in those units.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from sas_jax.gaussian import action_log_prob
from sas_jax.models import lidar
from sas_jax.models.config import WorldModelConfig
from sas_jax.models.networks import MLP, NoisyOr
from sas_jax.models.targets import policy_targets, read_cost
from sas_jax.models.transformer import Decoder, Dropout, Memory
from sas_jax.models.transition import TransitionDecoder
from sas_jax.models.vae import GaussianVAE, total_log_std

# Range of the policy's log standard deviation.
POLICY_LOG_STD = (-4.0, 0.5)


class WorldModel(nn.Module):
    """The networks.

    active: `[O]` marks the state dimensions that vary in the data.
    has_cost_token: whether a step has a token of the cost-to-go (CDT), and the policy
      reads it.
    reward_unit: standard deviation of a step's reward in scaled return units; the
      reward head's output is multiplied by it.
    episode_steps: of a whole episode of the data, by which targets per remaining step
      are taken; None means the configuration's max_timestep.
    seen: `[O]` marks what tokens and policy see of an observation; None is all.
    compass: (column, mean, standard deviation) of the two readings of a compass, by
      which the place of the only lidar's only object is told; () without one.
    """

    config: WorldModelConfig
    obs_dim: int
    action_dim: int
    active: tuple[bool, ...]
    has_cost_token: bool = False
    reward_unit: float = 1.0
    episode_steps: int | None = None
    seen: tuple[bool, ...] | None = None
    rings: tuple[tuple[int, int], ...] = ()
    ring_scales: tuple[tuple[float, float], ...] = ()
    ring_single: tuple[bool, ...] = ()
    compass: tuple[tuple[int, float, float], ...] = ()

    @property
    def tokens_per_step(self) -> int:
        """Return, cost where there is one, state and action."""
        return 4 if self.has_cost_token else 3

    def setup(self):
        config = self.config
        dtype = jnp.dtype(config.decoder.dtype)
        width = config.decoder.width

        def embed():
            return nn.Dense(width, dtype=dtype, kernel_init=nn.initializers.normal(0.1))

        self.embed_return, self.embed_obs, self.embed_action = embed(), embed(), embed()
        if self.has_cost_token:
            self.embed_cost = embed()
        self.embed_timestep = nn.Embed(
            config.max_timestep,
            width,
            dtype=dtype,
            embedding_init=nn.initializers.normal(0.02),
        )
        self.norm_embedding = nn.LayerNorm(dtype=dtype)
        self.drop = Dropout(config.decoder.dropout)
        self.decoder = Decoder(config.decoder)
        self.policy = MLP(config.policy_hidden, 2 * self.action_dim, dtype)
        self.transition = GaussianVAE(
            self.obs_dim,
            config.latent_dim,
            config.vae_hidden,
            dtype,
            make_decoder=functools.partial(
                TransitionDecoder,
                width=width,
                obs_dim=self.obs_dim,
                action_dim=self.action_dim,
                hidden=config.vae_hidden,
                rings=self.rings,
                ring_scales=self.ring_scales,
                ring_single=self.ring_single,
                dtype=dtype,
            ),
            floor=config.decoder_floor,
        )
        self.marginal = GaussianVAE(
            self.obs_dim, config.marginal_latent_dim, config.vae_hidden, dtype
        )
        self.reward_head = MLP(config.head_hidden, 1, dtype)
        self.cost_head = NoisyOr(rings=self.rings)

    # Tokens ---------------------------------------------------------------------

    def _finish_tokens(self, tokens, timestep, deterministic):
        """tokens `[..., n, D]`, timestep `[...]`: adds time, normalises, drops."""
        time = self.embed_timestep(jnp.clip(timestep, 0, self.config.max_timestep - 1))
        tokens = self.norm_embedding(tokens + time[..., None, :])
        return self.drop(tokens, deterministic=deterministic)

    def _visible(self, obs):
        """obs `[..., O]` with what tokens and policy must not see at its mean."""
        if self.seen is None:
            return obs
        return jnp.where(jnp.asarray(self.seen), obs, 0.0)

    def observation_tokens(
        self, obs, return_to_go, cost_to_go, timestep, deterministic=True
    ):
        """obs `[..., O]`, the rest `[...]` -> `[..., n, D]`, the state token last.

        Of the cost-to-go see `targets.read_cost`.
        """
        cost_to_go = read_cost(cost_to_go)
        tokens = [self.embed_return(return_to_go[..., None])]
        if self.has_cost_token:
            tokens.append(self.embed_cost(cost_to_go[..., None]))
        tokens.append(self.embed_obs(self._visible(obs)))
        tokens = jnp.stack(tokens, axis=-2)
        return self._finish_tokens(tokens, timestep, deterministic)

    def action_token(self, action, timestep, deterministic=True, is_prompt=False):
        """action `[..., A]`, timestep `[...]` -> `[..., 1, D]`.

        is_prompt: the action is another episode's and is shown in any case.
        """
        if not (self.config.action_history or is_prompt):
            action = jnp.zeros_like(action)
        tokens = self.embed_action(action)[..., None, :]
        return self._finish_tokens(tokens, timestep, deterministic)

    def _step_tokens(self, steps, deterministic, is_prompt=False):
        """All tokens of steps `[..., n, D]`, the action's last.

        steps: observations, actions, returns and costs to go, time steps.
        """
        obs, action, return_to_go, cost_to_go, timestep = steps
        observed = self.observation_tokens(
            obs, return_to_go, cost_to_go, timestep, deterministic
        )
        acted = self.action_token(action, timestep, deterministic, is_prompt)
        return jnp.concatenate([observed, acted], axis=-2)

    # Heads ----------------------------------------------------------------------

    def action_distribution(self, z_state, obs, return_to_go, cost_to_go, timestep):
        """z `[..., D]`, obs `[..., O]`, targets `[...]` -> mean, log_std `[..., A]`."""
        longest = self.episode_steps or self.config.max_timestep
        cost_to_go = cost_to_go if self.has_cost_token else None
        targets = policy_targets(return_to_go, cost_to_go, timestep, longest)
        if not self.config.policy_history:
            z_state = jnp.zeros_like(z_state)
        out = self.policy(_join(z_state, self._visible(obs), targets))
        mean, log_std = jnp.split(out, 2, axis=-1)
        return mean, jnp.clip(log_std, *POLICY_LOG_STD)

    def next_return(self, z_action, obs, action, next_obs, return_to_go):
        """Next return-to-go `[...]`: the present one less a predicted reward.

        Reads the next state too: a goal that was reached shows there, because the next
        one has appeared elsewhere.
        """
        inputs = _join(z_action, obs, action, next_obs - obs)
        reward = self.reward_head(inputs)[..., 0]
        return return_to_go - self.reward_unit * reward

    def cost_logit(self, next_obs):
        """Log-odds `[...]` that the step costs, read from the state it leads to.

        With a compass the agent's place in the map is one more cause: walls stand
        along the map's axes, and no sensor shows them (Circle).
        """
        if not self.compass:
            return self.cost_head(next_obs)
        columns, means, stds = zip(*self.compass, strict=True)
        north = next_obs[..., jnp.array(columns)] * jnp.array(stds) + jnp.array(means)
        (first, size), (mean, std) = self.rings[0], self.ring_scales[0]
        readings = mean + std * next_obs[..., first : first + size]
        place = lidar.on_the_map(lidar.place_of(readings), north)
        return self.cost_head(_join(next_obs, place))

    def next_obs(self, z_action, obs, change, action, latent, noise, log_std):
        """Samples s_{t+1}: decodes the change and adds `noise` of the decoder's std.

        latent `[..., Z]`, noise `[..., O]` standard normal (zero for the mean),
        log_std `[O]` -> `[..., O]`; constant dimensions are copied, and a lidar of a
        single object reads one object.
        """
        mean, log_scale = self.transition.decode(
            latent, _join(z_action, obs, action, change)
        )
        floor = self.config.decoder_floor
        log_std = total_log_std(log_std, log_scale, floor=floor)
        # The floor is the resolution at which densities are taken, not a property of
        # the state: samples leave it out.
        std = jnp.sqrt(jnp.maximum(jnp.exp(2.0 * log_std) - floor**2, 0.0))
        active = jnp.asarray(self.active).reshape((1,) * (mean.ndim - 1) + (-1,))
        after = obs + jnp.where(active, mean + noise * std, 0.0)
        # Noise of single bins would make several objects of one.
        return lidar.settled(after, self.rings, self.ring_scales, self.ring_single)

    def transition_log_density(
        self, z_action, obs, change, action, next_obs, noise, log_std
    ) -> jax.Array:
        """log p(s_{t+1} | s_t, a_t, z) `[...]` by the bound; noise `[n, ..., Z]`."""
        return self.transition.log_density(
            next_obs - obs,
            _join(z_action, obs, action, change),
            noise,
            log_std,
            jnp.asarray(self.active),
        )

    def marginal_log_density(self, obs, noise, log_std) -> jax.Array:
        """log p(s) `[...]` over the data's states by the bound; noise `[n, ..., Z]`."""
        empty = jnp.zeros((*obs.shape[:-1], 0), obs.dtype)
        return self.marginal.log_density(
            obs,
            empty,
            noise,
            log_std,
            jnp.asarray(self.active),
        )

    # Whole rows -----------------------------------------------------------------

    def hidden(
        self,
        obs,
        action,
        return_to_go,
        cost_to_go,
        timestep,
        is_valid,
        train,
        prompt=None,
    ):
        """Rows `[B, W, ...]` -> z at the state and at the action tokens `[B, W, D]`.

        prompt: `PromptRows` that the rows' steps have in sight, or None.
        """
        prefix = {}
        if prompt is not None:
            memory = self.encode_prompt(
                prompt.obs,
                prompt.action,
                prompt.return_to_go,
                prompt.cost_to_go,
                prompt.timestep,
                not train,
            )
            seen = jnp.repeat(prompt.is_present[:, None], memory.num_slots, axis=1)
            prefix = {
                "prefix": memory,
                "prefix_visible": seen,
                "prefix_window": prompt.window,
            }
        steps = (obs, action, return_to_go, cost_to_go, timestep)
        tokens = self._step_tokens(steps, not train)
        batch, length, per_step, width = tokens.shape
        z = self.decoder.forward(
            tokens.reshape(batch, length * per_step, width),
            is_valid,
            tokens_per_step=per_step,
            num_out=2,
            deterministic=not train,
            **prefix,
        )
        z = z.reshape(batch, length, 2, width)
        return z[:, :, 0], z[:, :, 1]

    def hidden_of(self, batch, obs, train: bool):
        """`hidden` of a `Batch` with `obs` `[B, W, O]` in place of its own."""
        return self.hidden(
            obs,
            batch.action,
            batch.return_to_go[:, :-1],
            batch.cost_to_go[:, :-1],
            batch.timestep,
            batch.is_valid,
            train,
            batch.prompt,
        )

    def extend(self, tokens, memories, num_out):
        """Cached step; see `Decoder.extend`."""
        return self.decoder.extend(tokens, memories, num_out=num_out)

    def encode_prompt(
        self, obs, action, return_to_go, cost_to_go, timestep, deterministic=True
    ) -> Memory:
        """Prompt steps `[P, L, ...]` (model units) -> their memory.

        deterministic: False drops embedded tokens' values in training; the layers that
        encode a prompt never do.
        """
        steps = (obs, action, return_to_go, cost_to_go, timestep)
        tokens = self._step_tokens(steps, deterministic, is_prompt=True)
        batch, length, per_step, width = tokens.shape
        return self.decoder.encode_prefix(
            tokens.reshape(batch, length * per_step, width)
        )

    def outputs(self, batch, noise: dict[str, jax.Array], train: bool):
        """Every quantity the loss reads, from a `Batch` and its noise."""
        obs = batch.obs[:, :-1] + noise["obs"]
        target = batch.obs[:, 1:]
        z_state, z_action = self.hidden_of(batch, obs, train)

        def flat(x):
            """`[B, W, ...]` -> `[B * W, ...]`: plain matrix products are fastest."""
            return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])

        rows = obs.shape[:2]
        change = last_change(obs)
        z_state, z_action, obs, target, change = map(
            flat, (z_state, z_action, obs, target, change)
        )
        action, return_to_go = flat(batch.action), flat(batch.return_to_go[:, :-1])
        mean, log_std = self.action_distribution(
            z_state,
            obs,
            return_to_go,
            flat(batch.cost_to_go[:, :-1]),
            flat(batch.timestep),
        )
        residual, log_scale, kl = self.transition.reconstruct(
            target - obs,
            _join(z_action, obs, action, change),
            flat(noise["transition"]),
        )
        states = flat(batch.obs[:, :-1])
        marginal_residual, _, marginal_kl = self.marginal.reconstruct(
            states, jnp.zeros((states.shape[0], 0)), flat(noise["marginal"])
        )
        out = {
            "log_prob": action_log_prob(
                action, mean, log_std, is_censored=self.config.censored_actions
            ),
            "log_std": log_std,
            "residual": residual,
            "log_scale": log_scale,
            "kl": kl,
            "marginal_residual": marginal_residual,
            "marginal_kl": marginal_kl,
            "next_return": self.next_return(
                z_action, obs, action, target, return_to_go
            ),
            "cost_logit": self.cost_logit(target),
        }
        return {name: x.reshape(*rows, *x.shape[1:]) for name, x in out.items()}

    def resample(self, batch, noise, log_std):
        """Samples of every next state from the real history: `[B, W, O]`.

        noise: "transition" `[B, W, Z]` and "resample" `[B, W, O]`, standard normal.
        """
        obs = batch.obs[:, :-1]
        _, z_action = self.hidden_of(batch, obs, False)
        return self.next_obs(
            z_action,
            obs,
            last_change(obs),
            batch.action,
            noise["transition"],
            noise["resample"],
            log_std,
        )


def last_change(obs: jax.Array) -> jax.Array:
    """s_t - s_{t-1} of rows `[B, W, O]`, 0 at their first step."""
    return jnp.concatenate(
        [jnp.zeros_like(obs[:, :1]), obs[:, 1:] - obs[:, :-1]], axis=1
    )


def _join(*parts):
    """Concatenates on the last axis in float32."""
    return jnp.concatenate([p.astype(jnp.float32) for p in parts], axis=-1)
