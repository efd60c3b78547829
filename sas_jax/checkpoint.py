"""Checkpoints: a training state, and everything needed to use it, in one folder.

Orbax writes each step into a temporary folder and renames it, so a killed process
leaves either a whole checkpoint or none. Loading never unpickles.
"""

import json
import logging
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp

from sas_jax import config as config_lib
from sas_jax.errors import UserError
from sas_jax.experiment import ExperimentConfig
from sas_jax.learners import sequence
from sas_jax.spec import DataSpec
from sas_jax.types import TrainState

# Raised whenever a field that loading relies on changes its meaning.
SCHEMA = 1
_FOLDER = "checkpoints"


class Checkpoint(NamedTuple):
    """A loaded checkpoint. `state` has a leading axis of training seeds."""

    config: ExperimentConfig
    spec: DataSpec
    state: TrainState
    step: int
    card: dict[str, Any] | None


def _manager(workdir: Path, keep: int | None = None) -> ocp.CheckpointManager:
    # Orbax reports every file it touches, and warns of its own defaults.
    logging.getLogger("absl").setLevel(logging.ERROR)
    return ocp.CheckpointManager(
        (workdir / _FOLDER).absolute(),
        item_names=("state", "meta"),
        options=ocp.CheckpointManagerOptions(
            max_to_keep=keep, enable_async_checkpointing=False
        ),
    )


def _meta(config: ExperimentConfig, spec: DataSpec, card: dict | None) -> dict:
    return {
        "schema": SCHEMA,
        "config": config_lib.to_dict(config),
        "spec": spec.to_json(),
        "card": card,
    }


class Writer:
    """Saves and resumes the training run of one folder."""

    def __init__(self, workdir: str | Path, config: ExperimentConfig, spec: DataSpec):
        self._config, self._spec = config, spec
        self._workdir = Path(workdir)
        try:
            self._workdir.mkdir(parents=True, exist_ok=True)
            self._manager = _manager(self._workdir, config.train.keep_checkpoints)
        except OSError as error:
            raise UserError(
                f"workdir {str(workdir)!r}: {error.strerror}; expected a folder that "
                "can be written"
            ) from error

    def resume(self, abstract: TrainState) -> TrainState | None:
        """The last complete checkpoint's state, or None when there is none.

        Raises:
          UserError: the folder holds a run of another configuration or data set, or a
            checkpoint that cannot be read.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        meta = _read_meta(self._workdir, step)
        mine = json.loads(json.dumps(_meta(self._config, self._spec, None)))
        for name in ("config", "spec"):
            theirs = {**meta[name]}
            if theirs != mine[name]:
                key = _first_difference(theirs, mine[name])
                raise UserError(
                    f"workdir {str(self._workdir)!r} holds a run with another {name} "
                    f"(first difference: {key}); expected the same settings to resume, "
                    "or an empty folder"
                )
        return _restore(self._workdir, self._manager, step, abstract)

    def save(self, step: int, state: TrainState, card: dict | None = None) -> None:
        """Writes one checkpoint; complete or absent whatever happens."""
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),
                    meta=ocp.args.JsonSave(_meta(self._config, self._spec, card)),
                ),
                force=True,
            )
            self._manager.wait_until_finished()
        except OSError as error:
            raise UserError(
                f"workdir {str(self._workdir)!r}: checkpoint of step {step} not "
                f"written ({error.strerror or error}); the earlier ones are whole"
            ) from error

    def close(self) -> None:
        """Releases Orbax's threads."""
        self._manager.close()


def _first_difference(left: Any, right: Any, where: str = "") -> str:
    """Dotted path of the first place where two nested values differ."""
    if isinstance(left, dict) and isinstance(right, dict):
        for key in sorted(set(left) | set(right)):
            if left.get(key) != right.get(key):
                path = f"{where}.{key}" if where else key
                return _first_difference(left.get(key), right.get(key), path)
    return where


def _read_meta(workdir: Path, step: int) -> dict[str, Any]:
    """The checkpoint's JSON part, its schema checked."""
    folder = workdir / _FOLDER / str(step) / "meta"
    try:
        meta = json.loads((folder / "metadata").read_text())
        schema = meta["schema"]
        for part in ("config", "spec", "card"):
            if schema == SCHEMA and not isinstance(meta[part], (dict, type(None))):
                raise TypeError(f"{part} is no group of values")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"checkpoint {str(folder.parent)!r} is partial or damaged ({error}); "
            "expected a folder written by experiments.train"
        ) from error
    if schema != SCHEMA:
        raise UserError(
            f"checkpoint {str(folder.parent)!r} has schema {schema!r}; this version "
            f"reads schema {SCHEMA}"
        )
    return meta


def _restore(workdir, manager, step, abstract) -> TrainState:
    try:
        restored = manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        )
    except Exception as error:  # Orbax raises many kinds for one cause: damaged files
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        reason = reason.split(". See full TensorStore")[0][:200]
        raise UserError(
            f"checkpoint {str(workdir / _FOLDER / str(step))!r} is partial or damaged "
            f"({reason}); delete it to fall back to the one before"
        ) from error
    return restored["state"]


def abstract_state(config: ExperimentConfig, spec: DataSpec) -> TrainState:
    """Shapes and types of a run's state, leading axis of training seeds.

    They lie on the first device here: Orbax would look for the devices that the state
    was saved from, and a run trained on a GPU must load on a machine without one.
    """
    learner = sequence.make(config, spec)
    keys = jax.random.split(jax.random.key(0), config.train.num_seeds)
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here),
        jax.eval_shape(jax.vmap(learner.init), keys),
    )


def load(workdir: str | Path, step: int | None = None) -> Checkpoint:
    """Loads a checkpoint from a path and nothing else.

    Args:
      workdir: folder that experiments.train wrote.
      step: training step; None means the last.

    Raises:
      UserError: no such folder, no complete checkpoint, another schema, or damage.
    """
    workdir = Path(workdir)
    if not (workdir / _FOLDER).is_dir():
        raise UserError(
            f"checkpoint {str(workdir)!r}: no folder {_FOLDER!r} in it; expected the "
            "workdir of experiments.train"
        )
    manager = _manager(workdir)
    try:
        steps = sorted(manager.all_steps())
        if not steps:
            raise UserError(
                f"checkpoint {str(workdir)!r}: holds no complete checkpoint; expected "
                "at least one step"
            )
        if step is None:
            step = steps[-1]
        if step not in steps:
            raise UserError(
                f"checkpoint {str(workdir)!r}: has no step {step}; expected one of "
                f"{', '.join(map(str, steps))}"
            )
        meta = _read_meta(workdir, step)
        config = config_lib.from_dict(ExperimentConfig, meta["config"])
        spec = DataSpec.from_json(meta["spec"])
        state = _restore(workdir, manager, step, abstract_state(config, spec))
    finally:
        manager.close()
    return Checkpoint(config, spec, state, step, meta["card"])
