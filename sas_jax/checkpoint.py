"""Checkpoints in folders: every kept step of a training run, written and read.

Orbax writes each step into a temporary folder and renames it, so a killed process
leaves either a whole checkpoint or none. Loading never unpickles.
"""

import errno
import hashlib
import json
import logging
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as preservation

from sas_jax import checkpoint_content as content
from sas_jax import config as config_lib
from sas_jax import learners, packed
from sas_jax.checkpoint_content import SCHEMA, Checkpoint, abstract_state
from sas_jax.data.spec import DataSpec
from sas_jax.errors import UserError
from sas_jax.experiment import ExperimentConfig, TrainConfig
from sas_jax.files import atomic
from sas_jax.files.lock import FolderLock
from sas_jax.files.places import as_path, is_url
from sas_jax.learners import longer
from sas_jax.types import TrainState

__all__ = (
    "SCHEMA",
    "Checkpoint",
    "Resumed",
    "Writer",
    "abstract_state",
    "list_steps",
    "load",
)
_FOLDER = "checkpoints"


class Resumed(NamedTuple):
    """Where a run goes on: `state`, the best states so far or None, `run` as above.

    has_card: whether the checkpoint holds a world-model card. world: what the learner
      acted in, and its buffer, of algorithms that act; None of the others.
    """

    step: int
    state: TrainState
    best: TrainState | None
    run: dict[str, Any]
    has_card: bool = False
    world: Any = None


def _manager(workdir: Path, train: TrainConfig | None = None) -> ocp.CheckpointManager:
    """Of a folder; `train` says which checkpoints to keep, None deletes none."""
    # Orbax reports every file it touches, and warns of its own defaults.
    logging.getLogger("absl").setLevel(logging.ERROR)
    policies = [preservation.PreserveAll()]
    if train is not None:
        policies = [
            preservation.LatestN(train.keep_checkpoints),
            preservation.CustomSteps(train.kept_steps),
        ]
    return ocp.CheckpointManager(
        workdir / _FOLDER if is_url(workdir) else (workdir / _FOLDER).absolute(),
        item_names=("state", "meta", "best", "world"),
        options=ocp.CheckpointManagerOptions(
            preservation_policy=preservation.AnyPreservationPolicy(policies),
            enable_async_checkpointing=False,
        ),
    )


class Writer:
    """Saves and resumes the training run of one folder."""

    def __init__(
        self, workdir: str | Path, config: ExperimentConfig, spec: DataSpec
    ) -> None:
        """Takes the folder for this training alone; see `close`.

        Raises:
          UserError: a folder that cannot be written, or that another training writes.
        """
        self._config, self._spec = config, spec
        self._workdir, self._lock = as_path(workdir), None
        try:
            self._workdir.mkdir(parents=True, exist_ok=True)
            # One process of all hosts answers for them. A bucket has no locks.
            if jax.process_index() == 0 and not is_url(workdir):
                self._lock = FolderLock(self._workdir, "training")
            self._manager = _manager(self._workdir, config.train)
        except OSError as error:
            raise UserError(
                f"workdir {str(workdir)!r}: {error.strerror}; expected a folder that "
                "can be written"
            ) from error

    def resume(self, abstract: TrainState, world: Any = None) -> Resumed | None:
        """The last complete checkpoint, or None when there is none.

        Args:
          abstract: see `abstract_state`. world: likewise of what `save` got as world.

        Raises:
          UserError: the folder holds a run of another configuration or data set, or a
            checkpoint that cannot be read.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        meta = _read_meta(self._workdir, step)
        # What was written before a setting existed has its default.
        config = learners.from_dict(meta["config"])
        spec = DataSpec.from_json(meta["spec"])
        sizes = (self._spec.obs_dim, self._spec.action_dim)
        if sizes != (spec.obs_dim, spec.action_dim):
            raise UserError(
                f"data of {self._spec.task}: observations of size {sizes[0]} and "
                f"actions of size {sizes[1]}; expected {spec.obs_dim} and "
                f"{spec.action_dim} as in the checkpoints of {str(self._workdir)!r}"
            )
        has_card, run = meta["card"] is not None, meta["run"]
        meta = content.comparable(config, spec)
        mine = content.comparable(self._config, self._spec)
        if longer.is_longer(self._config, config, step, run, str(self._workdir)):
            meta["config"]["train"]["num_steps"] = self._config.train.num_steps
            run = {k: v for k, v in run.items() if k != "is_finished"}
        # A statistic that was not known yet says nothing.
        mine["spec"] |= {k: None for k, v in meta["spec"].items() if v is None}
        for name in ("config", "spec"):
            if meta[name] != mine[name]:
                key = config_lib.first_difference(meta[name], mine[name])
                raise UserError(
                    f"workdir {str(self._workdir)!r} holds a run with another {name} "
                    f"(first difference: {key}); expected the same settings to resume, "
                    "or an empty folder"
                )
        has_best = (self._workdir / _FOLDER / str(step) / "best").is_dir()
        items = {"state": abstract, "best": abstract if has_best else None}
        items = {k: x for k, x in (items | {"world": world}).items() if x is not None}
        found = _restore(self._workdir, self._manager, step, items)
        state, best = found["state"], found.get("best")
        return Resumed(step, state, best, run, has_card, found.get("world"))

    def save(
        self,
        step: int,
        state: TrainState,
        card: dict | None = None,
        *,
        best: TrainState | None = None,
        run: dict | None = None,
        world: Any = None,
    ) -> None:
        """Writes one checkpoint; complete or absent whatever happens.

        With several hosts all of them call this, and each writes what it owns.
        """
        items = {
            "state": ocp.args.StandardSave(state),
            "meta": ocp.args.JsonSave(
                content.meta(self._config, self._spec, card, run)
            ),
        }
        for name, tree in (("best", best), ("world", world)):
            if tree is not None:
                items[name] = ocp.args.StandardSave(tree)
        try:
            self._manager.save(step, args=ocp.args.Composite(**items), force=True)
            self._manager.wait_until_finished()
        except Exception as error:  # Orbax raises many kinds for one cause: the disk
            raise UserError(
                f"workdir {str(self._workdir)!r}: checkpoint of step {step} not "
                f"written ({_reason(error)}); the earlier ones are whole"
            ) from error

    def add_card(self, step: int, card: dict) -> None:
        """Puts a world-model card into a complete checkpoint, atomically.

        Raises:
          UserError: the folder cannot be written.
        """
        path = self._workdir / _FOLDER / str(step) / "meta" / "metadata"
        meta = _read_meta(self._workdir, step) | {"card": card}
        atomic.write_text(path, json.dumps(meta))

    def close(self) -> None:
        """Releases Orbax's threads and the folder."""
        self._manager.close()
        if self._lock is not None:
            self._lock.release()


# Orbax's words for an array that is not the one asked for.
_OTHER_SHAPE = "not compatible with the stored shape"


def _reason(error: Exception) -> str:
    """The cause that an exception names, in one line without paths of its code."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # TensorStore's own words are long and bury the system's.
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
        if os.strerror(number) in str(error):
            return os.strerror(number)
    reason = (str(error).strip() or repr(error)).splitlines()[0]
    return reason.split(". See full TensorStore")[0][:200]


def _read_meta(workdir: Path, step: int) -> dict[str, Any]:
    """The checkpoint's JSON part, its schema checked."""
    folder = workdir / _FOLDER / str(step)
    with content.whole(str(folder)):
        text = (folder / "meta" / "metadata").read_text()
    return content.parse(text, str(folder))


def _restore(
    workdir: Path,
    manager: ocp.CheckpointManager,
    step: int,
    items: dict[str, Any],
) -> dict[str, Any]:
    """States of the checkpoint's `items`, name -> abstract state."""
    try:
        wanted = {name: ocp.args.StandardRestore(x) for name, x in items.items()}
        restored = manager.restore(step, args=ocp.args.Composite(**wanted))
    except Exception as error:  # Orbax raises many kinds for one cause: damaged files
        path = str(workdir / _FOLDER / str(step))
        if _OTHER_SHAPE in str(error):
            raise content.other_sizes(path) from error
        raise UserError(
            f"checkpoint {path!r} is partial or damaged "
            f"({_reason(error)}); delete it to fall back to the one before"
        ) from error
    return {name: restored[name] for name in items}


def list_steps(workdir: str | Path) -> list[tuple[int, ExperimentConfig]]:
    """Complete checkpoints of a folder: step and configuration, in order.

    Raises:
      UserError: no such folder, no complete checkpoint, or damage.
    """
    workdir = as_path(workdir)
    while True:
        steps, found = _steps(workdir), []
        try:
            for step in steps:
                config = learners.from_dict(_read_meta(workdir, step)["config"])
                found.append((step, config))
            return found
        except UserError:
            if not _has_changed(workdir, steps):
                raise


def _has_changed(workdir: Path, steps: list[int]) -> bool:
    """Whether a training that goes on has made, and so deleted, checkpoints meanwhile.

    What it is about to delete is damaged for a moment, and then gone.
    """
    time.sleep(0.1)
    return _steps(workdir) != steps


def _steps(workdir: Path) -> list[int]:
    """Steps of a folder's complete checkpoints, at least one, in order."""
    manager = _open(workdir)
    try:
        return _steps_of(manager, workdir)
    finally:
        manager.close()


def _open(workdir: Path) -> ocp.CheckpointManager:
    """For reading; UserError where there is no folder of checkpoints."""
    if not (workdir / _FOLDER).is_dir():
        raise UserError(
            f"checkpoint {str(workdir)!r}: no folder {_FOLDER!r} in it; expected the "
            "workdir of experiments.train"
        )
    return _manager(workdir)


def _steps_of(manager: ocp.CheckpointManager, workdir: Path) -> list[int]:
    """Steps of the complete checkpoints, at least one, in order."""
    steps = sorted(manager.all_steps())
    if not steps:
        raise UserError(
            f"checkpoint {str(workdir)!r}: holds no complete checkpoint; expected "
            "at least one step"
        )
    return steps


def load(workdir: str | Path, step: int | None = None) -> Checkpoint:
    """Loads a checkpoint from a path and nothing else.

    Args:
      workdir: folder that experiments.train wrote, or a file of `packed.pack`.
      step: training step; None means the last. A file has one.

    Raises:
      UserError: no such folder or step, no complete checkpoint, another schema, or
        damage.
    """
    workdir = as_path(workdir)
    if workdir.is_file():
        loaded = packed.load(workdir)
        if step not in (None, loaded.step):
            raise UserError(
                f"checkpoint {str(workdir)!r}: has no step {step}; expected "
                f"{loaded.step}, the only one of this file"
            )
        return loaded
    while True:
        steps = _steps(workdir)
        chosen = steps[-1] if step is None else step
        if chosen not in steps:
            raise UserError(
                f"checkpoint {str(workdir)!r}: has no step {chosen}; expected one of "
                f"{', '.join(map(str, steps))}"
            )
        try:
            return _load_step(workdir, chosen)
        except UserError:
            if not _has_changed(workdir, steps):
                raise


def _load_step(workdir: Path, step: int) -> Checkpoint:
    """One checkpoint, with the configuration that it was written with."""
    meta = _read_meta(workdir, step)
    config = learners.from_dict(meta["config"])
    spec = DataSpec.from_json(meta["spec"])
    manager = _open(workdir)
    try:
        items = {"state": abstract_state(config, spec)}
        state = _restore(workdir, manager, step, items)["state"]
    finally:
        manager.close()
    return Checkpoint(config, spec, state, step, meta["card"], meta["run"])


def digest_of(loaded: Checkpoint) -> str:
    """12 hexadecimal digits of all parameters' bits."""
    known = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(loaded.state.params):
        known.update(jax.tree_util.keystr(path).encode())
        known.update(np.ascontiguousarray(jax.device_get(leaf)).tobytes())
    return known.hexdigest()[:12]
