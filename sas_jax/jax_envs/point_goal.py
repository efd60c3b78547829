"""PointGoal in the plane: Safety-Gymnasium's PointGoal1 as a few lines of arithmetic.

A point robot drives to a goal through eight hazards, beside a vase. The robot has three
degrees of freedom and no contact that moves it but the vase's, so that its equations of
motion can be written down; they are those of the suite's MuJoCo model (`point.xml`), by
the same integrator: semi-implicit Euler with implicit joint damping, ten substeps of
2 ms. Layouts, lidars, rewards and costs are those of the suite.

What differs: the vase, a box of 8 mg, is pushed out of the robot's way without pushing
back and without turning. docs/results/environments.md has the deviations measured.

Positions are metres, angles radians, speeds metres and radians a second, masses kg.
"""

import math

import jax
import jax.numpy as jnp
from flax import struct

from sas_jax.jax_envs.protocol import JaxEnv, Step
from sas_jax.types import Key

LIDAR_BINS, LIDAR_RANGE = 16, 3.0
NUM_HAZARDS, HAZARD_SIZE, GOAL_SIZE, GOAL_REWARD = 8, 0.2, 0.3, 1.0
EPISODE_STEPS = 1000
OBS_DIM, ACTION_DIM = 12 + 3 * LIDAR_BINS, 2

_SUBSTEPS, _DT, _GRAVITY, _FIELD = 10, 0.002, 9.81, 0.5
# A sphere of radius 0.1 and, 0.1 ahead of it, a cube with edges of 0.1; density 1.
_MASS = 4.0 / 3.0 * jnp.pi * 0.1**3 + 0.1**3
_LEVER = 0.1**3 * 0.1  # mass times the distance of its centre from the origin
_INERTIA = 0.4 * (_MASS - 0.1**3) * 0.1**2 + 0.1**3 * (0.1**2 / 6.0 + 0.1**2)
_DRAG, _TURN_DRAG = 0.01, 0.005
_GEAR, _MOST_FORCE = 0.3, 0.05
# The robot's outline as discs: along x, along y, radius.
_DISCS = ((0.0, 0.0, 0.1), (0.1, 0.0, 0.05), (0.15, 0.05, 0.0), (0.15, -0.05, 0.0))
VASE_SIZE, _VASE_FRICTION = 0.1, 1.0
# In the suite's order: robot, goal, hazards, vase, each with room around it.
_ROOM = (0.4, 0.305, *(0.18,) * NUM_HAZARDS, 0.15)
_HALF_WIDTH, _TRIES = 1.5, 100
# Radians of a lidar's bin, and the directions of their middles `[16, 2]`.
_BIN = 2.0 * math.pi / LIDAR_BINS
_MIDDLES = [
    (math.cos((i + 0.5) * _BIN), math.sin((i + 0.5) * _BIN)) for i in range(LIDAR_BINS)
]


@struct.dataclass
class State:
    """An episode.

    position, velocity: `[2]` of the robot's origin. yaw, turning: `[]`. goal, vase,
    vase_velocity: `[2]`. vase_yaw: `[]`. hazards: `[8, 2]`. distance: `[]` to the goal.
    acceleration: `[2]`. key: of the goals to come.
    """

    position: jax.Array
    velocity: jax.Array
    yaw: jax.Array
    turning: jax.Array
    acceleration: jax.Array
    goal: jax.Array
    hazards: jax.Array
    vase: jax.Array
    vase_velocity: jax.Array
    vase_yaw: jax.Array
    distance: jax.Array
    key: Key


def make() -> JaxEnv:
    """The environment; see `protocol.JaxEnv`."""
    return JaxEnv(reset, step, OBS_DIM, ACTION_DIM, EPISODE_STEPS, pose, places_of)


def pose(state: State) -> jax.Array:
    """`[6]`: robot x, y, yaw, goal x, y, 0."""
    zero = jnp.zeros(1)
    return jnp.concatenate([state.position, state.yaw[None], state.goal, zero])


def places_of(state: State) -> dict[str, jax.Array]:
    """Where things stand: name -> `[k, 3]` x, y, radius."""
    sizes = {
        "goal": (state.goal[None], GOAL_SIZE),
        "hazards": (state.hazards, HAZARD_SIZE),
        "vases": (state.vase[None], VASE_SIZE),
    }
    return {
        name: jnp.concatenate([places, jnp.full((len(places), 1), size)], 1)
        for name, (places, size) in sizes.items()
    }


def reset(key: Key) -> tuple[State, jax.Array]:
    """Draws a layout. Returns the state and the first observation `[60]`."""
    layout_key, angle_key, key = jax.random.split(key, 3)
    places = layout(layout_key)
    yaws = jax.random.uniform(angle_key, (2,), maxval=2 * jnp.pi)
    zero = jnp.zeros(2)
    state = State(
        position=places[0],
        velocity=zero,
        yaw=yaws[0],
        turning=jnp.zeros(()),
        acceleration=zero,
        goal=places[1],
        hazards=places[2:-1],
        vase=places[-1],
        vase_velocity=zero,
        vase_yaw=yaws[1],
        distance=jnp.linalg.norm(places[0] - places[1]),
        key=key,
    )
    return state, observe(state)


def step(state: State, action: jax.Array) -> Step:
    """One step of 20 ms. action: `[2]`, forward force and turning speed, in [-1, 1]."""
    action = jnp.clip(action, -1.0, 1.0)
    state = jax.lax.fori_loop(0, _SUBSTEPS, lambda _, s: substep(s, action), state)
    state = state.replace(acceleration=_accelerations(state, action, 0.0)[0])
    distance = jnp.linalg.norm(state.position - state.goal)
    achieved = distance <= GOAL_SIZE
    reward = state.distance - distance + GOAL_REWARD * achieved
    away = jnp.linalg.norm(state.hazards - state.position[None], axis=1)
    goal_key, key = jax.random.split(state.key)
    goal, has_room = _next_goal(goal_key, state)
    goal = jnp.where(achieved, goal, state.goal)
    state = state.replace(
        goal=goal,
        distance=jnp.linalg.norm(state.position - goal),
        key=jax.random.wrap_key_data(
            jnp.where(achieved, *map(jax.random.key_data, (key, state.key)))
        ),
    )
    return Step(
        state=state,
        obs=observe(state),
        reward=reward.astype(jnp.float32),
        cost=(away < HAZARD_SIZE).any().astype(jnp.float32),
        terminated=achieved & ~has_room,
    )


def substep(state: State, action: jax.Array) -> State:
    """2 ms: speeds from forces, places from the new speeds, then the vase."""
    linear, angular = _accelerations(state, action, _DT)
    velocity = state.velocity + _DT * linear
    turning = state.turning + _DT * angular
    state = state.replace(
        velocity=velocity,
        turning=turning,
        position=state.position + _DT * velocity,
        yaw=state.yaw + _DT * turning,
    )
    return _push(state)


def _accelerations(state: State, action: jax.Array, dt: float):
    """Accelerations `[2]` and `[]` of the robot's origin.

    Solves ``(M + dt D) a = forces - D v - Coriolis``, where D is the joints' damping;
    dt = 0 gives the true ones. M couples them, as the mass lies ahead of the origin.
    """
    heading = jnp.stack([jnp.cos(state.yaw), jnp.sin(state.yaw)])
    side = jnp.stack([-heading[1], heading[0]])
    push = _GEAR * jnp.clip(action[0], -_MOST_FORCE, _MOST_FORCE)
    servo = action[1] - _GEAR * state.turning
    turn = _GEAR * jnp.clip(servo, -_MOST_FORCE, _MOST_FORCE)
    force = push * heading - _DRAG * state.velocity
    force += _LEVER * state.turning**2 * heading
    torque = turn - _TURN_DRAG * state.turning
    mass, inertia = _MASS + dt * _DRAG, _INERTIA + dt * _TURN_DRAG
    angular = (torque - _LEVER / mass * side @ force) / (inertia - _LEVER**2 / mass)
    return (force - _LEVER * angular * side) / mass, angular


def _push(state: State) -> State:
    """The vase slides, and makes way for each of the robot's discs."""
    speed = jnp.linalg.norm(state.vase_velocity)
    lost = jnp.minimum(_VASE_FRICTION * _GRAVITY * _DT, speed)
    velocity = state.vase_velocity * (1.0 - lost / jnp.maximum(speed, 1e-9))
    vase = state.vase + _DT * velocity
    axes = _rotation(state.vase_yaw)
    for forward, left, radius in _DISCS:
        arm = _rotation(state.yaw) @ jnp.array([forward, left])
        centre = axes.T @ (state.position + arm - vase)
        nearest = jnp.clip(centre, -VASE_SIZE, VASE_SIZE)
        gap = centre - nearest
        is_inside = (gap == 0).all()
        # From within, the way out is through the nearest side.
        depth = VASE_SIZE - jnp.abs(centre)
        out = jnp.where(jnp.arange(2) == jnp.argmin(depth), jnp.sign(centre), 0.0)
        away = jnp.where(is_inside, out, gap / jnp.maximum(jnp.linalg.norm(gap), 1e-9))
        overlap = jnp.where(
            is_inside, radius + depth.min(), radius - jnp.linalg.norm(gap)
        )
        touches = overlap > 0
        normal = -(axes @ away)
        turned = state.turning * jnp.stack([-arm[1], arm[0]])
        wanted = (state.velocity + turned) @ normal
        missing = jnp.maximum(wanted - velocity @ normal, 0.0)
        vase = vase + jnp.where(touches, overlap, 0.0) * normal
        velocity = velocity + jnp.where(touches, missing, 0.0) * normal
    return state.replace(vase=vase, vase_velocity=velocity)


def _rotation(yaw: jax.Array) -> jax.Array:
    """`[2, 2]`, from a body's axes to the world's."""
    c, s = jnp.cos(yaw), jnp.sin(yaw)
    return jnp.array([[c, -s], [s, c]])


def observe(state: State) -> jax.Array:
    """`[60]`: sensors, then the lidars of goal, hazards and vase, as PointGoal1's."""
    back = _rotation(state.yaw).T
    zero, field = jnp.zeros(1), jnp.array([0.0, -_FIELD])
    sensors = (
        back @ state.acceleration,
        jnp.full(1, _GRAVITY),
        back @ state.velocity,
        jnp.zeros(3),
        state.turning[None],
        back @ field,
        zero,
    )
    lidars = (
        lidar(points, state.position, state.yaw)
        for points in (state.goal[None], state.hazards, state.vase[None])
    )
    return jnp.concatenate([*sensors, *lidars])


def lidar(points: jax.Array, origin: jax.Array, yaw: jax.Array) -> jax.Array:
    """The suite's pseudo lidar, `[16]` readings of points `[P, 2]`.

    Bin i covers angles from 22.5 i degrees on, from the robot's x axis, and reads
    ``1 - distance / 3`` of its nearest point; neighbours read it in proportion.
    """
    own = (points - origin[None]) @ _rotation(yaw)
    distance = jnp.linalg.norm(own, axis=1)
    near = jnp.maximum(LIDAR_RANGE - distance, 0.0) / LIDAR_RANGE
    # The angle from the middle of its own bin: small, so that float32 keeps it to 1e-8
    # of a turn, where an angle from zero would lose 1e-6 of a bin.
    angle = jnp.arctan2(own[:, 1], own[:, 0])
    index = jnp.floor(angle / _BIN).astype(jnp.int32) % LIDAR_BINS
    middle = jnp.asarray(_MIDDLES, own.dtype)[index]
    ahead = (own * middle).sum(1)
    aside = middle[:, 0] * own[:, 1] - middle[:, 1] * own[:, 0]
    share = jnp.clip(jnp.arctan2(aside, ahead) / _BIN + 0.5, 0.0, 1.0)
    bins = jnp.arange(LIDAR_BINS)

    def read(offset, value):
        hit = bins[None] == ((index + offset) % LIDAR_BINS)[:, None]
        return jnp.where(hit, value[:, None], 0.0).max(0)

    readings = read(0, near), read(1, share * near), read(-1, (1 - share) * near)
    return jnp.stack(readings).max(0)


def layout(key: Key) -> jax.Array:
    """`[11, 2]` places of robot, goal, hazards and vase.

    One after the other is placed at random, at the first free of a hundred places; if
    there is none, all of them are placed anew.
    """

    def attempt(key):
        keys = jax.random.split(key, len(_ROOM))
        places, fits = jnp.zeros((len(_ROOM), 2)), jnp.bool_(True)
        for number, room in enumerate(_ROOM):
            tries = _uniform(keys[number], room)
            if number == 0:  # nothing is in its way
                places = places.at[0].set(tries[0])
                continue
            others = jnp.linalg.norm(tries[:, None] - places[None, :number], axis=-1)
            gaps = jnp.array(_ROOM[:number], jnp.float32) + room
            is_free = (others >= gaps[None]).all(axis=1)
            places = places.at[number].set(tries[is_free.argmax()])
            fits &= is_free.any()
        return places, fits

    def again(carry):
        key, _, _ = carry
        own, key = jax.random.split(key)
        return key, *attempt(own)

    start = (key, jnp.zeros((len(_ROOM), 2)), jnp.bool_(False))
    return jax.lax.while_loop(lambda carry: ~carry[2], again, start)[1]


def _uniform(key: Key, room: float) -> jax.Array:
    """`[100, 2]` places at least `room` from the edge."""
    reach = _HALF_WIDTH - room
    return jax.random.uniform(key, (_TRIES, 2), minval=-reach, maxval=reach)


def _next_goal(key: Key, state: State) -> tuple[jax.Array, jax.Array]:
    """A free place `[2]` for the next goal, and whether there is one."""
    places = [state.position[None], state.hazards, state.vase[None]]
    rooms = jnp.array((_ROOM[0], *_ROOM[2:]))
    tries = _uniform(key, _ROOM[1])
    gaps = jnp.linalg.norm(tries[:, None] - jnp.concatenate(places)[None], axis=-1)
    is_free = (gaps >= rooms[None] + _ROOM[1]).all(axis=1)
    return tries[is_free.argmax()], is_free.any()
