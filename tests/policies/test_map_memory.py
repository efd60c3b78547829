"""The map of an episode: dead reckoning, what is noted, what is forgotten."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.envs.make import make as make_env
from sas_jax.envs.tasks import get_task
from sas_jax.envs.vector.env import VectorEnv
from sas_jax.errors import UserError
from sas_jax.policies import map_memory
from tests.helpers.map_worlds import (
    RECALL,
    SECONDS,
    SEE,
    places,
    recalling,
    seen_from,
    walked,
)


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


def test_a_second_step_compiles_nothing_anew():
    """What comes out has the shapes and types that went in; weak types are others."""
    first = RECALL.start(3)
    obs = jnp.zeros((3, seen_from((0, 0), 0.0).shape[0]))
    after = jax.eval_shape(SEE, first, obs, jnp.ones(3, bool))
    for old, new in zip(*map(jax.tree.leaves, (first, after)), strict=True):
        known = [(x.shape, x.dtype, x.weak_type) for x in (old, new)]
        assert known[0] == known[1]


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
    marks = jnp.full((1, 1, room, 2), map_memory.NOWHERE)
    things = np.stack([np.arange(room + 3), np.zeros(room + 3)], axis=-1) * 0.5
    for thing in things:
        seen = jnp.full((1, 1, 16, 2), map_memory.NOWHERE).at[0, 0, 5].set(thing)
        marks = map_memory.marked(marks, seen)
    np.testing.assert_allclose(marks[0, 0], things[:room])


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
        marks = np.asarray(marks)[np.asarray(marks)[:, 0] < map_memory.FAR]
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
