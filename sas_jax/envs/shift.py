"""Changed worlds: the same task with other dynamics than those that data came from.

A shift is said in text, such as ``"actuator:0.8,mass:1.3,delay:1"``, each part at most
once and in any order:

- ``actuator``: factor of the force that every actuator delivers, its limit included; a
  negative one reverses what an action does.
- ``mass``: factor of the masses and inertias of the agent's bodies.
- ``friction``: factor of every contact's friction, and of the damping of the joints
  that tie the agent to the world, which is how the suite models a Point's drag on the
  floor. MuJoCo takes the larger coefficient of two geoms, so that a floor changed alone
  would often change nothing: all geoms are changed.
- ``delay``: steps that an action waits before it acts; zero actions act until then.
- ``obs_noise``: standard deviation of Gaussian noise on every column of an observation,
  as a share of that column's standard deviation in the data (`obs_std`). A share, since
  columns have units of their own; a column that never varies stays as it is.
- ``attack``: bound of a change of every column that is chosen to change the policy's
  action most (`evaluation.attack`), in the same unit as noise. The world stays as it
  is, so that this is for evaluations only, and no environment takes it.

A shifted episode is paired with the unshifted one of the same seed: the same layout and
the same random stream of the suite. Noise has a stream of its own, from the seed.
"""

import collections
import dataclasses
import math

import numpy as np

from sas_jax.envs import tasks
from sas_jax.envs.interface import check_action
from sas_jax.errors import UserError, nearest

_NOISE_STREAM = 0x5F1F7
_MOST_DELAY = 100
_WORDS = {
    "actuator": "a number other than 0",
    "mass": "a number > 0",
    "friction": "a number > 0",
    "delay": f"an integer from 0 to {_MOST_DELAY}",
    "obs_noise": "a number >= 0",
    "attack": "a number >= 0",
}
# Factors of the simulated bodies.
DYNAMICS = ("actuator", "mass", "friction")
_POSITIVE = ("mass", "friction")


@dataclasses.dataclass(frozen=True)
class Shift:
    """A changed world; see the module. The defaults change nothing.

    actuator, mass, friction: factors. delay: steps. obs_noise: share of each column's
    standard deviation, and attack.
    """

    actuator: float = 1.0
    mass: float = 1.0
    friction: float = 1.0
    delay: int = 0
    obs_noise: float = 0.0
    attack: float = 0.0

    def __post_init__(self):
        if not 0.0 < abs(self.actuator) < math.inf:
            raise _bad("actuator", self.actuator)
        for name in _POSITIVE:
            if not 0.0 < getattr(self, name) < math.inf:
                raise _bad(name, getattr(self, name))
        if not 0 <= self.delay <= _MOST_DELAY or self.delay != int(self.delay):
            raise _bad("delay", self.delay)
        for name in ("obs_noise", "attack"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise _bad(name, getattr(self, name))

    @property
    def changes_dynamics(self) -> bool:
        """Whether the simulated bodies are others."""
        return any(getattr(self, name) != 1.0 for name in DYNAMICS)

    @property
    def world(self) -> "Shift":
        """The shift without what is done to the policy."""
        return dataclasses.replace(self, attack=0.0)

    def __str__(self) -> str:
        """The shift in text: what differs from the defaults, in a fixed order."""
        parts = [
            f"{field.name}:{getattr(self, field.name):.12g}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        ]
        return ",".join(parts)


def parse(text: "str | Shift | None") -> Shift:
    """Reads a shift; "" and None are the unshifted world.

    Raises:
      UserError: an unknown or repeated name, or a value that makes no sense.
    """
    if isinstance(text, Shift):
        return text
    text, values = (text or "").strip(), {}
    for part in text.split(",") if text else ():
        name, colon, value = (word.strip() for word in part.partition(":"))
        if name not in _WORDS or not colon:
            raise UserError(
                f"shift {part.strip()!r}: expected name:value with a name of "
                f"{', '.join(_WORDS)}{nearest(name, _WORDS)}"
            )
        if name in values:
            raise UserError(f"shift: {name} is given twice; expected it once")
        try:
            values[name] = int(value) if name == "delay" else float(value)
        except ValueError:
            raise _bad(name, value) from None
    return Shift(**values)


def check(shift: Shift, task: tasks.Task, obs_std) -> np.ndarray | None:
    """Returns `obs_std` as `[O]` float64 if the task can be shifted like that.

    obs_std: `[O]` standard deviations of the observations' columns, or None.

    Raises:
      UserError: dynamics of a suite without MuJoCo, friction where nothing touches,
        noise without standard deviations, or ones of a wrong shape or sign; an attack,
        which is on a policy.
    """
    if shift.attack:
        raise UserError(
            f"shift {shift}: attack changes what a policy sees, and no world; expected "
            "it in an evaluation"
        )
    if shift.changes_dynamics and task.suite != "safety-gymnasium":
        raise UserError(
            f"task {task.name}: {shift} changes dynamics, which works for tasks of "
            "safety-gymnasium only; expected delay or obs_noise"
        )
    if shift.friction != 1.0 and task.name == "SwimmerVelocity":
        raise UserError("task SwimmerVelocity: touches nothing; expected no friction")
    if obs_std is None:
        if shift.obs_noise:
            raise UserError(
                f"{shift}: obs_noise is a share of each column's standard deviation; "
                f"expected obs_std of shape ({task.obs_dim},)"
            )
        return None
    obs_std = np.asarray(obs_std, np.float64)
    if obs_std.shape != (task.obs_dim,):
        raise UserError(
            f"obs_std of shape {obs_std.shape}: expected ({task.obs_dim},) for "
            f"{task.name}"
        )
    if not (np.isfinite(obs_std).all() and (obs_std >= 0).all()):
        raise UserError("obs_std: expected finite numbers >= 0")
    return obs_std


def change_model(shift: Shift, model, data, agent: int) -> None:
    """Changes the dynamics of a MuJoCo model that nothing has changed before.

    Ends as `mj_forward` on a new `data` would. agent: id of the agent's root body.
    """
    import mujoco

    # Force = gain x action + bias, where the bias of a servo opposes the motion.
    model.actuator_gainprm[:, :3] *= shift.actuator
    model.actuator_biasprm[:, :3] *= abs(shift.actuator)
    model.actuator_forcerange[:] *= abs(shift.actuator)
    own = model.body_rootid == agent
    model.body_mass[own] *= shift.mass
    model.body_inertia[own] *= shift.mass
    model.geom_friction[:] *= shift.friction
    model.dof_damping[model.dof_bodyid == agent] *= shift.friction
    mujoco.mj_setConst(model, data)  # what follows from the masses
    mujoco.mj_resetData(model, data)
    mujoco.mj_forward(model, data)


class ShiftedEnv:
    """Delays actions and disturbs observations; the interface of `PlainEnv`."""

    def __init__(self, env, shift: Shift, obs_std: np.ndarray | None):
        """env: any environment. obs_std: as `check` returned it."""
        self._env, self._shift = env, shift
        self._scale = shift.obs_noise * obs_std if shift.obs_noise else None

    def __getattr__(self, name: str):
        return getattr(self._env, name)

    def reset(self, seed: int) -> np.ndarray:
        """Starts the episode that `seed` names. Returns `[O]` float64."""
        observation = self._env.reset(seed)
        still = np.zeros(self._env.task.action_dim)
        self._waiting = collections.deque([still] * self._shift.delay)
        self._rng = np.random.default_rng([seed, _NOISE_STREAM])
        return self._disturb(observation)

    def step(self, action):
        """One step; see `PlainEnv.step`."""
        # Checked now, not when it acts; the result is no view of the caller's array.
        self._waiting.append(check_action(action, self._env.task))
        observation, *rest = self._env.step(self._waiting.popleft())
        return self._disturb(observation), *rest

    def _disturb(self, observation) -> np.ndarray:
        if self._scale is None:
            return observation
        return observation + self._scale * self._rng.standard_normal(len(observation))


def _bad(name: str, value) -> UserError:
    return UserError(f"shift {name}:{value}: expected {_WORDS[name]}")
