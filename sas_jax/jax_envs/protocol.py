"""What an environment on the accelerator is: two pure functions of one episode.

As in gymnax and brax, except that a step has a cost. `jax.vmap` makes many of one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from sas_jax.config import Number
from sas_jax.errors import UserError, one_line
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
    pose(state) -> `[6]` agent x, y, yaw, goal x, y, 0, and layout(state) -> name ->
      `[k, 3]` x, y, radius: for maps and clips; None where there is no map.
    """

    reset: Callable[[Key], tuple[Any, jax.Array]]
    step: Callable[[Any, jax.Array], Step]
    obs_dim: int
    action_dim: int
    episode_steps: int
    pose: Callable[[Any], jax.Array] | None = None
    layout: Callable[[Any], dict[str, jax.Array]] | None = None


def check(env: Any, name: str) -> JaxEnv:
    """Looks at what an environment's functions return; nothing is computed.

    Raises:
      UserError: it is no `JaxEnv`, a size is no whole number above 0, a function fails,
        returns other shapes or types, or `step` another kind of state than `reset`.
    """
    if not isinstance(env, JaxEnv):
        raise UserError(
            f"{name}: returned {type(env).__name__}; expected a sas_jax.jax_envs."
            "protocol.JaxEnv"
        )
    for size in ("obs_dim", "action_dim", "episode_steps"):
        if problem := Number(least=1, whole=True).problem(getattr(env, size)):
            raise UserError(f"{name}: {size} {problem}, got {getattr(env, size)!r}")
    try:
        state, obs = jax.eval_shape(lambda: env.reset(jax.random.key(0)))
        action = jax.ShapeDtypeStruct((env.action_dim,), jax.numpy.float32)
        out = jax.eval_shape(env.step, state, action)
        out = Step(*out)
    except UserError:
        raise
    except Exception as error:  # of the user's functions
        text = one_line(error)
        raise UserError(
            f"{name}: {type(error).__name__} ({text}) while reset(key) and "
            "step(state, action) were traced; expected pure functions of jax arrays"
        ) from error
    expected = {
        "reset: obs": (obs, (env.obs_dim,), "f"),
        "step: obs": (out.obs, (env.obs_dim,), "f"),
        "step: reward": (out.reward, (), "f"),
        "step: cost": (out.cost, (), "f"),
        "step: terminated": (out.terminated, (), "b"),
    }
    words = {"f": "float", "b": "bool"}
    for what, (found, shape, kind) in expected.items():
        if tuple(found.shape) != shape or found.dtype.kind != kind:
            raise UserError(
                f"{name}: {what} is {found.dtype}{list(found.shape)}; expected "
                f"{words[kind]}{list(shape)}"
            )
    if _kind(out.state) != _kind(state):
        raise UserError(
            f"{name}: step returns another kind of state than reset; expected the same "
            "tree, shapes and types"
        )
    return env


def _kind(tree: Any) -> tuple:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]
