"""Real rollouts from recorded states."""

import numpy as np
import pytest

from sas_jax.card.ceiling import ceiling
from sas_jax.data import spec as spec_lib
from sas_jax.data.episodes import Episodes
from sas_jax.envs.vector.env import VectorEnv
from sas_jax.errors import UserError
from sas_jax.learners import sequence
from tests.helpers.model_fixtures import make_config, make_variables

STEPS, SEEDS = 40, np.array([11, 12, 13])


@pytest.fixture(scope="module")
def recording():
    """Three short episodes of the real environment under random actions."""
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (STEPS, 3, 2)).astype(np.float32)
    steps = []
    with VectorEnv("PointGoal1", 3, num_workers=1) as envs:
        batch = envs.reset(SEEDS)
        for action in actions:
            obs, batch = batch.obs, envs.step(action)
            steps.append((obs, batch.reward, batch.cost))
    obs, reward, cost = (np.stack(x, 1) for x in zip(*steps, strict=True))
    return Episodes(
        task="PointGoal1",
        observations=obs.reshape(-1, 60).astype(np.float32),
        actions=np.swapaxes(actions, 0, 1).reshape(-1, 2),
        rewards=reward.reshape(-1).astype(np.float32),
        costs=cost.reshape(-1).astype(np.float32),
        offsets=np.arange(4) * STEPS,
        final_observations=batch.obs.astype(np.float32),
        terminated=np.zeros(3, bool),
    )


def measure(recording, seeds):
    config, spec = make_config(decoder={"depth": 1}), spec_lib.from_episodes(recording)
    return ceiling(
        sequence.make_sequence_model(config, spec),
        spec,
        make_variables(config, spec),
        recording,
        seeds,
        num_starts=6,
        num_branches=2,
        context=5,
        horizon=12,
        num_workers=1,
    )


@pytest.mark.slow
def test_rollouts_go_on_from_the_recorded_states(recording):
    """Replays agree with the recording, or the measurement would have stopped."""
    found = measure(recording, SEEDS)
    assert found["horizons"] == [10] and found["starts"] == 6
    assert 0 <= found["rate_policy"][0] <= 1
    again = measure(recording, SEEDS)
    np.testing.assert_equal(again, found)  # bit for bit; NaN where nothing cost


@pytest.mark.slow
def test_another_layout_is_told(recording):
    with pytest.raises(UserError, match="off the recording"):
        measure(recording, SEEDS[::-1])


def test_episodes_that_are_too_short_are_told(recording):
    config, spec = make_config(decoder={"depth": 1}), spec_lib.from_episodes(recording)
    model = sequence.make_sequence_model(config, spec)
    with pytest.raises(UserError, match="at most 40 steps; expected at least 120"):
        ceiling(model, spec, make_variables(config, spec), recording, SEEDS)
