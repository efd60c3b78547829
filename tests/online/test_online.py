"""Learning while acting: the buffer, resume to the bit, lanes, acting, bad input."""

import csv
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax import checkpoint, learners
from sas_jax.errors import UserError
from sas_jax.jax_envs import point_mass
from sas_jax.jax_envs.protocol import JaxEnv, Step
from sas_jax.online import chunk as chunk_lib
from sas_jax.online import fit as online_fit
from sas_jax.online import replay
from sas_jax.types import Rows, TimeStep, TransitionBatch
from tests.helpers import cmdp
from tests.learners.test_bc import values_of


def make_config(algo="sac_alam", *, model=(), **train):
    """Tiny networks that have a price from the first update on."""
    config = learners.default_config("PointGoal1", algo)
    small = {
        "hidden": (8,),
        "num_envs": 3,
        "capacity": 60,
        "start_steps": 12,
        "block_steps": 4,
        "updates_per_step": 2,
        "price_after": 0,
    }
    given = {
        "num_steps": 32,
        "batch_rows": 16,
        "chunk": 8,
        "checkpoint_every": 8,
        "num_seeds": 2,
    }
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, **small | dict(model)),
        train=dataclasses.replace(config.train, **given | train),
    )


SPEC = dataclasses.replace(cmdp.make(count=4).spec(), action_dim=2)
ENV = point_mass.make()._replace(episode_steps=5)


def counting_env(ends_at):
    """The observation is the step's number; it ends by itself, or times out at 5."""

    def step(state, action):
        del action
        new = state + 1.0
        obs = jnp.stack([new])
        return Step(new, obs, new, 0.0 * new, new >= ends_at)

    return JaxEnv(lambda key: (jnp.zeros(()), jnp.zeros(1)), step, 1, 1, 5)


def one_row(number, lanes=2, envs=3):
    """A step of every environment whose rewards say which one it is."""
    where = 10.0 * np.arange(lanes)[:, None] + np.arange(envs)[None]
    value = 100.0 * number + where
    flag = value < 0
    return TransitionBatch(
        value[..., None], value[..., None], value, value, value[..., None], flag, flag
    )


def test_the_buffer_wraps_and_draws_only_what_was_written():
    ring = replay.make(lanes=2, capacity=12, num_envs=3, obs_dim=1, action_dim=1)

    insert = jax.jit(replay.insert)

    @functools.partial(jax.jit, static_argnums=1)
    def draw(ring, lane):
        own = jax.tree.map(lambda x: x[lane], ring.steps)
        return replay.sample(own, ring.written, jax.random.key(1), 400)

    def rows(*numbers):
        many = [one_row(n) for n in numbers]
        return jax.tree.map(lambda *x: np.stack(x, 1), *many)

    ring = insert(ring, rows(0))
    expected = {10.0, 11.0, 12.0}
    assert set(np.asarray(draw(ring, 1).reward).tolist()) == expected
    ring = insert(insert(ring, rows(1, 2, 3)), rows(4, 5))
    kept = {100.0 * n + e for n in (2, 3, 4, 5) for e in range(3)}
    batch = draw(ring, 0)
    assert set(np.asarray(batch.reward).tolist()) == kept
    # The fields of a draw belong to one step.
    np.testing.assert_array_equal(batch.reward, batch.obs[:, 0])
    np.testing.assert_array_equal(batch.reward, batch.next_obs[:, 0])


@pytest.mark.parametrize("ends_at, is_end", [(5.0, True), (9.0, False)])
def test_ends_and_time_outs_are_told_apart_and_lead_to_their_own_last_state(
    ends_at, is_end
):
    spec = dataclasses.replace(
        cmdp.make(count=1).spec(), action_dim=1, obs_std=np.full(1, 2.0, np.float32)
    )
    config = make_config(num_seeds=1, model={"start_steps": 36})
    world = jax.jit(lambda: chunk_lib.begin(config, spec, counting_env(ends_at)))()
    steps = jax.tree.map(lambda x: np.asarray(x)[0, :12, 0], world.replay.steps)
    number = np.arange(12) % 5
    np.testing.assert_array_equal(steps.obs[:, 0], number / 2)
    # Not the first observation of the episode that follows.
    np.testing.assert_array_equal(steps.next_obs[:, 0], (number + 1) / 2)
    np.testing.assert_array_equal(steps.is_terminal, (number == 4) & is_end)
    np.testing.assert_array_equal(steps.is_timeout, (number == 4) & (not is_end))
    assert np.asarray(world.scene.age).tolist() == [[2, 2, 2]]


class Stop(Exception):
    pass


@pytest.mark.slow
def test_a_run_that_was_cut_ends_with_the_same_bits_and_its_policy_acts(tmp_path):
    config = make_config(num_seeds=1)
    whole = online_fit.fit(config, tmp_path / "whole", env=ENV, spec=SPEC)

    def stop(step, *_):
        if step == 24:
            raise Stop

    with pytest.raises(Stop):
        online_fit.fit(config, tmp_path / "cut", env=ENV, spec=SPEC, progress=stop)
    assert checkpoint.load(tmp_path / "cut").step == 16
    again = online_fit.fit(config, tmp_path / "cut", env=ENV, spec=SPEC)
    jax.tree.map(
        np.testing.assert_array_equal, values_of(again.state), values_of(whole.state)
    )
    assert np.asarray(again.state.step).tolist() == [32]
    with open(tmp_path / "cut" / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(r["step"], r["seed"]) for r in rows] == [
        (str(n), "0") for n in (8, 16, 24, 32)
    ]
    assert all(np.isfinite(float(r["step_cost"])) for r in rows)
    algorithm = learners.get("sac_alam")
    policy = algorithm.make_policy(again.config, again.spec, variants=("none",))
    variables = algorithm.variables_of(jax.tree.map(lambda x: x[0], again.state))
    zeros = jnp.zeros(3)
    rows = Rows(zeros, jnp.arange(3, dtype=jnp.uint32))
    carry = policy.initial_carry(variables, rows, jax.random.key(0))
    ts = TimeStep(jnp.ones((3, 4)), zeros, zeros, zeros == 0)
    action, _ = policy.act(variables, carry, ts, jax.random.key(0))
    assert action.shape == (3, 2) and np.abs(action).max() <= 1


@pytest.mark.slow
def test_a_lane_among_others_learns_what_it_learns_alone(tmp_path):
    """The same draws; products of other shapes round differently."""
    both = online_fit.fit(make_config(), tmp_path / "two", env=ENV, spec=SPEC)
    own = make_config(num_seeds=1, seed=1)
    alone = online_fit.fit(own, tmp_path / "one", env=ENV, spec=SPEC)
    for x, y in zip(
        jax.tree.leaves(alone.state.params),
        jax.tree.leaves(both.state.params),
        strict=True,
    ):
        np.testing.assert_allclose(x[0], y[1], atol=1e-5)


@pytest.mark.parametrize(
    "algo, setting, message",
    [
        ("sac", "model.price=state", "expected ('none', False, False) with algo 'sac'"),
        ("sac_alam", "model.capacity=25", "a multiple of model.num_envs 10"),
        ("sac_alam", "model.start_steps=2000000", "expected at most 1000000"),
        ("sac_alam", "train.chunk=50", "train.chunk: 50; expected a multiple of 20"),
        ("sac_alam", "train.stop_on=val_loss", "has no held-out data"),
        ("fac", "model.limit=1.5", "model.limit must lie in [0, 1.0]"),
    ],
)
def test_settings_that_do_not_fit(algo, setting, message):
    config = learners.default_config("PlanePointGoal", algo)
    with pytest.raises(UserError) as error:
        learners.override(config, [setting])
    assert message.replace("1.0]", "1]") in str(error.value)


def test_what_cannot_be_trained_so_is_named(tmp_path):
    with pytest.raises(UserError, match="'cpq' learns from recorded data"):
        online_fit.fit(learners.default_config("PointGoal1", "cpq"), tmp_path)
    with pytest.raises(UserError, match="workers 2: expected none, as the task is in"):
        online_fit.fit(make_config(), tmp_path, env=ENV, num_workers=2)
