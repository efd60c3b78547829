"""What is measured of Algorithm 1's signals, on policies known by heart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax import recording, rollout, signals
from sas_jax.envs.vector import StepBatch
from sas_jax.probe import make_probe
from sas_jax.replay import Steps
from sas_jax.seam import split_keys
from tests import shifted_policy
from tests.test_bound import OBS, SEEDS, algorithm_1, line_probe
from tests.test_evaluate import make_checkpoint


def shifts_along(obs, prompt):
    probe = line_probe()._replace(model=shifted_policy.MODEL, variables={})
    count, length = obs.shape[:2]
    zeros = np.zeros((count, length), np.float32)
    steps = Steps(obs, zeros[..., None], zeros, zeros, np.full(count, length))
    run = jax.jit(signals.make_shifts(probe))
    return run({}, split_keys(jax.random.key(0), count), steps, prompt)


def test_shift_is_what_the_prompt_adds_to_the_mean():
    obs = np.random.default_rng(0).normal(size=(2, 5, 1)).astype(np.float32)
    shift, scale = shifts_along(obs, shifted_policy.PROMPT)
    expected = np.tile([[shifted_policy.SHIFT], [0.0]], 5)
    np.testing.assert_allclose(shift, expected, atol=1e-6)
    np.testing.assert_allclose(scale, shifted_policy.SCALE, rtol=1e-6)


def test_shift_counts_inside_the_box_only():
    """Where the mean is 0.9 without the prompt, 0.1 of its 0.25 can be executed."""
    shift, _ = shifts_along(np.full((2, 3, 1), 9.0, np.float32), shifted_policy.PROMPT)
    np.testing.assert_allclose(shift[0], 0.1, atol=1e-6)


def test_tokens_count_down_what_has_happened_before():
    reward, cost = np.array([[1.0, 2.0, 0.5]]), np.array([[0.0, 1.0, 1.0]])
    return_to_go, cost_to_go = signals.tokens_along(reward, cost, 10.0, 5.0)
    np.testing.assert_allclose(return_to_go, [[10.0, 9.0, 7.0]])
    np.testing.assert_allclose(cost_to_go, [[5.0, 5.0, 4.0]])


@pytest.fixture(scope="module")
def compiled():
    """The alignments of the line policy, for any `edge`."""
    probe = line_probe(num_first=4, num_second=3)
    return probe, jax.jit(signals.make_alignments(probe, repeats=4))


def test_alignments_are_those_of_algorithm_1(compiled):
    probe, run = compiled
    prompts, arrays = run(probe.variables, np.uint32(SEEDS), OBS)
    found = jax.jit(lambda: algorithm_1(probe, SEEDS[1], OBS[1], signals.PROMPTS))()
    energies = found.second["min"].energies
    np.testing.assert_allclose(
        prompts.segment.obs[1], found.prompts.segment.obs, rtol=1e-5
    )
    level = found.first.energies.max(axis=1).min()
    np.testing.assert_allclose(arrays["level"][1], level, rtol=1e-5)
    np.testing.assert_allclose(arrays["peak_second"][1], energies.max(1), rtol=1e-5)
    np.testing.assert_allclose(arrays["time_second"][1], energies.argmax(1) / 12)
    # V is G_t >= G_{t+1}: the energy does not fall.
    holds = np.diff(np.asarray(energies), axis=1) >= 0
    np.testing.assert_array_equal(arrays["score"][1], holds.sum(axis=1))
    np.testing.assert_array_equal(arrays["halves"][1, :, 0], holds[:, :5].sum(axis=1))
    np.testing.assert_array_equal(arrays["halves"][1, :, 1], holds[:, 6:].sum(axis=1))
    assert arrays["repeated"].shape == (2, 3, 4)
    assert np.isfinite(arrays["repeated"]).all()
    assert np.std(arrays["repeated"]) > 0


def test_imaginations_that_blow_up_say_nothing(compiled):
    lost = {"edge": jnp.float32(-jnp.inf)}
    _, arrays = compiled[1](lost, np.uint32(SEEDS), OBS)
    assert all(np.isnan(values).all() for values in arrays.values())


class Line:
    """Stands in for the vector environment: 7 steps, cost 1 where the seed is odd."""

    def __init__(self, task, num_envs, *, num_workers=None):
        self.num_envs, self.action_dim = num_envs, 2

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def layout(self, slot):
        return {}

    def reset(self, seeds, mask=None):
        self.seeds, self.t = np.asarray(seeds), 0
        return self._batch(0.0)

    def step(self, actions):
        assert np.abs(actions).max() <= 1.0
        self.t += 1
        return self._batch(1.0)

    def _batch(self, value):
        count = self.num_envs
        obs = np.sin(self.seeds[:, None] + self.t + np.arange(60)).astype(np.float32)
        return StepBatch(
            obs=obs,
            reward=np.full(count, value),
            cost=value * (self.seeds % 2),
            is_first=np.full(count, self.t == 0),
            is_last=np.full(count, self.t == 7),
            terminated=np.zeros(count, bool),
            pose=np.zeros((count, 6)),
        )


@pytest.fixture
def line(monkeypatch):
    monkeypatch.setattr(recording, "VectorEnv", Line)
    monkeypatch.setattr(rollout, "BLOCK", 4)


def test_episodes_and_alignments_of_a_checkpoint_belong_together(line, monkeypatch):
    runs, make_recorder = [], recording.make_recorder

    def keeping(*args, **kwargs):
        record = make_recorder(*args, **kwargs)
        return lambda seeds: runs.append(record(seeds)) or runs[-1]

    monkeypatch.setattr(signals, "make_recorder", keeping)
    probe = make_probe(make_checkpoint())
    seeds = np.array([3, 4, 5, 5])
    arrays = signals.make_measure(probe, repeats=2)(seeds, 3)
    assert {len(values) for values in arrays.values()} == {4}
    # The very draws of the episodes: E-hat is the one that they acted with.
    np.testing.assert_allclose(arrays["level"], arrays["level_acted"], rtol=1e-4)
    np.testing.assert_array_equal(arrays["cost"][:3], np.tile([[7.0], [0.0], [7.0]], 3))
    longest = probe.loaded.spec.max_timestep
    assert arrays["shift"].shape == (4, 2, longest)
    inside = np.arange(longest) < 7
    assert np.isfinite(arrays["shift"][..., inside]).all()
    assert np.isnan(arrays["shift"][..., ~inside]).all()
    assert (arrays["shift"][..., inside] > 0).any()
    # The recording holds what the agent saw.
    (run,) = runs
    assert run.obs.shape == (3, 3, 7, 60) and run.action.shape == (3, 3, 7, 2)
    times = np.arange(7)[:, None] + np.arange(60)
    for episode, seed in enumerate((3, 4, 5)):
        np.testing.assert_allclose(run.obs[2, episode], np.sin(seed + times), atol=1e-6)
    assert (run.length == 7).all()
