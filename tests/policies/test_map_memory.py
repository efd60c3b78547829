"""The map of an episode: dead reckoning, what is noted, what it makes plans cost."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.envs.make import make as make_env
from sas_jax.envs.tasks import get_task
from sas_jax.envs.vector.env import VectorEnv
from sas_jax.errors import UserError
from sas_jax.models import lidar
from sas_jax.policies import map_memory

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

    return map_memory.make(task, lambda obs: obs, cost_of)


RECALL = recalling(TASK)
SEE, COST = jax.jit(RECALL.see), jax.jit(RECALL.cost)


def walked(observations, memory=None, count=1):
    memory = RECALL.start(count) if memory is None else memory
    for step, obs in enumerate(observations):
        rows = jnp.asarray(np.broadcast_to(obs, (count, TASK.obs_dim)))
        memory = SEE(memory, rows, jnp.full(count, step == 0))
    return memory


def places(memory):
    """`[M, 2]` all marks of the first row's map."""
    marks = np.asarray(memory.marks)[0].reshape(-1, 2)
    return marks[marks[:, 0] < map_memory._FAR]


def test_the_agent_knows_where_it_is_whichever_way_it_looks():
    """Speeding up to the north-east while it turns: the trapezoids of its velocity."""
    speeds = np.linspace(0.0, 2.0, 21)
    steps = [
        seen_from((0, 0), 0.3 * t, (0.6 * v, 0.8 * v)) for t, v in enumerate(speeds)
    ]
    memory = walked(steps)
    way = SECONDS * 0.5 * (speeds[1:] + speeds[:-1]).sum()
    np.testing.assert_allclose(memory.place[0], [0.6 * way, 0.8 * way], rtol=1e-4)
    # The next episode begins anew.
    memory = SEE(memory, jnp.asarray(steps[:1]), jnp.array([True]))
    np.testing.assert_array_equal(memory.place, 0.0)
    assert not places(memory).size


@pytest.mark.parametrize("heading", [0.0, 1.0, -2.5])
def test_a_lone_thing_is_noted_where_it_is(heading):
    thing = np.array([0.7, -1.1])
    memory = walked([seen_from((0, 0), heading, things=[thing])])
    # Vases have a lidar of their own; nothing was noted of them.
    np.testing.assert_allclose(places(memory), [thing], atol=1e-3)


def test_what_is_hidden_by_something_nearer_is_not_guessed():
    """Two things in one direction: the nearer one's reading is all there is."""
    both = [np.array([0.5, 0.1]), np.array([1.9, 0.2])]
    memory = walked([seen_from((0, 0), 0.0, things=both)])
    found = places(memory)
    for point in found:
        assert min(np.hypot(*(point - thing)) for thing in both) < 0.02
    assert len(found) <= 2


def test_a_plan_pays_for_what_was_seen_and_the_model_does_not_imagine():
    """A thing 1 m ahead was seen just now. In imagination all lidars are dark.

    At 1 m/s a candidate that drives ahead is within 0.2 m from step 40 on; one that
    stays is not. What the model itself says still counts.
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
    np.testing.assert_array_equal(found[0, 1], own[0, 1])
    # Without a memory of it nothing costs.
    blank = walked([seen_from((0, 0), 0.0)] * 4)
    found = COST(None, blank, jnp.asarray([[ahead, stays]]), own)
    np.testing.assert_array_equal(found, own)


def seen_on_a_walk(things, steps=100, speed=1.0):
    """The observations of a walk ahead along the first axis, at a constant speed."""
    at = np.arange(steps)[:, None] * [SECONDS * speed, 0.0]
    return [seen_from(place, 0.0, (speed, 0.0), things) for place in at]


def test_an_object_seen_again_has_one_mark():
    """Past two hazards: two marks, where they stand, however often they were seen."""
    things = [np.array([0.7, 0.9]), np.array([1.1, -0.8])]
    found = places(walked(seen_on_a_walk(things)))
    assert len(found) == 2
    order = np.argsort(found[:, 0])
    np.testing.assert_allclose(found[order], things, atol=0.02)


def test_what_is_hidden_later_stays_on_the_map():
    """A hazard comes between the agent and the one that it saw before."""
    far, near = np.array([2.0, 0.2]), np.array([1.0, 0.1])
    memory = walked([seen_from((0, 0), 0.0, things=[far])])
    memory = SEE(
        memory, seen_from((0, 0), 0.0, things=[near, far])[None], jnp.zeros(1, bool)
    )
    found = places(memory)
    assert np.min(np.hypot(*(found - far).T)) < 0.02


@pytest.mark.parametrize("moved", [(0.9, 0.0), (0.0, 1.5), None])
def test_a_mark_that_the_lidar_contradicts_is_wiped(moved):
    """Pushed away, by more and by less than the sightings of one object may differ."""
    thing = np.array([0.8, 0.0])
    memory = walked([seen_from((0, 0), 0.0, things=[thing])])
    now = [np.array(moved or (-2.0, -2.0))]
    later = seen_from((0, 0), 0.0, things=now)[None]
    found = places(SEE(memory, later, jnp.zeros(1, bool)))
    assert found.shape == (len(now), 2)
    np.testing.assert_allclose(found, np.reshape(now, (-1, 2)), atol=1e-3)


def test_a_full_map_keeps_what_it_has():
    """More objects than there is room for, each out of sight when the next is seen."""
    room = map_memory._MARKS
    marks = jnp.full((1, 1, room, 2), map_memory._NOWHERE)
    things = np.stack([np.arange(room + 3), np.zeros(room + 3)], axis=-1) * 0.5
    for thing in things:
        seen = jnp.full((1, 1, 16, 2), map_memory._NOWHERE).at[0, 0, 5].set(thing)
        marks = map_memory.marked(marks, seen)
    np.testing.assert_allclose(marks[0, 0], things[:room])


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
        expected = map_memory._PRESSED * np.roll([0.0, 1.0], step)
        np.testing.assert_array_equal(found[0, :, :-1].mean(axis=1), expected)
    # A button was pressed, three steps ago by now: dark, and free for seven more.
    for _ in range(3):
        obs = jnp.asarray(seen_from((0, 0), 0.0, task=BUTTON, goal=[goal]))[None]
        memory = jax.jit(recall.see)(memory, obs, jnp.zeros(1, bool))
    found = np.asarray(jax.jit(recall.cost)(None, memory, standing(buttons), own))
    wrong, free = found[0, 0], map_memory._DARK - 3
    assert not wrong[:free].any() and (wrong[free:-1] == map_memory._PRESSED).all()
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


@pytest.mark.parametrize("name", ["PointButton1", "CarButton2"])
def test_marks_are_where_the_simulators_objects_are(name):
    """Whatever stands or circles, on 150 steps of held actions, to five centimetres."""
    task, rng = get_task(name), np.random.default_rng(1)
    recall = recalling(task)
    see, memory = jax.jit(recall.see), recall.start(1)
    env = make_env(name)
    obs = env.reset(5)
    suite = env.unwrapped.task
    model, data = suite.model, suite.data
    names = [model.body(i).name for i in range(model.nbody)]
    first = data.body("agent").xpos[:2].copy()
    memory = see(memory, jnp.float32(obs)[None], jnp.ones(1, bool))
    for step in range(150):
        if step % 20 == 0:
            action = rng.uniform(-1, 1, 2)
        obs = env.step(action)[0]
        memory = see(memory, jnp.float32(obs)[None], jnp.zeros(1, bool))
    angle = data.time - map_memory._LAG
    circle = map_memory._CIRCLE * np.array([np.sin(angle), np.cos(angle)])
    kinds = {"hazards": "", "buttons": "", "gremlins": "obj"}
    for (kind, suffix), marks in zip(kinds.items(), memory.marks[0], strict=True):
        bodies = map(re.compile(rf"{kind[:-1]}\d+{suffix}").fullmatch, names)
        true = [data.body(found.string).xpos[:2] for found in bodies if found]
        true = np.array(true) - first
        true = true - circle if kind == "gremlins" else true
        marks = np.asarray(marks)[np.asarray(marks)[:, 0] < map_memory._FAR]
        away = np.hypot(*np.moveaxis(marks[:, None] - true, -1, 0))
        assert len(marks) and away.min(axis=1).max() < 0.05


def test_rows_do_not_know_of_each_other():
    thing = np.array([1.0, 0.0])
    one = jnp.asarray([seen_from((0, 0), 0.0, things=[thing])])
    other = jnp.asarray([seen_from((0, 0), 2.0, (1.0, 0.0))])
    rows = jnp.concatenate([one, other])
    both = SEE(RECALL.start(2), rows, jnp.ones(2, bool))
    both = SEE(both, rows[::-1], jnp.array([False, True]))
    alone = SEE(RECALL.start(1), one, jnp.ones(1, bool))
    alone = SEE(alone, other, jnp.zeros(1, bool))
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x[:1], y), both, alone)


@pytest.mark.parametrize("name", ["PointGoal1", "CarGoal1"])
def test_dead_reckoning_is_the_simulators_own_way(name):
    """200 steps of held actions: within two centimetres, whatever the body's step."""
    task, rng = get_task(name), np.random.default_rng(0)
    recall = recalling(task)
    see, memory = jax.jit(recall.see), recall.start(1)
    with VectorEnv(name, 1, num_workers=1) as envs:
        batch = envs.reset([3])
        first = batch.pose[0, :3]
        memory = see(memory, batch.obs, jnp.ones(1, bool))
        for step in range(200):
            if step % 20 == 0:
                action = rng.uniform(-1, 1, (1, 2))
            batch = envs.step(action)
            memory = see(memory, batch.obs, jnp.zeros(1, bool))
    way = batch.pose[0, :2] - first[:2]
    assert np.hypot(*way) > 0.2
    np.testing.assert_allclose(memory.place[0], way, atol=0.02)


@pytest.mark.parametrize("name", ["Hopper", "PointCircle1"])
def test_a_task_without_its_sensors_is_refused(name):
    with pytest.raises(UserError, match=f"task {name}: no .* to make a map by"):
        recalling(get_task(name))
