"""Classifier-free guidance on the limit of cost (Ho and Salimans 2022).

A CDT that was shown some rows without their costs to go knows two policies: what is
done under this limit, and what is done whatever it costs. Their difference is what the
limit changes, and a guided row does w times as much of it:

    mean = mean without limit + w (mean under the limit - mean without limit)

w = 1 is the policy as it is, 0 the one without a limit. The deviation stays that of the
policy under the limit. Both have seen the same steps: the one without a limit keeps a
memory of its own, in which no step has a cost to go.
"""

from typing import Any

import jax
import jax.numpy as jnp

from sas_jax.alignment.carry import Carry, Setup, of_rows
from sas_jax.alignment.sequence_model import Observed
from sas_jax.alignment.variants import VARIANTS
from sas_jax.types import NO_LIMIT


def observed(
    setup: Setup, variables: Any, carry: Carry
) -> tuple[Observed, tuple[Any, Observed] | None]:
    """The policy at the present states, guided where its variant is.

    Args:
      carry: has seen the present observation.

    Returns:
      Its distribution, and the memory without a limit with what it makes of the present
      step, for `committed`; None where there is no such memory.
    """
    own = setup.model.observe(variables, carry.state, carry.prompt)
    if carry.free is None:
        return own, None
    state = carry.state
    free_state = carry.free.replace(
        obs=state.obs,
        timestep=state.timestep,
        return_to_go=state.return_to_go,
        cost_to_go=jnp.full_like(state.cost_to_go, NO_LIMIT),
    )
    free = setup.model.observe(variables, free_state, None)
    weight = jnp.asarray(of_rows(carry, lambda v: VARIANTS[v].guidance))[:, None]
    # Rows that are not guided keep their mean to the bit.
    mean = jnp.where(
        weight == 1.0, own.mean, free.mean + weight * (own.mean - free.mean)
    )
    return own.replace(mean=mean), (free_state, free)


def committed(
    setup: Setup, variables: Any, carry: Carry, free: Any, action: jax.Array
) -> Carry:
    """The carry whose memory without a limit has the step's action `[B, A]`, too."""
    if free is None:
        return carry
    return carry.replace(free=setup.model.commit(variables, *free, action, None))
