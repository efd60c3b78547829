"""Result tables as plain text (terminals) and as Markdown (report pages).

Every number comes from result rows; intervals are 95 % bootstrap over layouts
(`stats`). Rows of different tasks or algorithms never share a table.
"""

import dataclasses
import math
from collections.abc import Sequence

from sas_jax.files.results import EpisodeResult, variants_of
from sas_jax.stats.intervals import (
    LEVEL,
    MIN_LAYOUTS,
    Interval,
    PairedDifference,
    metric_interval,
    num_episodes,
    paired_difference,
)

NO_VALUE = "-"
# How tables and pictures call a metric; others have the name of their column.
NAMES = {"failed": "any cost"}
INTERVAL_NOTE = (
    f"[low, high]: {LEVEL:.0%} bootstrap intervals over layouts; single intervals, "
    "not corrected for their number."
)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of finished texts.

    title: one line; header: [C] column names; rows: each [C] texts; notes: lines
    printed under the table. The first column is left-aligned, the others right.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """Aligned columns for a terminal."""
        lines = [self.header, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.header))]

        def join(line):
            cells = [line[0].ljust(widths[0])]
            cells += [c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)]
            return "  ".join(cells).rstrip()

        body = [join(line) for line in lines]
        rule = "-" * max(len(line) for line in body)
        return "\n".join([self.title, body[0], rule, *body[1:], *self.notes]) + "\n"

    def markdown(self) -> str:
        """A Markdown table under a bold title; notes in italics."""

        def join(line):
            return "| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |"

        marks = "|" + ":--|" + "--:|" * (len(self.header) - 1)
        parts = [f"**{self.title}**", ""]
        parts += [join(self.header), marks, *(join(row) for row in self.rows)]
        for note in self.notes:
            parts += ["", f"*{note}*"]
        return "\n".join(parts) + "\n"


def groups_of(
    rows: Sequence[EpisodeResult],
) -> list[tuple[str, str, list[EpisodeResult]]]:
    """(task, algo, its rows) for every task and algorithm, sorted by name.

    A changed world is a task of its own, and is named with it.
    """
    groups: dict[tuple[str, str], list[EpisodeResult]] = {}
    for row in rows:
        task = f"{row.task} [{row.shift}]" if row.shift else row.task
        groups.setdefault((task, row.algo), []).append(row)
    return [(task, algo, members) for (task, algo), members in sorted(groups.items())]


def summary_tables(rows: Sequence[EpisodeResult]) -> list[Table]:
    """Per task and algorithm: one line per variant, thresholds pooled.

    Columns: episodes, layouts, return, cost, normalized return, share with any cost,
    share of rows with cost at or below the row's threshold.
    """
    header = ("variant", "episodes", "layouts", "return", "cost")
    header += ("norm. return", NAMES["failed"], "within limit")
    metrics = ("return", "cost", "normalized_return", "failed", "within_limit")
    tables = []
    for task, algo, members in groups_of(rows):
        lines = []
        for variant in variants_of(members):
            chosen = [row for row in members if row.variant == variant]
            means = {name: metric_interval(chosen, name) for name in metrics}
            counts = means["cost"]
            lines.append(
                (variant, str(num_episodes(chosen)), str(counts.num_clusters))
                + tuple(interval_text(means[name], name) for name in metrics)
            )
        notes = (INTERVAL_NOTE, *_fallback_notes(members))
        tables.append(Table(f"{task}, {algo}: episodes", header, tuple(lines), notes))
    return tables


def _fallback_notes(rows: Sequence[EpisodeResult]) -> list[str]:
    """How often the policy acted instead of its plans, for every variant that plans."""
    notes = []
    for variant in variants_of(rows):
        shares = [
            row.plan_fallback
            for row in rows
            if row.variant == variant and not math.isnan(row.plan_fallback)
        ]
        if shares:
            share = sum(shares) / len(shares)
            verdict = "; this is no plan: the policy acts" if share > 0.5 else ""
            notes.append(
                f"{variant}: the policy acted instead of a plan on {share:.0%} of the "
                f"steps{verdict}."
            )
    return notes


def threshold_tables(rows: Sequence[EpisodeResult]) -> list[Table]:
    """Per task and algorithm: one line per variant and cost threshold.

    Columns: threshold, episodes, return, cost, normalized cost (at most 1 is the
    field's "safe"), share of episodes within the threshold. What does not depend on the
    threshold, as the policy does not see it, is said once.
    """
    metrics = ("return", "cost", "normalized_cost", "within_limit")
    header = ("variant", "limit", "episodes", "return", "cost", "norm. cost")
    header += ("within limit", "mean safe")
    note = "mean safe: mean normalized cost <= 1 (DSRL's criterion)."
    tables = []
    for task, algo, members in groups_of(rows):
        lines, is_repeated = [], False
        for variant in variants_of(members):
            mine = [row for row in members if row.variant == variant]
            limits = sorted({row.cost_limit for row in mine})
            seen = num_episodes(mine) * len(limits) == len(mine)
            for limit in limits:
                chosen = [row for row in mine if row.cost_limit == limit]
                means = {name: metric_interval(chosen, name) for name in metrics}
                safe = "yes" if means["normalized_cost"].mean <= 1 else "no"
                texts = [interval_text(means[name], name) for name in metrics]
                count = str(len(chosen))
                if seen and limit != limits[0]:
                    count, texts[:2], is_repeated = SAME, [SAME, SAME], True
                lines.append((variant, f"{limit:g}", count, *texts, safe))
        title = f"{task}, {algo}: by cost threshold"
        notes = (INTERVAL_NOTE, note, *_fallback_notes(members))
        if is_repeated:
            notes += (_SAME_NOTE,)
        tables.append(Table(title, header, tuple(lines), notes))
    return tables


SAME = "same"
_SAME_NOTE = (
    f"{SAME}: as in the line above. The policy does not see the threshold: its "
    "episodes were run once and are judged at each."
)
CONTRAST_METRICS = ("return", "cost", "failed")


def contrasts(
    rows: Sequence[EpisodeResult], reference: str = "none"
) -> list[PairedDifference]:
    """Every other variant minus `reference`, for `CONTRAST_METRICS`.

    rows: of one task and algorithm. Raises `UserError` when rows lack a partner.
    """
    return [
        paired_difference(rows, variant, reference, metric)
        for variant in variants_of(rows)
        if variant != reference
        for metric in CONTRAST_METRICS
    ]


def contrast_table(title: str, differences: Sequence[PairedDifference]) -> Table:
    """One line per contrast: difference, whether it is resolved, what it could see.

    differences: as `contrasts` returns them, all against one reference.
    """
    header = ("minus " + differences[0].reference if differences else "variant",)
    header += ("metric", "pairs", "layouts", "difference", "resolved", "half-width")
    header += ("pair corr.", "sd of pairs")
    lines = []
    for d in differences:
        interval = d.difference
        lines.append(
            (
                d.variant,
                NAMES.get(d.metric, d.metric),
                str(d.num_pairs),
                str(interval.num_clusters),
                interval_text(interval, d.metric, signed=True),
                "resolved" if d.resolved else "no",
                _number(interval.half_width, d.metric),
                _number(d.correlation, "correlation"),
                _number(d.difference_sd, d.metric),
            )
        )
    k = len(differences)
    pairing = (
        "Paired: same task, training seed, layout and threshold. resolved: the "
        f"{LEVEL:.0%} bootstrap interval over layouts excludes 0 (never said below "
        f"{MIN_LAYOUTS} layouts)."
    )
    multiplicity = (
        f"No multiplicity correction, {k} contrast{'s' * (k != 1)}: without any true "
        f"effect about {k * (1 - LEVEL):.2g} of them would still read 'resolved'."
    )
    notes = (pairing, multiplicity)
    return Table(title, header, tuple(lines), notes)


def paired_tables(
    rows: Sequence[EpisodeResult], reference: str = "none"
) -> list[Table]:
    """`contrast_table` for every task and algorithm that has other variants."""
    tables = []
    for task, algo, members in groups_of(rows):
        if differences := contrasts(members, reference):
            title = f"{task}, {algo}: paired differences, variant minus {reference}"
            tables.append(contrast_table(title, differences))
    return tables


def interval_text(interval: Interval, metric: str, *, signed: bool = False) -> str:
    """``mean [low, high]`` with digits that suit the metric."""
    mean = _number(interval.mean, metric, signed=signed)
    if math.isnan(interval.low):
        return mean
    low, high = (
        _number(x, metric, signed=signed) for x in (interval.low, interval.high)
    )
    return f"{mean} [{low}, {high}]"


# Raw returns and costs are in the tens: one digit; shares and ratios need two.
_DIGITS = {"return": 1, "cost": 1}


def _number(value: float, metric: str, *, signed: bool = False) -> str:
    if math.isnan(value):
        return NO_VALUE
    text = f"{value:{'+' if signed else ''}.{_DIGITS.get(metric, 2)}f}"
    # A rounded zero has no sign.
    return text if float(text) else text.lstrip("+-")
