"""Changed worlds: each part against what it must equal, and what it must change."""

import numpy as np
import pytest

from sas_jax.envs import shift as shifts
from sas_jax.envs import tasks
from sas_jax.envs.make import make as make_env
from sas_jax.envs.shift import Shift
from sas_jax.envs.vector.env import VectorEnv
from sas_jax.errors import UserError
from tests.helpers import episodes, vector_runs

# A Point, a Car that touches things, and two robots, one of them without contacts.
TASKS = ["PointGoal1", "CarButton2", "HopperVelocity", "SwimmerVelocity"]


def actions_of(task, num_steps, seed=0):
    """Drives about, `[num_steps, A]`."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.4, 1.0, (num_steps, tasks.get_task(task).action_dim))


def rows(env, actions, seed=5):
    """One row a moment, `[T + 1, O + 2]`: observation, reward, cost."""
    found = [np.append(env.reset(seed), (0.0, 0.0))]
    for action in actions:
        observation, reward, cost, terminated, truncated = env.step(action)
        found.append(np.append(observation, (reward, cost)))
        if terminated or truncated:
            break
    return np.array(found)


def physics(env):
    """MuJoCo's model and data of the running episode."""
    suite = env.unwrapped
    owner = suite.task if env.task.obs_groups else suite
    return owner.model, owner.data


@pytest.mark.parametrize("name", TASKS)
def test_factors_of_one_change_no_bit(name):
    """Written onto the model, solved anew: the same bits. Also after a delay of 0."""
    actions = actions_of(name, 40)
    expected = rows(make_env(name), actions)
    changed = make_env(name)
    changed.change_dynamics(Shift())
    for _ in range(2):
        np.testing.assert_array_equal(rows(changed, actions), expected)
    said = "actuator:1, mass:1.0,friction:1,delay:0,obs_noise:0"
    np.testing.assert_array_equal(rows(make_env(name, shift=said), actions), expected)


FACTORS = ["actuator:0.8", "mass:1.3", "friction:0.5"]
CASES = [(name, part) for name in TASKS for part in FACTORS]
CASES.remove(("SwimmerVelocity", "friction:0.5"))  # touches nothing: refused, see below


@pytest.mark.parametrize(("name", "part"), CASES)
def test_each_factor_changes_the_way_and_not_the_start(name, part):
    actions = actions_of(name, 40)
    plain, shifted = make_env(name), make_env(name, shift=part)
    before, after = rows(plain, actions), rows(shifted, actions)
    plain.reset(5)
    shifted.reset(5)
    np.testing.assert_array_equal(plain.pose(), shifted.pose())
    for thing, places in plain.layout().items():
        np.testing.assert_array_equal(places, shifted.layout()[thing])
    short = min(len(before), len(after))
    assert np.abs(before[:short] - after[:short]).max() > 1e-3


def test_factors_are_written_once_however_often_it_is_reset():
    text = "actuator:0.8,mass:1.3,friction:0.5"
    for name, body in (("CarGoal1", "agent"), ("Walker2dVelocity", "torso")):
        plain, shifted = make_env(name), make_env(name, shift=text)
        for seed in (1, 1, 2):
            plain.reset(seed)
            shifted.reset(seed)
        (before, _), (after, _) = physics(plain), physics(shifted)
        own = before.body_rootid == before.body(body).id
        assert 1 < own.sum() <= before.nbody - 1
        mass = np.where(own, 1.3, 1.0) * before.body_mass
        np.testing.assert_allclose(after.body_mass, mass, rtol=1e-15)
        subtree = 1.3 * before.body_subtreemass[before.body(body).id]
        np.testing.assert_allclose(after.body(body).subtreemass, subtree, rtol=1e-12)
        np.testing.assert_allclose(after.geom_friction, 0.5 * before.geom_friction)
        gain = 0.8 * before.actuator_gainprm[:, 0]
        np.testing.assert_allclose(after.actuator_gainprm[:, 0], gain)
        np.testing.assert_allclose(
            after.actuator_forcerange, 0.8 * before.actuator_forcerange
        )
    with pytest.raises(RuntimeError, match="changed already"):
        shifted.change_dynamics(Shift(mass=2.0))


def test_a_weaker_motor_drives_slower_by_its_factor():
    """A Point's end speed is force / damping: 0.8 of the force, 0.8 of the speed."""
    speeds = []
    for text in ("", "actuator:0.8", "friction:2", "mass:3"):
        env = make_env("PointCircle1", shift=text)
        env.reset(0)
        for _ in range(400):
            env.step([1.0, 0.0])
        speeds.append(np.hypot(*physics(env)[1].qvel[:2]))
    full, weak, sticky, heavy = speeds
    # The time constant is half a second, steps are 0.02 s: 400 steps are the end speed.
    np.testing.assert_allclose(weak / full, 0.8, rtol=1e-3)
    np.testing.assert_allclose(sticky / full, 0.5, rtol=1e-3)
    np.testing.assert_allclose(heavy / full, 1.0, rtol=2e-2)


@pytest.mark.parametrize("name", TASKS)
def test_reversed_motors_and_reversed_actions_are_the_same_world(name):
    """Every bit but the sign of zero: rewards count the square of an action."""
    actions = actions_of(name, 40)
    expected = rows(make_env(name), actions)
    changed = rows(make_env(name, shift="actuator:-1"), -actions)
    np.testing.assert_array_equal(changed, expected)
    assert not np.array_equal(
        rows(make_env(name, shift="actuator:-1"), actions)[: len(expected)], expected
    )


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("delay", [1, 3])
def test_delay_is_acting_with_older_actions(name, delay):
    actions = actions_of(name, 40)
    older = np.concatenate([np.zeros_like(actions[:delay]), actions[:-delay]])
    expected = rows(make_env(name), older)
    env = make_env(name, shift=f"delay:{delay}")
    for _ in range(2):  # nothing waits over a reset
        np.testing.assert_array_equal(rows(env, actions), expected)


def test_a_caller_may_write_on_in_its_array_of_actions():
    env, action = make_env("PointCircle1", shift="delay:2"), np.ones(2)
    env.reset(0)
    for _ in range(5):
        env.step(action)
        action[:] = 0.0
    with pytest.raises(UserError, match="action is not finite"):
        env.step([np.nan, 0.0])
    still = make_env("PointCircle1")
    still.reset(0)
    moved = [still.step(a)[0] for a in ([0, 0], [0, 0], [1, 1], [0, 0], [0, 0])]
    np.testing.assert_array_equal(env.step(action)[0], still.step([0, 0])[0])
    assert not np.array_equal(moved[1], moved[2])


def test_noise_is_a_share_of_each_column_and_the_episodes_own():
    task = tasks.get_task("PointGoal1")
    std = np.linspace(0.0, 2.0, task.obs_dim)
    env = make_env("PointGoal1", shift="obs_noise:0.1", obs_std=std)
    actions = actions_of("PointGoal1", 400)
    clean, noisy = rows(make_env("PointGoal1"), actions), rows(env, actions)
    np.testing.assert_array_equal(clean[:, -2:], noisy[:, -2:])  # rewards and costs
    noise = (noisy - clean)[:, :-2]
    assert not noise[:, 0].any()  # a column without a spread
    # 401 draws a column: the spread of an estimated std is 1 / sqrt(802) = 3.5 %.
    np.testing.assert_allclose(noise.std(0)[1:], 0.1 * std[1:], rtol=0.15)
    assert abs(np.corrcoef(noise[:-1, 5], noise[1:, 5])[0, 1]) < 0.2
    np.testing.assert_array_equal(rows(env, actions), noisy)
    other = rows(env, actions, seed=6) - rows(make_env("PointGoal1"), actions, seed=6)
    assert not np.allclose(other[:, :-2], noise)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["CarButton2", "CarPush1", "PointGoal2"])
def test_both_paths_agree_on_shifted_worlds(name):
    task = tasks.get_task(name)
    said = {
        "shift": "actuator:0.8,mass:1.3,friction:0.5,delay:1,obs_noise:0.02",
        "obs_std": np.ones(task.obs_dim),
    }
    plain = episodes.rows_of(make_env(name, lean=False, **said), 4, 120)
    lean = episodes.rows_of(make_env(name, lean=True, **said), 4, 120)
    plain, lean = np.array(plain), np.array(lean)
    np.testing.assert_array_equal(plain[:, -4:], lean[:, -4:])
    np.testing.assert_allclose(plain, lean, rtol=0, atol=1e-12)


@pytest.mark.slow
def test_workers_uses_and_single_environments_give_the_same_bits():
    name = "CarButton2"
    std = np.full(tasks.get_task(name).obs_dim, 0.3)
    said = {"shift": "mass:1.3,delay:2,obs_noise:0.02", "obs_std": std}
    runs = []
    for num_workers in (1, 2):
        with VectorEnv(name, 4, num_workers=num_workers, **said) as env:
            assert str(env.shift) == said["shift"]
            vector_runs.rollout(env, 3)
            runs.append(vector_runs.rollout(env, 20))
    vector_runs.assert_same(*runs)
    for slot, seed in enumerate(vector_runs.SEEDS):
        env = make_env(name, **said)
        first = env.reset(int(seed))
        np.testing.assert_array_equal(runs[0][0].obs[slot], first.astype(np.float32))
        for step, batch in enumerate(runs[0][1:]):
            observation, reward, *_ = env.step(vector_runs.actions_at(step)[slot])
            np.testing.assert_array_equal(batch.obs[slot], np.float32(observation))
            assert batch.reward[slot] == reward


def test_text_is_read_and_written():
    shift = shifts.parse(" delay:1 , actuator:0.8,obs_noise:2e-2")
    assert shift == Shift(actuator=0.8, delay=1, obs_noise=0.02)
    assert str(shift) == "actuator:0.8,delay:1,obs_noise:0.02"
    assert shifts.parse(str(shift)) == shift and shifts.parse(shift) is shift
    assert shifts.parse("") == shifts.parse(None) == shifts.parse(" ") == Shift()
    assert str(Shift()) == "" and not Shift(delay=3).changes_dynamics


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("actuater:0.8", "did you mean 'actuator'"),
        ("actuator", "'actuator': expected name:value"),
        ("actuator=0.8", "expected name:value"),
        ("mass:1,", "shift '': expected name:value"),
        ("mass:1,mass:2", "mass is given twice"),
        ("mass:heavy", "shift mass:heavy: expected a number > 0"),
        ("mass:0", "shift mass:0.0: expected a number > 0"),
        ("friction:-1", "friction:-1.0: expected a number > 0"),
        ("actuator:nan", "actuator:nan: expected a number other than 0"),
        ("actuator:-inf", "actuator:-inf: expected a number other than 0"),
        ("actuator:0", "actuator:0.0: expected a number other than 0"),
        ("delay:1.5", "delay:1.5: expected an integer from 0 to 100"),
        ("delay:-1", "delay:-1: expected an integer"),
        ("delay:101", "delay:101: expected an integer"),
        ("obs_noise:-0.1", "obs_noise:-0.1: expected a number >= 0"),
    ],
)
def test_shifts_that_make_no_sense(text, message):
    with pytest.raises(UserError, match=message) as error:
        shifts.parse(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("task", "said", "message"),
    [
        ("AntRun", {"shift": "mass:2"}, "AntRun: mass:2 changes dynamics"),
        ("SwimmerVelocity", {"shift": "friction:2"}, "touches nothing"),
        ("PointGoal1", {"shift": "obs_noise:0.1"}, r"obs_std of shape \(60,\)"),
        ("PointGoal1", {"obs_std": np.ones(3)}, r"shape \(3,\): expected \(60,\)"),
        ("PointGoal1", {"obs_std": np.full(60, -1.0)}, "finite numbers >= 0"),
    ],
)
def test_shifts_that_a_task_cannot_have(task, said, message):
    for maker in (make_env, lambda task, **said: VectorEnv(task, 1, **said)):
        with pytest.raises(UserError, match=message):
            maker(task, **said)
