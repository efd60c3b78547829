"""PointGoal in the plane against the MuJoCo task that it is to be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.envs.lean.lidar import scan
from sas_jax.envs.make import make
from sas_jax.envs.tasks import get_task
from sas_jax.jax_envs import point_goal
from tests.helpers import goal_driver


def state_of(env):
    """The state of a `LeanEnv` in its episode."""
    data, model = env._data_, env._model
    agent, vase, goal = (model.body(n).id for n in ("agent", "vase0", "goal"))

    def yaw_of(body):
        return np.arctan2(data.xmat[body][3], data.xmat[body][0])

    # The robot slides along the axes that it had when the episode began.
    yaw = yaw_of(agent)
    start = yaw - data.qpos[2]
    c, s = np.cos(start), np.sin(start)
    velocity = np.array([[c, -s], [s, c]]) @ data.qvel[:2]
    position, place = data.xpos[agent, :2], data.xpos[goal, :2]
    hazards = [data.xpos[model.body(f"hazard{i}").id, :2] for i in range(8)]
    values = {
        "position": position,
        "velocity": velocity,
        "yaw": yaw,
        "turning": data.qvel[2],
        "acceleration": np.zeros(2),
        "goal": place,
        "hazards": np.stack(hazards),
        "vase": data.xpos[vase, :2],
        "vase_velocity": data.qvel[3:5],
        "vase_yaw": yaw_of(vase),
        "distance": np.linalg.norm(position - place),
    }
    arrays = {name: jnp.asarray(x, jnp.float32) for name, x in values.items()}
    return point_goal.State(key=jax.random.key(0), **arrays)


def drive(obs, noise, target):
    """To the goal, or, for contacts, to the vase, whose lidar is the last one."""
    seen = obs if target == "goal" else np.concatenate([obs[:12], obs[44:60]])
    return goal_driver.law(seen, noise)


@pytest.fixture(scope="module")
def transitions():
    """One-step errors from states of MuJoCo's episodes: name -> `[S, ...]`."""

    def measure(episodes, steps):
        env, rng = make("PointGoal1"), np.random.default_rng(0)
        step = jax.jit(point_goal.step)
        found = {name: [] for name in ("error", "reward", "cost", "pushed", "obs")}
        for episode in range(episodes):
            obs, target = env.reset(episode), ("vase", "goal")[episode % 2]
            for _ in range(steps):
                state = state_of(env)
                action = drive(obs, rng.normal(size=2), target)
                obs, reward, cost, *_ = env.step(action)
                out = step(state, action)
                moved = np.asarray(state.vase) - np.asarray(state_of(env).vase)
                error = np.abs(np.asarray(out.obs) - obs)
                if reward > 0.5:  # another goal, drawn from another stream
                    error[12:28] = 0.0
                found["error"].append(error)
                found["reward"].append(abs(float(out.reward) - reward))
                found["cost"].append(float(out.cost) != cost)
                found["pushed"].append(np.abs(moved).max() > 1e-6)
                found["obs"].append(obs)
        return {name: np.array(x) for name, x in found.items()}

    return measure


def check(found, contacts):
    """Free steps agree but for rounding, which the turning servo magnifies, as it is
    stiff beside its step; contacts to a small share of a column's spread.
    """
    pushed, spread = found["pushed"], found["obs"].std(0)
    groups = get_task("PointGoal1").obs_groups
    free = found["error"][~pushed]
    assert pushed.sum() >= contacts and (~pushed).sum() >= contacts
    limits = {"accelerometer": 0.2, "velocimeter": 5e-4, "gyro": 2e-2}
    for name, columns in groups.items():
        assert free[:, columns].max() < limits.get(name, 1e-4), name
    shares = found["error"][pushed].mean(0) / np.maximum(spread, 1e-2)
    assert shares.max() < 0.1
    assert found["reward"].max() < 1e-3 and not found["cost"].any()


@pytest.mark.slow
def test_one_step_from_states_of_mujoco(transitions):
    check(transitions(episodes=2, steps=80), contacts=5)


@pytest.mark.slow
def test_one_step_from_many_states_of_mujoco(transitions):
    found = transitions(episodes=10, steps=100)
    check(found, contacts=50)


@pytest.mark.parametrize("bits", [32, 64])
def test_lidars_are_the_suites(bits):
    """To 1e-6 in float32, too, of the same float32 places."""
    rng = np.random.default_rng(1)
    with jax.enable_x64(bits == 64):
        read = jax.jit(point_goal.lidar)
        for count in (1, 8) * 40:
            points, origin = rng.uniform(-2, 2, (count, 2)), rng.uniform(-1, 1, 2)
            yaw = rng.uniform(-np.pi, np.pi)
            points, origin, yaw = (np.float32(x) for x in (points, origin, yaw))
            c, s = np.cos(np.float64(yaw)), np.sin(np.float64(yaw))
            rotation = [c, -s, 0, s, c, 0, 0, 0, 1]
            places = points.astype(float), (*origin.astype(float), 0.1)
            expected = scan(*places, rotation, 3.0)
            given = (jnp.asarray(x, f"float{bits}") for x in (points, origin, yaw))
            found = np.asarray(read(*given))
            np.testing.assert_allclose(found, expected, atol=1e-6)


def test_layouts_leave_room_and_vary():
    places = np.asarray(
        jax.vmap(point_goal.layout)(jax.random.split(jax.random.key(0), 64))
    )
    rooms = np.array(point_goal._ROOM)
    gaps = np.linalg.norm(places[:, :, None] - places[:, None], axis=-1)
    wanted = rooms[:, None] + rooms[None]
    other = ~np.eye(len(rooms), dtype=bool)
    assert (gaps[:, other] >= wanted[other] - 1e-6).all()
    assert (np.abs(places) <= 1.5 - rooms[:, None]).all()
    assert places.std(0).min() > 0.4


@pytest.mark.slow
def test_the_first_observation_is_a_still_robots():
    _, obs = jax.jit(point_goal.reset)(jax.random.key(3))
    np.testing.assert_allclose(obs[:9], [0, 0, 9.81, 0, 0, 0, 0, 0, 0], atol=1e-6)
    assert np.hypot(*obs[9:11]) == pytest.approx(0.5)
    groups = get_task("PlanePointGoal").obs_groups
    assert groups == get_task("PointGoal1").obs_groups
    assert (np.asarray(obs[12:]) >= 0).all() and obs[12:28].max() > 0.2


@pytest.mark.slow
def test_a_goal_that_is_reached_pays_and_moves():
    state, _ = point_goal.reset(jax.random.key(5))
    near = state.replace(position=state.goal + 0.22, distance=jnp.float32(0.3111))
    near = near.replace(
        velocity=-jnp.ones(2), hazards=near.hazards + 50, vase=near.vase + 50
    )
    out = jax.jit(point_goal.step)(near, jnp.zeros(2))
    assert 0.98 < out.reward < 1.1 and (out.state.goal != state.goal).all()
    far = np.linalg.norm(out.state.goal - out.state.position)
    assert out.state.distance == pytest.approx(far) and far > 0.7
    assert (jax.random.key_data(out.state.key) != jax.random.key_data(state.key)).any()
    still = jax.jit(point_goal.step)(state, jnp.zeros(2))
    assert (
        jax.random.key_data(still.state.key) == jax.random.key_data(state.key)
    ).all()
