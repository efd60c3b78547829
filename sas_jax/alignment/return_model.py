"""What a model of the return to ask for must offer."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class ReturnModel(NamedTuple):
    """Pure functions.

    token: (variables, obs `[B, O]` as the sequence model standardises it, cost_to_go
      `[B]`, cost_limit `[B]`, timestep `[B]`) -> `[B]` return to go to ask for, return
      units.
    """

    token: Callable[[Any, jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
