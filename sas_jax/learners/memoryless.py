"""What learners on single steps share: they see one observation, nothing before it."""

from collections.abc import Callable
from typing import Any

import jax

from sas_jax.data.spec import DataSpec
from sas_jax.errors import UserError
from sas_jax.experiment import ExperimentConfig
from sas_jax.types import Policy


def check(config: ExperimentConfig) -> None:
    """Raises UserError for settings that only rows of steps have."""
    for name in ("row_length", "accumulate"):
        if (given := getattr(config.train, name)) != 1:
            raise UserError(
                f"train.{name}: {given}; expected 1, as algo {config.algo!r} draws "
                "single steps"
            )


def make_policy(
    spec: DataSpec, action_of: Callable[[Any, jax.Array], jax.Array]
) -> Policy:
    """A policy that acts on the observation alone, the same under every key.

    action_of: (variables, standardised observations `[B, O]`) -> actions `[B, A]`.
    """

    def act(variables, carry, ts, key):
        del key
        obs = spec.standardised(ts.obs)
        return action_of(variables, obs), carry

    return Policy(
        initial_carry=lambda variables, rows, key: (),
        begin=lambda variables, carry, ts, key: carry,
        act=act,
        mean_action=lambda variables, carry, ts: act(variables, carry, ts, None)[0],
    )
