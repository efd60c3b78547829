r"""A controller that keeps gymnasium's walkers on their feet, for recording them.

    python -m experiments.collect --task=Hopper \
        --policy=sas_jax.data.behaviours.standing:policy

A spring and a damper in every joint hold the pose that an episode begins in; the
torso's angle is fed back to all joints. Each episode leans and is disturbed by amounts
of its own, so that some fall early, and only to fall costs. Nothing here walks. Gains
were found by trying 40 at random in each of the three.
"""

import dataclasses

import numpy as np

from sas_jax.envs.tasks import Task
from sas_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class _Body:
    """Where things stand in the observation, and gains.

    angles, speeds: of the joints, in the order of the actions. torso: places of its
    angle and its angular speed; None where there is no single angle. spring, damper: a
    radian, a radian a second. upright, steady: the same of the torso. most_noise:
    largest standard deviation of the disturbance, in an action's units.
    """

    angles: slice
    speeds: slice
    spring: float
    damper: float
    torso: tuple[int, int] | None = None
    upright: float = 0.0
    steady: float = 0.0
    most_noise: float = 0.7


_BODIES = {
    "Hopper": _Body(slice(2, 5), slice(8, 11), 1.8, 0.3, (1, 7), -3.5, -0.3, 3.0),
    "Walker2d": _Body(slice(2, 8), slice(11, 17), 0.5, 0.35, (1, 10), -3.3, -0.2),
    "Humanoid": _Body(slice(5, 22), slice(28, 45), 2.2, 0.12),
}
_MOST_LEAN = 0.1


def policy(task: Task, rng: np.random.Generator):
    """What acts in one episode: a function of the observation; see `given`.

    Raises:
      UserError: another task than Hopper, Walker2d and Humanoid.
    """
    if task.name not in _BODIES:
        raise UserError(f"standing: {task.name}; expected one of {', '.join(_BODIES)}")
    body = _BODIES[task.name]
    noise, lean = rng.uniform(0.0, body.most_noise), rng.uniform(0.0, _MOST_LEAN)

    def act(obs: np.ndarray) -> np.ndarray:
        action = -body.spring * obs[body.angles] - body.damper * obs[body.speeds]
        if body.torso is not None:
            angle, speed = body.torso
            action = action + body.upright * (obs[angle] - lean)
            action = action + body.steady * obs[speed]
        action = action + noise * rng.standard_normal(task.action_dim)
        return np.clip(action, -1.0, 1.0)

    return act
