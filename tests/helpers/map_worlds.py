"""Observations of a flat world with lone things, and maps of it."""

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax.envs.tasks import get_task
from sas_jax.models import lidar
from sas_jax.policies import map_memory, map_outcome

TASK, BUTTON = get_task("PointGoal2"), get_task("PointButton1")
SECONDS = 0.02


def seen_from(place, heading, velocity=(0.0, 0.0), things=(), task=TASK, **kinds):
    """An observation `[O]`: north, velocity in the agent's frame, lone things.

    things are hazards; kinds: of other lidars.
    """
    obs, groups = np.zeros(task.obs_dim, np.float32), task.obs_groups
    obs[groups["magnetometer"]] = [-0.5 * np.sin(heading), -0.5 * np.cos(heading), 0]
    c, s = np.cos(heading), np.sin(heading)
    x, y = velocity
    obs[groups["velocimeter"]] = [c * x + s * y, c * y - s * x, 0]
    for kind, places in {"hazards": things, **kinds}.items():
        ring = groups[f"{kind}_lidar"]
        for thing in places:
            away = np.asarray(thing) - place
            angle = (np.arctan2(away[1], away[0]) - heading) % (2 * np.pi)
            light = lidar.lone(jnp.float32(angle), jnp.float32(np.hypot(*away)), 16)
            obs[ring] = np.maximum(obs[ring], light)
    return obs


def recalling(task, kind="hazards"):
    """A map on which a step costs where one of a kind is nearer than 0.2 metres."""

    def cost_of(variables, states):
        del variables
        near = states[..., task.obs_groups[f"{kind}_lidar"]].max(axis=-1)
        return (near > 1 - 0.2 / lidar.RANGE).astype(jnp.float32)

    return map_outcome.make(task, lambda obs: obs, cost_of)


RECALL = recalling(TASK)
SEE = jax.jit(RECALL.see)


def walked(observations, memory=None, count=1):
    memory = RECALL.start(count) if memory is None else memory
    for step, obs in enumerate(observations):
        rows = jnp.asarray(np.broadcast_to(obs, (count, TASK.obs_dim)))
        memory = SEE(memory, rows, jnp.full(count, step == 0))
    return memory


def places(memory):
    """`[M, 2]` all marks of the first row's map."""
    marks = np.asarray(memory.marks)[0].reshape(-1, 2)
    return marks[marks[:, 0] < map_memory.FAR]
