"""The registry of tasks: names, suites and sizes.

DSRL's MetaDrive tasks (maps times densities of traffic) are left out on purpose: their
simulator installs on no Python that the rest of this project runs on.
"""

import dataclasses
import importlib
import re
from collections.abc import Callable
from typing import Any

from sas_jax.envs.references import (
    BULLET_LIMITS,
    NAVIGATION_LIMITS,
    REFERENCES,
    UNKNOWN,
    References,
)
from sas_jax.errors import UserError, nearest

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
    """One task of the benchmark, or one that somebody has registered.

    name: short name, ``"PointGoal1"``.
    suite: ``"safety-gymnasium"``, ``"bullet-safety-gym"``, ``"gymnasium"``, ``"jax"``
        or a registered one.
    env_id: id under which the suite registers the environment; in JAX what makes it.
    obs_dim, action_dim: sizes O and A; actions lie in [-1, 1].
    episode_steps: steps after which an episode is truncated.
    cost_limits: thresholds of the episode cost that results are reported at.
    max_step_cost: largest cost of one step. Every suite here reports an indicator.
    cost: where a gymnasium environment's cost comes from (see
        `suites.gymnasium.cost_function`); "" for suites that report it themselves.
    action_range: (low, high) of each action in the environment's own units, which its
        cost function is given; () where they are those of [-1, 1].
    termination_fails: whether an episode that the environment ends by itself counts as
        failed, whatever it cost.
    references: what benchmarks say about the task; `UNKNOWN` where none does.
    obs_groups: name -> slice of the observation, in order; empty where the suite
        documents no structure.
    """

    name: str
    suite: str
    env_id: str
    obs_dim: int
    action_dim: int
    episode_steps: int
    cost_limits: tuple[float, ...]
    max_step_cost: float = 1.0
    cost: str = ""
    action_range: tuple[tuple[float, float], ...] = ()
    termination_fails: bool = True
    references: References = UNKNOWN
    obs_groups: dict[str, slice] = dataclasses.field(default_factory=dict)

    def normalized_return(self, episode_return: Any) -> Any:
        """See `References.normalized_return`."""
        return self.references.normalized_return(episode_return)

    def normalized_cost(self, episode_cost: Any, limit: float) -> Any:
        """DSRL's normalised cost, ``(C + eps) / (limit + eps)``; at most 1 is safe.

        eps is 1 for the threshold 0 and 0 otherwise, as in DSRL.

        Raises:
          UserError: the threshold is negative or not finite.
        """
        if not 0.0 <= limit < float("inf"):
            raise UserError(f"cost limit {limit!r}: expected a number >= 0")
        eps = 1.0 if limit == 0 else 0.0
        return (episode_cost + eps) / (limit + eps)


def _navigation(name: str) -> Task:
    """A Point or Car task of Safety-Gymnasium."""
    named = re.fullmatch(r"(Point|Car)(Goal|Button|Push|Circle)\d", name)
    assert named is not None  # the names are this module's own
    agent, family = named.groups()
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
        cost_limits=NAVIGATION_LIMITS,
        references=REFERENCES[name],
        obs_groups=groups,
    )


def _velocity(body: str, obs_dim: int, action_dim: int) -> Task:
    """A Velocity task of Safety-Gymnasium; cost is 1 above the speed threshold."""
    return Task(
        name=f"{body}Velocity",
        suite="safety-gymnasium",
        env_id=f"Safety{body}Velocity-v1",
        obs_dim=obs_dim,
        action_dim=action_dim,
        episode_steps=1000,
        cost_limits=NAVIGATION_LIMITS,
        references=REFERENCES[f"{body}Velocity"],
    )


def _bullet(name: str, obs_dim: int, action_dim: int, episode_steps: int) -> Task:
    """A task of bullet-safety-gym, which runs on Python 3.11 only."""
    return Task(
        name=name,
        suite="bullet-safety-gym",
        env_id=f"Safety{name}-v0",
        obs_dim=obs_dim,
        action_dim=action_dim,
        episode_steps=episode_steps,
        cost_limits=BULLET_LIMITS,
        references=REFERENCES[name],
    )


def _mujoco(body: str, obs_dim: int, action_dim: int) -> Task:
    """A locomotion task of gymnasium whose only cost is to fall (the episode ends)."""
    return Task(
        name=body,
        suite="gymnasium",
        env_id=f"{body}-v5",
        obs_dim=obs_dim,
        action_dim=action_dim,
        episode_steps=1000,
        cost_limits=(0.0,),
        cost="terminated",
        references=REFERENCES.get(body, UNKNOWN),
    )


def _in_jax(name: str, made_by: str, like: Task) -> Task:
    """A task of `sas_jax.jax_envs`: observations and costs of the one it is like."""
    return dataclasses.replace(
        like, name=name, suite="jax", env_id=made_by, references=UNKNOWN
    )


_ALL = (
    *(
        _navigation(f"{agent}{family}{level}")
        for agent in _SENSORS
        for family in _LIDARS
        for level in (1, 2)
    ),
    _velocity("Ant", 27, 8),
    _velocity("HalfCheetah", 17, 6),
    _velocity("Hopper", 11, 3),
    _velocity("Swimmer", 8, 2),
    _velocity("Walker2d", 17, 6),
    _bullet("AntCircle", 34, 8, 500),
    _bullet("AntRun", 33, 8, 200),
    _bullet("BallCircle", 8, 2, 200),
    _bullet("BallRun", 7, 2, 100),
    _bullet("CarCircle", 8, 2, 300),
    _bullet("CarRun", 7, 2, 200),
    _bullet("DroneCircle", 18, 4, 300),
    _bullet("DroneRun", 17, 4, 200),
    _mujoco("Hopper", 11, 3),
    _mujoco("Walker2d", 17, 6),
    _mujoco("Humanoid", 348, 17),
    _in_jax(
        "PlanePointGoal",
        "sas_jax.jax_envs.point_goal:make",
        _navigation("PointGoal1"),
    ),
)

TASKS: dict[str, Task] = {task.name: task for task in _ALL}
BUILT_IN = frozenset(TASKS)
# Name -> what makes its task. Asked when the task is, as that starts an environment.
LATER: dict[str, Callable[[], Task]] = {}
# What stands before the colon of a name -> "module:function", from such a name to its
# task.
RESOLVERS = {
    "gymnasium": "sas_jax.envs.gymnasium_tasks:resolve",
    "jax": "sas_jax.jax_envs.named:resolve",
    "crax": "sas_jax.jax_envs.named:resolve",
}


def get_task(name: str) -> Task:
    """Looks a task up by its short name, environment id or DSRL id.

    ``"PointGoal1"``, ``"SafetyPointGoal1-v0"``, ``"SafetyPointGoal1Gymnasium-v0"`` and
    ``"OfflinePointGoal1Gymnasium-v0"`` name the same task; case does not matter.
    ``"gymnasium:Pendulum-v1"`` names any environment (see `gymnasium_tasks`),
    ``"jax:my_envs:make"`` and ``"crax:safe_goal_point"`` such in JAX (see
    `jax_envs.named`).

    Raises:
      UserError: no such task; names the nearest one.
    """
    if isinstance(name, Task):
        return name
    if name in TASKS:
        return TASKS[name]
    resolver = RESOLVERS.get(str(name).partition(":")[0].strip())
    if resolver and ":" in name:
        module, _, function = resolver.partition(":")
        return getattr(importlib.import_module(module), function)(name.strip())
    short = re.sub(r"-v\d+$", "", str(name).strip(), flags=re.IGNORECASE)
    short = re.sub(r"^(offline|safety)", "", short, flags=re.IGNORECASE)
    short = re.sub(r"gymnasium$", "", short, flags=re.IGNORECASE)
    for task in TASKS.values():
        if task.name.lower() == short.lower():
            return task
    for known, make in list(LATER.items()):
        if known.lower() in (short.lower(), str(name).strip().lower()):
            return make()
    if re.search(
        r"metadrive|^(easy|medium|hard)(sparse|mean|dense)$", short, re.IGNORECASE
    ):
        raise UserError(f"task {name!r}: DSRL's MetaDrive tasks are not supported")
    hint = nearest(short, [*TASKS, *LATER]) or (
        f"; expected one of {len(TASKS)}, such as PointGoal1, gymnasium:ID, or one of "
        "your own by --import=MODULE"
    )
    raise UserError(f"unknown task {name!r}{hint}")


def to_json(task: Task) -> dict:
    """The task as JSON for worker processes; without its references."""
    groups = {name: [g.start, g.stop] for name, g in task.obs_groups.items()}
    fields = {field.name: getattr(task, field.name) for field in _SENT}
    # As JSON gives them back.
    lists: dict[str, Any] = {
        "action_range": [list(ends) for ends in task.action_range],
        "cost_limits": list(task.cost_limits),
    }
    return fields | lists | {"obs_groups": groups}


def from_json(sent: dict) -> Task:
    """The task that `to_json` has told of."""
    groups = {name: slice(*ends) for name, ends in sent["obs_groups"].items()}
    limits = tuple(sent["cost_limits"])
    ranges = tuple(tuple(ends) for ends in sent["action_range"])
    given = {"cost_limits": limits, "action_range": ranges, "obs_groups": groups}
    return Task(**sent | given)


_SENT = [f for f in dataclasses.fields(Task) if f.name != "references"]
