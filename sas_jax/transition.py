"""The decoder of the transition model: p(s_{t+1} - s_t | latent, situation).

Lidars are rings of bins, and what happens in one bin depends on its neighbours and on
how the agent moves relative to it, by the same law in every direction. So the bins
share one network, which sees a few neighbours, their last change, and the motion turned
into the bin's direction. On PointGoal1 it explains 85 % of the held-out change of the
vases' lidar, where a dense network of the same input explains 17 %.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from sas_jax.networks import MLP

# Neighbours in sight on either side of a bin: an object shows in three bins at once,
# and turns by a third of a bin in a step.
_REACH = 2


class TransitionDecoder(nn.Module):
    """Mean and log-scale of the change of the standardised state.

    The context vector is (z `[D]`, s_t `[O]`, a_t `[A]`, s_t - s_{t-1} `[O]`).

    rings: (first, size) of the circular groups of state dimensions; all of one size.
    hidden: layers of the dense network. ring_hidden: layers shared by the bins; none
      leaves the bins to the dense network. scale_range: the log-scale stays within
      +-scale_range; 0 keeps it at 0.
    """

    width: int
    obs_dim: int
    action_dim: int
    hidden: tuple[int, ...]
    rings: tuple[tuple[int, int], ...] = ()
    ring_hidden: tuple[int, ...] = (64, 64)
    scale_range: float = 3.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, latent, context) -> tuple[jax.Array, jax.Array]:
        """latent `[..., Z]`, context `[..., C]` -> mean, log-scale `[..., O]`."""
        out = MLP(self.hidden, 2 * self.obs_dim, self.dtype, name="dense")(
            jnp.concatenate([latent, context], axis=-1)
        )
        mean, scale = jnp.split(out, 2, axis=-1)
        if self.rings and self.ring_hidden:
            ring_mean, ring_scale = self._rings(latent, context)
            where = jnp.asarray(
                [first + i for first, size in self.rings for i in range(size)]
            )
            mean = mean.at[..., where].add(ring_mean)
            scale = scale.at[..., where].add(ring_scale)
        if not self.scale_range:
            return mean, jnp.zeros_like(scale)
        return mean, self.scale_range * jnp.tanh(scale / self.scale_range)

    def _rings(self, latent, context):
        """The bins' mean and scale `[..., G * S]`."""
        count, size = len(self.rings), self.rings[0][1]
        cuts = [self.width, self.width + self.obs_dim]
        cuts.append(cuts[-1] + self.action_dim)
        z, obs, action, change = jnp.split(context, cuts, axis=-1)
        features = self.ring_hidden[0]

        def bins(x):
            parts = [x[..., first : first + size] for first, _ in self.rings]
            return jnp.stack(parts, axis=-2)

        def neighbours(x, reach):
            shifts = range(-reach, reach + 1)
            return jnp.stack([jnp.roll(x, s, axis=-1) for s in shifts], axis=-1)

        near = jnp.concatenate(
            [
                neighbours(bins(obs), _REACH),
                neighbours(bins(change), 1) / 0.1,
            ],
            axis=-1,
        )
        near = nn.Dense(features, dtype=self.dtype, name="near")(near)
        in_ring = {f + i for f, s in self.rings for i in range(s)}
        others = jnp.asarray([i for i in range(self.obs_dim) if i not in in_ring])
        motion = jnp.concatenate(
            [latent, obs[..., others], action, z.astype(jnp.float32)], axis=-1
        )
        motion = nn.Dense(3 * features, dtype=self.dtype, name="motion")(motion)
        still, ahead, aside = jnp.split(motion[..., None, None, :], 3, axis=-1)
        lead = (1,) * (obs.ndim - 1)
        angle = (jnp.arange(size) + 0.5) * (2 * math.pi / size)
        angle = angle.reshape(*lead, 1, size, 1)
        turned = still + jnp.cos(angle) * ahead + jnp.sin(angle) * aside
        kind = self.param("kind", nn.initializers.normal(0.1), (count, 1, features))
        x = nn.relu(near + turned + kind.reshape(*lead, *kind.shape))
        for width in self.ring_hidden[1:]:
            x = nn.relu(nn.Dense(width, dtype=self.dtype)(x))
        init = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")
        out = nn.Dense(2, kernel_init=init, dtype=jnp.float32)(x)
        return tuple(
            out[..., i].reshape(*out.shape[:-3], count * size) for i in range(2)
        )
