"""CRAX's environments (Tomilin et al. 2026) by the protocol of this package.

They come with the package **crax-bench**; `crax` on PyPI is another one. It needs a
newer MuJoCo than safety-gymnasium does, so that the two cannot share a virtual
environment:

    pip install 'sas_jax[crax]'        (without the extra env)

Names are CRAX's own, such as ``safe_goal_point`` or ``safe_velocity_hopper``. A step's
cost is that of the environment's ``info["cost"]``, which adds up over hazards, so that
a task has to say how much it may be (``max_cost``); or an indicator. Actions lie in
[-1, 1], as in brax.
"""

import warnings
from types import ModuleType

import jax.numpy as jnp

from sas_jax.errors import UserError, nearest
from sas_jax.jax_envs.protocol import JaxEnv, Step

PREFIX = "crax"
OPTIONS = ("level", "cost")
COSTS = ("own", "indicator")
LEVELS = (1, 2, 3)
# Where an environment names no length of its episodes.
_STEPS = 1000


def make(name: str, level: str | int | None = None, cost: str = "own") -> JaxEnv:
    """One of CRAX's environments.

    Args:
      name: in CRAX's registry. level: of difficulty, 1 to 3; None is CRAX's default.
      cost: "own", CRAX's number; "indicator", 1 where that is above 0.

    Raises:
      UserError: the package is not installed, or it has no such environment or level.
    """
    envs = _package()
    known = sorted(getattr(envs, "_envs", ()))
    if known and name not in known:
        raise UserError(f"crax: no environment {name!r}{nearest(name, known)}")
    if cost not in COSTS:
        raise UserError(f"crax: cost {cost!r}; expected one of {', '.join(COSTS)}")
    if level is not None:
        if str(level) not in map(str, LEVELS):
            raise UserError(f"crax: level {level!r}; expected 1, 2 or 3")
        level = int(level)
        if not envs.supports_difficulty(name):
            raise UserError(
                f"crax: {name} has no levels; expected none to be asked for"
            )
    with warnings.catch_warnings():
        # Of brax's mesh loader, on every environment: brax itself is no longer kept.
        warnings.simplefilter("ignore", UserWarning)
        env = envs.get_environment(name, level=level)
    if not isinstance(env.observation_size, int):
        raise UserError(
            f"crax: {name} observes several arrays; expected one vector of numbers"
        )

    def reset(key):
        state = env.reset(key)
        return state, state.obs

    def step(state, action):
        after = env.step(state, action)
        price = after.info["cost"]
        if cost == "indicator":
            price = price > 0
        return Step(
            state=after,
            obs=after.obs,
            reward=after.reward.astype(jnp.float32),
            cost=price.astype(jnp.float32),
            terminated=after.done > 0,
        )

    steps = getattr(env, "episode_length", None) or _STEPS
    return JaxEnv(reset, step, env.observation_size, env.action_size, int(steps))


def _package() -> ModuleType:
    """`crax.envs` of crax-bench."""
    try:
        from crax import envs
    except ImportError as error:
        raise UserError(
            f"crax: the package crax-bench cannot be imported ({error}); expected "
            "pip install 'sas_jax[crax]' in a virtual environment without the extra env"
        ) from error
    if not hasattr(envs, "get_environment"):
        raise UserError(
            "crax: the package of this name is not CRAX; expected crax-bench instead"
        )
    return envs
