"""A denoising diffusion of actions (Ho et al. 2020), of a handful of steps.

A step k = 1 ... K keeps the share alpha_k of the signal; abar_k is their product up to
k. A network says the noise eps in  sqrt(abar_k) a + sqrt(1 - abar_k) eps.
"""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


class Denoiser(nn.Module):
    """eps_hat: noisy action `[..., A]`, step of diffusion `[...]`, observation."""

    width: int
    blocks: int
    dropout: float
    action_dim: int

    @nn.compact
    def __call__(self, action, step, obs, train: bool = False):
        """train: whether to drop out. Returns `[..., A]`."""
        waves = self.param("waves", nn.initializers.normal(0.2), (32,))
        phase = 2.0 * math.pi * step[..., None].astype(jnp.float32)
        phase = phase * waves.reshape((1,) * step.ndim + (-1,))
        time = jnp.concatenate([jnp.cos(phase), jnp.sin(phase)], axis=-1)
        time = nn.Dense(128)(nn.relu(nn.Dense(128)(time)))
        x = nn.Dense(self.width)(jnp.concatenate([action, time, obs], axis=-1))
        for _ in range(self.blocks):
            inner = nn.Dropout(self.dropout, deterministic=not train)(x)
            inner = nn.Dense(4 * self.width)(nn.LayerNorm()(inner))
            x = x + nn.Dense(self.width)(mish(inner))
        return nn.Dense(self.action_dim)(mish(x))


def mish(x: jax.Array) -> jax.Array:
    """x tanh(softplus(x))."""
    return x * jnp.tanh(jax.nn.softplus(x))


def alphas(count: int) -> np.ndarray:
    """alpha_k `[count]`, k = 1, ...: the share of the signal that a step keeps.

    The variance-preserving schedule of Song et al. 2021, its rate from 0.1 to 10.
    """
    k = np.arange(1, count + 1)
    return np.exp(-0.1 / count - 0.5 * 9.9 * (2 * k - 1) / count**2).astype(np.float32)


def mix(action: jax.Array, noise: jax.Array, step: jax.Array, count: int) -> jax.Array:
    """Actions and noise `[B, A]` mixed as step `[B]` of 1 ... `count` has them."""
    share = jnp.asarray(np.cumprod(alphas(count)))[step - 1][:, None]
    return jnp.sqrt(share) * action + jnp.sqrt(1.0 - share) * noise


def denoise(
    predict: Callable[[jax.Array, jax.Array], jax.Array], noise: jax.Array
) -> jax.Array:
    """Actions `[n, B, A]` out of noise.

    predict: (noisy actions, step `[n, B]`) -> their noise. noise: `[steps + 1, n, B,
    A]`: where it begins, then what each step adds, the last one nothing.
    """
    count = len(noise) - 1
    alpha = alphas(count)
    kept, x = np.cumprod(alpha), noise[0]
    for k in range(count, 0, -1):  # a handful
        found = predict(x, jnp.full(x.shape[:-1], k))
        x = x - (1.0 - alpha[k - 1]) / np.sqrt(1.0 - kept[k - 1]) * found
        x = x / np.sqrt(alpha[k - 1])
        if k > 1:
            x = x + np.sqrt(1.0 - alpha[k - 1]) * noise[k - 1]
        x = jnp.clip(x, -1.0, 1.0)
    return x
