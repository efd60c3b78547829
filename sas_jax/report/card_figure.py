"""The world-model card as a picture: is this model worth imagining with?

The card is a dict (see `card.verdict`); a panel whose part is missing is left out, and
the picture says which.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from sas_jax.card.verdict import COST_CORRELATION, SPREAD
from sas_jax.errors import UserError
from sas_jax.report import style


def card_figure(path: str | os.PathLike, card: Mapping, *, title: str = "") -> Path:
    """Writes the card's curves as a PNG and returns its path.

    card: see `card.verdict`; the parts drawn are ``log_density``, ``spread``,
    ``cost`` and ``pit``. Raises `UserError` if the card has none of them, or a part
    whose arrays disagree in length.
    """
    panels = {
        "log_density": _draw_density,
        "spread": _draw_spread,
        "cost": _draw_cost,
        "pit": _draw_pit,
    }
    present = [name for name in panels if card.get(name)]
    missing = [name for name in panels if name not in present]
    if not present:
        raise UserError(
            f"the world-model card has no {', '.join(panels)}; expected at least one"
        )
    with style.styled():
        ncols = min(2, len(present))
        nrows = math.ceil(len(present) / ncols)
        figure, axes = style.new_figure(
            4.6 * ncols, 3.0 * nrows + 0.3, nrows=nrows, ncols=ncols
        )
        for ax in axes.ravel()[len(present) :]:
            ax.set_visible(False)
        for ax, name in zip(axes.ravel(), present, strict=False):
            try:
                panels[name](ax, card[name])
            except (KeyError, ValueError, TypeError) as error:
                raise UserError(
                    f"world-model card, part {name!r}: {error!r}; expected the arrays "
                    "named in sas_jax.card.verdict, of equal length"
                ) from error
        words = [title] if title else []
        if missing:
            words.append(f"not measured: {', '.join(missing)}")
        if words:
            figure.suptitle("\n".join(words), fontsize=10.5)
        return style.save_png(figure, path)


def _steps(part: Mapping, length: int) -> np.ndarray:
    steps = np.asarray(part.get("steps", np.arange(1, length + 1)), np.float64)
    if len(steps) != length:
        raise ValueError(f"{len(steps)} steps for {length} values")
    return steps


def _draw_density(ax: Axes, part: Mapping) -> None:
    for name, color, label in (
        ("real", style.BLACK, "held-out real states"),
        ("imagined", style.BLUE, "imagined states"),
    ):
        mean = np.asarray(part[f"{name}_mean"], np.float64)
        steps = _steps(part, len(mean))
        ax.plot(steps, mean, color=color, lw=1.8, label=label)
        if part.get(f"{name}_sd") is not None:
            sd = np.asarray(part[f"{name}_sd"], np.float64)
            ax.fill_between(steps, mean - sd, mean + sd, color=color, alpha=0.16, lw=0)
    values = np.asarray(part["imagined_mean"], np.float64)
    real = np.asarray(part["real_mean"], np.float64)
    scale = 3 * np.nanmax(np.abs(real)) + 10
    if np.nanmax(np.abs(values)) > 10 * scale:
        # A model that has left the data is thousands below; keep both curves visible.
        ax.set_yscale("symlog", linthresh=scale)
    ax.set_title("Marginal log-density (mean ± sd)")
    ax.set_xlabel("imagined step")
    ax.set_ylabel("log density (nats)")
    ax.legend(loc="best")


def _draw_spread(ax: Axes, part: Mapping) -> None:
    ratio = np.asarray(part["ratio"], np.float64)
    ax.axhspan(*SPREAD, color=style.GREEN, alpha=0.15, lw=0, label="target")
    ax.axhline(1, color="#777777", lw=1, ls="--")
    ax.plot(_steps(part, len(ratio)), ratio, color=style.BLUE, lw=1.8)
    ax.set_ylim(0, max(1.6, 1.1 * float(np.nanmax(ratio))))
    ax.set_title("State spread, imagined / real")
    ax.set_xlabel("imagined step")
    ax.set_ylabel("ratio of spreads")
    ax.legend(loc="best")


def _draw_cost(ax: Axes, part: Mapping) -> None:
    correlation = np.asarray(part["correlation"], np.float64)
    horizons = [f"{h:g}" for h in part["horizons"]]
    if len(horizons) != len(correlation):
        raise ValueError(
            f"{len(horizons)} horizons for {len(correlation)} correlations"
        )
    at = np.arange(len(correlation))
    ax.bar(at, correlation, width=0.6, color=style.SKY, edgecolor=style.BLUE)
    for x, value in zip(at, correlation, strict=True):
        text = f"{value:.2f}" if np.isfinite(value) else "n/a"
        ax.text(x, 0.03, text, ha="center", va="bottom", fontsize=9)
    targets = [COST_CORRELATION.get(int(h)) for h in part["horizons"]]
    marked = [(i, value) for i, value in enumerate(targets) if value is not None]
    for x, value in marked:
        label = "target" if x == marked[0][0] else None
        ax.plot(
            [x - 0.36, x + 0.36],
            [value, value],
            color=style.VERMILION,
            lw=2,
            label=label,
        )
    if marked:
        ax.legend(loc="upper right")
    ax.axhline(0, color="#666666", lw=0.8)
    ax.set_xticks(at, horizons)
    ax.set_xlim(-0.6, len(at) - 0.4)
    ax.set_ylim(min(-0.1, float(np.nanmin([0, *correlation])) - 0.12), 1.05)
    ax.grid(axis="x", visible=False)
    ax.set_title("Predicted against real cost")
    ax.set_xlabel("steps ahead")
    ax.set_ylabel("correlation")


def _draw_pit(ax: Axes, part: Mapping) -> None:
    counts = np.asarray(part["counts"], np.float64)
    total, bins = counts.sum(), len(counts)
    if not total > 0:
        raise ValueError("counts sum to 0")
    height = counts * bins / total
    edges = np.linspace(0, 1, bins + 1)
    ax.stairs(height, edges, fill=True, color=style.SKY, alpha=0.7)
    ax.stairs(height, edges, color=style.BLUE, lw=1.2)
    ax.axhline(1, color="#444444", lw=1, ls="--", label="calibrated")
    # Binomial spread of a bin's count under uniformity, for independent values.
    sd = math.sqrt((bins - 1) / part.get("independent", total))
    ax.axhspan(
        max(0, 1 - 1.96 * sd), 1 + 1.96 * sd, color=style.GREEN, alpha=0.15, lw=0,
        label="sampling error",
    )  # fmt: skip
    ax.set_xlim(0, 1)
    ax.set_ylim(0, max(1.8, 1.1 * float(height.max())))
    ax.set_title("Calibration of transitions (PIT)")
    ax.set_xlabel("predicted probability of a smaller value")
    ax.set_ylabel("relative frequency")
    ax.legend(loc="best")
