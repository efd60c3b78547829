"""What imagined steps cost by the map of an episode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.envs.tasks import get_task
from sas_jax.envs.vector.env import VectorEnv
from sas_jax.policies import map_memory, map_outcome
from tests.helpers.map_worlds import (
    BUTTON,
    RECALL,
    SECONDS,
    places,
    recalling,
    seen_from,
    walked,
)

COST = jax.jit(RECALL.cost)


def test_a_plan_pays_for_what_was_seen_and_the_model_does_not_imagine():
    """A thing 1 m ahead was seen just now. In imagination all lidars are dark.

    At 1 m/s a candidate that drives ahead is within 0.2 m from step 40 on; one that
    stays is not. Of what the model itself says the last step counts.
    """
    thing, horizon = np.array([1.0, 0.0]), 50
    memory = walked([seen_from((0, 0), 0.0, things=[thing])])
    ahead = np.stack([seen_from((0, 0), 0.0, (1.0, 0.0))] * horizon)
    stays = np.stack([seen_from((0, 0), 0.0)] * horizon)
    own = np.zeros((1, 2, horizon), np.float32)
    own[0, 1, 7] = own[0, 1, -1] = 0.3
    found = np.asarray(COST(None, memory, jnp.asarray([[ahead, stays]]), own))
    # The state after step k is k + 1 steps ahead; the last one's is not known.
    expected = np.where(np.arange(1, horizon + 1) * SECONDS > 0.8 + 1e-4, 1.0, 0.0)
    expected[-1] = 0.0
    np.testing.assert_array_equal(found[0, 0], expected)
    nothing = np.where(np.arange(horizon) == horizon - 1, own, 0.0)
    np.testing.assert_array_equal(found[0, 1], nothing[0, 1])
    # Without a memory of it nothing costs.
    blank = walked([seen_from((0, 0), 0.0)] * 4)
    found = COST(None, blank, jnp.asarray([[ahead, stays]]), own)
    np.testing.assert_array_equal(found, nothing)


def test_things_that_a_model_imagines_where_none_are_cost_nothing():
    """Fifty steps into an imagination a hazard stands beside an agent that waits."""
    memory = walked([seen_from((0, 0), 0.0)])
    waits = np.stack([seen_from((0, 0), 0.0)] * 50)
    waits[40:] = seen_from((0, 0), 0.0, things=[np.array([0.05, 0.0])])
    found = COST(None, memory, jnp.asarray([[waits]]), jnp.ones((1, 1, 50)))
    np.testing.assert_array_equal(found[0, 0], np.arange(50) == 49)


def test_what_is_seen_and_is_not_alone_counts_where_it_may_be():
    """Two things in one direction a metre away: none is noted, and it costs there."""
    angles = np.array([0.08, 0.3])
    things = list(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    memory = walked([seen_from((0, 0), 0.0, things=things)])
    assert not places(memory).size
    ahead = np.stack([seen_from((0, 0), 0.0, (1.0, 0.2), things)] * 60)
    away = np.stack([seen_from((0, 0), 0.0, (-1.0, 0.0), things)] * 60)
    own = jnp.zeros((1, 2, 60))
    found = np.asarray(COST(None, memory, jnp.asarray([[ahead, away]]), own))[0]
    steps = np.flatnonzero(found[0])
    assert abs(steps.mean() * SECONDS - 1.0) < 0.1 and not found[1].any()


@pytest.mark.parametrize("ahead", [0, 40])
def test_what_circles_and_is_not_alone_circles_on(ahead):
    """Seen beside each other at a step: the middle of the pair goes round, too."""
    recall, senses = recalling(BUTTON, "gremlins"), map_memory.senses_of(BUTTON)
    angles = np.array([0.08, 0.3])
    pair = list(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    obs = jnp.asarray(seen_from((0, 0), 0.0, task=BUTTON, gremlins=pair))[None]
    memory = jax.jit(recall.see)(recall.start(1), obs, jnp.ones(1, bool))
    memory = memory.replace(step=memory.step + ahead)
    index = senses.names.index("gremlins_lidar")
    things = np.asarray(map_outcome.known(senses, memory, obs))[0, index]
    middles = things[things[:, 0] < map_memory.FAR]
    circle = np.asarray(senses.circling(memory.step))[0]
    assert len(middles) == 1
    assert np.hypot(*(middles[0] + circle - np.mean(pair, axis=0))) < 0.1


def standing(at, horizon=50):
    """`[1, n, T, O]` candidates on Button that stand still, and begin with a jump."""
    obs = np.zeros((1, len(at), horizon, BUTTON.obs_dim), np.float32)
    for index, place in enumerate(at):
        obs[0, index] = seen_from((0, 0), 0.0, task=BUTTON)
        # The mean of this speed and of none brings them there in one step.
        speed = 2.0 * np.asarray(place) / SECONDS
        obs[0, index, 0] = seen_from((0, 0), 0.0, speed, task=BUTTON)
    return jnp.asarray(obs)


def test_the_wrong_button_costs_wherever_the_goal_has_been_before():
    """Two buttons; whichever is the goal now is free, the other one is not."""
    recall = recalling(BUTTON)
    buttons = [np.array([1.0, 0.0]), np.array([0.0, -1.5])]
    memory, own = recall.start(1), jnp.zeros((1, 2, 50))
    for step, goal in enumerate(buttons):
        seen = {"task": BUTTON, "buttons": buttons, "goal": [goal]}
        obs = jnp.asarray(seen_from((0, 0), 0.0, **seen))[None]
        memory = jax.jit(recall.see)(memory, obs, jnp.full(1, step == 0))
        found = jax.jit(recall.cost)(None, memory, standing(buttons), own)
        expected = map_outcome.PRESSED * np.roll([0.0, 1.0], step)
        np.testing.assert_array_equal(found[0, :, :-1].mean(axis=1), expected)
    # A button was pressed, three steps ago by now: dark, and free for seven more.
    for _ in range(3):
        obs = jnp.asarray(seen_from((0, 0), 0.0, task=BUTTON, goal=[goal]))[None]
        memory = jax.jit(recall.see)(memory, obs, jnp.zeros(1, bool))
    found = np.asarray(jax.jit(recall.cost)(None, memory, standing(buttons), own))
    wrong, free = found[0, 0], map_outcome.DARK - 3
    assert not wrong[:free].any() and (wrong[free:-1] == map_outcome.PRESSED).all()
    assert not found[0, 1].any()


def test_a_gremlin_is_expected_where_its_circle_takes_it():
    """Seen at 2 s; a second later it is a radian further on, 34 centimetres."""
    recall = recalling(BUTTON, "gremlins")
    middle, start = np.array([0.2, 0.3]), 100

    def at(step):
        angle = step * SECONDS - map_memory._LAG
        return middle + map_memory._CIRCLE * np.array([np.sin(angle), np.cos(angle)])

    memory = recall.start(1)
    for step in range(start + 1):
        seen = {"gremlins": [at(step)]} if step == start else {}
        obs = jnp.asarray(seen_from((0, 0), 0.0, task=BUTTON, **seen))[None]
        memory = jax.jit(recall.see)(memory, obs, jnp.full(1, step == 0))
    # One candidate waits on the circle a second ahead, one on its other side.
    there = at(start + 49)
    waits = standing([there, 2 * middle - there])
    found = jax.jit(recall.cost)(None, memory, waits, jnp.zeros((1, 2, 50)))
    steps = np.flatnonzero(np.asarray(found)[0, 0])
    reached = [
        step for step in range(49) if np.hypot(*(at(start + step + 1) - there)) < 0.2
    ]
    assert set(reached) == set(steps)
    assert 48 in steps and 0 not in steps
    assert not np.asarray(found)[0, 1].any()


@pytest.mark.parametrize(
    "name, seen_before", [("PointGoal1", 0.99), ("CarGoal1", 0.55)]
)
def test_costs_of_a_real_way_are_foreseen_as_they_come(name, seen_before):
    """Straight on through the hazards: what the map says of the way, and what it cost.

    Hazards cost within 0.2 metres.
    """
    task = get_task(name)
    recall = recalling(task)
    see, cost_of = jax.jit(recall.see), jax.jit(recall.cost)
    count = 8
    with VectorEnv(name, count, num_workers=1) as envs:
        batch = envs.reset(np.arange(count))
        memory, first = recall.start(count), True
        seen, costs, memories = [], [], []
        for step in range(200):
            memory = see(memory, jnp.float32(batch.obs), jnp.full(count, first))
            memories.append(memory)
            seen.append(np.float32(batch.obs))
            turn = 0.3 * np.sin(step / 30.0)
            action = [1.0, turn] if name.startswith("Point") else [1.0, 1.0 - abs(turn)]
            batch = envs.step(np.tile(action, (count, 1)))
            costs.append(batch.cost)
            first = False
    seen, costs = np.stack(seen, axis=1), np.stack(costs, axis=1)
    foreseen, real = [], []
    for begin in range(20, 150, 10):
        way = jnp.asarray(seen[:, None, begin : begin + 50])
        found = cost_of(None, memories[begin], way, jnp.zeros((count, 1, 50)))
        foreseen.append(found[:, 0, :-1])
        real.append(costs[:, begin : begin + 49])
    foreseen, real = np.stack(foreseen), np.stack(real)
    assert real.sum() > 30
    # Some hazards nobody has seen yet when the way begins; none is seen where none is.
    assert (foreseen * real).sum() > seen_before * real.sum()
    assert (foreseen > real).mean() < 0.01
