"""What an environment on the accelerator is: two pure functions of one episode.

As in gymnax and brax, except that a step has a cost. `jax.vmap` makes many of one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from sas_jax.types import Key


class Step(NamedTuple):
    """What a step returns.

    state: any pytree. obs: `[O]`. reward, cost: `[]` float32. terminated: `[]` bool,
    the environment ended the episode by itself.
    """

    state: Any
    obs: jax.Array
    reward: jax.Array
    cost: jax.Array
    terminated: jax.Array


class JaxEnv(NamedTuple):
    """An environment.

    reset(key) -> (state, obs `[O]`): an episode depends on its key and actions only.
    step(state, action `[A]` in [-1, 1]) -> `Step`. Called on after the end, too; what
      it returns then is not looked at.
    obs_dim, action_dim: O and A. episode_steps: steps after which an episode times out.
    """

    reset: Callable[[Key], tuple[Any, jax.Array]]
    step: Callable[[Any, jax.Array], Step]
    obs_dim: int
    action_dim: int
    episode_steps: int
