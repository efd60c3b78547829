"""A threshold on an episode's cost, as the limits that critics can be held against.

A critic does not see sums over episodes. A cost of kappa / T at every step of T is the
yardstick: it keeps the threshold kappa exactly, so what a critic says of it is the
limit.
"""

import math

import jax

Number = float | jax.Array


def per_step_limit(cost_limit: Number, num_steps: int) -> Number:
    """kappa / T: the mean cost of a step. num_steps: T, of an episode."""
    return cost_limit / num_steps


def discounted_limit(
    step_limit: Number, discount: float, num_steps: Number = math.inf
) -> Number:
    """The discounted sum of a constant cost over `num_steps` steps.

    step_limit * (1 - gamma^n) / (1 - gamma). Without an end, the default, it is what a
    critic says that bootstraps at time-outs. Benchmarks count the steps of an episode
    (OSRL), CAPS those that are left of it. gamma = 1 needs an end.
    """
    if discount == 1.0:
        return step_limit * num_steps
    return step_limit * (1.0 - discount**num_steps) / (1.0 - discount)
