"""Statistics over tasks and training seeds, as Agarwal et al. (2021, "Deep RL at the
edge of the statistical precipice") define them and their library rliable has them.

A run is one training seed on one task; its score is the mean over its layouts. What is
known of a method is a list of arrays `[S, E]`, one a task: S training seeds, E layouts,
which all seeds of a task share.

Intervals are percentile intervals of a bootstrap that is stratified by task: within
every task training seeds are drawn, and layouts for all of its seeds alike (Owen 2007,
"The pigeonhole bootstrap"). With one layout that is rliable's; with one seed it says
what other layouts would give, and nothing of other seeds.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from sas_jax.errors import UserError
from sas_jax.stats.intervals import LEVEL, Interval

NUM_RESAMPLES = 2000
_TRIM = 0.25


def iqm(scores) -> np.ndarray:
    """Interquartile mean: the mean without the lowest and highest quarter.

    scores: `[..., R]` of R runs of all tasks. A quarter is rounded down, so that four
    runs lose two.
    """
    scores = np.sort(np.asarray(scores, np.float64), axis=-1)
    cut = int(_TRIM * scores.shape[-1])
    return scores[..., cut : scores.shape[-1] - cut].mean(axis=-1)


def improvement(x, y) -> np.ndarray:
    """Probability that a run of x scores above one of y on the same task; ties are half
    (Mann and Whitney's U by its largest value).

    x: `[..., S]`, y: `[..., Z]` of one task.
    """
    x, y = np.asarray(x)[..., :, None], np.asarray(y)[..., None, :]
    return ((x > y) + 0.5 * (x == y)).mean(axis=(-2, -1))


def profile(scores, levels) -> np.ndarray:
    """Performance profile: the share of runs that score above each level.

    scores: `[..., R]`. levels: `[L]`. Returns `[..., L]`.
    """
    scores = np.asarray(scores, np.float64)[..., None]
    return (scores > np.asarray(levels, np.float64)).mean(axis=-2)


def iqm_interval(tasks: Sequence, **bootstrap) -> Interval:
    """`iqm` over all runs with its interval. tasks: `[S, E]` each.

    bootstrap: `resamples`, `level` and `seed`.
    """

    def of(runs):
        return iqm(np.concatenate(runs, axis=-1))

    return _interval(of, [tasks], **bootstrap)


def improvement_interval(x: Sequence, y: Sequence, **bootstrap) -> Interval:
    """Mean over tasks of `improvement`, with its interval.

    x, y: `[S, E]` and `[Z, E]` a task, the same tasks in the same order. Layouts are
    drawn for both methods alike where they have as many, training seeds for each.

    Raises:
      UserError: different numbers of tasks.
    """
    if len(x) != len(y):
        raise UserError(f"{len(x)} and {len(y)} tasks; expected the same of both")

    def of(*runs):
        count = len(x)
        pairs = zip(runs[0], runs[1], strict=True)
        return sum(improvement(a, b) for a, b in pairs) / count

    return _interval(of, [x, y], **bootstrap)


def profile_band(
    tasks: Sequence, levels, **bootstrap
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`profile` over all runs, and the lower and upper ends of its pointwise intervals.

    tasks: `[S, E]` each. levels: `[L]`. Returns three arrays `[L]`.
    """

    def of(runs):
        return profile(np.concatenate(runs, axis=-1), levels)

    return _ends(of, [tasks], **bootstrap)


def _interval(statistic: Callable, methods: Sequence[Sequence], **bootstrap):
    point, low, high = _ends(statistic, methods, **bootstrap)
    counts = [np.asarray(task).shape for tasks in methods for task in tasks]
    runs, clusters = sum(c[0] for c in counts), sum(c[0] * c[1] for c in counts)
    return Interval(float(point), float(low), float(high), clusters, runs)


def _ends(
    statistic: Callable,
    methods: Sequence[Sequence],
    *,
    resamples: int = NUM_RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A statistic of run scores, and the ends of its interval.

    statistic: of one list a method, a task's runs `[..., S]` each. The ends are NaN
    where neither seeds nor layouts can be drawn.
    """
    methods = [[_checked(task) for task in tasks] for tasks in methods]
    point = statistic(*([task.mean(axis=1) for task in tasks] for tasks in methods))
    if all(task.size == 1 for tasks in methods for task in tasks):
        return point, point * math.nan, point * math.nan
    rng = np.random.default_rng(seed)
    drawn: list[list[np.ndarray]] = [[] for _ in methods]
    for number in range(len(methods[0])):
        shares: dict[int, np.ndarray] = {}  # layouts -> [B, E] drawn for all methods
        for runs, tasks in zip(drawn, methods, strict=True):
            runs.append(_resampled(tasks[number], rng, resamples, shares))
    values = statistic(*drawn)
    ends = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return point, ends[0], ends[1]


def _resampled(
    task: np.ndarray, rng: np.random.Generator, count: int, shares: dict
) -> np.ndarray:
    """Run scores `[B, S]` of resamples of one task `[S, E]`.

    shares: filled with what was drawn of so many layouts, for the other methods.
    """
    seeds, layouts = task.shape
    if layouts not in shares:
        shares[layouts] = rng.multinomial(
            layouts, np.full(layouts, 1 / layouts), size=count
        )
    # By deviations from a member, which are exact for constant scores.
    pivot = task[0, 0]
    means = shares[layouts] @ (task - pivot).T / layouts + pivot
    chosen = rng.integers(seeds, size=(count, seeds))
    return np.take_along_axis(means, chosen, axis=1)


def _checked(task) -> np.ndarray:
    task = np.asarray(task, np.float64)
    if task.ndim != 2 or not task.size or not np.isfinite(task).all():
        raise UserError(
            f"scores of a task have shape {task.shape}; expected finite numbers "
            "[training seeds, layouts]"
        )
    return task
