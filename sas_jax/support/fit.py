"""Fits a support model to data: kernels, their width, a level, and G where it is asked.

Kernels are steps that the policy was trained on. The held-out episodes are halved: one
half chooses the width and the level, the other one is what the report is about.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax.config import check_seed
from sas_jax.critic.fit import split_for
from sas_jax.data import transitions
from sas_jax.data.episodes import Episodes
from sas_jax.data.spec import DataSpec
from sas_jax.support import lyapunov
from sas_jax.support.model import Support, SupportConfig, inputs, log_density

_BLOCK = 4096
_LEAST_STD = 1e-3


def fit_support(
    episodes: Episodes,
    spec: DataSpec,
    config: SupportConfig,
    seed: int = 0,
    *,
    held_out: float = 0.1,
    split_seed: int = 0,
    on_look: Callable[[int, float], None] | None = None,
) -> tuple[Support, dict]:
    """Fits and measures.

    Args:
      episodes: all of the data, before any split. spec: of the policy that it serves.
      seed: of the kernels, weights and batches.
      held_out, split_seed: `train.held_out` and `train.seed` of that policy.
      on_look: called with the step and a loss.

    Returns:
      The model, and its report: "bandwidth", "log_density" by bandwidth of the half
      that chose, "level", "inside", the share of the other half's steps within it (1 -
      quantile was meant), and "score", its quantiles there.

    Raises:
      UserError: NaN in the data, another task or sizes unlike the spec's, too few
        episodes, a seed that is none, or a loss that is not finite.
    """
    check_seed(seed)
    parts = split_for(episodes, spec, held_out, split_seed)
    rows = [_rows(part, spec) for part in parts]
    support = _kernels(*rows[0][:2], spec, config, seed)
    tried = {
        h: float(
            _in_blocks(
                _density, support.replace(bandwidth=jnp.float32(h)), rows[1]
            ).mean()
        )
        for h in config.bandwidths
    }
    best = max(tried, key=tried.__getitem__)
    support = support.replace(bandwidth=jnp.float32(best))
    if config.kind == "lyapunov":
        support = _with_energies(support, rows[0], seed, on_look)
    elif on_look:
        on_look(config.num_steps, -tried[best])
    level = np.quantile(_in_blocks(_score, support, rows[1]), 1.0 - config.quantile)
    support = support.replace(level=jnp.float32(level))
    found = _in_blocks(_score, support, rows[2])
    shares = (0.05, 0.5, 0.95)
    return support, {
        "settings": dataclasses.asdict(config) | {"seed": seed},
        "bandwidth": best,
        "log_density": {str(h): value for h, value in tried.items()},
        "level": float(level),
        "inside": float((found <= level).mean()),
        "score": {str(q): float(np.quantile(found, q)) for q in shares},
        "episodes": parts[2].num_episodes,
    }


def _rows(episodes: Episodes, spec: DataSpec):
    """Every step: obs, action, next obs, whether the next one counts."""
    data = transitions.to_device(episodes, spec)
    batch = transitions.at(data, jnp.arange(episodes.num_steps))
    return batch.obs, batch.action, batch.next_obs, batch.bootstrap


def _kernels(obs, action, spec: DataSpec, config: SupportConfig, seed: int) -> Support:
    """Kernels at recorded steps, of no width yet."""
    count = min(config.num_centres, len(action))
    rng = np.random.default_rng([27, seed])
    chosen = np.sort(rng.choice(len(action), count, replace=False))
    one, zero = jnp.ones(()), jnp.zeros(())
    support = Support(
        centres=jnp.zeros((count, spec.obs_dim + spec.action_dim)),
        action_mean=action.mean(axis=0),
        action_std=jnp.maximum(action.std(axis=0), _LEAST_STD),
        bandwidth=one,
        least=zero,
        scale=one,
        level=zero,
        params=None,
        config=config,
        obs_dim=spec.obs_dim,
        action_dim=spec.action_dim,
        scaling=spec.scaling,
    )
    return support.replace(centres=inputs(support, obs[chosen], action[chosen]))


def _with_energies(support: Support, rows, seed: int, on_look) -> Support:
    """The model with G, fitted to the steps `rows`."""
    energy = -_in_blocks(_density, support, rows)
    # A kernel's own step is no surprise to it: the least would be that of a kernel.
    least = np.quantile(energy, 0.01)
    energy = np.maximum(energy - least, 0.0)
    scale = max(float(energy.std()), _LEAST_STD)
    obs, action, next_obs, goes_on = rows
    steps = lyapunov.Steps(
        obs=obs,
        z=jax.jit(inputs)(support, obs, action),
        energy=jnp.asarray(energy / scale, jnp.float32),
        next_obs=next_obs,
        goes_on=jnp.asarray(goes_on, jnp.float32),
    )
    params = lyapunov.fit(steps, support.config, seed, on_look)
    return support.replace(
        least=jnp.float32(least), scale=jnp.float32(scale), params=params
    )


def _density(support: Support, obs, action) -> jax.Array:
    z = inputs(support, obs, action)
    return log_density(z, support.centres, support.bandwidth)


def _score(support: Support, obs, action) -> jax.Array:
    return support.score(obs, action)


def _in_blocks(function, support: Support, rows) -> np.ndarray:
    """`[n]` of `function(support, obs, action)`, in blocks of one shape."""
    obs, action = rows[:2]
    run, found = jax.jit(function), []
    for first in range(0, len(obs), _BLOCK):
        index = np.arange(first, first + _BLOCK) % len(obs)
        found.append(np.asarray(run(support, obs[index], action[index])))
    return np.concatenate(found)[: len(obs)]
