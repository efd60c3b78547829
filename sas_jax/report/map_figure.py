"""A top-down map of one layout with the paths that the variants took on it."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, RegularPolygon

from sas_jax.errors import UserError
from sas_jax.report import scene, style
from sas_jax.report.scene import EpisodePath, Kind

# Steps between two plans that are drawn, and how their candidates look.
_FANS = 250
_CANDIDATE, _OUT = "#6E6E6E", "#E08A76"


def map_figure(
    path: str | os.PathLike,
    *,
    layout: Mapping[str, np.ndarray],
    paths: Mapping[str, EpisodePath],
    title: str = "",
) -> Path:
    """Writes a PNG with one panel per episode, all on the same layout.

    layout: name -> [k, 3] x, y, radius at the start of the episode. paths: variant ->
    what it did. Paths darken as time passes; crosses mark steps with a cost; numbers
    count the goals in the order of pursuit. Of the plans, one in every `_FANS` steps is
    drawn: its candidates thin, the executed one bold. Returns the path written.
    """
    if not paths:
        raise UserError("no paths to draw on the map; expected at least one episode")
    colors = style.variant_colors(paths)
    bounds = scene.view(layout, paths)
    with style.styled():
        figure, axes = style.new_figure(
            max(4.4 * len(paths), 5.2), 5.5, ncols=len(paths), sharex=True, sharey=True
        )
        handles: dict[str, object] = {}
        for ax, (variant, episode) in zip(axes[0], paths.items(), strict=True):
            ax.set_aspect("equal")
            ax.grid(False)
            ax.set_facecolor("#FBFBF8")
            for spine in ax.spines.values():
                spine.set_visible(True)
            for _, kind, array in scene.objects(layout):
                for item in array:
                    draw_object(ax, kind, item)
                handles.setdefault(kind.label, legend_mark(kind))
            _draw_goals(ax, layout, episode, handles)
            draw_path(ax, episode, colors[variant], handles)
            _draw_fans(ax, episode, colors[variant], handles)
            ax.set_xlim(*bounds[:2])
            ax.set_ylim(*bounds[2:])
            ax.set_xlabel("x (m)")
            x, y = episode.pose[:, 0], episode.pose[:, 1]
            outside = (
                (x < bounds[0]) | (x > bounds[1]) | (y < bounds[2]) | (y > bounds[3])
            )
            if outside.any():
                words = f"{int(outside.sum())} steps outside the picture"
                ax.text(
                    0.98, 0.015, words, transform=ax.transAxes, ha="right", fontsize=8
                )
            ax.set_title(f"{variant}: {_outcome(episode)}", color=colors[variant])
        axes[0, 0].set_ylabel("y (m)")
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower center",
            ncols=min(len(handles), 5, 3 * len(paths)),
        )  # fmt: skip
        if title:
            figure.suptitle(title, fontsize=11)
        return style.save_png(figure, path)


def _outcome(episode: EpisodePath) -> str:
    words = []
    if episode.rewards is not None:
        words.append(f"return {episode.rewards.sum():.1f}")
    words.append(f"cost {episode.costs.sum():.0f}")
    return ", ".join([*words, f"{len(episode.pose)} steps"])


def draw_object(ax: Axes, kind: Kind, item: np.ndarray, *, fill=True, zorder=1) -> None:
    """One object, or its outline. item: x, y, radius."""
    x, y, radius = item
    face = kind.fill if fill else "none"
    look = {"fc": face, "ec": kind.edge, "lw": 1.1, "zorder": zorder}
    if kind.shape == "wall":
        ax.plot(*scene.wall_ends(item).T, color=kind.edge, lw=2.0, ls="--", zorder=1)
    elif kind.shape in ("square", "diamond"):
        turn = np.pi / 4 if kind.shape == "square" else 0.0
        # A polygon's radius reaches its corners; `radius` is half of the side.
        ax.add_patch(
            RegularPolygon((x, y), 4, radius=radius * 2**0.5, orientation=turn, **look)
        )
    else:
        ax.add_patch(Circle((x, y), radius, **look))


def legend_mark(kind: Kind) -> Line2D:
    """How an object looks in a legend."""
    if kind.shape == "wall":
        return Line2D([], [], color=kind.edge, lw=2, ls="--")
    marker = {"square": "s", "diamond": "D"}.get(kind.shape, "o")
    return Line2D(
        [], [], ls="", marker=marker, ms=8, mfc=kind.fill, mec=kind.edge, mew=1.1
    )


def _draw_goals(ax: Axes, layout, episode: EpisodePath, handles: dict) -> None:
    """Goals in the order of pursuit, numbered; the last one was not reached."""
    goals = episode.goals()
    radius = scene.goal_radius(layout)
    for i, (x, y) in enumerate(goals):
        ax.add_patch(Circle((x, y), radius, fc=scene.GOAL.fill, alpha=0.35, zorder=0.8))
        ax.add_patch(
            Circle((x, y), radius, fc="none", ec=scene.GOAL.edge, lw=0.8, zorder=0.9)
        )
        ax.text(
            x, y, str(i + 1), ha="center", va="center", fontsize=7, zorder=5,
            color="#00553D", fontweight="bold",
        )  # fmt: skip
    if len(goals):
        handles.setdefault("goals, in order", legend_mark(scene.GOAL))


def _draw_fans(ax: Axes, episode: EpisodePath, color: str, handles: dict) -> None:
    """Some plans: what was imagined there, and which of it was executed."""
    after = 0
    for fan in episode.fans:
        if fan.step < after:
            continue
        after = fan.step + _FANS
        for i, way in enumerate(fan.ways):
            shade = _CANDIDATE if fan.is_in[i] else _OUT
            if i != fan.chosen:
                ax.plot(*way.T, color=shade, lw=0.7, zorder=4.5)
        if fan.chosen >= 0:
            ax.plot(*fan.ways[fan.chosen].T, color=color, lw=2.2, zorder=5)
        ax.plot(*fan.ways[0, 0], "o", ms=3.5, color=color, mec="white", zorder=5.5)
        for label, shade, width in (
            ("imagined", _CANDIDATE, 0.9),
            ("imagined, outside data", _OUT, 0.9),
            ("executed plan", color, 2.2),
        ):
            handles.setdefault(label, Line2D([], [], color=shade, lw=width))


# A slim triangle along +x: an equilateral one would not tell where the agent looks.
_ARROW = np.array([[1.0, 0.0], [-0.7, 0.55], [-0.7, -0.55], [1.0, 0.0]])


def draw_path(ax: Axes, episode: EpisodePath, color: str, handles: dict) -> None:
    """The path from light (start) to full colour (end), start arrow, cost crosses."""
    points = episode.pose[:, :2]
    share = np.linspace(0.45, 1.0, max(len(points) - 1, 1))[:, None]
    shades = 1 - share * (1 - np.array(to_rgb(color)))
    segments = np.stack([points[:-1], points[1:]], axis=1)
    ax.add_collection(LineCollection(segments, colors=shades, lw=1.5, zorder=3))
    hit = episode.costs > 0
    if hit.any():
        ax.plot(
            *points[hit].T, "x", ms=3.6, mew=1.0, color=style.VERMILION, alpha=0.8,
            zorder=4,
        )  # fmt: skip
    x, y, yaw = episode.pose[0, :3]
    cos, sin = np.cos(yaw), np.sin(yaw)
    arrow = _ARROW @ np.array([[cos, sin], [-sin, cos]])
    ax.plot(x, y, marker=arrow, ms=15, color="white", mec=color, mew=1.5, zorder=6)
    ax.plot(*points[-1], "s", ms=6, color=color, mec="white", zorder=6)
    handles.setdefault(
        "start",
        Line2D([], [], ls="", marker=_ARROW, ms=11, mfc="white", mec="#333333"),
    )
    handles.setdefault(
        "end", Line2D([], [], ls="", marker="s", ms=6, mfc="#333333", mec="white")
    )
    handles.setdefault(
        "step with a cost",
        Line2D([], [], ls="", marker="x", ms=6, mew=1.4, color=style.VERMILION),
    )
