"""A look-ahead planner that drives to a point around round obstacles.

It is a privileged expert: it reads where things are from the simulator, not from the
lidars. Data collection may do that; whoever learns from the data sees observations.

A distance field (`field`) says which way round to go; a table of short
manoeuvres (`motion`) says what is possible now. The manoeuvre with the best
end and path is begun, and the choice made anew a moment later.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from sas_jax.data.behaviours import field, motion

# The end of a path counts once, its mean this many times. Judged by the end alone,
# waiting and then going is as good as going, at every moment anew.
_MEAN_WEIGHT = 4.0
_LEAD = 0.15  # seconds ahead of each moment at which the distance is read
_LEVER = 0.2  # metres ahead and behind at which headings are compared
_OVERSPEED = 2.0  # metres of detour accepted to be one metre per second slower


@dataclasses.dataclass
class Navigator:
    """Drives one agent.

    manoeuvres: what the agent can do.
    margin: clearance wanted from obstacles, metres.
    pace: speed not to exceed, metres per second.
    field: distance to the target, ``[..., 2] -> [...]``; set it before acting.
    """

    manoeuvres: motion.Manoeuvres
    margin: float
    pace: float
    field: Callable[[np.ndarray], np.ndarray] | None = None

    def act(self, position, yaw, velocity, obstacles, *, reach: float, extra=None):
        """Chooses what to do now.

        Args:
          position: `[2]`, world frame.
          yaw: heading.
          velocity: `[2]`, agent's frame.
          obstacles: `[k, 6]`, see `field`.
          reach: distance at which the target counts as reached.
          extra: more costs of paths, `[K, J, 2]` -> `[K]` metres.

        Returns:
          Action `[2]`, each -1, 0 or 1.
        """
        manoeuvres = self.manoeuvres
        paths, speeds = manoeuvres.paths(position, yaw, velocity)
        left = np.maximum(self.field(paths + _LEAD * speeds) - reach, 0.0)
        has_arrived = np.minimum.accumulate(left, axis=-1) == 0.0
        left[has_arrived] = 0.0
        score = left[:, -1] + _MEAN_WEIGHT * left.mean(-1)
        score += np.where(has_arrived[:, -1], 0.0, self._turning(paths[:, -1], yaw))
        over = np.hypot(speeds[:, 1, 0], speeds[:, 1, 1]) - self.pace
        score += _OVERSPEED * np.maximum(over, 0.0)
        # Nothing further away can be met within the manoeuvres' horizon.
        horizon = 1.2 * manoeuvres.top_speed * manoeuvres.times[-1] + self.margin
        away = obstacles[:, :2] - position
        near = (away * away).sum(-1) < (horizon + obstacles[:, 2]) ** 2
        if near.any():
            score += self._trespass(paths, obstacles[near])
        if extra is not None:
            score += extra(paths)
        return manoeuvres.actions[int(np.argmin(score))].copy()

    def _trespass(self, paths: np.ndarray, obstacles: np.ndarray) -> np.ndarray:
        """What the paths' moments within obstacles cost, `[K]` metres."""
        x, y = paths[..., 0], paths[..., 1]
        times = self.manoeuvres.times
        worst = np.zeros(x.shape)
        for at_x, at_y, radius, weight, speed_x, speed_y in obstacles:
            dx, dy = x - (at_x + speed_x * times), y - (at_y + speed_y * times)
            gap = np.sqrt(dx * dx + dy * dy) - radius
            inside = field.intrusion(gap, self.margin)
            np.maximum(worst, weight * inside, out=worst)
        return self.pace * (times[1] - times[0]) * worst.sum(-1)

    def _turning(self, ends: np.ndarray, yaw: float) -> np.ndarray:
        """What turning towards the way on will still cost, `[K]` metres.

        Zero where the way on lies straight ahead, or behind for who drives backwards.
        """
        lever = _LEVER * self.manoeuvres.heading @ motion.rotation(yaw).T
        best = self.field(ends + lever)
        if self.manoeuvres.drives_backwards:
            best = np.minimum(best, self.field(ends - lever))
        return np.maximum(_LEVER + best - self.field(ends), 0.0)
