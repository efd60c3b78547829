"""Tasks of any gymnasium environment: by name alone, or registered with more to say.

A name is ``gymnasium:ID``, ``gymnasium:MODULE:ID`` (the module is imported first) or
``gymnasium:MODULE:FUNCTION`` (called without arguments), then options, each after a
comma: ``cost``, ``steps``, ``limits`` (with slashes between them) and ``max_cost``, as
in ``gymnasium:Hopper-v5,cost=terminated,steps=200,limits=0``.

The environment is opened once to learn its sizes. `$SAS_JAX_GYMNASIUM_PYTHON` names an
interpreter with another version of gymnasium; all its environments then run there.
"""

import functools
import json
import os
import subprocess
from collections.abc import Mapping
from typing import Any

from sas_jax.envs import imports, task_options, tasks
from sas_jax.envs.references import UNKNOWN
from sas_jax.envs.suites import gymnasium as suite
from sas_jax.errors import UserError, one_line

SUITE = "gymnasium"
PYTHON = "SAS_JAX_GYMNASIUM_PYTHON"
_OPTIONS = ("cost", "steps", "limits", "max_cost")
_LOOK_SECONDS = 300


def register(
    name: str,
    env: str,
    *,
    cost: str = "info",
    cost_limits: tuple[float, ...] | None = None,
    episode_steps: int | None = None,
    max_step_cost: float = 1.0,
    return_range: tuple[float, float] | None = None,
    termination_fails: bool = False,
    obs_groups: Mapping[str, slice] | None = None,
) -> None:
    """Registers a gymnasium environment as a task; it is opened when the task is used.

    Args:
      name: of the task, as flags and files will have it.
      env: ``"ID"``, ``"module:ID"`` or ``"module:function"`` (without arguments).
      cost: where a step's cost comes from; see `suites.gymnasium.cost_function`.
      cost_limits: thresholds of the episode cost that results are reported at; None
        means 10, 20 and 40, or 0 where only an early end costs.
      episode_steps: time limit; None means the environment's own.
      max_step_cost: largest cost of one step.
      return_range: returns whose normalised scores are 0 and 1; None takes those of the
        training data.
      termination_fails: whether an episode that the environment ends counts as failed
        even if it cost nothing.
      obs_groups: name -> slice of the observation. A name that ends in ``_lidar`` is
        taken for a ring of range readings.

    Raises:
      UserError: a name that is taken, or options that make no sense.
    """
    known = tasks.TASKS.get(name)
    if not name or ":" in name or (known is not None and name in tasks.BUILT_IN):
        raise UserError(f"task {name!r}: expected a name without ':' that is not taken")
    options = _checked(
        f"task {name!r}",
        {
            "cost": cost,
            "steps": episode_steps,
            "limits": cost_limits,
            "max_cost": max_step_cost,
        },
    )

    @functools.cache
    def make() -> tasks.Task:
        references = UNKNOWN.or_range(return_range)
        return _open(
            name,
            env,
            options,
            references=references,
            termination_fails=termination_fails,
            obs_groups=dict(obs_groups or {}),
        )

    tasks.LATER[name] = make


def resolve(name: str) -> tasks.Task:
    """The task that a name of the form ``gymnasium:...`` says.

    Raises:
      UserError: an unknown option, or anything that `suites.gymnasium.facts` refuses.
    """
    if name in tasks.TASKS:
        return tasks.TASKS[name]
    env, options = task_options.split(name, _OPTIONS)
    env = env.removeprefix(f"{SUITE}:")
    return _open(name, env, _checked(f"task {name!r}", options))


def interpreter() -> str | None:
    """What `$SAS_JAX_GYMNASIUM_PYTHON` names; None means this one."""
    return os.environ.get(PYTHON) or None


@functools.cache
def facts(env_id: str, cost: str) -> dict[str, Any]:
    """What `suites.gymnasium.facts` says, asked where the environments will run."""
    python = interpreter()
    if python is None:
        return suite.facts(env_id, cost)
    asked = {
        "env_id": env_id,
        "cost": cost,
        "imports": imports.MODULES,
        "path": [os.getcwd()],
    }
    try:
        done = subprocess.run(
            [python, suite.__file__, json.dumps(asked)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=_LOOK_SECONDS,
            check=False,
        )
        answer = json.loads(done.stdout.decode().strip().splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, IndexError, ValueError) as error:
        raise UserError(
            f"{env_id}: ${PYTHON}={python} does not say what it is "
            f"({type(error).__name__}); its stderr says why"
        ) from error
    if "error" in answer:
        raise UserError(answer["error"])
    return answer


def _checked(owner: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options with their numbers; what is left out has its default."""
    cost = options.get("cost") or "info"
    limits = (0.0,) if cost == "terminated" else task_options.LIMITS
    return {
        "cost": cost,
        "numbers": task_options.numbers(owner, options, limits=limits),
    }


def _open(name: str, env_id: str, options: dict[str, Any], **fields: Any) -> tasks.Task:
    """Looks at the environment and enters its task into the registry."""
    try:
        found = facts(env_id, options["cost"])
    except UserError as error:
        raise UserError(f"task {name}: {error}") from error
    except Exception as error:  # of the user's environment
        text = one_line(error)
        raise UserError(
            f"task {name}: {env_id} raised {type(error).__name__} ({text}) when it was "
            "tried; expected reset(seed=0) and a step to work"
        ) from error
    numbers = options["numbers"]
    steps = numbers.steps or found["episode_steps"]
    if not steps:
        raise UserError(
            f"task {name}: {env_id} has no time limit; expected max_episode_steps in "
            "its registration, or steps=N (episode_steps=N in register)"
        )
    task = tasks.Task(
        name=name,
        suite=SUITE,
        env_id=env_id,
        obs_dim=found["obs_dim"],
        action_dim=found["action_dim"],
        episode_steps=steps,
        cost_limits=numbers.limits,
        max_step_cost=numbers.max_cost,
        cost=options["cost"],
        action_range=tuple(map(tuple, found["action_range"])),
        **{"termination_fails": False} | fields,
    )
    for group, columns in task.obs_groups.items():
        if not 0 <= columns.start < columns.stop <= task.obs_dim:
            raise UserError(
                f"task {name}: obs_groups {group!r} is {columns}; expected a slice of "
                f"{task.obs_dim} observations"
            )
    tasks.TASKS[name] = task
    return task


def versions(task: tasks.Task) -> dict[str, str]:
    """Versions of the packages that a task's episodes depend on."""
    return facts(task.env_id, task.cost)["versions"]
