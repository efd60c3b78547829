"""Bootstrap intervals for means and for paired differences between variants.

Episodes on one layout (several training seeds, several thresholds) are not
independent, so resampling draws whole layouts: the cluster bootstrap (Davison and
Hinkley 1997, section 3.8). Intervals are percentile intervals; nothing is corrected
for the number of comparisons, and callers say how many they make.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from sas_jax.errors import UserError, nearest
from sas_jax.files.results import EpisodeResult, describe_key, variants_of

NUM_RESAMPLES = 4000
LEVEL = 0.95
# Below this many layouts percentile intervals are visibly too narrow (by about
# sqrt(1 - 1/C), and by the missing t quantile): the report says so.
FEW_LAYOUTS = 20
# With fewer, even differences of one sign happen by chance more often than 1 - LEVEL
# (2 ** -(C - 1)), so nothing can be called resolved whatever the bootstrap says.
MIN_LAYOUTS = 6
_CHUNK_ELEMENTS = 1 << 20  # resampled indices held at a time: 8 MiB of int64

METRICS: dict[str, Callable[[EpisodeResult], float]] = {
    "return": lambda row: row.episode_return,
    "cost": lambda row: row.cost,
    "normalized_return": lambda row: row.normalized_return,
    "normalized_cost": lambda row: row.normalized_cost,
    "failed": lambda row: float(row.failed),
    "within_limit": lambda row: float(row.within_limit),
}


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean with its bootstrap interval.

    mean: of all values; low, high: the interval, NaN with fewer than two clusters.
    num_values, num_clusters: how many values, and how many independent groups.
    """

    mean: float
    low: float
    high: float
    num_values: int
    num_clusters: int

    @property
    def half_width(self) -> float:
        """Half the interval's length: about the smallest effect it can tell from 0.

        A true effect of this size is resolved in about half of all repetitions.
        """
        return (self.high - self.low) / 2

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside the interval (False where there is no interval)."""
        return self.low > 0 or self.high < 0

    def clusters_to_resolve(self, effect: float) -> float:
        """How many clusters would bring the half-width down to `effect` (> 0)."""
        return math.ceil(self.num_clusters * (self.half_width / effect) ** 2)


@dataclasses.dataclass(frozen=True)
class PairedDifference:
    """`variant` minus `reference` on the same layouts, seeds and thresholds.

    metric: a name in `METRICS`; difference: its mean and interval over layouts.
    correlation: Pearson correlation of the pairs; NaN if a side is constant.
    reference_sd, difference_sd: spread of single episodes, and of single pairs.
    num_pairs: pairs of episodes. One that was run once and is judged at several
      thresholds is one.
    """

    variant: str
    reference: str
    metric: str
    difference: Interval
    correlation: float
    reference_sd: float
    difference_sd: float
    num_pairs: int

    @property
    def resolved(self) -> bool:
        """Whether the interval excludes 0, on at least `MIN_LAYOUTS` layouts."""
        enough = self.difference.num_clusters >= MIN_LAYOUTS
        return enough and self.difference.excludes_zero


def mean_interval(
    values,
    *,
    clusters=None,
    resamples: int = NUM_RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Mean of `values` with a percentile bootstrap interval.

    values: [R] finite numbers. clusters: [R] hashable labels of what is resampled
    together (None: every value by itself). The mean weighs every value alike. The
    result does not depend on the order of the values and is reproducible from `seed`.
    Raises `UserError` if there is no value or one is not finite.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not values.size:
        raise UserError(
            f"no values to average; expected an array [R], got {values.shape}"
        )
    if not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values))[0])
        raise UserError(f"value {bad} is {values[bad]}; expected finite numbers")
    if clusters is not None and len(clusters) != len(values):
        raise UserError(f"{len(clusters)} cluster labels for {len(values)} values")
    # Deviations from a member of the set are exactly 0 for constant values, so a
    # constant difference comes out as itself with an interval of no width.
    pivot = values.min()
    sums, counts = _cluster_sums(values - pivot, clusters)
    mean = float(pivot + sums.sum() / counts.sum())
    if len(sums) < 2:
        return Interval(mean, math.nan, math.nan, len(values), len(sums))
    means = _resampled_means(sums, counts, resamples, seed)
    low, high = pivot + np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high), len(values), len(sums))


def paired_difference(
    rows: Sequence[EpisodeResult],
    variant: str,
    reference: str = "none",
    metric: str = "cost",
    **bootstrap,
) -> PairedDifference:
    """Mean of `variant` minus `reference` over matched rows, layouts resampled.

    Rows match on (task, algo, train_seed, episode_seed, cost_limit, shift); rows with
    one episode_seed are one layout. bootstrap: options of `mean_interval`.
    Raises `UserError` for a variant that is absent and for rows without a partner.
    """
    ours, theirs = matched_rows(rows, variant, reference)
    get = metric_function(metric)
    a = np.array([get(row) for row in ours])
    b = np.array([get(row) for row in theirs])
    difference = mean_interval(a - b, clusters=layouts_of(ours), **bootstrap)
    return PairedDifference(
        variant,
        reference,
        metric,
        difference,
        correlation=_correlation(a, b),
        reference_sd=_standard_deviation(b),
        difference_sd=_standard_deviation(a - b),
        num_pairs=len(
            {(*_episode(a), *_episode(b)) for a, b in zip(ours, theirs, strict=True)}
        ),
    )


def num_episodes(rows: Sequence[EpisodeResult]) -> int:
    """Episodes among rows: one that was run once and is judged at several thresholds
    has a row for each.
    """
    return len({(row.variant, *_episode(row)) for row in rows})


def _episode(row: EpisodeResult) -> tuple:
    """What an episode is known by, whatever threshold it is judged at."""
    known = row.task, row.algo, row.train_seed, row.episode_seed, row.shift
    return *known, row.episode_return, row.cost, row.length


def matched_rows(
    rows: Sequence[EpisodeResult], variant: str, reference: str
) -> tuple[list[EpisodeResult], list[EpisodeResult]]:
    """The rows of both variants in the same order of keys; see `paired_difference`."""
    tables = []
    for name in (variant, reference):
        table = {}
        for row in rows:
            if row.variant != name:
                continue
            if row.key in table:
                raise UserError(
                    f"variant {name!r} has two rows for {describe_key(row.key)}; "
                    "expected one"
                )
            table[row.key] = row
        if not table:
            known = variants_of(rows)
            raise UserError(
                f"no rows of variant {name!r}; expected it beside "
                f"{', '.join(known) or 'others'}{nearest(name, known)}"
            )
        tables.append(table)
    for have, lack, name, other in (
        (tables[0], tables[1], variant, reference),
        (tables[1], tables[0], reference, variant),
    ):
        if alone := sorted(have.keys() - lack.keys()):
            more = f" and {len(alone) - 1} more" if len(alone) > 1 else ""
            raise UserError(
                f"variant {name!r} has no {other!r} partner for "
                f"{describe_key(alone[0])}{more}; expected both on the same layouts"
            )
    keys = sorted(tables[0])
    return [tables[0][key] for key in keys], [tables[1][key] for key in keys]


def metric_function(metric: str) -> Callable[[EpisodeResult], float]:
    """The function that reads `metric` off a row; `UserError` for an unknown name."""
    if metric not in METRICS:
        raise UserError(
            f"unknown metric {metric!r}; expected one of {', '.join(METRICS)}"
            f"{nearest(metric, METRICS)}"
        )
    return METRICS[metric]


def metric_interval(rows: Sequence[EpisodeResult], metric: str) -> Interval:
    """Mean of one of `METRICS` over rows, layouts drawn together."""
    get = METRICS[metric]
    return mean_interval([get(row) for row in rows], clusters=layouts_of(rows))


def layouts_of(rows: Sequence[EpisodeResult]) -> list[tuple[str, int]]:
    """[R] the layout each row was played on: what the bootstrap resamples."""
    return [(row.task, row.episode_seed) for row in rows]


def _cluster_sums(values: np.ndarray, clusters) -> tuple[np.ndarray, np.ndarray]:
    """Sums and counts per cluster, [C] each, in an order that only labels decide."""
    if clusters is None:
        return np.sort(values), np.ones(len(values))
    rank = {label: i for i, label in enumerate(sorted(set(clusters)))}
    index = np.array([rank[label] for label in clusters])
    # Sorted within a cluster too: float sums would otherwise depend on row order.
    order = np.lexsort((values, index))
    counts = np.bincount(index).astype(np.float64)
    starts = np.concatenate([[0], np.cumsum(counts[:-1])]).astype(np.int64)
    return np.add.reduceat(values[order], starts), counts


def _resampled_means(
    sums: np.ndarray, counts: np.ndarray, resamples: int, seed: int
) -> np.ndarray:
    """[R] means of cluster resamples. sums, counts: [C]."""
    rng = np.random.default_rng(seed)
    size = len(sums)
    chunk = max(1, _CHUNK_ELEMENTS // size)
    equal = counts.min() == counts.max()
    means = np.empty(resamples)
    for start in range(0, resamples, chunk):
        drawn = rng.integers(size, size=(min(chunk, resamples - start), size))
        weight = size * counts[0] if equal else counts[drawn].sum(axis=1)
        means[start : start + len(drawn)] = sums[drawn].sum(axis=1) / weight
    return means


def _standard_deviation(values: np.ndarray) -> float:
    """Sample standard deviation; NaN with fewer than two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation; NaN with fewer than three pairs or a constant side."""
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])
