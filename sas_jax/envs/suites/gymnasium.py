"""Any gymnasium environment as one of ours: spaces, seeds, costs and time limits.

It runs in worker processes, maybe under another interpreter with another version of
gymnasium: numpy and the simulator only. Started by its path it answers one question:
what are the sizes of this environment (`facts`)?
"""

import json
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

# The script's own folder holds a module of the name of gymnasium.
if __name__ == "__main__":
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[3])

from sas_jax.envs import imports
from sas_jax.envs.suites.notices import without_adroit_notice
from sas_jax.errors import UserError, one_line

# (observation [O], action [A], next observation [O], terminated, info) -> cost
CostFunction = Callable[[np.ndarray, np.ndarray, np.ndarray, bool, Mapping], float]


class GymnasiumEnv:
    """A gymnasium environment with a box of observations and one of actions.

    Actions in [-1, 1] are stretched to the environment's box. An episode ends after
    the task's `episode_steps`, whatever the environment says. `pose` and `layout` are
    those of the unwrapped environment, where it has them.
    """

    def __init__(self, task):
        """Makes the environment of `task`. Raises UserError where it does not fit."""
        self.task = task
        self._env = open_env(task.env_id)
        _, self._low, self._high = boxes(self._env, task.env_id)
        self._dtype = self._env.action_space.dtype
        self._cost = cost_function(task.cost)
        for name in ("pose", "layout"):
            method = getattr(getattr(self._env, "unwrapped", None), name, None)
            if callable(method):
                setattr(self, name, method)

    def reset(self, seed):
        """Starts the episode that `seed` names. Returns `[O]`."""
        self._steps = 0
        self._obs = _first(self._env.reset(seed=int(seed)), self.task.env_id)
        return self._obs

    def step(self, action):
        """Returns observation, reward, cost, terminated, truncated."""
        share = (np.asarray(action, np.float64) + 1.0) / 2.0
        own = (self._low + share * (self._high - self._low)).astype(self._dtype)
        result = self._env.step(own)
        if not isinstance(result, tuple) or len(result) not in (5, 6):
            raise UserError(
                f"{self.task.env_id}: step returned {_describe(result)}; expected "
                "(observation, reward, terminated, truncated, info)"
            )
        obs, reward, terminated, truncated, info = _five(result)
        cost = self._cost(self._obs, own, obs, bool(terminated), info)
        self._obs = obs
        self._steps += 1
        truncated = bool(truncated) or self._steps >= self.task.episode_steps
        return obs, reward, cost, bool(terminated), truncated

    def close(self):
        """Releases the environment."""
        self._env.close()


def make(task, lean: bool) -> GymnasiumEnv:
    """What the suite is registered with; there is no faster path."""
    del lean
    return GymnasiumEnv(task)


def open_env(env_id: str) -> Any:
    """The environment of ``ID``, ``MODULE:ID`` or ``MODULE:FUNCTION``.

    Raises:
      UserError: gymnasium, the module or the id is missing, or it cannot be made.
    """
    try:
        with without_adroit_notice():
            import gymnasium
    except ImportError as error:
        raise UserError(
            f"{env_id}: gymnasium is not installed in {sys.executable} ({error}); "
            "expected the extra [env], or $SAS_JAX_GYMNASIUM_PYTHON to name an "
            "interpreter that has it"
        ) from error
    module, _, name = env_id.rpartition(":")
    if module:
        imports.import_modules([module])
        make_env = getattr(sys.modules[module], name, None)
        if name not in gymnasium.registry and not callable(make_env):
            raise UserError(
                f"{env_id}: module {module!r} registers no environment {name!r} and "
                "has no function of that name"
            )
    try:
        if module and name not in gymnasium.registry:
            return make_env()
        return gymnasium.make(name, disable_env_checker=True)
    except Exception as error:  # whatever the environment's own code raises
        raise UserError(
            f"{env_id}: cannot be made ({type(error).__name__}: {one_line(error)}); "
            "expected an id that gymnasium knows, or MODULE:ID, or MODULE:FUNCTION"
        ) from error


def boxes(env: Any, env_id: str) -> tuple[int, np.ndarray, np.ndarray]:
    """The size O of the observations, and the bounds `[A]`, `[A]` of the actions.

    Raises:
      UserError: spaces that are no boxes of one axis, or actions without bounds.
    """
    sizes = []
    for name in ("observation_space", "action_space"):
        space = getattr(env, name, None)
        # By name and not by class: it may be of another version, or of gym.
        shape = getattr(space, "shape", None)
        if type(space).__name__ != "Box" or shape is None or len(shape) != 1:
            advice = {
                "observation_space": "a Box of one axis (gymnasium's wrapper "
                "FlattenObservation makes one)",
                "action_space": "a Box of one axis; discrete actions are not supported",
            }
            raise UserError(f"{env_id}: {name} is {space}; expected {advice[name]}")
        if np.dtype(space.dtype).kind != "f":
            raise UserError(
                f"{env_id}: {name} is of {np.dtype(space.dtype).name}; expected a Box "
                "of floats"
            )
        sizes.append(int(shape[0]))
    # Not `np.float64(x)`, which makes a scalar of a single bound.
    low, high = (
        np.asarray(getattr(env.action_space, k), np.float64) for k in ("low", "high")
    )
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise UserError(
            f"{env_id}: action_space has no bounds; expected a Box with finite ones"
        )
    return sizes[0], low, high


def cost_function(cost: str) -> CostFunction:
    """How the cost of a step is had.

    cost: ``"info"`` (``info["cost"]``), ``"info.KEY"``, ``"terminated"`` (1 where the
      environment ends the episode), ``"none"`` (always 0), or ``"module:function"``: a
      function of observation `[O]`, action `[A]` in the environment's own units, next
      observation `[O]`, terminated and info.

    Raises:
      UserError: none of these.
    """
    if cost == "none":
        return lambda obs, action, new, terminated, info: 0.0
    if cost == "terminated":
        return lambda obs, action, new, terminated, info: float(terminated)
    if cost == "info" or cost.startswith("info."):
        key = cost.partition(".")[2] or "cost"
        return lambda obs, action, new, terminated, info: _of_info(info, key)
    if ":" not in cost:
        raise UserError(
            f"cost {cost!r}: expected info, info.KEY, terminated, none or "
            "module:function"
        )
    return imports.function(cost, "cost")


def facts(env_id: str, cost: str) -> dict[str, Any]:
    """Sizes of an environment, after a short trial of it.

    Returns:
      obs_dim, action_dim, episode_steps (None without a limit), versions.

    Raises:
      UserError: spaces that do not fit, episodes that their seed does not repeat, or
        no cost.
    """
    env = open_env(env_id)
    obs_dim, low, high = boxes(env, env_id)
    first, again = (_first(env.reset(seed=0), env_id) for _ in range(2))
    for obs in (first, again):
        if obs.shape != (obs_dim,):
            raise UserError(
                f"{env_id}: reset returned an observation of shape {obs.shape}; "
                f"expected ({obs_dim},) as in its observation_space"
            )
    if not np.array_equal(first, again):
        raise UserError(
            f"{env_id}: reset(seed=0) gave two different observations; expected "
            "episodes that depend on their seed and actions only"
        )
    middle = ((low + high) / 2).astype(env.action_space.dtype)
    result = env.step(middle)
    if isinstance(result, tuple) and len(result) in (5, 6):
        obs, _, terminated, _, info = _five(result)
        cost_function(cost)(first, middle, obs, bool(terminated), info)
    steps = getattr(getattr(env, "spec", None), "max_episode_steps", None)
    env.close()
    return {
        "obs_dim": obs_dim,
        "action_dim": len(low),
        "action_range": np.stack([low, high], axis=1).tolist(),
        "episode_steps": steps,
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    """Versions of what episodes depend on, as far as it is installed."""
    import importlib.metadata

    found = {}
    for name in ("gymnasium", "mujoco", "numpy"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _first(result: Any, env_id: str) -> np.ndarray:
    """The observation among what `reset` returned."""
    if not isinstance(result, tuple) or len(result) != 2:
        raise UserError(
            f"{env_id}: reset returned {_describe(result)}; expected (observation, "
            "info), as gymnasium has it since 0.26"
        )
    return np.asarray(result[0])


def _five(result: tuple) -> tuple:
    """Observation, reward, terminated, truncated, info of a step's answer.

    Safety-Gymnasium's have the cost in a place of its own; it moves to info.
    """
    if len(result) == 5:
        return (np.asarray(result[0]), *result[1:])
    obs, reward, cost, terminated, truncated, info = result
    return np.asarray(obs), reward, terminated, truncated, {"cost": cost} | info


def _of_info(info: Mapping, key: str) -> Any:
    if key not in info:
        raise UserError(
            f"info has no {key!r} (it has: {', '.join(map(str, info)) or 'nothing'}); "
            "expected a cost: cost=info.KEY names another key, cost=module:function "
            "computes it, cost=terminated takes an early end for it, cost=none is 0"
        )
    return info[key]


def _describe(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return f"a value of type {type(value).__name__}"


def _main() -> None:
    """Prints `facts` as JSON, or the error that it raised."""
    asked = json.loads(sys.argv[1])
    sys.path += [folder for folder in asked["path"] if folder not in sys.path]
    try:
        imports.import_modules(asked["imports"])
        answer = facts(asked["env_id"], asked["cost"])
    except UserError as error:
        answer = {"error": str(error)}
    except Exception as error:  # of the user's environment
        answer = {
            "error": f"{asked['env_id']}: {type(error).__name__}: {one_line(error)}"
        }
    print("\n" + json.dumps(answer))


if __name__ == "__main__":
    _main()
