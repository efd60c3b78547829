"""The gap between data and world: levels of a change, and the worst change there is.

A policy was trained on one world and meets others. An *axis* is one way in which they
may differ (see `envs.shift`), with its levels; on each of them the same layouts are
played as in the unchanged world. The *worst world* is looked for in a box of changes,
as IWOCS does for the policy at hand (Zouitine et al. 2024): first points spread over
the box, then points ever nearer to the worst so far. What is found that way is the
worst of many noisy numbers, so it is to be judged on layouts it was not found on.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import qmc

from sas_jax.envs import shift as shifts
from sas_jax.envs.shift import Shift
from sas_jax.errors import UserError

# Of the box: how far around the worst so far is looked at first, and at last.
_WIDE, _NARROW = 0.3, 0.05


class Axis(NamedTuple):
    """One way in which worlds differ. name: of `envs.shift`. levels: but the plain."""

    name: str
    levels: tuple[float, ...]


def parse_axis(text: str) -> Axis:
    """Reads ``name:level/level``.

    Raises:
      UserError: an unknown name, no levels, or one that makes no sense.
    """
    name, _, levels = text.partition(":")
    axis = Axis(name.strip(), tuple(_numbers(text, levels)))
    for level in axis.levels:
        shifts.parse(f"{axis.name}:{level:.12g}")
    return axis


def _numbers(owner: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split("/")]
    except ValueError as error:
        raise UserError(
            f"{owner!r}: expected name:number/number, such as actuator:0.9/0.8"
        ) from error


def worlds_of(axes: Sequence[Axis]) -> list[str]:
    """The unchanged world "", then every level of every axis, each once."""
    named = [
        str(shifts.parse(f"{axis.name}:{level:.12g}"))
        for axis in axes
        for level in axis.levels
    ]
    return list(dict.fromkeys(["", *named]))


def level_of(shift: str, name: str) -> float | None:
    """The level of a world on an axis; None where it differs in something else."""
    found = shifts.parse(shift)
    level = getattr(found, name)
    plain = getattr(Shift(), name)
    is_alone = dataclasses.replace(found, **{name: plain}) == Shift()
    return float(level) if is_alone else None


class Box(NamedTuple):
    """Where the worst world is looked for: names `[D]`, lows and highs `[D]`."""

    names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def shift(self, point: np.ndarray) -> Shift:
        """The world at a point of the unit cube `[D]`; factors by their logarithms."""
        values = {}
        for name, low, high, x in zip(
            self.names, self.low, self.high, point, strict=True
        ):
            x = float(np.clip(x, 0.0, 1.0))
            # Of a factor as much may be lost by halving as by doubling.
            if name in shifts.DYNAMICS:
                value = math.exp((1 - x) * math.log(low) + x * math.log(high))
            else:
                value = (1 - x) * low + x * high
            # Short numbers: a world that is found is named in tables.
            values[name] = round(value) if name == "delay" else float(f"{value:.3g}")
        return Shift(**values)


def parse_box(text: str) -> Box:
    """Reads ``name:low/high,name:low/high``.

    Raises:
      UserError: an unknown or repeated name, or ends that make no sense.
    """
    names, lows, highs = [], [], []
    for part in text.split(","):
        name, _, ends = part.partition(":")
        name = name.strip()
        numbers = _numbers(part, ends)
        if len(numbers) != 2 or not numbers[0] < numbers[1]:
            raise UserError(f"box {part!r}: expected name:low/high with low < high")
        if name in names:
            raise UserError(f"box: {name} is given twice; expected it once")
        if name in shifts.DYNAMICS and numbers[0] <= 0:
            raise UserError(f"box {part!r}: expected factors above 0")
        for end in numbers:
            shifts.parse(f"{name}:{end:.12g}")
        names.append(name)
        lows.append(numbers[0])
        highs.append(numbers[1])
    return Box(tuple(names), tuple(lows), tuple(highs))


class Tried(NamedTuple):
    """A world, and how bad it was: the larger the worse."""

    shift: str
    badness: float


def worst_world(
    badness: Callable[[str], float], box: Box, *, tries: int, seed: int = 0
) -> list[Tried]:
    """Looks for the worst world of a box; the unchanged one is tried first.

    Half of the tries are spread over the box (a scrambled Sobol sequence), the others
    drawn around the worst so far, ever nearer to it. The same numbers give the same
    search, so that one which was interrupted goes on where its numbers are kept.

    Args:
      badness: how bad a world is; called once for each. tries: worlds besides the
        unchanged one. seed: of the points.

    Returns:
      All that were tried, the worst first.
    """
    size, rng = len(box.names), np.random.default_rng([seed, 1])
    spread = qmc.Sobol(size, rng=np.random.default_rng([seed, 0]))
    first = spread.random(2 ** max(math.ceil(math.log2(max(tries, 1))), 0))
    found = {"": badness("")}
    best = None
    for number in range(tries):
        if number < (tries + 1) // 2:
            point = first[number]
        else:
            share = (number - tries / 2) / max(tries / 2, 1)
            width = _WIDE * (_NARROW / _WIDE) ** share
            point = np.clip(best[0] + width * rng.standard_normal(size), 0.0, 1.0)
        shift = str(box.shift(point))
        if shift not in found:
            found[shift] = badness(shift)
        if best is None or found[shift] > best[1]:
            best = point, found[shift]
    tried = [Tried(shift, value) for shift, value in found.items()]
    return sorted(tried, key=lambda t: -t.badness)
