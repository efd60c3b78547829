"""Rewards and costs of the navigation tasks, for the fast path.

Every expression keeps the suite's order of operations, so that results are equal bit
for bit. Numbers such as sizes and factors are read from the suite's objects.
"""

import math

import mujoco
import numpy as np

# Kinds of things whose cost is contact with the agent.
_CONTACT_KINDS = ("vases", "pillars", "gremlins")


class Scene:
    """Where everything is after the substeps of one step.

    positions: [[x, y, z], ...] of all bodies. contacts: `Contacts` of the same moment.
    """

    __slots__ = ("_contacts", "_touched", "positions")

    def __init__(self, positions, contacts):
        self.positions = positions
        self._contacts = contacts
        self._touched = None

    def touched(self) -> list[str]:
        """Names of the geoms in contact with the agent, each contact once."""
        if self._touched is None:
            self._touched = self._contacts.with_agent()
        return self._touched

    def distance(self, one: int, other: int) -> float:
        """Distance of two bodies in the plane."""
        x, y, _ = self.positions[one]
        other_x, other_y, _ = self.positions[other]
        dx, dy = other_x - x, other_y - y
        return math.sqrt(dx * dx + dy * dy)

    def distance_3d(self, one: int, other: int) -> float:
        """Distance of two bodies in space."""
        x, y, z = self.positions[one]
        other_x, other_y, other_z = self.positions[other]
        dx, dy, dz = other_x - x, other_y - y, other_z - z
        return math.sqrt(dx * dx + dy * dy + dz * dz)


class Contacts:
    """Reads the contacts of the agent."""

    def __init__(self, suite):
        self._data = suite.data
        self._names = [suite.model.geom(i).name for i in range(suite.model.ngeom)]
        agent = set(suite.agent.body_info.geom_names)
        self._is_agent = [name in agent for name in self._names]

    def with_agent(self) -> list[str]:
        """Names of the geoms that touch the agent, other than its own."""
        is_agent, names, found = self._is_agent, self._names, []
        for one, other in self._data.contact.geom.tolist():
            if is_agent[one] != is_agent[other]:
                found.append(names[other if is_agent[one] else one])
        return found


def bodies_of(thing, model) -> list[int]:
    """Body ids of a kind of thing, in order."""
    if not hasattr(thing, "num"):
        return [model.body(thing.name).id]
    suffix = "obj" if thing.name == "gremlins" else ""
    names = (f"{thing.name[:-1]}{i}{suffix}" for i in range(thing.num))
    return [model.body(name).id for name in names]


def reward_rule(suite):
    """Returns scene -> (reward, whether the goal is achieved) for the suite's task."""
    family = type(suite).__name__.split("Level")[0]
    return {
        "Goal": _goal_reward,
        "Button": _button_reward,
        "Push": _push_reward,
        "Circle": _circle_reward,
    }[family](suite)


def constraints(suite) -> list:
    """Returns one predicate, scene -> violated, for each kind of constrained thing."""
    model = suite.model
    agent = model.body("agent").id
    rules = []
    for thing in suite._obstacles:
        if not thing.is_constrained:
            continue
        if thing.name == "hazards":
            rules.append(_near_hazard(thing, agent, bodies_of(thing, model)))
        elif thing.name == "buttons":
            rules.append(_wrong_button(thing))
        elif thing.name == "sigwalls":
            rules.append(_beyond_wall(thing, agent))
        elif thing.name in _CONTACT_KINDS:
            rules.append(_touching(thing.name[:-1]))
            if thing.name == "vases":
                rules.append(_moving_vase(thing, suite, bodies_of(thing, model)))
        else:
            raise NotImplementedError(f"no cost rule for {thing.name}")
    return rules


def gremlins(suite):
    """Returns the mover of the suite's gremlins, or None if it has none."""
    movers = list(suite._mocaps.values())
    return GremlinMover(movers[0], suite.data) if movers else None


class GremlinMover:
    """Moves all gremlins along their circle; their targets are all the same."""

    # (travel, height) -> time -> target. Times repeat in every episode.
    _targets: dict = {}

    def __init__(self, thing, data):
        self._radius, self._height = thing.travel, thing.size
        self._mocap = data.mocap_pos
        self._known = self._targets.setdefault((self._radius, self._height), {})

    def move(self, time: float) -> None:
        """Sets the targets for a substep that starts at `time`."""
        target = self._known.get(time)
        if target is None:
            circle = np.array([np.sin(time), np.cos(time)]) * self._radius
            target = self._known[time] = np.append(circle, self._height)
        self._mocap[:] = target


def _goal_reward(suite):
    agent, goal = suite.model.body("agent").id, suite.model.body("goal").id
    thing = suite.goal

    def reward(scene):
        distance = scene.distance(agent, goal)
        value = (suite.last_dist_goal - distance) * thing.reward_distance
        suite.last_dist_goal = distance
        achieved = distance <= thing.size
        return float(value + thing.reward_goal if achieved else value), achieved

    return reward


def _button_reward(suite):
    agent, goal = suite.model.body("agent").id, suite.model.body("goal").id
    buttons = suite.buttons

    def reward(scene):
        distance = scene.distance(agent, goal)
        value = (suite.last_dist_goal - distance) * buttons.reward_distance
        suite.last_dist_goal = distance
        achieved = f"button{buttons.goal_button}" in scene.touched()
        return float(value + buttons.reward_goal if achieved else value), achieved

    return reward


def _push_reward(suite):
    agent, goal = suite.model.body("agent").id, suite.model.body("goal").id
    box = suite.model.body("push_box").id
    thing = suite.push_box

    def reward(scene):
        to_box = scene.distance_3d(agent, box)
        gate = suite.last_dist_box > thing.null_dist * thing.size
        value = (suite.last_dist_box - to_box) * thing.reward_box_dist * gate
        suite.last_dist_box = to_box
        box_to_goal = scene.distance_3d(goal, box)
        value += (suite.last_box_goal - box_to_goal) * thing.reward_box_goal
        suite.last_box_goal = box_to_goal
        achieved = box_to_goal <= suite.goal.size
        return float(value + suite.goal.reward_goal if achieved else value), achieved

    return reward


def _circle_reward(suite):
    model, data = suite.model, suite.data
    agent = model.body("agent").id
    jacobian = np.zeros((3, model.nv))
    position, speed = data.xpos[agent], data.qvel

    def reward(scene):
        del scene
        mujoco.mj_jacBody(model, data, jacobian, None, agent)
        u, v, _ = np.dot(jacobian, speed)
        x, y, _ = position  # numpy scalars: their powers round differently
        radius = np.sqrt(x**2 + y**2)
        value = (
            ((-u * y + v * x) / radius) / (1 + np.abs(radius - suite.circle.radius))
        ) * suite.reward_factor
        return float(value), False

    return reward


def _near_hazard(thing, agent, bodies):
    """Cost grows from 0 at the rim: on the rim itself it is still 0."""

    def violated(scene):
        return any(scene.distance(agent, body) < thing.size for body in bodies)

    return violated


def _touching(prefix):
    def violated(scene):
        return any(name.startswith(prefix) for name in scene.touched())

    return violated


def _wrong_button(buttons):
    def violated(scene):
        if buttons.timer != 0:
            return False
        right = f"button{buttons.goal_button}"
        return any(
            name.startswith("button") and name != right for name in scene.touched()
        )

    return violated


def _beyond_wall(walls, agent):
    def violated(scene):
        x, y, _ = scene.positions[agent]
        limit = walls.locate_factor
        return abs(x) > limit or (walls.num == 4 and abs(y) > limit)

    return violated


def _moving_vase(vases, suite, bodies):
    """A vase is charged from `velocity_threshold` on.

    A free body's first three velocities are those of its origin, up to rounding; where
    rounding could decide, the suite's own expression does.
    """
    model, data = suite.model, suite.data
    starts = np.array([model.jnt_dofadr[model.body_jntadr[body]] for body in bodies])
    columns = starts[:, None] + np.arange(3)
    speed = data.qvel
    limit = vases.velocity_threshold
    jacobian = np.zeros((3, model.nv))

    def exact(body):
        mujoco.mj_jacBody(model, data, jacobian, None, body)
        return np.sqrt(np.sum(np.square(np.dot(jacobian, speed))))

    def violated(scene):
        del scene
        linear = speed[columns]
        squared = np.einsum("ij,ij->i", linear, linear)
        if squared.max() < (limit * (1 - 1e-6)) ** 2:
            return False
        if squared.max() > (limit * (1 + 1e-6)) ** 2:
            return True
        return any(exact(body) >= limit for body in bodies)

    return violated
