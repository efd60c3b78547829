"""Proposition 4.2 beside what it bounds: does the chosen imagination leave the set?

    P[tau_best not in R] <= (E_D[E] / c2)^(N T)
                            + exp(-2 M kappa^2 (c2 - c1)^2 / (T L^2))         (Eq. 10)

with R = { c1 <= E <= c2 } (appendix E.3), energies shifted to be non-negative. c2 lies
above min_i max_t E, L bounds |G_t - G_{t+1}| (assumption E.1); the paper never says
what kappa is. Its proof treats steps as independent, bounds the chance that *all* steps
of all N trajectories exceed c2, and counts from an expectation of 0: a reference, not
a guarantee.

Measured: a pool of imaginations per layout. The first N of the first pool choose the
prompt, as Algorithm 1 does; of the second pool, every set of M counts alike.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax import lyapunov
from sas_jax.algorithm import bounded, cut, loop_keys, run_loop
from sas_jax.probe import Probe
from sas_jax.seam import make_room

LAYOUTS = 8  # imagined side by side: one shape, one program


class Constants(NamedTuple):
    """What the bound needs, energies shifted by `shift` (the data's least energy).

    mean_energy: E_D[E]. c1: lower end of R. lipschitz: L. kappa. horizon: T.
    uppers: name of a rule -> c2.
    """

    shift: float
    mean_energy: float
    c1: float
    lipschitz: float
    kappa: float
    horizon: int
    uppers: dict[str, float]


UPPERS = {
    "paper": "the largest level E-hat of any layout and N, as the proof asks",
    "data": "95th percentile of the largest energy of a recorded episode",
    "median": "the median level E-hat at the least N: half of the layouts above it",
}


def terms(
    constants: Constants, upper: float, num_first: int, num_second: int
) -> tuple[float, float]:
    """The two terms of Eq. 10, each at most 1; NaN unless c1 < c2 and 0 < c2."""
    if not (upper > max(constants.c1, 0.0)):
        return math.nan, math.nan
    ratio = constants.mean_energy / upper
    first = 0.0
    if ratio > 0:
        power = num_first * constants.horizon * math.log(ratio)
        first = math.exp(min(power, 0.0))
    spread = constants.kappa * (upper - constants.c1)
    exponent = 2 * num_second * spread**2
    if constants.lipschitz > 0:
        exponent /= constants.horizon * constants.lipschitz**2
    else:
        exponent = math.inf
    return first, math.exp(-exponent)


def make_pools(
    probe: Probe, num_firsts: tuple[int, ...], num_second: int
) -> Callable[..., dict[str, np.ndarray]]:
    """Builds (seeds `[E]`, obs `[E, O]`) -> arrays of the pools of E layouts.

    Args:
      num_firsts: the values of N, ascending; the first pool has the last of them.
      num_second: largest M.

    Returns a function that gives, with G = len(num_firsts) and energies not shifted:
      level `[E, G]` E-hat, NaN where no candidate is finite; peak, low `[E, G, M]`
      largest and smallest energy of the second loop's imaginations, NaN where not
      finite; score `[E, G, M]` sum of V; step `[E]` largest |E_t - E_{t+1}|.
    """
    model, config, horizon = probe.model, probe.config, probe.horizon
    length = config.prompt_length
    config = dataclasses.replace(
        config, num_first=num_firsts[-1], num_second=num_second
    )

    def describe(energies, level):
        """`[M, T]` -> peak, low, score `[M]`."""
        valid = jnp.isfinite(energies).all(axis=1)
        g = jax.vmap(lyapunov.lyapunov_value, in_axes=(0, None))(energies, level)
        score = jax.vmap(lyapunov.condition_v)(g).sum(axis=1)
        peak, low = energies.max(axis=1), energies.min(axis=1)
        return jnp.where(valid, peak, jnp.nan), jnp.where(valid, low, jnp.nan), score

    def largest_step(energies):
        steps = jnp.abs(jnp.diff(energies, axis=-1))
        return jnp.max(jnp.where(jnp.isfinite(steps), steps, 0.0), initial=0.0)

    def one(variables, seed, obs):
        key, state = probe.start(variables, seed, obs)
        first_keys, second_keys, _ = loop_keys(key, config)
        first = run_loop(model, variables, config, horizon, first_keys, state, None)
        levels, prompts = [], []
        for count in num_firsts:
            choice = bounded(
                lyapunov.select_first(first.energies[:count]), length, horizon
            )
            found = choice.selection.is_valid
            levels.append(jnp.where(found, choice.selection.level, jnp.nan))
            steps = cut(first, choice, found, length)
            prompts.append(model.encode_prompt(variables, steps, found))
        stacked = jax.tree.map(lambda *x: jnp.stack(x), *prompts)
        room = make_room(model, state, length)
        # Energies alone are kept: the loops run one after another in little memory.
        energies = jax.lax.map(
            lambda prompt: (
                run_loop(
                    model, variables, config, horizon, second_keys, room, prompt
                ).energies
            ),
            stacked,
        )
        levels = jnp.stack(levels)
        peak, low, score = jax.vmap(describe)(energies, levels)
        step = jnp.maximum(largest_step(first.energies), largest_step(energies))
        return {
            "level": levels,
            "peak": peak,
            "low": low,
            "score": score,
            "step": step,
        }

    compiled = jax.jit(jax.vmap(one, in_axes=(None, 0, 0)))

    def pools(seeds, obs):
        out = compiled(probe.variables, jnp.asarray(seeds, jnp.uint32), obs)
        return jax.device_get(out)

    return pools


def constants_of(
    pools: dict[str, np.ndarray], energies: np.ndarray, *, horizon: int, kappa: float
) -> Constants:
    """Constants from the pools and the data's energies `[E, T]` (NaN: no step)."""
    shift = float(np.nanmin(energies))
    steps = np.abs(np.diff(energies, axis=1))
    largest = max(float(np.nanmax(steps, initial=0.0)), float(pools["step"].max()))
    level = pools["level"]
    uppers = {
        "paper": np.nanmax(level),
        "data": np.quantile(np.nanmax(energies, axis=1), 0.95),
        "median": np.nanmedian(level[:, 0]),
    }
    return Constants(
        shift=shift,
        mean_energy=float(np.nanmean(energies)) - shift,
        c1=0.0,
        lipschitz=largest,
        kappa=kappa,
        horizon=horizon,
        uppers={name: float(c2) - shift for name, c2 in uppers.items()},
    )


def chosen_shares(
    pools: dict[str, np.ndarray], holds: np.ndarray, num_second: int
) -> np.ndarray:
    """How often line 14's choice among M imaginations has a property.

    The mean over all sets of `num_second` members of the pool, in closed form: ranked
    by the selection, the r-th is chosen from C(P - 1 - r, M - 1) of the C(P, M) sets.

    Args:
      holds: `[E, G, P]` bool, whether an imagination has it.

    Returns:
      `[E, G]` shares.
    """
    peak, score = pools["peak"], pools["score"]
    size = peak.shape[-1]
    if not 1 <= num_second <= size:
        raise ValueError(f"num_second: {num_second} of a pool of {size}")
    valid = np.isfinite(peak)
    # Last key first: valid, larger score, smaller peak; then the order in the pool.
    rank = np.lexsort((np.where(valid, peak, np.inf), -score, ~valid), axis=-1)
    total = math.comb(size, num_second)
    weight = [math.comb(size - 1 - r, num_second - 1) / total for r in range(size)]
    return np.take_along_axis(holds, rank, axis=-1) @ np.array(weight)


def leaving(
    pools: dict[str, np.ndarray], low: float, high: float
) -> dict[str, np.ndarray]:
    """Which imaginations of the second pool leave [low, high], `[E, G, P]` bool each.

    leaves: by either end, or disqualified, or without a first prompt. above, below: by
    that end. Limits in the pools' own, unshifted energies.
    """
    above, below = pools["peak"] > high, pools["low"] < low
    lost = ~np.isfinite(pools["peak"]) | ~np.isfinite(pools["level"])[..., None]
    return {"leaves": above | below | lost, "above": above, "below": below}
