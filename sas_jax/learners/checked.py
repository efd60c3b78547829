"""A learner's and a policy's functions, telling when they return what nobody can use.

Every `Algorithm` wraps what it makes, so training, evaluation and users get them alike.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from sas_jax.data.spec import DataSpec
from sas_jax.errors import UserError
from sas_jax.shapes import expect_like, expect_shape
from sas_jax.types import Batch, Learner, Policy, Rows, TimeStep, TransitionBatch


def checked_learner(learner: Learner, algo: str) -> Learner:
    """The learner whose functions raise UserError for a wrong structure or shape.

    init: a state with a scalar step and key. sample: a `Batch` or `TransitionBatch`
    fits in itself; another kind is the learner's own affair. update: the state that it
    got, in structure, shapes and types, and scalar metrics. validate: such metrics.
    """

    def named(function: str) -> str:
        return f"{function} of algo {algo!r}"

    @functools.wraps(learner.init)
    def init(*arguments):
        state = learner.init(*arguments)
        for name in ("step", "key"):
            if not hasattr(state, name):
                raise UserError(
                    f"{named('init')} returned {type(state).__name__} without "
                    f"{name}; expected a TrainState"
                )
            expect_shape(named("init"), name, getattr(state, name))
        return state

    @functools.wraps(learner.sample)
    def sample(*arguments):
        batch = learner.sample(*arguments)
        if isinstance(batch, Batch):
            expect_rows_of_steps(named("sample"), batch)
        elif isinstance(batch, TransitionBatch):
            expect_transitions(named("sample"), batch)
        return batch

    @functools.wraps(learner.update)
    def update(state, batch):
        found = learner.update(state, batch)
        if not (isinstance(found, tuple) and len(found) == 2):
            raise UserError(
                f"{named('update')} returned {type(found).__name__}; expected a state "
                "and metrics"
            )
        expect_like(named("update"), "state", found[0], state)
        expect_metrics(named("update"), found[1])
        return found

    @functools.wraps(learner.validate)
    def validate(*arguments):
        metrics = learner.validate(*arguments)
        expect_metrics(named("validate"), metrics)
        return metrics

    return Learner(init, sample, update, validate)


def checked_policy(policy: Policy, spec: DataSpec, algo: str) -> Policy:
    """The policy whose functions raise UserError for a wrong structure or shape.

    What they are given: `Rows` of one length, `TimeStep`s of one length and the data's
    observations. initial_carry: leaves of that many rows, or scalars. act: actions
    `[B, A]`, and the carry as it was.
    """

    def named(function: str) -> str:
        return f"{function} of algo {algo!r}"

    @functools.wraps(policy.initial_carry)
    def initial_carry(variables, rows: Rows, *arguments, **settings):
        function = named("initial_carry")
        (count,) = _one_axis(function, "cost_limit", rows.cost_limit)
        _given(function, rows, (count,), "episode_seed", "target_return")
        carry = policy.initial_carry(variables, rows, *arguments, **settings)
        for path, leaf in jax.tree.leaves_with_path(carry):
            shape = np.shape(leaf)
            if shape[:1] not in ((), (count,)):
                raise UserError(
                    f"{function} returned carry{jax.tree_util.keystr(path)} of shape "
                    f"{shape}; expected {count} rows, or a scalar"
                )
        return carry

    def look_at(function: str, ts: TimeStep) -> int:
        obs = ts.obs
        expect_shape(function, "obs", obs, None, spec.obs_dim, verb="was given")
        count = obs.shape[0]
        _given(function, ts, (count,), "reward", "cost", "is_first", "is_running")
        return count

    @functools.wraps(policy.begin)
    def begin(variables, carry, ts, key):
        look_at(named("begin"), ts)
        return policy.begin(variables, carry, ts, key)

    @functools.wraps(policy.act)
    def act(variables, carry, ts, key):
        function = named("act")
        count = look_at(function, ts)
        action, after = policy.act(variables, carry, ts, key)
        expect_shape(function, "action", action, count, spec.action_dim)
        expect_like(function, "carry", after, carry)
        return action, after

    return policy._replace(initial_carry=initial_carry, begin=begin, act=act)


def expect_metrics(function: str, metrics: Any) -> None:
    """UserError unless they are a dict of scalars."""
    if not isinstance(metrics, dict):
        raise UserError(
            f"{function} returned metrics of type {type(metrics).__name__}; expected a "
            "dict of scalars"
        )
    for name, value in metrics.items():
        expect_shape(function, f"metric {name!r}", value)


def expect_rows_of_steps(function: str, batch: Batch) -> None:
    """UserError unless the fields of rows of steps fit one another; see `Batch`."""
    expect_shape(function, "is_valid", batch.is_valid, None, None)
    rows, steps = batch.is_valid.shape
    expect_shape(function, "obs", batch.obs, rows, steps + 1, None)
    expect_shape(function, "action", batch.action, rows, steps, None)
    for name in ("return_to_go", "cost_to_go"):
        expect_shape(function, name, getattr(batch, name), rows, steps + 1)
    for name in ("cost", "timestep"):
        expect_shape(function, name, getattr(batch, name), rows, steps)
    if (prompt := batch.prompt) is not None:
        expect_shape(function, "prompt.is_present", prompt.is_present, rows)
        expect_shape(function, "prompt.timestep", prompt.timestep, rows, None)
        length = prompt.timestep.shape[1]
        for name, size in (("obs", batch.obs), ("action", batch.action)):
            value = getattr(prompt, name)
            expect_shape(function, f"prompt.{name}", value, rows, length, size.shape[2])
        for name in ("return_to_go", "cost_to_go"):
            expect_shape(
                function, f"prompt.{name}", getattr(prompt, name), rows, length
            )
    if (lone := batch.lone) is not None:
        expect_shape(function, "lone.cost", lone.cost, None)
        count, size = len(lone.cost), batch.obs.shape[2]
        expect_shape(function, "lone.next_obs", lone.next_obs, count, size)


def expect_transitions(function: str, batch: TransitionBatch) -> None:
    """UserError unless the fields of single steps fit one another."""
    expect_shape(function, "obs", batch.obs, None, None)
    count, size = batch.obs.shape
    expect_shape(function, "next_obs", batch.next_obs, count, size)
    expect_shape(function, "action", batch.action, count, None)
    for name in ("reward", "cost", "is_terminal", "is_timeout"):
        expect_shape(function, name, getattr(batch, name), count)


def _one_axis(function: str, name: str, value: Any) -> tuple[int]:
    """The shape of an array with one axis; UserError for another."""
    expect_shape(function, name, value, None, verb="was given")
    return value.shape


def _given(function: str, values: Any, shape: tuple[int, ...], *names: str) -> None:
    """UserError for a field that is there and has another shape."""
    for name in names:
        if (value := getattr(values, name)) is not None:
            expect_shape(function, name, value, *shape, verb="was given")


def learners_of(make: Callable[..., Learner]) -> Callable[..., Learner]:
    """`Algorithm.make_learner` whose learners are checked."""

    @functools.wraps(make)
    def made(config, spec):
        return checked_learner(make(config, spec), config.algo)

    return _once(make, made)


def policies_of(make: Callable[..., Policy]) -> Callable[..., Policy]:
    """`Algorithm.make_policy` whose policies are checked."""

    @functools.wraps(make)
    def made(config, spec, **settings):
        return checked_policy(make(config, spec, **settings), spec, config.algo)

    return _once(make, made)


def _once(make: Callable, made: Callable) -> Callable:
    """`made`; where `make` is such a wrapper already, `make` itself."""
    if getattr(make, "is_checked", False):
        return make
    made.is_checked = True  # type: ignore[attr-defined]
    return made
