"""Goal and Button: drive to one target after another, around what costs."""

import numpy as np

from sas_jax.data.behaviours import expert, field

# Added to the radius of a thing: from which distance of centres on it costs. Hazards
# cost when the agent's centre is inside; solid things when bodies touch.
_GROWN = {
    "Point": {"hazards": 0.0, "buttons": 0.13, "gremlins": 0.16, "vases": 0.14},
    "Car": {"hazards": 0.0, "buttons": 0.18, "gremlins": 0.20, "vases": 0.18},
}
_MOVING = ("gremlins", "vases")
# What stops an agent is worth a little detour even to those who ignore its cost.
_SOLID = {"buttons": 4.0, "gremlins": 2.0}
# Cost of a thousand steps -> risk that has it on average (PointGoal1, clearance 0.3,
# 10 episodes each). Budgets are met by looking again, not by this table.
_RISK_OF_PACE = ((0.0, 2.0, 13.0, 24.0, 40.0, 64.0), (0.0, 0.3, 0.5, 0.7, 0.9, 1.1))
# Dawdling (risk above 1): decisions out of ten to let go inside a cost, at most.
_DAWDLE = 4


class Expert(expert.Expert):
    """Drives to the goal (or goal button), again and again."""

    def __init__(self, env, task, behaviour):
        super().__init__(env, task, behaviour)
        layout = env.layout()
        self.is_button = "buttons" in layout
        # The one vase of level 1 costs nothing.
        is_free = {"vases"} if task.name.endswith("1") else set()
        names = [name for name in _GROWN[self.agent] if name in layout]
        self.costly = [name for name in names if name not in is_free]
        self.moving = [name for name in self.costly if name in _MOVING]
        self.goal = None
        self.obstacles = field.NONE
        self.before = None
        self.steps, self.spent = task.episode_steps, 0

    def decide(self, position, yaw, velocity, goal):
        """See the base class."""
        is_new = self.goal is None or np.abs(goal - self.goal).max() > 1e-6
        if np.isfinite(self.behaviour.budget):
            self._spend(position, is_new)
        if is_new or self.moving:
            self.goal = goal
            self.obstacles = self._look()
        if is_new:
            at_rest = self.obstacles[~self.obstacles[:, 4:].any(-1)]
            self.navigator.field = field.Field(goal, at_rest, self.navigator.margin)
        # Buttons are pressed by touching them, goals by being near.
        reach = 0.12 if self.is_button else 0.25
        action = self.navigator.act(
            position, yaw, velocity, self.obstacles, reach=reach
        )
        return np.zeros(2) if self._dawdles(position) else action

    def may_rest(self, position):
        """Away from everything that costs."""
        return self._gap(position) > 0.1

    def _spend(self, position, is_new: bool):
        """Counts costs, and chooses with every goal what the budget allows from now."""
        if self._gap(position) < 0.0:
            self.spent += expert.REPLAN
        if is_new:
            left = max(self.behaviour.budget - self.spent, 0.0)
            pace = 1000.0 * left / max(self.steps - self.step, 1)
            self.dare(float(np.interp(pace, *_RISK_OF_PACE)))

    def _look(self):
        """Reads where costly things are, and how fast the moving ones move."""
        layout = self.env.layout()
        grown, found = _GROWN[self.agent], []
        for name in self.costly:
            rows = layout[name]
            if name == "buttons":
                rows = rows[np.hypot(*(rows[:, :2] - self.goal).T) > 0.05]
            weight = max(self.avoidance, _SOLID.get(name, 0.0))
            found.append(field.things(rows, weight, grown=grown[name]))
        if self.moving:
            seconds = expert.REPLAN * self.manoeuvres.step_seconds
            places = [layout[name][:, :2] for name in self.moving]
            if self.before is not None:
                for name, now, then in zip(
                    self.moving, places, self.before, strict=True
                ):
                    speed = np.clip((now - then) / seconds, -1.0, 1.0)
                    found[self.costly.index(name)][:, 4:] = speed
            self.before = places
        return np.concatenate(found)

    def _gap(self, position) -> float:
        away = self.obstacles[:, :2] - position
        gap = np.sqrt((away * away).sum(-1)) - self.obstacles[:, 2]
        return float(gap.min(initial=np.inf))

    def _dawdles(self, position) -> bool:
        """Above risk 1: lets go of the controls for part of the time inside a cost."""
        share = _DAWDLE * (self.risk - 1.0) / 0.3
        turn = (self.step // expert.REPLAN) % 10
        return turn < share and self._gap(position) < 0.0
