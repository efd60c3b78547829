"""The aligned policy as a whole: prompts at the start of an episode, then actions."""

import dataclasses

import chex
import jax
import numpy as np
import pytest

from sas_jax.alignment.tiles import Tiling
from sas_jax.errors import UserError
from sas_jax.learners import sequence
from sas_jax.types import Rows, TimeStep
from tests.helpers.model_fixtures import make_config, make_spec, make_variables

VARIANTS = ("none", "null", "short", "rand", "u", "sas")
EPISODES = 2
CONFIG = make_config(algo="cdt", decoder={"depth": 1})


def rows_of(seeds, limits, variants=VARIANTS):
    return Rows(
        cost_limit=np.tile(np.float32(limits), len(variants)),
        episode_seed=np.tile(np.uint32(seeds), len(variants)),
    )


def draw_steps(spec, count, seeds):
    """`TimeStep`s of `[B]` rows; what an episode shows depends on its seed."""
    steps = []
    for t in range(count):
        draws = [np.random.default_rng([8, seed, t]) for seed in seeds]
        obs = np.stack([rng.normal(size=spec.obs_dim) for rng in draws])
        obs[:, 4] = 7.0
        steps.append(
            TimeStep(
                obs=np.tile(np.float32(obs), (len(VARIANTS), 1)),
                reward=np.full(len(VARIANTS) * len(seeds), 0.5 * t, np.float32),
                cost=np.full(len(VARIANTS) * len(seeds), float(t % 2), np.float32),
                is_first=np.full(len(VARIANTS) * len(seeds), t == 0),
            )
        )
    return steps


class Runner:
    """Compiles begin and act once, whatever thresholds and parameters they get."""

    def __init__(self):
        self.spec = make_spec()
        self.variables = make_variables(CONFIG, self.spec)
        self.learner = sequence.make_policy(CONFIG, self.spec, variants=VARIANTS)
        self.start = jax.jit(self.learner.initial_carry)
        self.begin = jax.jit(chex.assert_max_traces(self.learner.begin, n=1))
        self.act = jax.jit(chex.assert_max_traces(self.learner.act, n=1))

    def run(self, *, seeds=(3, 4), limits=(5.0, 20.0), count=7, variables=None):
        """Actions `[T, V, E, A]`, prompts and diagnostics `[V, E, ...]`, last carry."""
        variables = self.variables if variables is None else variables
        key = jax.random.key(9)
        carry = self.start(variables, rows_of(seeds, limits), key)
        steps = draw_steps(self.spec, count, seeds)
        carry = self.begin(variables, carry, steps[0], key)
        actions = []
        for ts in steps:
            action, carry = self.act(variables, carry, ts, key)
            actions.append(action)

        def by_variant(x):
            return np.asarray(x).reshape(len(VARIANTS), EPISODES, *x.shape[1:])

        prompts = jax.tree.map(by_variant, carry.prompt)
        diagnostics = jax.tree.map(by_variant, self.learner.diagnostics(carry))
        actions = np.stack([by_variant(a) for a in actions])
        return actions, prompts, diagnostics, carry


@pytest.fixture(scope="module")
def runner():
    return Runner()


@pytest.fixture(scope="module")
def result(runner):
    return runner.run()


def of(variant):
    return VARIANTS.index(variant)


def test_prompts_and_flags(result):
    actions, prompts, diagnostics, carry = result
    present = {v: bool(prompts.is_present[of(v)].all()) for v in VARIANTS}
    assert present == {v: v in ("rand", "u", "sas") for v in VARIANTS}
    assert np.abs(actions).max() <= 1 and np.isfinite(actions).all()
    for name in ("level", "prompt_ok", "mean_v"):
        known = np.isfinite(diagnostics[name]).all(axis=1)
        np.testing.assert_array_equal(known, list(present.values()), err_msg=name)
    window = np.asarray(carry.state.window).reshape(len(VARIANTS), EPISODES)
    context = CONFIG.model.decoder.context
    for v in VARIANTS:
        expected = context if v in ("none", "null") else context - 2
        assert (window[of(v)] == expected).all(), v


def test_variants_differ_by_their_prompts_alone(result):
    """All share the action's noise but `null`; `short` forgets sooner, no more."""
    actions = result[0]
    none = actions[:, of("none")]
    np.testing.assert_allclose(actions[:3, of("short")], none[:3], atol=1e-6)
    assert (np.abs(actions[4:, of("short")] - none[4:]).max(axis=(0, 2)) > 1e-4).all()
    for variant in ("null", "rand", "u", "sas"):
        assert np.abs(actions[0, of(variant)] - none[0]).max() > 1e-4, variant


def test_an_episode_does_not_depend_on_its_companion(runner, result):
    """Bit for bit, at one batch size: other seed, other threshold, other states."""
    actions, prompts, diagnostics, _ = runner.run(seeds=(3, 77), limits=(5.0, 80.0))
    np.testing.assert_array_equal(actions[:, :, 0], result[0][:, :, 0])
    for got, expected in ((prompts, result[1]), (diagnostics, result[2])):
        jax.tree.map(
            lambda a, b: np.testing.assert_array_equal(a[:, 0], b[:, 0]), got, expected
        )
    assert (actions[:, :, 1] != result[0][:, :, 1]).any()


def test_an_episode_does_not_depend_on_its_row(runner, result):
    """The two episodes swapped. Rows of a product may be summed in another order."""
    actions, prompts, _, _ = runner.run(seeds=(4, 3), limits=(20.0, 5.0))
    np.testing.assert_allclose(actions[:, :, ::-1], result[0], atol=2e-5)
    np.testing.assert_allclose(
        prompts.segment.obs[:, ::-1], result[1].segment.obs, atol=2e-4
    )


def test_thresholds_move_the_actions_without_a_new_trace(runner, result):
    actions = runner.run(limits=(5.0, 80.0))[0]
    np.testing.assert_array_equal(actions[:, :, 0], result[0][:, :, 0])
    assert np.abs(actions[0, 0, 1] - result[0][0, 0, 1]).max() > 1e-4


def test_tokens_follow_what_really_happened(runner, result):
    """Rewards 0, 0.5, ... 3.0 and costs 0, 1, 0, 1, 0, 1, 0 were seen by step 6."""
    state = result[3].state
    np.testing.assert_allclose(state.return_to_go, runner.spec.target_return - 10.5)
    limits = np.tile([5.0, 20.0], len(VARIANTS))
    np.testing.assert_allclose(state.cost_to_go, limits - 3)
    np.testing.assert_array_equal(state.timestep, 7)


def test_a_first_step_resets_tokens_and_time(runner, result):
    carry = result[3]
    ts = draw_steps(runner.spec, 1, (3, 4))[0]
    ts = ts.replace(is_first=np.arange(len(ts.is_first)) % 2 == 0, reward=ts.reward + 1)
    before = jax.device_get(carry.state)
    _, after = runner.act(runner.variables, carry, ts, jax.random.key(0))
    first = ts.is_first
    state = after.state
    np.testing.assert_array_equal(state.timestep, np.where(first, 1, 8))
    expected = np.where(first, runner.spec.target_return, before.return_to_go - 1)
    np.testing.assert_allclose(state.return_to_go, expected, rtol=1e-6)


def test_a_model_that_blows_up_gives_the_empty_prompt_and_finite_actions(
    runner, result
):
    """The transition decoder turns every imagination into infinities. The policy itself
    is sound, and must act as if there were no prompt.
    """
    params = dict(runner.variables["params"])
    transition = dict(params["transition"])
    dense = transition["decoder"]["dense"]
    last = dict(dense["Dense_1"])
    last["bias"] = np.full_like(last["bias"], np.inf)
    transition["decoder"] = {"dense": dense | {"Dense_1": last}}
    params["transition"] = transition
    actions, prompts, diagnostics, _ = runner.run(
        variables=runner.variables | {"params": params}
    )
    assert np.isfinite(actions).all()
    assert not prompts.is_present.any()
    for variant in ("rand", "u", "sas"):
        assert (diagnostics["prompt_ok"][of(variant)] == 0).all()
        assert np.isnan(diagnostics["level"][of(variant)]).all()
    np.testing.assert_array_equal(actions[:, of("none")], result[0][:, of("none")])
    for variant in ("rand", "u", "sas"):
        np.testing.assert_allclose(
            actions[:, of(variant)], actions[:, of("none")], atol=1e-6
        )


def test_mean_actions_have_no_noise(runner):
    """`null` has another stream and the same actions."""
    config = dataclasses.replace(
        CONFIG, sas=dataclasses.replace(CONFIG.sas, sample_actions=False)
    )
    variants = ("none", "null")
    learner = sequence.make_policy(config, runner.spec, variants=variants)
    ts = jax.tree.map(lambda x: x[:2], draw_steps(runner.spec, 1, (3,))[0])
    key = jax.random.key(9)

    @jax.jit
    def first_action(variables):
        rows = rows_of((3,), (5.0,), variants)
        carry = learner.initial_carry(variables, rows, key)
        return learner.act(variables, carry, ts, key)[0]

    actions = np.asarray(first_action(runner.variables))
    np.testing.assert_array_equal(actions[0], actions[1])
    sampled = runner.run(count=1)[0][0, :2, 0]
    assert np.abs(actions - sampled).max() > 1e-3


@pytest.mark.slow  # `align_batch` in tiles: test_align
def test_a_policy_that_aligns_in_tiles_chooses_the_same_prompts(runner, result):
    """Up to rounding: its products have other shapes."""
    learner = sequence.make_policy(
        CONFIG, runner.spec, variants=VARIANTS, tiling=Tiling(4)
    )
    key = jax.random.key(9)
    carry = runner.start(runner.variables, rows_of((3, 4), (5.0, 20.0)), key)
    first = draw_steps(runner.spec, 1, (3, 4))[0]
    carry = jax.jit(learner.begin)(runner.variables, carry, first, key)
    _, prompts, diagnostics, _ = result
    for name, x in learner.diagnostics(carry).items():
        expected = diagnostics[name].reshape(x.shape)
        np.testing.assert_allclose(x, expected, rtol=1e-3, atol=1e-3, err_msg=name)
    expected = prompts.segment.obs.reshape(carry.prompt.segment.obs.shape)
    np.testing.assert_allclose(carry.prompt.segment.obs, expected, atol=2e-4)


def test_rows_must_hold_every_variant(runner):
    rows = jax.tree.map(lambda x: x[:5], rows_of((3, 4), (5.0, 20.0)))
    with pytest.raises(ValueError, match="5 rows"):
        runner.learner.initial_carry(runner.variables, rows, jax.random.key(0))


@pytest.mark.slow
def test_observations_of_another_size_are_refused(runner):
    rows = rows_of((3,), (5.0,))
    key = jax.random.key(0)
    carry = runner.learner.initial_carry(runner.variables, rows, key)
    zeros = np.zeros(len(VARIANTS), np.float32)
    obs = np.zeros((len(VARIANTS), runner.spec.obs_dim + 2), np.float32)
    ts = TimeStep(obs, zeros, zeros, np.ones(len(VARIANTS), bool))
    for function in (runner.learner.begin, runner.learner.act):
        with pytest.raises(UserError, match="observations of size 7; expected 5 as in"):
            function(runner.variables, carry, ts, key)
