"""Pictures of a run: energies of the imaginations, return against cost.

Each function writes one PNG (under 150 kB) atomically and returns its path. The map
of an episode, the world-model card and the training curves have their own files
(`map_figure`, `card_figure`, `training_figure`); their functions are re-exported here.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from sas_jax.errors import UserError
from sas_jax.files.results import EpisodeResult, variants_of
from sas_jax.report import style
from sas_jax.report.card_figure import card_figure
from sas_jax.report.map_figure import map_figure
from sas_jax.report.training_figure import training_figure
from sas_jax.stats.intervals import Interval, metric_interval

__all__ = [
    "card_figure",
    "energy_figure",
    "map_figure",
    "return_cost_figure",
    "training_figure",
]


def energy_figure(
    path: str | os.PathLike,
    *,
    energies_first,
    energies_second=None,
    chosen_first: int,
    chosen_second: int | None = None,
    level: float,
    peaks_first=None,
    peaks_second=None,
    segment_first: tuple[int, int] | None = None,
    segment_second: tuple[int, int] | None = None,
    title: str = "",
) -> Path:
    """Energy E_t along the imaginations of Algorithm 1, one panel per loop.

    energies_first: [N, T], energies_second: [M, T] or None (variants without a second
    loop). chosen_*: index of the chosen trajectory. level: the level (min over i of
    max over t). peaks_*: [N], [M] steps of the maxima (default: argmax over the finite
    energies). segment_*: half-open bounds of the segment taken as prompt. Steps count
    from 0. Trajectories with a non-finite energy are disqualified and drawn dotted.
    """
    loops = [("First loop", energies_first, chosen_first, peaks_first, segment_first)]
    if energies_second is not None:
        loops.append(
            (
                "Second loop",
                energies_second,
                chosen_second,
                peaks_second,
                segment_second,
            )
        )
    with style.styled():
        figure, axes = style.new_figure(
            5.2 * len(loops), 3.7, ncols=len(loops), sharey=True
        )
        for ax, (name, energies, chosen, peaks, segment) in zip(
            axes[0], loops, strict=True
        ):
            energies = np.asarray(energies, np.float64)
            _energy_panel(ax, energies, chosen, peaks, segment, level)
            letter = "N" if name == "First loop" else "M"
            ax.set_title(f"{name}: {letter} = {len(energies)} imaginations")
            ax.set_xlabel("imagined step t")
        chosen = [np.asarray(e)[c] for _, e, c, *_ in loops if c is not None]
        everything = np.concatenate([np.ravel(energies) for _, energies, *_ in loops])
        low, high = _energy_range(everything, np.concatenate([*chosen, [level]]))
        axes[0, 0].set_ylim(low, high)
        for ax, (_, energies, *_) in zip(axes[0], loops, strict=True):
            energies = np.asarray(energies, np.float64)
            outside = np.isfinite(energies) & ((energies < low) | (energies > high))
            _panel_words(ax, energies, int(outside.any(axis=1).sum()))
        axes[0, 0].set_ylabel("energy  $E_t = -\\log\\hat\\rho_t$")
        handles, labels = axes[0, -1].get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=5 if len(loops) > 1 else 3,
        )
        if title:
            figure.suptitle(title, fontsize=11)
        return style.save_png(figure, path)


def _energy_panel(ax: Axes, energies, chosen, peaks, segment, level) -> None:
    """One loop. energies: [N, T]."""
    finite = np.isfinite(energies)
    shown = np.where(finite, energies, np.nan)
    if peaks is None:
        peaks = np.argmax(np.where(finite, energies, -np.inf), axis=1)
    others = True
    for i, line in enumerate(shown):
        if i == chosen:
            continue
        qualified = finite[i].all()
        ax.plot(
            line, lw=1.0, color=style.GREY, alpha=0.75, ls="-" if qualified else ":",
            label="other imaginations" if others and qualified else None,
        )  # fmt: skip
        others = others and not qualified
        if qualified:
            ax.plot(peaks[i], line[peaks[i]], "o", ms=4, color=style.GREY)
    ax.axhline(
        level, ls="--", lw=1.2, color=style.VERMILION, label="level $\\hat E$", zorder=3
    )
    if chosen is not None:
        ax.plot(shown[chosen], lw=1.9, color=style.BLUE, label="chosen", zorder=4)
        peak = peaks[chosen]
        ax.plot(
            peak, shown[chosen][peak], "o", ms=7, color=style.BLUE, mec="white",
            zorder=5, label="its peak",
        )  # fmt: skip
    if segment is not None:
        start, end = segment
        # Half-open bounds cover the steps start..end-1; half a step either side keeps
        # a short segment of a long imagination visible, as does the edge line.
        ax.axvspan(
            start - 0.5, end - 0.5, color=style.ORANGE, alpha=0.35, lw=1.5, zorder=1,
            label="segment (prompt)",
        )  # fmt: skip
        style.panel_note(ax, f"prompt: steps {start}–{end - 1}")
    ax.margins(x=0.02)


def _panel_words(ax: Axes, energies: np.ndarray, outside: int) -> None:
    """Says what the lines alone do not show. energies: [N, T]."""
    words = []
    if disqualified := int((~np.isfinite(energies).all(axis=1)).sum()):
        words.append(f"{disqualified} disqualified (not finite)")
    if outside:
        words.append(f"{outside} leave{'s' * (outside == 1)} the axis")
    ax.text(
        0.02, 0.98, "\n".join(words), transform=ax.transAxes, va="top", fontsize=8,
        color=style.VERMILION, zorder=6,
    )  # fmt: skip


def _energy_range(values: np.ndarray, must_show: np.ndarray) -> tuple[float, float]:
    """Limits of the energy axis: `must_show`, and the rest unless it is far off.

    One imagination that blows up would otherwise flatten all others to a line.
    """
    values = values[np.isfinite(values)]
    must_show = must_show[np.isfinite(must_show)]
    if not values.size:
        return -1.0, 1.0
    first, third = np.percentile(values, [25, 75])
    fence = 5 * max(third - first, 1e-9)
    near = values[(values >= first - fence) & (values <= third + fence)]
    shown = np.concatenate([near, must_show])
    margin = 0.06 * max(np.ptp(shown), 1e-6)
    return float(shown.min() - margin), float(shown.max() + margin)


def return_cost_figure(
    path: str | os.PathLike,
    rows: Sequence[EpisodeResult],
    *,
    dataset_returns=None,
    dataset_costs=None,
    cost_limits: Sequence[float] | None = None,
    curve: tuple | None = None,
    title: str = "",
) -> Path:
    """Return against cost: dataset, episodes of every variant, means with intervals.

    rows: of one task and algorithm. dataset_returns, dataset_costs: [E] of the
    training episodes, or None. cost_limits: vertical lines (default: the rows').
    curve: (costs, returns) `[K]` of the plain policy over its return targets, or None.
    Left: all episodes. Right: the means alone, enlarged, with 95 % bootstrap intervals
    over layouts. A variant whose episodes differ between thresholds gets one mean per
    threshold, told apart by the marker.
    """
    if not rows:
        raise UserError("no result rows to draw; expected at least one episode")
    limits = sorted({row.cost_limit for row in rows})
    cost_limits = limits if cost_limits is None else cost_limits
    variants = variants_of(rows)
    colors = style.variant_colors(variants)
    costs = np.array([row.cost for row in rows])
    edge = _right_edge(costs, dataset_costs, cost_limits)
    with style.styled():
        figure, axes = style.new_figure(10.4, 4.6, ncols=2)
        everything, enlarged = axes[0]
        hidden = int((costs > edge).sum())
        if dataset_returns is not None:
            dataset_costs = np.asarray(dataset_costs)
            for ax in axes[0]:
                _draw_dataset(ax, dataset_costs, dataset_returns)
            hidden += int((dataset_costs > edge).sum())
        box = []
        for variant in variants:
            mine = [row for row in rows if row.variant == variant]
            points = np.array(sorted({(row.cost, row.episode_return) for row in mine}))
            everything.plot(
                *points.T, "o", ms=3.5, color=colors[variant], mec="none", zorder=2,
                alpha=0.2 + 0.4 / (1 + len(points) / 200),
            )  # fmt: skip
            means = _means_per_limit(mine)
            for ax in axes[0]:
                _draw_means(ax, variant, means, colors[variant])
            box += [interval for _, *pair in means for interval in pair]
        if curve is not None:
            enlarged.plot(
                *curve, ".--", color=style.GREY, lw=1, ms=5, zorder=1.8,
                label="plain policy, by return target",
            )  # fmt: skip
        several = any(
            len(_means_per_limit([r for r in rows if r.variant == v])) > 1
            for v in variants
        )
        for ax in axes[0]:
            ax.set_xlabel("cost of the episode (undiscounted)")
        everything.set_xlim(-0.02 * edge, edge)
        everything.set_ylabel("return of the episode")
        everything.set_title(title or "Episodes", pad=18)
        enlarged.set_title("Means, enlarged", pad=18)
        _fit_to_means(enlarged, box)
        for ax in axes[0]:
            _draw_limits(ax, cost_limits)
        if hidden:
            style.panel_note(everything, f"{hidden} points beyond the right edge")
            everything.texts[-1].set_y(1.06)
        _draw_legend(figure, enlarged, limits if several else ())
        return style.save_png(figure, path)


_LIMIT_MARKERS = "osD^vP*X"


def _draw_dataset(ax, costs, returns):
    """The training episodes behind everything else."""
    ax.plot(
        costs, returns, "o", ms=4, mec="none", color=style.LIGHT_GREY, alpha=0.8,
        zorder=1, label=f"dataset ({len(costs)} episodes)",
    )  # fmt: skip


def _draw_legend(figure, ax, limits):
    """What `ax` shows, below the figure, and a marker for each of the thresholds."""
    handles, labels = ax.get_legend_handles_labels()
    for limit, marker in zip(limits, _LIMIT_MARKERS, strict=False):
        handles.append(Line2D([], [], ls="", marker=marker, ms=7, color=style.GREY))
        labels.append(f"run at κ={limit:g}")
    figure.legend(handles, labels, loc="outside lower center", ncols=5)


def _means_per_limit(rows) -> list[tuple[str, Interval, Interval]]:
    """(marker, cost, return) per threshold; one for all if the episodes are the same.

    A model that knows no threshold plays the same episode at each.
    """
    limits = sorted({row.cost_limit for row in rows})
    groups = [[row for row in rows if row.cost_limit == limit] for limit in limits]
    outcomes = [
        {(r.train_seed, r.episode_seed, r.cost, r.episode_return) for r in group}
        for group in groups
    ]
    if all(outcome == outcomes[0] for outcome in outcomes):
        groups = groups[:1]
    means = []
    for i, group in enumerate(groups):
        cost, gain = (metric_interval(group, name) for name in ("cost", "return"))
        means.append((_LIMIT_MARKERS[i % len(_LIMIT_MARKERS)], cost, gain))
    return means


def _draw_means(ax: Axes, variant: str, means, color: str) -> None:
    """Crosses as wide as the intervals; a thin line joins a variant's thresholds."""
    for i, (marker, cost, gain) in enumerate(means):
        for width, ink in ((4.2, "white"), (2.0, color)):
            ax.errorbar(
                cost.mean, gain.mean, xerr=_arms(cost), yerr=_arms(gain), fmt="none",
                elinewidth=width, ecolor=ink, zorder=4,
            )  # fmt: skip
        ax.plot(
            cost.mean, gain.mean, marker, ms=7.5, color=color, mec="white", mew=1.2,
            zorder=5, ls="", label=None if i else f"{variant}: mean, 95 %",
        )  # fmt: skip
    path = np.array([(cost.mean, gain.mean) for _, cost, gain in means])
    ax.plot(*path.T, lw=1, color=color, zorder=3)


def _draw_limits(ax: Axes, cost_limits: Sequence[float]) -> None:
    """Dashed lines at the thresholds inside the axis."""
    left, right = ax.get_xlim()
    for limit in cost_limits:
        if left <= limit <= right:
            ax.axvline(limit, ls="--", lw=1, color="#777777", zorder=1.5)
            ax.annotate(
                f"κ={limit:g}", (limit, 1), xycoords=("data", "axes fraction"),
                xytext=(0, 3), textcoords="offset points", fontsize=8, ha="center",
                color="#555555",
            )  # fmt: skip
    ax.set_xlim(left, right)


def _fit_to_means(ax: Axes, intervals: Sequence[Interval]) -> None:
    """Axis limits around all intervals. intervals: cost, return, cost, return, ..."""
    for series, limit in (
        (intervals[::2], ax.set_xlim),
        (intervals[1::2], ax.set_ylim),
    ):
        ends = np.array([(i.mean, i.low, i.high) for i in series])
        low, high = np.nanmin(ends), np.nanmax(ends)
        margin = 0.12 * max(high - low, 1.0)
        limit(low - margin, high + margin)


def _arms(interval) -> list[list[float]]:
    """Distances from the mean to both ends, [2, 1]; 0 where there is no interval."""
    if math.isnan(interval.low):
        return [[0.0], [0.0]]
    return [
        [max(0.0, interval.mean - interval.low)],
        [max(0.0, interval.high - interval.mean)],
    ]


def _right_edge(costs, dataset_costs, cost_limits) -> float:
    """Where the cost axis ends: past the limits and 98 % of the episodes."""
    ends = [np.percentile(costs, 98), *cost_limits]
    if dataset_costs is not None and len(dataset_costs):
        ends.append(np.percentile(dataset_costs, 98))
    return 1.08 * max(*ends, 1.0)
