"""The decoder of the transition model: p(s_{t+1} - s_t | latent, situation).

Lidars are rings of bins. The bins share one network (`bins`), which sees a few
neighbours, their last change, and the agent's motion. What a motion does to a lidar is
known (`lidar`): the networks say how the agent moves and what stands in each bin,
geometry says what it will read, and the networks correct that.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from sas_jax.models import bins, lidar
from sas_jax.models.networks import MLP

# Outputs of the bins' network.
_SAID = 9
# The decoder's log-scale stays within +-SCALE_RANGE.
SCALE_RANGE = 3.0
# Units in which the networks speak: the agent's motion in a step (radians, metres), an
# object's own (metres), shares of a bin, readings.
_MOTION, _NUDGE, _PLACE, _READING = 0.02, 0.01, 0.3, 0.1
# What they say where an object disappears here and appears elsewhere: log-odds of that,
# distance, and two coordinates of the direction.
_JUMP = 4
_REACHED = 400.0
# A bin whose neighbourhood keeps no more than this share of its reading has lost it.
_KEPT = 0.8
# Readings below this are as good as none: their deviation is another matter.
_DARK = 0.015


class TransitionDecoder(nn.Module):
    """Mean and log-scale of the change of the standardised state.

    The context vector is (z `[D]`, s_t `[O]`, a_t `[A]`, s_t - s_{t-1} `[O]`).

    rings: (first, size) of the lidars among the state's dimensions; all of one size.
    ring_scales: (mean, standard deviation) of each ring's readings, which standardised
      them. ring_single: whether all that a ring ever shows is one object.
    hidden: layers of the dense network. ring_hidden: layers shared by the bins.
    scale_range: the log-scale stays within +-scale_range.
    """

    width: int
    obs_dim: int
    action_dim: int
    hidden: tuple[int, ...]
    rings: tuple[tuple[int, int], ...] = ()
    ring_scales: tuple[tuple[float, float], ...] = ()
    ring_single: tuple[bool, ...] = ()
    ring_hidden: tuple[int, ...] = bins.HIDDEN
    scale_range: float = SCALE_RANGE
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, latent, context) -> tuple[jax.Array, jax.Array]:
        """latent `[..., Z]`, context `[..., C]` -> mean, log-scale `[..., O]`."""
        in_ring, others = map(jnp.asarray, bins.indices(self.rings, self.obs_dim))
        singles = sum(self.ring_single)
        out = MLP(
            self.hidden,
            others.size + self.obs_dim + _JUMP * singles,
            self.dtype,
            name="dense",
        )(jnp.concatenate([latent, context], axis=-1))
        plain, scale, jump = jnp.split(
            out, [others.size, others.size + self.obs_dim], axis=-1
        )
        mean = plain
        if self.rings:
            ring_mean, ring_scale = self._rings(latent, context, others, plain, jump)
            mean = jnp.zeros_like(scale).at[..., others].set(plain)
            mean = mean.at[..., in_ring].set(ring_mean)
            scale = scale.at[..., in_ring].add(ring_scale)
        return mean, self.scale_range * jnp.tanh(scale / self.scale_range)

    def _rings(self, latent, context, others, plain, jump):
        """The bins' mean and scale `[..., lidars * bins]`.

        plain: `[..., n]` what the dense network says of the dimensions `others`, which
        are not in rings; jump: `[..., 4 n]` and of the rings with a single object.
        """
        cuts = [self.width, self.width + self.obs_dim]
        cuts.append(cuts[-1] + self.action_dim)
        z, obs, action, change = jnp.split(context, cuts, axis=-1)
        lead = (1,) * (obs.ndim - 1)
        middle, unit = (
            jnp.asarray(x).reshape(*lead, -1, 1)
            for x in zip(*self.ring_scales, strict=True)
        )
        is_single = jnp.asarray(self.ring_single).reshape(*lead, -1, 1)
        # How the agent will move is how it moves now and what the dense network adds.
        foreseen, own = jax.lax.stop_gradient(plain), obs[..., others]
        motion = [latent, own, own + foreseen, 5.0 * foreseen, action]
        motion = jnp.concatenate([*motion, z.astype(jnp.float32)], axis=-1)
        seen = bins.of_rings(obs, self.rings)
        out = self._network(seen, bins.of_rings(change, self.rings), motion)
        shape, place, nudge, presence, scales = jnp.split(out, [2, 3, 5, 6], axis=-1)
        here = middle + unit * seen
        readings = jnp.clip(here, 0.0, 1.0)
        objects = lidar.objects_of(readings)
        place = jnp.clip(objects.place + _PLACE * place[..., 0], 0.0, 1.0)
        ego = _MOTION * nn.Dense(3, name="ego")(motion)[..., None, None, :]
        objects = lidar.moved(
            objects._replace(place=place),
            *(ego[..., i] for i in range(3)),
            *(_NUDGE * nudge[..., i] for i in range(2)),
        )
        # By itself a peak is an object and nothing else is; 1 exactly, or peaks would
        # wear off. Of a single object only its peak is.
        presence = jnp.where(
            lidar.is_own(readings),
            jnp.clip(1.2 + presence[..., 0], 0.0, 1.0),
            nn.sigmoid(presence[..., 0] - 3.0),
        )
        presence = jnp.where(is_single, lidar.is_brightest(readings), presence)
        moved = lidar.read(objects, presence)
        # Objects that hide each other: corrections change the shape of what is read,
        # and what comes out of hiding adds to its peaks, but nothing wears them off.
        peak = lidar.around(moved)
        peak = peak + 0.25 * _READING * nn.softplus(4.0 * shape[..., 1] - 4.0)
        share = (moved + _READING * shape[..., 0]) / jnp.maximum(peak, 5e-3)
        share = jnp.clip(share, 0.0, 1.0)
        share = share / jnp.maximum(lidar.around(share), _KEPT)
        after = jnp.where(is_single, moved, jnp.minimum(peak * share, 1.0))
        after = self._jumped(after, jump)
        share = after / jnp.maximum(lidar.around(after), 5e-3)
        dark = jnp.exp(-after / _DARK)
        scale = scales[..., 0] + share**8 * scales[..., 1] + dark * scales[..., 2]
        return tuple(
            x.reshape(*x.shape[:-2], -1) for x in ((after - here) / unit, scale)
        )

    def _jumped(self, readings, jump):
        """Readings `[..., lidars, bins]`, where a lone object may be elsewhere now."""
        if not any(self.ring_single):
            return readings
        where = jnp.asarray([i for i, single in enumerate(self.ring_single) if single])
        jump = jump.reshape(*jump.shape[:-1], where.size, _JUMP)
        angle = jnp.arctan2(jump[..., 2], 1.0 + jump[..., 3])
        distance = lidar.RANGE * nn.sigmoid(jump[..., 1])
        elsewhere = lidar.lone(angle, distance, readings.shape[-1])
        here = readings[..., where, :]
        # A goal moves on when it is reached, at one distance exactly: a threshold, at a
        # gain that lets an optimiser find it (as `networks.NoisyOr`'s).
        slope, bias = (
            self.param(name, nn.initializers.constant(value), (where.size,))
            for name, value in (("reached_slope", 0.01), ("reached_bias", -0.02))
        )
        lead = (1,) * (here.ndim - 2)
        reached = here.max(axis=-1) * slope.reshape(*lead, -1)
        reached = _REACHED * (reached + bias.reshape(*lead, -1))
        # Steep: half here and half there is nowhere.
        odds = nn.sigmoid(8.0 * jump[..., 0] + reached)[..., None]
        return readings.at[..., where, :].add(odds * (elsewhere - here))

    def _network(self, seen, change, motion):
        """What the bins' network says of every bin: `[..., lidars, bins, 9]`."""
        near = lidar.wrapped(seen, bins.REACH)[::-1]
        near += [x / 0.1 for x in lidar.wrapped(change, 1)[::-1]]
        x = bins.shared_layers(
            self,
            jnp.stack(near, axis=-1),
            motion,
            hidden=self.ring_hidden,
            dtype=self.dtype,
        )
        init = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")
        return nn.Dense(_SAID, kernel_init=init, dtype=jnp.float32)(x)
