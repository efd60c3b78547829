"""Gaussian VAEs, unconditional or given a context, and their densities.

The decoder's standard deviation, one per dimension, is not a parameter: it is the
root mean square of the reconstruction residuals, tracked as a running mean beside the
parameters (the optimal sigma of Rybkin et al. 2021, "sigma-VAE"). Under Adam a free
log-std moves at most one learning rate a step and stays far too wide.
"""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from sas_jax.gaussian import gaussian_log_prob, standard_normal_kl
from sas_jax.models.networks import MLP

# Posterior log-stds are kept in this range, so that no KL term can overflow.
_LOG_STD_RANGE = (-7.0, 2.0)


class GaussianVAE(nn.Module):
    """q(latent | x, context) and p(x | latent, context), both diagonal Gaussians.

    Contexts are vectors (size 0 for an unconditional VAE). Leading axes are free.

    make_decoder: builds a decoder (latent, context) -> (mean, log-scale); None is an
      MLP whose log-scale is 0. floor: smallest standard deviation of the decoder.
    """

    size: int
    latent_dim: int
    hidden: tuple[int, ...]
    dtype: jnp.dtype = jnp.float32
    make_decoder: Callable[[], nn.Module] | None = None
    floor: float = 1e-6

    def setup(self):
        self.encoder = MLP(self.hidden, 2 * self.latent_dim, self.dtype)
        if self.make_decoder is None:
            self.decoder = MLP(self.hidden, self.size, self.dtype)
        else:
            self.decoder = self.make_decoder()

    def encode(self, x: jax.Array, context: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Encodes x `[..., X]`, context `[..., C]` to the latent's mean, log_std."""
        out = self.encoder(jnp.concatenate([x, context], axis=-1))
        mean, log_std = jnp.split(out, 2, axis=-1)
        return mean, jnp.clip(log_std, *_LOG_STD_RANGE)

    def decode(
        self, latent: jax.Array, context: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """latent `[..., Z]`, context `[..., C]` -> mean of x, log-scale `[..., X]`."""
        if self.make_decoder is not None:
            return self.decoder(latent, context)
        mean = self.decoder(jnp.concatenate([latent, context], axis=-1))
        return mean, jnp.zeros_like(mean)

    def reconstruct(
        self, x: jax.Array, context: jax.Array, noise: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """One-sample pass for training.

        Returns residual, log-scale `[..., X]`, and KL `[..., Z]` in nats.
        """
        mean, log_std = self.encode(x, context)
        latent = mean + jnp.exp(log_std) * noise
        decoded, log_scale = self.decode(latent, context)
        return x - decoded, log_scale, standard_normal_kl(mean, log_std)

    def log_density(
        self,
        x: jax.Array,
        context: jax.Array,
        noise: jax.Array,
        log_std: jax.Array,
        active: jax.Array,
    ) -> jax.Array:
        """Importance-weighted lower bound of log p(x | context) (Burda et al. 2016).

        log 1/n sum_i p(x | latent_i) p(latent_i) / q(latent_i | x), latent_i ~ q; with
        n = 1 it is the ELBO, and it tightens as n grows.

        Args:
          x: `[..., X]`; context: `[..., C]`.
          noise: `[n, ..., Z]` standard normal draws, n importance samples.
          log_std: `[X]` log of the decoder's standard deviations.
          active: `[X]` bool; other dimensions are left out of the density.

        Returns:
          `[...]` in nats.
        """
        mean, posterior_log_std = self.encode(x, context)
        latent = mean[None] + jnp.exp(posterior_log_std)[None] * noise
        context = jnp.broadcast_to(
            context[None], (*latent.shape[:-1], context.shape[-1])
        )
        decoded, log_scale = self.decode(latent, context)
        wide = (1,) * (decoded.ndim - 1) + (-1,)
        total = total_log_std(log_std, log_scale, floor=self.floor)
        likelihood = gaussian_log_prob(x[None], decoded, total)
        log_weight = (
            jnp.sum(jnp.where(active.reshape(wide), likelihood, 0.0), axis=-1)
            + jnp.sum(gaussian_log_prob(latent, 0.0, 0.0), axis=-1)
            - jnp.sum(
                gaussian_log_prob(latent, mean[None], posterior_log_std[None]), axis=-1
            )
        )
        return jax.nn.logsumexp(log_weight, axis=0) - math.log(noise.shape[0])


def update_variance(
    variance: jax.Array, residual: jax.Array, mask: jax.Array, *, decay: float
) -> jax.Array:
    """Running mean `[X]` of the squared residuals `[..., X]` where `mask` `[...]`."""
    squared = jnp.where(mask[..., None], jnp.square(residual), 0.0)
    axes = tuple(range(residual.ndim - 1))
    batch = jnp.sum(squared, axes) / jnp.maximum(jnp.sum(mask), 1)
    return decay * variance + (1.0 - decay) * jax.lax.stop_gradient(batch)


def decoder_log_std(variance: jax.Array, *, floor: float) -> jax.Array:
    """log std `[X]` from the running variance, never below `floor` (in data units)."""
    return 0.5 * jnp.log(jnp.maximum(variance, floor**2))


def total_log_std(
    log_std: jax.Array, log_scale: jax.Array, *, floor: float
) -> jax.Array:
    """Log of the decoder's std `[..., X]`: closed form x learned shape, floored.

    log_std `[X]`: closed form. log_scale `[..., X]`: the decoder's second output.
    """
    wide = (1,) * (log_scale.ndim - 1) + (-1,)
    return jnp.maximum(log_std.reshape(wide) + log_scale, math.log(floor))
