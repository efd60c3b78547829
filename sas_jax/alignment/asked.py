"""The return that a policy is asked for: counted down, or learnt from the budget.

Beyond the paper (algorithm, section 10). The usual token begins at a target and loses
what was earned. A learnt one is what the data reach from here while so much cost may
still come.
"""

from typing import Any

import jax.numpy as jnp

from sas_jax.alignment.carry import Carry, Setup, of_rows
from sas_jax.alignment.variants import VARIANTS
from sas_jax.shapes import expect_shape


def asked(setup: Setup, variables: Any, carry: Carry) -> Carry:
    """The carry once the rows that learnt what to ask for have their return token.

    carry: has seen the present observation.
    """
    learnt = of_rows(carry, lambda v: VARIANTS[v].asks)
    if not learnt.any():
        return carry
    state = carry.state
    assert setup.return_model is not None  # the variants need one
    token = setup.return_model.token(
        variables, state.obs, state.cost_to_go, carry.cost_limit, state.timestep
    )
    expect_shape("return_model.token", "token", token, *state.timestep.shape)
    token = jnp.where(jnp.asarray(learnt), token, state.return_to_go)
    return carry.replace(state=state.replace(return_to_go=token))
