"""What is measured of Algorithm 1's signals, on policies known by heart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.alignment.loops import run_loop
from sas_jax.envs.vector.env import StepBatch
from sas_jax.evaluation import blocks
from sas_jax.gaussian import split_keys
from sas_jax.policies.teacher_forcing import Steps
from sas_jax.progress import Progress
from sas_jax.studies import loop_facts, prompt_shifts, recording, signals
from sas_jax.studies.probe import make_probe
from tests.evaluation.test_evaluate import make_checkpoint
from tests.helpers import line_policy, shifted_policy
from tests.studies.test_bound import OBS, SEEDS, algorithm_1, line_probe


def shifts_along(obs, prompt):
    """Two rows under two variants' prompts: the given one, and none for anybody."""
    probe = line_probe()._replace(model=shifted_policy.MODEL, variables={})
    count, length = obs.shape[:2]
    zeros = np.zeros((count, length), np.float32)
    steps = Steps(obs, zeros[..., None], zeros, zeros, np.full(count, length))
    absent = prompt.replace(is_present=jnp.zeros_like(prompt.is_present))
    prompts = jax.tree.map(lambda *x: jnp.stack(x), prompt, absent)
    run = jax.jit(prompt_shifts.make_shifts(probe))
    return run({}, split_keys(jax.random.key(0), count), steps, prompts)


def test_shift_is_what_the_prompt_adds_to_the_mean():
    obs = np.random.default_rng(0).normal(size=(2, 5, 1)).astype(np.float32)
    shift, scale = shifts_along(obs, shifted_policy.PROMPT)
    expected = np.tile([[shifted_policy.SHIFT], [0.0]], 5)
    np.testing.assert_allclose(shift[0], expected, atol=1e-6)
    np.testing.assert_allclose(shift[1], 0.0, atol=1e-6)
    assert scale.shape == (2, 5)
    np.testing.assert_allclose(scale, shifted_policy.SCALE, rtol=1e-6)


def test_shift_counts_inside_the_box_only():
    """Where the mean is 0.9 without the prompt, 0.1 of its 0.25 can be executed."""
    shift, _ = shifts_along(np.full((2, 3, 1), 9.0, np.float32), shifted_policy.PROMPT)
    np.testing.assert_allclose(shift[0, 0], 0.1, atol=1e-6)


def test_tokens_count_down_what_has_happened_before():
    reward, cost = np.array([[1.0, 2.0, 0.5]]), np.array([[0.0, 1.0, 1.0]])
    return_to_go, cost_to_go = prompt_shifts.tokens_along(reward, cost, 10.0, 5.0)
    np.testing.assert_allclose(return_to_go, [[10.0, 9.0, 7.0]])
    np.testing.assert_allclose(cost_to_go, [[5.0, 5.0, 4.0]])


REPEATS = 4


@pytest.fixture(scope="module")
def compiled():
    """What is kept of the line policy's alignments and its new scores, for any `edge`.

    (variables) -> alignments `[2]`, kept arrays with `repeated`.
    """
    probe = line_probe(num_first=4, num_second=3)
    keep, scores = loop_facts.make_keep(probe), loop_facts.make_scores(probe, REPEATS)

    @jax.jit
    def run(variables):
        given = probe._replace(variables=variables)
        aligned = jax.vmap(lambda s, o: algorithm_1(given, s, o, signals.PROMPTS))
        found = aligned(jnp.uint32(SEEDS), jnp.asarray(OBS))
        kept = jax.vmap(keep)(found)
        candidates = loop_facts.unpack("candidate", kept)
        state = kept["level"], candidates, kept["candidate_ok"]
        repeated = scores(variables, jnp.uint32(SEEDS), jnp.asarray(OBS), *state)
        return found, kept | {"repeated": repeated}

    return probe, run


@pytest.mark.slow
def test_what_is_kept_is_what_algorithm_1_saw(compiled):
    probe, run = compiled
    found, arrays = run(probe.variables)
    energies = np.asarray(found.second["min"].energies)[..., probe.compared]
    np.testing.assert_array_equal(
        loop_facts.unpack("prompt", arrays).obs, found.prompts.segment.obs
    )
    level = found.first.energies[..., probe.compared].max(axis=2).min(axis=1)
    np.testing.assert_allclose(arrays["level"], level, rtol=1e-6)
    np.testing.assert_allclose(arrays["peak_second"], energies.max(2), rtol=1e-6)
    peaks = energies.argmax(2)
    np.testing.assert_allclose(arrays["time_second"], peaks / 12)
    # V is G_t >= G_{t+1}: the energy does not fall.
    holds = np.diff(energies, axis=2) >= 0
    np.testing.assert_array_equal(arrays["score"], holds.sum(axis=2))
    np.testing.assert_array_equal(arrays["halves"][..., 0], holds[..., :4].sum(axis=2))
    np.testing.assert_array_equal(arrays["halves"][..., 1], holds[..., 5:].sum(axis=2))
    # A candidate ends at its peak, and the chosen one is the prompt of `sas`.
    candidate = loop_facts.unpack("candidate", arrays)
    states = np.asarray(found.second["min"].outputs.obs)
    length = line_policy.LENGTH
    for layout, m in np.ndindex(2, 3):
        end = max(peaks[layout, m], length)
        np.testing.assert_array_equal(
            candidate.obs[layout, m], states[layout, m, end - length : end]
        )
    chosen = found.second_choices["sas"].selection.index
    np.testing.assert_array_equal(
        candidate.obs[np.arange(2), chosen],
        found.prompts.segment.obs[:, signals.PROMPTS.index("sas")],
    )


@pytest.mark.slow
def test_new_draws_are_imagined_under_each_candidates_own_segment(compiled):
    """One imagination by hand: the loop from the same state under that prompt."""
    probe, run = compiled
    _, arrays = run(probe.variables)
    assert arrays["repeated"].shape == (2, 3, REPEATS)
    assert np.isfinite(arrays["repeated"]).all() and np.std(arrays["repeated"]) > 0
    key, state = probe.start(probe.variables, np.uint32(SEEDS[1]), OBS[1])
    segment = jax.tree.map(
        lambda x: x[1, 2], loop_facts.unpack("candidate", dict(arrays))
    )
    loop = run_loop(
        probe.model,
        probe.variables,
        probe.config,
        probe.horizon,
        split_keys(jax.random.fold_in(key, 3), REPEATS),
        state,
        probe.model.encode_prompt(probe.variables, segment, jnp.asarray(True)),
    )
    holds = np.diff(np.asarray(loop.energies)[:, probe.compared], axis=1) >= 0
    np.testing.assert_array_equal(arrays["repeated"][1, 2], holds.sum(axis=1))


def test_imaginations_that_blow_up_say_nothing(compiled):
    _, arrays = compiled[1]({"edge": jnp.float32(-jnp.inf)})
    numbers = [k for k in arrays if not k.startswith(("candidate_", "prompt_"))]
    assert all(np.isnan(arrays[name]).all() for name in numbers)
    assert not arrays["candidate_ok"].any() and not arrays["prompt_ok"].any()


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
    monkeypatch.setattr(blocks, "BLOCK", 4)


@pytest.mark.slow
def test_episodes_and_alignments_of_a_checkpoint_belong_together(
    line, monkeypatch, tmp_path
):
    runs, make_recorder = [], recording.make_recorder

    def keeping(*args, **kwargs):
        record = make_recorder(*args, **kwargs)
        return lambda seeds: runs.append(record(seeds)) or runs[-1]

    monkeypatch.setattr(signals, "make_recorder", keeping)
    monkeypatch.setattr(signals, "BLOCK", 4)
    monkeypatch.setattr(signals, "LAYOUTS", 2)
    probe = make_probe(make_checkpoint())
    scores = loop_facts.make_scores(probe, 2)  # one function: it compiles once
    monkeypatch.setattr(signals, "make_scores", lambda *_: scores)
    seeds = np.array([3, 4, 5])
    told, stages = [0, 0, 0], []

    def counting(index):
        return lambda steps: told.__setitem__(index, told[index] + steps)

    listener = Progress(counting(0), stages.append, counting(1), counting(2))
    arrays = signals.study(probe, seeds, repeats=2, folder=tmp_path, progress=listener)
    assert {len(values) for values in arrays.values()} == {3}
    # What was measured is what the episodes acted with: not imagined again.
    np.testing.assert_array_equal(arrays["level"], arrays["level_acted"])
    np.testing.assert_array_equal(arrays["cost"], np.tile([[7.0], [0.0], [7.0]], 3))
    longest = probe.loaded.spec.max_timestep
    assert arrays["shift"].shape == arrays["scale"].shape == (3, 2, longest)
    inside = np.arange(longest) < 7
    assert np.isfinite(arrays["shift"][..., inside]).all()
    assert np.isnan(arrays["shift"][..., ~inside]).all()
    assert (arrays["shift"][..., inside] > 0).any()
    second = probe.config.num_second
    assert arrays["repeated"].shape == (3, second, 2)
    assert np.isfinite(arrays["repeated"]).all()
    # All work is told of; episodes that end early fall short of what was expected.
    assert told[1] == told[0] - 3 * 3 * (longest - 7) and not told[2]
    assert stages[0].startswith("aligning") and "acting" in stages
    # The recording holds what the agent saw.
    (run,) = runs
    assert run.obs.shape == (3, 3, 7, 60) and run.action.shape == (3, 3, 7, 2)
    times = np.arange(7)[:, None] + np.arange(60)
    for episode, seed in enumerate((3, 4, 5)):
        np.testing.assert_allclose(run.obs[2, episode], np.sin(seed + times), atol=1e-6)
    assert (run.length == 7).all()
    # A killed run starts again behind its last part; other repeats share the episodes.
    last = sorted(tmp_path.rglob("5_1.npz"))[0]
    last.unlink()
    again = signals.study(probe, seeds, repeats=2, folder=tmp_path, progress=listener)
    assert len(runs) == 1 and told[2] > 0
    for name, values in arrays.items():
        np.testing.assert_array_equal(again[name], values, err_msg=name)
