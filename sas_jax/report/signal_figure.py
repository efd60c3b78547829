"""Four panels on what Algorithm 1's signals know."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from sas_jax.report import style
from sas_jax.report.signal_report import EPISODES, PROMPTS
from sas_jax.stats.ranks import auc_within
from sas_jax.stats.resample import correlation


def signal_figure(
    path: str | os.PathLike,
    arrays: Mapping[str, np.ndarray],
    *,
    horizon: int,
    title: str = "",
) -> Path:
    """Level against real cost, peaks of both loops, sum V against a coin, shifts.

    arrays: of `sas_jax.studies.signals`, one row per layout. Returns the path written.
    """
    with style.styled():
        figure, axes = style.new_figure(10.4, 7.4, nrows=2, ncols=2)
        _cost_panel(axes[0, 0], arrays)
        _peak_panel(axes[0, 1], arrays)
        _coin_panel(axes[1, 0], arrays["score"], horizon - 1)
        _shift_panel(axes[1, 1], arrays)
        if title:
            figure.suptitle(title, fontsize=11)
        return style.save_png(figure, path)


def _cost_panel(ax: Axes, arrays) -> None:
    colors = style.variant_colors(EPISODES)
    for index, variant in enumerate(EPISODES):
        cost = arrays["cost"][:, index]
        found = correlation(arrays["level"], cost)
        words = f"r = {found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"
        ax.plot(
            arrays["level"], cost, "o", ms=3.6, alpha=0.7, color=colors[variant],
            label=f"{variant}: {words}", mew=0,
        )  # fmt: skip
    ax.set_xlabel("level  $\\min_i \\max_t E$ (nats)")
    ax.set_ylabel("real cost of the episode")
    ax.set_title("(a) Does the level know the cost?")
    ax.legend(fontsize=8)


def _peak_panel(ax: Axes, arrays) -> None:
    edges = np.linspace(0, 1, 21)
    for loop, color in (("first", style.GREY), ("second", style.BLUE)):
        times = arrays[f"time_{loop}"]
        times = times[np.isfinite(times)]
        ax.hist(
            times, bins=edges, histtype="step", lw=1.8, color=color,
            weights=np.full(len(times), 1 / max(len(times), 1)), label=f"{loop} loop",
        )  # fmt: skip
    higher = np.nanmean(auc_within(arrays["peak_second"], arrays["peak_first"]))
    ax.axhline(1 / 20, ls="--", lw=1, color="#777777", label="spread evenly")
    ax.set_xlabel("place of the peak, t / T")
    ax.set_ylabel("share of imaginations")
    ax.set_title("(b, e) Peaks of the two loops")
    style.panel_note(ax, f"P(second > first): {higher:.2f}")
    ax.legend(fontsize=8)


def _coin_panel(ax: Axes, score, pairs: int) -> None:
    share = score / pairs
    centred = (share - np.nanmean(share, axis=1, keepdims=True)).ravel()
    centred = centred[np.isfinite(centred)]
    bias, members = np.nanmean(share), score.shape[1]
    # Deviations from the mean of M members vary less, by (M - 1) / M.
    coin = np.sqrt(bias * (1 - bias) / pairs * (members - 1) / members)
    ax.hist(centred, bins=30, density=True, color=style.SKY, label="imaginations")
    span = max(np.abs(centred).max(initial=0.0), 3 * coin, 1e-6)
    x = np.linspace(-span, span, 201)
    if coin > 0:
        density = np.exp(-0.5 * (x / coin) ** 2) / (coin * np.sqrt(2 * np.pi))
        ax.plot(x, density, lw=1.8, color=style.VERMILION, label="a coin of that bias")
    ax.set_xlabel("ΣV / (T - 1), minus its layout's mean")
    ax.set_ylabel("density")
    ax.set_title("(c) What line 14 selects by")
    style.panel_note(ax, f"mean of ΣV / (T - 1): {bias:.3f}")
    ax.legend(fontsize=8)


def _shift_panel(ax: Axes, arrays) -> None:
    colors = style.variant_colors(PROMPTS)
    for index, variant in enumerate(PROMPTS):
        steps, mean = _over_time(arrays["shift"][:, index])
        ax.plot(steps, mean, "o-", ms=3, lw=1.4, color=colors[variant], label=variant)
    steps, mean = _over_time(arrays["scale"][:, -1])
    ax.plot(steps, mean, ls="--", lw=1.2, color="#777777", label="the policy's own sd")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("time since the start, t + 1")
    ax.set_ylabel("mean |dμ| by the prompt")
    ax.set_title("(d) How far a prompt moves the actions")
    ax.legend(fontsize=8)


def _over_time(values, bins: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Means of `[E, T]` over layouts and over bins that widen with time.

    Returns the bins' middles, t + 1, and the means of those that hold anything.
    """
    length = values.shape[1]
    edges = np.unique(np.geomspace(1, length + 1, bins + 1).astype(int))
    place, mean = [], []
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        inside = values[:, start - 1 : stop - 1]
        if np.isfinite(inside).any():
            place.append(np.sqrt(start * (stop - 1)))
            mean.append(np.nanmean(inside))
    return np.array(place), np.array(mean)
