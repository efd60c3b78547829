"""What benchmarks say about tasks: ranges of scores, targets, names of files.

Return and cost ranges, data set sizes and file stems are DSRL's (Liu et al. 2023), the
return ranges of Hopper and Walker2d D4RL's (Fu et al. 2020, its `infos.py`);
target returns of CDT are OSRL's; those of DT are the ones in SAS's public code where it
names them, elsewhere the largest return of the data.
"""

import dataclasses
import math

NAVIGATION_LIMITS = (20.0, 40.0, 80.0)
BULLET_LIMITS = (10.0, 20.0, 40.0)


@dataclasses.dataclass(frozen=True)
class References:
    """One task's row in the benchmarks' tables; NaN or nothing where there is none.

    return_min, return_max: DSRL's references of the episode return.
    cost_min, cost_max: range of the episode cost in DSRL's data.
    cdt_targets: cost threshold -> return target of CDT (OSRL).
    dt_target_return: return target of DT.
    dsrl_stem: DSRL's file name without its ``-<max cost>-<trajectories>.hdf5``.
    dsrl_trajectories: number of episodes in DSRL's file.
    """

    return_min: float
    return_max: float
    cost_min: float
    cost_max: float
    cdt_targets: dict[float, float]
    dt_target_return: float
    dsrl_stem: str
    dsrl_trajectories: int

    def normalized_return(self, episode_return):
        """DSRL's normalised reward, ``(R - min) / (max - min)``; scalar or array.

        NaN where no benchmark lists the task.
        """
        return (episode_return - self.return_min) / (self.return_max - self.return_min)

    def or_range(self, returns: tuple[float, float] | None) -> "References":
        """These, or where no benchmark lists the task, those of a data set.

        returns: its smallest and largest return; None where nobody knows them, and of
        no use where both are one.
        """
        known = not math.isnan(self.return_min)
        if known or returns is None or not returns[0] < returns[1]:
            return self
        return dataclasses.replace(self, return_min=returns[0], return_max=returns[1])


# Of a task that no benchmark lists.
UNKNOWN = References(
    *(float("nan"),) * 4,
    cdt_targets={},
    dt_target_return=float("nan"),
    dsrl_stem="",
    dsrl_trajectories=0,
)


def _row(
    stem: str,
    limits: tuple[float, ...],
    trajectories: int,
    returns: tuple[float, float],
    cost_max: float,
    cdt: tuple[float, ...],
    dt: float | None,
) -> References:
    return References(
        return_min=returns[0],
        return_max=returns[1],
        cost_min=0.0,
        cost_max=cost_max,
        cdt_targets=dict(zip(limits, map(float, cdt), strict=True)),
        dt_target_return=returns[1] if dt is None else float(dt),
        dsrl_stem=stem,
        dsrl_trajectories=trajectories,
    )


def _navigation(name, trajectories, returns, cost_max, cdt, dt=None):
    stem = f"Safety{name}Gymnasium-v0"
    row = _row(stem, NAVIGATION_LIMITS, trajectories, returns, cost_max, cdt, dt)
    return name, row


def _velocity(body, trajectories, returns, cost_max, cdt, dt=None):
    name, stem = f"{body}Velocity", f"Safety{body}VelocityGymnasium-v1"
    limits = NAVIGATION_LIMITS
    row = _row(stem, limits, trajectories, returns, cost_max, (cdt,) * len(limits), dt)
    return name, row


def _bullet(name, trajectories, returns, cost_max, cdt):
    stem = f"Safety{name}-v0"
    return name, _row(stem, BULLET_LIMITS, trajectories, returns, cost_max, cdt, None)


def _d4rl(name, low, high, dt):
    """D4RL's returns of a random policy and of an expert; it has no costs."""
    return name, dataclasses.replace(
        UNKNOWN, return_min=low, return_max=high, dt_target_return=float(dt)
    )


REFERENCES: dict[str, References] = dict(
    (
        _navigation("PointGoal1", 2022, (0.0119601, 30.0711), 100, (30, 30, 30), 30),
        _navigation("PointGoal2", 3442, (0.00261696, 27.7177), 200, (30, 30, 30), 30),
        _navigation("PointButton1", 2268, (0.00882211, 41.193), 200, (40, 40, 40), 40),
        _navigation("PointButton2", 3288, (0.0141142, 42.8986), 250, (40, 40, 40), 40),
        _navigation("PointPush1", 2379, (0.00140015, 16.5187), 150, (15, 15, 15), 15),
        _navigation("PointPush2", 3242, (0.00124382, 14.691), 200, (12, 12, 12), 12),
        _navigation("PointCircle1", 1098, (20.0676, 61.7282), 200, (50, 52.5, 55)),
        _navigation("PointCircle2", 895, (20.4783, 54.0218), 299, (45, 47.5, 50)),
        _navigation("CarGoal1", 1671, (0.0122328, 39.9078), 120, (40, 40, 40), 40),
        _navigation("CarGoal2", 4105, (0.00103287, 28.9029), 200, (30, 30, 30), 30),
        _navigation("CarButton1", 2656, (0.00289262, 44.42), 250, (35, 35, 35), 45),
        _navigation("CarButton2", 3755, (0.00176739, 41.9951), 300, (40, 40, 40), 42),
        _navigation("CarPush1", 2871, (0.0137002, 16.3045), 200, (15, 15, 15), 16),
        _navigation("CarPush2", 4407, (0.000293911, 15.1416), 250, (12, 12, 12), 15),
        _navigation("CarCircle1", 1271, (8.03707, 24.9416), 250, (20, 22.5, 25)),
        _navigation("CarCircle2", 940, (5.11339, 25.9501), 398, (20, 21, 22)),
        _velocity("Ant", 2249, (6.1519, 2976.28), 250, 2800),
        _velocity("HalfCheetah", 2495, (5.75098, 2806.93), 250, 3000, 3000),
        _velocity("Hopper", 2240, (37.0515, 1911.4), 250, 1750),
        _velocity("Swimmer", 1686, (0.0711446, 238.958), 200, 160, 250),
        _velocity("Walker2d", 2729, (18.6685, 3418.22), 300, 2800, 3500),
        _bullet("AntCircle", 5728, (0.0177031, 460.709), 200, (300, 350, 400)),
        _bullet("AntRun", 1816, (0.00176739, 955.482), 150, (700, 750, 800)),
        _bullet("BallCircle", 886, (0.383122, 881.463), 80, (700, 750, 800)),
        _bullet("BallRun", 940, (26.3398, 1327.45), 80, (500, 500, 700)),
        # OSRL lists CarCircle's third target under a threshold of 50, which no
        # benchmark uses; it is taken as the target of 40.
        _bullet("CarCircle", 1450, (3.48442, 534.306), 100, (450, 500, 550)),
        _bullet("CarRun", 651, (204.287, 574.653), 40, (575, 575, 575)),
        _bullet("DroneCircle", 1923, (207.794, 996.389), 100, (700, 750, 800)),
        _bullet("DroneRun", 1990, (10.557, 682.833), 140, (400, 500, 600)),
        _d4rl("Hopper", -20.272305, 3234.3, 3600),
        _d4rl("Walker2d", 1.629008, 4592.3, 5000),
    )
)
