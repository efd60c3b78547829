"""Scripted behaviours: their maths alone, then what they do in the real environment."""

import numpy as np
import pytest

from sas_jax.data.behaviours import circle, motion, push
from sas_jax.data.behaviours import dials as behaviours_dials
from sas_jax.data.behaviours import field as behaviours_field
from sas_jax.data.behaviours.dials import Behaviour
from sas_jax.envs import tasks
from sas_jax.envs.make import make as make_env
from sas_jax.errors import UserError

NAVIGATION = [
    f"{agent}{family}{level}"
    for agent in ("Point", "Car")
    for family in ("Goal", "Button", "Push", "Circle")
    for level in (1, 2)
]


def run(env, dials, *, episode=0, steps=None):
    """Runs one episode; returns (return, cost, actions `[T, 2]`)."""
    observation = env.reset(behaviours_dials.environment_seed(0, episode))
    act = behaviours_dials.start(env, env.task.name, dials, 0, episode)
    total, total_cost, actions = 0.0, 0.0, []
    for _ in range(steps or env.task.episode_steps):
        actions.append(act(observation))
        observation, reward, cost, *_ = env.step(actions[-1])
        total += reward
        total_cost += cost
    return total, total_cost, np.array(actions)


def test_field_without_obstacles_is_the_distance():
    target = np.array([0.5, -1.0])
    field = behaviours_field.Field(target, behaviours_field.NONE, 0.1)
    points = np.random.default_rng(0).uniform(-2.4, 2.4, (200, 2))
    exact = np.hypot(*(points - target).T)
    # Half a cell for the target's own cell, 3 % for the sixteen directions of moves.
    assert np.all(np.abs(field(points) - exact) < 0.09 + 0.03 * exact)
    np.testing.assert_allclose(behaviours_field.straight(target)(points), exact)


def test_field_goes_round_what_is_worth_a_detour():
    obstacle = behaviours_field.things(np.array([[0.0, 0.0, 0.5]]), 100.0)
    field = behaviours_field.Field(np.array([-1.5, 0.0]), obstacle, 0.1)
    # Past a disc of radius 0.5 + 0.1: two tangents from 1.5 and the arc between.
    radius = 0.6
    tangent = np.sqrt(1.5**2 - radius**2)
    arc = radius * (np.pi - 2 * np.arccos(radius / 1.5))
    assert field(np.array([1.5, 0.0])) == pytest.approx(2 * tangent + arc, rel=0.06)
    light = behaviours_field.things(np.array([[0.0, 0.0, 0.5]]), 0.05)
    through = behaviours_field.Field(np.array([-1.5, 0.0]), light, 0.1)
    assert through(np.array([1.5, 0.0])) == pytest.approx(3.0 + 0.05 * 1.2, rel=0.02)


def test_field_beyond_its_edge_grows_outwards():
    field = behaviours_field.Field(np.zeros(2), behaviours_field.NONE, 0.1)
    inside, outside = field(np.array([[2.5, 0.0], [3.5, 0.0]]))
    assert outside == pytest.approx(inside + 1.0)


@pytest.mark.parametrize(("task", "limit"), [("PointGoal1", 0.06), ("CarGoal1", 0.15)])
def test_manoeuvres_predict_the_real_agent(task, limit):
    """Holding a control as in a plan leads to where the table says."""
    env = make_env(task)
    tables = motion.of(task.removesuffix("Goal1"))
    errors = []
    for seed, action in enumerate([(1, 0), (-1, 0), (1, 1), (1, -1), (-1, -1)]):
        row = np.flatnonzero((tables.actions == action).all(1))[0]
        observation = env.reset(seed)
        # Away from rest, so that the tables' response to velocity is tried as well.
        for _ in range(10):
            observation, *_ = env.step(np.array([1.0, 1.0 if "Car" in task else 0.0]))
        pose = env.pose()
        paths, _ = tables.paths(pose[:2], pose[2], observation[3:5])
        moment = round(tables.times[0] / tables.step_seconds)
        for _ in range(moment):
            env.step(np.array(action, float))
        errors.append(np.hypot(*(env.pose()[:2] - paths[row, 0])))
    assert np.median(errors) < limit


def test_dials_depend_on_seed_and_episode_only():
    dials = [behaviours_dials.sample("PointGoal1", 3, e) for e in range(200)]
    assert dials == [behaviours_dials.sample("PointGoal1", 3, e) for e in range(200)]
    assert dials != [behaviours_dials.sample("PointGoal1", 4, e) for e in range(200)]
    risk, speed, noise = np.array([[d.risk, d.speed, d.noise] for d in dials]).T
    assert risk.min() < 0.1 and risk.max() > 1.2
    assert 0 < speed.min() < 0.1 and 0.95 < speed.max() <= 1
    assert noise.min() >= 0 and noise.max() > 0.8
    careful = (risk < 0.45) & (speed > 0.7) & (noise < 0.3)
    assert 0.15 < careful.mean() < 0.4


def test_mixtures_of_dials():
    graded, budgeted = (
        [behaviours_dials.sample("PointGoal1", 3, e, mixture) for e in range(200)]
        for mixture in ("graded", "budgeted")
    )
    for dials in (graded, budgeted):
        values = np.array([[d.risk, d.speed, d.noise] for d in dials])
        assert (values.min(0) < [0.05, 0.35, 0.05]).all()
        assert (values.max(0) > [1.05, 0.95, 0.95]).all()
        # Drawn independently: whoever drives fast may be anything else.
        assert np.abs(np.corrcoef(values.T)[~np.eye(3, dtype=bool)]).max() < 0.2
    assert {d.budget for d in graded} == {np.inf}
    budgets = np.array([d.budget for d in budgeted])
    assert 0 < budgets.min() < 5 and 95 < budgets.max() < 100
    assert {d.clearance for d in graded + budgeted} == {0.3}


@pytest.mark.slow
def test_budgets_are_kept():
    """The same layouts and noise: whoever has a budget stops spending near it."""
    env, costs = make_env("PointGoal1"), []
    for budget in (np.inf, 10.0, 0.0):
        dials = Behaviour(1.0, 0.9, 0.2, 0.3, budget)
        costs.append([run(env, dials, episode=e)[1] for e in range(3)])
    careless, careful, frugal = np.array(costs)
    assert careless.mean() > 50
    assert (careful <= 10 + 20).all()  # one crossing more than allowed, at most
    assert (frugal <= 2).all()


def test_environment_seeds_do_not_repeat():
    seeds = {
        behaviours_dials.environment_seed(s, e) for s in range(5) for e in range(500)
    }
    assert len(seeds) == 2500
    assert min(seeds) >= 0 and max(seeds) < 2**32


@pytest.mark.parametrize("task", ["AntVelocity", "CarRun", "BallCircle"])
def test_tasks_without_a_script_are_named(task):
    with pytest.raises(UserError, match=f"{task}: has no scripted behaviour"):
        behaviours_dials.family(task)


@pytest.mark.parametrize("task", NAVIGATION)
def test_every_family_acts(task):
    env = make_env(task)
    dials = Behaviour(risk=1.2, speed=0.4, noise=0.3)
    _, _, actions = run(env, dials, steps=40)
    assert actions.dtype == np.float32 and actions.shape == (40, 2)
    assert np.abs(actions).max() <= 1 and actions.std(0).min() > 0.05
    again = run(env, dials, steps=40)[2]
    np.testing.assert_array_equal(actions, again)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["PointGoal1", "CarGoal1"])
def test_careful_and_fast_is_the_hard_corner(task):
    """High return at (almost) no cost: what simple behaviours do not reach."""
    env = make_env(task)
    careful = [run(env, Behaviour(0.1, 1.0, 0.0), episode=e)[:2] for e in range(2)]
    reckless = [run(env, Behaviour(1.0, 1.0, 0.0), episode=e)[:2] for e in range(2)]
    (gain, cost), (_, reckless_cost) = np.mean(careful, 0), np.mean(reckless, 0)
    assert gain > 15 and cost <= 10
    assert reckless_cost > 20
    slow = run(env, Behaviour(0.5, 0.1, 0.1))[0]
    assert slow < 0.6 * gain


@pytest.mark.parametrize("task", ["PointCircle1", "CarCircle1", "PointCircle2"])
def test_circle_respects_walls_unless_it_dares(task):
    env = make_env(task)
    gain, cost, _ = run(env, Behaviour(0.0, 1.0, 0.0))
    assert cost == 0
    daring_gain, daring_cost, _ = run(env, Behaviour(1.0, 1.0, 0.0))
    assert daring_gain > gain and daring_cost > 50
    assert gain > tasks.get_task(task).references.return_min


def test_walls_are_dared_in_the_share_that_risk_says():
    env = make_env("PointCircle1")
    env.reset(0)
    # None up to 0.35, all from 1 on, and evenly between.
    for risk, expected in [(0.3, 0), (0.35 + 0.65 / 4, 10), (1.2, 40)]:
        expert = circle.Expert(env, env.task, Behaviour(risk, 1.0, 0.0))
        dared = []
        for lap in range(20):
            for angle in (0.0, np.pi):
                expert._dare(angle + 2 * np.pi * lap)
                dared.append(expert.is_daring)
        assert sum(dared) == expected


@pytest.mark.parametrize(
    "task, least", [("PointCircle1", 38), ("PointCircle2", 28), ("CarCircle1", 9)]
)
def test_careful_circles_are_rewarding_and_safe(task, least):
    """The hard corner: most careful episodes are like this, noise included."""
    gain, cost, _ = run(make_env(task), Behaviour(0.3, 0.9, 0.15))
    assert cost <= 20 and gain > least > tasks.get_task(task).references.return_min


def test_push_moves_the_box_towards_the_goal():
    env = make_env("PointPush1")
    observation = env.reset(behaviours_dials.environment_seed(0, 0))
    expert = push.Expert(env, env.task, Behaviour(0.5, 1.0, 0.0))
    start = env.layout()["push_box"][0, :2]
    goal = env.pose()[3:5]
    closest = before = np.hypot(*(start - goal))
    for _ in range(500):
        observation, *_ = env.step(expert(observation))
        if np.abs(env.pose()[3:5] - goal).max() > 1e-6:
            closest = 0.0  # it got there, and the goal moved on
            break
        closest = min(closest, np.hypot(*(env.layout()["push_box"][0, :2] - goal)))
    assert closest < before - 0.3
