"""What a checkpoint holds: a training state, and all that is needed to use it."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from sas_jax import config as config_lib
from sas_jax import learners
from sas_jax.data.spec import DataSpec
from sas_jax.errors import UserError
from sas_jax.experiment import ExperimentConfig
from sas_jax.types import TrainState

# Raised whenever a field that loading relies on changes its meaning, or the networks
# their layers. 2: lidars move by their law. 3: settings as the registry has them.
SCHEMA = 3


class Checkpoint(NamedTuple):
    """A loaded checkpoint. `state` has a leading axis, the `TrainConfig.lanes`.

    run: `failed_seeds.Tracker`'s values, among them "failed": index of a lane ->
      steps it made before its loss was not finite. Its state is that of the last one.
    """

    config: ExperimentConfig
    spec: DataSpec
    state: TrainState
    step: int
    card: dict[str, Any] | None
    run: dict[str, Any] = {}


def meta(
    config: ExperimentConfig,
    spec: DataSpec,
    card: dict | None = None,
    run: dict | None = None,
) -> dict:
    """All but the state, as plain values for JSON."""
    return {
        "schema": SCHEMA,
        "config": config_lib.to_dict(config),
        "spec": spec.to_json(),
        "card": card,
        "run": run or {},
    }


def comparable(config: ExperimentConfig, spec: DataSpec) -> dict:
    """What two runs must share for one to go on with the other."""
    return json.loads(json.dumps(meta(config, spec))) | {"config": deciding(config)}


# Group, setting, and the value that makes it as if it was not there.
_CAME_LATER = (
    ("policy", "cost_drop", 0),
    ("model", "sees_nearest", False),
    ("model", "cost_as", "hit"),
    ("model", "cost_of_two", "largest"),
)


def deciding(config: ExperimentConfig) -> dict:
    """The settings that decide what is trained, as plain values.

    How many devices train it, and how a policy that is ready plans, is not among them.
    A setting that came later is left out where it is off: what was trained before goes
    by its old name.
    """
    known = json.loads(json.dumps(config_lib.to_dict(config)))
    del known["train"]["devices"]
    known.get("sas", {}).pop("plan", None)
    for group, name, off in _CAME_LATER:
        if known.get(group, {}).get(name) == off:
            del known[group][name]
    return known


@contextlib.contextmanager
def whole(name: str) -> Iterator[None]:
    """What is wrong with a file's content becomes one line about checkpoint `name`."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"checkpoint {name!r} is partial or damaged ({error}); "
            "expected a folder written by experiments.train"
        ) from error


def other_sizes(name: str) -> UserError:
    """What is wrong with checkpoint `name` if its arrays have other shapes."""
    return UserError(
        f"checkpoint {name!r} holds networks of other sizes than this version makes of "
        "its settings; train again, or use the version that wrote it"
    )


def parse(text: str, name: str) -> dict[str, Any]:
    """What `meta` made, from its JSON, the schema checked.

    Raises:
      UserError: damage, or another schema; names the checkpoint `name`.
    """
    with whole(name):
        found = json.loads(text)
        schema = found["schema"]
        found = {"run": {}} | found  # older ones have none
        for part in ("config", "spec", "card", "run"):
            if schema == SCHEMA and not isinstance(found[part], (dict, type(None))):
                raise TypeError(f"{part} is no group of values")
    if schema != SCHEMA:
        raise UserError(
            f"checkpoint {name!r} has schema {schema!r}; this version "
            f"reads schema {SCHEMA}: train again, or use the version that wrote it"
        )
    return found


def abstract_state(
    config: ExperimentConfig,
    spec: DataSpec,
    sharding: jax.sharding.Sharding | None = None,
) -> TrainState:
    """Shapes and types of a run's state, leading axis the `TrainConfig.lanes`.

    They lie on the first device here unless `sharding` says where: Orbax would look for
    the devices that the state was saved from, and a run trained on a GPU must load on a
    machine without one.
    """
    learner = learners.get(config.algo).make_learner(config, spec)
    count = len(config.train.lanes)
    keys, limits = jax.random.split(jax.random.key(0), count), np.zeros(count, "f4")
    here = sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here),
        jax.eval_shape(jax.vmap(learner.init), keys, limits),
    )
