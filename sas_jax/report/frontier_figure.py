"""Means over layouts, task by task: cost against the threshold, return against cost."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes

from sas_jax.errors import UserError
from sas_jax.files.results import EpisodeResult
from sas_jax.report import style
from sas_jax.report.aggregate_tables import groups_of_methods
from sas_jax.stats.intervals import LEVEL, Interval, metric_interval

_COLUMNS = 4


def kappa_figure(
    path: str | os.PathLike, rows: Sequence[EpisodeResult], *, title: str = ""
) -> Path:
    """Mean episode cost at each threshold, a panel a task; .png or .pdf.

    The dashed line is the threshold itself: what lies below keeps it on average. A
    policy that does not see the threshold is a level line. Raises `UserError` without
    rows.
    """

    def draw(ax: Axes, lines, colors) -> None:
        limits = sorted({limit for line in lines.values() for limit in line})
        ax.plot(limits, limits, color="#555555", lw=1, ls="--", label="threshold")
        for name, line in lines.items():
            means = [metric_interval(line[limit], "cost") for limit in sorted(line)]
            _bars(ax, sorted(line), means, colors[name], name)
        ax.set(xlabel="threshold", xticks=limits)
        ax.set_ylim(bottom=0)

    return _panels(path, rows, draw, "episode cost", title)


def frontier_figure(
    path: str | os.PathLike, rows: Sequence[EpisodeResult], *, title: str = ""
) -> Path:
    """Mean return against mean cost, a point a threshold, a panel a task; .png or .pdf.

    Up and to the left is better. Raises `UserError` without rows.
    """

    def draw(ax: Axes, lines, colors) -> None:
        for name, line in lines.items():
            for limit in sorted(line):
                cost = metric_interval(line[limit], "cost")
                value = metric_interval(line[limit], "return")
                label = name if limit == min(line) else None
                _bars(ax, [cost.mean], [value], colors[name], label)
                ends = _ends(cost)
                ax.plot(ends, [value.mean] * 2, color=colors[name], lw=1.2)
        ax.set_xlabel("episode cost")
        ax.set_xlim(left=min(0.0, ax.get_xlim()[0]))

    return _panels(path, rows, draw, "return", title)


def _panels(path, rows: Sequence[EpisodeResult], draw, label: str, title: str) -> Path:
    """A panel a task and world. draw: (axes, name -> threshold -> rows, colours)."""
    if not rows:
        raise UserError("no result rows to draw; expected at least one")
    tasks: dict[str, list[EpisodeResult]] = {}
    for row in sorted(rows, key=lambda r: (r.task, r.shift)):
        name = f"{row.task} [{row.shift}]" if row.shift else row.task
        tasks.setdefault(name, []).append(row)
    alone = len({row.algo for row in rows}) == 1
    names = list(
        dict.fromkeys(_name(a, v, alone) for a, _, v, _ in groups_of_methods(rows))
    )
    colors = style.variant_colors(names)
    columns = min(len(tasks), _COLUMNS)
    height = math.ceil(len(tasks) / columns)
    with style.styled():
        figure, axes = style.new_figure(
            2.7 * columns + 0.6, 2.5 * height + 0.9, nrows=height, ncols=columns
        )
        for ax in axes.flat[len(tasks) :]:
            ax.set_visible(False)
        for ax, (task, here) in zip(axes.flat, tasks.items(), strict=False):
            lines: dict[str, dict[float, list[EpisodeResult]]] = {}
            for algo, limit, variant, chosen in groups_of_methods(here):
                lines.setdefault(_name(algo, variant, alone), {})[limit] = chosen
            draw(ax, lines, colors)
            ax.set_title(task)
        for ax in axes[:, 0]:
            ax.set_ylabel(label)
        known: dict = {}
        for ax in axes.flat[: len(tasks)]:
            handles, labels = ax.get_legend_handles_labels()
            known |= dict(zip(labels, handles, strict=True))
        figure.legend(
            known.values(),
            known.keys(),
            loc="outside lower center",
            ncols=5,
            fontsize=8,
        )
        note = f"bars: {LEVEL:.0%} bootstrap over layouts"
        figure.suptitle(f"{title}\n{note}".strip(), fontsize=9, x=0.01, ha="left")
        return style.save(figure, path)


def _name(algo: str, variant: str, alone: bool) -> str:
    return variant if alone else f"{algo}, {variant}"


def _ends(interval: Interval) -> tuple[float, float]:
    """The interval's ends; the mean twice where there is none."""
    if math.isnan(interval.low):
        return interval.mean, interval.mean
    return interval.low, interval.high


def _bars(ax: Axes, places, means: Sequence[Interval], color: str, label) -> None:
    """Points with their intervals, joined."""
    ax.plot(places, [m.mean for m in means], "o-", color=color, ms=4, label=label)
    for place, mean in zip(places, means, strict=True):
        ax.plot([place, place], _ends(mean), color=color, lw=1.2)
