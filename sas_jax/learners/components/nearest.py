"""How near the nearest object of each lidar is, as observations beside its bins.

A hazard costs within .2 metres, where its lidar reads .93: the edge lies in a sliver of
the largest of 16 bins. A small network that is given the bins learns the layouts of its
data instead of the edge, and its costs are worth nothing in new ones
(docs/results/baselines.md). So each lidar gets one column more,

    x = -log(1.02 - largest reading) - 1        -1.0 nothing near, 1.4 edge, 2.9 touched

in which the last metre has most of the room. Learners and policies are made for the
wider observations, and what they are called with is widened: nothing else changes, and
data, buffers and checkpoints hold observations as they were.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax.data.spec import DataSpec
from sas_jax.experiment import ExperimentConfig
from sas_jax.types import Learner

# The reading of an object that is touched is 1; this far from it the scale ends.
_TOUCH = 0.02
_MIDDLE = 1.0


def nearness(readings: jax.Array) -> jax.Array:
    """-log(1.02 - the largest of a lidar's readings `[..., bins]`): `[...]`."""
    return -jnp.log(1.0 + _TOUCH - jnp.clip(readings.max(axis=-1), 0.0, 1.0))


def count(config: ExperimentConfig, spec: DataSpec) -> int:
    """How many columns more there are: one a lidar, or none if it is not asked for."""
    return len(spec.rings) if getattr(config.model, "sees_nearest", False) else 0


def wide(spec: DataSpec) -> DataSpec:
    """The sizes and scales of observations with their columns more."""
    more = len(spec.rings)

    def longer(values, value):
        return np.concatenate([values, np.full(more, value, values.dtype)])

    return dataclasses.replace(
        spec,
        obs_dim=spec.obs_dim + more,
        obs_mean=longer(spec.obs_mean, _MIDDLE),
        obs_std=longer(spec.obs_std, 1.0),
        obs_active=longer(spec.obs_active, True),
    )


def _appended(obs: jax.Array, columns: list[jax.Array]) -> jax.Array:
    return jnp.concatenate([obs, *(x[..., None] for x in columns)], axis=-1)


def widened(obs: jax.Array, spec: DataSpec) -> jax.Array:
    """Standardised `[..., O]` made `[..., O + R]`; spec: that of the narrow ones."""
    rings = zip(spec.rings, spec.ring_scales, strict=True)
    more = [
        nearness(mean + std * obs[..., first : first + size]) - _MIDDLE
        for (first, size), (mean, std) in rings
    ]
    return _appended(obs, more)


def _widened_raw(obs: jax.Array, spec: DataSpec) -> jax.Array:
    """The same in the environment's units."""
    more = [nearness(obs[..., first : first + size]) for first, size in spec.rings]
    return _appended(obs, more)


def _asked_widely(ask: Callable, spec: DataSpec) -> Callable:
    """A function of (variables, standardised observations, ...) of the narrow ones."""
    return lambda variables, obs, *more: ask(variables, widened(obs, spec), *more)


def _where_asked(change: Callable) -> Callable:
    """Makes a wrapper of makers `(config, spec, ...)`, which does nothing if not asked.

    change: (what the maker made for the wider observations, the narrow spec) -> the
    same for the narrow ones.
    """

    def wrap(make: Callable) -> Callable:
        @functools.wraps(make)
        def made(config: ExperimentConfig, spec: DataSpec, *args: Any, **others: Any):
            if not count(config, spec):
                return make(config, spec, *args, **others)
            return change(make(config, wide(spec), *args, **others), spec)

        return made

    return wrap


@_where_asked
def learners(learner: Learner, spec: DataSpec) -> Learner:
    """Wraps a maker of learners: leaves of a batch that end in `obs` are wider."""

    def grown(batch):
        def leaf(path, x):
            name = getattr(path[-1], "name", "")
            return widened(x, spec) if name.endswith("obs") else x

        return jax.tree_util.tree_map_with_path(leaf, batch)

    return learner._replace(
        update=lambda state, batch: learner.update(state, grown(batch)),
        validate=lambda state, batch, key: learner.validate(state, grown(batch), key),
    )


@_where_asked
def policies(policy, spec: DataSpec):
    """Wraps a maker of policies, which see the environment's own observations."""

    def looking(of):
        def looked(variables, carry, ts, *key):
            ts = ts.replace(obs=_widened_raw(ts.obs, spec))
            return of(variables, carry, ts, *key)

        return looked

    found = {"begin": looking(policy.begin), "act": looking(policy.act)}
    if policy.mean_action is not None:
        found["mean_action"] = looking(policy.mean_action)
    return policy._replace(**found)


@_where_asked
def of_states(ask: Callable, spec: DataSpec) -> Callable:
    """Wraps a maker of a function of (variables, standardised observations, ...)."""
    return _asked_widely(ask, spec)


@_where_asked
def signals(asked: dict[str, Callable], spec: DataSpec) -> dict[str, Callable]:
    """Wraps a maker of several such functions by name."""
    return {name: _asked_widely(ask, spec) for name, ask in asked.items()}


@_where_asked
def risks(model, spec: DataSpec):
    """Wraps a maker of risk models."""
    found = {"risk": _asked_widely(model.risk, spec)}
    if model.value is not None:
        found["value"] = _asked_widely(model.value, spec)
    return model._replace(**found)
