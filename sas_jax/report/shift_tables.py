"""Tables of changed worlds: each variant there, and there minus here."""

import dataclasses
from collections.abc import Mapping, Sequence

from sas_jax.files.results import EpisodeResult, variants_of
from sas_jax.report.tables import NO_VALUE, Table, interval_text
from sas_jax.stats.intervals import metric_interval, paired_difference

_METRICS = ("return", "cost")
_HEADER = ("variant", "level", "layouts", "return", "cost", "within limit")
_CHANGES = ("return, minus unchanged", "cost, minus unchanged")


def moved(
    there: Sequence[EpisodeResult], here: Sequence[EpisodeResult], metric: str
) -> str:
    """The mean difference of a variant's episodes on the same layouts, as text."""
    rows = [dataclasses.replace(row, variant="there", shift="") for row in there]
    rows += [dataclasses.replace(row, variant="here", shift="") for row in here]
    found = paired_difference(rows, "there", "here", metric).difference
    return interval_text(found, metric, signed=True)


def shift_table(
    axis: str,
    levels: Mapping[float, Sequence[EpisodeResult]],
    plain: Sequence[EpisodeResult],
    *,
    title: str,
) -> Table:
    """A line a variant and level. plain: rows of the unchanged world, which `levels`
    has, too.
    """
    lines = []
    for variant in variants_of(plain):
        here = [row for row in plain if row.variant == variant]
        for level in sorted(levels):
            there = [row for row in levels[level] if row.variant == variant]
            if not there:
                continue
            texts = [interval_text(metric_interval(there, m), m) for m in _METRICS]
            within = interval_text(metric_interval(there, "within_limit"), "share")
            is_plain = not there[0].shift
            changes = [
                NO_VALUE if is_plain else moved(there, here, m) for m in _METRICS
            ]
            lines.append(
                (variant, f"{level:g}", str(len(there)), *texts, within, *changes)
            )
    return Table(f"{title}: {axis}", (*_HEADER, *_CHANGES), tuple(lines))
