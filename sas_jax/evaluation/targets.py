"""Targets that an evaluation asks for, against what the model's data hold."""

import math
import warnings
from collections.abc import Sequence

from sas_jax.data.spec import DataSpec
from sas_jax.errors import UserError


class OutsideDataWarning(UserWarning):
    """A cost target beyond every episode of the data: the policy must extrapolate."""


def check_cost_limits(limits: Sequence[float]) -> None:
    """Raises UserError for no threshold, a repeated one, or one that is not >= 0."""
    if not limits:
        raise UserError("cost_limits: expected at least one threshold")
    for limit in limits:
        if not math.isfinite(limit) or limit < 0:
            raise UserError(f"cost_limits: {limit:g}; expected numbers >= 0")
    if len(set(limits)) != len(limits):
        raise UserError(f"cost_limits: {tuple(limits)} names one twice")


def check_target_returns(targets: Sequence[float]) -> None:
    """Raises UserError for no target, a repeated one, or one that is not finite."""
    if not targets:
        raise UserError("target_returns: expected at least one")
    for target in targets:
        if not math.isfinite(target):
            raise UserError(f"target_returns: {target:g}; expected finite numbers")
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
