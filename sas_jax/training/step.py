"""One update of every lane: the body of every training loop."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from sas_jax.experiment import ExperimentConfig
from sas_jax.training import devices
from sas_jax.types import Learner


def make_step(
    config: ExperimentConfig,
    learner: Learner,
    mesh: Any = None,
    data_axes: Any = None,
) -> Callable:
    """`(data, states [U], step) -> (states, metrics [U])`: an update of every lane.

    With a single lane neither states nor metrics have the axis `U`. A lane whose loss
    or gradient is not finite keeps its state, and so does one that stands at another
    step than `step` `[]`.

    data_axes: where `data` has an axis of lanes; None means that all share it.
    """
    is_single = len(config.train.lanes) == 1

    def update(state, data):
        key = jax.random.fold_in(state.key, 2 * state.step)
        batch = learner.sample(data, key, state)
        return learner.update(state, devices.spread_rows(batch, mesh))

    # A batch axis of one would send every product down the slower batched path.
    update_all = update if is_single else jax.vmap(update, (0, data_axes))

    def one_step(data, states, step):
        after, metrics = update_all(states, data)
        # The comparison keeps a lane that failed from trying again.
        is_good = states.step == step
        for name in ("loss", "gradient_norm"):
            is_good &= jnp.isfinite(metrics.get(name, jnp.zeros(())))

        def pick(new, old):
            wide = (*is_good.shape, *(1,) * (new.ndim - is_good.ndim))
            return jnp.where(is_good.reshape(wide), new, old)

        # Conditional, so that the update is compiled as it would be without a choice.
        states = jax.lax.cond(
            is_good.all(),
            lambda new, old: new,
            lambda new, old: jax.tree.map(pick, new, old),
            after,
            states,
        )
        return states, metrics

    return one_step
