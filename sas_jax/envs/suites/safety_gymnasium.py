"""Safety-Gymnasium behind a small interface; the only importer of `safety_gymnasium`.

safety-gymnasium 1.0.0 was written for older Pythons. `import_safety_gymnasium` lets it
run on current ones without touching its files, and takes out two things that cost time
or noise and change no number: the 24 MB sky that every reset decodes, and a notice
about Adroit hands.
"""

import contextlib
import copy
import dataclasses
import functools
import inspect
import math
import types

import numpy as np

from sas_jax.envs import shift, tasks
from sas_jax.envs.interface import POSE_SIZE, check_action, check_seed
from sas_jax.envs.suites import velocity
from sas_jax.envs.suites.notices import without_adroit_notice
from sas_jax.errors import UserError

# A flat gradient in place of six star pictures; seen only in rendered frames.
_SKY = {
    "@type": "skybox",
    "@builtin": "gradient",
    "@rgb1": "0.3 0.5 0.7",
    "@rgb2": "0 0 0",
    "@width": 32,
    "@height": 192,
}


@contextlib.contextmanager
def _array_defaults_allowed():
    """Lets dataclasses have numpy arrays as defaults, as Python < 3.11 did."""
    original = dataclasses.dataclass

    def dataclass(cls=None, /, **options):
        def decorate(cls):
            for name in inspect.get_annotations(cls):
                default = cls.__dict__.get(name)
                if isinstance(default, np.ndarray):
                    setattr(cls, name, dataclasses.field(default_factory=default.copy))
            return original(cls, **options)

        return decorate if cls is None else decorate(cls)

    dataclasses.dataclass = dataclass
    try:
        yield
    finally:
        dataclasses.dataclass = original


def _cached_yaml(yaml):
    """A stand-in for the yaml module that reads each asset file once."""
    cache = {}

    def load(stream, Loader=None):
        if stream.name not in cache:
            content = yaml.load(stream, Loader=Loader)
            if "skybox" in content.get("textures", {}):
                content["textures"]["skybox"] = _SKY
            cache[stream.name] = content
        return copy.deepcopy(cache[stream.name])

    return types.SimpleNamespace(load=load, FullLoader=yaml.FullLoader)


def _first_sentence(error: Exception) -> str:
    text = str(error).split(". (HINT")[0] or type(error).__name__
    return text.splitlines()[0]


@functools.cache
def import_safety_gymnasium() -> types.ModuleType:
    """Imports safety-gymnasium with fast resets and without its notices.

    Raises:
      UserError: safety-gymnasium, or something it needs, is not installed.
    """
    try:
        with _array_defaults_allowed(), without_adroit_notice():
            import safety_gymnasium
            from safety_gymnasium import world
    except Exception as error:
        # gymnasium has an exception of its own for a missing or broken MuJoCo, in place
        # of the ImportError. It cannot be named here: gymnasium itself may be missing.
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if not kinds & {"ImportError", "DependencyNotInstalled"}:
            raise
        raise UserError(
            f"safety-gymnasium cannot be imported ({_first_sentence(error)}); expected "
            "the environment extras to be installed, see docs/howto/install.md"
        ) from error
    world.yaml = _cached_yaml(world.yaml)
    return safety_gymnasium


def resampling_error() -> type[Exception]:
    """The suite's error for a layout without room."""
    import_safety_gymnasium()
    from safety_gymnasium.utils.common_utils import ResamplingError

    return ResamplingError


def _begin_with_a_rebuild(suite_task) -> None:
    """Makes the first reset of a navigation task do exactly what later ones do.

    The suite's first reset builds the world (twice); later ones build it once and call
    ``mj_forward`` once more. That call moves the solver's starting point by a rounding
    error, which contacts amplify until the episode is another one. With an empty world
    in place there is no first time: an episode depends on its seed and actions only.
    """
    from safety_gymnasium.world import World

    suite_task.world = World(suite_task.agent, suite_task._obstacles)


class PlainEnv:
    """One environment of Safety-Gymnasium as it comes.

    In the shape descriptions O is the observation size, A the action size.
    """

    def __init__(self, task: tasks.Task):
        safety_gymnasium = import_safety_gymnasium()
        self.task = task
        # The constructor draws a seed from numpy's global generator; every reset here
        # is seeded, so the draw is undone.
        state = np.random.get_state()  # noqa: NPY002
        try:
            if task.obs_groups:
                self._env = safety_gymnasium.make(task.env_id, disable_env_checker=True)
                _begin_with_a_rebuild(self.unwrapped.task)
            else:
                self._env = velocity.make_env(task.env_id)
        finally:
            np.random.set_state(state)  # noqa: NPY002
        self._ended, self._is_changed = True, False

    @property
    def unwrapped(self):
        """The suite's own environment object (for rendering and diagnostics)."""
        return self._env.unwrapped

    def change_dynamics(self, change: shift.Shift) -> None:
        """Changes actuators, masses and friction for good; see `envs.shift`.

        Raises:
          RuntimeError: they have been changed already; factors would add up.
        """
        if self._is_changed:
            raise RuntimeError("the dynamics have been changed already")
        self._is_changed = True
        if not self.task.obs_groups:
            # One model for all episodes; each reset starts from a cleared state.
            model, data = self.unwrapped.model, self.unwrapped.data
            shift.change_model(change, model, data, model.body("torso").id)
            return
        # Every reset builds a model of its own.
        world = self.unwrapped.task.world
        build = world.build

        def changed_build():
            build()
            agent = world.model.body("agent").id
            shift.change_model(change, world.model, world.data, agent)

        world.build = changed_build

    def reset(self, seed: int) -> np.ndarray:
        """Starts the episode that `seed` names. Returns `[O]` float64."""
        observation, _ = self._env.reset(seed=check_seed(seed))
        self._ended = False
        return np.asarray(observation, dtype=np.float64)

    def step(self, action):
        """One step.

        action: `[A]`, clipped to [-1, 1] before it acts and before it is charged.
        Returns (observation `[O]` float64, reward, cost, terminated, truncated).
        """
        if self._ended:
            raise RuntimeError("the episode has ended; call reset(seed) first")
        action = check_action(action, self.task)
        observation, reward, cost, terminated, truncated, _ = self._env.step(action)
        self._ended = bool(terminated or truncated)
        return (
            np.asarray(observation, dtype=np.float64),
            float(reward),
            float(cost),
            bool(terminated),
            bool(truncated),
        )

    def pose(self) -> np.ndarray:
        """Returns `[6]`: agent x, y, yaw, goal x, y, 0; NaN where there is none."""
        pose = np.full(POSE_SIZE, np.nan)
        pose[5] = 0.0
        data = self._data()
        if not self.task.obs_groups:
            pose[:2] = data.body("torso").xpos[:2]
            return pose
        agent = data.body("agent")
        pose[:2] = agent.xpos[:2]
        pose[2] = math.atan2(agent.xmat[3], agent.xmat[0])
        if "goal_lidar" in self.task.obs_groups:
            pose[3:5] = data.body("goal").xpos[:2]
        return pose

    def observe_at(self, poses: np.ndarray) -> np.ndarray:
        """What an agent at rest would observe at other poses, all else as it is now.

        poses: `[G, 3]` x, y, yaw. Returns `[G, O]` float64; the running episode does
        not notice.

        Raises:
          UserError: a task whose agent is not placed on a plane.
        """
        if not self.task.obs_groups:
            raise UserError(
                f"task {self.task.name}: expected a navigation task, such as PointGoal1"
            )
        if self._ended:
            raise RuntimeError("no episode is running; call reset(seed) first")
        from sas_jax.envs.suites import placing  # needs MuJoCo

        return placing.observe_at(self.unwrapped.task, poses)

    def layout(self) -> dict[str, np.ndarray]:
        """Where things stand now: name -> `[k, 3]` x, y, radius.

        Boxes give half their side as radius, the walls of Circle half their length.
        """
        if not self.task.obs_groups:
            return {}
        data, things = self._data(), {}
        for thing in self.unwrapped.task._obstacles:
            if thing.name == "circle":
                things["circle"] = np.array([[0.0, 0.0, thing.radius]])
                continue
            suffix = "obj" if thing.name == "gremlins" else ""
            names = (
                [f"{thing.name[:-1]}{i}{suffix}" for i in range(thing.num)]
                if hasattr(thing, "num")
                else [thing.name]
            )
            rows = [[*data.body(name).xpos[:2], thing.size] for name in names]
            things[thing.name] = np.array(rows, dtype=np.float64)
        return things

    def close(self) -> None:
        """Releases the environment."""
        self._env.close()

    def _data(self):
        """MuJoCo's state of the running episode."""
        unwrapped = self.unwrapped
        return unwrapped.task.data if self.task.obs_groups else unwrapped.data
