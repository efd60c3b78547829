"""Which return to ask for while so much cost may still come.

A policy that is told a return and a cost to go is mostly told a pair that the data do
not show: a high return and hardly any cost. What then happens follows the return
(CoPDT, Xue et al. 2025, Table 2). So the return token is learnt: in data, with
observation s, cost to go C and time t,

    R | s, C, t  ~  N(mu, sigma^2)                          a network, by likelihood
    token = mu + sigma Phi^-1(beta),
    beta  = beta_last + (beta_first - beta_last) C / kappa

which is CPRTG (cost-prioritised return to go, the same paper): much is asked for while
the budget kappa is whole, less as it is spent. The quantile is exact here; the paper
draws 1000 samples. The paper's network sees the last K steps; this one the last one and
the time.
"""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from sas_jax.config import Many, Number, check
from sas_jax.models.networks import MLP

# Of a return in units of the data's scale: no likelihood grows without bound.
_LEAST_LOG_STD = -5.0
_MOST_LOG_STD = 2.0


@dataclasses.dataclass(frozen=True)
class AskingConfig:
    """Settings of the network, of its training, and of what is asked for.

    hidden: layers. learning_rate, weight_decay: of AdamW, with a cosine decay over
      num_steps. batch_size: steps of the data in a batch.
    num_steps: most training steps, in whole chunks of check_every, after each of which
      there is a look at the early-stopping split. patience: looks without progress that
      end training.
    first_quantile, last_quantile: beta with the whole budget left, and with none.

    Raises:
      UserError: a value out of range.
    """

    hidden: tuple[int, ...] = (256, 256)
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    batch_size: int = 1024
    num_steps: int = 2000
    check_every: int = 100
    patience: int = 5
    first_quantile: float = 0.99
    last_quantile: float = 0.8

    def __post_init__(self):
        count, quantile = Number(least=1, whole=True), Number(above=0, below=1)
        rules = {
            "hidden": Many(count),
            "learning_rate": Number(above=0),
            "weight_decay": Number(least=0),
            "batch_size": count,
            "num_steps": count,
            "check_every": count,
            "patience": count,
            "first_quantile": quantile,
            "last_quantile": quantile,
        }
        check(self, "asking", rules)


@flax.struct.dataclass
class Asking:
    """A fitted network; a pytree whose sizes and settings are static.

    params: of the MLP. return_scale, cost_scale: divide returns and costs; max_timestep
    divides steps. scaling: tells one standardisation of observations from another.
    """

    params: Any
    config: AskingConfig = flax.struct.field(pytree_node=False)
    obs_dim: int = flax.struct.field(pytree_node=False)
    return_scale: float = flax.struct.field(pytree_node=False)
    cost_scale: float = flax.struct.field(pytree_node=False)
    max_timestep: int = flax.struct.field(pytree_node=False)
    scaling: str = flax.struct.field(pytree_node=False)


def network(config: AskingConfig) -> MLP:
    """Its outputs are mean and log standard deviation of a return, scaled."""
    return MLP(config.hidden, 2)


def inputs(asking: Asking, obs, cost_to_go, timestep) -> jax.Array:
    """What the network sees `[..., O + 3]`: small budgets are told apart as well."""
    cost = jnp.maximum(cost_to_go, 0.0)
    time = timestep / asking.max_timestep
    own = (cost / asking.cost_scale, jnp.log1p(cost), time)
    return jnp.concatenate([obs, jnp.stack(own, axis=-1)], axis=-1)


def distribution(
    asking: Asking, obs: jax.Array, cost_to_go: jax.Array, timestep: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation of the return to go `[...]`, return units.

    Args:
      obs: `[..., O]` standardised by the data's spec. cost_to_go: `[...]` cost units.
      timestep: `[...]` steps since the episode's beginning.
    """
    seen = inputs(asking, obs, cost_to_go, timestep)
    out = network(asking.config).apply({"params": asking.params}, seen)
    log_std = jnp.clip(out[..., 1], _LEAST_LOG_STD, _MOST_LOG_STD)
    return out[..., 0] * asking.return_scale, jnp.exp(log_std) * asking.return_scale


def token(
    asking: Asking,
    obs: jax.Array,
    cost_to_go: jax.Array,
    cost_limit: jax.Array,
    timestep: jax.Array,
) -> jax.Array:
    """The return to ask for `[...]`, return units; see the module.

    cost_limit: `[...]` kappa; the other arguments as in `distribution`.
    """
    config = asking.config
    whole = jnp.maximum(cost_limit, 1e-6)
    share = jnp.clip(cost_to_go / whole, 0.0, 1.0)
    beta = config.last_quantile + share * (config.first_quantile - config.last_quantile)
    mean, std = distribution(asking, obs, cost_to_go, timestep)
    return mean + std * jax.scipy.special.ndtri(beta)
