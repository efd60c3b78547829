"""A policy without memory that is a function of the observation."""

from sas_jax.types import Policy


def policy_of(mean):
    """Acts by `mean(obs)`, and tells what it was shown as its carry."""
    return Policy(
        initial_carry=lambda variables, rows, key: (),
        begin=lambda variables, carry, ts, key: carry,
        act=lambda variables, carry, ts, key: (mean(ts.obs), ts.obs),
        mean_action=lambda variables, carry, ts: mean(ts.obs),
    )
