"""Objects seen since an episode began, on a map that dead reckoning makes.

Safety-Gymnasium's agents see their own velocity and the direction of north, without
noise. So they know how they have moved, and a lone object's place is exact in a lidar
(`models.lidar`). Whether a lidar's object is alone can be told: its two neighbours
share out its reading exactly. What stands alone is noted on the map. A lidar shows the
nearest object of each direction only; the map keeps the others, and those out of reach.

An object seen again replaces its own mark. A mark that ought to show in the lidar, and
does not, is wiped: the object was pushed away, or the way was added up wrongly. So a
map holds a few marks, however long the episode is.

Gremlins drive in circles, all of them alike: what is noted is the middle of the circle.

An imagined step costs what the model's own cost head makes of the state that it leads
to, once the nearest mark of each kind shows in its lidar. The head cannot tell a wrong
button from the one that is to be pressed (docs/results/world_model.md). So the nearest
wrong button is shown to it as a hazard, and counts by `_PRESSED`.
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

# Lidars whose objects do not move by themselves, and one whose objects do.
BUTTONS = "buttons_lidar"
STANDING = ("hazards_lidar", "vases_lidar", "pillars_lidar", BUTTONS)
CIRCLING = "gremlins_lidar"
# Seconds of a step, by what a task's name begins with.
_SECONDS = {"Point": 0.02, "Car": 0.04}
# Metres and seconds: a gremlin's circle, a radian a second, and how far it lags behind.
_CIRCLE, _LAG = 0.35, 0.1
# Steps for which the buttons are dark, and free, when one was pressed.
_DARK = 10
# Of the steps of a push against a button, those that press it: agents bounce off. In
# recordings a sixth of the steps at that distance cost; in a plan it goes on pushing.
_PRESSED = 0.25
# Marks a lidar has room for; the tasks have ten objects of a kind at most.
_MARKS = 32
# Metres within which two sightings are of one object: most stand further apart.
_SAME = 0.15
# Share of a bin by which a lone object's place may be uncertain.
_LONE = 0.02
# A mark is wiped where the lidar reads this much less than it ought to: 15 cm.
_MISSED = 0.05
# Metres. The direction of what is nearer than this is anybody's guess.
_BESIDE = 0.3


@struct.dataclass
class Map:
    """Maps of B episodes.

    place: `[B, 2]` metres, of the agent, from where it began, axes fixed. velocity:
    `[B, 2]` of the step before, along these axes. step: `[B]` int32 of the episode.
    goal: `[B, 2]` its place. dark: `[B]` int32 steps for which the buttons have been
    dark. marks: `[B, G, K, 2]` places of up to K objects of G lidars, far away where
    there is none; of what circles, the middles.
    """

    place: jax.Array
    velocity: jax.Array
    step: jax.Array
    goal: jax.Array
    dark: jax.Array
    marks: jax.Array


# Metres, beyond every map; what is further than the second number is not there.
_NOWHERE, _FAR = 1e3, 5e2


def lacking(task: Task) -> str | None:
    """What a task lacks for a map of its episodes; None where it can have one."""
    groups = task.obs_groups
    sensors = [name for name in ("velocimeter", "magnetometer") if name not in groups]
    if sensors:
        return sensors[0]
    if not any(name in groups for name in STANDING):
        return STANDING[0]
    return None if _seconds(task) else "known time step"


def _seconds(task: Task) -> float | None:
    return next((s for n, s in _SECONDS.items() if task.name.startswith(n)), None)


def make(task: Task, standardise: Callable, cost_of: Callable) -> Recall:
    """The memory of a task's episodes.

    Args:
      standardise: observations of the environment in the model's units.
      cost_of: (variables, standardised states `[..., O]`) -> `[...]` probability that
        the step to each of them costs.

    Raises:
      UserError: a task without the sensors that it takes.
    """
    if missing := lacking(task):
        raise UserError(
            f"task {task.name}: no {missing} to make a map by; expected "
            f"{' or '.join(_SECONDS)} in Goal, Button or Push"
        )
    groups, seconds = task.obs_groups, _seconds(task)
    names = [name for name in (*STANDING, CIRCLING) if name in groups]
    rings = [groups[name] for name in names]
    circles = jnp.array([name == CIRCLING for name in names])[None, :, None, None]
    goal = groups.get("goal_lidar") if BUTTONS in names else None
    velocimeter, magnetometer = groups["velocimeter"], groups["magnetometer"]

    def motion(obs):
        """Heading `[...]`, and velocity `[..., 2]` along the map's axes."""
        north = obs[..., magnetometer]
        heading = jnp.arctan2(-north[..., 0], -north[..., 1])
        return heading, turned(obs[..., velocimeter][..., :2], heading)

    def circling(step):
        """Metres `[..., 2]` from the middles of circles, at a step of the episode."""
        angle = step * seconds - _LAG
        return _CIRCLE * jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1)

    def start(count: int) -> Map:
        zeros = jnp.zeros((count, 2))
        return Map(
            place=zeros,
            velocity=zeros,
            step=jnp.zeros(count, jnp.int32),
            goal=zeros + _NOWHERE,
            dark=jnp.zeros(count, jnp.int32),
            marks=jnp.full((count, len(rings), _MARKS, 2), _NOWHERE),
        )

    def see(memory: Map, obs: jax.Array, is_first: jax.Array) -> Map:
        fresh = is_first[:, None]
        heading, velocity = motion(obs)
        before = jnp.where(fresh, velocity, memory.velocity)
        place = memory.place + 0.5 * seconds * (velocity + before)
        place = jnp.where(fresh, 0.0, place)
        step = jnp.where(is_first, 0, memory.step + 1)
        readings = jnp.stack([obs[:, ring] for ring in rings], axis=1)
        readings = jnp.clip(readings, 0.0, 1.0)
        moved = jnp.where(circles, circling(step)[:, None, None], 0.0)
        marks = jnp.where(fresh[..., None, None], _NOWHERE, memory.marks) + moved
        marks = wiped(marks, readings, place, heading)
        marks = marked(marks, objects_on_the_map(readings, place, heading)) - moved
        target, dark = memory.goal, memory.dark
        if goal is not None:
            target = place + turned(lidar.place_of(obs[:, goal]), heading)
            is_dark = obs[:, groups[BUTTONS]].max(axis=-1) <= 0.0
            dark = jnp.where(is_dark, jnp.where(is_first, 0, dark) + 1, 0)
        return Map(place, velocity, step, target, dark, marks)

    def wrong_button(memory: Map, place: jax.Array, ahead: jax.Array):
        """Distance `[B, n, T]` to the nearest button that costs, so many steps ahead.

        Not the goal; none at all while they are dark.
        """
        marks = memory.marks[:, names.index(BUTTONS)]
        away = jnp.square(marks - memory.goal[:, None]).sum(axis=-1, keepdims=True)
        near = nearest(place, jnp.where(away < _SAME**2, _NOWHERE, marks))
        rest = jnp.where(memory.dark > 0, _DARK - memory.dark, 0)
        is_free = ahead[None, None] <= rest[:, None, None]
        return jnp.where(is_free, _NOWHERE, near)

    def cost(variables: Any, memory: Map, obs: jax.Array, own: jax.Array):
        _, velocity = motion(obs)
        legs = 0.5 * seconds * (velocity[:, :, 1:] + velocity[:, :, :-1])
        place = memory.place[:, None, None] + jnp.cumsum(legs, axis=2)
        after, ahead = obs[:, :, 1:], jnp.arange(1, obs.shape[2])
        circle = circling(memory.step[:, None] + ahead[None])[:, None]
        for index, (name, ring) in enumerate(zip(names, rings, strict=True)):
            if name == BUTTONS:
                continue
            here = place - circle if name == CIRCLING else place
            after = shown(after, ring, nearest(here, memory.marks[:, index]))
        # The state after the last step is not known: its own cost stands.
        known = cost_of(variables, standardise(after))
        if goal is not None:
            near = wrong_button(memory, place, ahead)
            pressed = shown(after, groups["hazards_lidar"], near)
            pressed = _PRESSED * cost_of(variables, standardise(pressed))
            known = jnp.maximum(known, pressed)
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

    readings: `[B, G, bins]` in [0, 1]. place: `[B, 2]` and heading `[B]` of the agent.
    """
    objects = lidar.objects_of(readings)
    least, most = lidar.allowed_places(readings)
    is_lone = lidar.is_own(readings) & (jnp.abs(most - least) <= _LONE)
    bins = readings.shape[-1]
    angle = (jnp.arange(bins)[None, None] + objects.place) * (2.0 * math.pi / bins)
    angle = angle + heading[:, None, None]
    along = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
    found = place[:, None, None] + objects.distance[..., None] * along
    return jnp.where(is_lone[..., None], found, _NOWHERE)


def wiped(
    marks: jax.Array, readings: jax.Array, place: jax.Array, heading: jax.Array
) -> jax.Array:
    """Marks `[B, G, K, 2]` without those that the lidars contradict.

    readings, place, heading: as above. A mark's bin or one beside it would read no less
    than what is there.
    """
    bins = readings.shape[-1]
    away = marks - place[:, None, None]
    distance = jnp.sqrt(jnp.sum(jnp.square(away), axis=-1))
    angle = jnp.arctan2(away[..., 1], away[..., 0]) - heading[:, None, None]
    own = jnp.floor(angle * (bins / (2.0 * math.pi))).astype(jnp.int32) % bins
    shown = jnp.take_along_axis(lidar.around(readings), own, axis=-1)
    is_missed = shown < 1.0 - distance / lidar.RANGE - _MISSED
    is_missed &= distance > _BESIDE
    # Buttons go dark for a while when one is pressed.
    is_missed &= readings.max(axis=-1, keepdims=True) > 0.0
    return jnp.where(is_missed[..., None], _NOWHERE, marks)


def marked(marks: jax.Array, seen: jax.Array) -> jax.Array:
    """Marks `[B, G, K, 2]` with what is seen `[B, G, bins, 2]`.

    What stands by a mark moves it; anything else takes a free place while there is one.
    """
    is_seen, is_free = seen[..., 0] < _FAR, marks[..., 0] > _FAR
    away = jnp.square(seen[..., :, None, :] - marks[..., None, :, :]).sum(axis=-1)
    closest = away.min(axis=-1, keepdims=True)
    is_known = is_seen[..., None] & (closest < _SAME**2)
    # At the edge of two bins an object is seen in both.
    beside = jnp.square(seen - jnp.roll(seen, 1, axis=-2)).sum(axis=-1)
    is_new = is_seen & ~is_known[..., 0] & (beside >= _SAME**2)
    turn = jnp.cumsum(is_new, axis=-1)[..., :, None]
    is_its_turn = turn == jnp.cumsum(is_free, axis=-1)[..., None, :]
    takes = is_new[..., None] & is_free[..., None, :] & is_its_turn
    pairs = jnp.where(is_known, away == closest, takes)
    which = jnp.argmax(pairs, axis=-2)[..., None]
    found = jnp.take_along_axis(seen, which, axis=-2)
    return jnp.where(pairs.any(axis=-2)[..., None], found, marks)


def shown(obs: jax.Array, ring: slice, near: jax.Array) -> jax.Array:
    """States `[..., O]` whose lidar shows something at a distance `[...]`, too.

    Where in the ring it shows is all the same to the cost.
    """
    light = jnp.clip(1.0 - near / lidar.RANGE, 0.0, 1.0)
    return obs.at[..., ring.start].max(light)


def nearest(place: jax.Array, marks: jax.Array) -> jax.Array:
    """Distance `[B, n, T]` of places `[B, n, T, 2]` to the nearest mark `[B, K, 2]`.

    By differences: products would lose a metre in a thousand.
    """
    x, y = (place[..., i, None] - marks[:, None, None, :, i] for i in range(2))
    return jnp.sqrt((x * x + y * y).min(axis=-1))
