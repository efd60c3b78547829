"""From a task's name to an environment of its suite."""

from collections.abc import Callable

from sas_jax.envs import tasks


def _bullet(task: tasks.Task, lean: bool):
    from sas_jax.envs.suites.bullet import BulletEnv  # needs pybullet

    del lean
    return BulletEnv(task)


def _safety_gymnasium(task: tasks.Task, lean: bool):
    from sas_jax.envs.suites import safety_gymnasium

    if not lean or not task.obs_groups:
        return safety_gymnasium.PlainEnv(task)
    safety_gymnasium.import_safety_gymnasium()
    from sas_jax.envs.lean.env import LeanEnv  # needs MuJoCo

    return LeanEnv(task)


# Suite -> (task, lean) -> environment. Suites are imported when they are asked for.
SUITES: dict[str, Callable] = {
    "safety-gymnasium": _safety_gymnasium,
    "bullet-safety-gym": _bullet,
}


def make(task_name: str, *, lean: bool = True):
    """Makes one environment by task name.

    lean: use the fast path where one exists; results are the same either way.

    Raises:
      UserError: unknown task, or a suite that is not installed or cannot run it here.
    """
    task = tasks.get_task(task_name)
    return SUITES[task.suite](task, lean)
