"""Which imagination a loop of Algorithm 1 chooses: one function a rule, in one table.

A rule is a function (key, candidates, config) -> `lyapunov.Selection`. It is pure, sees
one loop of one episode, and is vmapped by the caller. The segment that becomes a prompt
ends at the selection's `peak`. To add a rule is to add a function:

    @rules.rule("calm")
    def calmest(key, candidates, config):
        energy = jnp.where(candidates.is_valid[:, None], candidates.energies, 0.0)
        return rules.selection(energy.mean(axis=1), candidates)

    variants.add_variant("calm", variants.Variant(first="calm"))

After that `align`, re-alignment in flight and every entry point know the variant.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sas_jax.alignment import lyapunov
from sas_jax.alignment.config import SASConfig
from sas_jax.errors import UserError
from sas_jax.types import Key


class Candidates(NamedTuple):
    """What a rule sees: the P imaginations of one loop.

    energies: `[P, T]` E_t. reward, cost: `[P, T]` as predicted. risk: `[P, T]` of a
    cost critic; None unless a rule that is asked for needs it.
    level: `[]` E-hat of the first loop; NaN while the first loop itself is judged.
    cost_limits: `[C]` thresholds. num_steps: `[]` int32 steps until the episode ends,
    at most T. counts: `[T]` bool, the steps whose energies may be compared.
    is_valid: `[P]` bool, False where something is not finite: never to be chosen.
    """

    energies: jax.Array
    reward: jax.Array
    cost: jax.Array
    risk: jax.Array | None
    level: jax.Array
    cost_limits: jax.Array
    num_steps: jax.Array
    counts: jax.Array
    is_valid: jax.Array


class Rule(NamedTuple):
    """A rule of selection.

    needs_risk: it reads `Candidates.risk`. sees_limit: what it chooses depends on the
    episode's threshold.
    """

    choose: Callable[[Key, Candidates, SASConfig], lyapunov.Selection]
    needs_risk: bool = False
    sees_limit: bool = False


RULES: dict[str, Rule] = {}


def rule(name: str, **reads: bool) -> Callable[[Callable], Callable]:
    """Decorator: puts a function into the table under `name`; reads: see `Rule`.

    Raises:
      UserError: the name is taken.
    """

    def add(choose):
        if name in RULES:
            raise UserError(f"rule {name!r}: there is one of that name already")
        RULES[name] = Rule(choose, **reads)
        return choose

    return add


def selection(
    rank: jax.Array, seen: Candidates, score: jax.Array | None = None
) -> lyapunov.Selection:
    """The valid candidate with the smallest `rank` `[P]`, cut at its largest energy.

    score: `[P]` what the choice is reported to be made by; None means the rank.
    """
    peaks, times = lyapunov.peaks(seen.energies, seen.counts, seen.is_valid)
    score = rank if score is None else score
    return lyapunov.choose(rank, peaks, times, score, seen.is_valid)


@rule("min")
def lowest_peak(key: Key, seen: Candidates, config: SASConfig) -> lyapunov.Selection:
    """Line 6: the trajectory whose largest energy is the lowest."""
    del key, config
    return lyapunov.select_first(seen.energies, seen.counts, seen.is_valid)


@rule("max")
def highest_peak(key: Key, seen: Candidates, config: SASConfig) -> lyapunov.Selection:
    """The `maxmax` ablation (Table 1): argmax in line 6."""
    del key, config
    return lyapunov.select_first(seen.energies, seen.counts, seen.is_valid, rule="max")


@rule("random")
def random_segment(key: Key, seen: Candidates, config: SASConfig) -> lyapunov.Selection:
    """A random valid trajectory and a random segment of it (the `rand` control)."""
    horizon, length = seen.energies.shape[1], config.prompt_length
    index_key, end_key = jax.random.split(key)
    draw = jax.random.uniform(index_key, seen.is_valid.shape)
    found = selection(draw, seen)
    last = jnp.clip(seen.num_steps, length, horizon)
    end = jax.random.randint(end_key, (), length, last + 1)
    return found._replace(peak=jnp.where(found.is_valid, end, 0), score=found.level)


@rule("v")
def most_v(key: Key, seen: Candidates, config: SASConfig) -> lyapunov.Selection:
    """Lines 12 and 14: condition V is met most often."""
    del key, config
    return lyapunov.select_second(seen.energies, seen.level, seen.counts, seen.is_valid)


@rule("uv")
def most_uv(key: Key, seen: Candidates, config: SASConfig) -> lyapunov.Selection:
    """Eq. 9: conditions U and V together are met most often."""
    del key, config
    return lyapunov.select_second(
        seen.energies, seen.level, seen.counts, seen.is_valid, count_u=True
    )


def _standardised(x, is_valid):
    """`[P]` less its mean, over its standard deviation; 0 where all are equal."""
    count = jnp.maximum(is_valid.sum(), 1)
    x = jnp.where(is_valid, x, 0.0)
    away = jnp.where(is_valid, x - x.sum() / count, 0.0)
    spread = jnp.sqrt(jnp.square(away).sum() / count)
    return jnp.where(spread > 1e-9, away / jnp.maximum(spread, 1e-9), 0.0)


@rule("risk", needs_risk=True)
def least_risk(key: Key, seen: Candidates, config: SASConfig) -> lyapunov.Selection:
    """The least risk to a cost critic, among the trajectories that are likely.

    Beyond the paper (algorithm, section 10). The score, the smaller the better, is the
    mean risk plus `risk_penalty` times the mean energy. Both are standardised over the
    candidates, so that the penalty means the same for all densities and critics.
    Whoever picks by a learnt number picks its errors too: hence the penalty.
    """
    del key
    assert seen.risk is not None  # the rule needs it
    is_valid = seen.is_valid & jnp.all(jnp.isfinite(seen.risk), axis=1)
    inside = jnp.arange(seen.energies.shape[1]) < seen.num_steps
    counts = inside[None, :] & is_valid[:, None]

    def mean(x):
        total = jnp.where(counts, x, 0.0).sum(axis=1)
        return total / jnp.maximum(counts.sum(axis=1), 1)

    score = _standardised(mean(seen.risk), is_valid)
    score = score + config.risk_penalty * _standardised(mean(seen.energies), is_valid)
    return selection(score, seen._replace(is_valid=is_valid))


def _sums(seen: Candidates) -> tuple[jax.Array, jax.Array]:
    """`[P]` predicted return and predicted cost of the candidates."""
    inside = (jnp.arange(seen.reward.shape[1]) < seen.num_steps)[None, :]
    gain, cost = (
        jnp.where(inside, x, 0.0).sum(axis=1) for x in (seen.reward, seen.cost)
    )
    return gain, cost


@rule("budget", sees_limit=True)
def best_within_budget(
    key: Key, seen: Candidates, config: SASConfig
) -> lyapunov.Selection:
    """The best predicted return of those that fit the budget; what exceeds it weighs.

    kappa as a constraint: the first of `cost_limits` is what the candidates may cost.
    Every unit beyond it takes `plan.cost_weight` of return. An infinite weight, the
    least cost where none fits, gave a lower return at a higher cost: the last
    hundredth of a predicted cost is not worth leaving the data for.
    """
    del key
    gain, cost = _sums(seen)
    excess = jnp.maximum(cost - seen.cost_limits[0], 0.0)
    return selection(config.plan.cost_weight * excess - gain, seen, score=cost)


@rule("weighted")
def best_weighted(key: Key, seen: Candidates, config: SASConfig) -> lyapunov.Selection:
    """The largest predicted return less `plan.cost_weight` times predicted cost."""
    del key
    gain, cost = _sums(seen)
    return selection(config.plan.cost_weight * cost - gain, seen, score=cost)


@rule("any")
def any_candidate(key: Key, seen: Candidates, config: SASConfig) -> lyapunov.Selection:
    """Any valid candidate: what executing plans does by itself (a control)."""
    del config
    return selection(jax.random.uniform(key, seen.is_valid.shape), seen)
