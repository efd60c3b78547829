"""What a fitted critic's numbers are worth: calibration, quality, the gate's levels.

All of it is measured on held-out episodes that neither training nor early stopping has
seen, over the steps whose horizon lies within the data.

scipy.optimize is imported where something is fitted: evaluation, which reads a critic
from a file, starts sooner without.
"""

import numpy as np
from scipy import special

from sas_jax.errors import UserError
from sas_jax.stats.ranks import auc

_BINS = 10
_RESAMPLES = 2000
# Most steps are harmless: levels are spaced by the share of steps above them.
_SHARES = np.concatenate([1.0 - np.geomspace(0.98, 1e-3, 63), [1.0]])
_TINY = 1e-7


def fit_platt(logits: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """Slope > 0 and offset that make the members' mean probability fit the labels.

    Platt (1999), with his targets (n1 + 1) / (n1 + 2) and 1 / (n0 + 2), so that
    separable labels have a finite optimum too.

    Args:
      logits: `[members, n]` uncalibrated log-odds.
      label: `[n]` shares in [0, 1].
    """
    from scipy import optimize

    logits, label = logits.astype(np.float64), np.asarray(label, np.float64)
    positives = label.sum()
    target = label * (positives + 1) / (positives + 2)
    target += (1 - label) / (label.size - positives + 2)

    def loss(x):
        slope, offset = np.exp(x[0]), x[1]
        member = special.expit(slope * logits + offset)
        mean = np.clip(member.mean(0), _TINY, 1 - _TINY)
        outer = (mean - target) / (mean * (1 - mean)) / label.size
        inner = member * (1 - member) / len(logits)
        gradient = np.array([(outer * inner * slope * logits).sum(), 0.0])
        gradient[1] = (outer * inner).sum()
        value = -np.mean(target * np.log(mean) + (1 - target) * np.log1p(-mean))
        return value, gradient

    # Slopes beyond e^3 of already trained log-odds are no calibration any more.
    bounds = [(-3.0, 3.0), (-20.0, 20.0)]
    found = optimize.minimize(loss, [0.0, 0.0], jac=True, bounds=bounds)
    return float(np.exp(found.x[0])), float(found.x[1])


def probabilities(logits: np.ndarray, slope: float, offset: float) -> np.ndarray:
    """Log-odds `[members, n]` -> their mean calibrated probability `[n]`."""
    return special.expit(slope * logits.astype(np.float64) + offset).mean(0)


def cross_fitted(logits, label, episode) -> np.ndarray:
    """Mean probability `[n]`, each half of the episodes scaled by the other's fit.

    logits: `[members, n]`. label: as in `fit_platt`. episode: `[n]` number of the
    step's episode.
    """
    out = np.empty(label.size)
    for half in (0, 1):
        mine = episode % 2 == half
        other = ~mine if (~mine).any() else mine
        scale = fit_platt(logits[:, other], label[other])
        out[mine] = probabilities(logits[:, mine], *scale)
    return out


def level_table(
    risk: np.ndarray, cost: np.ndarray, *, horizon: int, episode_steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Tabulates what an episode costs whose steps have a risk about a level.

    rate(l) = mean of cost / horizon * episode_steps over the steps whose risk is above
    the level before and at most l; nondecreasing by isotonic regression, weighted by
    the number of steps.

    Args:
      risk: `[n]` in [0, 1]. cost: `[n]` cost of the next `horizon` steps.

    Returns:
      levels, rates, `[C]` float32 each. The last level is 1 and has the rate of the
      largest risk.
    """
    order = np.argsort(risk, kind="stable")
    ranked = risk[order].astype(np.float32)
    total = np.concatenate([[0.0], np.cumsum(cost[order], dtype=np.float64)])
    at = np.maximum(np.ceil(_SHARES * ranked.size).astype(int), 1) - 1
    levels = np.unique(ranked[at])
    count = np.searchsorted(ranked, levels, side="right")
    scale = episode_steps / horizon
    width = np.diff(count, prepend=0)
    rates = np.diff(total[count], prepend=0.0) / width * scale
    rates = _nondecreasing(rates, width)
    if levels[-1] < 1:
        levels = np.append(levels, np.float32(1))
        rates = np.append(rates, rates[-1])
    return levels, rates.astype(np.float32)


def _nondecreasing(values, weights):
    from scipy import optimize

    return optimize.isotonic_regression(values, weights=weights.astype(float)).x


def quality(p: np.ndarray, label: np.ndarray, episode: np.ndarray) -> dict:
    """How good probabilities are, as plain numbers for JSON.

    Args:
      p: `[n]` predicted shares. label: `[n]` shares in [0, 1], whose mean p is.
      episode: `[n]` number of the step's episode; the bootstrap draws whole episodes.

    Returns:
      bce and bce_of_base_rate (nats), skill = 1 - bce / bce_of_base_rate with its 95%
      interval, auc (any cost against none), correlation of p and label, ece (mean
      distance of predicted and observed share, weighted by steps) and the reliability
      of ten bins of width 0.1.

    Raises:
      UserError: labels of one kind only.
    """
    is_hit, label = label > 0, np.asarray(label, np.float64)
    if is_hit.all() or not is_hit.any():
        kind = "all" if is_hit.all() else "none"
        raise UserError(
            f"critic: {kind} of {label.size} calibration steps lead to a cost; "
            "expected some that do and some that do not"
        )
    clipped = np.clip(p, _TINY, 1 - _TINY)
    bce = -(label * np.log(clipped) + (1 - label) * np.log1p(-clipped))
    bins = np.minimum((p * _BINS).astype(int), _BINS - 1)
    count = np.bincount(bins, minlength=_BINS)
    safe = np.maximum(count, 1)
    predicted = np.bincount(bins, p, _BINS) / safe
    observed = np.bincount(bins, label, _BINS) / safe
    low, high = _skill_interval(bce, label, episode)
    base = _entropy(label.mean())
    return {
        "steps": int(label.size),
        "base_rate": float(label.mean()),
        "bce": float(bce.mean()),
        "bce_of_base_rate": float(base),
        "skill": float(1 - bce.mean() / base),
        "skill_interval": [low, high],
        "auc": auc(p, is_hit),
        "correlation": float(np.corrcoef(p, label)[0, 1]) if np.ptp(p) else 0.0,
        "ece": float(np.sum(count * np.abs(predicted - observed)) / label.size),
        "reliability": {
            "predicted": predicted.tolist(),
            "observed": observed.tolist(),
            "steps": count.tolist(),
        },
    }


def _entropy(rate):
    return -special.xlogy(rate, rate) - special.xlog1py(1 - rate, -rate)


def _skill_interval(bce, label, episode) -> tuple[float | None, float | None]:
    """95% percentile interval of the skill; None with fewer than two episodes.

    A resample without any cost has no skill and is left out.
    """
    _, index = np.unique(episode, return_inverse=True)
    sums = np.stack(
        [np.bincount(index), np.bincount(index, label), np.bincount(index, bce)], 1
    )
    if len(sums) < 2:
        return None, None
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(sums), size=(_RESAMPLES, len(sums)))
    steps, hits, loss = sums[drawn].sum(axis=1).T
    entropy = _entropy(hits / steps)
    kept = entropy > 0
    skill = 1 - loss[kept] / steps[kept] / entropy[kept]
    low, high = np.quantile(skill, [0.025, 0.975])
    return float(low), float(high)
