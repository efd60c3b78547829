"""Settings of DSRL's density filter per task (`dsrl/infos.py`, DENSITY_CFG).

Task -> share of the data that remains -> `Grid`. DSRL thins Safety-Gymnasium data to a
quarter or a half and Bullet data to a half or three quarters; it names no settings for
AntVelocity and HopperVelocity.
"""

from typing import NamedTuple


class Grid(NamedTuple):
    """Bins over the plane of episode cost and return, and how full they may be.

    cost_bins, return_bins: number of bins of equal width.
    most: episodes kept of a fuller bin. least: bins with no more are emptied.
    """

    cost_bins: int
    return_bins: int
    most: int
    least: int


GRIDS: dict[str, dict[float, Grid]] = {
    "CarCircle": {0.5: Grid(10, 50, 5, 2), 0.75: Grid(10, 50, 9, 2)},
    "AntCircle": {0.5: Grid(10, 50, 12, 2), 0.75: Grid(10, 50, 20, 2)},
    "AntRun": {0.5: Grid(10, 50, 6, 2), 0.75: Grid(10, 50, 10, 2)},
    "DroneCircle": {0.5: Grid(10, 50, 10, 2), 0.75: Grid(10, 50, 18, 2)},
    "DroneRun": {0.5: Grid(10, 50, 6, 2), 0.75: Grid(10, 50, 18, 2)},
    "BallCircle": {0.5: Grid(10, 20, 5, 2), 0.75: Grid(10, 30, 10, 2)},
    "BallRun": {0.5: Grid(10, 15, 7, 2), 0.75: Grid(10, 15, 12, 2)},
    "CarRun": {0.5: Grid(10, 20, 6, 2), 0.75: Grid(10, 20, 11, 2)},
    "CarButton1": {0.25: Grid(10, 10, 8, 2), 0.5: Grid(10, 10, 18, 2)},
    "CarButton2": {0.25: Grid(10, 8, 13, 2), 0.5: Grid(10, 8, 28, 2)},
    "CarCircle1": {0.25: Grid(10, 5, 12, 2), 0.5: Grid(10, 5, 28, 2)},
    "CarCircle2": {0.25: Grid(10, 5, 8, 2), 0.5: Grid(10, 5, 18, 2)},
    "CarGoal1": {0.25: Grid(10, 8, 6, 2), 0.5: Grid(10, 8, 13, 2)},
    "CarGoal2": {0.25: Grid(10, 8, 14, 2), 0.5: Grid(10, 8, 30, 2)},
    "CarPush1": {0.25: Grid(10, 6, 16, 2), 0.5: Grid(10, 6, 36, 2)},
    "CarPush2": {0.25: Grid(10, 8, 22, 2), 0.5: Grid(10, 8, 50, 2)},
    "PointButton1": {0.25: Grid(10, 10, 6, 2), 0.5: Grid(10, 10, 13, 2)},
    "PointButton2": {0.25: Grid(10, 8, 12, 2), 0.5: Grid(10, 8, 25, 2)},
    "PointCircle1": {0.25: Grid(10, 5, 12, 2), 0.5: Grid(10, 5, 28, 2)},
    "PointCircle2": {0.25: Grid(10, 5, 10, 2), 0.5: Grid(10, 5, 20, 2)},
    "PointGoal1": {0.25: Grid(10, 8, 7, 2), 0.5: Grid(10, 8, 16, 2)},
    "PointGoal2": {0.25: Grid(10, 6, 14, 2), 0.5: Grid(10, 8, 24, 2)},
    "PointPush1": {0.25: Grid(10, 6, 13, 2), 0.5: Grid(10, 6, 28, 2)},
    "PointPush2": {0.25: Grid(10, 8, 15, 2), 0.5: Grid(10, 8, 34, 2)},
    "HalfCheetahVelocity": {0.25: Grid(10, 10, 12, 2), 0.5: Grid(10, 10, 26, 2)},
    "SwimmerVelocity": {0.25: Grid(10, 10, 7, 2), 0.5: Grid(10, 10, 14, 2)},
    "Walker2dVelocity": {0.25: Grid(10, 10, 10, 2), 0.5: Grid(10, 10, 22, 2)},
}
