"""The fast path of the navigation tasks: same model, same random stream, less Python.

Episodes equal the suite's: rewards and costs bit for bit, observations to rounding.
What makes that possible, and what it forbids to leave out:

- MuJoCo's solver starts from the last solution, so the number of solves per step shows
  in the last bits of the next state. The suite calls ``mj_forward`` three times a step.
  The second and third change nothing but the solution, so only their last stage is
  repeated (``mj_forwardSkip``).
- Sensors do not act on the physics and are read once a step: they are switched off
  during the ten substeps.
- Resets and new goals run the suite's own code, over a faster layout sampler.
"""

import math

import mujoco
import numpy as np

from sas_jax.envs.interface import POSE_SIZE, check_action
from sas_jax.envs.lean import layout as lean_layout
from sas_jax.envs.lean import lidar as lean_lidar
from sas_jax.envs.lean import rules as lean_rules
from sas_jax.envs.suites import safety_gymnasium

_AFTER_VELOCITY = int(mujoco.mjtStage.mjSTAGE_VEL)
_NO_SENSORS = int(mujoco.mjtDisableBit.mjDSBL_SENSOR)


class LeanEnv(safety_gymnasium.PlainEnv):
    """A navigation task of Safety-Gymnasium by the fast path.

    In the shape descriptions O is the observation size, A the action size.
    """

    def __init__(self, task):
        super().__init__(task)
        self._suite = self.unwrapped.task
        self._resampling_error = safety_gymnasium.resampling_error()
        lean_layout.accelerate(self._suite.random_generator)
        self._steps = 0

    def reset(self, seed: int) -> np.ndarray:
        """Starts the episode that `seed` names. Returns `[O]` float64."""
        observation = super().reset(seed)
        self._bind()
        self._steps = 0
        return observation

    def step(self, action):
        """One step; see `PlainEnv.step`."""
        if self._ended:
            raise RuntimeError("the episode has ended; call reset(seed) first")
        model, data, suite = self._model, self._data_, self._suite
        action = check_action(action, self.task)
        np.maximum(action, self._low, out=self._ctrl)
        np.minimum(self._ctrl, self._high, out=self._ctrl)
        substeps = suite.random_generator.binomial(*self._frameskip)
        self._option.disableflags = self._flags | _NO_SENSORS
        if self._gremlins is None:
            mujoco.mj_step(model, data, nstep=substeps)
        else:
            for _ in range(substeps):
                self._gremlins.move(data.time)
                mujoco.mj_step(model, data)
        self._option.disableflags = self._flags
        mujoco.mj_forward(model, data)

        scene = lean_rules.Scene(self._positions.tolist(), self._contacts)
        reward, achieved = self._reward(scene)
        if not -self._clip < reward < self._clip:
            reward = float(np.clip(reward, -self._clip, self._clip))
        mujoco.mj_forwardSkip(model, data, _AFTER_VELOCITY, 1)
        cost = float(any(violated(scene) for violated in self._constraints))
        suite.specific_step()
        terminated = achieved and not self._new_goal()

        self._steps += 1
        truncated = self._steps >= suite.num_steps
        self._ended = terminated or truncated
        mujoco.mj_forwardSkip(model, data, _AFTER_VELOCITY, 0)
        return self._observe(), reward, cost, terminated, truncated

    def pose(self) -> np.ndarray:
        """Returns `[6]`: agent x, y, yaw, goal x, y, 0; NaN where there is none."""
        pose = np.full(POSE_SIZE, np.nan)
        pose[5] = 0.0
        pose[:2] = self._positions[self._agent, :2]
        rotation = self._rotations[self._agent]
        pose[2] = math.atan2(rotation[3], rotation[0])
        if self._goal is not None:
            pose[3:5] = self._positions[self._goal, :2]
        return pose

    def _new_goal(self) -> bool:
        """Places the next goal by the suite's code; False if there is no room."""
        self._suite.update_layout()
        try:
            self._suite.update_world()
        except self._resampling_error:
            return False
        return True

    def _observe(self) -> np.ndarray:
        """Returns `[O]`: sensors, then lidars."""
        observation = np.empty(self.task.obs_dim)
        for target, source in self._sensor_slices:
            observation[target] = self._sensors[source]
        if self._ball_quat is not None:
            target, source = self._ball_quat
            mujoco.mju_quat2Mat(observation[target], self._sensors[source])
        positions = self._positions.tolist()
        origin = positions[self._agent]
        rotation = self._rotations[self._agent].tolist()
        for target, points, hidden in self._lidars:
            if hidden():
                observation[target] = 0.0
                continue
            observation[target] = lean_lidar.scan(
                points(positions), origin, rotation, self._suite.lidar_conf.max_dist
            )
        return observation

    def _bind(self) -> None:
        """Takes views into the model that this episode's reset has built."""
        suite = self._suite
        self._model = model = suite.model
        self._data_ = data = suite.data
        self._option = model.opt
        self._flags = model.opt.disableflags
        self._frameskip = (
            suite.sim_conf.frameskip_binom_n,
            suite.sim_conf.frameskip_binom_p,
        )
        self._low, self._high = model.actuator_ctrlrange.T.copy()
        self._clip = suite.reward_conf.reward_clip
        self._ctrl, self._sensors = data.ctrl, data.sensordata
        self._positions, self._rotations = data.xpos, data.xmat
        self._agent = model.body("agent").id
        self._goal = (
            model.body("goal").id if "goal_lidar" in self.task.obs_groups else None
        )
        self._contacts = lean_rules.Contacts(suite)
        self._reward = lean_rules.reward_rule(suite)
        self._constraints = lean_rules.constraints(suite)
        self._gremlins = lean_rules.gremlins(suite)
        self._bind_observation()

    def _bind_observation(self) -> None:
        """Finds where each part of the observation comes from."""
        suite, model = self._suite, self._model
        things = {f"{thing.name}_lidar": thing for thing in suite._obstacles}
        self._sensor_slices, self._lidars, self._ball_quat = [], [], None
        for name, target in self.task.obs_groups.items():
            if name in things:
                self._lidars.append((target, *_lidar_source(things[name], model)))
                continue
            sensor = model.sensor(name)
            source = slice(sensor.adr[0], sensor.adr[0] + sensor.dim[0])
            if name.startswith("ballquat"):
                self._ball_quat = (target, source)
            else:
                self._sensor_slices.append((target, source))


def _lidar_source(thing, model):
    """Returns (positions -> points, () -> whether the lidar reads nothing)."""
    hidden = _never
    if thing.name == "buttons":
        # While a pressed button waits for its successor, buttons cannot be seen.
        hidden = lambda: thing.timer != 0  # noqa: E731
    if thing.name == "circle":
        return (lambda positions: ((0.0, 0.0),)), hidden
    bodies = lean_rules.bodies_of(thing, model)

    def points(positions):
        return [positions[body][:2] for body in bodies]

    return points, hidden


def _never() -> bool:
    return False
