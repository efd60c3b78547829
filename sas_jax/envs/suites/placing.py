"""What the agent would observe elsewhere on the layout that an episode stands on.

Needs MuJoCo; reached through `PlainEnv.observe_at`.
"""

import copy
import math

import mujoco
import numpy as np

# The solver's last solution is part of it: it shows in the last bits of a reading.
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
_FREE = int(mujoco.mjtJoint.mjJNT_FREE)


def observe_at(suite_task, poses: np.ndarray) -> np.ndarray:
    """Observations of an agent at rest at other places, all else as it is now.

    The agent stands still, without a push of its motors; its height and the angles of
    its wheels stay. Where it overlaps a solid object the accelerometer shows the push.
    The running episode goes on afterwards as if nothing had happened, bit for bit.

    Args:
      suite_task: the suite's task object of an episode that has begun.
      poses: `[G, 3]` x, y (metres), yaw (radians).

    Returns:
      `[G, O]` float64.
    """
    engine, model = suite_task.world.engine, suite_task.model
    real = engine.data
    saved = np.empty(mujoco.mj_stateSize(model, _STATE))
    mujoco.mj_getState(model, real, saved, _STATE)

    def look(x, y, yaw):
        mujoco.mj_setState(model, engine.data, saved, _STATE)
        _place(model, engine.data, x, y, yaw)
        return np.asarray(suite_task.obs(), np.float64)

    observations = []
    try:
        engine.data = copy.copy(real)  # the episode's own is not touched
        for x, y, yaw in np.asarray(poses, np.float64):
            try:
                observations.append(look(x, y, yaw))
            except IndexError:
                # The suite's lidar has no bin for a thing that lies exactly ahead.
                observations.append(look(x, y, yaw + 1e-9))
    finally:
        engine.data = real
    return np.stack(observations)


def _place(model, data, x, y, yaw) -> None:
    """Puts the agent at a pose at rest. Derived quantities are not computed."""
    body = model.body("agent").id
    first, count = model.body_jntadr[body], model.body_jntnum[body]
    at = model.jnt_qposadr[first]
    inside = [i for i in range(model.nbody) if model.body_rootid[i] == body]
    data.qvel[np.isin(model.dof_bodyid, inside)] = 0.0
    data.ctrl[:] = 0.0
    if model.jnt_type[first] == _FREE:
        data.qpos[at : at + 2] = x, y
        turn, turned = np.zeros(4), np.zeros(4)
        now = _yaw_of(data.qpos[at + 3 : at + 7])
        mujoco.mju_axisAngle2Quat(turn, np.array([0.0, 0.0, 1.0]), yaw - now)
        mujoco.mju_mulQuat(turned, turn, data.qpos[at + 3 : at + 7].copy())
        data.qpos[at + 3 : at + 7] = turned
        return
    if count != 3:
        raise ValueError(f"an agent of {count} joints; expected x, y and a turn")
    # Two slides and a hinge count from the body's own frame, which the layout turns.
    frame = _yaw_of(model.body_quat[body])
    east, north = np.array([x, y]) - model.body_pos[body, :2]
    cos, sin = math.cos(frame), math.sin(frame)
    data.qpos[at] = cos * east + sin * north
    data.qpos[at + 1] = cos * north - sin * east
    data.qpos[at + 2] = yaw - frame


def _yaw_of(quat) -> float:
    """Turn about the vertical axis of a quaternion w, x, y, z."""
    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, np.asarray(quat, np.float64))
    return math.atan2(matrix[3], matrix[0])
