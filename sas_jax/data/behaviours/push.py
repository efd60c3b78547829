"""Push: go behind the box, as seen from the goal, and push it there."""

import numpy as np

from sas_jax.data.behaviours import expert, field

# Half the agent's extent in the direction of driving, metres.
_EXTENT = {"Point": 0.13, "Car": 0.17}
_RETARGET = 10  # steps between distance fields: the box moves, but slowly
_SOLID = 6.0  # weight of what cannot be driven through, whatever the risk
_HALF_WIDTH = 4.0  # of the field: a box may be pushed far out


class Expert(expert.Expert):
    """Pushes the box to one goal after another."""

    def __init__(self, env, task, behaviour):
        super().__init__(env, task, behaviour)
        self.extent = _EXTENT[self.agent]
        self.pace = self.navigator.pace
        layout = env.layout()
        self.costly = np.concatenate(
            [
                field.things(layout["hazards"], self.avoidance),
                field.things(
                    layout["pillars"],
                    max(self.avoidance, _SOLID),
                    grown=self.extent,
                ),
            ]
        )
        self.is_pushing, self.planned = False, -_RETARGET

    def decide(self, position, yaw, velocity, goal):
        """See the base class."""
        box = self.env.layout()["push_box"]
        centre, half = box[0, :2], box[0, 2]
        way = goal - centre
        left = max(float(np.hypot(*way)), 1e-6)
        way = way / left
        across = np.array([-way[1], way[0]])
        offset = position - centre
        behind, aside = -float(offset @ way), float(offset @ across)
        touch = half + self.extent
        # Wider limits to go on pushing than to begin: no dithering at the border.
        limit = 0.9 * half if self.is_pushing else 0.4 * half
        was_pushing = self.is_pushing
        self.is_pushing = 0.0 < behind < touch + 0.5 and abs(aside) < limit
        obstacles = self.costly
        # What is pushed fast slides on past the goal.
        self.navigator.pace = self.pace
        if self.is_pushing:
            # Through the box, across the line it should take: pushing off centre would
            # turn it away, steering over to the other side turns it back.
            target = centre + 0.5 * way - 2.0 * aside * across
            self.navigator.pace = min(self.pace, 0.25 + 0.5 * left)
        else:
            target = centre - (touch + 0.15) * way
            ring = field.things(box, _SOLID, grown=self.extent + 0.02)
            obstacles = np.concatenate([obstacles, ring])
        if (
            was_pushing != self.is_pushing
            or self.is_pushing
            or self.step - self.planned >= _RETARGET
        ):
            self.planned = self.step
            self.navigator.field = (
                field.straight(target)
                if self.is_pushing
                else field.Field(
                    target, obstacles, self.navigator.margin, half_width=_HALF_WIDTH
                )
            )
        return self.navigator.act(position, yaw, velocity, obstacles, reach=0.02)
