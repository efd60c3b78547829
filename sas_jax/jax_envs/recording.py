"""Data of environments in JAX: episodes recorded on the device, as a file.

A policy is ``"random"`` or ``"module:function"``. The function is called when an
episode begins, as ``function(env, key)``, and returns what acts in it: a function of
(observation `[O]`, key) that returns the action `[A]`. Both are traced, so they are
made of jax functions only; episodes run side by side.
"""

import functools
import os
from collections.abc import Callable

import jax

from sas_jax.data import checks, collect, dsrl
from sas_jax.data.behaviours import given
from sas_jax.data.collection.plan import Plan, header
from sas_jax.data.episodes import Episodes
from sas_jax.envs import imports
from sas_jax.errors import UserError, one_line
from sas_jax.files import atomic, places
from sas_jax.jax_envs import loop, named
from sas_jax.jax_envs.protocol import JaxEnv


@functools.cache
def behaviour_of(env: JaxEnv, policy: str) -> loop.Behaviour:
    """What a policy's name means in an environment.

    Raises:
      UserError: no policy, one that cannot be imported, or that returns no function.
    """
    if not policy:
        raise UserError(
            "policy: expected random or module:function; scripts drive in workers only"
        )
    if policy == given.RANDOM:
        return loop.random_behaviour(env)
    function = imports.function(policy, "policy")

    def begin(key):
        try:
            act = function(env, key)
        except Exception as error:  # of the user's function
            text = one_line(error)
            raise UserError(
                f"policy {policy!r}: {type(error).__name__} ({text}) when called with "
                "(env, key); expected a function of jax arrays"
            ) from error
        if not callable(act):
            raise UserError(
                f"policy {policy!r}: returned {type(act).__name__} for (env, key); "
                "expected a function of (observation, key)"
            )
        return act

    return begin


def record(
    plan: Plan,
    out: str | os.PathLike,
    *,
    at_once: int = 1024,
    on_stage: Callable[[str], None] | None = None,
) -> Episodes:
    """Records the planned episodes on the device and writes them as a DSRL file.

    Another kind of device rounds otherwise, so the file says which one it was.

    Args:
      plan: of a task in JAX, with a policy; see the module. out: the file.
      at_once: episodes side by side. on_stage: called with "compiling" before that.

    Returns:
      The episodes, as written. A file at `out` that holds this very recording is
      read and left as it is.

    Raises:
      UserError: a task or plan that does not run on the device, numbers that are not
        finite, a file of another recording at `out`, or one that cannot be written.
    """
    if places.is_url(out):
        raise UserError(f"{out}: expected a path of this machine")
    env, path = named.env_of(plan.task), places.as_path(out)
    if plan.shift:
        raise UserError(f"shift {plan.shift!r}: expected none on the device")
    behaviour = behaviour_of(env, plan.policy)
    attributes = header(plan) | {"on_device": jax.devices()[0].platform}
    if path.exists():
        return collect.recorded(plan, path, attributes)
    atomic.probe(path)
    if on_stage:
        on_stage("compiling")
    episodes = loop.collect(
        env,
        plan.task,
        behaviour,
        episodes=plan.episodes,
        seed=plan.seed,
        at_once=at_once,
    )
    try:
        checks.check_finite(episodes)
    except UserError as error:
        raise UserError(
            f"{error} (recorded from {plan.task} under policy {plan.policy!r}; nothing "
            "was written)"
        ) from error
    dsrl.write(path, episodes, attributes)
    return episodes
