"""Goal and Button: drive to one target after another, around what costs."""

import numpy as np

from sas_jax.data import behaviours_motion, behaviours_navigate

# Added to the radius of a thing: from which distance of centres on it costs. Hazards
# cost when the agent's centre is inside; solid things when bodies touch.
_REACH = {
    "Point": {"hazards": 0.0, "buttons": 0.13, "gremlins": 0.16, "vases": 0.14},
    "Car": {"hazards": 0.0, "buttons": 0.18, "gremlins": 0.20, "vases": 0.18},
}
_MOVING = ("gremlins", "vases")
_REPLAN = 2  # steps an action is held


def temper(risk: float, speed: float) -> behaviours_navigate.Temper:
    """How the dials translate: avoidance falls with risk and ends at risk 1."""
    caution = max(0.0, 1.0 - risk)
    return behaviours_navigate.Temper(
        avoidance=8.0 * caution**2, margin=0.03 + 0.1 * caution, speed=speed
    )


def make(env, task, behaviour):
    """Returns the expert for the running episode; see `behaviours.Script`."""
    return _Expert(env, task, behaviour)


class _Expert:
    def __init__(self, env, task, behaviour):
        self.env, self.behaviour = env, behaviour
        agent = "Point" if task.name.startswith("Point") else "Car"
        self.manoeuvres = behaviours_motion.of(agent)
        self.navigator = behaviours_navigate.Navigator(
            self.manoeuvres, temper(behaviour.risk, behaviour.speed)
        )
        self.reach = _REACH[agent]
        layout = env.layout()
        self.costly = [
            name
            for name in self.reach
            if name in layout and (name != "vases" or task.name.endswith("2"))
        ]
        self.is_moving = any(name in _MOVING for name in self.costly)
        self.is_button = "buttons" in layout
        self.goal, self.still, self.moving = None, None, None
        self.action, self.step = np.zeros(2), 0

    def __call__(self, observation):
        pose = self.env.pose()
        goal = pose[3:5]
        if self.goal is None or np.abs(goal - self.goal).max() > 1e-6:
            self.goal = goal
            self._look()
            self.navigator.plan(goal, self.still)
        elif self.step % _REPLAN:
            self.step += 1
            return self.action
        elif self.is_moving:
            self._look()
        self.step += 1
        obstacles = self.still
        if self.moving is not None:
            obstacles = np.concatenate([_at_rest(self.still), self.moving])
        self.action = self.navigator.act(
            pose[:2],
            pose[2],
            observation[3:5],
            obstacles,
            # Buttons are pressed by touching them, goals by being near.
            reach=0.12 if self.is_button else 0.25,
        )
        if self.behaviour.risk > 1.0:
            self.action = self._dawdle(pose[:2], obstacles)
        return self.action

    def _look(self):
        """Reads where costly things are, and how fast the moving ones move."""
        layout = self.env.layout()
        still, moving = [np.zeros((0, 3))], []
        for name in self.costly:
            things = layout[name] + [0.0, 0.0, self.reach[name]]
            if name == "buttons":
                away = np.hypot(*(things[:, :2] - self.goal).T)
                things = things[away > 0.05]
            (moving if name in _MOVING else still).append(things)
        self.still = np.concatenate(still)
        if moving:
            now = np.concatenate(moving)
            seconds = self.manoeuvres.step_seconds * _REPLAN
            velocity = np.zeros((len(now), 2))
            if self.moving is not None:
                velocity = np.clip((now - self.moving[:, :3])[:, :2] / seconds, -1, 1)
            self.moving = np.concatenate([now, velocity], axis=1)

    def _dawdle(self, position, obstacles):
        """Above risk 1: lets go of the controls for part of the time inside a cost."""
        away = obstacles[:, :2] - position
        inside = (np.hypot(*away.T) < obstacles[:, 2]).any()
        period = round(10 * (self.behaviour.risk - 1.0) / 0.3)
        if inside and (self.step // _REPLAN) % 10 < period:
            return np.zeros(2)
        return self.action


def _at_rest(things):
    return np.concatenate([things, np.zeros((len(things), 2))], axis=1)
