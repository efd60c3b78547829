"""The registry of tasks: names, sizes and the references that scores are scaled by.

Return and cost references, data set sizes and file stems are DSRL's (Liu et al. 2023);
target returns of CDT are OSRL's; those of DT are the ones in SAS's public code where it
names them. The five MetaDrive maps times densities of DSRL are left out on purpose:
their simulator installs on no Python that the rest of this project runs on.
"""

import dataclasses
import re

from sas_jax.errors import UserError, nearest

NAVIGATION_LIMITS = (20.0, 40.0, 80.0)
BULLET_LIMITS = (10.0, 20.0, 40.0)
LIDAR_BINS = 16

# Sensors of the two navigation agents, in the order of the observation vector.
_POINT_SENSORS = (
    ("accelerometer", 3),
    ("velocimeter", 3),
    ("gyro", 3),
    ("magnetometer", 3),
)
_SENSORS = {
    "Point": _POINT_SENSORS,
    "Car": (*_POINT_SENSORS, ("ballangvel_rear", 3), ("ballquat_rear", 9)),
}
# Lidars of the four navigation families, in the order of the observation vector.
_LIDARS = {
    "Goal": ("goal", "hazards", "vases"),
    "Button": ("buttons", "goal", "hazards", "gremlins"),
    "Push": ("goal", "hazards", "pillars", "push_box"),
    "Circle": ("circle",),
}


@dataclasses.dataclass(frozen=True)
class Task:
    """One task of the benchmark.

    name: short name, ``"PointGoal1"``.
    suite: ``"safety-gymnasium"`` or ``"bullet-safety-gym"``.
    env_id: id under which the suite registers the environment.
    obs_dim, action_dim: sizes O and A; actions lie in [-1, 1].
    episode_steps: steps after which an episode is truncated.
    return_min, return_max: DSRL's references of the episode return.
    cost_min, cost_max: range of the episode cost in DSRL's data.
    cost_limits: thresholds of the benchmark.
    cdt_targets: threshold -> return target of CDT (OSRL).
    dt_target_return: return target of DT.
    max_step_cost: largest cost of one step. Every suite here reports an indicator.
    dsrl_stem: DSRL's file name without its ``-<max cost>-<trajectories>.hdf5``.
    dsrl_trajectories: number of episodes in DSRL's file.
    obs_groups: name -> slice of the observation, in order; empty where the suite
        documents no structure.
    """

    name: str
    suite: str
    env_id: str
    obs_dim: int
    action_dim: int
    episode_steps: int
    return_min: float
    return_max: float
    cost_min: float
    cost_max: float
    cost_limits: tuple[float, ...]
    cdt_targets: dict[float, float]
    dt_target_return: float
    max_step_cost: float
    dsrl_stem: str
    dsrl_trajectories: int
    obs_groups: dict[str, slice] = dataclasses.field(default_factory=dict)

    def normalized_return(self, episode_return):
        """DSRL's normalised reward, ``(R - min) / (max - min)``; scalar or array."""
        return (episode_return - self.return_min) / (self.return_max - self.return_min)

    def normalized_cost(self, episode_cost, limit: float):
        """DSRL's normalised cost, ``(C + eps) / (limit + eps)``; at most 1 is safe.

        eps is 1 for the threshold 0 and 0 otherwise, as in DSRL.

        Raises:
          UserError: the threshold is negative or not finite.
        """
        if not 0.0 <= limit < float("inf"):
            raise UserError(f"cost limit {limit!r}: expected a number >= 0")
        eps = 1.0 if limit == 0 else 0.0
        return (episode_cost + eps) / (limit + eps)


def _navigation(
    name: str,
    trajectories: int,
    returns: tuple[float, float],
    cost_max: float,
    cdt: tuple[float, float, float],
    dt: float | None = None,
) -> Task:
    """A Point or Car task of Safety-Gymnasium."""
    agent, family = re.fullmatch(
        r"(Point|Car)(Goal|Button|Push|Circle)\d", name
    ).groups()
    groups, start = {}, 0
    lidars = ((f"{k}_lidar", LIDAR_BINS) for k in _LIDARS[family])
    for key, size in (*_SENSORS[agent], *lidars):
        groups[key] = slice(start, start + size)
        start += size
    return Task(
        name=name,
        suite="safety-gymnasium",
        env_id=f"Safety{name}-v0",
        obs_dim=start,
        action_dim=2,
        episode_steps=500 if family == "Circle" else 1000,
        return_min=returns[0],
        return_max=returns[1],
        cost_min=0.0,
        cost_max=cost_max,
        cost_limits=NAVIGATION_LIMITS,
        cdt_targets=dict(zip(NAVIGATION_LIMITS, map(float, cdt), strict=True)),
        dt_target_return=returns[1] if dt is None else float(dt),
        max_step_cost=1.0,
        dsrl_stem=f"Safety{name}Gymnasium-v0",
        dsrl_trajectories=trajectories,
        obs_groups=groups,
    )


def _velocity(
    body: str,
    sizes: tuple[int, int],
    trajectories: int,
    returns: tuple[float, float],
    cost_max: float,
    cdt: float,
    dt: float | None = None,
) -> Task:
    """A Velocity task of Safety-Gymnasium; cost is 1 above the speed threshold."""
    return Task(
        name=f"{body}Velocity",
        suite="safety-gymnasium",
        env_id=f"Safety{body}Velocity-v1",
        obs_dim=sizes[0],
        action_dim=sizes[1],
        episode_steps=1000,
        return_min=returns[0],
        return_max=returns[1],
        cost_min=0.0,
        cost_max=cost_max,
        cost_limits=NAVIGATION_LIMITS,
        cdt_targets=dict.fromkeys(NAVIGATION_LIMITS, float(cdt)),
        dt_target_return=returns[1] if dt is None else float(dt),
        max_step_cost=1.0,
        dsrl_stem=f"Safety{body}VelocityGymnasium-v1",
        dsrl_trajectories=trajectories,
    )


def _bullet(
    name: str,
    sizes: tuple[int, int],
    episode_steps: int,
    trajectories: int,
    returns: tuple[float, float],
    cost_max: float,
    cdt: tuple[float, float, float],
) -> Task:
    """A task of bullet-safety-gym, which runs on Python 3.11 only."""
    return Task(
        name=name,
        suite="bullet-safety-gym",
        env_id=f"Safety{name}-v0",
        obs_dim=sizes[0],
        action_dim=sizes[1],
        episode_steps=episode_steps,
        return_min=returns[0],
        return_max=returns[1],
        cost_min=0.0,
        cost_max=cost_max,
        cost_limits=BULLET_LIMITS,
        cdt_targets=dict(zip(BULLET_LIMITS, map(float, cdt), strict=True)),
        dt_target_return=returns[1],
        max_step_cost=1.0,
        dsrl_stem=f"Safety{name}-v0",
        dsrl_trajectories=trajectories,
    )


_ALL = (
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
    _velocity("Ant", (27, 8), 2249, (6.1519, 2976.28), 250, 2800),
    _velocity("HalfCheetah", (17, 6), 2495, (5.75098, 2806.93), 250, 3000, 3000),
    _velocity("Hopper", (11, 3), 2240, (37.0515, 1911.4), 250, 1750),
    _velocity("Swimmer", (8, 2), 1686, (0.0711446, 238.958), 200, 160, 250),
    _velocity("Walker2d", (17, 6), 2729, (18.6685, 3418.22), 300, 2800, 3500),
    _bullet(
        "AntCircle", (34, 8), 500, 5728, (0.0177031, 460.709), 200, (300, 350, 400)
    ),
    _bullet("AntRun", (33, 8), 200, 1816, (0.00176739, 955.482), 150, (700, 750, 800)),
    _bullet("BallCircle", (8, 2), 200, 886, (0.383122, 881.463), 80, (700, 750, 800)),
    _bullet("BallRun", (7, 2), 100, 940, (26.3398, 1327.45), 80, (500, 500, 700)),
    # OSRL lists CarCircle's third target under a threshold of 50, which no benchmark
    # uses; it is taken as the target of 40.
    _bullet("CarCircle", (8, 2), 300, 1450, (3.48442, 534.306), 100, (450, 500, 550)),
    _bullet("CarRun", (7, 2), 200, 651, (204.287, 574.653), 40, (575, 575, 575)),
    _bullet(
        "DroneCircle", (18, 4), 300, 1923, (207.794, 996.389), 100, (700, 750, 800)
    ),
    _bullet("DroneRun", (17, 4), 200, 1990, (10.557, 682.833), 140, (400, 500, 600)),
)

TASKS: dict[str, Task] = {task.name: task for task in _ALL}


def get_task(name: str) -> Task:
    """Looks a task up by its short name, environment id or DSRL id.

    ``"PointGoal1"``, ``"SafetyPointGoal1-v0"``, ``"SafetyPointGoal1Gymnasium-v0"`` and
    ``"OfflinePointGoal1Gymnasium-v0"`` name the same task; case does not matter.

    Raises:
      UserError: no such task; names the nearest one.
    """
    if isinstance(name, Task):
        return name
    short = re.sub(r"-v\d+$", "", str(name).strip(), flags=re.IGNORECASE)
    short = re.sub(r"^(offline|safety)", "", short, flags=re.IGNORECASE)
    short = re.sub(r"gymnasium$", "", short, flags=re.IGNORECASE)
    for task in TASKS.values():
        if task.name.lower() == short.lower():
            return task
    if re.search(
        r"metadrive|^(easy|medium|hard)(sparse|mean|dense)$", short, re.IGNORECASE
    ):
        raise UserError(f"task {name!r}: DSRL's MetaDrive tasks are not supported")
    hint = (
        nearest(short, TASKS) or f"; expected one of {len(TASKS)}, such as PointGoal1"
    )
    raise UserError(f"unknown task {name!r}{hint}")
