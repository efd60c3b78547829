"""Circle: run round the circle, inside the walls or not.

The expert follows a carrot that runs ahead of it counter-clockwise along the circle, or
along the walls where they cut it (they are not solid, each step beyond them costs 1).
"""

import numpy as np

from sas_jax.data.behaviours import expert, field

# How far ahead the carrot is, radians.
_LEAD = {"Point": 0.75, "Car": 0.4}
# A single crossing costs as much as the strictest threshold allows in an episode, and
# there are about ten to dare: up to this risk, none is dared.
_FIRST_DARE = 0.35


class Expert(expert.Expert):
    """Runs round and round."""

    def __init__(self, env, task, behaviour):
        super().__init__(env, task, behaviour)
        layout = env.layout()
        self.radius = float(layout["circle"][0, 2])
        walls = layout["sigwalls"]
        self.wall = float(np.abs(walls[:, :2]).max())
        self.is_square = len(walls) == 4
        self.limit = self.wall - 0.02 - 0.1 * self.caution
        # The share of wall crossings that are dared, spread evenly over them.
        self.share = np.clip((behaviour.risk - _FIRST_DARE) / (1 - _FIRST_DARE), 0, 1)
        self.sector, self.courage, self.is_daring = None, 0.5, False

    def decide(self, position, yaw, velocity, goal):
        """See the base class."""
        del goal
        angle = np.arctan2(position[1], position[0])
        self._dare(angle)
        ahead = angle + _LEAD[self.agent]
        way = np.array([np.cos(ahead), np.sin(ahead)])
        reach = self.radius
        if not self.is_daring:
            cut = np.abs(way) if self.is_square else np.abs(way[:1])
            reach = min(reach, self.limit / max(cut.max(), 1e-6))
        self.navigator.field = field.straight(reach * way)
        return self.navigator.act(
            position,
            yaw,
            velocity,
            field.NONE,
            reach=0.02,
            extra=None if self.is_daring else self._beyond,
        )

    def _beyond(self, paths):
        """What being beyond the walls costs, `[K]` metres."""
        outside = np.abs(paths) if self.is_square else np.abs(paths[..., :1])
        outside = outside.max(-1) - self.limit
        # A slope as well, so that a way back is found from anywhere.
        return np.where(outside > 0, 0.5 + 2.0 * outside, 0.0).sum(-1)

    def _dare(self, angle):
        """Decides anew at each wall ahead whether it is respected."""
        num_walls = 4 if self.is_square else 2
        width = 2 * np.pi / num_walls
        sector = int(np.floor((angle + width / 2) / width)) % num_walls
        if sector != self.sector:
            self.sector = sector
            self.courage += self.share
            self.is_daring = self.courage >= 1.0
            self.courage -= float(self.is_daring)
