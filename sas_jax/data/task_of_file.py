"""Which task a file's data are of: the file says it, and a contradiction is an error.

Nine groups of tasks have equal sizes, so nothing else in a file could tell them apart.
"""

import pathlib

import h5py

from sas_jax.data import hdf5
from sas_jax.envs import tasks
from sas_jax.envs.tasks import Task
from sas_jax.errors import UserError


def settle(
    file: h5py.File, path: str, task: str | None, obs_dim: int, action_dim: int
) -> Task:
    """The task that the data of an open file are of.

    Args:
      path: of the file, for its name and for messages. task: what the caller says.
      obs_dim, action_dim: sizes in the file.

    Raises:
      UserError: file and caller, or the file's attribute and name, contradict each
        other; nobody says it; or the sizes are not the task's.
    """
    asked = None if task is None else tasks.get_task(task)
    said = {}  # how the file says it -> the task
    attribute = hdf5.read_attribute(file, "task")
    if isinstance(attribute, str):
        try:
            said["its attribute 'task'"] = tasks.get_task(attribute)
        except UserError as error:
            # A name of another collection: whoever passes a task knows better.
            if asked is None:
                raise UserError(f"{path}: its attribute 'task': {error}") from error
    if (named := _from_name(path)) is not None:
        said["its file name"] = named
    choices = {known.name: known for known in said.values()}
    if asked is not None and choices and asked.name not in choices:
        words = ", ".join(f"{known.name} by {how}" for how, known in said.items())
        raise UserError(
            f"{path}: expected data of {asked.name}, but these are of {words}"
        )
    if asked is None and len(choices) > 1:
        words = " and ".join(f"{known.name} by {how}" for how, known in said.items())
        raise UserError(f"{path}: data of {words}; expected one task: pass task=NAME")
    if asked is None and not choices:
        raise UserError(
            f"{path}: neither an attribute 'task' nor the file's name says which task "
            "this is; pass task=NAME"
        )
    known = asked or next(iter(choices.values()))
    if (obs_dim, action_dim) != (known.obs_dim, known.action_dim):
        raise UserError(
            f"{path}: observations of size {obs_dim} and actions of size {action_dim}, "
            f"expected {known.obs_dim} and {known.action_dim} for {known.name}"
        )
    return known


def _from_name(path: str) -> Task | None:
    """Finds the task whose DSRL file stem starts the file's name (longest wins)."""
    stem = pathlib.Path(path).name
    stems = [(task.references.dsrl_stem, task) for task in tasks.TASKS.values()]
    matches = [pair for pair in stems if pair[0] and stem.startswith(pair[0])]
    return max(matches, key=lambda pair: len(pair[0]))[1] if matches else None
