"""What `experiments.reproduce` makes: each measures, writes files, gives a table."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from sas_jax.data.episodes import Episodes
from sas_jax.progress import Progress
from sas_jax.report import bound_report, landscape_figure, signal_report
from sas_jax.report.signal_figure import signal_figure
from sas_jax.report.tables import Table
from sas_jax.studies import bound_rows, landscape, signals
from sas_jax.studies.probe import Probe


class Request(NamedTuple):
    """What was asked for, as the flags of `experiments.reproduce` say."""

    probe: Probe
    episodes: Episodes | None
    out: Path
    command: str
    title: str
    seeds: np.ndarray
    progress: Progress
    num_workers: int | None
    num_firsts: tuple[int, ...]
    num_seconds: tuple[int, ...]
    kappa: float
    repeats: int
    resolution: int
    yaw: float | None


def bound(asked: Request) -> Table:
    """Prop. 4.2: bound.csv and bound.png."""
    found = bound_rows.study(
        asked.probe,
        asked.episodes,
        asked.seeds,
        num_firsts=asked.num_firsts,
        num_seconds=asked.num_seconds,
        kappa=asked.kappa,
        folder=asked.out / "parts",
        num_workers=asked.num_workers,
        progress=asked.progress,
    )
    bound_report.write_csv(asked.out / "bound.csv", found.rows, command=asked.command)
    picture, uppers = asked.out / "bound.png", found.constants.uppers
    bound_report.figure(picture, found.rows, uppers=uppers, title=asked.title)
    return bound_report.table(found.rows, found.notes, title=asked.title)


def signal(asked: Request) -> Table:
    """What Algorithm 1's signals know: signals.csv and signals.png."""
    arrays = signals.study(
        asked.probe,
        asked.seeds,
        repeats=asked.repeats,
        folder=asked.out / "parts",
        num_workers=asked.num_workers,
        progress=asked.progress,
    )
    horizon = asked.probe.horizon
    facts = signal_report.facts(arrays, horizon=horizon)
    signal_report.write_csv(asked.out / "signals.csv", facts, command=asked.command)
    picture = asked.out / "signals.png"
    signal_figure(picture, arrays, horizon=horizon, title=asked.title)
    return signal_report.table(facts, title=asked.title)


def figure_3(asked: Request) -> Table:
    """Density and G over the first layout: figure3.npz and figure3.png."""
    found = landscape.landscape(
        asked.probe,
        asked.episodes,
        int(asked.seeds[0]),
        resolution=asked.resolution,
        yaw=asked.yaw,
        num_workers=asked.num_workers,
        progress=asked.progress,
    )
    landscape_figure.save(asked.out / "figure3.npz", found, command=asked.command)
    title = f"{asked.title}, layout {found.seed}"
    landscape_figure.landscape_figure(asked.out / "figure3.png", found, title=title)
    return landscape_figure.table(found, title=title)


FIGURES = {"bound": bound, "signals": signal, "3": figure_3}
NEED_DATA = ("bound", "3")
