"""Distances to a target around round obstacles, over a grid.

An obstacle is a row ``x, y, radius, weight, vx, vy``. The weight is what a metre inside
it costs in metres of detour; the velocity is zero for what stands still.
"""

import functools

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

_CELL = 0.125
# Moves between cells. With knight's moves paths are at most 3 % too long, not 8 %.
_MOVES = ((0, 1), (1, 0), (1, 1), (1, -1), (1, 2), (2, 1), (1, -2), (2, -1))
NONE = np.zeros((0, 6))


def things(rows: np.ndarray, weight: float, *, grown: float = 0.0) -> np.ndarray:
    """Makes obstacles `[k, 6]` at rest of `[k, 3]` x, y, radius.

    Args:
      rows: as `layout()` of an environment gives them.
      weight: metres of detour accepted per metre inside.
      grown: added to the radii.
    """
    obstacles = np.zeros((len(rows), 6))
    obstacles[:, :3] = rows
    obstacles[:, 2] += grown
    obstacles[:, 3] = weight
    return obstacles


def intrusion(gap: np.ndarray, margin: float) -> np.ndarray:
    """1 inside an obstacle and up to 3 cm around it, falling to 0 at the margin."""
    margin = max(margin, 0.031)
    return np.minimum(np.maximum((margin - gap) / (margin - 0.03), 0.0), 1.0)


class Field:
    """Distance to `target` from everywhere."""

    def __init__(self, target, obstacles, margin: float, *, half_width: float = 2.5):
        """target: `[2]`; obstacles: `[k, 6]`, taken to stand still.

        margin: clearance wanted. half_width: of the square covered, in metres; beyond
        it the way leads straight to its edge.
        """
        self._grid = grid = _grid(half_width)
        self._half_width = half_width
        weights = np.ones((grid.size, grid.size))
        for x, y, radius, weight, *_ in obstacles:
            gap = np.hypot(grid.axis[:, None] - x, grid.axis - y) - radius
            np.maximum(weights, 1.0 + weight * intrusion(gap, margin), out=weights)
        field = grid.distances(weights, target)
        # Per cell what bilinear interpolation needs: value and slope on both sides.
        slope = np.diff(field, axis=1, append=0.0)
        low = np.stack([field, slope], -1)
        high = np.roll(low, -1, axis=0)
        self._corners = np.concatenate([low, high], -1).reshape(-1, 4)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Distances `[...]` from points `[..., 2]`."""
        scaled = (points + self._half_width) * (1.0 / _CELL)
        inside = np.minimum(np.maximum(scaled, 0.0), self._grid.size - 1.001)
        beyond = np.abs(scaled - inside)
        cell = inside.astype(np.int64)
        part = inside - cell
        x, y = part[..., 0], part[..., 1]
        corners = self._corners[cell[..., 0] * self._grid.size + cell[..., 1]]
        low = corners[..., 0] + y * corners[..., 1]
        high = corners[..., 2] + y * corners[..., 3]
        return low + x * (high - low) + _CELL * (beyond[..., 0] + beyond[..., 1])


def straight(target: np.ndarray):
    """The field of a target with nothing in the way."""

    def distance(points):
        away = points - target
        return np.sqrt((away * away).sum(-1))

    return distance


@functools.cache
def _grid(half_width: float) -> "_Grid":
    return _Grid(half_width)


class _Grid:
    """Shortest paths over a square grid whose cells have weights."""

    def __init__(self, half_width: float):
        self.half_width = half_width
        self.size = size = round(2 * half_width / _CELL) + 1
        self.axis = np.linspace(-half_width, half_width, size)
        index = np.arange(size**2).reshape(size, size)
        tails, heads, lengths = [], [], []
        for dx, dy in _MOVES:
            tail = index[: size - dx, max(0, -dy) : size - max(0, dy)].ravel()
            tails.append(tail)
            heads.append(tail + dx * size + dy)
            lengths.append(np.full(tail.size, _CELL * np.hypot(dx, dy)))
        self._tails = np.concatenate([*tails, *heads])
        self._heads = np.concatenate([*heads, *tails])
        self._lengths = np.concatenate([*lengths, *lengths])
        # The graph is the same for all weights: keep the order CSR gives the edges.
        self._shape = (size**2, size**2)
        order = np.arange(1, len(self._tails) + 1)
        graph = sparse.csr_matrix((order, (self._tails, self._heads)), self._shape)
        self._order = graph.data - 1
        self._pattern = graph.indices, graph.indptr

    def distances(self, weights: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Weighted distance of every cell to the one at `target`, `[size, size]`."""
        flat = weights.ravel()
        edges = self._lengths * 0.5 * (flat[self._tails] + flat[self._heads])
        graph = sparse.csr_matrix((edges[self._order], *self._pattern), self._shape)
        cell = np.rint((target + self.half_width) / _CELL)
        row, column = np.clip(cell, 0, self.size - 1).astype(int)
        reached = csgraph.dijkstra(graph, indices=row * self.size + column)
        return reached.reshape(self.size, self.size)
