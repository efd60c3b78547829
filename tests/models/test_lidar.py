"""The pseudo lidar's law against the environment's own, object by object."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.envs.lean import lidar as lean_lidar
from sas_jax.envs.make import make as make_env
from sas_jax.models import lidar

SIZE = lean_lidar.NUM_BINS


def scan(points, at=(0.0, 0.0), heading=0.0):
    """What the environment's lidar reads at a pose."""
    cos, sin = math.cos(heading), math.sin(heading)
    rotation = (cos, -sin, 0.0, sin, cos, 0.0, 0.0, 0.0, 1.0)
    return np.array(lean_lidar.scan(points, (*at, 0.0), rotation, lidar.RANGE))


def draw_places(rng, count):
    """Points `[count, 2]` all round, in sight before and after a step."""
    angle, distance = rng.uniform(0, 2 * np.pi, count), rng.uniform(0.3, 2.8, count)
    return np.stack([distance * np.cos(angle), distance * np.sin(angle)], -1)


@pytest.fixture(scope="module")
def step():
    def run(readings, turn, ahead, aside, outward, around):
        objects = lidar.objects_of(readings)
        motion = (x[:, None] for x in (turn, ahead, aside))
        after = lidar.moved(objects, *motion, outward[:, None], around[:, None])
        own = lidar.is_own(readings)
        return lidar.read(objects, own), lidar.read(after, own)

    return jax.jit(run)


def test_a_lone_object_is_found_moved_and_read_exactly(step):
    """Any place, any motion of a step, through several bins' borders."""
    rng = np.random.default_rng(0)
    places = draw_places(rng, 300)
    turn = rng.uniform(-0.25, 0.25, 300)
    ahead, aside = rng.uniform(-0.04, 0.04, (2, 300))
    before = np.stack([scan([p]) for p in places])
    expected = np.stack(
        [
            scan([p], at=(x, y), heading=angle)
            for p, x, y, angle in zip(places, ahead, aside, turn, strict=True)
        ]
    )
    still = np.zeros(300)
    same, after = step(before, turn, ahead, aside, still, still)
    np.testing.assert_allclose(same, before, atol=1e-5)
    np.testing.assert_allclose(after, expected, atol=2e-5)
    assert np.abs(before - expected).max() > 0.2


def test_objects_may_move_by_themselves(step):
    """Outward and around the agent, in the object's own directions."""
    rng = np.random.default_rng(1)
    places = draw_places(rng, 100)
    out, side = rng.uniform(-0.1, 0.1, (2, 100))
    direction = places / np.linalg.norm(places, axis=-1, keepdims=True)
    left = np.stack([-direction[:, 1], direction[:, 0]], -1)
    moved = places + out[:, None] * direction + side[:, None] * left
    zero = np.zeros(100)
    before = np.stack([scan([p]) for p in places])
    _, after = step(before, zero, zero, zero, out, side)
    expected = np.stack([scan([p]) for p in moved])
    np.testing.assert_allclose(after, expected, atol=2e-5)


def test_several_objects_share_a_lidar(step):
    """Objects four bins apart do not disturb each other; nothing reads nothing."""
    rng = np.random.default_rng(2)
    rows, motions = [], rng.uniform(-0.05, 0.05, (3, 40))
    expected = []
    for turn, x, y in motions.T:
        angle = np.arange(4) * np.pi / 2 + rng.uniform(-0.15, 0.15, 4)
        distance = rng.uniform(0.5, 2.8, 4)
        points = np.stack([distance * np.cos(angle), distance * np.sin(angle)], -1)
        rows.append(scan(points))
        expected.append(scan(points, at=(x, y), heading=turn))
    zero = np.zeros(40)
    _, after = step(np.stack(rows), *motions, zero, zero)
    np.testing.assert_allclose(after, np.stack(expected), atol=2e-5)
    dark = jnp.zeros((40, SIZE))
    _, after = step(dark, *(0.1 * np.ones((3, 40))), zero, zero)
    assert not np.any(after)


def test_one_object_is_read_wherever_it_is():
    places = draw_places(np.random.default_rng(5), 200)
    angle = np.arctan2(places[:, 1], places[:, 0])
    distance = np.linalg.norm(places, axis=-1)
    run = jax.jit(lambda a, d: lidar.lone(a, d, SIZE))
    expected = np.stack([scan([p]) for p in places])
    for turns in (-1, 0, 2):
        found = run(angle + 2 * np.pi * turns, distance)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_noise_leaves_one_object():
    """Readings of one object stay; with noise on all bins, the brightest is kept."""
    rng = np.random.default_rng(6)
    readings = np.stack([scan([p]) for p in draw_places(rng, 200)])
    run = jax.jit(lidar.of_one_object)
    np.testing.assert_allclose(run(readings), readings, atol=1e-5)
    noisy = readings + 0.03 * rng.normal(size=readings.shape)
    cleared = np.asarray(run(noisy))
    assert ((cleared > 0).sum(-1) <= 3).all()
    np.testing.assert_allclose(cleared.max(-1), noisy.max(-1), atol=1e-6)
    np.testing.assert_allclose(run(cleared), cleared, atol=1e-5)


def test_presence_scales_what_an_object_shows():
    rng = np.random.default_rng(3)
    readings = np.stack([scan([p]) for p in draw_places(rng, 20)])
    objects = lidar.objects_of(jnp.asarray(readings))
    np.testing.assert_allclose(lidar.read(objects, 0.0), 0.0)
    np.testing.assert_allclose(lidar.read(objects, 0.5), readings / 2, atol=1e-5)


def test_around_is_the_largest_of_three():
    x = np.random.default_rng(4).normal(size=(3, SIZE))
    expected = np.maximum(x, np.maximum(np.roll(x, 1, -1), np.roll(x, -1, -1)))
    np.testing.assert_array_equal(lidar.around(jnp.asarray(x)), expected.astype("f4"))


def test_the_range_is_the_suites():
    env = make_env("PointGoal1")
    assert env.unwrapped.task.lidar_conf.max_dist == lidar.RANGE
    env.close()


def test_a_place_and_a_compass_tell_where_the_agent_is():
    """Of one object at the map's origin: minus the agent's place, in the map's axes."""
    rng = np.random.default_rng(7)
    agent, yaw = rng.uniform(-1.5, 1.5, (200, 2)), rng.uniform(-np.pi, np.pi, 200)
    c, s = np.cos(yaw), np.sin(yaw)
    own = np.stack([-c * agent[:, 0] - s * agent[:, 1],
                    s * agent[:, 0] - c * agent[:, 1]], -1)  # fmt: skip
    readings = np.stack([scan([place]) for place in own])
    place = jax.jit(lidar.place_of)(readings)
    np.testing.assert_allclose(place, own, atol=1e-4)
    north = 0.5 * np.stack([c, -s], -1)
    found = jax.jit(lidar.on_the_map)(own, north)
    np.testing.assert_allclose(found, -agent, atol=1e-5)
