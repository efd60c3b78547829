"""Objects seen since an episode began, on a map that dead reckoning makes.

Safety-Gymnasium's agents see their own velocity and the direction of north, without
noise. So they know how they have moved, and a lone object's place is exact in a lidar
(`models.lidar`). Every few steps what each lidar shows is noted on the map, from where
it was seen. A lidar shows the nearest object of each direction only; the map keeps the
others, and those out of reach.

An imagined step costs what the model's own cost head makes of the state that it leads
to, once the nearest noted object of each kind shows in its lidar. Only kinds that stay
where they are are noted (`STANDING`); gremlins move. Whether a lidar's object is alone
can be told: its two neighbours share out its reading exactly.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from sas_jax.alignment.recall import Recall
from sas_jax.envs.tasks import Task
from sas_jax.errors import UserError
from sas_jax.models import lidar

# Lidars whose objects do not move by themselves.
STANDING = ("hazards_lidar", "vases_lidar", "pillars_lidar")
# Seconds of a step, by what a task's name begins with.
_SECONDS = {"Point": 0.02, "Car": 0.04}
# Steps from one note to the next.
_EVERY = 5
# Share of a bin by which a lone object's place may be uncertain.
_LONE = 0.02


@struct.dataclass
class Map:
    """Maps of B episodes.

    place: `[B, 2]` metres, of the agent, from where it began, axes fixed. velocity:
    `[B, 2]` of the step before, along these axes. step: `[B]` int32 observations seen.
    points: `[B, S, G, bins, 2]` places of what S notes have seen in G lidars, far away
    where there was nothing.
    """

    place: jax.Array
    velocity: jax.Array
    step: jax.Array
    points: jax.Array


# Metres, beyond every map.
_NOWHERE = 1e3


def make(task: Task, standardise: Callable, cost_of: Callable) -> Recall:
    """The memory of a task's episodes.

    Args:
      standardise: observations of the environment in the model's units.
      cost_of: (variables, standardised states `[..., O]`) -> `[...]` probability that
        the step to each of them costs.

    Raises:
      UserError: a task without the sensors that it takes.
    """
    groups = task.obs_groups
    seconds = next((s for n, s in _SECONDS.items() if task.name.startswith(n)), None)
    standing = [name for name in STANDING if name in groups]
    lacking = [name for name in ("velocimeter", "magnetometer") if name not in groups]
    if lacking or not standing or seconds is None:
        raise UserError(
            f"task {task.name}: no {lacking[0] if lacking else STANDING[0]} to make a "
            f"map by; expected {' or '.join(_SECONDS)} in Goal, Button or Push"
        )
    rings = [groups[name] for name in standing]
    velocimeter, magnetometer = groups["velocimeter"], groups["magnetometer"]
    bins = rings[0].stop - rings[0].start
    notes = -(-task.episode_steps // _EVERY)

    def motion(obs):
        """Heading `[...]`, and velocity `[..., 2]` along the map's axes."""
        north = obs[..., magnetometer]
        heading = jnp.arctan2(-north[..., 0], -north[..., 1])
        return heading, turned(obs[..., velocimeter][..., :2], heading)

    def start(count: int) -> Map:
        zeros = jnp.zeros((count, 2))
        return Map(
            place=zeros,
            velocity=zeros,
            step=jnp.zeros(count, jnp.int32),
            points=jnp.full((count, notes, len(rings), bins, 2), _NOWHERE),
        )

    def see(memory: Map, obs: jax.Array, is_first: jax.Array) -> Map:
        count = obs.shape[0]
        fresh = is_first[:, None]
        heading, velocity = motion(obs)
        before = jnp.where(fresh, velocity, memory.velocity)
        place = memory.place + 0.5 * seconds * (velocity + before)
        place = jnp.where(fresh, 0.0, place)
        step = jnp.where(is_first, 0, memory.step)
        readings = jnp.stack([obs[:, ring] for ring in rings], axis=1)
        seen = objects_on_the_map(readings, place, heading)
        points = jnp.where(fresh[..., None, None, None], _NOWHERE, memory.points)
        # A row that is not to note anything writes behind the end: nowhere.
        slot = jnp.where(step % _EVERY == 0, step // _EVERY, notes)
        points = points.at[jnp.arange(count), slot].set(seen, mode="drop")
        return Map(place, velocity, step + 1, points)

    def cost(variables: Any, memory: Map, obs: jax.Array, own: jax.Array):
        _, velocity = motion(obs)
        legs = 0.5 * seconds * (velocity[:, :, 1:] + velocity[:, :, :-1])
        place = memory.place[:, None, None] + jnp.cumsum(legs, axis=2)
        after = obs[:, :, 1:]
        for index, ring in enumerate(rings):
            points = memory.points[:, :, index].reshape(obs.shape[0], -1, 2)
            near = jnp.sqrt(nearest(place, points))
            light = jnp.clip(1.0 - near / lidar.RANGE, 0.0, 1.0)[..., None]
            # Where in the ring it shows is all the same to the cost.
            first = slice(ring.start, ring.start + 1)
            brighter = jnp.maximum(after[..., first], light)
            after = after.at[..., first].set(brighter)
        # The state after the last step is not known: its own cost stands.
        known = cost_of(variables, standardise(after))
        return own.at[:, :, :-1].max(known)

    return Recall(start, see, cost)


def turned(x: jax.Array, angle: jax.Array) -> jax.Array:
    """Vectors `[..., 2]` turned to the left by an angle `[...]`."""
    c, s = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([c * x[..., 0] - s * x[..., 1], s * x[..., 0] + c * x[..., 1]], -1)


def objects_on_the_map(
    readings: jax.Array, place: jax.Array, heading: jax.Array
) -> jax.Array:
    """Places `[B, G, bins, 2]` of lone objects; `_NOWHERE` for bins without one.

    readings: `[B, G, bins]`. place: `[B, 2]` and heading `[B]` of the agent.
    """
    readings = jnp.clip(readings, 0.0, 1.0)
    objects = lidar.objects_of(readings)
    least, most = lidar.allowed_places(readings)
    is_lone = lidar.is_own(readings) & (jnp.abs(most - least) <= _LONE)
    bins = readings.shape[-1]
    angle = (jnp.arange(bins)[None, None] + objects.place) * (2.0 * math.pi / bins)
    angle = angle + heading[:, None, None]
    along = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
    found = place[:, None, None] + objects.distance[..., None] * along
    return jnp.where(is_lone[..., None], found, _NOWHERE)


def nearest(place: jax.Array, points: jax.Array) -> jax.Array:
    """Squared distance `[B, n, T]` of places to the nearest of some points.

    place: `[B, n, T, 2]`. points: `[B, K, 2]`. By differences: products would lose a
    metre in a thousand.
    """

    def of_step(place):
        away = place[:, :, None] - points[:, None]
        return jnp.min(jnp.sum(jnp.square(away), axis=-1), axis=-1)

    # Step by step: all at once would not fit a core's cache.
    return jnp.moveaxis(jax.lax.map(of_step, jnp.moveaxis(place, 2, 0)), 0, 2)
