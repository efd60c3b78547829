"""A critic and its report in one file (`files.named_arrays`)."""

import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from sas_jax import config as config_lib
from sas_jax.critic.network import Critic, CriticConfig, network
from sas_jax.data.spec import DataSpec
from sas_jax.errors import UserError
from sas_jax.files import named_arrays

_FORMAT = "sas_jax critic 2"
_PARAMS = "params/"
_ARRAYS = ("slope", "offset", "levels", "rates")
_STATIC = ("obs_dim", "action_dim", "rings", "ring_scales", "scaling")


def save_critic(path: str | os.PathLike, critic: Critic, report: dict) -> None:
    """Writes both; the file appears whole or not at all.

    Raises:
      UserError: the folder cannot be written.
    """
    arrays = {name: np.asarray(getattr(critic, name)) for name in _ARRAYS}
    for name, value in traverse_util.flatten_dict(critic.params, sep="/").items():
        arrays[_PARAMS + name] = np.asarray(value)
    meta = {name: getattr(critic, name) for name in _STATIC}
    meta |= {"format": _FORMAT, "config": dataclasses.asdict(critic.config)}
    meta["report"] = report
    named_arrays.write(path, arrays, meta)


def load_critic(path: str | os.PathLike, spec: DataSpec) -> Critic:
    """Reads the critic of a world model whose data spec is `spec`.

    Raises:
      UserError: no such file or not a critic's, an array missing or of a wrong shape,
        numbers that are not finite, or observations, actions, lidars or
        standardisation other than the spec's.
    """
    arrays, meta = _read(path)
    try:
        config = config_lib.from_dict(CriticConfig, meta["config"])
        rings = tuple(tuple(ring) for ring in meta["rings"])
        scales = tuple(tuple(scale) for scale in meta["ring_scales"])
        sizes = meta["obs_dim"], meta["action_dim"]
        scaling = meta["scaling"]
    except (AttributeError, KeyError, TypeError, UserError) as error:
        raise UserError(
            f"critic {str(path)!r}: {error} in its description; expected what "
            "save_critic writes"
        ) from error
    for name, mine, theirs in (
        ("observation and action size", sizes, (spec.obs_dim, spec.action_dim)),
        ("lidars", rings, tuple(tuple(ring) for ring in spec.rings)),
        ("standardisation of observations", scaling, spec.scaling),
        ("scales of the lidars", scales, spec.ring_scales),
    ):
        if mine != theirs:
            raise UserError(
                f"critic {str(path)!r}: {name} {mine}; expected {theirs} as in the "
                "checkpoint's data spec"
            )
    net = network(config, sizes[0], rings, scales)
    shapes = _expected(net, config.members, sizes)
    shapes |= {"slope": (), "offset": ()}
    count = arrays["levels"].shape if "levels" in arrays else (0,)
    shapes |= dict.fromkeys(("levels", "rates"), count)
    for name, shape in shapes.items():
        named_arrays.check(path, "critic", arrays, name, shape)
    if len(count) != 1 or (np.diff(arrays["levels"]) <= 0).any():
        raise UserError(f"critic {str(path)!r}: levels do not rise; expected a table")
    values = {name: jnp.asarray(arrays[name]) for name in shapes}
    params = {
        name.removeprefix(_PARAMS): value
        for name, value in values.items()
        if name.startswith(_PARAMS)
    }
    return Critic(
        params=traverse_util.unflatten_dict(params, sep="/"),
        **{name: values[name] for name in _ARRAYS},
        config=config,
        obs_dim=sizes[0],
        action_dim=sizes[1],
        rings=rings,
        ring_scales=scales,
        scaling=scaling,
    )


def load_report(path: str | os.PathLike) -> dict[str, Any]:
    """The report that was saved with a critic; UserError as `load_critic`."""
    return _read(path)[1].get("report", {})


def _read(path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """All arrays but the description, and the description."""
    return named_arrays.read(path, "critic", _FORMAT, "experiments.critic")


def _expected(net, members: int, sizes) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the parameters that the settings ask for."""
    shapes = jax.eval_shape(
        lambda key: net.init(key, *(jnp.zeros((1, size)) for size in sizes))["params"],
        jax.random.key(0),
    )
    flat = traverse_util.flatten_dict(shapes, sep="/")
    return {_PARAMS + name: (members, *leaf.shape) for name, leaf in flat.items()}
