"""Pseudo lidars as a sensor whose law is known: objects from readings, and back.

A bin reads 1 - distance / range of its nearest object. An object at share f of its
bin's width also shows in the next bin with f times that reading, and in the bin before
with 1 - f times (Safety-Gymnasium, Ray et al. 2019; in plain floats `envs.lean.lidar`).
So three bins tell where a lone object is, exactly, and where the agent's motion takes
it: knowledge that a network does not have to learn, and that does not wear off over a
hundred imagined steps.

Lidars are `[..., bins]`; all functions are pure, differentiable almost everywhere, and
exact for objects further than three bins apart.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

# Metres from which on a lidar sees nothing; the same in every task.
RANGE = 3.0
# Bins on either side in which an object can show after a step. It may move by one bin,
# 22.5 degrees; no agent turns by a third of that.
_REACH = 2
# Readings up to this are none.
DARK = 1e-3
# Compilers may compute a reading twice, and not to the same last bit.
_SAME = 1e-6
# Metres. The direction of something at the agent's own place is anybody's guess.
_NEAREST = 0.05


class Objects(NamedTuple):
    """One object for each bin, relative to the agent.

    place: `[..., bins]` angle in bins from the start of the object's own bin; in [0, 1]
      while it has not left it. distance: `[..., bins]` metres.
    """

    place: jax.Array
    distance: jax.Array


def wrapped(x: jax.Array, reach: int) -> list[jax.Array]:
    """x `[..., bins]` turned by reach, ..., -reach bins; the last is before the first.

    Slices of one array that goes round further: XLA copies for every roll.
    """
    size = x.shape[-1]
    longer = jnp.concatenate([x[..., size - reach :], x, x[..., :reach]], axis=-1)
    return [longer[..., i : i + size] for i in range(2 * reach + 1)]


def around(x: jax.Array) -> jax.Array:
    """The largest of each bin and its two neighbours."""
    longer = jnp.concatenate([x[..., -1:], x, x[..., :1]], axis=-1)
    window = (1,) * (x.ndim - 1) + (3,)
    # A window, not three slices: XLA would compute x anew for each of them.
    return jax.lax.reduce_window(
        longer, -jnp.inf, jax.lax.max, window, (1,) * x.ndim, "VALID"
    )


def is_own(readings: jax.Array) -> jax.Array:
    """Whether a bin sees something and reads no less than its neighbours; bool.

    A lone object's own bin does. Others show its light only, or an object that stands
    beside a nearer one.
    """
    return (readings > DARK) & (readings >= around(readings) - _SAME)


def is_brightest(readings: jax.Array) -> jax.Array:
    """`[..., bins]` bool, whether a bin reads no less than any other."""
    return readings >= readings.max(axis=-1, keepdims=True) - _SAME


def allowed_places(readings: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The least and the largest place `[..., bins]` that a bin's neighbours allow."""
    before, own, after = wrapped(readings, 1)
    own = jnp.maximum(own, DARK)
    return 1.0 - jnp.minimum(before / own, 1.0), jnp.minimum(after / own, 1.0)


def objects_of(readings: jax.Array) -> Objects:
    """The object that each bin would hold if it were an object's own.

    Its neighbours allow an interval of places, a point for a lone object; the middle is
    taken. readings are in [0, 1].
    """
    least, most = allowed_places(readings)
    return Objects(0.5 * (least + most), RANGE * (1.0 - readings))


def moved(objects: Objects, turn, ahead, aside, outward=0.0, leftward=0.0) -> Objects:
    """The objects as the agent sees them after a step.

    turn: rotation of the agent, radians, to the left. ahead, aside: its displacement in
    its old frame, metres, aside to the left; all `[..., 1]`. outward, leftward: the
    objects' own motion, away from the agent and to its left, metres `[..., bins]`.
    """
    size = objects.place.shape[-1]
    width = 2.0 * math.pi / size
    bins = jnp.arange(size).reshape((1,) * (objects.place.ndim - 1) + (size,))
    angle = (bins + objects.place) * width
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    along = objects.distance + outward - (ahead * cos + aside * sin)
    along = jnp.maximum(along, _NEAREST)
    across = leftward + ahead * sin - aside * cos
    angle = jnp.arctan(across / along) - turn
    # Not `hypot`, whose care about overflow costs more than all the rest.
    distance = jnp.sqrt(along * along + across * across)
    return Objects(objects.place + angle / width, distance)


def read(objects: Objects, presence=1.0) -> jax.Array:
    """Readings `[..., bins]`; presence `[..., bins]` scales what each object shows."""
    shown = jnp.clip(1.0 - objects.distance / RANGE, 0.0, 1.0) * presence
    seen = jnp.zeros_like(shown)
    turned = zip(wrapped(shown, _REACH), wrapped(objects.place, _REACH), strict=True)
    for bins, (light, place) in zip(
        range(_REACH, -_REACH - 1, -1), turned, strict=True
    ):
        here = place - bins
        share = jnp.clip(jnp.minimum(1.0 + here, 2.0 - here), 0.0, 1.0)
        seen = jnp.maximum(seen, light * share)
    return seen


def place_of(readings: jax.Array) -> jax.Array:
    """`[..., 2]` metres ahead and to the left, of the brightest of readings `[..., N]`.

    Where the lidar is dark: RANGE metres away, in the direction of some bin.
    """
    size = readings.shape[-1]
    readings = jnp.clip(readings, 0.0, 1.0)
    own = readings.argmax(axis=-1)
    place, distance = objects_of(readings)

    def pick(x):
        return jnp.take_along_axis(x, own[..., None], axis=-1)[..., 0]

    angle = (own + pick(place)) * (2.0 * math.pi / size)
    away = pick(distance)[..., None]
    return away * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def on_the_map(place: jax.Array, north: jax.Array) -> jax.Array:
    """A place `[..., 2]` beside the agent, turned into the map's axes.

    north: `[..., 2]` as the agent sees it, along the map's first axis; of any length.
    """
    x, y = jnp.moveaxis(place, -1, 0)
    c, s = jnp.moveaxis(north, -1, 0)
    length = jnp.maximum(jnp.sqrt(c * c + s * s), 1e-6)
    return jnp.stack([x * c + y * s, y * c - x * s], axis=-1) / length[..., None]


def of_one_object(readings: jax.Array) -> jax.Array:
    """What the brightest object of the readings `[..., bins]` reads by itself.

    The nearest lidar of a single object, as it were; such a lidar stays as it is.
    """
    readings = jnp.clip(readings, 0.0, 1.0)
    return read(objects_of(readings), is_brightest(readings))


def settled(obs: jax.Array, rings, scales, is_single) -> jax.Array:
    """States with one object in each lidar that never shows two.

    obs: `[..., O]` standardised. rings: (first, size) of each lidar among them. scales:
    (mean, standard deviation) of its readings. is_single: which lidars are meant.
    """
    for (first, size), (mean, std), single in zip(
        rings, scales, is_single, strict=True
    ):
        if single:
            ring = slice(first, first + size)
            seen = of_one_object(mean + std * obs[..., ring])
            obs = obs.at[..., ring].set((seen - mean) / std)
    return obs


def lone(angle: jax.Array, distance: jax.Array, size: int) -> jax.Array:
    """Readings `[..., size]` of an object: angle in radians, distance in metres."""
    bins = jnp.arange(size).reshape((1,) * angle.ndim + (size,))
    offset = (angle * (size / (2.0 * math.pi)))[..., None] - bins
    # An object shows from one bin before its own to one after: -1 to 2, not by halves.
    offset = (offset + 1.0) % size - 1.0
    share = jnp.clip(jnp.minimum(1.0 + offset, 2.0 - offset), 0.0, 1.0)
    return share * jnp.clip(1.0 - distance / RANGE, 0.0, 1.0)[..., None]
