"""Velocity tasks, and the robot files translated for MuJoCo 3."""

import mujoco
import numpy as np
import pytest

from sas_jax.envs import tasks
from sas_jax.envs.make import make as make_env
from sas_jax.envs.suites import velocity
from sas_jax.errors import UserError

VELOCITY = [name for name in tasks.TASKS if name.endswith("Velocity")]

GLOBAL = """<mujoco>
  <compiler coordinate="global" inertiafromgeom="true"/>
  <worldbody>
    <geom name="floor" type="plane" size="1 1 1" pos="0 0 0"/>
    <body name="torso" pos="0 0 1.25">
      <joint name="root" type="hinge" axis="0 1 0" pos="0 0 1.25"/>
      <geom name="torso" type="capsule" size="0.05" fromto="0 0 1.45 0 0 1.05"/>
      <body name="leg" pos="0.1 0 0.35">
        <joint name="hip" type="hinge" axis="0 1 0" pos="0 0 1.05"/>
        <geom name="leg" type="sphere" size="0.1" pos="0.1 0 0.25"/>
      </body>
    </body>
  </worldbody>
</mujoco>"""


@pytest.mark.parametrize("name", VELOCITY)
def test_velocity_task_runs_and_is_reproducible(name):
    task = tasks.get_task(name)
    actions = np.random.default_rng(0).uniform(-1, 1, (300, task.action_dim))

    def episode(env):
        rows, costs = [env.reset(3)], []
        for action in actions:
            observation, reward, cost, terminated, truncated = env.step(action)
            rows.append(np.append(observation[:-1], reward))
            costs.append(cost)
            if terminated or truncated:
                break
        return np.stack(rows), costs

    env = make_env(name)
    first, costs = episode(env)
    assert first.shape[1] == task.obs_dim
    assert set(costs) <= {0.0, task.max_step_cost}
    np.testing.assert_array_equal(episode(make_env(name))[0], first)
    assert np.isfinite(env.pose()[:2]).all() and np.isnan(env.pose()[3])
    assert env.layout() == {}


def test_swimmer_is_charged_above_its_speed_limit():
    env = make_env("SwimmerVelocity")
    env.reset(0)
    actions = np.random.default_rng(1).uniform(-1, 1, (200, 2))
    results = [env.step(action) for action in actions]
    costs = [row[2] for row in results]
    # Reward is speed minus 1e-4 |action|^2; the limit of v1 is 0.2282.
    speeds = [
        row[1] + 1e-4 * np.sum(np.square(action))
        for row, action in zip(results, actions, strict=True)
    ]
    assert 0 < sum(costs) < len(costs)
    assert costs == [float(speed > 0.2282) for speed in speeds]


@pytest.mark.parametrize("name", VELOCITY)
def test_control_is_charged_for_the_action_that_acts(name):
    """The suite charges for the action as given, though ends of the box bound it."""
    task = tasks.get_task(name)
    wide = np.linspace(-3.0, 3.0, task.action_dim)
    results = []
    for action in (wide, np.clip(wide, -1.0, 1.0)):
        env = make_env(name)
        env.reset(0)
        results.append(env.step(action))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert results[0][1:] == results[1][1:]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_actions_that_are_not_finite_are_refused(bad):
    env = make_env("SwimmerVelocity")
    env.reset(0)
    with pytest.raises(UserError, match="SwimmerVelocity: action is not finite"):
        env.step([0.0, bad])


def test_time_limit():
    env = make_env("HalfCheetahVelocity")
    env.reset(0)
    ends = [env.step(np.zeros(6))[3:] for _ in range(1000)]
    assert not any(map(any, ends[:-1])) and ends[-1] == (False, True)


def test_global_coordinates_become_local():
    model = mujoco.MjModel.from_xml_string(velocity.port_model(GLOBAL))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    # In the default pose everything must lie where the global file says.
    np.testing.assert_allclose(data.body("torso").xpos, [0, 0, 1.25], atol=1e-12)
    np.testing.assert_allclose(data.body("leg").xpos, [0.1, 0, 0.35], atol=1e-12)
    np.testing.assert_allclose(data.geom("leg").xpos, [0.1, 0, 0.25], atol=1e-12)
    np.testing.assert_allclose(data.geom("torso").xpos, [0, 0, 1.25], atol=1e-12)
    np.testing.assert_allclose(data.xanchor, [[0, 0, 1.25], [0, 0, 1.05]], atol=1e-12)
    # Capsule of half length 0.2 along z.
    np.testing.assert_allclose(model.geom("torso").size[:2], [0.05, 0.2], atol=1e-12)


def test_predefined_collisions_without_pairs_mean_no_contacts():
    xml = GLOBAL.replace('pos="0.1 0 0.25"', 'pos="0.1 0 0.05"')
    for option, contacts in (("", 1), ('<option collision="predefined"/>', 0)):
        ported = velocity.port_model(xml.replace("<worldbody>", option + "<worldbody>"))
        model = mujoco.MjModel.from_xml_string(ported)
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        assert data.ncon == contacts


def test_what_cannot_be_translated_is_refused():
    with pytest.raises(UserError, match="'leg' is rotated"):
        velocity.port_model(
            GLOBAL.replace('name="leg" pos', 'name="leg" euler="0 1 0" pos', 1)
        )
    pairs = "<option collision='predefined'/><contact><pair/></contact><worldbody>"
    with pytest.raises(UserError, match="contact pairs"):
        velocity.port_model(GLOBAL.replace("<worldbody>", pairs))
