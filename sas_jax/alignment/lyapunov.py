"""Energies, the Lyapunov model and Algorithm 1's selections. Pure, rank-1, log space.

Equation numbers are the SAS paper's. Callers vmap over trajectories and episodes.
"""

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp


class Selection(NamedTuple):
    """A trajectory chosen among candidates.

    index: int32 trajectory. peak: int32 time of its largest energy. level: its largest
    energy (E-hat). score: what it was chosen by. is_valid: False when no candidate had
    only finite energies; the other fields are then 0.
    """

    index: jax.Array  # type: ignore[assignment]  # a tuple's method of that name
    peak: jax.Array
    level: jax.Array
    score: jax.Array
    is_valid: jax.Array


def energy(log_density: jax.Array, *, discount: chex.Numeric, window: int) -> jax.Array:
    """E_t = -log rho-hat_t of one trajectory (Sec. 4, occupancy over a short window).

    log rho-hat_t = logsumexp_{k < w, t+k < T} ( k log discount + l_{t+k} ).

    Args:
      log_density: `[T]` l_t = log rho(s_t) + log pi(a_t | s_t, z_t).
      discount: in (0, 1], may be traced.
      window: w >= 1 steps, static.

    Returns:
      `[T]` energies.
    """
    chex.assert_rank(log_density, 1)
    if window < 1:
        raise ValueError(f"window must be >= 1, got {window}")
    length = log_density.shape[0]
    shift = jnp.arange(min(window, length))
    padded = jnp.concatenate(
        [log_density, jnp.full(shift.shape[0] - 1, -jnp.inf, log_density.dtype)]
    )
    terms = padded[jnp.arange(length)[:, None] + shift[None, :]]
    return -jax.nn.logsumexp(terms + shift[None, :] * jnp.log(discount), axis=1)


def lyapunov_value(energies: jax.Array, level: jax.Array) -> jax.Array:
    """G = level - E (Eq. 6). `[T]`, `[]` -> `[T]`."""
    chex.assert_rank([energies, level], [1, 0])
    return level - energies


def condition_u(g: jax.Array) -> jax.Array:
    """U_t = 1[G_t > 0] (Eq. 8). `[T]` -> `[T]` bool."""
    return g > 0


def condition_v(g: jax.Array) -> jax.Array:
    """V_t = 1[G_t - G_{t+1} >= 0] (Eq. 8). `[T]` -> `[T-1]` bool; the last has none."""
    return g[:-1] - g[1:] >= 0


def in_invariant_set(
    g: jax.Array,
    *,
    cost_limit: chex.Numeric,
    max_cost: chex.Numeric,
    concentrability: chex.Numeric,
) -> jax.Array:
    """Membership in R = { G <= -log(d / (C_max D)) } (Eq. 7). `[T]` -> `[T]` bool.

    cost_limit is the threshold d, max_cost the largest step cost C_max, concentrability
    the coefficient D >= 1. d = 0 puts no bound on G.
    """
    return g <= _log(max_cost) + _log(concentrability) - _log(cost_limit)


def _log(x: chex.Numeric) -> chex.Numeric:
    """log of a Python number or an array; -inf at 0."""
    if isinstance(x, (int, float)):
        return math.log(x) if x > 0 else -math.inf
    return jnp.log(x)


def share(holds: jax.Array, counts: jax.Array | None = None) -> jax.Array:
    """Share of the steps `[T]` that count at which a condition holds.

    counts: `[T]` bool, None means all. No steps give 0.
    """
    if counts is None:
        return holds.mean()
    return (holds & counts).sum() / jnp.maximum(counts.sum(), 1)


def pairs(counts: jax.Array) -> jax.Array:
    """`[T]` -> `[T-1]`: steps that count together with the next one."""
    return counts[:-1] & counts[1:]


def peaks(
    energies: jax.Array, counts: jax.Array | None, is_valid: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """Largest energy of each trajectory `[N, T]` and its first time, `[N]` both.

    counts: `[T]` bool, steps among which they are sought. Those of a trajectory that is
    not valid mean nothing, but are finite.
    """
    valid = _valid(energies, is_valid)
    clean = jnp.where(valid[:, None], energies, 0.0)
    sought = clean if counts is None else jnp.where(counts[None, :], clean, -jnp.inf)
    times = sought.argmax(axis=1)
    return jnp.take_along_axis(clean, times[:, None], axis=1)[:, 0], times


def _valid(energies, is_valid):
    """`[N]` bool: all energies finite, and nothing else against it."""
    finite = jnp.all(jnp.isfinite(energies), axis=1)
    return finite if is_valid is None else finite & is_valid


def choose(
    rank: jax.Array,
    peaks: jax.Array,
    times: jax.Array,
    score: jax.Array,
    is_valid: jax.Array,
) -> Selection:
    """The trajectory with the smallest `rank`, the first of equals, if any is valid.

    Everything is `[N]`: rank, largest energies and their times, what a choice is
    reported to be chosen by, and whether a trajectory may be chosen.
    """
    index = jnp.argmin(jnp.where(is_valid, rank, jnp.inf))
    found = is_valid[index]
    zero = jnp.zeros((), jnp.int32)
    return Selection(
        index=jnp.where(found, index, zero).astype(jnp.int32),
        peak=jnp.where(found, times[index], zero).astype(jnp.int32),
        level=jnp.where(found, peaks[index], 0.0),
        score=jnp.where(found, score[index], 0.0),
        is_valid=found,
    )


def select_first(
    energies: jax.Array,
    counts: jax.Array | None = None,
    is_valid: jax.Array | None = None,
    *,
    rule: str = "min",
) -> Selection:
    """Lines 3-6 of Algorithm 1: the trajectory with the lowest highest energy.

    Args:
      energies: `[N, T]`. A non-finite energy disqualifies its trajectory.
      counts: `[T]` bool, the steps that are compared; None means all.
      is_valid: `[N]` bool, trajectories that may be chosen; None means all.
      rule: "min", or "max" for the `maxmax` ablation (argmax in line 6).
    """
    chex.assert_rank(energies, 2)
    if rule not in ("min", "max"):
        raise ValueError(f"rule must be min or max, got {rule!r}")
    is_valid = _valid(energies, is_valid)
    peak, times = peaks(energies, counts, is_valid)
    rank = peak if rule == "min" else -peak
    return choose(rank, peak, times, peak, is_valid)


def select_second(
    energies: jax.Array,
    level: jax.Array,
    counts: jax.Array | None = None,
    is_valid: jax.Array | None = None,
    *,
    count_u: bool = False,
) -> Selection:
    """Lines 11-14 of Algorithm 1: the trajectory that meets the condition most often.

    Args:
      energies, counts, is_valid: as in `select_first`, `[M, T]`, `[T]`, `[M]`.
      level: `[]` E-hat of the first loop.
      count_u: score sum(U + V) (Eq. 9) instead of sum(V).

    Ties go to the lower highest energy, then to the lower index.
    """
    chex.assert_rank([energies, level], [2, 0])
    if counts is None:
        counts = jnp.ones(energies.shape[1], bool)
    is_valid = _valid(energies, is_valid)
    peak, times = peaks(energies, counts, is_valid)
    clean = jnp.where(is_valid[:, None], energies, 0.0)

    def score_of(row):
        g = lyapunov_value(row, level)
        score = (condition_v(g) & pairs(counts)).sum()
        return score + (condition_u(g) & counts).sum() if count_u else score

    score = jax.vmap(score_of)(clean)
    best = jnp.max(jnp.where(is_valid, score, -1))
    rank = jnp.where(score == best, peak, jnp.inf)
    return choose(rank, peak, times, score.astype(peak.dtype), is_valid)


def segment_bounds(
    peak: jax.Array, *, length: int, horizon: int
) -> tuple[jax.Array, jax.Array]:
    """Half-open bounds of the `length` steps before `peak`, inside `[0, horizon]`.

    The end is clipped to `[length, horizon]`, so the segment always holds `length`
    steps and shapes stay static.
    """
    if not 1 <= length <= horizon:
        raise ValueError(f"length must lie in [1, horizon={horizon}], got {length}")
    end = jnp.clip(peak, length, horizon).astype(jnp.int32)
    return end - length, end
