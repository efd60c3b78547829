"""Training curves from the CSV log of a run."""

import contextlib
import math
import os
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from sas_jax.errors import UserError
from sas_jax.files.log_table import read_log
from sas_jax.report import style

_MAX_PANELS = 12


def training_figure(
    path: str | os.PathLike, log: str | os.PathLike, *, title: str = ""
) -> Path:
    """Training curves from a CSV with a `step` column and one column per metric.

    A `seed` column, if present, gives one line per seed, and a `cost_limit` column one
    per seed and threshold. A metric and its twin with
    ``val_`` in front share a panel. Metrics with a twin come first; at most 12 panels
    are drawn, and the picture says how many were not. Blank cells are steps at which a
    metric was not measured. Raises `UserError` for a file that is not such a table.
    """
    columns = _read_log(log)
    step, seed = columns.pop("step"), columns.pop("seed", None)
    limit = columns.pop("cost_limit", None)
    lanes = [x for x in (seed, limit) if x is not None] or [np.zeros(len(step))]
    seeds = np.unique(np.stack(lanes), axis=1, return_inverse=True)[1].ravel()
    panels: dict[str, dict[str, np.ndarray]] = {}
    for name, values in columns.items():
        split = "held out" if name.startswith(_HELD_OUT) else "training"
        panels.setdefault(name.removeprefix(_HELD_OUT), {})[split] = values
    names = sorted(panels, key=lambda name: -len(panels[name]))  # stable
    left_out = len(names) - _MAX_PANELS
    names = names[:_MAX_PANELS]
    with style.styled():
        ncols = min(3 if len(names) <= 6 else 4, len(names))
        nrows = math.ceil(len(names) / ncols)
        figure, axes = style.new_figure(
            3.1 * ncols, 2.2 * nrows + 0.4, nrows=nrows, ncols=ncols, sharex=True
        )
        for ax in axes.ravel()[len(names) :]:
            ax.set_visible(False)
        for ax, name in zip(axes.ravel(), names, strict=False):
            _draw_metric(ax, step, seeds, panels[name])
            ax.set_title(name.replace("_", " "))
        for column in range(ncols):
            bottom = [ax for ax in axes[:, column] if ax.get_visible()][-1]
            bottom.set_xlabel("gradient step")
            bottom.tick_params(labelbottom=True)
        words = [title] if title else []
        if left_out > 0:
            words.append(f"{left_out} further metrics in the log")
        if words:
            figure.suptitle("\n".join(words), fontsize=11)
        return style.save_png(figure, path)


_HELD_OUT = "val_"
_COLORS = {"training": style.BLUE, "held out": style.VERMILION}


def _draw_metric(ax: Axes, step, seeds, lines: dict[str, np.ndarray]) -> None:
    """One panel. step, seeds: [R]; lines: split -> [R], NaN where not measured."""
    for split, values in lines.items():
        for i, seed in enumerate(np.unique(seeds)):
            keep = (seeds == seed) & np.isfinite(values)
            ax.plot(
                step[keep], values[keep], lw=1.5, color=_COLORS[split], alpha=0.85,
                ms=3, marker="o" if keep.sum() < 30 else None,
                label=None if i else split,
            )  # fmt: skip
    if len(lines) > 1:
        ax.legend(loc="best")


def _read_log(log: str | os.PathLike) -> dict[str, np.ndarray]:
    """Columns of a numeric CSV, blanks as NaN, text columns left out."""
    rows = read_log(log)
    names = list(dict.fromkeys(name for row in rows for name in row))
    if len(names) < 2:
        raise UserError(
            f"training log {str(log)!r} has no curves; expected a header with 'step' "
            "and a metric, and at least one row"
        )
    columns = {}
    for name in names:
        cells = [row.get(name) for row in rows]
        with contextlib.suppress(ValueError):  # a column of words
            columns[name] = np.array(
                [float(cell) if cell else np.nan for cell in cells]
            )
    if len(columns) - ("seed" in columns) < 2:
        raise UserError(
            f"training log {str(log)!r} has no numeric metric beside 'step'"
        )
    return columns
