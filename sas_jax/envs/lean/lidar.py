"""The pseudo lidar of Safety-Gymnasium in plain floats.

Arrays of ten points do not repay numpy's calls; a loop over Python floats does.
"""

import math

NUM_BINS = 16
_BIN = 2 * math.pi / NUM_BINS


def scan(points, origin, rotation, max_dist: float) -> list[float]:
    """Reads one lidar.

    points: [(x, y), ...] in the world; they are taken to lie at height 0.
    origin: (x, y, z) of the agent.
    rotation: its 9 rotation matrix entries, row by row.
    max_dist: distance from which a point is no longer seen.

    Returns 16 readings. Bin i covers the angles [22.5 i, 22.5 (i + 1)) degrees from the
    agent's x axis and holds ``1 - distance / max_dist`` of its nearest point. A point
    also shows in the two neighbouring bins, in proportion to how near it is to them.
    """
    bins = [0.0] * NUM_BINS
    x0, y0, z0 = origin
    r0, r1, _, r3, r4, _, r6, r7, _ = rotation
    base_x, base_y = z0 * r6, z0 * r7
    for x, y in points:
        dx, dy = x - x0, y - y0
        ego_x = dx * r0 + dy * r3 - base_x
        ego_y = dx * r1 + dy * r4 - base_y
        dist = math.hypot(ego_x, ego_y)
        if dist >= max_dist:
            continue
        near = (max_dist - dist) / max_dist
        place = (math.atan2(ego_y, ego_x) % (2 * math.pi)) / _BIN
        index = int(place)
        share = place - index
        index %= NUM_BINS  # an angle a rounding error below 360 degrees
        if near > bins[index]:
            bins[index] = near
        above, below = (index + 1) % NUM_BINS, index - 1
        if share * near > bins[above]:
            bins[above] = share * near
        if (1 - share) * near > bins[below]:
            bins[below] = (1 - share) * near
    return bins
