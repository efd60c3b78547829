"""Proposition 4.2 against the measured curve: rows, table and picture."""

import csv
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sas_jax.files.atomic import replacing
from sas_jax.report import style
from sas_jax.report.tables import Table
from sas_jax.stats.intervals import Interval


@dataclasses.dataclass(frozen=True)
class BoundRow:
    """One N, M and rule for c2.

    leaves: share of layouts whose chosen imagination leaves [c1, c2]. above, below: by
    that end. markov, hoeffding: the bound's two terms, each at most 1.
    """

    upper: str
    num_first: int
    num_second: int
    leaves: Interval
    above: float
    below: float
    markov: float
    hoeffding: float

    @property
    def bound(self) -> float:
        """The sum of the terms, at most 1."""
        return min(1.0, self.markov + self.hoeffding)


_COLUMNS = ("c2", "N", "M", "measured", "low", "high", "above", "below")
_COLUMNS += ("markov_term", "hoeffding_term", "bound", "layouts")


def _values(row: BoundRow) -> list:
    inner = row.leaves
    return [
        row.upper,
        row.num_first,
        row.num_second,
        *(inner.mean, inner.low, inner.high, row.above, row.below),
        *(row.markov, row.hoeffding, row.bound, inner.num_clusters),
    ]


def write_csv(
    path: str | os.PathLike, rows: Sequence[BoundRow], *, command: str
) -> Path:
    """Writes the rows; the first line is a comment that names the command."""
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        file.write(f"# {command}\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for row in rows:
            writer.writerow(_values(row))
    return Path(path)


def table(
    rows: Sequence[BoundRow], constants: Mapping[str, str], *, title: str
) -> Table:
    """A table of all rows; constants (name -> text) are stated under it."""
    lines = []
    for row in rows:
        inner = row.leaves
        measured = f"{inner.mean:.3f} [{inner.low:.3f}, {inner.high:.3f}]"
        shares = (f"{row.above:.3f}", f"{row.below:.3f}")
        parts = (f"{row.markov:.3g}", f"{row.hoeffding:.6g}", f"{row.bound:.6g}")
        counts = (row.upper, str(row.num_first), str(row.num_second))
        lines.append((*counts, measured, *shares, *parts))
    header = ("c2", "N", "M", "measured to leave", "above", "below")
    header += ("1st term", "2nd term", "bound")
    notes = [f"{name}: {text}" for name, text in constants.items()]
    return Table(title, header, tuple(lines), tuple(notes))


def figure(
    path: str | os.PathLike,
    rows: Sequence[BoundRow],
    *,
    uppers: Mapping[str, float],
    title: str = "",
) -> Path:
    """One panel per rule for c2: measured shares over M, a line per N, and the bound.

    uppers: rule -> c2 (shifted energies).
    """
    names = list(uppers)
    counts = sorted({row.num_first for row in rows})
    palette = [style.SKY, style.BLUE, style.GREEN, style.ORANGE, style.PURPLE]
    with style.styled():
        figure, axes = style.new_figure(
            4.0 * len(names) + 0.6, 3.9, ncols=len(names), sharey=True
        )
        for ax, name in zip(axes[0], names, strict=True):
            for i, count in enumerate(counts):
                color = palette[i % len(palette)]
                own = [r for r in rows if r.upper == name and r.num_first == count]
                # Side by side: error bars on top of each other could not be told apart.
                apart = 1.03 ** (i - (len(counts) - 1) / 2)
                measured = [r.leaves for r in own]
                mean = np.array([m.mean for m in measured])
                spread = np.stack(
                    [
                        mean - [m.low for m in measured],
                        [m.high for m in measured] - mean,
                    ]
                )
                ax.errorbar(
                    [r.num_second * apart for r in own], mean, yerr=spread.clip(0),
                    fmt="o-", ms=4, lw=1.2, elinewidth=0.9, color=color,
                    label=f"measured, N={count}",
                )  # fmt: skip
            # Least N: its bound is the largest; the terms' sum falls with N and M.
            own = [r for r in rows if r.upper == name and r.num_first == counts[0]]
            ax.plot(
                [r.num_second for r in own], [r.bound for r in own], "--", lw=1.6,
                color=style.VERMILION, label=f"Prop. 4.2, N={counts[0]}",
            )  # fmt: skip
            ax.set_xscale("log")
            ticks = sorted({r.num_second for r in own})
            ax.set_xticks(ticks, [str(t) for t in ticks])
            ax.minorticks_off()
            ax.set_xlabel("M, second-loop imaginations")
            ax.set_title(f"c2 by “{name}”: {uppers[name]:.4g} nats")
        axes[0, 0].set_ylim(-0.03, 1.05)
        axes[0, 0].set_ylabel("share that leaves the set")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        if title:
            figure.suptitle(title, fontsize=11)
        return style.save_png(figure, path)
