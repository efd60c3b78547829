"""Performance profiles: the share of runs that do better than each score."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sas_jax.errors import UserError
from sas_jax.files.results import EpisodeResult
from sas_jax.report import style
from sas_jax.report.aggregate_tables import groups_of_methods, scores_of
from sas_jax.stats.aggregate import profile_band
from sas_jax.stats.intervals import LEVEL

_PANELS = {
    "normalized_return": "normalised return above",
    "normalized_cost": "normalised cost above (1: the threshold)",
}
_LEVELS = 101


def profile_figure(
    path: str | os.PathLike, rows: Sequence[EpisodeResult], *, title: str = ""
) -> Path:
    """Draws a curve and its band for every method and variant, as .png or .pdf.

    rows: of several tasks, at one threshold. A run is a training seed on a task, its
    score the mean over its layouts. On the right a low curve is a safe one. Raises
    `UserError` without rows, or where they have several thresholds.
    """
    groups = groups_of_methods(rows)
    if len({limit for _, limit, _, _ in groups}) != 1:
        raise UserError("performance profiles: expected rows of one threshold")
    methods = {algo for algo, _, _, _ in groups}
    names = [v if len(methods) == 1 else f"{a}, {v}" for a, _, v, _ in groups]
    colors = style.variant_colors(names)
    with style.styled():
        figure, axes = style.new_figure(8.4, 3.4, ncols=len(_PANELS), sharey=True)
        for ax, (metric, label) in zip(axes[0], _PANELS.items(), strict=True):
            tasks = [list(scores_of(g[3], metric).values()) for g in groups]
            runs = np.concatenate([t.mean(axis=1) for group in tasks for t in group])
            room = 0.05 * max(float(np.ptp(runs)), 1e-3)
            levels = np.linspace(runs.min() - room, runs.max() + room, _LEVELS)
            for name, group in zip(names, tasks, strict=True):
                share, low, high = profile_band(group, levels)
                ax.step(levels, share, color=colors[name], label=name, where="post")
                if np.isfinite(low).all():
                    ax.fill_between(
                        levels, low, high, step="post", alpha=0.15, lw=0,
                        color=colors[name],
                    )  # fmt: skip
            ax.set(xlabel=label, ylim=(0, 1.02))
        axes[0, 0].set_ylabel("share of runs")
        axes[0, 1].axvline(1.0, color="#555555", linewidth=1)
        axes[0, 1].legend(fontsize=8)
        note = f"bands: {LEVEL:.0%} bootstrap over training seeds and layouts"
        figure.suptitle(f"{title}\n{note}".strip(), fontsize=9, x=0.01, ha="left")
        return style.save(figure, path)
