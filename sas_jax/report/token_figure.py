"""Achieved against asked, for the return token and for the cost token."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from sas_jax.report import style
from sas_jax.report.tokens import TokenResult, summarise

_COLORS = (style.BLUE, style.VERMILION, style.GREEN, style.PURPLE, style.ORANGE)


def token_figure(
    path: str | os.PathLike, rows: Sequence[TokenResult], *, title: str = ""
) -> Path:
    """Writes the picture as a PNG: return over target, and cost over limit.

    One line per value of the other token; whiskers are 95 % bootstrap intervals over
    layouts, the dashed line is perfect following. Policies without cost tokens have
    the first panel only. Raises `UserError` if there are no rows.
    """
    cells = summarise(rows).cells
    has_limits = any(limit is not None for _, limit in cells)
    with style.styled():
        figure, axes = style.new_figure(
            3.6 * (1 + has_limits), 3.0, ncols=1 + has_limits
        )
        points = [(t, limit, value) for (t, limit), (value, _) in cells.items()]
        _draw(axes[0, 0], points, "return", "limit")
        if has_limits:
            points = [(limit, t, cost) for (t, limit), (_, cost) in cells.items()]
            _draw(axes[0, 1], points, "cost", "target")
        if title:
            figure.suptitle(title, fontsize=10.5)
        return style.save_png(figure, path)


def _draw(ax: Axes, points, quantity: str, other: str) -> None:
    """points: (asked, value of the other token, interval)."""
    groups = sorted({own for _, own, _ in points}, key=lambda own: own or 0.0)
    for number, group in enumerate(groups):
        own = sorted((p for p in points if p[1] == group), key=lambda p: p[0])
        asked = np.array([p[0] for p in own])
        mean = np.array([p[2].mean for p in own])
        low, high = (
            np.array([getattr(p[2], side) for p in own]) for side in ("low", "high")
        )
        # A single layout has no interval.
        low, high = (
            np.where(np.isnan(low), mean, low),
            np.where(np.isnan(high), mean, high),
        )
        ax.errorbar(
            asked,
            mean,
            yerr=[mean - low, high - mean],
            color=_COLORS[number % len(_COLORS)],
            marker="o",
            ms=4,
            lw=1.5,
            capsize=2.5,
            label=None if group is None else f"{other} {group:g}",
        )
    span = [min(p[0] for p in points), max(p[0] for p in points)]
    ax.plot(span, span, ls="--", lw=1, color=style.GREY)
    ax.set_xlabel("return target" if quantity == "return" else "cost limit")
    ax.set_ylabel(f"achieved {quantity}")
    if groups != [None]:
        ax.legend(loc="best")
