"""A conditional VAE of actions: which actions the data take at an observation.

    loss = mean |a - tanh(dec(s, z))|^2 + beta mean KL( q(z | s, a) || N(0, 1) )

Means are over batch and dimensions. As in BCQ (Fujimoto et al. 2019) the latent has two
dimensions for each of the action, and a draw is cut at half a standard deviation.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from sas_jax.gaussian import standard_normal_kl
from sas_jax.models.networks import MLP
from sas_jax.types import Key, Params

_LOG_STD_RANGE = (-4.0, 15.0)
# Draws of the latent are cut here.
LATENT_RANGE = 0.5


class ActionVAE(nn.Module):
    """hidden: widths of encoder and decoder alike."""

    hidden: tuple[int, ...]
    action_dim: int

    def setup(self):
        """Encoder and decoder."""
        self.encoder = MLP(self.hidden, 2 * self.latent_dim)
        self.decoder = MLP(self.hidden, self.action_dim)

    @property
    def latent_dim(self) -> int:
        """Size of z."""
        return 2 * self.action_dim

    def encode(self, obs: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean and log-std `[..., latent]` of q(z | s, a)."""
        out = self.encoder(jnp.concatenate([obs, action], axis=-1))
        mean, log_std = jnp.split(out, 2, axis=-1)
        return mean, jnp.clip(log_std, *_LOG_STD_RANGE)

    def decode(self, obs: jax.Array, latent: jax.Array) -> jax.Array:
        """The u `[..., A]` of the action tanh(u) that a latent stands for."""
        return self.decoder(jnp.concatenate([obs, latent], axis=-1))

    def __call__(self, obs, action):
        """Runs both; for initialisation."""
        return self.decode(obs, self.encode(obs, action)[0])


def loss(
    vae: ActionVAE,
    params: Params,
    obs: jax.Array,
    action: jax.Array,
    key: Key,
    beta: float,
) -> jax.Array:
    """The loss above of `B` steps; key is consumed."""
    given = {"params": params}
    mean, log_std = vae.apply(given, obs, action, method="encode")
    latent = mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape)
    found = jnp.tanh(vae.apply(given, obs, latent, method="decode"))
    kl = standard_normal_kl(mean, log_std)
    return jnp.mean(jnp.square(found - action)) + beta * jnp.mean(kl)


def divergence(
    vae: ActionVAE, params: Params, obs: jax.Array, action: jax.Array
) -> jax.Array:
    """KL( q(z | s, a) || N(0, 1) ) `[...]` in nats: large for actions off the data."""
    mean, log_std = vae.apply({"params": params}, obs, action, method="encode")
    return jnp.sum(standard_normal_kl(mean, log_std), axis=-1)


def draw_latent(key: Key, shape: tuple[int, ...]) -> jax.Array:
    """Latents to decode: normal, cut at `LATENT_RANGE`."""
    drawn = jax.random.normal(key, shape)
    return jnp.clip(drawn, -LATENT_RANGE, LATENT_RANGE)
