"""Scripted behaviours for recording data when there is no download.

A behaviour is a privileged expert with three dials: how much it avoids cost (risk),
how fast it goes (speed) and how much its actions are disturbed (noise). Privileged: it
reads poses and layouts from the simulator, which recorded observations contain only as
lidars. Turning the dials spreads returns and costs over the range of DSRL's data,
including the corner that simple behaviours miss: high return at low cost.

Everything random is drawn from generators seeded with (seed, episode), so an episode is
the same whoever records it, and in whatever order.
"""

import dataclasses
import importlib
import math
from collections.abc import Callable

import numpy as np

from sas_jax.envs import tasks
from sas_jax.envs.shift import Shift
from sas_jax.errors import UserError, nearest

# Part of every recorded file; counts up when the same seed would give other episodes.
VERSION = 3
_NOISE_MEMORY = 0.9
# Who is told to be careful by numbers learns it from teachers with room for error.
_CLEARANCE = 0.3
# The largest budget: drivers who ignore what costs spend 60 on average.
_MOST = 100.0
# In five steps the sign of the thrust shows through noise up to this.
_LITTLE_NOISE = 0.3


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """The dials of one episode.

    risk: 0 keeps clear of everything that costs, 1 ignores it, above 1 dawdles in it.
    speed: share of the top speed, in (0, 1].
    noise: standard deviation of the disturbance added to actions in [-1, 1].
    clearance: metres that the fully careful keep from what costs beyond the 0.13 that
      an undisturbed expert needs; less in proportion for those who dare more.
    budget: cost that an episode may have; the driver's risk then follows what is left
      of it for the steps that are left. Infinite keeps `risk` as it is.
    gain: 1, or -1 in a world whose motors are reversed. The driver knows it and asks
      for the opposite, so that all worlds show the same motion.
    may_reverse: whether the driver ever drives backwards.
    """

    risk: float
    speed: float
    noise: float
    clearance: float = 0.0
    budget: float = math.inf
    gain: float = 1.0
    may_reverse: bool = True

    @property
    def shift(self) -> str:
        """The world that the episode takes place in; see `envs.shift`."""
        return str(Shift(actuator=self.gain))


# (observation `[O]`) -> action `[2]`, for the episode that the environment is in.
Script = Callable[[np.ndarray], np.ndarray]


# How the dials are drawn: see `sample`.
MIXTURES = ("varied", "graded", "budgeted", "two_worlds")
# Family of tasks -> module with the class `Expert(env, task, behaviour)`.
_MODULES = {
    "Goal": "sas_jax.data.behaviours.goal",
    "Button": "sas_jax.data.behaviours.goal",
    "Push": "sas_jax.data.behaviours.push",
    "Circle": "sas_jax.data.behaviours.circle",
}


def family(task: str) -> str:
    """Returns the family of the task, e.g. ``"Goal"``.

    Raises:
      UserError: unknown task, or one that has no scripted behaviour.
    """
    name = tasks.get_task(task).name
    for kind in _MODULES:
        if name[:-1] in (f"Point{kind}", f"Car{kind}"):
            return kind
    raise UserError(
        f"{name}: has no scripted behaviour; expected a Point or Car task of "
        f"{', '.join(_MODULES)}, or a policy (--policy=random or module:function)"
    )


def check_mixture(name: str, task: str) -> str:
    """Returns a name of `MIXTURES`; raises UserError where the task has no such one."""
    if name not in MIXTURES:
        raise UserError(
            f"mixture: unknown {name!r}{nearest(name, MIXTURES)} "
            f"(known: {', '.join(MIXTURES)})"
        )
    if name == "budgeted" and family(task) not in ("Goal", "Button"):
        raise UserError(f"mixture: budgeted is for Goal and Button tasks, not {task}")
    return name


def sample(task: str, seed: int, episode: int, mixture: str = "varied") -> Behaviour:
    """Draws the dials of an episode.

    "varied": one in four episodes is careful, fast and little disturbed (the corner of
    high return and low cost), one in five slow and clumsy (low returns), one in ten
    dawdles in what costs, and the rest is anything in between.
    "graded": all dials independent, and risk drawn evenly from keeping clear of
    everything to ignoring it.
    "budgeted": the same with a budget instead of a risk, for policies that are told a
    cost to go. Elsewhere the cost of an episode is luck as much as its driver's doing;
    here what is still to come says how to drive now.
    "two_worlds": "graded" with motors reversed in half of the episodes, little noise,
    and drivers that never drive backwards. What an observation shows is the same in
    both worlds; only actions tell them apart, by the sign of the thrust. Whether a
    policy makes use of a prompt can be seen here: without one it cannot know.
    """
    rng = np.random.default_rng([seed, episode, 0])
    if check_mixture(mixture, task) != "varied":
        is_double = mixture == "two_worlds"
        most = (1.1, 1.0, _LITTLE_NOISE if is_double else 1.0)
        risk, speed, noise = map(float, rng.uniform((0.0, 0.3, 0.0), most))
        budget = float(rng.uniform(0.0, _MOST)) if mixture == "budgeted" else math.inf
        gain = float(rng.choice((1.0, -1.0))) if is_double else 1.0
        return Behaviour(risk, speed, noise, _CLEARANCE, budget, gain, not is_double)
    kind = rng.random()
    if kind < 0.25:
        risk = rng.uniform(0.0, 0.45)
        speed, noise = rng.uniform(0.7, 1.0), rng.uniform(0.0, 0.3)
    elif kind < 0.45:
        risk = rng.uniform(0.4, 1.0)
        speed, noise = rng.uniform(0.02, 0.3), rng.uniform(0.2, 1.2)
    elif kind < 0.55:
        risk = rng.uniform(1.0, 1.3)
        speed, noise = rng.uniform(0.6, 1.0), rng.uniform(0.0, 0.6)
    else:
        risk = rng.uniform(0.6, 1.1)
        speed, noise = rng.uniform(0.2, 1.0), rng.uniform(0.0, 0.8)
    return Behaviour(risk=float(risk), speed=float(speed), noise=float(noise))


def environment_seed(seed: int, episode: int) -> int:
    """Seed of the episode's layout, 32 bits spread over their whole range.

    Evaluation counts its seeds from small numbers, so it meets layouts of its own.
    """
    return int(np.random.SeedSequence([seed, episode]).generate_state(1)[0])


def start(env, task: str, behaviour: Behaviour, seed: int, episode: int) -> Script:
    """Makes the script for the episode that `env` has just been reset to.

    The action is the expert's plus noise with a memory of ten steps (so that it moves
    the agent and does not average out), clipped to [-1, 1].
    """
    module = importlib.import_module(_MODULES[family(task)])
    expert = module.Expert(env, tasks.get_task(task), behaviour)
    rng = np.random.default_rng([seed, episode, 1])
    noise = np.zeros(2)
    fresh = np.sqrt(1.0 - _NOISE_MEMORY**2)

    def act(observation):
        nonlocal noise
        noise = _NOISE_MEMORY * noise + fresh * rng.standard_normal(2)
        action = expert(observation) + behaviour.noise * noise
        # Recorded as float32; acting on the same number keeps the record exact.
        return (behaviour.gain * np.clip(action, -1.0, 1.0)).astype(np.float32)

    return act
