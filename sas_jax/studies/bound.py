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

from sas_jax.alignment import lyapunov
from sas_jax.alignment.config import SASConfig
from sas_jax.alignment.loops import bounded, cut, loop_keys, run_loop
from sas_jax.alignment.sequence_model import make_room
from sas_jax.progress import SILENT, Progress
from sas_jax.studies.probe import Probe

LAYOUTS = 8  # a part; their first loops run side by side: one shape, one program
SECOND_LOOPS = 4  # run side by side, of whichever layouts


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


def _largest_step(energies):
    steps = jnp.abs(jnp.diff(energies, axis=-1))
    return jnp.max(jnp.where(jnp.isfinite(steps), steps, 0.0), initial=0.0)


@dataclasses.dataclass(frozen=True)
class _Loops:
    """Both loops of one layout, with the largest N and M asked for."""

    probe: Probe
    config: SASConfig
    num_firsts: tuple[int, ...]

    def first(self, variables, seed, obs):
        """What a layout's first pool chooses for each N."""
        probe, config, length = self.probe, self.config, self.config.prompt_length
        model, horizon = probe.model, probe.horizon
        counts = jnp.zeros(horizon, bool).at[probe.compared].set(True)
        key, state = probe.start(variables, seed, obs)
        keys = loop_keys(key, config)[0]
        loop = run_loop(model, variables, config, horizon, keys, state, None)

        def chosen_of(n):
            given = (loop.energies[:n], counts, loop.is_valid[:n])
            return bounded(lyapunov.select_first(*given), length, horizon)

        chosen = [chosen_of(n) for n in self.num_firsts]
        found = jnp.stack([c.selection.is_valid for c in chosen])
        segments = [cut(loop, c, c.selection.is_valid, length) for c in chosen]
        return {
            "index": jnp.stack([c.selection.index for c in chosen]),
            "found": found,
            "level": jnp.where(
                found, jnp.stack([c.selection.level for c in chosen]), jnp.nan
            ),
            "segments": jax.tree.map(lambda *x: jnp.stack(x), *segments),
            "step": _largest_step(loop.energies[:, probe.compared]),
        }

    def second(self, variables, seed, obs, level, segment, found):
        """What the second pool under a segment shows."""
        probe, config, length = self.probe, self.config, self.config.prompt_length
        model, horizon = probe.model, probe.horizon
        key, state = probe.start(variables, seed, obs)
        keys = loop_keys(key, config)[1]
        prompt = model.encode_prompt(variables, segment, found)
        room = make_room(model, state, length)
        loop = run_loop(model, variables, config, horizon, keys, room, prompt)
        energies, valid = loop.energies[:, probe.compared], loop.is_valid
        g = jax.vmap(lyapunov.lyapunov_value, in_axes=(0, None))(energies, level)
        return {
            "peak": jnp.where(valid, energies.max(axis=1), jnp.nan),
            "low": jnp.where(valid, energies.min(axis=1), jnp.nan),
            "score": jax.vmap(lyapunov.condition_v)(g).sum(axis=1),
            "step": _largest_step(energies),
        }


def make_pools(
    probe: Probe,
    num_firsts: tuple[int, ...],
    num_second: int,
    *,
    progress: Progress = SILENT,
) -> Callable[..., dict[str, np.ndarray]]:
    """Builds (seeds `[E]`, obs `[E, O]`) -> arrays of the pools of E layouts.

    Args:
      num_firsts: the values of N, ascending; the first pool has the last of them.
      num_second: largest M.
      progress: told of imagined steps; second loops that are not needed count as
        skipped.

    Returns a function that gives, with G = len(num_firsts) and energies not shifted:
      level `[E, G]` E-hat, NaN where no candidate is finite; peak, low `[E, G, M]`
      largest and smallest energy of the second loop's imaginations, NaN where not
      finite; score `[E, G, M]` sum of V; step `[E]` largest |E_t - E_{t+1}|.

    Where a larger N chooses the same imagination as a smaller one, the second loop is
    the same too and runs once: 3.2 loops a layout instead of 5 for N = 1, 3, 5, 10, 30,
    if all imaginations are as likely to be the best.
    """
    horizon = probe.horizon
    config = dataclasses.replace(
        probe.config, num_first=num_firsts[-1], num_second=num_second
    )
    loops = _Loops(probe, config, num_firsts)
    first_loops = jax.jit(jax.vmap(loops.first, in_axes=(None, 0, 0)))
    second_loops = jax.jit(jax.vmap(loops.second, in_axes=(None, *(0,) * 5)))

    def pools(seeds, obs):
        seeds, obs = np.asarray(seeds, np.uint32), np.asarray(obs)
        first = jax.device_get(first_loops(probe.variables, seeds, obs))
        layouts = len(np.unique(seeds))
        progress.done(layouts * num_firsts[-1] * horizon)
        rows, groups, place = distinct(seeds, first["index"], first["found"])
        levels, blocks = first["level"], []
        for start in range(0, len(rows), SECOND_LOOPS):
            count = min(SECOND_LOOPS, len(rows) - start)
            fill = start + np.minimum(np.arange(SECOND_LOOPS), count - 1)
            row, group = rows[fill], groups[fill]
            segments = jax.tree.map(
                lambda x, r=row, g=group: x[r, g], first["segments"]
            )
            found = first["found"][row, group]
            out = second_loops(
                probe.variables,
                seeds[row],
                obs[row],
                levels[row, group],
                segments,
                found,
            )
            out = jax.tree.map(lambda x, n=count: x[:n], jax.device_get(out))
            blocks.append(out)
            progress.done(count * num_second * horizon)
        spared = layouts * len(num_firsts) - len(rows)
        progress.skip(spared * num_second * horizon)
        second = jax.tree.map(lambda *x: np.concatenate(x), *blocks)
        second = {name: values[place] for name, values in second.items()}
        step = np.maximum(first["step"], second.pop("step").max(axis=1))
        return second | {"level": levels, "step": step}

    return pools


def distinct(
    seeds: np.ndarray, index: np.ndarray, found: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which second loops differ, of layouts `[E]` and the imaginations chosen.

    Args:
      seeds: of the layouts; equal ones are the same layout. index, found: `[E, G]`.

    Returns rows, groups `[D]`, where each is first asked for, and place `[E, G]`: which
    of the D belongs to a layout and a value of N. Without a candidate there is no
    prompt, which is a loop of its own.
    """
    which = np.where(found, np.asarray(index, np.int64), -1)
    layouts = np.broadcast_to(np.asarray(seeds, np.int64)[:, None], which.shape)
    pairs = np.stack([layouts, which], axis=-1).reshape(-1, 2)
    _, first, place = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
    return *np.divmod(first, index.shape[1]), place.reshape(index.shape)


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
