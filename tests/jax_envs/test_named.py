"""Environments in JAX by name, and what is said of one that does not fit."""

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.envs import tasks
from sas_jax.envs.vector.env import VectorEnv
from sas_jax.errors import UserError
from sas_jax.jax_envs import crax, loop, named, point_goal
from tests.helpers import fake_crax, tiny_jax

TINY = "jax:tests.helpers.tiny_jax:make"


@pytest.fixture(autouse=True)
def registries(monkeypatch):
    yield from tiny_jax.forgotten(monkeypatch)


@pytest.fixture
def crax_bench(monkeypatch):
    module = types.ModuleType("crax")
    module.envs = fake_crax
    monkeypatch.setitem(sys.modules, "crax", module)
    monkeypatch.setitem(sys.modules, "crax.envs", fake_crax)


def test_a_name_is_enough():
    task = tasks.get_task(TINY)
    sizes = task.obs_dim, task.action_dim, task.episode_steps
    assert sizes == (tiny_jax.OBS, tiny_jax.ACTIONS, tiny_jax.STEPS)
    assert task.cost_limits == (10.0, 20.0, 40.0) and task.max_step_cost == 1.0
    assert tasks.get_task(task.name) is task
    assert named.env_of(task) is named.env_of(TINY)
    other = tasks.get_task(f"{TINY},steps=4,limits=1/2,max_cost=3")
    assert (other.episode_steps, other.cost_limits) == (4, (1.0, 2.0))
    assert other.max_step_cost == 3.0 and named.env_of(other).episode_steps == 4
    assert named.env_of("PlanePointGoal").step is point_goal.step


@pytest.mark.slow
def test_workers_run_it_as_the_device_does():
    env, seeds = tiny_jax.make(), (3, 4, 5, 6)
    action = np.array([0.5, -0.5])
    with VectorEnv(f"{TINY},steps=5", len(seeds), num_workers=1) as envs:
        batch = envs.reset(seeds)
        begun = [env.reset(jax.random.key(np.uint32(seed))) for seed in seeds]
        states, ended = [state for state, _ in begun], np.zeros(len(seeds), bool)
        np.testing.assert_allclose(batch.obs, [obs for _, obs in begun], rtol=1e-6)
        for _ in range(5):
            batch = envs.step(np.tile(action, (len(seeds), 1)))
            for slot in np.flatnonzero(~ended):
                out = env.step(states[slot], jnp.asarray(action))
                states[slot], ended[slot] = out.state, out.terminated
                np.testing.assert_allclose(batch.obs[slot], out.obs, rtol=1e-5)
                assert batch.cost[slot] == out.cost
                assert batch.terminated[slot] == out.terminated
        assert ended.any() and not ended.all() and batch.is_last[~ended].all()
        assert envs.layout(0) == {} and np.isnan(batch.pose[:, 0]).all()


@pytest.mark.parametrize(
    "name, message",
    [
        ("nothing", "returned str; expected a sas_jax.jax_envs.protocol.JaxEnv"),
        ("narrow", r"reset: obs is float32\[3\]; expected float\[4\]"),
        ("restless", "step returns another kind of state than reset"),
        ("whole", r"step: cost is int32\[\]; expected float\[\]"),
        ("broken", r"ConcretizationTypeError .* while reset\(key\) and"),
        ("raising", r"ValueError \(two lines\) when it was called"),
        ("needy", r"TypeError .*needy.* expected a function without arguments"),
        ("endless", "episode_steps must be >= 1, got 0"),
        ("halved", r"episode_steps must be .*, got 2.5"),
        ("missing", "has no function 'missing'"),
        ("make,stesp=3", "option 'stesp=3'.*did you mean 'steps'"),
        ("make,level=1", "option 'level=1'; expected each of steps, limits, max_cost"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(name, message):
    with pytest.raises(UserError, match=message) as caught:
        tasks.get_task(f"jax:tests.helpers.tiny_jax:{name}")
    assert "\n" not in str(caught.value) and "tiny_jax" in str(caught.value)


def test_tasks_of_workers_have_no_environment_on_the_device():
    with pytest.raises(UserError, match="task PointGoal1: runs in processes"):
        named.env_of("PointGoal1")


def test_crax_by_name(crax_bench):
    task = tasks.get_task("crax:safe_line,level=2,steps=3,max_cost=4")
    assert (task.obs_dim, task.action_dim, task.episode_steps) == (1, 1, 3)
    assert task.env_id == "crax:safe_line,level=2" and task.max_step_cost == 4.0
    env = named.env_of(task)
    state, _ = env.reset(jax.random.key(0))
    out = env.step(state, jnp.ones(1))
    place = float(state.obs[0]) + 2.0
    assert float(out.cost) == pytest.approx(0.5 * place) and not out.terminated
    assert env.step(out.state, 3 * jnp.ones(1)).terminated
    known = tasks.get_task("crax:safe_line,cost=indicator")
    assert known.max_step_cost == 1.0 and known.episode_steps == 7
    state, _ = named.env_of(known).reset(jax.random.key(0))
    assert float(named.env_of(known).step(state, jnp.full(1, 2.0)).cost) == 1.0
    assert float(named.env_of(known).step(state, jnp.full(1, -2.0)).cost) == 0.0
    data = loop.collect(
        env, task.name, loop.random_behaviour(env), episodes=4, at_once=4
    )
    assert data.num_episodes == 4 and data.lengths.max() == 3


@pytest.mark.parametrize(
    "name, message",
    [
        ("safe_lime,max_cost=1", "no environment 'safe_lime'.*mean 'safe_line'"),
        ("safe_line,max_cost=1,level=4", "level '4'; expected 1, 2 or 3"),
        ("ant,level=1,cost=indicator", "ant has no levels"),
        ("safe_line,cost=some,max_cost=1", "cost 'some'; expected one of own"),
        ("safe_line", "costs add up over hazards; expected max_cost=N"),
        ("safe_line,cost=own", "costs add up over hazards; expected max_cost=N"),
    ],
)
def test_crax_names_that_are_wrong(crax_bench, name, message):
    with pytest.raises(UserError, match=message):
        tasks.get_task(f"crax:{name}")


def test_crax_that_is_not_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "crax", None)
    with pytest.raises(UserError, match=r"crax-bench cannot be imported.*\[crax\]"):
        tasks.get_task("crax:safe_goal_point,cost=indicator")
    other = types.ModuleType("crax")
    other.envs = types.ModuleType("crax.envs")
    monkeypatch.setitem(sys.modules, "crax", other)
    monkeypatch.setitem(sys.modules, "crax.envs", other.envs)
    with pytest.raises(UserError, match="not CRAX; expected crax-bench"):
        crax.make("safe_goal_point")


@pytest.mark.slow
def test_craxs_own_environment_fits():
    """Where crax-bench is installed: its Hopper, recorded in one program."""
    pytest.importorskip("crax", reason="needs crax-bench, which needs a newer MuJoCo")
    env = named.env_of("crax:safe_velocity_hopper,steps=6,cost=indicator")
    data = loop.collect(
        env, "x", loop.random_behaviour(env), episodes=2, seed=1, at_once=2
    )
    assert data.num_episodes == 2 and np.isfinite(data.observations).all()
    assert set(np.unique(data.costs)) <= {0.0, 1.0}
