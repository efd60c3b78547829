"""Cost and return against the level of a change, a column an axis."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from sas_jax.errors import UserError
from sas_jax.files.results import EpisodeResult, variants_of
from sas_jax.report import style
from sas_jax.stats.intervals import LEVEL, metric_interval

METRICS = ("cost", "return")


def shift_figure(
    path: str | os.PathLike,
    axes: Mapping[str, Mapping[float, Sequence[EpisodeResult]]],
    *,
    title: str = "",
) -> Path:
    """Means over layouts at every level, a line a variant; .png or .pdf.

    axes: name of what changes -> level -> rows there, those of the unchanged world
    among them. Raises `UserError` without any.
    """
    if not axes:
        raise UserError("no levels to draw; expected at least one axis")
    names = list(
        dict.fromkeys(
            name
            for levels in axes.values()
            for rows in levels.values()
            for name in variants_of(rows)
        )
    )
    colors = style.variant_colors(names)
    with style.styled():
        figure, places = style.new_figure(
            2.6 * len(axes) + 0.8,
            4.6,
            nrows=len(METRICS),
            ncols=len(axes),
            sharey="row",
        )
        for column, (axis, levels) in enumerate(axes.items()):
            for ax, metric in zip(places[:, column], METRICS, strict=True):
                for name in names:
                    _line(ax, levels, name, metric, colors[name])
                ax.set_xlabel(axis)
                if metric == "cost":
                    ax.set_ylim(bottom=0)
        for ax, metric in zip(places[:, 0], METRICS, strict=True):
            ax.set_ylabel(f"episode {metric}" if metric == "cost" else metric)
        places[0, 0].legend(fontsize=8)
        note = f"bars: {LEVEL:.0%} bootstrap over layouts"
        figure.suptitle(f"{title}\n{note}".strip(), fontsize=9, x=0.01, ha="left")
        return style.save(figure, path)


def _line(ax, levels, name: str, metric: str, color: str) -> None:
    """One variant's means and intervals, joined."""
    places, means = [], []
    for level in sorted(levels):
        own = [row for row in levels[level] if row.variant == name]
        if own:
            places.append(level)
            means.append(metric_interval(own, metric))
    ax.plot(places, [m.mean for m in means], "o-", color=color, ms=4, label=name)
    for place, mean in zip(places, means, strict=True):
        if not math.isnan(mean.low):
            ax.plot([place, place], [mean.low, mean.high], color=color, lw=1.2)
