"""Does Algorithm 1 know what it does? Statistics of its signals, with intervals.

All are 95 % bootstrap intervals over layouts; nothing is corrected for their number.
Arrays are those of `sas_jax.studies.signals`: one row per layout.
"""

import csv
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sas_jax.files.atomic import replacing
from sas_jax.report.tables import Table
from sas_jax.stats.intervals import Interval
from sas_jax.stats.ranks import auc_within, ranks
from sas_jax.stats.resample import correlation, correlation_within, interval_of, mean_of

EPISODES = ("none", "rand", "sas")
PROMPTS = ("rand", "sas")
# Steps of the real episode, half-open; the last one ends with the episode.
PERIODS = ((0, 1), (1, 20), (20, 100), (100, None))


@dataclasses.dataclass(frozen=True)
class Fact:
    """One number. question: a to e; chance: what it would be if nothing was known."""

    question: str
    name: str
    value: Interval
    chance: str = ""


QUESTIONS = {
    "a": "Does the energy know anything about cost?",
    "b": "Does the second loop lower the energy?",
    "c": "Does the sum of V select, or toss a coin?",
    "d": "How far and how long does a prompt move the actions?",
    "e": "Where is the peak of the energy?",
}


def facts(arrays: Mapping[str, np.ndarray], *, horizon: int) -> list[Fact]:
    """All statistics. horizon: T of imagination."""
    return [
        *_cost_facts(arrays),
        *_second_loop_facts(arrays),
        *_coin_facts(arrays, horizon - 1),
        *_shift_facts(arrays),
        *_peak_facts(arrays),
    ]


def _cost_facts(arrays) -> list[Fact]:
    level, found = arrays["level"], []
    for index, variant in enumerate(EPISODES):
        for key, words in (("cost", "whole"), ("cost_start", "first 100 steps")):
            value = correlation(level, arrays[key][:, index])
            name = f"corr(min max E, real cost), {variant}, {words}"
            found.append(Fact("a", name, value, "0"))
    within = correlation_within(arrays["peak_first"], arrays["cost_first"])
    name = "corr(max E, predicted cost) within a layout"
    found.append(Fact("a", name, within, "0"))
    by_rank = correlation_within(
        ranks(arrays["peak_first"]), ranks(arrays["cost_first"])
    )
    return [*found, Fact("a", "  the same by ranks", by_rank, "0")]


def _second_loop_facts(arrays) -> list[Fact]:
    first, second = arrays["peak_first"], arrays["peak_second"]
    change = _row_mean(second) - _row_mean(first)
    least = _row_extreme(second, np.fmin) - _row_extreme(first, np.fmin)
    # One imagination that blows up moves a mean by thousands of nats.
    middle = _row_median(second) - _row_median(first)
    return [
        Fact(
            "b",
            "chance that max E of the second loop exceeds the first's",
            mean_of(auc_within(second, first)),
            "0.5",
        ),
        Fact("b", "median max E, second minus first loop (nats)", mean_of(middle), "0"),
        Fact("b", "mean max E, second minus first loop (nats)", mean_of(change), "0"),
        Fact("b", "least max E, second minus first loop (nats)", mean_of(least), "0"),
        Fact("b", "mean max E of the first loop (nats)", mean_of(_row_mean(first))),
        Fact(
            "b",
            "sd of max E within a layout (nats)",
            mean_of(_row_sd(first)),
        ),
    ]


def _coin_facts(arrays, pairs: int) -> list[Fact]:
    score, halves = arrays["score"], arrays["halves"]
    share = score / pairs
    finite = np.isfinite(share)
    count = finite.sum(axis=1)
    mean = _row_mean(share)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.where(count > 1, _row_sd(share) ** 2, np.nan)
        # A coin of the layout's bias; its estimate is low by the spread of the mean.
        coin = mean * (1 - mean) / pairs
    candidates = score.shape[1]
    chance = f"{1 / candidates:.2f}"
    ranges = _row_extreme(score, np.fmax) - _row_extreme(score, np.fmin)
    repeated = arrays["repeated"]
    odd, even = repeated[:, :, 0::2].mean(axis=2), repeated[:, :, 1::2].mean(axis=2)
    return [
        Fact("c", "sum V / (T - 1), mean", mean_of(mean)),
        Fact(
            "c",
            "its variance over the M against a coin's",
            interval_of(
                lambda m: m[..., 0] / np.where(m[..., 1] > 0, m[..., 1], np.nan),
                np.stack([spread, coin], axis=1),
            ),
            "1",
        ),
        Fact("c", "largest minus smallest sum V of a layout (steps)", mean_of(ranges)),
        Fact(
            "c",
            "corr(sum V of the first, last half of the steps) within a layout",
            correlation_within(halves[..., 0], halves[..., 1]),
            "0",
        ),
        Fact(
            "c",
            "same best imagination by either half",
            mean_of(agreement(halves[..., 0], halves[..., 1])),
            chance,
        ),
        Fact(
            "c",
            "corr(sum V, mean sum V of new draws under its segment) within",
            correlation_within(score, _last_mean(repeated)),
            "0",
        ),
        Fact(
            "c",
            "corr(candidate segments' mean sum V, odd and even draws) within",
            correlation_within(odd, even),
            "0",
        ),
        Fact(
            "c",
            "same best segment by odd and even draws",
            mean_of(agreement(odd, even)),
            chance,
        ),
        Fact(
            "c",
            "line 14's choice is the best segment by new draws",
            mean_of(agreement(score, _last_mean(repeated))),
            chance,
        ),
    ]


def _shift_facts(arrays) -> list[Fact]:
    found, scale = [], arrays["scale"]
    for start, stop in PERIODS:
        steps = slice(start, stop)
        last = "the end" if stop is None else stop - 1
        label = f"t = {start}" if stop == start + 1 else f"t = {start} to {last}"
        for index, variant in enumerate(PROMPTS):
            shift = _row_mean(arrays["shift"][:, index, steps])
            sd = _row_mean(scale[:, index, steps])
            columns = np.stack([shift, sd], axis=1)
            if not np.isfinite(columns).all(axis=1).any():
                continue
            found.append(Fact("d", f"mean |d mu|, {variant}, {label}", mean_of(shift)))
            ratio = interval_of(lambda m: m[..., 0] / m[..., 1], columns)
            name = f"  the same by the policy's own sd, {variant}, {label}"
            found.append(Fact("d", name, ratio))
    return found


def _peak_facts(arrays) -> list[Fact]:
    found = []
    for loop in ("first", "second"):
        times = arrays[f"time_{loop}"]
        for quartile, fair in ((25, ".25"), (50, ".50"), (75, ".75")):
            value = _pooled_quantile(times, quartile / 100)
            name = f"{quartile} % of the peaks lie before t / T, {loop} loop"
            found.append(Fact("e", name, value, fair))
    return found


def agreement(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """`[E]` whether `[E, M]` scores name the same best one; NaN if any is not finite.

    Among equals in a row all count alike: the chance that two choices at random from
    the best of either side agree.
    """
    known = np.isfinite(left).all(axis=1) & np.isfinite(right).all(axis=1)
    with np.errstate(invalid="ignore"):
        a = left == left.max(axis=1, keepdims=True)
        b = right == right.max(axis=1, keepdims=True)
    both = (a & b).sum(axis=1) / np.maximum(a.sum(axis=1) * b.sum(axis=1), 1)
    return np.where(known, both, np.nan)


def _row_mean(x):
    """Mean over the last axis of what is finite; NaN where nothing is."""
    finite = np.isfinite(x)
    total = np.where(finite, x, 0.0).sum(axis=-1)
    count = finite.sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _row_median(x):
    """Median over the last axis of what is finite; NaN where nothing is."""
    known = np.isfinite(x)
    x = np.where(known.any(axis=-1, keepdims=True), np.where(known, x, np.nan), 0.0)
    return np.where(known.any(axis=-1), np.nanmedian(x, axis=-1), np.nan)


def _last_mean(x):
    """Mean over the last axis; NaN where any is not finite."""
    return np.asarray(x, np.float64).mean(axis=-1)


def _row_sd(x):
    """Sample standard deviation over the last axis of what is finite."""
    finite = np.isfinite(x)
    count = finite.sum(axis=-1)
    off = np.where(finite, x - _row_mean(x)[..., None], 0.0)
    variance = (off**2).sum(axis=-1) / np.maximum(count - 1, 1)
    return np.where(count > 1, np.sqrt(variance), np.nan)


def _row_extreme(x, pick):
    """`np.fmin` or `np.fmax` over the last axis, NaN ignored."""
    return pick.reduce(np.asarray(x, np.float64), axis=-1)


def _pooled_quantile(values, share: float) -> Interval:
    """Quantile of all values of all layouts, layouts resampled.

    By the empirical distribution on a grid of 200 steps: a function of layout means.
    """
    finite = np.isfinite(values)
    grid = (np.arange(200) + 1) / 200
    below = np.where(finite, values, np.inf)[:, :, None] < grid
    columns = np.column_stack([below.sum(axis=1), finite.sum(axis=1)]).astype(float)
    columns = columns[finite.any(axis=1)]

    def statistic(m):
        distribution = m[..., :-1] / m[..., -1:]
        return grid[np.argmax(distribution >= share - 1e-12, axis=-1)]

    return interval_of(statistic, columns)


def table(found: Sequence[Fact], *, title: str, notes: Sequence[str] = ()) -> Table:
    """A line per fact, questions as lines of their own."""
    lines, last = [], None
    for fact in found:
        if fact.question != last:
            last = fact.question
            lines.append((f"({last}) {QUESTIONS[last]}", "", "", ""))
        inner = fact.value
        text = f"{inner.mean:.3g} [{inner.low:.3g}, {inner.high:.3g}]"
        lines.append((f"  {fact.name}", text, fact.chance, str(inner.num_clusters)))
    header = ("", "value [95 % over layouts]", "by chance", "layouts")
    return Table(title, header, tuple(lines), tuple(notes))


def write_csv(path: str | os.PathLike, found: Sequence[Fact], *, command: str) -> Path:
    """Writes the facts; the first line is a comment that names the command."""
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        file.write(f"# {command}\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("question", "name", "value", "low", "high", "chance", "n"))
        for fact in found:
            inner = fact.value
            interval = (inner.mean, inner.low, inner.high)
            row = (fact.question, fact.name.strip(), *interval, fact.chance)
            writer.writerow((*row, inner.num_clusters))
    return Path(path)
