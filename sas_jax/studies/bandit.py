"""Which policy to deploy when nobody knows the world: a bandit over episodes.

Several policies are at hand (here: variants of one checkpoint), and the world of each
episode is somebody else's choice. Liu et al. 2024 (non-dominated policies) answer with
EXP3 over a finite set of policies: the loss of the one that acted is all that is seen.
With p the distribution over K policies and l in [0, 1] the loss of the drawn one,

    p_k ∝ exp(-eta L_k),   L_k += l 1{k drawn} / (p_k + gamma),
    eta = 2 sqrt(ln K / (K T)),   gamma = eta / 2        over T episodes

(EXP3-IX, Neu 2015: gamma keeps the estimate from exploding where p is small). Regret is
what the best single policy in hindsight, which knows all losses, would have saved.

Everything is played from a table of episodes that were run: each policy in each world
on each layout. So many repetitions cost nothing.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sas_jax.errors import UserError
from sas_jax.files.results import EpisodeResult, variants_of

ADVERSARIES = ("random", "turns", "worst")
# Episodes in a row that `turns` stays in a world.
_TURN = 50


class Losses(NamedTuple):
    """values: `[K, W, E]` in [0, 1], of policies `[K]` in worlds `[W]` on layouts.

    scale: what a loss of 1 is more than one of 0, in units of return.
    """

    values: np.ndarray
    policies: tuple[str, ...]
    worlds: tuple[str, ...]
    scale: float


class Played(NamedTuple):
    """R repetitions of T episodes. loss: `[R]` mean an episode. best: `[R]` that of the
    best single policy in hindsight, and of every policy `[R, K]`. share: `[K]` of
    episodes that each policy acted in, and in the last quarter `late`.
    """

    loss: np.ndarray
    best: np.ndarray
    single: np.ndarray
    share: np.ndarray
    late: np.ndarray


def losses_of(rows: Sequence[EpisodeResult], *, limit: float, price: float) -> Losses:
    """Losses of rows: minus the return, plus `price` for every cost beyond `limit`.

    They are scaled by the least and the largest of the table.

    Raises:
      UserError: rows of several tasks, algorithms or training seeds, or a policy that
        has not played every world and layout.
    """
    limits = sorted({row.cost_limit for row in rows})
    if limit not in limits:
        known = ", ".join(f"{known:g}" for known in limits) or "none"
        raise UserError(
            f"bandit: no rows at the threshold {limit:g} (there are: {known})"
        )
    rows = [row for row in rows if row.cost_limit == limit]
    kinds = {(row.task, row.algo, row.train_seed) for row in rows}
    if len(kinds) != 1:
        raise UserError(
            f"bandit: rows of {len(kinds)} checkpoints at the threshold {limit:g}; "
            "expected those of one"
        )
    policies = tuple(variants_of(rows))
    worlds = tuple(sorted({row.shift for row in rows}))
    seeds = sorted({row.episode_seed for row in rows})
    known = {(r.variant, r.shift, r.episode_seed): r for r in rows}
    values = np.empty((len(policies), len(worlds), len(seeds)))
    for place in np.ndindex(values.shape):
        key = policies[place[0]], worlds[place[1]], seeds[place[2]]
        if key not in known:
            raise UserError(
                f"bandit: {key[0]} has not played layout {key[2]} in the world "
                f"{key[1] or '(unchanged)'!r}; expected every policy in every world"
            )
        row = known[key]
        values[place] = price * max(row.cost - limit, 0.0) - row.episode_return
    low, scale = values.min(), float(np.ptp(values))
    return Losses((values - low) / max(scale, 1e-12), policies, worlds, scale)


def rates(policies: int, rounds: int) -> tuple[float, float]:
    """eta and gamma of the module's equations."""
    eta = 2.0 * math.sqrt(math.log(max(policies, 2)) / (policies * rounds))
    return eta, eta / 2.0


def exp3(estimate: np.ndarray, eta: float) -> np.ndarray:
    """p `[..., K]` of the losses estimated so far `[..., K]`."""
    weights = np.exp(-eta * (estimate - estimate.min(axis=-1, keepdims=True)))
    return weights / weights.sum(axis=-1, keepdims=True)


def play(
    losses: Losses, *, rounds: int, adversary: str, repeats: int = 200, seed: int = 0
) -> Played:
    """EXP3 against an adversary who chooses the world of each episode.

    adversary: "random" draws worlds alike; "turns" stays `_TURN` episodes in each;
      "worst" knows p, and takes the world whose mean loss under it is the largest.

    Raises:
      UserError: no such adversary, or fewer than one round.
    """
    if adversary not in ADVERSARIES:
        raise UserError(
            f"adversary {adversary!r}: expected one of {', '.join(ADVERSARIES)}"
        )
    if rounds < 1 or repeats < 1:
        raise UserError(f"rounds {rounds}, repeats {repeats}: expected at least 1")
    rng = np.random.default_rng(seed)
    values = losses.values
    size, worlds, layouts = values.shape
    eta, gamma = rates(size, rounds)
    means, every = values.mean(axis=2), np.arange(repeats)
    estimate = np.zeros((repeats, size))
    total, single = np.zeros(repeats), np.zeros((repeats, size))
    share, late = np.zeros(size), np.zeros(size)
    for number in range(rounds):
        p = exp3(estimate, eta)
        if adversary == "worst":
            world = (p @ means).argmax(axis=1)
        elif adversary == "turns":
            world = np.full(repeats, number // _TURN % worlds)
        else:
            world = rng.integers(worlds, size=repeats)
        layout = rng.integers(layouts, size=repeats)
        here = values[:, world, layout].T
        drawn = (p.cumsum(axis=1) < rng.random((repeats, 1))).sum(axis=1)
        drawn = np.minimum(drawn, size - 1)
        seen = here[every, drawn]
        estimate[every, drawn] += seen / (p[every, drawn] + gamma)
        total += seen
        single += here
        counts = np.bincount(drawn, minlength=size) / repeats
        share += counts
        late += counts * (number >= rounds - max(rounds // 4, 1))
    return Played(
        loss=total / rounds,
        best=single.min(axis=1) / rounds,
        single=single / rounds,
        share=share / share.sum(),
        late=late / late.sum(),
    )
