"""How Point and Car move, as tables of short manoeuvres in the agent's own frame.

Both agents are close to linear once the heading of a manoeuvre is fixed, so where it
leads is ``position + R(yaw) (free + response @ velocity)`` with tables computed once.
In the shape descriptions, `K` denotes manoeuvres and `J` times along them.

The constants were measured in safety-gymnasium 1.0.0 by holding controls (a Point
accelerates with 2.85 m/s^2 against a drag of time constant 0.52 s and turns with up to
3 rad/s; a Car reaches its wheel-given speeds within 0.2 s). Motors saturate at 5 %
(Point) and 2 % (Car) of the action range, which is why full, zero and reverse are all
the thrusts there are.
"""

import dataclasses
import functools
import itertools

import numpy as np

_POINT_ACCELERATION = 2.85
_POINT_DRAG = 0.52
_POINT_TURN = 3.0
_CAR_LAG = 0.18
# (left, right) wheel -> steady (speed along the drive axis, turn rate).
_CAR_STEADY = {
    (1, 1): (0.77, 0.0),
    (1, 0): (0.14, 0.67),
    (0, 1): (0.14, -0.67),
    (1, -1): (0.0, 1.34),
    (-1, 1): (0.0, -1.34),
    (0, 0): (0.0, 0.0),
    (-1, 0): (-0.15, -0.70),
    (0, -1): (-0.15, 0.70),
    (-1, -1): (-0.70, 0.0),
}
_CAR_AXIS = np.array([0.0, -1.0])  # a Car drives along its own -y
_AXES = {"Point": np.array([1.0, 0.0]), "Car": _CAR_AXIS}
_SUBSTEP = 0.02


@dataclasses.dataclass(frozen=True)
class Manoeuvres:
    """Tables of one agent.

    actions: `[K, 2]` what to do now.
    times: `[J]` seconds from now.
    motion: `[2, K, J, 2, 3]` position and velocity, in the agent's frame; the last
        axis multiplies (1, initial velocity in the agent's frame).
    heading: `[K, 2]` final direction of driving, agent's frame.
    top_speed: metres per second.
    step_seconds: duration of one environment step.
    drives_backwards: whether some of them do.
    """

    actions: np.ndarray
    times: np.ndarray
    motion: np.ndarray
    heading: np.ndarray
    top_speed: float
    step_seconds: float
    drives_backwards: bool = True

    def paths(self, position, yaw, velocity) -> tuple[np.ndarray, np.ndarray]:
        """Where each manoeuvre leads.

        Args:
          position: `[2]` world frame.
          yaw: heading of the agent's frame.
          velocity: `[2]` agent's frame.

        Returns:
          Positions `[K, J, 2]` and velocities `[K, J, 2]`, world frame.
        """
        state = np.array([1.0, velocity[0], velocity[1]])
        # One matrix product each: broadcasting @ over small matrices is 20x slower.
        local = (self.motion.reshape(-1, 3) @ state).reshape(-1, 2)
        world = (local @ rotation(yaw).T).reshape(self.motion.shape[:-1])
        return position + world[0], world[1]


def rotation(angle: float) -> np.ndarray:
    """Returns `[2, 2]`, which turns a vector by `angle`."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


def of(agent: str, *, backwards: bool = True) -> Manoeuvres:
    """Returns the tables of ``"Point"`` or ``"Car"``.

    backwards: False leaves out what begins or ends backwards when started at rest.
    """
    tables = {"Point": point, "Car": car}[agent]()
    return tables if backwards else _forwards(tables, _AXES[agent])


def _forwards(tables: Manoeuvres, axis: np.ndarray) -> Manoeuvres:
    """The manoeuvres without those that drive backwards along `axis` `[2]`."""
    speeds = tables.motion[1, :, :, :, 0]  # `[K, J, 2]`, of a start at rest
    begins = speeds[:, 0] @ axis
    ends = (speeds[:, -1] * tables.heading).sum(-1)
    kept = np.minimum(begins, ends) > -1e-9
    return dataclasses.replace(
        tables,
        actions=tables.actions[kept],
        motion=np.ascontiguousarray(tables.motion[:, kept]),
        heading=tables.heading[kept],
        drives_backwards=False,
    )


@functools.cache
def point() -> Manoeuvres:
    """Turn and thrust for a moment, then thrust, roll or brake straight on."""
    first = itertools.product((1, 0, -1), (-1, 0, 1))
    plans = [
        [(control, moment), ((then, 0), np.inf)]
        for control, then, moment in itertools.product(first, (1, 0, -1), (0.16, 0.48))
        if _is_worth_it(control, (then, 0), moment < 0.2)
    ]
    tables = _tabulate(plans, _point_step, horizon=0.96, spacing=0.08)
    return Manoeuvres(**tables, top_speed=1.48, step_seconds=0.02)


@functools.cache
def car() -> Manoeuvres:
    """Hold any wheel setting for a moment, then drive on, back or stop."""
    later = ((1, 1), (0, 0), (-1, -1))
    plans = [
        [(wheels, moment), (then, np.inf)]
        for wheels, then, moment in itertools.product(_CAR_STEADY, later, (0.24, 0.72))
        if _is_worth_it(wheels, then, moment < 0.3)
    ]
    tables = _tabulate(plans, _car_step, horizon=1.6, spacing=0.16)
    return Manoeuvres(**tables, top_speed=0.77, step_seconds=0.04)


def _is_worth_it(first, then, is_short: bool) -> bool:
    """False for doubles, and for waiting to act later.

    Judged anew every step, a plan that waits would be begun for ever.
    """
    return is_short if first == then else first != (0, 0)


def _point_step(control, angle, velocity):
    """One substep: the control's pull and drag on the velocity (frame of the start)."""
    thrust, turn = control
    axis = np.array([np.cos(angle), np.sin(angle)])
    pull = _POINT_ACCELERATION * thrust * axis
    decay = np.exp(-_SUBSTEP / _POINT_DRAG)
    free = velocity.copy()
    free[:, 0] = decay * velocity[:, 0] + (1 - decay) * _POINT_DRAG * pull
    free[:, 1:] = decay * velocity[:, 1:]
    return angle + _POINT_TURN * turn * _SUBSTEP, free


def _car_step(control, angle, velocity):
    """One substep: speed along the drive axis relaxes to what the wheels give."""
    target, turn = _CAR_STEADY[control]
    axis = rotation(angle) @ _CAR_AXIS
    decay = np.exp(-_SUBSTEP / _CAR_LAG)
    # Wheels do not slip sideways: only the part along the drive axis survives.
    along = axis @ velocity
    free = decay * np.outer(axis, along)
    free[:, 0] += (1 - decay) * target * axis
    return angle + turn * _SUBSTEP, free


def _tabulate(plans, step, *, horizon: float, spacing: float) -> dict:
    """Integrates all plans.

    Velocity and position are affine in the initial velocity, so they are carried as
    `[2, 3]` matrices: a column for the start at rest, two for the initial velocity.
    """
    substeps, every = round(horizon / _SUBSTEP), round(spacing / _SUBSTEP)
    positions, velocities, headings = [], [], []
    for plan in plans:
        angle, time = 0.0, 0.0
        velocity = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        position = np.zeros((2, 3))
        path, speeds = [], []
        for i in range(1, substeps + 1):
            control = next(c for c, until in plan if time < until - 1e-9)
            angle, velocity = step(control, angle, velocity)
            position = position + velocity * _SUBSTEP
            time += _SUBSTEP
            if i % every == 0:
                path.append(position)
                speeds.append(velocity)
        positions.append(path)
        velocities.append(speeds)
        axis = _AXES["Car" if step is _car_step else "Point"]
        headings.append(rotation(angle) @ axis)
    return {
        "actions": np.array([plan[0][0] for plan in plans], dtype=np.float64),
        "times": spacing * np.arange(1, substeps // every + 1),
        "motion": np.array([positions, velocities]),
        "heading": np.array(headings),
    }
