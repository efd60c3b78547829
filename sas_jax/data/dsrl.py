"""DSRL's HDF5 layout: reading it with checks, writing it atomically.

Keys (DSRL, `dsrl/offline_env.py`): observations and next_observations `[N, O]`,
actions `[N, A]`, rewards, costs, terminals and timeouts `[N]`. An episode ends where
terminals or timeouts is set. Everything else in a file is left alone; our own files
add a group ``episodes`` with one row per episode (behaviour parameters, seeds), which
DSRL's readers do not look at.

A file is input from outside: nothing it claims is trusted. Sizes are checked against
the bytes really stored before anything is allocated, values are checked while they
are copied, block by block, into arrays allocated once.
"""

import os
import pathlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import numpy as np

from sas_jax.data import hdf5, task_of_file
from sas_jax.data.episodes import Episodes
from sas_jax.data.row_order import RowOrder
from sas_jax.errors import UserError
from sas_jax.files import places

KEYS = (
    "observations",
    "next_observations",
    "actions",
    "rewards",
    "costs",
    "terminals",
    "timeouts",
)
_MATRICES = ("observations", "next_observations", "actions")
_BLOCK_BYTES = 4 << 20


class DataWarning(UserWarning):
    """The data were read, but something about them deserves a look."""


class IncompleteEpisodeWarning(DataWarning):
    """Steps after the last episode end were dropped."""


class RowOrderWarning(DataWarning):
    """Rows do not follow one another, and the caller allowed it."""


class SubsetWarning(DataWarning):
    """A file with DSRL's name holds fewer episodes than DSRL's file of the task."""


def load(
    path_or_task: str | os.PathLike,
    *,
    task: str | None = None,
    allow_breaks: bool = False,
) -> Episodes:
    """Reads offline data into memory as float32: a DSRL file, or another kind.

    Args:
      path_or_task: an HDF5 file (DSRL's keys, or others that `conventions` knows, such
        as D4RL's), an NPZ archive, ``"minari:NAME"``, or a task name whose file is
        looked up locally and downloaded otherwise (see `sas_jax.data.download.locate`).
      task: name of the task, where the file does not say it. The file says it by its
        attribute ``task``, or by DSRL's name; where those two differ, this one decides
        between them.
      allow_breaks: accept rows that do not follow one another, with a warning.

    Returns:
      All complete episodes. Peak memory is the size of these arrays and two blocks.

    Raises:
      UserError: no such file, not HDF5, truncated, a key missing or of a wrong type or
        shape, unequal lengths, NaN, infinity or a number beyond 1e10 (with key and
        row), no complete episode, rows that do not follow one another, sizes that
        differ from the task's, or data of another task than `task`.

    Warns:
      IncompleteEpisodeWarning: the file ends within an episode; its steps are dropped.
      RowOrderWarning: rows do not follow one another, under `allow_breaks`.
      SubsetWarning: DSRL's file of the task has more episodes.
      DataWarning: values that were never written, or flags that contradict each other.
    """
    if str(path_or_task).startswith("minari:"):
        from sas_jax.data import minari_sets

        name = str(path_or_task).removeprefix(minari_sets.PREFIX)
        return minari_sets.load(name, task=task, allow_breaks=allow_breaks)
    path = _as_path(path_or_task)
    if path is not None and path.suffix == ".npz":
        from sas_jax.data import npz

        return npz.load(path, task=task, allow_breaks=allow_breaks)
    if path is not None:
        with hdf5.open_file(path) as file:
            return _read(file, str(path), task, allow_breaks)
    from sas_jax.data import download
    from sas_jax.envs import tasks

    known = tasks.get_task(str(path_or_task)).name
    if task is not None and tasks.get_task(task).name != known:
        raise UserError(
            f"data of {known} were asked for, but task={task}; expected one task"
        )
    path = download.locate(known)
    with hdf5.open_file(path) as file:
        episodes = _read(file, str(path), known, allow_breaks)
    # Only a file that could be read is worth remembering.
    download.remember(path)
    return episodes


def write(
    path: str | os.PathLike,
    episodes: Episodes,
    attrs: Mapping[str, object] | None = None,
    *,
    columns: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Writes DSRL's layout; the file appears whole or not at all.

    The bytes depend on the arguments only (HDF5 time stamps are off), so equal data
    give equal files.

    Args:
      path: target; its folder is made if missing.
      episodes: the data.
      attrs: attributes of the root; ``task`` is added.
      columns: `[E]` arrays written to the group ``episodes``, one row per episode.

    Raises:
      UserError: the folder cannot be written, or a column has not one row per episode.
    """
    path = places.as_path(path)
    for name, column in (columns or {}).items():
        if len(column) != episodes.num_episodes:
            raise UserError(
                f"column {name!r} has {len(column)} rows, expected one for each of "
                f"{episodes.num_episodes} episodes"
            )
    with hdf5.create_file(path) as file:
        for name, value in {"task": episodes.task, **(attrs or {})}.items():
            hdf5.write_attribute(file, name, value)
        _write_steps(file, episodes)
        if columns:
            group = file.create_group("episodes")
            for name, column in columns.items():
                group.create_dataset(name, data=np.asarray(column))


def read_columns(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns the per-episode columns of one of our files, `{name: [E]}`.

    Empty for a file that has none (DSRL's own). Raises UserError as `load` does.
    """
    with hdf5.open_file(path) as file:
        if "episodes" not in file:
            return {}
        group = file["episodes"]
        if not isinstance(group, h5py.Group):
            raise UserError(f"{path}: 'episodes' is not a group of columns")
        return {
            name: hdf5.check_dataset(group, name, f"{path}: episodes/")[()]
            for name in group
        }


def _as_path(path_or_task: str | os.PathLike) -> pathlib.Path | None:
    """Returns the path meant, or None when the argument is a task's name."""
    path = places.as_path(path_or_task)
    if isinstance(path_or_task, os.PathLike) or places.is_url(path_or_task):
        return path
    if path.exists():
        return path
    text = str(path_or_task)
    if "/" in text or os.sep in text or path.suffix in (".hdf5", ".h5", ".npz"):
        return path
    return None


def _read(file: h5py.File, path: str, task: str | None, allow_breaks: bool) -> Episodes:
    """Reads an open file; see `load`."""
    if not set(KEYS) <= set(hdf5.names(file, path)):
        return _read_other(file, path, task, allow_breaks)
    steps = _step_arrays(file, path)
    obs_dim, action_dim = (steps[k].shape[1] for k in ("observations", "actions"))
    known = task_of_file.settle(file, path, task, obs_dim, action_dim)
    terminals, ends = _episode_ends(steps, path)
    used = int(ends[-1])
    arrays: dict[str, Any] = {}
    for key in ("observations", "actions", "rewards", "costs"):
        array = np.empty((used, *steps[key].shape[1:]), np.float32)
        for rows in hdf5.row_blocks(steps[key], used, _BLOCK_BYTES):
            hdf5.read_float32(steps[key], rows, array[rows], path, key)
        arrays[key] = array if key in _MATRICES else array.reshape(used)
    is_end = np.zeros(used, bool)
    is_end[ends - 1] = True
    order = RowOrder(arrays["observations"], is_end)
    finals = _read_finals(steps["next_observations"], ends, path, order)
    if order.count and not allow_breaks:
        raise UserError(
            f"{path}: {order.describe()}; expected one episode after the other, each "
            "in the order of its steps (allow_breaks takes the rows as they are)"
        )
    if order.count:
        _warn(f"{path}: {order.describe()}", RowOrderWarning)
    about = known.references  # of no trajectories where the task is not in DSRL
    is_dsrls = pathlib.Path(path).name.startswith(about.dsrl_stem)
    if is_dsrls and len(ends) < about.dsrl_trajectories:
        _warn(
            f"{path}: {len(ends)} episodes, a part of the {about.dsrl_trajectories} in "
            f"DSRL's file of {known.name}",
            SubsetWarning,
        )
    return Episodes(
        task=known.name,
        offsets=np.concatenate([[0], ends]).astype(np.int64),
        final_observations=finals,
        terminated=terminals[ends - 1],
        source=path,
        **arrays,
    )


def _read_other(
    file: h5py.File, path: str, task: str | None, allow_breaks: bool
) -> Episodes:
    """Reads a file with other keys than DSRL's; see `conventions`."""
    from sas_jax.data import conventions, named_columns

    keys = hdf5.names(file, path)
    for group in {"infos", "info"} & set(keys):
        keys += [f"{group}/{name}" for name in _members(file, group, path)]
    arrays: dict[str, Any] = {}
    for key in named_columns.known_names(keys):
        dataset = hdf5.check_dataset(file, key, f"{path}: ")
        parts = [
            hdf5.read_block(dataset, rows, path, key)
            for rows in hdf5.row_blocks(dataset, len(dataset), _BLOCK_BYTES)
        ]
        arrays[key] = np.concatenate(parts) if parts else np.empty(0, np.float32)
    present = dict.fromkeys(keys, 0.0) | arrays
    widths = [named_columns.width(present, kind, path) for kind in _MATRICES[::2]]
    known = task_of_file.settle(file, path, task, *widths)
    return conventions.to_episodes(present, known, path, allow_breaks=allow_breaks)


def _members(file: h5py.File, name: str, path: str) -> list[str]:
    """Names in a group of the file; none where it is no group."""
    link = file.get(name, getlink=True)
    found = file[name] if isinstance(link, h5py.HardLink) else None
    return hdf5.names(found, path) if isinstance(found, h5py.Group) else []


def _warn(message: str, category: type[Warning]) -> None:
    """Warns in the name of the caller of `load`."""
    warnings.warn(message, category, stacklevel=4)


def _step_arrays(file: h5py.File, path: str) -> dict[str, h5py.Dataset]:
    """The seven arrays of DSRL, their types and shapes checked against each other."""
    steps = {}
    for key in KEYS:
        rank = 2 if key in _MATRICES else 1
        # A flag that is never set need not be written: HDF5 reads its fill value.
        dataset = hdf5.check_dataset(file, key, f"{path}: ", may_be_unwritten=rank == 1)
        # DSRL's own reader takes a column for a vector; so do we.
        is_column = rank == 1 and dataset.ndim == 2 and dataset.shape[1] == 1
        if (dataset.ndim != rank and not is_column) or 0 in dataset.shape[1:]:
            wanted = "[steps, size >= 1]" if rank == 2 else "[steps]"
            raise UserError(
                f"{path}: {key!r} has shape {dataset.shape}, expected {wanted}"
            )
        steps[key] = dataset
    num_rows = len(steps["observations"])
    for key, dataset in steps.items():
        if len(dataset) != num_rows:
            raise UserError(
                f"{path}: {key!r} has {len(dataset)} rows, expected {num_rows} as in "
                "'observations'"
            )
    obs_dim = steps["observations"].shape[1]
    if steps["next_observations"].shape[1] != obs_dim:
        raise UserError(
            f"{path}: 'next_observations' has {steps['next_observations'].shape[1]} "
            f"columns, expected {obs_dim} as in 'observations'"
        )
    for key, dataset in steps.items():
        if not hdf5.is_written(dataset):
            warnings.warn(
                f"{path}: {key!r} was not written in full; its missing values read as "
                f"{dataset.fillvalue}",
                DataWarning,
                stacklevel=5,
            )
    return steps


def _episode_ends(
    steps: dict[str, h5py.Dataset], path: str
) -> tuple[np.ndarray, np.ndarray]:
    """`terminals` `[N]` bool, and the row after each episode's last, `[E]`."""
    terminals, timeouts = (
        _read_flags(steps[k], path, k) for k in ("terminals", "timeouts")
    )
    ends = np.flatnonzero(terminals | timeouts) + 1
    if len(ends) == 0:
        raise UserError(
            f"{path}: no complete episode in {len(terminals)} steps: 'terminals' and "
            "'timeouts' are never set"
        )
    num_rows, used = len(terminals), int(ends[-1])
    if used < num_rows:
        warnings.warn(
            f"{path}: dropped the last {num_rows - used} of {num_rows} steps: no "
            "'terminals' or 'timeouts' ends their episode",
            IncompleteEpisodeWarning,
            stacklevel=5,
        )
    both = int((terminals & timeouts).sum())
    if both:
        warnings.warn(
            f"{path}: {both} of {len(ends)} episodes end by 'terminals' and 'timeouts' "
            "at once; they count as terminated, so nothing follows them",
            DataWarning,
            stacklevel=5,
        )
    return terminals, ends


def _read_finals(
    dataset: h5py.Dataset, ends: np.ndarray, path: str, order: RowOrder
) -> np.ndarray:
    """Checks all next observations and keeps those of last steps, `[E, O]`."""
    finals = np.empty((len(ends), dataset.shape[1]), np.float32)
    buffer = None
    for rows in hdf5.row_blocks(dataset, int(ends[-1]), _BLOCK_BYTES):
        if buffer is None:
            buffer = np.empty((rows.stop - rows.start, dataset.shape[1]), np.float32)
        block = buffer[: rows.stop - rows.start]
        hdf5.read_float32(dataset, rows, block, path, "next_observations")
        first, last = np.searchsorted(ends - 1, (rows.start, rows.stop))
        finals[first:last] = block[ends[first:last] - 1 - rows.start]
        order.add(rows.start, block)
    return finals


def _read_flags(dataset: h5py.Dataset, path: str, key: str) -> np.ndarray:
    """Reads `[N]` flags as bool; DSRL stores bool, others 0/1 in some number type."""
    flags = np.empty(len(dataset), bool)
    for rows in hdf5.row_blocks(dataset, len(dataset), _BLOCK_BYTES):
        block = hdf5.read_block(dataset, rows, path, key).reshape(-1)
        wrong = np.flatnonzero((block != 0) & (block != 1))
        if len(wrong):
            raise UserError(
                f"{path}: {key!r} is {block[wrong[0]]} in row {rows.start + wrong[0]}, "
                "expected 0 or 1"
            )
        flags[rows] = block != 0
    return flags


def _write_steps(file: h5py.File, episodes: Episodes) -> None:
    """Writes the seven step arrays of DSRL."""
    last = episodes.offsets[1:] - 1
    terminals = np.zeros(episodes.num_steps, bool)
    terminals[last] = episodes.terminated
    timeouts = np.zeros(episodes.num_steps, bool)
    timeouts[last] = ~episodes.terminated
    for key in ("observations", "actions", "rewards", "costs"):
        hdf5.write_blocks(file, key, [getattr(episodes, key)], episodes.num_steps)
    hdf5.write_blocks(file, "terminals", [terminals], episodes.num_steps)
    hdf5.write_blocks(file, "timeouts", [timeouts], episodes.num_steps)
    hdf5.write_blocks(
        file, "next_observations", _next_observations(episodes), episodes.num_steps
    )


def _next_observations(episodes: Episodes) -> Iterator[np.ndarray]:
    """Yields each episode's observations shifted by one, `[T, O]` a piece."""
    for e in range(episodes.num_episodes):
        first, end = episodes.offsets[e], episodes.offsets[e + 1]
        final = episodes.final_observations[e : e + 1]
        yield np.concatenate([episodes.observations[first + 1 : end], final])
