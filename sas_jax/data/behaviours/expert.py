"""What the experts of all task families share: dials, pace, and rest."""

import numpy as np

from sas_jax.data.behaviours import motion, navigate

# Slower than this share of the top speed an agent cannot be driven smoothly: wheels and
# motors are on or off. Below it, it drives at this speed and lets go in between.
_SLOWEST = {"Point": 0.2, "Car": 0.5}
_CYCLE = 30  # steps of driving and letting go
REPLAN = 2  # steps an action is held
# A look-ahead of a second has dead ends. Who has moved less than this many metres in
# this many steps of driving takes a few decisions at random.
_STUCK_DISTANCE = 0.05
_STUCK_STEPS = 60
_ESCAPE_STEPS = 20


class Expert:
    """Base of the experts: `decide` says what to do, this class when to ask it.

    env: the environment, just reset; poses and layouts are read from it.
    agent: ``"Point"`` or ``"Car"``.
    caution: 0 ignores costs, 1 avoids them by wide detours.
    """

    def __init__(self, env, task, behaviour):
        self.env, self.behaviour = env, behaviour
        self.agent = "Point" if task.name.startswith("Point") else "Car"
        self.manoeuvres = motion.of(self.agent, backwards=behaviour.may_reverse)
        speed = max(behaviour.speed, _SLOWEST[self.agent])
        self.driving = behaviour.speed / speed  # share of time
        pace = speed * self.manoeuvres.top_speed
        self.navigator = navigate.Navigator(self.manoeuvres, 0.0, pace)
        self.dare(behaviour.risk)
        self.step = 0
        self._action = np.zeros(2)
        self._mark, self._marked, self._escape = None, 0, 0

    def dare(self, risk: float) -> None:
        """Sets what follows from the dial `risk`; see `dials.Behaviour`."""
        # The slow stay longer where it costs; the same risk makes them more careful.
        speed = self.navigator.pace / self.manoeuvres.top_speed
        self.risk = risk
        self.caution = max(0.0, 1.0 - risk * (0.6 + 0.4 * speed))
        self.avoidance = 8.0 * self.caution**2
        room = 0.1 + self.behaviour.clearance
        self.navigator.margin = 0.03 + room * self.caution

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Returns the action `[2]` of this step."""
        if self.step % REPLAN == 0:
            pose = self.env.pose()
            action = self.decide(pose[:2], pose[2], observation[3:5], pose[3:5])
            is_off = self.step % _CYCLE >= self.driving * _CYCLE
            rests = is_off and self.may_rest(pose[:2])
            if not rests and self._is_stuck(pose[:2]):
                action = self._wild_action()
            self._action = np.zeros(2) if rests else action
        self.step += 1
        return self._action

    def _is_stuck(self, position) -> bool:
        if self._mark is None or np.hypot(*(position - self._mark)) > _STUCK_DISTANCE:
            self._mark, self._marked = position, self.step
        elif self.step - self._marked >= _STUCK_STEPS / self.driving:
            self._marked, self._escape = self.step, self.step + _ESCAPE_STEPS
        return self.step < self._escape

    def _wild_action(self):
        # A fixed sequence: what an episode does depends on its seed alone.
        actions = self.manoeuvres.actions
        return actions[(self.step // 8 * 7919) % len(actions)].copy()

    def decide(self, position, yaw, velocity, goal) -> np.ndarray:
        """Chooses an action `[2]`.

        position, goal: `[2]` world frame; velocity: `[2]` agent's frame.
        """
        raise NotImplementedError

    def may_rest(self, position) -> bool:
        """Whether standing still here is harmless."""
        del position
        return True
