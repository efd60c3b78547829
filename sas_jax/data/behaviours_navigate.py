"""A look-ahead planner that drives to a point around round obstacles.

It is a privileged expert: it reads where things are from the simulator, not from the
lidars. Data collection may do that; whoever learns from the data sees observations.

A distance field to the target over a grid, whose cells cost more near obstacles, says
which way round to go; a table of short manoeuvres says what is possible now. The
manoeuvre with the best end (and path) is begun, and the choice repeated every step.
"""

import dataclasses

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from sas_jax.data import behaviours_motion

_HALF_WIDTH = 2.5  # of the grid, metres; layouts reach 2
_CELL = 0.125


@dataclasses.dataclass(frozen=True)
class Temper:
    """What a navigator wants.

    avoidance: metres of detour accepted per metre inside an obstacle; 0 ignores them.
    margin: clearance from obstacles, metres.
    speed: share of the top speed not to exceed.
    """

    avoidance: float
    margin: float
    speed: float


class Grid:
    """Shortest paths over a square grid whose cells have weights."""

    def __init__(self):
        self.size = round(2 * _HALF_WIDTH / _CELL) + 1
        axis = np.linspace(-_HALF_WIDTH, _HALF_WIDTH, self.size)
        self.points = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
        index = np.arange(self.size**2).reshape(self.size, self.size)
        # Knight's moves as well: paths then are at most 3 % too long, not 8 %.
        moves = [(0, 1), (1, 0), (1, 1), (1, -1), (1, 2), (2, 1), (1, -2), (2, -1)]
        tails, heads, lengths = [], [], []
        for dx, dy in moves:
            rows = slice(0, self.size - dx), slice(dx, None)
            columns = (
                (slice(0, self.size - dy), slice(dy, None))
                if dy >= 0
                else (slice(-dy, None), slice(0, self.size + dy))
            )
            tails.append(index[rows[0], columns[0]].ravel())
            heads.append(index[rows[1], columns[1]].ravel())
            lengths.append(np.full(tails[-1].size, _CELL * np.hypot(dx, dy)))
        self.tails = np.concatenate([*tails, *heads])
        self.heads = np.concatenate([*heads, *tails])
        self.lengths = np.concatenate([*lengths, *lengths])
        # The order in which CSR keeps the edges, so that weights can be replaced.
        order = np.arange(len(self.tails))
        shape = (self.size**2, self.size**2)
        graph = sparse.csr_matrix((order + 1, (self.tails, self.heads)), shape)
        self.order, self.indices, self.indptr = (
            graph.data - 1,
            graph.indices,
            graph.indptr,
        )
        self.shape = shape

    def distances(self, weights: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Weighted distance of every cell to `target`, `[size, size]`."""
        flat = weights.ravel()
        edges = self.lengths * 0.5 * (flat[self.tails] + flat[self.heads])
        graph = sparse.csr_matrix(
            (edges[self.order], self.indices, self.indptr), self.shape
        )
        cell = np.clip(np.rint((target + _HALF_WIDTH) / _CELL), 0, self.size - 1)
        source = int(cell[0]) * self.size + int(cell[1])
        return csgraph.dijkstra(graph, indices=source).reshape(self.size, self.size)


class Navigator:
    """Drives to a target that may change, around obstacles that may move."""

    def __init__(self, manoeuvres: behaviours_motion.Manoeuvres, temper: Temper):
        self.manoeuvres, self.temper = manoeuvres, temper
        self.grid = Grid()
        self.corners = None
        self.heading_weight = 1.0
        # A manoeuvre's path is judged at these times; time itself costs what driving
        # at this speed would have gained.
        pace = manoeuvres.top_speed * temper.speed
        self.time_cost = 0.8 * pace * manoeuvres.times
        self.pace = pace
        # Nothing beyond this distance can be met within the manoeuvres' horizon.
        self.range = 1.2 * manoeuvres.top_speed * manoeuvres.times[-1] + temper.margin
        self.spacing = float(manoeuvres.times[1] - manoeuvres.times[0])

    def plan(self, target: np.ndarray, obstacles: np.ndarray) -> None:
        """Prepares for a new target.

        Args:
          target: `[2]`.
          obstacles: `[k, 3]` x, y, radius of what stands still.
        """
        weights = np.ones((self.grid.size, self.grid.size))
        if len(obstacles) and self.temper.avoidance > 0:
            gap = self.grid.points[:, :, None] - obstacles[:, :2]
            gap = np.hypot(gap[..., 0], gap[..., 1]) - obstacles[:, 2]
            weights += self.temper.avoidance * self._intrusion(gap.min(-1))
        field = self.grid.distances(weights, target)
        # Per cell what bilinear interpolation needs: value and y-slope on both sides.
        slope = np.diff(field, axis=1, append=0.0)
        low = np.stack([field, slope], -1)
        high = np.roll(low, -1, axis=0)
        self.corners = np.concatenate([low, high], -1).reshape(-1, 4)

    def act(self, position, yaw, velocity, obstacles, *, reach: float = 0.25):
        """Chooses the action of this step.

        Args:
          position: `[2]`, world frame.
          yaw: heading.
          velocity: `[2]`, agent's frame.
          obstacles: `[k, 3]` or `[k, 5]` x, y, radius (and velocity) now.
          reach: distance at which the target counts as reached.

        Returns:
          Action `[2]`, each -1, 0 or 1 (turns of the Point also +-0.5).
        """
        paths, speeds = self.manoeuvres.paths(position, yaw, velocity)
        # Where it would be a little after each moment: rewards speed in a good way.
        left = np.maximum(self._distance(paths + 0.15 * speeds) - reach, 0.0)
        has_arrived = np.minimum.accumulate(left, axis=-1) == 0.0
        left[has_arrived] = 0.0
        # The mean makes early progress count: judged by the end alone, waiting and then
        # going is as good as going, at every step anew.
        score = left[:, -1] + 4.0 * left.mean(-1)
        score += np.where(has_arrived[:, -1], 0.0, self._turning(paths[:, -1], yaw))
        over = np.hypot(speeds[:, 1, 0], speeds[:, 1, 1]) - self.pace
        score += 2.0 * np.maximum(over, 0.0)
        if self.temper.avoidance > 0:
            away = obstacles[:, :2] - position
            near = (away * away).sum(-1) < (self.range + obstacles[:, 2]) ** 2
            if near.any():
                entered = self._entered(paths, obstacles[near])
                score += self.temper.avoidance * self.pace * self.spacing * entered
        return self.manoeuvres.actions[int(np.argmin(score))].copy()

    def _entered(self, paths: np.ndarray, obstacles: np.ndarray) -> np.ndarray:
        """How many moments of each path lie within an obstacle, `[K]`."""
        x, y = paths[..., 0], paths[..., 1]
        times = self.manoeuvres.times
        nearest = np.full(x.shape, np.inf)
        for obstacle in obstacles:
            centre_x, centre_y, radius = obstacle[:3]
            if len(obstacle) == 5:
                centre_x = centre_x + obstacle[3] * times
                centre_y = centre_y + obstacle[4] * times
            dx, dy = x - centre_x, y - centre_y
            np.minimum(nearest, np.sqrt(dx * dx + dy * dy) - radius, out=nearest)
        return self._intrusion(nearest).sum(-1)

    def _intrusion(self, gap: np.ndarray) -> np.ndarray:
        """1 inside an obstacle (and 3 cm around it), falling to 0 at the margin."""
        margin = max(self.temper.margin, 0.031)
        return np.clip((margin - gap) / (margin - 0.03), 0.0, 1.0)

    def _distance(self, points: np.ndarray) -> np.ndarray:
        """The field at `[..., 2]` points, bilinear; beyond the grid straight on."""
        scaled = (points + _HALF_WIDTH) * (1.0 / _CELL)
        inside = np.minimum(np.maximum(scaled, 0.0), self.grid.size - 1.001)
        beyond = np.abs(scaled - inside)
        cell = inside.astype(np.int64)
        part = inside - cell
        x, y = part[..., 0], part[..., 1]
        row = cell[..., 0] * self.grid.size + cell[..., 1]
        table = self.corners[row]
        low = table[..., 0] + y * table[..., 1]
        high = table[..., 2] + y * table[..., 3]
        return low + x * (high - low) + _CELL * (beyond[..., 0] + beyond[..., 1])

    def _turning(self, ends: np.ndarray, yaw: float) -> np.ndarray:
        """What turning towards the way on will still cost, `[K]` metres.

        Zero where the way on lies straight ahead or behind (both agents reverse).
        """
        headings = 0.2 * self.manoeuvres.heading @ behaviours_motion.rotation(yaw).T
        best = np.minimum(
            self._distance(ends + headings), self._distance(ends - headings)
        )
        return self.heading_weight * np.maximum(0.2 + best - self._distance(ends), 0.0)
