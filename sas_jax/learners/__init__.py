"""The registry of algorithms: every one is a file here, or a user's `Algorithm`.

Training, checkpoints, evaluation and the card ask it by `ExperimentConfig.algo`. An
algorithm of one's own needs one call of `register`, before it is asked for.
"""

import importlib
from collections.abc import Mapping
from typing import Any

from sas_jax import config as config_lib
from sas_jax.errors import UserError, nearest
from sas_jax.experiment import ExperimentConfig
from sas_jax.learners.algorithm import Algorithm

# Algorithm -> the module whose ALGORITHMS hold it, imported when it is asked for.
_MODULES = {
    "dt": "sas_jax.learners.sequence",
    "cdt": "sas_jax.learners.sequence",
    "bc": "sas_jax.learners.bc",
    "bc_safe": "sas_jax.learners.bc",
    "bcq_lag": "sas_jax.learners.bcq_lag",
    "bear_lag": "sas_jax.learners.bear_lag",
    "cpq": "sas_jax.learners.cpq",
    "coptidice": "sas_jax.learners.coptidice",
    "caps": "sas_jax.learners.caps",
    "o3srl": "sas_jax.learners.o3srl",
    "fisor": "sas_jax.learners.fisor",
    "doc": "sas_jax.learners.doc",
    "td3_bc": "sas_jax.learners.td3",
    "prdc": "sas_jax.learners.td3",
    "cql": "sas_jax.learners.sac",
    "sac_n": "sas_jax.learners.sac",
    "ape_v": "sas_jax.learners.ape_v",
    # Online: they act while they learn, and are trained by `online.fit`.
    "sac": "sas_jax.learners.sac_alam",
    "stac": "sas_jax.learners.sac_alam",
    "sac_lag": "sas_jax.learners.sac_alam",
    "sac_pid": "sas_jax.learners.sac_alam",
    "fac": "sas_jax.learners.sac_alam",
    "fac_penalty": "sas_jax.learners.sac_alam",
    "fac_regression": "sas_jax.learners.sac_alam",
    "sac_alam": "sas_jax.learners.sac_alam",
    "dcrl": "sas_jax.learners.dcrl",
}
_registered: dict[str, Algorithm] = {}


def register(algorithm: Algorithm) -> None:
    """Adds an algorithm under its name.

    Raises:
      UserError: another one has that name.
    """
    name = algorithm.name
    if name in _MODULES or _registered.get(name, algorithm) is not algorithm:
        raise UserError(f"algo: there is a {name!r} already; expected another name")
    _registered[name] = algorithm


def names() -> tuple[str, ...]:
    """All algorithms that `get` knows, built-in ones first."""
    return (*_MODULES, *_registered)


def get(name: str) -> Algorithm:
    """The algorithm of that name.

    Raises:
      UserError: there is none; the nearest one is offered.
    """
    if name in _registered:
        return _registered[name]
    if name not in _MODULES:
        raise UserError(
            f"algo: unknown {name!r}{nearest(name, names())} "
            f"(known: {', '.join(names())})"
        )
    found = importlib.import_module(_MODULES[name]).ALGORITHMS
    return next(algorithm for algorithm in found if algorithm.name == name)


def default_config(task: str, algo: str = "dt") -> ExperimentConfig:
    """An algorithm's settings for a task, as its source has them.

    Raises:
      UserError: an unknown algorithm or task.
    """
    return get(algo).default_config(task)


def _unread(algorithm: Algorithm) -> set[str]:
    """Groups of settings that an algorithm does not read."""
    return {"sas", "policy", "data"} - set(algorithm.groups)


def check(config: ExperimentConfig) -> ExperimentConfig:
    """Returns `config`; UserError where its settings do not fit its algorithm."""
    algorithm = get(config.algo)
    if type(config.model) is not algorithm.config_class:
        raise UserError(
            f"model: {type(config.model).__name__}; expected "
            f"{algorithm.config_class.__name__}, as algo {config.algo!r} takes"
        )
    for group in _unread(algorithm):
        given = getattr(config, group)
        if given != type(given)():
            raise UserError(f"{group}.*: algo {config.algo!r} has no such settings")
    if bool(config.train.cost_limits) != algorithm.by_threshold:
        what = "at least one" if algorithm.by_threshold else "none"
        raise UserError(
            f"train.cost_limits {config.train.cost_limits}: expected {what} with algo "
            f"{config.algo!r}"
        )
    algorithm.check(config)
    return config


def from_dict(values: dict[str, Any]) -> ExperimentConfig:
    """Inverse of `config.to_dict` of a whole experiment.

    Settings that the algorithm does not read are the defaults of now: those of then
    say nothing about what was trained.

    Raises:
      UserError: an unknown algorithm or setting, a wrong type, or no fit.
    """
    algorithm = get(values.get("algo", "dt"))
    model_class, unread = algorithm.config_class, _unread(algorithm)
    model: Any = config_lib.from_dict(model_class, values.get("model", {}), "model")
    values = {name: value for name, value in values.items() if name not in unread}
    return check(config_lib.from_dict(ExperimentConfig, values | {"model": model}))


def override(config: ExperimentConfig, settings: list[str]) -> ExperimentConfig:
    """Applies settings like "model.decoder.width=256"; see `config.override`.

    Raises:
      UserError: as `from_dict`; another algorithm, which has other settings.
    """
    return _same_algorithm(config, config_lib.override(config, settings))


def merge(config: ExperimentConfig, values: Mapping[str, Any]) -> ExperimentConfig:
    """Applies nested values, as a file has them; see `config.merge`.

    Raises:
      UserError: as `override`.
    """
    return _same_algorithm(config, config_lib.merge(config, values))


def _same_algorithm(
    config: ExperimentConfig, changed: ExperimentConfig
) -> ExperimentConfig:
    """The changed settings, once they have been checked."""
    if get(changed.algo).name != config.algo:
        raise UserError(
            f"algo={changed.algo}: expected {config.algo!r}, whose settings these are; "
            "start from the other one's (--algo)"
        )
    return check(changed)
