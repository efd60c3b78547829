"""What plans save against what they are imagined with."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sas_jax.report import style

_BUDGETS = {
    "trajectory_steps": "trajectory-steps imagined a step",
    "milliseconds": "ms a control step, one robot",
}
_SAVED = {"cost_minus_none": "cost, plans minus none", "return_minus_none": "return"}


def plan_budget_figure(
    path: str | os.PathLike, rows: Sequence[Mapping[str, Any]]
) -> Path:
    """Draws cost and return minus the plain policy's along both budgets, as a PNG.

    rows: of `plan_budget`, one a setting.
    """
    with style.styled():
        figure, axes = style.new_figure(10.0, 6.4, nrows=2, ncols=2)
        for (metric, ylabel), line in zip(_SAVED.items(), axes, strict=True):
            for (budget, xlabel), ax in zip(_BUDGETS.items(), line, strict=True):
                _draw(ax, rows, budget, metric)
                ax.set_xscale("log")
                ax.set_xlabel(xlabel)
                ax.set_ylabel(ylabel)
                ax.axhline(0.0, color=style.GREY, lw=0.8)
        return style.save(figure, path)


def _draw(ax, rows, budget: str, metric: str) -> None:
    for i, row in enumerate(rows):
        value = row[metric]
        mean = value.mean
        arms = [[mean - value.low], [value.high - mean]]
        color = style.BLUE if i == 0 else style.ORANGE
        ax.errorbar(
            row[budget], mean, yerr=arms, color=color, marker="o", ms=4, capsize=2.5
        )
        name = row["case"].replace("_", " ").removeprefix("dt").strip() or "default"
        ax.annotate(
            name,
            (row[budget], mean),
            xytext=(5, 4),
            textcoords="offset points",
            fontsize=7.5,
        )
