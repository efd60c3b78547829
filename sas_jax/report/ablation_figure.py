"""The paper's figures 4 and 6: bars of its ablations, from a sweep's rows."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sas_jax.errors import UserError
from sas_jax.files.results import EpisodeResult
from sas_jax.report import style
from sas_jax.report.ablation_tables import ABLATIONS, ablation_groups
from sas_jax.stats.intervals import LEVEL, metric_interval

# Figure of the paper -> its ablations; "UV" is what the second loop adds.
FIGURES = {"4": ("UV", "C2", "C3", "C4", "C5"), "6": ("C1",)}
_BARS = {
    "normalized_return": ("normalised return", "#c44e52"),
    "normalized_cost": ("normalised cost", "#4c72b0"),
    "failed": ("share with any cost", "#55a868"),
}
_LOOPS = ("none", "u", "sas")
_COLUMNS = 4


def ablation_figure(
    path: str | os.PathLike,
    number: str,
    rows: Sequence[EpisodeResult],
    records: Mapping[str, Mapping[str, Any]],
) -> Path:
    """Draws a panel for every ablation and method that was run, as .png or .pdf.

    Bars are means with their intervals: return, cost, and share of episodes with a
    cost, as in the paper.

    Args:
      number: of `FIGURES`. rows: of a sweep. records: of its JSON, by a cell's id.

    Raises:
      UserError: an unknown figure, or no ablation of it among the rows.
    """
    if number not in FIGURES:
        known = ", ".join(FIGURES)
        raise UserError(f"figure {number!r}: expected one of {known}")
    panels = [
        panel for name in FIGURES[number] for panel in _panels(name, rows, records)
    ]
    if not panels:
        wanted = ", ".join(FIGURES[number])
        raise UserError(
            f"figure {number}: no cells of this sweep differ in one setting of "
            f"{wanted} alone; expected some, as those of experiments/plans/paper.toml"
        )
    with style.styled():
        columns = min(len(panels), _COLUMNS)
        lines = -(-len(panels) // columns)
        size = 3.2 * columns, 3.0 * lines + 0.4
        figure, axes = style.new_figure(*size, nrows=lines, ncols=columns)
        for ax, (title, bars) in zip(axes.flat, panels, strict=False):
            _draw(ax, bars)
            ax.set_title(title, fontsize=9)
        for ax in axes.flat[len(panels) :]:
            ax.set_axis_off()
        axes[0, 0].legend(fontsize=8)
        note = f"whiskers: {LEVEL:.0%} bootstrap over layouts"
        figure.suptitle(note, fontsize=9, x=0.01, ha="left")
        return style.save(figure, path)


def _panels(
    name: str,
    rows: Sequence[EpisodeResult],
    records: Mapping[str, Mapping[str, Any]],
) -> list[tuple[str, dict[str, list[EpisodeResult]]]]:
    """Titles, and label of a value -> its rows."""
    if name == "UV":
        return _loop_panels(rows, records)
    found = []
    for group in ablation_groups(name, rows, records):
        first = next(iter(group.values()))[0]
        bars = {_label(value): own for value, own in group.items()}
        found.append((f"{first.task}, {first.algo}\n{ABLATIONS[name][0]}", bars))
    return sorted(found, key=lambda panel: panel[0])


def _loop_panels(
    rows: Sequence[EpisodeResult],
    records: Mapping[str, Mapping[str, Any]],
) -> list[tuple[str, dict[str, list[EpisodeResult]]]]:
    """Without a prompt, with the first loop's, with both: where all three were run.

    Of methods that bear their algorithm's name; others are an ablation's.
    """
    found = [(x["place"], x["description"]["experiment"]) for x in records.values()]
    plain = {place[1] for place, known in found if place[1] == known["algo"]}
    cells: dict[tuple[str, str], dict[str, list[EpisodeResult]]] = {}
    for row in rows:
        if row.algo in plain and row.variant in _LOOPS and not row.shift:
            own = cells.setdefault((row.task, row.algo), {})
            own.setdefault(row.variant, []).append(row)
    return [
        (f"{task}, {algo}\nloops", {name: own[name] for name in _LOOPS})
        for (task, algo), own in sorted(cells.items())
        if set(own) == set(_LOOPS)
    ]


def _label(value: tuple) -> str:
    return ", ".join(map(str, value))


def _draw(ax: Any, bars: Mapping[str, Sequence[EpisodeResult]]) -> None:
    """Three bars for every value."""
    place, width = np.arange(len(bars)), 0.8 / len(_BARS)
    for i, (metric, (label, color)) in enumerate(_BARS.items()):
        found = [metric_interval(rows, metric) for rows in bars.values()]
        mean = np.array([x.mean for x in found])
        ends = np.array([[x.mean - x.low, x.high - x.mean] for x in found]).T
        at = place + (i - 1) * width
        ax.bar(at, mean, width, color=color, label=label)
        ax.errorbar(at, mean, np.nan_to_num(ends), fmt="none", color="#333333", lw=1)
    ax.set_xticks(place, list(bars), fontsize=8)
