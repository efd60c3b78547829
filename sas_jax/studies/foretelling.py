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

    path: see `risks.load`. spec: of the episodes that are not held out; a policy of
    these would standardise what it sees by it.
    "risk" is what a gate is told; "price" lambda(s), where states have prices.

    Raises:
      UserError: see `risks.load`; a checkpoint that was trained on other recorded
        episodes, so that what is held out here may have been seen.
    """
    if not risks.is_checkpoint(path):
        return {"risk": _risk_of(risks.load(path, spec), spec)}
    loaded = checkpoint.load(path)
    algorithm = learners.get(loaded.config.algo)
    learnt_online = algorithm.make_explorer is not None  # it has seen no recording
    if not learnt_online and loaded.spec.fingerprint != spec.fingerprint:
        raise UserError(
            f"critic {path!r}: trained on other episodes than those left here; "
            "expected its own share held out, by its own seed, or what is held out may "
            "have been seen"
        )
    found = {"risk": _risk_of(risks.of_checkpoint(loaded, spec, path), spec)}
    if sac_alam.LADDER.get(loaded.config.algo, ("none",))[0] == "state":
        signal = sac_alam.make_signals(loaded.config, loaded.spec)["multiplier"]
        variables = algorithm.variables_of(jax.tree.map(lambda x: x[0], loaded.state))
        found["price"] = jax.jit(
            lambda obs, action: signal(variables, loaded.spec.standardised(obs))
        )
    return found


def _risk_of(risk: Any, spec: DataSpec) -> Callable[..., Any]:
    return jax.jit(lambda obs, action: risk.risk(spec.standardised(obs), action))


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
    episodes: Episodes, fraction: float, seed: int
) -> tuple[Episodes, DataSpec]:
    """The held-out episodes, and a spec of the others.

    fraction, seed: of the split, as in `TrainConfig`.
    """
    training, held_out = episodes.split(fraction, seed=seed)
    return held_out, from_episodes(training)
