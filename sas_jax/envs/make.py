"""From a task's name to an environment of its suite; the registry of suites.

A suite from outside joins by `register_suite`: then its tasks work wherever a name of a
task is asked for, in the workers of `VectorEnv` as well.
"""

import importlib
import os
from collections.abc import Iterable

from sas_jax.envs import shift as shifts
from sas_jax.envs import tasks
from sas_jax.envs.checked import CheckedEnv
from sas_jax.errors import UserError

# Suite -> "module:function", (task, lean) -> environment. Imported on demand.
_OWN = {
    "safety-gymnasium": "sas_jax.envs.lean.make:make",
    "bullet-safety-gym": "sas_jax.envs.suites.bullet:make",
    "gymnasium": "sas_jax.envs.suites.gymnasium:make",
    "jax": "sas_jax.jax_envs.host:make",
}
# Suites whose environments are ours and need no checks of what they return.
_TRUSTED = ("safety-gymnasium", "bullet-safety-gym")
# Suite -> variable of the environment that names its workers' interpreter.
_PYTHONS = {
    "bullet-safety-gym": "SAS_JAX_BULLET_PYTHON",
    "gymnasium": "SAS_JAX_GYMNASIUM_PYTHON",
}
SUITES: dict[str, str] = dict(_OWN)


def register_suite(name: str, entry: str, suite_tasks: Iterable[tasks.Task]) -> None:
    """Adds a suite of environments and its tasks.

    Args:
      name: of the suite, as the tasks' `suite` says.
      entry: ``"package.module:function"``. The function takes (task, lean) and returns
        an environment with ``reset(seed) -> [O]``, ``step(action [A]) -> (observation
        [O], reward, cost, terminated, truncated)`` and ``close()``; ``pose()`` and
        ``layout()``, as those of `PlainEnv`, are optional. An episode must depend on
        its seed and actions only. `lean` asks for a faster path and may be ignored.
        Worker processes import the function, so it is named and not passed.
      suite_tasks: the tasks. Registering the very same suite again changes nothing.

    Raises:
      UserError: a name that is taken, an entry of another form, or no tasks.
    """
    suite_tasks = list(suite_tasks)
    module, _, function = str(entry).partition(":")
    if not (module and function.isidentifier()):
        raise UserError(f"suite {name!r}: entry {entry!r}: expected 'module:function'")
    if SUITES.get(name, entry) != entry:
        raise UserError(f"suite {name!r} is registered already, as {SUITES[name]!r}")
    if not suite_tasks:
        raise UserError(f"suite {name!r}: expected at least one task")
    for task in suite_tasks:
        if task.suite != name:
            raise UserError(
                f"task {task.name!r}: of suite {task.suite!r}, expected {name!r}"
            )
        if tasks.TASKS.get(task.name, task) != task:
            raise UserError(f"task {task.name!r} is registered already")
    SUITES[name] = entry
    tasks.TASKS.update({task.name: task for task in suite_tasks})


def registration(task: tasks.Task) -> dict | None:
    """What a worker process needs to know of a task from outside, else None."""
    if task.name in tasks.BUILT_IN:
        return None
    return {"entry": SUITES[task.suite], "task": tasks.to_json(task)}


def register_in_worker(registered: dict | None) -> None:
    """Registers what the parent's `registration` said.

    A module that was imported may have done so already, with the task's references,
    which nobody sends.
    """
    if registered is not None:
        task = tasks.from_json(registered["task"])
        known = tasks.TASKS.get(task.name)
        if known is None or tasks.to_json(known) != registered["task"]:
            register_suite(task.suite, registered["entry"], [task])


def python_of(task: tasks.Task) -> str | None:
    """The interpreter that a task's workers run under; None means this one."""
    variable = _PYTHONS.get(task.suite)
    return (os.environ.get(variable) or None) if variable else None


def make(
    task_name: str,
    *,
    lean: bool = True,
    shift: "str | shifts.Shift | None" = None,
    obs_std=None,
):
    """Makes one environment by task name.

    Args:
      task_name: name of a task.
      lean: use the fast path where one exists; results are the same either way.
      shift: a changed world, such as ``"actuator:0.8,delay:1"``; see `envs.shift`.
      obs_std: `[O]`, standard deviations of the data's observations; a shift with
        ``obs_noise`` counts in them.

    Raises:
      UserError: unknown task, a suite that is not installed or cannot run it here, or a
        shift that makes no sense.
    """
    task = tasks.get_task(task_name)
    shift = shifts.parse(shift)
    obs_std = shifts.check(shift, task, obs_std)
    if task.suite not in SUITES:
        raise UserError(
            f"task {task.name}: unknown suite {task.suite!r}; expected one of "
            f"{', '.join(SUITES)}"
        )
    env = _function(task.suite)(task, lean)
    if task.suite not in _TRUSTED:
        env = CheckedEnv(env, task)
    if shift == shifts.Shift():
        return env
    if task.suite == "safety-gymnasium":
        env.change_dynamics(shift)
    return shifts.ShiftedEnv(env, shift, obs_std)


def _function(suite: str):
    """Imports the function that makes environments of a suite."""
    module, _, function = SUITES[suite].partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"suite {suite!r}: {SUITES[suite]!r} cannot be imported ({error})"
        ) from error
