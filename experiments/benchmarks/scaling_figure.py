"""Four panels: Algorithm 1's seconds and bytes along N, M, T and B."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.benchmarks.scaling_timing import Point
from sas_jax.report import style

_LABELS = {
    "N": "N, imaginations of the first loop",
    "M": "M, imaginations of the second loop",
    "T": "T, steps of an imagination",
    "B": "B, episodes at once",
}


def scaling_figure(
    path: str | os.PathLike,
    axes: Mapping[str, Sequence[Point]],
    rows: Mapping[Point, dict],
    exponents: Mapping[str, Mapping[str, float | None]],
    clock: str,
) -> Path:
    """Writes the picture as a PNG: time on the left, memory on the right, from 0."""
    with style.styled():
        figure, panels = style.new_figure(9.0, 6.0, nrows=2, ncols=2)
        for (axis, points), ax in zip(axes.items(), panels.flat, strict=True):
            sizes = [getattr(point, axis) for point in points]
            own = [rows[point] for point in points]
            time = [row["seconds"][clock] for row in own]
            median = [t["median"] for t in time]
            whiskers = [
                [t["median"] - t["low"] for t in time],
                [t["high"] - t["median"] for t in time],
            ]
            ax.errorbar(
                sizes, median, yerr=whiskers, color=style.BLUE, marker="o", ms=4,
                capsize=2.5, label=f"{clock} seconds",
            )  # fmt: skip
            bytes_ax = ax.twinx()
            bytes_ax.grid(False)
            for name, line, label in (
                ("temporary_bytes", "-", "temporary, compiled program"),
                ("cache_bytes", "--", "rings, counted"),
                ("step_bytes", ":", "imagined steps, counted"),
            ):
                megabytes = [(row[name] or 0) / 1e6 for row in own]
                bytes_ax.plot(
                    sizes, megabytes, line, color=style.ORANGE, marker=".", label=label
                )
            for each in (ax, bytes_ax):  # where linear growth is a straight line
                each.set_xlim(0, None)
                each.set_ylim(0, None)
            ax.set_xticks(sizes, [str(size) for size in sizes])
            ax.set_xlabel(_LABELS[axis])
            ax.set_ylabel("seconds")
            bytes_ax.set_ylabel("MB")
            slope = exponents[axis]["time"]
            if slope is not None:
                base = "(N + M)" if axis in "NM" else axis
                ax.set_title(f"time grows with {base}$^{{{slope:.2f}}}$")
        lines = [
            line
            for each in (ax, bytes_ax)
            for line in zip(*each.get_legend_handles_labels(), strict=True)
        ]
        handles, labels = zip(*lines, strict=True)
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
        return style.save_png(figure, path)
