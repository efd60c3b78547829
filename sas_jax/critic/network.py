"""The cost critic: what the h steps that begin with (state, action) will cost.

It is regressed on the data, not bootstrapped: what it says is how often the data's own
behaviour met a cost after such a step, or in how many of its next steps. An ensemble
that disagrees raises the risk (pessimism), because whoever picks actions by a critic
picks its errors too.

The network follows what one knows of the observation. Bins of a lidar share a small
network, each with the motion turned into its direction (as in `transition`), and are
pooled, so a hazard ahead is learnt once and not sixteen times; a plain MLP of the same
inputs memorises layouts. Bins are seen also by their 4th power, which spreads out the
short distances where costs happen.
"""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from sas_jax.errors import UserError
from sas_jax.models.networks import MLP

# Neighbours in sight on either side of a bin: an object shows in three bins at once.
_REACH = 2
RULES = ("accepted", "local")
TARGETS = ("hit", "share")


@dataclasses.dataclass(frozen=True)
class CriticConfig:
    """Settings of the critic and of its training.

    target: "hit" is the probability of any cost within the horizon; "share" the
      expected share of the horizon's steps that cost. Inside a hazard a cost is certain
      whatever one does, and only the second still tells leaving from lingering.
    horizon: h in steps. members: K, networks of the ensemble.
    hidden: layers of the dense network. ring_hidden: layers that the bins of the lidars
      share; none leaves the bins to the dense network.
    learning_rate, weight_decay: of AdamW, with a cosine decay over num_steps.
    batch_size: steps of the data in a batch, drawn anew for every member.
    num_steps: most training steps. check_every: steps between two looks at the
      early-stopping split. patience: looks without progress of any member that end
      training.
    pessimism: standard deviations over members that are added to the mean risk.

    Raises:
      UserError: a value out of range.
    """

    target: str = "hit"
    horizon: int = 15
    members: int = 4
    hidden: tuple[int, ...] = (256, 256)
    ring_hidden: tuple[int, ...] = (64, 64)
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    batch_size: int = 512
    num_steps: int = 2000
    check_every: int = 100
    patience: int = 5
    pessimism: float = 1.0

    def __post_init__(self):
        if self.target not in TARGETS:
            raise UserError(
                f"critic.target {self.target!r}: expected one of {', '.join(TARGETS)}"
            )
        whole = ("horizon", "members", "batch_size", "num_steps", "check_every")
        for name in (*whole, "patience"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"critic.{name} {value!r}: expected an integer >= 1")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UserError(
                f"critic.learning_rate {self.learning_rate!r}: expected a number > 0"
            )
        for name in ("weight_decay", "pessimism"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise UserError(f"critic.{name} {value!r}: expected a number >= 0")
        for name in ("hidden", "ring_hidden"):
            value = getattr(self, name)
            if not all(isinstance(width, int) and width >= 1 for width in value):
                raise UserError(
                    f"critic.{name} {value!r}: expected layers of width >= 1"
                )


class RiskNetwork(nn.Module):
    """Log-odds of a cost within the horizon, before calibration.

    rings: (first, size) of each lidar among the observations; all of one size.
    ring_scales: (mean, standard deviation) of each lidar's bins: undone for the power.
    """

    obs_dim: int
    hidden: tuple[int, ...]
    rings: tuple[tuple[int, int], ...] = ()
    ring_scales: tuple[tuple[float, float], ...] = ()
    ring_hidden: tuple[int, ...] = (64, 64)

    @nn.compact
    def __call__(self, obs, action) -> jax.Array:
        """obs `[..., O]` standardised, action `[..., A]` -> log-odds `[...]`."""
        if not (self.rings and self.ring_hidden):
            inputs = jnp.concatenate([obs, action], axis=-1)
        else:
            in_ring = {f + i for f, s in self.rings for i in range(s)}
            others = [i for i in range(self.obs_dim) if i not in in_ring]
            own = jnp.concatenate([obs[..., jnp.asarray(others, int)], action], axis=-1)
            inputs = jnp.concatenate([own, self._rings(obs, own)], axis=-1)
        return MLP(self.hidden, 1, name="dense")(inputs)[..., 0]

    def _rings(self, obs, own):
        """What the lidars show, seen from the motion `own`: `[..., 2 G F]`."""
        size, features = self.rings[0][1], self.ring_hidden[0]
        seen = []
        for (first, _), (mean, std) in zip(self.rings, self.ring_scales, strict=True):
            bins = obs[..., first : first + size]
            reading = jnp.clip(mean + std * bins, 0.0, 1.0)
            values = jnp.stack([bins, reading**4], axis=-1)
            turned = [jnp.roll(values, s, axis=-2) for s in range(-_REACH, _REACH + 1)]
            seen.append(jnp.concatenate(turned, axis=-1))
        near = nn.Dense(features, name="near")(jnp.stack(seen, axis=-3))
        motion = nn.Dense(3 * features, name="motion")(own)
        still, ahead, aside = jnp.split(motion[..., None, None, :], 3, axis=-1)
        lead = (1,) * (obs.ndim - 1)
        angle = (jnp.arange(size) + 0.5) * (2 * math.pi / size)
        angle = angle.reshape(*lead, 1, size, 1)
        turned = still + jnp.cos(angle) * ahead + jnp.sin(angle) * aside
        kind = self.param(
            "kind", nn.initializers.normal(0.1), (len(self.rings), 1, features)
        )
        x = nn.relu(near + turned + kind.reshape(*lead, *kind.shape))
        for width in self.ring_hidden[1:]:
            x = nn.relu(nn.Dense(width)(x))
        # The worst direction, and how crowded the surroundings are.
        pooled = jnp.concatenate([x.max(axis=-2), x.mean(axis=-2)], axis=-1)
        return pooled.reshape(*obs.shape[:-1], -1)


@flax.struct.dataclass
class Critic:
    """A fitted critic; a pytree whose shapes and settings are static.

    params: of `RiskNetwork`, with a leading axis `[K]` of members.
    slope, offset: `[]` Platt scaling of the log-odds; the slope is positive.
    levels: `[C]` increasing levels of risk; the last is 1.
    rates: `[C]` nondecreasing cost of an episode whose steps behave like the held-out
      steps with risk <= level (cost units).
    local_rates: `[C]` the same of steps with risk about the level.
    ring_scales: see `RiskNetwork`.
    scaling: tells one standardisation of observations from another.
    """

    params: Any
    slope: jax.Array
    offset: jax.Array
    levels: jax.Array
    rates: jax.Array
    local_rates: jax.Array
    config: CriticConfig = flax.struct.field(pytree_node=False)
    obs_dim: int = flax.struct.field(pytree_node=False)
    action_dim: int = flax.struct.field(pytree_node=False)
    rings: tuple[tuple[int, int], ...] = flax.struct.field(pytree_node=False)
    ring_scales: tuple[tuple[float, float], ...] = flax.struct.field(pytree_node=False)
    scaling: str = flax.struct.field(pytree_node=False)


def network(config: CriticConfig, obs_dim, rings, ring_scales) -> RiskNetwork:
    """The network of one member."""
    return RiskNetwork(
        obs_dim=obs_dim,
        hidden=config.hidden,
        rings=rings,
        ring_scales=ring_scales,
        ring_hidden=config.ring_hidden,
    )


def member_logits(critic: Critic, obs, action) -> jax.Array:
    """Uncalibrated log-odds `[K, ...]`; arguments as in `risk`."""
    net = network(critic.config, critic.obs_dim, critic.rings, critic.ring_scales)
    return jax.vmap(lambda params: net.apply({"params": params}, obs, action))(
        critic.params
    )


def member_risk(critic: Critic, obs, action) -> jax.Array:
    """Calibrated probabilities of every member `[K, ...]`; arguments as in `risk`."""
    logits = member_logits(critic, obs, action)
    return jax.nn.sigmoid(critic.slope * logits + critic.offset)


def risk(critic: Critic, obs, action) -> jax.Array:
    """Pessimistic risk: of any cost within h steps, or their share that costs.

    Args:
      obs: `[..., O]` observation standardised by the data's spec.
      action: `[..., A]` taken there, as the environment receives it.

    Returns:
      `[...]` mean + pessimism * standard deviation over members, within [0, 1]. A row
      depends on itself only.
    """
    return pessimistic(member_risk(critic, obs, action), critic.config.pessimism)


def pessimistic(members, pessimism: float) -> jax.Array:
    """Members' probabilities `[K, ...]` -> risk `[...]`."""
    spread = jnp.std(members, axis=0)
    return jnp.clip(jnp.mean(members, axis=0) + pessimism * spread, 0.0, 1.0)


def gate_level(critic: Critic, cost_limit, rule: str = "accepted") -> jax.Array:
    """The level of risk that suits a cost threshold; pure and traceable.

    Args:
      cost_limit: `[...]` kappa, cost of an episode.
      rule: "accepted" takes the largest level with which the accepted held-out steps
        cost kappa an episode on average: many harmless steps pay for a risky one.
        "local" takes the largest risk whose own steps cost kappa an episode, so that
        no accepted step is worse than kappa whatever share of steps is harmless.

    Returns:
      `[...]` level, interpolated and nondecreasing in cost_limit. 1 (nothing is ever
      above it) where kappa is at or above all rates; the smallest level below them.

    Raises:
      UserError: an unknown rule.
    """
    if rule not in RULES:
        raise UserError(f"gate rule {rule!r}: expected one of {', '.join(RULES)}")
    rates = critic.rates if rule == "accepted" else critic.local_rates
    limit = jnp.asarray(cost_limit, rates.dtype)
    # Of equal rates the last: the largest level that is allowed.
    after = jnp.searchsorted(rates, limit, side="right")
    low = jnp.maximum(after - 1, 0)
    high = jnp.minimum(after, rates.size - 1)
    step = rates[high] - rates[low]
    share = jnp.where(step > 0, (limit - rates[low]) / jnp.where(step > 0, step, 1), 0)
    share = jnp.clip(share, 0.0, 1.0)
    return critic.levels[low] + share * (critic.levels[high] - critic.levels[low])
