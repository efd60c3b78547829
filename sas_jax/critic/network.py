"""The cost critic: what the h steps that begin with (state, action) will cost.

It is regressed on the data, not bootstrapped: what it says is in which share of its
next steps the data's own behaviour met a cost. A share, and not the probability of any
cost: inside a hazard a cost is certain whatever one does, and only the share still
tells leaving from lingering. An ensemble that disagrees raises the risk (pessimism),
because whoever picks actions by a critic picks its errors too.

The network follows what one knows of the observation. Bins of a lidar share a small
network (`models.bins`) and are pooled; a plain MLP of the same inputs memorises
layouts. Bins are seen also by their 4th power, which spreads out the short distances
where costs happen.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from sas_jax.config import Many, Number, check
from sas_jax.models import bins
from sas_jax.models.networks import MLP


@dataclasses.dataclass(frozen=True)
class CriticConfig:
    """Settings of the critic and of its training.

    horizon: h in steps. members: networks of the ensemble.
    hidden: layers of the dense network.
    learning_rate, weight_decay: of AdamW, with a cosine decay over num_steps.
    batch_size: steps of the data in a batch, drawn anew for every member.
    num_steps: most training steps, in whole chunks of check_every, after each of which
      there is a look at the early-stopping split. patience: looks without progress of
      any member that end training.
    pessimism: standard deviations over members that are added to the mean risk.

    Raises:
      UserError: a value out of range.
    """

    horizon: int = 15
    members: int = 4
    hidden: tuple[int, ...] = (256, 256)
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    batch_size: int = 512
    num_steps: int = 2000
    check_every: int = 100
    patience: int = 5
    pessimism: float = 1.0

    def __post_init__(self):
        count, size = Number(least=1, whole=True), Number(least=0)
        rules = {
            "horizon": count,
            "members": count,
            "hidden": Many(count),
            "learning_rate": Number(above=0),
            "weight_decay": size,
            "batch_size": count,
            "num_steps": count,
            "check_every": count,
            "patience": count,
            "pessimism": size,
        }
        check(self, "critic", rules)


class RiskNetwork(nn.Module):
    """Log-odds of the share of the horizon's steps that cost, before calibration.

    rings: (first, size) of each lidar among the observations; all of one size.
    ring_scales: (mean, standard deviation) of each lidar's bins: undone for the power.
    """

    obs_dim: int
    hidden: tuple[int, ...]
    rings: tuple[tuple[int, int], ...] = ()
    ring_scales: tuple[tuple[float, float], ...] = ()
    ring_hidden: tuple[int, ...] = bins.HIDDEN

    @nn.compact
    def __call__(self, obs, action) -> jax.Array:
        """obs `[..., O]` standardised, action `[..., A]` -> log-odds `[...]`."""
        if not self.rings:
            inputs = jnp.concatenate([obs, action], axis=-1)
        else:
            _, others = bins.indices(self.rings, self.obs_dim)
            own = jnp.concatenate([obs[..., jnp.asarray(others, int)], action], axis=-1)
            inputs = jnp.concatenate([own, self._rings(obs, own)], axis=-1)
        return MLP(self.hidden, 1, name="dense")(inputs)[..., 0]

    def _rings(self, obs, own):
        """What the lidars show, seen from the motion `own`: `[..., 2 G F]`."""
        reach, seen = bins.REACH, []
        for (first, size), (mean, std) in zip(
            self.rings, self.ring_scales, strict=True
        ):
            ring = obs[..., first : first + size]
            reading = jnp.clip(mean + std * ring, 0.0, 1.0)
            values = jnp.stack([ring, reading**4], axis=-1)
            turned = [jnp.roll(values, s, axis=-2) for s in range(-reach, reach + 1)]
            seen.append(jnp.concatenate(turned, axis=-1))
        near = jnp.stack(seen, axis=-3)
        x = bins.shared_layers(self, near, own, hidden=self.ring_hidden)
        # The worst direction, and how crowded the surroundings are.
        pooled = jnp.concatenate([x.max(axis=-2), x.mean(axis=-2)], axis=-1)
        return pooled.reshape(*obs.shape[:-1], -1)


@flax.struct.dataclass
class Critic:
    """A fitted critic; a pytree whose shapes and settings are static.

    params: of `RiskNetwork`, with a leading axis of members.
    slope, offset: `[]` Platt scaling of the log-odds; the slope is positive.
    levels: `[C]` increasing levels of risk; the last is 1.
    rates: `[C]` nondecreasing cost of an episode whose steps behave like the held-out
      steps with risk about the level (cost units).
    ring_scales: see `RiskNetwork`.
    scaling: tells one standardisation of observations from another.
    """

    params: Any
    slope: jax.Array
    offset: jax.Array
    levels: jax.Array
    rates: jax.Array
    config: CriticConfig = flax.struct.field(pytree_node=False)
    obs_dim: int = flax.struct.field(pytree_node=False)
    action_dim: int = flax.struct.field(pytree_node=False)
    rings: tuple[tuple[int, int], ...] = flax.struct.field(pytree_node=False)
    ring_scales: tuple[tuple[float, float], ...] = flax.struct.field(pytree_node=False)
    scaling: str = flax.struct.field(pytree_node=False)

    def risk(self, obs: jax.Array, action: jax.Array) -> jax.Array:
        """See the function `risk`."""
        return risk(self, obs, action)

    def level(self, cost_limit: jax.Array) -> jax.Array:
        """See `gate_level`."""
        return gate_level(self, cost_limit)

    def value(self, obs: jax.Array, action: jax.Array) -> jax.Array:
        """`[...]` cost of the next h steps, as far as the risk tells it."""
        return self.config.horizon * risk(self, obs, action)


def network(config: CriticConfig, obs_dim, rings, ring_scales) -> RiskNetwork:
    """The network of one member."""
    return RiskNetwork(
        obs_dim=obs_dim,
        hidden=config.hidden,
        rings=rings,
        ring_scales=ring_scales,
    )


def member_logits(critic: Critic, obs, action) -> jax.Array:
    """Uncalibrated log-odds `[members, ...]`; arguments as in `risk`."""
    net = network(critic.config, critic.obs_dim, critic.rings, critic.ring_scales)
    return jax.vmap(lambda params: net.apply({"params": params}, obs, action))(
        critic.params
    )


def member_risk(critic: Critic, obs, action) -> jax.Array:
    """Calibrated risk of every member `[members, ...]`; arguments as in `risk`."""
    logits = member_logits(critic, obs, action)
    return jax.nn.sigmoid(critic.slope * logits + critic.offset)


def risk(critic: Critic, obs, action) -> jax.Array:
    """Pessimistic risk: the share of the next h steps that costs.

    Args:
      obs: `[..., O]` observation standardised by the data's spec.
      action: `[..., A]` taken there, as the environment receives it.

    Returns:
      `[...]` mean + pessimism * standard deviation over members, within [0, 1]. A row
      depends on itself only.
    """
    return pessimistic(member_risk(critic, obs, action), critic.config.pessimism)


def pessimistic(members, pessimism: float) -> jax.Array:
    """Members' risks `[members, ...]` -> risk `[...]`."""
    spread = jnp.std(members, axis=0)
    return jnp.clip(jnp.mean(members, axis=0) + pessimism * spread, 0.0, 1.0)


def gate_level(critic: Critic, cost_limit) -> jax.Array:
    """The largest risk whose own steps cost the threshold an episode.

    No accepted step is then worse than the threshold, whatever share of the steps is
    harmless. Pure and traceable.

    Args:
      cost_limit: `[...]` threshold, cost of an episode.

    Returns:
      `[...]` level, interpolated and nondecreasing in cost_limit. 1 (nothing is ever
      above it) where the threshold is at or above all rates; the smallest level below
      them.
    """
    rates = critic.rates
    limit = jnp.asarray(cost_limit, rates.dtype)
    # Of equal rates the last: the largest level that is allowed.
    after = jnp.searchsorted(rates, limit, side="right")
    low = jnp.maximum(after - 1, 0)
    high = jnp.minimum(after, rates.size - 1)
    step = rates[high] - rates[low]
    share = jnp.where(step > 0, (limit - rates[low]) / jnp.where(step > 0, step, 1), 0)
    share = jnp.clip(share, 0.0, 1.0)
    return critic.levels[low] + share * (critic.levels[high] - critic.levels[low])
