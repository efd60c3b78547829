"""A fitted `Support` and its report in one file (`files.named_arrays`)."""

import dataclasses
import os

import jax
import jax.numpy as jnp
from flax import traverse_util

from sas_jax import config as config_lib
from sas_jax.data.spec import DataSpec
from sas_jax.errors import UserError
from sas_jax.files import named_arrays
from sas_jax.support.model import Support, SupportConfig, network

_KIND, _FORMAT = "support model", "sas_jax support model 1"
_WRITER = "experiments.support"
_STATIC = ("obs_dim", "action_dim", "scaling")
_SCALARS = ("bandwidth", "least", "scale", "level")
_PARAMS = "params/"


def save_support(path: str | os.PathLike, support: Support, report: dict) -> None:
    """Writes both; the file appears whole or not at all.

    Raises:
      UserError: the folder cannot be written.
    """
    meta = {name: getattr(support, name) for name in _STATIC}
    meta |= {"format": _FORMAT, "config": dataclasses.asdict(support.config)}
    names = ("centres", "action_mean", "action_std", *_SCALARS)
    arrays = {name: getattr(support, name) for name in names}
    flat = traverse_util.flatten_dict(support.params or {}, sep="/")
    arrays |= {_PARAMS + name: value for name, value in flat.items()}
    named_arrays.write(path, arrays, meta | {"report": report})


def load_support(path: str | os.PathLike, spec: DataSpec) -> Support:
    """Reads what was fitted for a policy whose data spec is `spec`.

    Raises:
      UserError: no such file or not of this kind, an array missing or of a wrong shape,
        numbers that are not finite, or sizes or a standardisation unlike the spec's.
    """
    arrays, meta = named_arrays.read(path, _KIND, _FORMAT, _WRITER)
    try:
        config = config_lib.from_dict(SupportConfig, meta["config"])
        static = {name: meta[name] for name in _STATIC}
    except (AttributeError, KeyError, TypeError, UserError) as error:
        raise UserError(
            f"{_KIND} {str(path)!r}: {error} in its description; expected what "
            "save_support writes"
        ) from error
    for name in _STATIC:
        if static[name] != (theirs := getattr(spec, name)):
            raise UserError(
                f"{_KIND} {str(path)!r}: {name} {static[name]}; expected {theirs} as "
                "in the checkpoint's data spec"
            )
    actions, size = spec.action_dim, spec.obs_dim + spec.action_dim
    count = len(arrays["centres"]) if arrays.get("centres", jnp.zeros(())).ndim else 0
    shapes = dict.fromkeys(_SCALARS, ()) | {"centres": (count, size)}
    shapes |= {"action_mean": (actions,), "action_std": (actions,)}
    if config.kind == "lyapunov":
        own = jax.eval_shape(
            lambda key: network(config).init(key, jnp.zeros((1, size))),
            jax.random.key(0),
        )["params"]
        flat = traverse_util.flatten_dict(own, sep="/")
        shapes |= {_PARAMS + name: leaf.shape for name, leaf in flat.items()}
    for name, shape in shapes.items():
        named_arrays.check(path, _KIND, arrays, name, shape)
    values = {name: jnp.asarray(arrays[name]) for name in shapes}
    flat = {
        name.removeprefix(_PARAMS): values.pop(name)
        for name in shapes
        if name.startswith(_PARAMS)
    }
    params = traverse_util.unflatten_dict(flat, sep="/") if flat else None
    return Support(params=params, config=config, **values, **static)
