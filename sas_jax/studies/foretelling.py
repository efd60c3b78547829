"""Which learnt risk foretells a cost: critics of learners, and prices of states.

A risk is worth asking, by a gate, a chooser of prompts or a plan's last step, if it is
larger where a cost is near. Here it is asked about recorded steps of held-out episodes,
for a cost within so many steps. The driver is the data's; a critic that learnt of its
own policy's future may know less of his.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from sas_jax import checkpoint, learners, risks
from sas_jax.data.episodes import Episodes
from sas_jax.data.spec import DataSpec, from_episodes
from sas_jax.errors import UserError
from sas_jax.learners import sac_alam
from sas_jax.stats.intervals import Interval
from sas_jax.stats.resample import auc_between

HORIZONS = (20, 50)
# Steps that are asked about at once.
_CHUNK = 4096


class Foretold(NamedTuple):
    """name: of what was asked: `risk`, `price`, or `shuffled`, the control. horizon: in
    steps. auc: of a cost within it, over episodes. base: share of steps with one.
    """

    name: str
    horizon: int
    auc: Interval
    base: float


def soon(cost: np.ndarray, horizon: int) -> np.ndarray:
    """Whether one of the next `horizon` steps costs.

    `[..., T]` -> `[..., T - horizon + 1]` bool. The step itself counts. The last ones
    are left out: nobody knows what followed.
    """
    is_costly = np.asarray(cost) > 0
    room = [(0, 0)] * (is_costly.ndim - 1)
    total = np.cumsum(np.pad(is_costly, [*room, (1, 0)]), axis=-1)
    return total[..., horizon:] - total[..., : total.shape[-1] - horizon] > 0


def signals_of(path: str, spec: DataSpec) -> dict[str, Callable[..., Any]]:
    """Name -> (observations `[B, O]` as recorded, actions `[B, A]`) -> `[B]`.

    path: see `risks.load`. spec: how a policy would standardise what it sees.
    "risk" is what a gate is told; "price" lambda(s), where states have prices.
    """
    found = {}
    risk = risks.load(path, spec)
    found["risk"] = jax.jit(
        lambda obs, action: risk.risk(spec.standardised(obs), action)
    )
    if not isinstance(risk, risks.LearntRisk):
        return found
    loaded = checkpoint.load(path)
    if sac_alam.LADDER.get(loaded.config.algo, ("none",))[0] != "state":
        return found
    signal = sac_alam.make_signals(loaded.config, loaded.spec)["multiplier"]
    state = jax.tree.map(lambda x: x[0], loaded.state)
    variables = learners.get(loaded.config.algo).variables_of(state)
    found["price"] = jax.jit(
        lambda obs, action: signal(variables, loaded.spec.standardised(obs))
    )
    return found


def foretell(
    signals: dict[str, Callable[..., Any]],
    episodes: Episodes,
    horizons: Sequence[int] = HORIZONS,
    seed: int = 0,
) -> list[Foretold]:
    """AUROC of every signal for a cost within every horizon.

    episodes: held out. seed: of the control, whose scores are the first signal's, each
      of another step.

    Raises:
      UserError: an episode that is no longer than a horizon, or a score that is not
        finite.
    """
    shortest = int(episodes.lengths.min())
    if shortest <= max(horizons):
        raise UserError(
            f"horizons: {max(horizons)} steps; expected fewer than the shortest "
            f"episode's {shortest}"
        )
    scores = {name: _asked(f, name, episodes) for name, f in signals.items()}
    first = next(iter(scores.values()))
    scores["shuffled"] = np.random.default_rng(seed).permutation(first)
    cuts = episodes.offsets[1:-1]
    costs = np.split(episodes.costs, cuts)
    found = []
    for horizon in horizons:
        labels = [soon(cost, horizon) for cost in costs]
        base = float(np.concatenate(labels).mean())
        for name, score in scores.items():
            own = np.split(score, cuts)
            known = [s[: len(label)] for s, label in zip(own, labels, strict=True)]
            found.append(Foretold(name, horizon, auc_between(known, labels), base))
    return found


def _asked(signal, name: str, episodes: Episodes) -> np.ndarray:
    """`[S]` scores of all steps, in blocks of one shape."""
    parts = []
    for begin in range(0, episodes.num_steps, _CHUNK):
        rows = np.arange(begin, begin + _CHUNK) % episodes.num_steps
        parts.append(
            np.asarray(signal(episodes.observations[rows], episodes.actions[rows]))
        )
    score = np.concatenate(parts)[: episodes.num_steps]
    if not np.isfinite(score).all():
        raise UserError(f"{name}: a score is not finite; expected finite numbers")
    return score


def held_out_part(
    episodes: Episodes, fraction: float, seed: int, paths: Sequence[str]
) -> tuple[Episodes, DataSpec]:
    """The held-out episodes, and a spec of the others.

    fraction, seed: of the split, as in `TrainConfig`. paths: of risks.

    Raises:
      UserError: a checkpoint that was trained on another part of this file, so that
        what is held out here may have been seen.
    """
    training, held_out = episodes.split(fraction, seed=seed)
    for path in paths:
        if not risks.is_checkpoint(path):
            continue
        loaded = checkpoint.load(path)
        if learners.get(loaded.config.algo).make_explorer is not None:
            continue  # learnt online: it has seen no recording
        if loaded.spec.fingerprint != training.fingerprint():
            raise UserError(
                f"critic {path!r}: trained on other episodes than those left here by "
                f"held_out {fraction:g}, seed {seed}; expected its own split, or what "
                "is held out may have been seen"
            )
    return held_out, from_episodes(training)
