"""One look for all pictures: colours that colour-blind readers can tell apart.

Figures are plain `matplotlib.figure.Figure` objects (Agg, no pyplot), so drawing
touches no global state and works in threads and without a display.
"""

import io
import itertools
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from sas_jax.files.atomic import replacing
from sas_jax.files.places import as_path

# Okabe and Ito's palette (2008), readable with any common colour vision.
BLACK, ORANGE, SKY, GREEN = "#2B2B2B", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#D4BE00", "#0072B2", "#D55E00", "#CC79A7"
GREY, LIGHT_GREY = "#8C8C8C", "#D9D9D9"
# Three of Tol's muted scheme (2021), for more variants than that palette has.
INDIGO, WINE, SAND = "#332288", "#882255", "#B8A25E"
# Plans: the rest of that scheme; controls in dull tones.
TEAL, OLIVE, ROSE = "#44AA99", "#999933", "#CC6677"
STONE, SLATE = "#A89F91", "#6C7A89"
# Learnt return tokens: the same scheme's purple, and a brown.
MAUVE, BROWN = "#AA4499", "#8C564B"
FOREST = "#117733"  # plans with a value; Tol's, too
# Plans on a map, plans behind a fence, guidance.
PETROL, UMBER, LILAC = "#005F73", "#7F5539", "#B5A7D6"

_VARIANT_COLORS = {
    "none": BLACK,
    "null": GREY,
    "rand": ORANGE,
    "u": SKY,
    "sas": BLUE,
    "uv": BLUE,
    "maxmax": PURPLE,
    "uv_sum": GREEN,
    "critic": YELLOW,
    "gate": VERMILION,
    "gate_sas": INDIGO,
    "gate_critic": WINE,
    "short": SAND,
    "plan": TEAL,
    "plan_weighted": OLIVE,
    "plan_sas": ROSE,
    "plan_rand": STONE,
    "quiet": SLATE,
    "cprtg": MAUVE,
    "plan_cprtg": BROWN,
    "plan_value": FOREST,
    "plan_recall": PETROL,
    "plan_supported": UMBER,
    "guided": LILAC,
}
_SPARE_COLORS = (GREEN, VERMILION, PURPLE, SKY, YELLOW, ORANGE)

_SETTINGS = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "axes.edgecolor": "#666666",
    "axes.labelcolor": "#222222",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.formatter.use_mathtext": True,
    "grid.color": "#E9E9E9",
    "grid.linewidth": 0.7,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "font.family": "DejaVu Sans",  # ships with matplotlib
    "font.size": 10,
    "lines.solid_capstyle": "round",
}
_DPI = 110
_MAX_BYTES = 150_000


def variant_colors(variants: Iterable[str]) -> dict[str, str]:
    """Colour per variant; known names keep theirs in every figure and clip."""
    variants = list(variants)
    taken = {_VARIANT_COLORS.get(name) for name in variants}
    free = [color for color in _SPARE_COLORS if color not in taken] or _SPARE_COLORS
    spare = itertools.cycle(free)
    return {name: _VARIANT_COLORS.get(name) or next(spare) for name in variants}


def styled():
    """A context in which figures must be built, drawn and saved."""
    return rc_context(_SETTINGS)


def new_figure(width: float, height: float, **grid) -> tuple[Figure, np.ndarray]:
    """A figure (inches) and its axes as an array [rows, columns].

    grid: `nrows`, `ncols` and other options of `Figure.subplots`.
    """
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    return figure, figure.subplots(**{"squeeze": False} | grid)


def save_png(figure: Figure, path: str | os.PathLike) -> Path:
    """Writes the figure atomically as a PNG under 150 kB and returns the path.

    A picture that would be larger is reduced to 256 colours, then in size.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    while buffer.tell() > _MAX_BYTES:
        image = Image.open(buffer).convert("RGB")
        scale = 1.0 if buffer.getbuffer()[25] == _TRUECOLOR_ALPHA else 0.85
        size = (round(image.width * scale), round(image.height * scale))
        smaller = image.resize(size, Image.Resampling.LANCZOS).quantize(256)
        buffer = io.BytesIO()
        smaller.save(buffer, format="png", optimize=True)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
    return as_path(path)


def save(figure: Figure, path: str | os.PathLike) -> Path:
    """Writes the figure atomically: a PDF by the path's ending, else as `save_png`."""
    if as_path(path).suffix != ".pdf":
        return save_png(figure, path)
    with replacing(path) as temporary:
        # No date, so that the same figure is the same file.
        figure.savefig(temporary, format="pdf", metadata={"CreationDate": None})
    return as_path(path)


_TRUECOLOR_ALPHA = 6  # byte 25 of a PNG: its colour type; 3 is a palette


def panel_note(ax: Axes, text: str) -> None:
    """Small grey words in the upper right corner, above the axes."""
    ax.text(
        1.0, 1.01, text, transform=ax.transAxes, ha="right", va="bottom",
        fontsize=8, color="#777777",
    )  # fmt: skip
