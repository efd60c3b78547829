"""Fits which return to ask for to data: likelihood, early stopping, a report.

Training sees the episodes that the policy was trained on; the held-out ones are halved
into early stopping and report.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sas_jax.asking.network import Asking, AskingConfig, distribution, network
from sas_jax.config import check_seed
from sas_jax.critic.fit import optimiser_of, split_for, thinned
from sas_jax.data.episodes import Episodes
from sas_jax.data.spec import DataSpec
from sas_jax.errors import UserError

_QUANTILES = (0.1, 0.5, 0.8, 0.9, 0.99)


def fit_asking(
    episodes: Episodes,
    spec: DataSpec,
    config: AskingConfig,
    seed: int = 0,
    *,
    held_out: float = 0.1,
    split_seed: int = 0,
    on_look: Callable[[int, float], None] | None = None,
) -> tuple[Asking, dict]:
    """Trains and measures.

    Args:
      episodes: all of the data, before any split.
      spec: of the policy that it serves: standardises observations, scales returns.
      seed: of initialisation and batches.
      held_out, split_seed: `train.held_out` and `train.seed` of that policy.
      on_look: called with the step and the loss on the stop split.

    Returns:
      The network, and its report on episodes that chose nothing: "nll" a step, "nll_of_
      normal" of one normal distribution for all steps, "correlation" of the mean with
      the return to go, and "below", quantile -> share of returns below it.

    Raises:
      UserError: NaN in the data, another task or sizes unlike the spec's, too few
        episodes, a seed that is none, or a loss that is not finite.
    """
    check_seed(seed)
    parts = split_for(episodes, spec, held_out, split_seed)
    asking = _untrained(spec, config, seed)
    training, stopping, report = (_rows(part, spec) for part in parts)
    stopping = thinned(stopping)
    params, best, best_step, last = _train(asking, training, stopping, seed, on_look)
    asking = asking.replace(params=params)
    return asking, {
        "settings": dataclasses.asdict(config) | {"seed": seed},
        "train_steps": last,
        "steps_to_best": best_step,
        "stop_nll": best,
        "episodes": parts[2].num_episodes,
    } | _quality(asking, report)


def _untrained(spec: DataSpec, config: AskingConfig, seed: int) -> Asking:
    key = jax.random.fold_in(jax.random.key(seed), 0)
    params = network(config).init(key, jnp.zeros((1, spec.obs_dim + 3)))["params"]
    return Asking(
        params=params,
        config=config,
        obs_dim=spec.obs_dim,
        return_scale=float(spec.return_scale),
        cost_scale=float(spec.cost_scale),
        max_timestep=int(spec.max_timestep),
        scaling=spec.scaling,
    )


def _rows(episodes: Episodes, spec: DataSpec):
    """Every step on the device: obs, cost to go, timestep, return to go."""
    starts = np.repeat(episodes.offsets[:-1], episodes.lengths)
    timestep = np.arange(episodes.num_steps) - starts
    columns = (
        spec.standardised(episodes.observations),
        episodes.to_go(episodes.costs),
        timestep,
        episodes.to_go(episodes.rewards),
    )
    return tuple(jnp.asarray(x, jnp.float32) for x in columns)


def _nll(asking: Asking, rows) -> jax.Array:
    """Mean negative log-likelihood of the returns to go, of scaled returns."""
    obs, cost_to_go, timestep, target = rows
    mean, std = distribution(asking, obs, cost_to_go, timestep)
    away = (target - mean) / std
    log_std = jnp.log(std / asking.return_scale)
    return jnp.mean(0.5 * jnp.square(away) + log_std + 0.5 * jnp.log(2 * jnp.pi))


def _train(asking: Asking, rows, stop, seed: int, on_look):
    """Best parameters, their loss on the stop split, their step, and the last step."""
    config = asking.config
    optimiser = optimiser_of(config)
    chunk = min(config.check_every, config.num_steps)
    key = jax.random.fold_in(jax.random.key(seed), 1)

    def one_step(rows, carry, step):
        params, state = carry
        drawn, size = jax.random.fold_in(key, step), (config.batch_size,)
        index = jax.random.randint(drawn, size, 0, len(rows[3]))
        batch = tuple(x[index] for x in rows)
        grads = jax.grad(lambda p: _nll(asking.replace(params=p), batch))(params)
        updates, state = optimiser.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    # Data are arguments: constants would be part of the program.
    @jax.jit
    def train_chunk(params, state, first, rows, stop):
        steps = first + jnp.arange(chunk)
        step = functools.partial(one_step, rows)
        carry = jax.lax.scan(step, (params, state), steps)[0]
        return *carry, _nll(asking.replace(params=carry[0]), stop)

    params, state = asking.params, optimiser.init(asking.params)
    best_params, best, best_step, step = params, np.inf, 0, 0
    while step < config.num_steps:
        params, state, loss = train_chunk(params, state, step, rows, stop)
        step, loss = step + chunk, float(loss)
        if not np.isfinite(loss):
            raise UserError(
                f"asking: loss {loss} after {step} steps; expected finite numbers (a "
                "smaller learning_rate?)"
            )
        if loss < best:
            best_params, best, best_step = params, loss, step
        if on_look:
            on_look(step, loss)
        if step - best_step >= config.patience * chunk:
            break
    return best_params, best, best_step, step


def _quality(asking: Asking, rows) -> dict:
    """Plain numbers of the report; see `fit_asking`."""
    target = np.asarray(rows[3], np.float64)
    mean, std = (np.asarray(x) for x in jax.jit(distribution)(asking, *rows[:3]))
    scaled = target / asking.return_scale
    spread = max(float(scaled.std()), 1e-9)
    below = {}
    for quantile in _QUANTILES:
        at = mean + std * float(jax.scipy.special.ndtri(quantile))
        below[str(quantile)] = float((target < at).mean())
    return {
        "nll": float(jax.jit(_nll)(asking, rows)),
        "nll_of_normal": float(0.5 + np.log(spread) + 0.5 * np.log(2 * np.pi)),
        "correlation": float(np.corrcoef(mean, target)[0, 1]),
        "below": below,
    }
