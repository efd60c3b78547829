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
Where there are buttons the goal is noted, too, until another one takes its place.

What imagined steps come to by the map is in `map_outcome`.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import struct

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
# Marks a lidar has room for; the tasks have ten objects of a kind at most.
_MARKS = 32
# Metres within which two sightings are of one object: most stand further apart.
SAME = 0.15
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
    goal: `[B, 2]` its place among buttons, far away while nobody knows. dark: `[B]`
    int32 steps for which the buttons have been dark. marks: `[B, G, K, 2]` places of up
    to K objects of G lidars, far away where there is none; of what circles, the
    middles.
    """

    place: jax.Array
    velocity: jax.Array
    step: jax.Array
    goal: jax.Array
    dark: jax.Array
    marks: jax.Array


# Metres, beyond every map; what is further than the second number is not there.
NOWHERE, FAR = 1e3, 5e2


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


@dataclasses.dataclass(frozen=True)
class Senses:
    """What a task's agent sees that makes a map.

    names: of the lidars that are noted; rings: where each stands in an observation.
    goal: where the goal's lidar stands. seconds: of a step.
    """

    names: tuple[str, ...]
    rings: tuple[slice, ...]
    goal: slice
    velocimeter: slice
    magnetometer: slice
    seconds: float

    @property
    def circles(self) -> jax.Array:
        """`[1, G, 1, 1]` bool, of which lidars the objects drive in circles."""
        return jnp.array([name == CIRCLING for name in self.names])[None, :, None, None]

    def motion(self, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Heading `[...]`, and velocity `[..., 2]` along the map's axes."""
        north = obs[..., self.magnetometer]
        heading = jnp.arctan2(-north[..., 0], -north[..., 1])
        return heading, turned(obs[..., self.velocimeter][..., :2], heading)

    def readings(self, obs: jax.Array) -> jax.Array:
        """`[B, G, bins]` of the lidars that are noted."""
        return jnp.clip(jnp.stack([obs[:, ring] for ring in self.rings], 1), 0.0, 1.0)

    def circling(self, step: jax.Array) -> jax.Array:
        """Metres `[..., 2]` from the middles of circles, at a step of the episode."""
        angle = step * self.seconds - _LAG
        return _CIRCLE * jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1)

    def moved(self, step: jax.Array) -> jax.Array:
        """`[B, G, 1, 2]` by which what is noted is elsewhere at a step `[B]`."""
        return jnp.where(self.circles, self.circling(step)[:, None, None], 0.0)


def senses_of(task: Task) -> Senses:
    """Of a task's agent.

    Raises:
      UserError: a task without the sensors that it takes.
    """
    if missing := lacking(task):
        raise UserError(
            f"task {task.name}: no {missing} to make a map by; expected "
            f"{' or '.join(_SECONDS)} in Goal, Button or Push"
        )
    groups, seconds = task.obs_groups, _seconds(task)
    assert seconds is not None  # it is not lacking
    names = tuple(name for name in (*STANDING, CIRCLING) if name in groups)
    return Senses(
        names=names,
        rings=tuple(groups[name] for name in names),
        goal=groups["goal_lidar"],
        velocimeter=groups["velocimeter"],
        magnetometer=groups["magnetometer"],
        seconds=seconds,
    )


def start(senses: Senses, count: int) -> Map:
    """Maps of `count` episodes that have seen nothing."""
    zeros = jnp.zeros((count, 2))
    return Map(
        place=zeros,
        velocity=zeros,
        step=jnp.zeros(count, jnp.int32),
        goal=zeros + NOWHERE,
        dark=jnp.zeros(count, jnp.int32),
        marks=jnp.full((count, len(senses.rings), _MARKS, 2), NOWHERE, jnp.float32),
    )


def see(senses: Senses, memory: Map, obs: jax.Array, is_first: jax.Array) -> Map:
    """The maps with one more observation `[B, O]`; an episode's first begins anew."""
    fresh = is_first[:, None]
    heading, velocity = senses.motion(obs)
    before = jnp.where(fresh, velocity, memory.velocity)
    place = memory.place + 0.5 * senses.seconds * (velocity + before)
    place = jnp.where(fresh, 0.0, place)
    step = jnp.where(is_first, 0, memory.step + 1)
    readings, moved = senses.readings(obs), senses.moved(step)
    marks = jnp.where(fresh[..., None, None], NOWHERE, memory.marks) + moved
    marks = wiped(marks, readings, place, heading)
    marks = marked(marks, objects_on_the_map(readings, place, heading)) - moved
    goal, dark = memory.goal, memory.dark
    if BUTTONS in senses.names:
        goal = jnp.where(fresh, NOWHERE, goal)
        goal = sought(goal, obs[:, senses.goal], place, heading)
        is_dark = readings[:, senses.names.index(BUTTONS)].max(axis=-1) <= 0.0
        dark = jnp.where(is_dark, jnp.where(is_first, 0, dark) + 1, 0)
    return Map(place, velocity, step, goal, dark, marks)


def sought(
    goal: jax.Array, readings: jax.Array, place: jax.Array, heading: jax.Array
) -> jax.Array:
    """The goal's place `[B, 2]`, where it is seen `[B, bins]` or was seen last.

    What was near enough to be seen and is not has gone elsewhere.
    """
    is_lit = (readings.max(axis=-1) > lidar.DARK)[:, None]
    away = jnp.sqrt(jnp.square(goal - place).sum(axis=-1, keepdims=True))
    goal = jnp.where(away < lidar.RANGE * (1.0 - _MISSED), NOWHERE, goal)
    found = place + turned(lidar.place_of(readings), heading)
    return jnp.where(is_lit, found, goal)


def turned(x: jax.Array, angle: jax.Array) -> jax.Array:
    """Vectors `[..., 2]` turned to the left by an angle `[...]`."""
    c, s = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([c * x[..., 0] - s * x[..., 1], s * x[..., 0] + c * x[..., 1]], -1)


def objects_on_the_map(
    readings: jax.Array, place: jax.Array, heading: jax.Array
) -> jax.Array:
    """Places `[B, G, bins, 2]` of lone objects; `NOWHERE` for bins without one.

    readings: `[B, G, bins]` in [0, 1]. place: `[B, 2]` and heading `[B]` of the agent.
    """
    least, most = lidar.allowed_places(readings)
    is_lone = lidar.is_own(readings) & (jnp.abs(most - least) <= _LONE)
    found, _ = placed(readings, place, heading)
    return jnp.where(is_lone[..., None], found, NOWHERE)


def placed(
    readings: jax.Array, place: jax.Array, heading: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Where each bin's object is if it is its own: `[B, G, bins, 2]`, and how far away.

    readings, place, heading: as above. The middle of what its neighbours allow.
    """
    objects, bins = lidar.objects_of(readings), readings.shape[-1]
    angle = (jnp.arange(bins)[None, None] + objects.place) * (2.0 * math.pi / bins)
    angle = angle + heading[:, None, None]
    along = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
    return place[:, None, None] + objects.distance[..., None] * along, objects.distance


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
    return jnp.where(is_missed[..., None], NOWHERE, marks)


def marked(marks: jax.Array, seen: jax.Array) -> jax.Array:
    """Marks `[B, G, K, 2]` with what is seen `[B, G, bins, 2]`.

    What stands by a mark moves it; anything else takes a free place while there is one.
    """
    is_seen, is_free = seen[..., 0] < FAR, marks[..., 0] > FAR
    away = jnp.square(seen[..., :, None, :] - marks[..., None, :, :]).sum(axis=-1)
    closest = away.min(axis=-1, keepdims=True)
    is_known = is_seen[..., None] & (closest < SAME**2)
    # At the edge of two bins an object is seen in both.
    beside = jnp.square(seen - jnp.roll(seen, 1, axis=-2)).sum(axis=-1)
    is_new = is_seen & ~is_known[..., 0] & (beside >= SAME**2)
    turn = jnp.cumsum(is_new, axis=-1)[..., :, None]
    is_its_turn = turn == jnp.cumsum(is_free, axis=-1)[..., None, :]
    takes = is_new[..., None] & is_free[..., None, :] & is_its_turn
    pairs = jnp.where(is_known, away == closest, takes)
    which = jnp.argmax(pairs, axis=-2)[..., None]
    found = jnp.take_along_axis(seen, which, axis=-2)
    return jnp.where(pairs.any(axis=-2)[..., None], found, marks)
