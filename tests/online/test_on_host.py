"""Learning while acting in worker processes: the device's loop, resume, lanes."""

import dataclasses

import jax
import numpy as np
import pytest

from sas_jax import checkpoint
from sas_jax.envs import make as makers
from sas_jax.envs import tasks
from sas_jax.errors import UserError
from sas_jax.jax_envs import named
from sas_jax.online import fit as online_fit
from sas_jax.online import on_host
from sas_jax.online.on_device import DeviceRunner
from tests.helpers import tiny_jax, toy_suite
from tests.learners.test_bc import values_of
from tests.online.test_online import make_config

HERE = "jax:tests.helpers.tiny_jax:fixed"


@pytest.fixture
def toys(monkeypatch):
    """A suite of worker processes that start at once."""
    monkeypatch.setattr(makers, "SUITES", dict(makers.SUITES))
    monkeypatch.setattr(tasks, "TASKS", dict(tasks.TASKS))
    makers.register_suite("toys", toy_suite.ENTRY, [toy_suite.task()])
    return "ToyLine"


fixture_of_names = pytest.fixture(tiny_jax.forgotten)


def of_task(task, **changes):
    return dataclasses.replace(make_config(**changes), task=task)


@pytest.mark.slow
def test_the_loop_is_the_one_of_the_device(fixture_of_names):
    """Where all episodes begin alike, both live through the same and learn the same."""
    config = of_task(HERE)
    env = named.env_of(config.task)
    spec = online_fit.make_spec(config.task, env)
    device = DeviceRunner(config, spec, env)
    host = on_host.HostRunner(config, spec, num_workers=1)
    found = []
    try:
        for runner in (device, host):
            states, world = online_fit._states(config, spec), runner.begin()
            chunk = runner.chunk(16)
            states, world, metrics = chunk(states, world)
            states, world, metrics = chunk(states, world)
            found.append((states.params, world.replay, world.scene.age, metrics))
    finally:
        host.close()
    assert int(found[0][1].written) == 4 + 16
    # Some episodes ended by themselves, and some timed out.
    ends = found[0][1].steps
    assert np.asarray(ends.is_terminal).any() and np.asarray(ends.is_timeout).any()
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4, rtol=1e-4), *found
    )


@pytest.mark.slow
def test_a_run_that_was_cut_ends_with_the_same_bits(toys, tmp_path):
    """Cut in the middle of episodes, and gone on with another number of workers."""
    config = of_task(toys, model={"start_steps": 12, "block_steps": 4})
    whole = online_fit.fit(config, tmp_path / "whole", num_workers=3)

    class Stop(Exception):
        pass

    def stop(step, *_):
        if step == 24:
            raise Stop

    with pytest.raises(Stop):
        online_fit.fit(config, tmp_path / "cut", num_workers=1, progress=stop)
    assert checkpoint.load(tmp_path / "cut").step == 16
    again = online_fit.fit(config, tmp_path / "cut", num_workers=2)
    jax.tree.map(
        np.testing.assert_array_equal, values_of(again.state), values_of(whole.state)
    )


def test_lanes_live_lives_of_their_own(toys):
    """An episode follows from its lane, environment and number, not from others."""
    both = of_task(toys)
    spec = on_host.make_spec(toys, num_workers=1)
    alone = of_task(toys, num_seeds=1, seed=1)
    worlds = []
    for config in (both, alone):
        runner = on_host.HostRunner(config, spec, num_workers=1)
        try:
            worlds.append(runner.begin())
        finally:
            runner.close()
    two, one = (world.replay.steps for world in worlds)
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x[1], y[0]), two, one)
    starts = np.asarray(two.obs)[:, 0, :, 0]
    assert np.unique(starts).size == starts.size
    # After its fifth step an episode has timed out, and another one begins.
    assert np.asarray(two.is_timeout)[:, :4].sum() == 0
    assert np.asarray(worlds[0].scene.age).tolist() == [[4, 4, 4]] * 2


def test_a_saved_world_is_entered_where_it_stands(toys):
    """Episodes of other ages: all stand at their present at once."""
    config = of_task(toys, num_seeds=1)
    spec = on_host.make_spec(toys, num_workers=1)
    runner = on_host.HostRunner(config, spec, num_workers=2)
    try:
        scene = runner._no_scene()
        scene.age[0] = 4, 0, 2
        scene.episode[0] = 1, 0, 3
        rng = np.random.default_rng(0)
        for column, age in enumerate((4, 0, 2)):
            scene.actions[0, column, :age] = rng.uniform(-1, 1, (age, 1))
        runner._enter(scene)
        seen = runner._obs
        for column, seed in enumerate(runner._episode_seeds()):
            env = toy_suite.ToyEnv()
            obs = env.reset(seed)
            for t in range(scene.age[0, column]):
                obs = env.step(scene.actions[0, column, t].astype(np.float64))[0]
            np.testing.assert_array_equal(seen[column], np.float32(obs))
        scene.age[0, 2] = 5
        with pytest.raises(UserError, match="ends after 5 steps, where it had 5"):
            runner._enter(scene)
    finally:
        runner.close()


def test_another_size_of_observations_is_told(toys):
    spec = dataclasses.replace(on_host.make_spec(toys, num_workers=1), task=toys)
    wide = dataclasses.replace(
        spec, obs_mean=np.zeros(4, np.float32), obs_std=np.ones(4, np.float32)
    )
    if wide.obs_dim == spec.obs_dim:
        wide = dataclasses.replace(wide, obs_dim=4)
    with pytest.raises(
        UserError, match=r"size \(4, 1\); expected \(3, 1\), as task ToyLine"
    ):
        on_host.HostRunner(of_task(toys), wide, num_workers=1)
