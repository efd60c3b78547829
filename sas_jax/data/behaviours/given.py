"""Behaviours that somebody gives: uniform random actions, or a function of the user's.

A policy is ``"random"``, ``"module:function"`` or ``"module:function:text"``. The
function is called at the start of every episode as ``function(task, rng)``, or with the
text behind that, and returns what acts in it: a function of the observation `[O]` that
returns the action `[A]`, numpy in and out. If it has a method ``told(reward, cost)``,
that is called after every step.
"""

import numpy as np

from sas_jax.envs import imports
from sas_jax.envs.tasks import Task
from sas_jax.errors import UserError

RANDOM = "random"


def check(policy: str) -> None:
    """Raises UserError for a policy that is none, or that cannot be imported."""
    if policy != RANDOM:
        _function(policy)


def prepare(policy: str) -> None:
    """Does once in a process what takes long: the function's own ``prepare(text)``."""
    if policy != RANDOM:
        function, text = _function(policy)
        getattr(function, "prepare", lambda *text: None)(*text)


def _function(policy: str):
    """The function that a policy names, and the text that it wants, if any."""
    module, colon, rest = policy.partition(":")
    if not colon:
        raise UserError(
            f"policy {policy!r}: expected 'module:function', random, or a checkpoint "
            "that is there"
        )
    name, *text = rest.split(":", 1)
    return imports.function(f"{module}:{name}", "policy"), text


def start(task: Task, policy: str, seed: int, episode: int):
    """What acts in an episode: a function from `[O]` to `[A]` float32 in [-1, 1].

    Raises:
      UserError: see `check`; later, an action of a wrong shape, or that is not finite.
    """
    rng = np.random.default_rng([seed, episode, 1])
    size = task.action_dim
    if policy == RANDOM:
        return lambda obs: rng.uniform(-1.0, 1.0, size).astype(np.float32)
    function, text = _function(policy)
    act = function(task, rng, *text)
    if not callable(act):
        raise UserError(
            f"policy {policy!r}: returned {type(act).__name__} for (task, rng); "
            "expected a function of the observation"
        )

    def checked(obs):
        action = np.asarray(act(obs), np.float32)
        if action.shape != (size,):
            raise UserError(
                f"policy {policy!r}: returned an action of shape {action.shape}; "
                f"expected ({size},)"
            )
        if not np.isfinite(action).all():
            raise UserError(
                f"policy {policy!r}: returned {action.tolist()}; expected finite "
                "numbers"
            )
        # Recorded as float32; acting on the same number keeps the record exact.
        return np.clip(action, -1.0, 1.0)

    if told := getattr(act, "told", None):
        checked.told = told  # type: ignore[attr-defined]
    return checked
