"""A short top-down clip (GIF) of episodes side by side, drawn without OpenGL.

Each panel is painted at `_SCALE` times its size and averaged down (supersampling);
the trail grows on one canvas, so a frame costs one copy and one reduction.
"""

import io
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from sas_jax.errors import UserError
from sas_jax.files.atomic import replacing
from sas_jax.report import scene, style
from sas_jax.report.scene import EpisodePath, Fan, Kind

_SCALE = 3
_PANEL = 300  # pixels a side
_HEADER = 44
_MAX_BYTES = 1_500_000
_HOLD = 1.0  # seconds the last frame stays
_INK, _PAPER = "#222222", "#FFFFFF"


def write_clip(
    path: str | os.PathLike,
    *,
    layout: Mapping[str, np.ndarray],
    paths: Mapping[str, EpisodePath],
    title: str = "",
    seconds: float = 10.0,
    frames_per_second: int = 16,
) -> Path:
    """Writes an animated GIF, one panel per episode, and returns its path.

    layout: name -> [k, 3] x, y, radius at the start; paths: variant -> what it did.
    seconds: playing time up to 11 (an episode of any length is compressed into it); a
    last second holds the end. Steps with a cost leave a mark and frame the panel. Plans
    are drawn while they are in hand: all candidates thin, the executed one bold.
    The file stays under 1.5 MB: frames are dropped, then the picture shrinks. Raises
    `UserError` if there is nothing to show or `seconds` is out of range.
    """
    if not paths:
        raise UserError("no paths to show in the clip; expected at least one episode")
    if not 0 < seconds <= 11:
        raise UserError(f"clip of {seconds} seconds; expected more than 0, at most 11")
    longest = max(len(p.pose) for p in paths.values())
    count = min(longest, max(2, round(seconds * frames_per_second)))
    panel = _PANEL
    while True:
        data = _encode(layout, paths, title, count, panel, seconds)
        if len(data) <= _MAX_BYTES or panel < 100:
            break
        if count > 60:
            count = count * 2 // 3
        else:
            panel = panel * 4 // 5
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    return Path(path)


def _encode(layout, paths, title, count, panel, seconds) -> bytes:
    """The GIF's bytes at `count` frames and `panel` pixels a side."""
    longest = max(len(p.pose) for p in paths.values())
    steps = np.unique(np.linspace(0, longest - 1, count).round().astype(int))
    colors = style.variant_colors(paths)
    bounds = scene.view(layout, paths)
    panels = [
        _Panel(layout, episode, name, colors[name], bounds, panel)
        for name, episode in paths.items()
    ]
    header = _HEADER if title else _HEADER - 16
    size = (panel * len(panels), panel + header)
    frames = []
    for step in steps:
        frame = Image.new("RGB", size, _PAPER)
        draw = ImageDraw.Draw(frame)
        if title:
            draw.text((6, 3), title, fill=_INK, font=_font(12))
            words = f"step {step + 1}/{longest}"
            width = draw.textlength(words, font=_font(12))
            draw.text((size[0] - width - 6, 3), words, fill="#777777", font=_font(12))
        for i, one in enumerate(panels):
            frame.paste(one.at(step), (i * panel, header))
            one.write_score(draw, (i * panel + 6, header - 22), step)
        frames.append(frame)
    # One palette for all frames, no dithering: unchanged pixels stay equal, so that
    # a frame stores only what moved.
    palette = _palette(frames)
    frames = [f.quantize(palette=palette, dither=Image.Dither.NONE) for f in frames]
    # GIF times are hundredths of a second.
    duration = max(2, round(100 * seconds / len(frames))) * 10
    durations = [duration] * (len(frames) - 1) + [int(1000 * _HOLD)]
    buffer = io.BytesIO()
    frames[0].save(
        buffer, "GIF", save_all=True, append_images=frames[1:], duration=durations,
        loop=0, optimize=False, disposal=1,
    )  # fmt: skip
    return buffer.getvalue()


def _palette(frames: list[Image.Image]) -> Image.Image:
    """64 colours that serve all frames, judged by five of them."""
    chosen = [frames[i] for i in np.linspace(0, len(frames) - 1, 5).astype(int)]
    sheet = Image.new("RGB", (chosen[0].width, chosen[0].height * len(chosen)))
    for i, frame in enumerate(chosen):
        sheet.paste(frame, (0, i * frame.height))
    return sheet.quantize(64, dither=Image.Dither.NONE)


def _font(size: int):
    return ImageFont.load_default(size)


class _Panel:
    """One episode's square: a canvas with the trail so far, painted ahead of time."""

    def __init__(self, layout, episode: EpisodePath, name, color, bounds, size):
        self._episode, self._name, self._color = episode, name, color
        self._bounds, self._size = bounds, size
        self._goal_radius = scene.goal_radius(layout)
        self._canvas = Image.new("RGB", (size * _SCALE,) * 2, "#FBFBF8")
        self._painted, self._is_hurt = 0, False
        draw = ImageDraw.Draw(self._canvas)
        for _, kind, array in scene.objects(layout):
            for item in array:
                self._draw_object(draw, kind, item)

    def at(self, step: int) -> Image.Image:
        """The panel after `step` (counted from 0); steps must not decrease."""
        episode = self._episode
        ended = step >= len(episode.pose)
        step = min(step, len(episode.pose) - 1)
        # A frame stands for the steps since the one before.
        since = self._painted + 1 if self._painted else 0
        self._is_hurt = not ended and bool((episode.costs[since : step + 1] > 0).any())
        self._extend_trail(step)
        canvas = self._canvas.copy()
        draw = ImageDraw.Draw(canvas)
        if fan := episode.fan_at(step):
            self._draw_fan(draw, fan)
        x, y, yaw, goal_x, goal_y, _ = episode.pose[step]
        if math.isfinite(goal_x) and math.isfinite(goal_y):
            radius = self._goal_radius
            self._disc(draw, goal_x, goal_y, radius, None, scene.GOAL.edge, 3)
            self._disc(draw, goal_x, goal_y, radius / 5, scene.GOAL.edge, None)
        tip, left, right = (
            (x + r * math.cos(yaw + a), y + r * math.sin(yaw + a))
            for r, a in ((0.17, 0.0), (0.13, 2.5), (0.13, -2.5))
        )
        corners = [self._pixel(*tip), self._pixel(*left), self._pixel(*right)]
        draw.polygon(corners, fill=self._color, outline="white", width=_SCALE)
        hurt = self._is_hurt
        last = self._size * _SCALE - 1
        draw.rectangle(
            (0, 0, last, last), width=_SCALE * (4 if hurt else 1),
            outline=style.VERMILION if hurt else "#BBBBBB",
        )  # fmt: skip
        return canvas.reduce(_SCALE)

    def write_score(self, draw: ImageDraw.ImageDraw, corner, step: int) -> None:
        """Name, and return and cost so far; red where the panel flashes. After `at`."""
        episode = self._episode
        ended = step >= len(episode.pose)
        step = min(step, len(episode.pose) - 1)
        x, y = corner
        draw.text((x, y), self._name, fill=self._color, font=_font(15))
        x += draw.textlength(self._name, font=_font(15)) + 12
        if episode.rewards is not None:
            words = f"return {episode.rewards[: step + 1].sum():.1f}"
            draw.text((x, y + 2), words, fill=_INK, font=_font(13))
        words = f"cost {episode.costs[: step + 1].sum():.0f}"
        if ended:
            words += " (ended)"
        hurt = self._is_hurt
        draw.text(
            (x + 92, y + 2), words, fill=style.VERMILION if hurt else _INK,
            font=_font(13),
        )  # fmt: skip

    def _draw_fan(self, draw: ImageDraw.ImageDraw, fan: Fan) -> None:
        """What was imagined: pale what was out, grey what could be, bold the choice."""
        order = sorted(
            range(len(fan.ways)), key=lambda i: (i == fan.chosen, fan.is_in[i])
        )
        for i in order:
            points = [self._pixel(*place) for place in fan.ways[i]]
            if i == fan.chosen:
                draw.line(points, fill=self._color, width=2 * _SCALE, joint="curve")
            else:
                color = "#8A8A8A" if fan.is_in[i] else "#E3B7AE"
                draw.line(points, fill=color, width=_SCALE, joint="curve")

    def _extend_trail(self, step: int) -> None:
        """Paints the path up to `step` onto the canvas, crosses where it cost."""
        episode = self._episode
        points = [self._pixel(*p) for p in episode.pose[self._painted : step + 1, :2]]
        draw = ImageDraw.Draw(self._canvas)
        if len(points) > 1:
            pale = _blend(self._color, 0.55)
            draw.line(points, fill=pale, width=2 * _SCALE, joint="curve")
        for point, cost in zip(
            points, episode.costs[self._painted : step + 1], strict=True
        ):
            if cost > 0:
                (x, y), arm = point, 2 * _SCALE
                for sign in (1, -1):
                    line = (x - arm, y - sign * arm, x + arm, y + sign * arm)
                    draw.line(line, fill=style.VERMILION, width=_SCALE)
        self._painted = step

    def _pixel(self, x: float, y: float) -> tuple[float, float]:
        left, right, bottom, top = self._bounds
        side = self._size * _SCALE
        return (x - left) / (right - left) * side, (top - y) / (top - bottom) * side

    def _disc(self, draw, x, y, radius, fill, edge, width=1) -> None:
        left, top = self._pixel(x - radius, y + radius)
        right, bottom = self._pixel(x + radius, y - radius)
        box = (left, top, right, bottom)
        draw.ellipse(box, fill=fill, outline=edge, width=_SCALE * width)

    def _draw_object(self, draw, kind: Kind, item: np.ndarray) -> None:
        """item: x, y, radius; a square's radius is half its side."""
        x, y, radius = item
        fill = None if kind.fill == "none" else kind.fill
        if kind.shape == "wall":
            ends = [self._pixel(*end) for end in scene.wall_ends(item)]
            draw.line(ends, fill=kind.edge, width=2 * _SCALE)
        elif kind.shape in ("square", "diamond"):
            angles = np.arange(4) * math.pi / 2
            angles += math.pi / 4 if kind.shape == "square" else 0.0
            far = radius * 2**0.5
            corners = [
                self._pixel(x + far * math.cos(a), y + far * math.sin(a))
                for a in angles
            ]
            draw.polygon(corners, fill=fill, outline=kind.edge, width=_SCALE)
        else:
            self._disc(draw, x, y, radius, fill, kind.edge)


def _blend(color: str, share: float) -> tuple[int, int, int]:
    """`color` mixed with white; share 1 is the colour itself."""
    return tuple(round(255 + share * (c - 255)) for c in ImageColor.getrgb(color))
