"""What an episode has seen and its model has forgotten, in the cost of its plans.

A sequence model sees the last K steps. What stood behind the agent before that, or is
hidden behind something nearer now, is not in them, and where it costs to go there, a
plan does not know. A memory of the whole episode does. The planner sees `Recall` alone;
`policies.map_memory` is one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from sas_jax.alignment.carry import Carry, Setup


class Recall(NamedTuple):
    """A memory beside the model's own; pure functions.

    start: (count) -> memory of `count` rows that have seen nothing, `[B, ...]` leaves.
    see: (memory, obs `[B, O]`, is_first `[B]`) -> memory. Once for every real
      observation, environment units; an episode's first one begins anew.
    cost: (variables, memory, obs `[B, n, T, O]`, cost `[B, n, T]`) -> `[B, n, T]`: the
      cost of imagined steps, once what is remembered counts. obs are those before each
      step, environment units; all candidates begin at the present one.
    """

    start: Callable[[int], Any]
    see: Callable[[Any, jax.Array, jax.Array], Any]
    cost: Callable[[Any, Any, jax.Array, jax.Array], jax.Array]


def remembered(setup: Setup, carry: Carry, obs: jax.Array, is_first) -> Carry:
    """The carry whose memory has the present observation `[B, O]`, too."""
    if carry.recalled is None:
        return carry
    assert setup.recall is not None  # there is no memory without
    return carry.replace(recalled=setup.recall.see(carry.recalled, obs, is_first))
