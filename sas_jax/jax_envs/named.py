"""Tasks in JAX by name, and the environment of such a task.

``jax:MODULE:FUNCTION`` calls a function without arguments that returns a
`protocol.JaxEnv`. ``crax:NAME`` makes one of CRAX's (see `jax_envs.crax`). Options come
behind the name, each after a comma: ``steps``, ``limits`` (with slashes between them)
and ``max_cost``; of CRAX's ``level`` and ``cost`` as well, and one of ``max_cost`` and
``cost=indicator`` is needed there. For example
``crax:safe_goal_point,level=2,cost=indicator,steps=500``.
"""

import functools

from sas_jax.envs import imports, task_options, tasks
from sas_jax.errors import UserError, one_line
from sas_jax.jax_envs import crax, protocol
from sas_jax.jax_envs.protocol import JaxEnv

SUITE = "jax"
_OPTIONS = ("steps", "limits", "max_cost")


def env_of(task: str | tasks.Task) -> JaxEnv:
    """The task's environment on the device; the same object for the same task.

    Raises:
      UserError: it has none.
    """
    task = tasks.get_task(task)
    if task.suite != SUITE:
        raise UserError(
            f"task {task.name}: runs in processes of this machine's; expected a task "
            "in JAX (PlanePointGoal, jax:MODULE:FUNCTION, crax:NAME)"
        )
    return _limited(task.env_id, task.episode_steps)


def resolve(name: str) -> tasks.Task:
    """The task that a name of the form ``jax:...`` or ``crax:...`` says.

    Raises:
      UserError: an unknown option, no such function or environment, or one that
        `protocol.check` refuses.
    """
    if name in tasks.TASKS:
        return tasks.TASKS[name]
    own = crax.OPTIONS if name.partition(":")[0].strip() == crax.PREFIX else ()
    env, options = task_options.split(name, (*_OPTIONS, *own))
    env_id = env.partition(":")[2].strip()
    if own:
        if options.get("cost") != "indicator" and "max_cost" not in options:
            raise UserError(
                f"task {name}: CRAX's costs add up over hazards; expected max_cost=N, "
                "the largest of a step, or cost=indicator"
            )
        said = [f"{key}={options[key]}" for key in own if key in options]
        env_id = ",".join([f"{crax.PREFIX}:{env_id}", *said])
    try:
        made = _make(env_id)
    except UserError as error:
        raise UserError(f"task {name}: {error}") from error
    numbers = task_options.numbers(f"task {name!r}", options)
    task = tasks.Task(
        name=name,
        suite=SUITE,
        env_id=env_id,
        obs_dim=made.obs_dim,
        action_dim=made.action_dim,
        episode_steps=numbers.steps or made.episode_steps,
        cost_limits=numbers.limits,
        max_step_cost=numbers.max_cost,
        termination_fails=False,
    )
    tasks.TASKS[name] = task
    return task


@functools.cache
def _make(env_id: str) -> JaxEnv:
    """The environment that a task's `env_id` names, looked at."""
    try:
        if env_id.startswith(f"{crax.PREFIX}:"):
            env, options = task_options.split(env_id, crax.OPTIONS)
            made = crax.make(env.partition(":")[2], **options)
        else:
            made = imports.function(env_id, "environment")()
    except UserError:
        raise
    except Exception as error:  # of the user's function
        text = one_line(error)
        raise UserError(
            f"{env_id}: {type(error).__name__} ({text}) when it was called; expected a "
            "function without arguments that returns a JaxEnv"
        ) from error
    return protocol.check(made, env_id)


@functools.cache
def _limited(env_id: str, steps: int) -> JaxEnv:
    """Programs are kept by environment, so there is one object of each."""
    return _make(env_id)._replace(episode_steps=steps)
