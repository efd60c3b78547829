"""Statistics by rank: no monotonic change of the values moves them.

scipy.stats takes longer to import than JAX, so it is imported where ranks are asked
for: what only starts, or prints its help, does without.
"""

import math

import numpy as np


def ranks(x) -> np.ndarray:
    """`[..., P]` ranks from 1 within the last axis, ties at their mean rank.

    NaN where a value is not finite, which counts for no other's rank.
    """
    from scipy.stats import rankdata

    x = np.asarray(x, np.float64)
    known = np.where(np.isfinite(x), x, np.nan)
    return rankdata(known, axis=-1, nan_policy="omit")


def spearman(x, y) -> float:
    """Spearman's rank correlation, ties at their mean rank; NaN where one is constant.

    x, y: `[R]`.
    """
    x, y = ranks(x), ranks(y)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(np.corrcoef(x, y)[0, 1])


def auc(score, label) -> float:
    """Area under the ROC curve: the chance that a positive's score is the larger one.

    Ties count half. score, label: `[R]`, label 0 or 1. NaN when only one class occurs.
    """
    is_positive = np.asarray(label) > 0
    positives = int(is_positive.sum())
    negatives = is_positive.size - positives
    if positives == 0 or negatives == 0:
        return math.nan
    total = ranks(score)[is_positive].sum() - positives * (positives + 1) / 2
    return float(total / (positives * negatives))


def auc_within(positive, negative) -> np.ndarray:
    """`[E]` `auc` of each row's own scores, `[E, M]` of positives, `[E, N]` negatives.

    Scores that are not finite are left out; NaN where none remains on one side.
    """
    found = []
    for rows in zip(positive, negative, strict=True):
        one, other = (row[np.isfinite(row)] for row in rows)
        label = np.repeat([1, 0], [len(one), len(other)])
        found.append(auc(np.concatenate([one, other]), label))
    return np.array(found)
