"""Paired differences at one look: a point and its interval for every contrast."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes

from sas_jax.errors import UserError
from sas_jax.report import style
from sas_jax.stats.intervals import LEVEL, PairedDifference

_PANELS = {"cost": "cost", "return": "return", "failed": "any cost, share"}


def forest_figure(
    path: str | os.PathLike, differences: Sequence[PairedDifference], *, title: str = ""
) -> Path:
    """Draws contrasts as a forest plot, one panel a metric, and returns the path.

    differences: of one task and algorithm, maybe against several references. A filled
    point is resolved: its interval excludes 0, on enough layouts. Raises `UserError`
    where there is nothing to draw.
    """
    panels = [m for m in _PANELS if any(d.metric == m for d in differences)]
    if not panels:
        raise UserError("no paired differences to draw; expected at least one contrast")
    pairs = list(dict.fromkeys((d.variant, d.reference) for d in differences))
    colors = style.variant_colors([variant for variant, _ in pairs])
    with style.styled():
        figure, axes = style.new_figure(
            3.0 * len(panels) + 1.4,
            0.34 * len(pairs) + 1.3,
            ncols=len(panels),
            sharey=True,
        )
        for ax, metric in zip(axes[0], panels, strict=True):
            chosen = {
                (d.variant, d.reference): d for d in differences if d.metric == metric
            }
            for place, pair in enumerate(pairs):
                if pair in chosen:
                    _draw(ax, place, chosen[pair], colors[pair[0]])
            ax.axvline(0, color="#555555", linewidth=1)
            ax.set(title=_PANELS[metric], xlabel="variant minus reference")
            ax.grid(axis="y", visible=False)
        names = [f"{variant} − {reference}" for variant, reference in pairs]
        axes[0, 0].set_yticks(range(len(pairs)), names)
        axes[0, 0].set_ylim(len(pairs) - 0.4, -0.6)
        note = f"bars: {LEVEL:.0%} bootstrap over layouts; filled: excludes 0"
        figure.suptitle(f"{title}\n{note}".strip(), fontsize=9, x=0.01, ha="left")
        return style.save_png(figure, path)


def _draw(ax: Axes, place: int, d: PairedDifference, color: str) -> None:
    """One contrast at a height."""
    interval = d.difference
    if not math.isnan(interval.low):
        ends = [interval.low, interval.high]
        ax.plot(ends, [place, place], color=color, linewidth=2)
    ax.plot(
        interval.mean, place, "o", ms=7, mec=color, mew=1.6,
        mfc=color if d.resolved else "white", zorder=3,
    )  # fmt: skip
