"""Targets that an evaluation asks for, against what the model's data hold."""

import warnings
from collections.abc import Sequence

from sas_jax.config import Number
from sas_jax.data.spec import DataSpec
from sas_jax.errors import UserError


class OutsideDataWarning(UserWarning):
    """A cost target beyond every episode of the data: the policy must extrapolate."""


def check_cost_limits(limits: Sequence[float]) -> None:
    """Raises UserError for no threshold, a repeated one, or one that is not >= 0."""
    _check_is_tuple("cost_limits", limits)
    if not len(limits):
        raise UserError("cost_limits: expected at least one threshold")
    for limit in limits:
        if problem := Number(least=0).problem(limit):
            raise UserError(f"cost_limits: {limit!r}; each {problem}")
    if len(set(limits)) != len(limits):
        raise UserError(f"cost_limits: {tuple(limits)} names one twice")


def _check_is_tuple(name: str, values: Sequence[float]) -> None:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise UserError(f"{name}: {values!r}; expected a tuple, ({values!r},)")


def check_target_returns(targets: Sequence[float]) -> None:
    """Raises UserError for no target, a repeated one, or one that is not finite."""
    _check_is_tuple("target_returns", targets)
    if not len(targets):
        raise UserError("target_returns: expected at least one")
    for target in targets:
        if problem := Number().problem(target):
            raise UserError(f"target_returns: {target!r}; each {problem}")
    if len(set(targets)) != len(targets):
        raise UserError(f"target_returns: {tuple(targets)} names one twice")


def warn_outside(spec: DataSpec, limits: Sequence[float]) -> None:
    """One `OutsideDataWarning` for all cost targets outside the data's episode costs.

    None for data whose range is not known (checkpoints from before it was recorded).
    """
    if spec.cost_range is None:
        return
    low, high = spec.cost_range
    outside = [f"{limit:g}" for limit in limits if not low <= limit <= high]
    if outside:
        warnings.warn(
            f"cost_limits {', '.join(outside)}: outside the data's episode costs, "
            f"{low:g} to {high:g}; the policy never saw such a target",
            OutsideDataWarning,
            stacklevel=3,
        )
