"""PointGoal1 whose episodes end after a few steps: a real world, quickly told.

Its name is one that scripted behaviours take for a Goal task's.
"""

import contextlib
import dataclasses
from collections.abc import Iterator

from sas_jax.envs import make as make_env
from sas_jax.envs import tasks
from sas_jax.envs.lean import make as lean_make

STEPS = 60
TASK = dataclasses.replace(
    tasks.get_task("PointGoal1"),
    name="PointGoal9",
    suite="short-goal",
    episode_steps=STEPS,
)


def make(task, lean):
    """The suite's entry point: PointGoal1 with another time limit."""
    env = lean_make.make(tasks.get_task("PointGoal1"), lean)
    env.unwrapped.task.num_steps = task.episode_steps
    return env


def register() -> None:
    """Makes the task known in this process."""
    make_env.register_suite(TASK.suite, f"{__name__}:make", [TASK])


@contextlib.contextmanager
def registered() -> Iterator[str]:
    """Gives the name of the task, which is unknown again afterwards."""
    before = dict(tasks.TASKS), dict(make_env.SUITES)
    register()
    yield TASK.name
    for table, old in zip((tasks.TASKS, make_env.SUITES), before, strict=True):
        table.clear()
        table.update(old)
