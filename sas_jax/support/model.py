"""How far a state and action lie off the data, by density or by what follows.

Two scores in nats, the higher the further off; both see z = (s, a), standardised:

    guardian    -log rho(z),   rho(z) = mean_k N(z; z_k, h^2 I)      a kernel density

over K recorded steps z_k, as in OGSRL (2026), whose guardian keeps a policy where the
density of states and actions is above the data's 5th percentile; and

    lyapunov    G(z) = max( E(z), gamma min_a' G(s', a') ),   E = -log rho - its least

the Lyapunov density model (LDM; Kang et al. 2022, Eq. 6): the worst that is still to be
met by whoever then keeps to the data as well as can be. It is the ancestor of SAS's
energies. The minimum is over what the data did there: V(s) is a low expectile of G's
recorded actions, so that no action is asked about that nobody took. G is a network that
has seen recorded steps alone; elsewhere E is known, and G is no less. Their density is
a flow; this one is the guardian's.
"""

import dataclasses
import math
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from sas_jax.config import Choice, Many, Number, check
from sas_jax.models.networks import MLP

KINDS = ("guardian", "lyapunov")


@dataclasses.dataclass(frozen=True)
class SupportConfig:
    """Settings of the score and of its fit.

    kind: of the score, see the module. num_centres: K. bandwidths: h that are tried;
      the one under which held-out steps are likeliest is taken. quantile: share of
      held-out steps that lie further off than `level`.

    Of `lyapunov`: discount: gamma. expectile: of V, below 1/2. hidden: layers of both
      networks. learning_rate, weight_decay: of AdamW, with a cosine decay over
      num_steps. batch_size: steps in a batch. target_rate: share of G that its target
      takes in a step.

    Raises:
      UserError: a value out of range.
    """

    kind: str = "guardian"
    num_centres: int = 1024
    bandwidths: tuple[float, ...] = (0.3, 0.4, 0.535, 0.7, 0.95, 1.3)
    quantile: float = 0.05
    discount: float = 0.99
    expectile: float = 0.1
    hidden: tuple[int, ...] = (256, 256)
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    batch_size: int = 512
    num_steps: int = 3000
    target_rate: float = 0.01

    def __post_init__(self):
        count, share = Number(least=1, whole=True), Number(above=0, below=1)
        rules = {
            "kind": Choice(KINDS),
            "num_centres": count,
            "bandwidths": Many(Number(above=0)),
            "quantile": share,
            "discount": Number(least=0, most=1),
            "expectile": share,
            "hidden": Many(count),
            "learning_rate": Number(above=0),
            "weight_decay": Number(least=0),
            "batch_size": count,
            "num_steps": count,
            "target_rate": Number(above=0, most=1),
        }
        check(self, "support", rules)


@flax.struct.dataclass
class Support:
    """A fitted score; a pytree whose settings are static.

    centres: `[K, O + A]` standardised. action_mean, action_std: `[A]`. bandwidth: `[]`
    h. least: `[]` of -log rho over the data; 0 for a guardian. scale: `[]` nats to a
    unit of the networks' output. params: of G; None for a guardian. level: `[]` score
    beyond which a step is off the data. scaling: tells one standardisation of
    observations from another.
    """

    centres: jax.Array
    action_mean: jax.Array
    action_std: jax.Array
    bandwidth: jax.Array
    least: jax.Array
    scale: jax.Array
    level: jax.Array
    params: Any
    config: SupportConfig = flax.struct.field(pytree_node=False)
    obs_dim: int = flax.struct.field(pytree_node=False)
    action_dim: int = flax.struct.field(pytree_node=False)
    scaling: str = flax.struct.field(pytree_node=False)

    def score(self, obs: jax.Array, action: jax.Array) -> jax.Array:
        """`[...]` nats off the data.

        obs: `[..., O]` standardised by the data's spec. action: `[..., A]`.
        """
        z = inputs(self, obs, action)
        now = -log_density(z, self.centres, self.bandwidth) - self.least
        if self.params is None:
            return now
        to_come = self.scale * energy_to_come(self.config, self.params, z)
        return jnp.maximum(now, to_come)


def inputs(support: Support, obs: jax.Array, action: jax.Array) -> jax.Array:
    """z `[..., O + A]`."""
    wide = (1,) * (action.ndim - 1) + (-1,)
    mean, std = (x.reshape(wide) for x in (support.action_mean, support.action_std))
    return jnp.concatenate([obs, (action - mean) / std], axis=-1)


def log_density(z: jax.Array, centres: jax.Array, bandwidth: jax.Array) -> jax.Array:
    """log rho `[...]` of z `[..., D]` under kernels at `[K, D]`."""
    count, size = centres.shape
    # |z - c|^2 as products: no array of all differences.
    square = jnp.sum(jnp.square(z), axis=-1, keepdims=True)
    own = jnp.sum(jnp.square(centres), axis=-1).reshape((1,) * (z.ndim - 1) + (-1,))
    distance = jnp.maximum(square - 2.0 * z @ centres.T + own, 0.0)
    found = jax.nn.logsumexp(-0.5 * distance / jnp.square(bandwidth), axis=-1)
    constant = jnp.log(bandwidth) + 0.5 * math.log(2.0 * math.pi)
    return found - math.log(count) - size * constant


def network(config: SupportConfig) -> MLP:
    """G of z, and V of s, of one output each."""
    return MLP(config.hidden, 1)


def energy_to_come(config: SupportConfig, params: Any, z: jax.Array) -> jax.Array:
    """G `[...]` of z `[..., D]`, or V of s `[..., O]`, in units of `Support.scale`."""
    return network(config).apply({"params": params}, z)[..., 0]
