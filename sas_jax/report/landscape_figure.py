"""Fig. 3 of the paper: density and G over a layout, and the paths taken on it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sas_jax.files.atomic import replacing
from sas_jax.report import scene, style
from sas_jax.report.map_figure import draw_object, draw_path, legend_mark
from sas_jax.report.scene import EpisodePath
from sas_jax.report.tables import Table
from sas_jax.stats.ranks import auc


class Landscape(NamedTuple):
    """Energies over a layout.

    x `[X]`, y `[Y]`: grid (metres). yaws: directions looked in (radians), averaged.
    log_density, energy: `[Y, X]` log rho and E of the place (nats). level: E-hat.
    percentile: 95th percentile of the recorded states' energies.
    layout: name -> `[k, 3]` x, y, radius. paths: variant -> what its episode did.
    """

    seed: int
    x: np.ndarray
    y: np.ndarray
    yaws: np.ndarray
    log_density: np.ndarray
    energy: np.ndarray
    level: float
    percentile: float
    layout: Mapping[str, np.ndarray]
    paths: Mapping[str, EpisodePath]

    @property
    def g(self) -> np.ndarray:
        """`[Y, X]` G = level - E."""
        return self.level - self.energy

    def inside(self, name: str) -> np.ndarray:
        """`[Y, X]` bool, the places within the radius of such an object."""
        places = np.stack(np.meshgrid(self.x, self.y), axis=-1)
        things = np.asarray(self.layout.get(name, ()), np.float64).reshape(-1, 3)
        away = np.linalg.norm(places[:, :, None] - things[:, :2], axis=-1)
        return (away <= things[:, 2]).any(axis=-1)


def save(path: str | os.PathLike, found: Landscape, *, command: str) -> Path:
    """Writes the grid and the paths to an npz file, atomically."""
    paths = {f"pose_{name}": path.pose for name, path in found.paths.items()}
    paths |= {f"cost_{name}": path.costs for name, path in found.paths.items()}
    things = {f"layout_{name}": rows for name, rows in found.layout.items()}
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file, x=found.x, y=found.y, yaws=found.yaws, level=found.level,
            log_density=found.log_density, energy=found.energy, g=found.g,
            percentile=found.percentile, command=command, **paths, **things,
        )  # fmt: skip
    return Path(path)


def table(found: Landscape, *, title: str) -> Table:
    """What the picture says in numbers: means of places in and off the hazards."""
    hazard = found.inside("hazards")

    def mean(values, mask):
        return f"{values[mask].mean():.4g}" if mask.any() else "-"

    rows = [
        ("log density (nats)", mean(found.log_density, hazard),
         mean(found.log_density, ~hazard)),
        ("energy E (nats)", mean(found.energy, hazard), mean(found.energy, ~hazard)),
        ("share with G > 0", mean(found.g > 0, hazard), mean(found.g > 0, ~hazard)),
        ("share beyond the data's 95 %", mean(found.energy > found.percentile, hazard),
         mean(found.energy > found.percentile, ~hazard)),
    ]  # fmt: skip
    notes = [
        f"level E-hat {found.level:.4g} nats; 95th percentile of the data's energies "
        f"{found.percentile:.4g} nats",
        f"{len(found.x)} x {len(found.y)} places, {len(found.yaws)} direction(s); agent"
        " at rest, first step of an episode, marginal density, mean action",
        "AUC of E, places in hazards against others (0.5 knows nothing): "
        f"{auc(found.energy.ravel(), hazard.ravel()):.2f}",
    ]
    for name, path in found.paths.items():
        notes.append(f"{name}: cost {path.costs.sum():.0f} in {len(path.costs)} steps")
    return Table(
        title, ("places", "in hazards", "elsewhere"), tuple(rows), tuple(notes)
    )


def landscape_figure(
    path: str | os.PathLike, found: Landscape, *, title: str = ""
) -> Path:
    """Writes a PNG: density on the left; G, its levels and the paths on the right."""
    colors = style.variant_colors(found.paths)
    handles: dict[str, object] = {}
    with style.styled():
        figure, axes = style.new_figure(12.4, 6.3, ncols=2, sharex=True, sharey=True)
        left, right = axes[0]
        filled = _surface(left, found, found.log_density, "viridis")
        label = "log density (nats)"
        figure.colorbar(filled, ax=left, shrink=0.8, format="%.4g", label=label)
        left.set_title("log density of the place")
        filled = _surface(right, found, found.g, "RdYlBu")
        label = "G = level − E (nats)"
        figure.colorbar(filled, ax=right, shrink=0.8, format="%.5g", label=label)
        right.set_title(f"G, level {found.level:.4g} nats")
        right.contour(
            found.x, found.y, found.g, levels=8, colors="#555555", linewidths=0.4
        )
        _region(right, found, found.g, 0.0, style.BLUE, ":")
        label = attraction(found)
        handles[label] = Line2D([], [], color=style.BLUE, ls=":", lw=2)
        for ax in axes[0]:
            _invalid(ax, found)
            for _, kind, array in scene.objects(found.layout):
                for item in array:
                    draw_object(ax, kind, item, fill=False, zorder=2)
                handles.setdefault(kind.label, legend_mark(kind))
            _goals(ax, found, handles)
            ax.set_aspect("equal")
            ax.grid(False)
            ax.set_xlabel("x (m)")
        handles["beyond 95 % of the data"] = Patch(
            fc="none", ec=style.VERMILION, hatch="///", lw=1.2
        )
        for name, episode in found.paths.items():
            draw_path(right, episode, colors[name], handles)
            cost = f"{name}, cost {episode.costs.sum():.0f}"
            handles[cost] = Line2D([], [], color=colors[name], lw=2)
        left.set_ylabel("y (m)")
        left.set_xlim(found.x[0], found.x[-1])
        left.set_ylim(found.y[0], found.y[-1])
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=5
        )
        if title:
            figure.suptitle(title, fontsize=11)
        return style.save_png(figure, path)


def attraction(found: Landscape) -> str:
    """The region of attraction in words, which may have no edge to be drawn."""
    if found.g.min() > 0:
        return "G > 0 at every place: no edge of the region"
    if found.g.max() <= 0:
        return "G > 0 at no place"
    return "region of attraction, G > 0"


def _surface(ax: Axes, found: Landscape, values, cmap: str):
    """Filled levels between the 2nd and 98th percentile; the rest in the end colours.

    A place inside a solid object may lie thousands of nats off the others.
    """
    low, high = np.percentile(values[np.isfinite(values)], [2, 98])
    levels = np.linspace(low, max(high, low + 1e-6), 21)
    return ax.contourf(
        found.x, found.y, values, levels=levels, cmap=cmap, extend="both", zorder=0
    )


def _region(ax: Axes, found: Landscape, values, level: float, color, style_) -> None:
    """The line where `values` cross `level`, if they do."""
    if values.min() < level < values.max():
        ax.contour(
            found.x, found.y, values, levels=[level], colors=[color], linewidths=2.0,
            linestyles=style_, zorder=2.5,
        )  # fmt: skip


def _invalid(ax: Axes, found: Landscape) -> None:
    """Hatches the places beyond the data's 95th percentile, with a red edge."""
    if found.energy.max() <= found.percentile:
        return
    top = found.energy.max() + 1.0
    ax.contourf(
        found.x, found.y, found.energy, levels=[found.percentile, top], colors="none",
        hatches=["///"], zorder=0.5,
    )  # fmt: skip
    _region(ax, found, found.energy, found.percentile, style.VERMILION, "-")


def _goals(ax: Axes, found: Landscape, handles: dict) -> None:
    """The first goal: the grid was looked at before any was reached."""
    goals = next(iter(found.paths.values())).goals()
    if len(goals):
        item = np.array([*goals[0], scene.goal_radius(found.layout)])
        draw_object(ax, scene.GOAL, item, fill=False, zorder=2)
        handles.setdefault(scene.GOAL.label, legend_mark(scene.GOAL))
