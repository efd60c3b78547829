"""What imagined steps cost by the map of an episode.

A model moves its lidars step by step, forgets what something nearer hides, and blurs
them: fifty steps on, hazards stand where there are none. The map knows where things
are, and an imagined step where the agent is. So lidars are read off the map in one go,
however far ahead. What is seen now and is not on the map, because it is not alone in
its lidar, stands in the middle of where it may be.

An imagined step costs what the model's own cost head makes of the state that it leads
to, the nearest object of each kind in its lidar. The head cannot tell a wrong button
from the one that is to be pressed (docs/results/world_model.md). So the nearest wrong
button is shown to it as a hazard, and counts by `PRESSED`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from sas_jax.alignment.recall import Recall
from sas_jax.envs.tasks import Task
from sas_jax.models import lidar
from sas_jax.policies import map_memory
from sas_jax.policies.map_memory import BUTTONS, CIRCLING, NOWHERE, SAME, Map, Senses

# Steps for which the buttons are dark, and free, when one was pressed.
DARK = 10
# Of the steps of a push against a button, those that press it: agents bounce off. In
# recordings a sixth of the steps at that distance cost; in a plan it goes on pushing.
PRESSED = 0.25
# What is seen is a noted object where it is no further from it than so many metres, and
# that share of its distance: half a bin and more.
_NEAR, _WIDTH = 0.1, 0.25


def make(task: Task, standardise: Callable, cost_of: Callable) -> Recall:
    """The memory of a task's episodes, and what it makes imagined steps cost.

    Args:
      standardise: observations of the environment in the model's units.
      cost_of: (variables, standardised states `[..., O]`) -> `[...]` probability that
        the step to each of them costs.

    Raises:
      UserError: a task without the sensors that it takes.
    """
    senses = map_memory.senses_of(task)
    hazards = task.obs_groups["hazards_lidar"]

    def cost(variables: Any, memory: Map, obs: jax.Array, own: jax.Array):
        _, velocity = senses.motion(obs)
        legs = 0.5 * senses.seconds * (velocity[:, :, 1:] + velocity[:, :, :-1])
        place = memory.place[:, None, None] + jnp.cumsum(legs, axis=2)
        after, ahead = obs[:, :, 1:], jnp.arange(1, obs.shape[2])
        circle = senses.circling(memory.step[:, None] + ahead[None])[:, None]
        things = known(senses, memory, obs[:, 0, 0])
        for index, (name, ring) in enumerate(
            zip(senses.names, senses.rings, strict=True)
        ):
            if name == BUTTONS:
                continue
            here = place - circle if name == CIRCLING else place
            after = after.at[..., ring].set(0.0)
            after = shown(after, ring, nearest(here, things[:, index]))
        found = cost_of(variables, standardise(after))
        if BUTTONS in senses.names:
            near = wrong_button(senses, memory, place, ahead)
            pressed = shown(after, hazards, near)
            pressed = PRESSED * cost_of(variables, standardise(pressed))
            found = jnp.maximum(found, pressed)
        # The state after the last step is not known: its own cost stands.
        return own.at[:, :, :-1].set(found)

    return Recall(
        start=lambda count: map_memory.start(senses, count),
        see=lambda memory, obs, is_first: map_memory.see(senses, memory, obs, is_first),
        cost=cost,
    )


def known(senses: Senses, memory: Map, obs: jax.Array) -> jax.Array:
    """`[B, G, M, 2]` what is on the map, and what is seen now `[B, O]` besides.

    Of what circles, the middles.
    """
    heading, _ = senses.motion(obs)
    readings, moved = senses.readings(obs), senses.moved(memory.step)
    seen, distance = map_memory.placed(readings, memory.place, heading)
    away = jnp.square(seen[..., :, None, :] - (memory.marks + moved)[..., None, :, :])
    away = jnp.sqrt(away.sum(axis=-1).min(axis=-1))
    is_new = lidar.is_own(readings) & (away > _NEAR + _WIDTH * distance)
    seen = jnp.where(is_new[..., None], seen - moved, NOWHERE)
    return jnp.concatenate([memory.marks, seen], axis=2)


def wrong_button(
    senses: Senses, memory: Map, place: jax.Array, ahead: jax.Array
) -> jax.Array:
    """Distance `[B, n, T]` to the nearest button that costs, so many steps ahead.

    Not the goal; none at all while they are dark.
    """
    marks = memory.marks[:, senses.names.index(BUTTONS)]
    away = jnp.square(marks - memory.goal[:, None]).sum(axis=-1, keepdims=True)
    near = nearest(place, jnp.where(away < SAME**2, NOWHERE, marks))
    rest = jnp.where(memory.dark > 0, DARK - memory.dark, 0)
    is_free = ahead[None, None] <= rest[:, None, None]
    return jnp.where(is_free, NOWHERE, near)


def shown(obs: jax.Array, ring: slice, near: jax.Array) -> jax.Array:
    """States `[..., O]` whose lidar shows something at a distance `[...]`, too.

    Where in the ring it shows is all the same to the cost.
    """
    light = jnp.clip(1.0 - near / lidar.RANGE, 0.0, 1.0)
    return obs.at[..., ring.start].max(light)


def nearest(place: jax.Array, marks: jax.Array) -> jax.Array:
    """Distance `[B, n, T]` of places `[B, n, T, 2]` to the nearest mark `[B, K, 2]`.

    By differences: products would lose a metre in a thousand.
    """
    x, y = (place[..., i, None] - marks[:, None, None, :, i] for i in range(2))
    return jnp.sqrt((x * x + y * y).min(axis=-1))
