"""Training curves from the CSV log of a run."""

import csv
import math
import os
from pathlib import Path

import numpy as np

from sas_jax.errors import UserError
from sas_jax.report import style


def training_figure(
    path: str | os.PathLike, log: str | os.PathLike, *, title: str = ""
) -> Path:
    """Training curves from a CSV with a `step` column and one column per metric.

    A `seed` column, if present, gives one line per seed. Columns that differ only in
    a leading ``train/`` or ``valid/`` (also ``val/``, ``held_out/``) share a panel.
    Blank cells are steps at which a metric was not measured. Raises `UserError` for a
    file that is not such a table.
    """
    columns = _read_log(log)
    step, seed = columns.pop("step"), columns.pop("seed", None)
    seeds = np.zeros(len(step)) if seed is None else seed
    panels: dict[str, list[tuple[str, np.ndarray]]] = {}
    for name, values in columns.items():
        split, base = _split_of(name)
        panels.setdefault(base, []).append((split, values))
    colors = {"train": style.BLUE, "held out": style.VERMILION, "": style.BLUE}
    with style.styled():
        ncols = min(3, len(panels))
        nrows = math.ceil(len(panels) / ncols)
        figure, axes = style.new_figure(
            3.5 * ncols, 2.4 * nrows + 0.3, nrows=nrows, ncols=ncols, sharex=True
        )
        for ax in axes.ravel()[len(panels) :]:
            ax.set_visible(False)
        for ax, (base, lines) in zip(axes.ravel(), panels.items(), strict=False):
            for split, values in lines:
                for i, one in enumerate(np.unique(seeds)):
                    keep = (seeds == one) & np.isfinite(values)
                    ax.plot(
                        step[keep], values[keep], lw=1.5, color=colors[split],
                        marker="o" if keep.sum() < 30 else None, ms=3, alpha=0.85,
                        label=split if split and not i else None,
                    )  # fmt: skip
            ax.set_title(base)
            if len({split for split, _ in lines}) > 1:
                ax.legend(loc="best")
        for column in range(ncols):
            bottom = [ax for ax in axes[:, column] if ax.get_visible()][-1]
            bottom.set_xlabel("gradient step")
            bottom.tick_params(labelbottom=True)
        if title:
            figure.suptitle(title, fontsize=11)
        return style.save_png(figure, path)


_SPLITS = {"train": "train", "val": "held out", "valid": "held out"}
_SPLITS |= {"validation": "held out", "held_out": "held out", "eval": "held out"}


def _split_of(name: str) -> tuple[str, str]:
    """``valid/loss`` -> (``held out``, ``loss``); unknown prefixes stay in the name."""
    prefix, slash, base = name.partition("/")
    return (_SPLITS[prefix], base) if slash and prefix in _SPLITS else ("", name)


def _read_log(log: str | os.PathLike) -> dict[str, np.ndarray]:
    """Columns of a numeric CSV, blanks as NaN, text columns left out."""
    try:
        with open(log, newline="", encoding="utf-8") as f:
            lines = [cells for cells in csv.reader(f) if cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"cannot read training log {str(log)!r} ({error}); expected a CSV"
        ) from error
    if len(lines) < 2 or "step" not in lines[0] or len(lines[0]) < 2:
        raise UserError(
            f"training log {str(log)!r} has no curves; expected a header with 'step' "
            "and a metric, and at least one row"
        )
    columns = {}
    for i, name in enumerate(lines[0]):
        try:
            cells = [line[i] for line in lines[1:]]
            columns[name] = np.array(
                [float(cell) if cell else np.nan for cell in cells]
            )
        except (ValueError, IndexError):
            if name == "step":
                raise UserError(
                    f"training log {str(log)!r} has a 'step' that is not a number"
                ) from None
    if len(columns) - ("seed" in columns) < 2:
        raise UserError(
            f"training log {str(log)!r} has no numeric metric beside 'step'"
        )
    return columns
