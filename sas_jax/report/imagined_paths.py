"""Where imagined steps lead on the map: dead reckoning by the imagined sensors.

A model of sensors knows no map. It knows how fast it moves and turns, so its way from a
known pose follows by adding up (the navigation tasks' velocimeter and gyro).
"""

import numpy as np

from sas_jax.envs.tasks import Task
from sas_jax.report.scene import EpisodePath, Fan


def step_seconds(obs: np.ndarray, pose: np.ndarray, task: Task) -> float | None:
    """Seconds of a step of an episode: what makes its speeds fit its way.

    obs: `[T, O]`; pose: `[T, 6]`. None where the task has no such sensors, and where
    nothing moves.
    """
    if not {"velocimeter", "gyro"} <= set(task.obs_groups):
        return None
    way = np.linalg.norm(np.diff(pose[:, :2], axis=0), axis=1)
    speed = np.linalg.norm(obs[1:, task.obs_groups["velocimeter"]][:, :2], axis=1)
    return float(way @ speed / (speed @ speed)) if speed.any() else None


def places(obs: np.ndarray, pose: np.ndarray, task: Task, seconds: float) -> np.ndarray:
    """`[..., T, 2]` metres: where imagined observations `[..., T, O]` lead.

    pose: `[>= 3]` x, y, yaw at the first of them. seconds: of a step.
    """
    first = task.obs_groups["velocimeter"].start
    velocity = obs[..., 1:, first : first + 2]
    turn = obs[..., 1:, task.obs_groups["gyro"].start + 2]
    yaw = pose[2] + seconds * np.cumsum(turn, axis=-1)
    cos, sin = np.cos(yaw), np.sin(yaw)
    move = seconds * np.stack(
        [
            velocity[..., 0] * cos - velocity[..., 1] * sin,
            velocity[..., 0] * sin + velocity[..., 1] * cos,
        ],
        axis=-1,
    )
    start = np.broadcast_to(pose[:2], (*move.shape[:-2], 1, 2))
    return np.concatenate([start, start + np.cumsum(move, axis=-2)], axis=-2)


def episode_path(watched, task: Task) -> EpisodePath:
    """An episode as it is drawn, its plans too where the task's sensors allow.

    watched: `evaluation.watching.Watched`.
    """
    seconds = step_seconds(watched.obs, watched.pose, task)
    fans = ()
    if seconds:
        fans = tuple(
            Fan(
                plan.step,
                places(plan.obs, watched.pose[plan.step], task, seconds),
                plan.is_in,
                plan.chosen,
            )
            for plan in watched.plans
        )
    return EpisodePath(watched.pose, watched.cost, watched.reward, fans)
