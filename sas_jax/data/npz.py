"""NPZ archives: reading arrays by any known name, writing DSRL's."""

import os
import zipfile

import numpy as np

from sas_jax.data import conventions, named_columns
from sas_jax.data.episodes import Episodes
from sas_jax.envs import tasks
from sas_jax.errors import UserError
from sas_jax.files import atomic, places


def load(
    path: str | os.PathLike, *, task: str | None = None, allow_breaks: bool = False
) -> Episodes:
    """Reads an archive of arrays; see `conventions.to_episodes`.

    Args:
      path: the archive. task: name of the task, where its entry ``task`` does not say
        it. allow_breaks: accept rows that do not follow one another, with a warning.

    Raises:
      UserError: no such file, no archive of plain arrays, or what `to_episodes` says.
    """
    try:
        with places.fetched(path) as copy, np.load(copy, allow_pickle=False) as file:
            names = named_columns.known_names(file.files)
            arrays = {name: file[name] for name in names}
            said = str(file["task"]) if "task" in file.files else None
            others = [name for name in file.files if name not in names]
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; expected an NPZ archive") from error
    except (
        OSError,
        ValueError,
        EOFError,
        MemoryError,
        zipfile.BadZipFile,
        AttributeError,  # a single array, an .npy file by another name
    ) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path}: cannot be read as an NPZ archive of plain arrays ({reason})"
        ) from error
    if task is None and said is None:
        raise UserError(f"{path}: no entry 'task' says which task this is; pass task=")
    if task and said and tasks.get_task(task).name != tasks.get_task(said).name:
        raise UserError(f"{path}: expected data of {task}, but these are of {said}")
    if not arrays:
        raise UserError(
            f"{path}: no array of a known name; it has {', '.join(others) or 'none'}"
        )
    return conventions.to_episodes(
        arrays, tasks.get_task(task or said), str(path), allow_breaks=allow_breaks
    )


def write(path: str | os.PathLike, episodes: Episodes) -> None:
    """Writes DSRL's seven arrays and the task's name; whole or not at all.

    Raises:
      UserError: the folder cannot be written.
    """
    last = episodes.offsets[1:] - 1
    flags = {"terminals": episodes.terminated, "timeouts": ~episodes.terminated}
    arrays = {}
    for name, at_end in flags.items():
        arrays[name] = np.zeros(episodes.num_steps, bool)
        arrays[name][last] = at_end
    following = np.roll(episodes.observations, -1, axis=0)
    following[last] = episodes.final_observations
    for name in ("observations", "actions", "rewards", "costs"):
        arrays[name] = getattr(episodes, name)
    with atomic.replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file, task=episodes.task, next_observations=following, **arrays
        )
