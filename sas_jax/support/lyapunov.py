"""Fits the Lyapunov density model's G on recorded steps; see `model`.

    V   min  E L_tau( G'(s, a) - V(s) )                  tau < 1/2: near the least
    G   min  E ( max(E(s, a), gamma V(s')) - G(s, a) )^2

G' follows G slowly. After an episode's own end nothing is still to be met; after a
time-out there is.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sas_jax.critic.fit import optimiser_of
from sas_jax.errors import UserError
from sas_jax.support.model import SupportConfig, energy_to_come, network

_LOOKS = 20


class Steps(NamedTuple):
    """Recorded steps, `[n]` each.

    obs, next_obs: `[n, O]`; z: `[n, D]`. energy: E in units of the networks' output.
    goes_on: whether the next state counts.
    """

    obs: jax.Array
    z: jax.Array
    energy: jax.Array
    next_obs: jax.Array
    goes_on: jax.Array


def fit(
    steps: Steps,
    config: SupportConfig,
    seed: int,
    on_look: Callable[[int, float], None] | None = None,
) -> Any:
    """The parameters of G.

    on_look: called with the step and the loss of a batch.

    Raises:
      UserError: a loss that is not finite.
    """
    optimiser, net = optimiser_of(config), network(config)
    keys = jax.random.split(jax.random.key(seed), 3)
    params = {
        "g": net.init(keys[0], steps.z[:1])["params"],
        "v": net.init(keys[1], steps.obs[:1])["params"],
    }

    def loss(params, target, batch):
        met = energy_to_come(config, target, batch.z)
        v = energy_to_come(config, params["v"], batch.obs)
        miss = met - v
        # expectile: what lies below pulls the more.
        weight = jnp.where(miss < 0, 1.0 - config.expectile, config.expectile)
        after = energy_to_come(config, params["v"], batch.next_obs)
        worst = jnp.maximum(batch.energy, config.discount * batch.goes_on * after)
        g = energy_to_come(config, params["g"], batch.z)
        error = jax.lax.stop_gradient(worst) - g
        return jnp.mean(weight * jnp.square(miss)) + jnp.mean(jnp.square(error))

    chunk = max(config.num_steps // _LOOKS, 1)

    # Data are arguments: constants would be part of the program.
    @jax.jit
    def train_chunk(carry, first, steps):
        def one(carry, step):
            params, target, state = carry
            drawn = jax.random.fold_in(keys[2], step)
            index = jax.random.randint(
                drawn, (config.batch_size,), 0, steps.energy.shape[0]
            )
            batch = Steps(*(x[index] for x in steps))
            value, slope = jax.value_and_grad(loss)(params, target, batch)
            updates, state = optimiser.update(slope, state, params)
            params = optax.apply_updates(params, updates)
            target = optax.incremental_update(params["g"], target, config.target_rate)
            return (params, target, state), value

        carry, values = jax.lax.scan(one, carry, first + jnp.arange(chunk))
        return carry, values[-1]

    carry, step = (params, params["g"], optimiser.init(params)), 0
    while step < config.num_steps:
        carry, value = train_chunk(carry, step, steps)
        step, value = step + chunk, float(value)
        if not np.isfinite(value):
            raise UserError(
                f"support: loss {value} after {step} steps; expected finite numbers "
                "(a smaller learning_rate?)"
            )
        if on_look:
            on_look(min(step, config.num_steps), value)
    return carry[0]["g"]
