"""Bootstrap intervals of statistics other than a mean: layouts are what is drawn.

A statistic is a function of means over layouts (a correlation, a ratio of variances);
resampling then is one matrix product (Davison and Hinkley 1997, section 2.7).
"""

from collections.abc import Callable, Sequence

import numpy as np

from sas_jax.errors import UserError
from sas_jax.stats.intervals import LEVEL, NUM_RESAMPLES, Interval

_CHUNK = 500  # resamples at a time


def interval_of(
    statistic: Callable[[np.ndarray], np.ndarray],
    columns,
    *,
    resamples: int = NUM_RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """A statistic of layout means with its percentile bootstrap interval.

    statistic: means `[..., C]` -> `[...]`; it may give NaN. columns: `[E, C]`, one row
    per layout; rows that are not finite are left out. `Interval.mean` is the statistic
    of all rows, NaN without any. Raises `UserError` unless columns are `[E, C]`.
    """
    columns = np.asarray(columns, np.float64)
    if columns.ndim != 2:
        raise UserError(f"columns of shape {columns.shape}; expected [layouts, C]")
    columns = columns[np.isfinite(columns).all(axis=1)]
    count = len(columns)
    if not count:
        return Interval(np.nan, np.nan, np.nan, 0, 0)
    # About the overall mean, so that products of deviations lose no digits.
    point = float(statistic(columns.mean(axis=0)))
    if count < 2:
        return Interval(point, np.nan, np.nan, count, count)
    rng, values = np.random.default_rng(seed), []
    for first in range(0, resamples, _CHUNK):
        rows = min(_CHUNK, resamples - first)
        drawn = rng.integers(count, size=(rows, count))
        drawn += count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count)
        values.append(statistic(times.reshape(rows, count) / count @ columns))
    values = np.concatenate(values)
    values = values[np.isfinite(values)]
    if not len(values):
        return Interval(point, np.nan, np.nan, count, count)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(point, float(low), float(high), count, count)


def mean_of(values, **bootstrap) -> Interval:
    """The mean over layouts `[E]`; values that are not finite are left out."""
    return interval_of(lambda m: m[..., 0], np.asarray(values)[:, None], **bootstrap)


def correlation(x, y, **bootstrap) -> Interval:
    """Pearson correlation over layouts, `[E]` each."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if len(x):
        x, y = x - x.mean(), y - y.mean()
    columns = np.stack([x, y, x * x, y * y, x * y], axis=1)

    def statistic(m):
        cov = m[..., 4] - m[..., 0] * m[..., 1]
        return _ratio(cov, m[..., 2] - m[..., 0] ** 2, m[..., 3] - m[..., 1] ** 2)

    return interval_of(statistic, columns, **bootstrap)


def correlation_within(x, y, **bootstrap) -> Interval:
    """Correlation of deviations from each layout's own mean; `[E, P]` each.

    Pairs with a member that is not finite are left out, and so are layouts with fewer
    than two pairs.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    known = np.isfinite(x) & np.isfinite(y)
    enough = known.sum(axis=1) >= 2
    x, y, known = x[enough], y[enough], known[enough]
    x, y = _centred(x, known), _centred(y, known)
    columns = np.stack([(x * x).sum(1), (y * y).sum(1), (x * y).sum(1)], axis=1)
    return interval_of(
        lambda m: _ratio(m[..., 2], m[..., 0], m[..., 1]), columns, **bootstrap
    )


def _centred(x, known):
    """Deviations from the mean of each row's known members; 0 at the others."""
    x = np.where(known, x, 0.0)
    mean = x.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return np.where(known, x - mean[:, None], 0.0)


def _ratio(cov, var_x, var_y):
    """cov / sqrt(var_x var_y); NaN where a side does not vary."""
    product = var_x * var_y
    varies = (var_x > 1e-12) & (var_y > 1e-12)
    return np.where(varies, cov / np.sqrt(np.where(varies, product, 1.0)), np.nan)


def auc_between(scores: Sequence, labels: Sequence, **bootstrap) -> Interval:
    """Area under the ROC curve of pooled steps, episodes resampled.

    Every pair of a positive and a negative step counts, whichever episodes they are of;
    ties count half. An episode that is drawn twice is two episodes.

    Args:
      scores, labels: one array `[T_e]` an episode; labels 0 or 1.

    Returns:
      Its interval over episodes, NaN where only one class occurs.
    """
    positives, negatives = [], []
    for score, label in zip(scores, labels, strict=True):
        score, is_positive = np.asarray(score, np.float64), np.asarray(label) > 0
        positives.append(np.sort(score[is_positive]))
        negatives.append(np.sort(score[~is_positive]))
    # wins[i, j]: pairs of a positive of i and a negative of j that the positive wins.
    wins = np.zeros((len(positives), len(negatives)))
    for i, j in np.ndindex(wins.shape):
        below = np.searchsorted(negatives[j], positives[i], "left")
        upto = np.searchsorted(negatives[j], positives[i], "right")
        wins[i, j] = 0.5 * (below.sum() + upto.sum())
    sizes = [np.array([len(x) for x in kind]) for kind in (positives, negatives)]

    def statistic(weights):
        won = np.einsum("...i,ij,...j->...", weights, wins, weights)
        pairs = (weights @ sizes[0]) * (weights @ sizes[1])
        with np.errstate(invalid="ignore"):
            return won / np.where(pairs > 0, pairs, np.nan)

    # The mean of an episode's own column is the share of draws that were it.
    return interval_of(statistic, np.eye(len(wins)), **bootstrap)
