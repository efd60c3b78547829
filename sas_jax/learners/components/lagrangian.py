"""BCQ-Lag's and BEAR-Lag's common part: candidates, a price on cost, its controller.

Both back up from candidate actions a_i at the next state. `mix` is BCQ's soft minimum,
for costs the soft maximum (w max + (1 - w) min):

    i   = argmax_i  mix Q'(s', a_i) - lambda mix Q_c'(s', a_i)
    y   = r + gamma mix Q'(s', a_i),    y_c = c + gamma mix Q_c'(s', a_i)

so that both critics evaluate the one policy that the Lagrangian asks for. In the
reference code (`reference="osrl"`) y and y_c take their maxima each for itself: y_c is
the cost of the worst candidate; its mix for costs is the soft minimum, and each critic
is two of two networks. lambda is a controller's (`multipliers.pid_step`) of
E Q_c(s, pi(s)) - theta, one step an update.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from sas_jax.config import Many, Number
from sas_jax.experiment import ExperimentConfig
from sas_jax.learners.components import multipliers, osrl
from sas_jax.learners.components.critics import at_best, least_and_most
from sas_jax.types import TransitionBatch


@dataclasses.dataclass(frozen=True)
class LagrangianConfig(osrl.ConstrainedConfig):
    """vae_hidden: widths of the VAE. vae_beta: weight of its divergence.
    num_candidates: actions at a state, to choose from. mix_weight: of the minimum in
    `mix`.
    """

    actor_rate: float = 1e-3
    vae_hidden: tuple[int, ...] = (400, 400)
    vae_beta: float = 0.5
    num_candidates: int = 10
    mix_weight: float = 0.75

    def rules(self) -> dict[str, Any]:
        """One rule a field."""
        return super().rules() | {
            "vae_hidden": Many(Number(least=1, whole=True)),
            "vae_beta": Number(above=0),
            "num_candidates": Number(least=1, whole=True),
            "mix_weight": Number(least=0, most=1),
        }


def initial() -> dict[str, Any]:
    """What a state holds of the price: the controller, and the multiplier it gave."""
    return {"pid": multipliers.pid_init(), "multiplier": jnp.zeros(())}


def mixes(
    config: ExperimentConfig, value: jax.Array, cost: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """`mix` of the members' values and costs `[members, ...]`."""
    weight, is_paper = config.model.mix_weight, config.model.is_paper
    mixed = -least_and_most(-cost, weight) if is_paper else least_and_most(cost, weight)
    return least_and_most(value, weight), mixed


def backup(
    config: ExperimentConfig,
    batch: TransitionBatch,
    multiplier: jax.Array,
    value: jax.Array,
    cost: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """y and y_c `[B]`.

    value, cost: `[members, n, B]` of the target critics at n candidates of the next
    state.
    """
    value, cost = mixes(config, value, cost)
    if config.model.is_paper:
        value, cost = at_best(value - multiplier * cost, value, cost)
    else:
        value, cost = value.max(axis=0), cost.max(axis=0)
    goes_on, costs_on = osrl.bootstraps(config, batch)
    discount = config.model.discount
    target = config.model.reward_scale * batch.reward + discount * goes_on * value
    return target, batch.cost + discount * costs_on * cost


def price(
    extra: dict[str, Any], violation: jax.Array
) -> tuple[dict[str, Any], jax.Array]:
    """The controller a step later, and the multiplier `[]`, a constant."""
    pid, multiplier = multipliers.pid_step(
        extra["pid"], jax.lax.stop_gradient(violation)
    )
    return {"pid": pid, "multiplier": multiplier}, multiplier


def repeat(count: int, obs: jax.Array) -> jax.Array:
    """`[B, O]` -> `[count, B, O]`."""
    return jnp.broadcast_to(obs[None], (count, *obs.shape))


def lagrangian(
    config: ExperimentConfig,
    value: Callable[..., jax.Array],
    cost: Callable[..., jax.Array],
    multiplier: jax.Array,
) -> Callable[..., jax.Array]:
    """(obs, action) -> mix Q - lambda mix Q_c; value, cost: the members' of both."""

    def score(obs, action):
        mixed = mixes(config, value(obs, action), cost(obs, action))
        return mixed[0] - multiplier * mixed[1]

    return score
