"""An episode seen from above: what the map and the clip both draw.

Poses and layouts are plain arrays, as the environment worker delivers them, so that
pictures need neither a simulator nor OpenGL.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from sas_jax.errors import UserError
from sas_jax.report import style


@dataclasses.dataclass(frozen=True)
class Fan:
    """The candidates of one plan, as ways on the map.

    step: at which they were imagined. ways: [N, H, 2] metres. is_in: [N] bool, False
    where the Lyapunov condition said no. chosen: index, -1 where none was.
    """

    step: int
    ways: np.ndarray
    is_in: np.ndarray
    chosen: int


@dataclasses.dataclass(frozen=True)
class EpisodePath:
    """What one episode did.

    pose: [T, 6] agent x, y (metres), yaw (radians), goal x, y, 0; NaN where the task
    has no goal. costs, rewards: [T] of the same steps (rewards may be None). fans: what
    was imagined on the way, in the order of steps.
    Raises `UserError` if the shapes disagree or the agent's position is not finite.
    """

    pose: np.ndarray
    costs: np.ndarray
    rewards: np.ndarray | None = None
    fans: tuple[Fan, ...] = ()

    def __post_init__(self):
        for name in ("pose", "costs", "rewards"):
            if getattr(self, name) is not None:
                array = np.asarray(getattr(self, name), np.float64)
                object.__setattr__(self, name, array)
        if self.pose.ndim != 2 or self.pose.shape[1] != 6 or not len(self.pose):
            raise UserError(f"pose has shape {self.pose.shape}; expected [T, 6], T > 0")
        for name, array in (("costs", self.costs), ("rewards", self.rewards)):
            if array is not None and array.shape != (len(self.pose),):
                raise UserError(
                    f"{name} have shape {array.shape}; expected [{len(self.pose)}]"
                )
        if not np.isfinite(self.pose[:, :3]).all():
            raise UserError("pose has a position or yaw that is not finite")

    def fan_at(self, step: int) -> Fan | None:
        """The plan in hand at a step; None where there is none yet."""
        made = [fan for fan in self.fans if fan.step <= step]
        return made[-1] if made else None

    def goals(self) -> np.ndarray:
        """[G, 2] goal positions in the order in which they were pursued."""
        goals = self.pose[:, 3:5]
        goals = goals[np.isfinite(goals).all(axis=1)]
        if not len(goals):
            return goals
        # A goal stands still until it is replaced; 2 cm is far below its radius.
        moved = np.linalg.norm(np.diff(goals, axis=0), axis=1) > 0.02
        return goals[np.concatenate([[True], moved])]


@dataclasses.dataclass(frozen=True)
class Kind:
    """How a kind of object looks: its shape, colours and name in the legend."""

    shape: str  # disc, ring, square, diamond or wall
    fill: str
    edge: str
    label: str


# In drawing order. Shape differs wherever colour does.
_KINDS = {
    "circle": Kind("ring", "none", "#7FB069", "circle to run"),
    "sigwalls": Kind("wall", "none", style.VERMILION, "boundary"),
    "hazards": Kind("disc", "#BBDDF5", style.BLUE, "hazard"),
    "pillars": Kind("disc", "#5A5A66", "#33333B", "pillar"),
    "buttons": Kind("disc", "#F6D48F", "#B07A00", "button"),
    "goal": Kind("disc", "#BFE5D3", style.GREEN, "goal"),
    "push_box": Kind("square", "#F1E58A", "#8A7A00", "box (start)"),
    "vases": Kind("square", "#CFE9E5", "#3A8F85", "vase (start)"),
    "gremlins": Kind("diamond", "#E8CBDD", "#A14F80", "gremlin (start)"),
}
GOAL = _KINDS["goal"]


def objects(
    layout: Mapping[str, np.ndarray],
) -> list[tuple[str, Kind, np.ndarray]]:
    """(name, look, [k, 3] of x, y, radius) in drawing order.

    The goal is left out: it moves, and `EpisodePath.goals` knows where. Names that are
    not known are drawn as grey discs. Raises `UserError` for an array that is not
    [k, 3] or not finite.
    """
    found = []
    unknown = sorted(set(layout) - set(_KINDS))
    for name in [*(k for k in _KINDS if k in layout and k != "goal"), *unknown]:
        array = np.asarray(layout[name], np.float64)
        if array.size == 0:
            continue
        if array.ndim != 2 or array.shape[1] != 3 or not np.isfinite(array).all():
            raise UserError(
                f"layout {name!r} has shape {array.shape}; expected finite [k, 3] "
                "rows of x, y, radius"
            )
        label = name.replace("_", " ")
        kind = _KINDS.get(name, Kind("disc", "#E4E4E4", "#888888", label))
        found.append((name, kind, array))
    return found


def goal_radius(layout: Mapping[str, np.ndarray]) -> float:
    """The goal's radius in metres; Safety-Gymnasium's 0.3 where none is given."""
    goal = np.asarray(layout.get("goal", ()), np.float64)
    return float(goal[0, 2]) if goal.ndim == 2 and len(goal) else 0.3


def wall_ends(wall: np.ndarray) -> np.ndarray:
    """[2, 2] end points of a boundary wall given as x, y, half length.

    A wall stands across the line from the origin to its middle, as the Circle tasks
    place them.
    """
    x, y, half = wall
    along = np.array([-y, x]) / max(np.hypot(x, y), 1e-9)
    return np.array([[x, y] - half * along, [x, y] + half * along])


def view(layout: Mapping[str, np.ndarray], paths: Mapping[str, EpisodePath]):
    """The square to show: (x min, x max, y min, y max), the same for every panel.

    It holds all objects, goals and paths, except that an agent that runs away does not
    shrink the rest beyond a factor of two.
    """
    corners = [np.zeros((1, 2))]
    for name, _, array in objects(layout):
        if name != "sigwalls":
            corners += [array[:, :2] - array[:, 2:], array[:, :2] + array[:, 2:]]
    for path in paths.values():
        goals, radius = path.goals(), goal_radius(layout)
        corners += [goals - radius, goals + radius, path.pose[:1, :2]]
    fixed = np.concatenate(corners)
    low, high = fixed.min(axis=0), fixed.max(axis=0)
    middle, reach = (low + high) / 2, max(*(high - low) / 2, 1.0)
    for path in paths.values():
        away = np.abs(path.pose[:, :2] - middle).max()
        reach = max(reach, min(away, 2 * max(*(high - low) / 2, 1.0)))
    reach = reach * 1.06 + 0.1
    x, y = middle
    return float(x - reach), float(x + reach), float(y - reach), float(y + reach)
