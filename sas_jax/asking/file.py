"""A fitted `Asking` and its report in one file (`files.named_arrays`)."""

import dataclasses
import os

import jax
import jax.numpy as jnp
from flax import traverse_util

from sas_jax import config as config_lib
from sas_jax.asking.network import Asking, AskingConfig, network
from sas_jax.data.spec import DataSpec
from sas_jax.errors import UserError
from sas_jax.files import named_arrays

_KIND, _FORMAT = "return model", "sas_jax return model 1"
_WRITER = "experiments.asking"
_STATIC = ("obs_dim", "return_scale", "cost_scale", "max_timestep", "scaling")


def save_asking(path: str | os.PathLike, asking: Asking, report: dict) -> None:
    """Writes both; the file appears whole or not at all.

    Raises:
      UserError: the folder cannot be written.
    """
    meta = {name: getattr(asking, name) for name in _STATIC}
    meta |= {"format": _FORMAT, "config": dataclasses.asdict(asking.config)}
    arrays = traverse_util.flatten_dict(asking.params, sep="/")
    named_arrays.write(path, arrays, meta | {"report": report})


def load_asking(path: str | os.PathLike, spec: DataSpec) -> Asking:
    """Reads what was fitted for a policy whose data spec is `spec`.

    Raises:
      UserError: no such file or not of this kind, an array missing or of a wrong shape,
        numbers that are not finite, or another standardisation than the spec's.
    """
    arrays, meta = named_arrays.read(path, _KIND, _FORMAT, _WRITER)
    try:
        config = config_lib.from_dict(AskingConfig, meta["config"])
        static = {name: meta[name] for name in _STATIC}
    except (AttributeError, KeyError, TypeError, UserError) as error:
        raise UserError(
            f"{_KIND} {str(path)!r}: {error} in its description; expected what "
            "save_asking writes"
        ) from error
    for name, theirs in (("obs_dim", spec.obs_dim), ("scaling", spec.scaling)):
        if static[name] != theirs:
            raise UserError(
                f"{_KIND} {str(path)!r}: {name} {static[name]}; expected {theirs} as "
                "in the checkpoint's data spec"
            )
    shapes = jax.eval_shape(
        lambda key: network(config).init(key, jnp.zeros((1, spec.obs_dim + 3))),
        jax.random.key(0),
    )["params"]
    expected = traverse_util.flatten_dict(shapes, sep="/")
    for name, leaf in expected.items():
        named_arrays.check(path, _KIND, arrays, name, leaf.shape)
    params = {name: jnp.asarray(arrays[name]) for name in expected}
    return Asking(
        params=traverse_util.unflatten_dict(params, sep="/"), config=config, **static
    )
