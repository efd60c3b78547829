"""Evaluation on the real environment with a policy of random weights."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from sas_jax import learners
from sas_jax.checkpoint import Checkpoint
from sas_jax.data import spec as spec_lib
from sas_jax.errors import UserError
from sas_jax.evaluation import blocks
from sas_jax.evaluation.evaluate import EvaluationConfig, evaluate
from sas_jax.files.results import read_results, write_results
from sas_jax.types import TrainState
from tests.helpers import short_goal
from tests.helpers.model_fixtures import (
    make_config,
    make_critic,
    make_episodes,
    make_variables,
)

SIZES = {"obs_dim": 60, "action_dim": 2}
FIRST_SEED, STEPS = 500, short_goal.STEPS


@pytest.fixture(scope="module", autouse=True)
def short_task():
    with short_goal.registered() as name:
        yield name


def make_checkpoint(algo="dt", task="PointGoal1", **sizes):
    """A run of two training seeds, the second one's parameters negated."""
    config = make_config(
        algo=algo,
        decoder={"depth": 1, "context": 4},
        model={"max_timestep": 1000},
        train={"num_seeds": 2, "seed": 7},
        sas={"num_first": 2, "horizon": 6},
    )
    config = dataclasses.replace(config, task=task)
    spec = spec_lib.from_episodes(make_episodes((20, 20), **(SIZES | sizes)))
    variables = make_variables(config, spec)
    both = jax.tree.map(lambda x: np.stack([x, -x]), variables["params"])
    state = TrainState(
        step=np.zeros(2, np.int32),
        key=np.zeros(2, np.uint32),
        params=both,
        opt_state=(),
        extra=jax.tree.map(lambda x: np.stack([x, x]), variables["variances"]),
    )
    return Checkpoint(config, spec, state, 0, None)


def counting_traces(patch):
    """Counts how often Python runs the policy's functions, that is, traces them."""
    get, calls = learners.get, {"begin": 0, "act": 0}

    def counting(algorithm):
        def make_policy(*args, **kwargs):
            policy = algorithm.make_policy(*args, **kwargs)

            def begin(*args):
                calls["begin"] += 1
                return policy.begin(*args)

            def act(*args):
                calls["act"] += 1
                return policy.act(*args)

            return policy._replace(begin=begin, act=act)

        return dataclasses.replace(algorithm, make_policy=make_policy)

    patch.setattr(learners, "get", lambda name: counting(get(name)))
    return calls


def run(algo, **settings):
    """An evaluation in blocks of two episodes; rows by (variant, limit, seed)."""
    steps = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK", 2)
        calls = counting_traces(patch)
        config = EvaluationConfig(**settings)
        loaded = make_checkpoint(algo, short_goal.TASK.name)
        critic = make_critic(60) if "gate" in config.variants else None
        out = evaluate(loaded, config, critic=critic, on_step=steps.append)
    table = {(r.variant, r.cost_limit, r.episode_seed): r for r in out.results}
    assert len(table) == len(out.results)
    return out, table, sum(steps), calls


VARIANTS = ("none", "null", "sas")
LIMITS = (0.0, 40.0)


@pytest.fixture(scope="module")
def three_episodes():
    """Two blocks, the second half empty; two workers."""
    return run(
        "dt",
        variants=VARIANTS,
        cost_limits=LIMITS,
        num_episodes=3,
        first_seed=FIRST_SEED,
        num_workers=2,
    )


def test_one_row_per_episode_variant_and_threshold(three_episodes):
    out, table, steps, _ = three_episodes
    task = short_goal.TASK.name
    seeds = [FIRST_SEED, FIRST_SEED + 1, FIRST_SEED + 2]
    assert list(table) == [
        (v, limit, seed) for seed in seeds for v in VARIANTS for limit in LIMITS
    ]
    assert steps == 3 * 3 * STEPS
    for row in out.results:
        assert (row.task, row.algo, row.train_seed) == (task, "dt", 7)
        assert row.length == STEPS and row.failed == (row.cost > 0)


def test_nothing_is_traced_again(three_episodes):
    """One program with a prompt and one without, for all else that there is."""
    assert three_episodes[3] == {"begin": 1, "act": 2}


def test_thresholds_of_a_policy_without_cost_tokens_share_its_episodes(three_episodes):
    """kappa = 0 adds one to cost and threshold (DSRL)."""
    _, table, _, _ = three_episodes
    task = short_goal.TASK
    for variant in VARIANTS:
        for seed in range(FIRST_SEED, FIRST_SEED + 3):
            strict, loose = (table[variant, limit, seed] for limit in LIMITS)
            assert strict.cost == loose.cost
            assert strict.episode_return == loose.episode_return
            assert strict.normalized_cost == strict.cost + 1
            assert loose.normalized_cost == loose.cost / 40
            span = task.references.return_max - task.references.return_min
            expected = (strict.episode_return - task.references.return_min) / span
            np.testing.assert_allclose(strict.normalized_return, expected, rtol=1e-12)
            if variant == "sas":
                assert strict.invariant_share == 1.0 >= loose.invariant_share >= 0.0


def test_variants_share_layouts_and_differ_in_what_happens(three_episodes):
    out, table, _, _ = three_episodes
    paths = out.paths
    assert paths.pose.shape == (6, STEPS, 6)  # three variants x one block of two
    assert paths.variant == [v for v in VARIANTS for _ in range(2)]
    np.testing.assert_array_equal(
        paths.episode_seed, np.tile([FIRST_SEED, FIRST_SEED + 1], 3)
    )
    for episode in range(2):
        starts = paths.pose[episode::2, 0]
        np.testing.assert_array_equal(starts, np.tile(starts[0], (3, 1)))
        np.testing.assert_array_equal(
            paths.first_obs[episode::2], np.tile(paths.first_obs[episode], (3, 1))
        )
        ends = paths.pose[episode::2, -1, :2]
        assert len(np.unique(ends[:, 0])) == 3
    assert (paths.pose[0, 0, :2] != paths.pose[1, 0, :2]).all()
    assert set(paths.layouts) == {FIRST_SEED, FIRST_SEED + 1}
    assert len(paths.layouts[FIRST_SEED]["hazards"]) == 8
    for row in range(6):
        result = table[paths.variant[row], 40.0, paths.episode_seed[row]]
        assert result.episode_return == paths.reward[row].sum()
        assert result.cost == paths.cost[row].sum()
        assert result.length == paths.length[row]


def test_diagnostics_belong_to_variants_with_a_prompt(three_episodes):
    _, table, _, _ = three_episodes
    for (variant, _, _), row in table.items():
        has_prompt = variant == "sas"
        assert row.prompt_ok
        assert (row.prompt_start >= 0) == has_prompt
        for name in ("level", "mean_u", "mean_v", "align_seconds", "invariant_share"):
            assert math.isfinite(getattr(row, name)) == has_prompt, (variant, name)


def test_rows_do_not_depend_on_workers_blocks_or_companions(three_episodes):
    """One worker, and the last two episodes as the first block: the same bits."""
    _, expected, _, _ = three_episodes
    _, table, _, _ = run(
        "dt",
        variants=VARIANTS,
        cost_limits=LIMITS,
        num_episodes=2,
        first_seed=FIRST_SEED + 1,
        num_workers=1,
    )
    assert len(table) == 12
    for key, row in table.items():
        for name, value in vars(row).items():
            if name != "align_seconds":
                wanted = getattr(expected[key], name)
                np.testing.assert_array_equal(value, wanted, err_msg=f"{key} {name}")


@pytest.mark.slow
def test_a_changed_world_is_paired_with_the_tasks_own(three_episodes, tmp_path):
    """The same layout, another episode, and a row that says so."""
    settings = {
        "variants": ("none",),
        "cost_limits": (40.0,),
        "num_episodes": 1,
        "first_seed": FIRST_SEED,
    }
    own, own_table, _, _ = three_episodes
    out, table, _, _ = run("dt", shift="obs_noise:0.50, delay:2", **settings)
    row, partner = table["none", 40.0, FIRST_SEED], own_table["none", 40.0, FIRST_SEED]
    for name, places in own.paths.layouts[FIRST_SEED].items():
        np.testing.assert_array_equal(out.paths.layouts[FIRST_SEED][name], places)
    np.testing.assert_array_equal(out.paths.pose[0, 0], own.paths.pose[0, 0])
    assert row.episode_return != partner.episode_return
    spec = make_checkpoint().spec
    noise = out.paths.first_obs[0] - own.paths.first_obs[0]
    assert (noise[spec.obs_active] != 0).mean() > 0.9
    assert not noise[~spec.obs_active].any()
    assert (row.shift, partner.shift) == ("delay:2,obs_noise:0.5", "")
    assert row.key != partner.key
    path = write_results(tmp_path / "results.csv", [*out.results, *own.results])
    assert [r.shift for r in read_results(path)][:2] == [row.shift, ""]


def test_results_can_be_written_and_read(three_episodes, tmp_path):
    results = three_episodes[0].results
    path = write_results(tmp_path / "results.csv", results)
    for read, row in zip(read_results(path), results, strict=True):
        assert repr(read) == repr(row)


@pytest.mark.slow
def test_cost_tokens_act_on_each_threshold():
    """Every threshold runs its own episodes, in the same two programs."""
    out, table, steps, calls = run(
        "cdt",
        variants=("none",),
        cost_limits=(5.0, 80.0),
        num_episodes=1,
        first_seed=FIRST_SEED,
        num_workers=1,
        train_seed=1,
    )
    assert steps == 2 * STEPS
    assert calls == {"begin": 1, "act": 1}
    assert out.paths.variant == ["none", "none"]
    starts = out.paths.pose[:, 0]
    np.testing.assert_array_equal(starts[0], starts[1])
    low, high = (table["none", limit, FIRST_SEED] for limit in (5.0, 80.0))
    assert low.episode_return != high.episode_return
    assert low.normalized_cost == low.cost / 5
    assert high.normalized_cost == high.cost / 80
    assert low.train_seed == 8


@pytest.mark.slow
def test_a_gate_acts_on_each_threshold():
    """Also with a policy that has no cost token, whose own episodes still run once.

    A gate of 80 accepts everything.
    """
    out, table, steps, calls = run(
        "dt",
        variants=("none", "gate"),
        cost_limits=(1.0, 80.0),
        num_episodes=1,
        first_seed=FIRST_SEED,
        num_workers=1,
    )
    assert steps == 3 * STEPS and calls == {"begin": 2, "act": 2}
    assert out.paths.variant == ["none", "gate", "gate"]
    assert (out.paths.pose[:, 0] == out.paths.pose[0, 0]).all()
    low, high = (table["gate", limit, FIRST_SEED] for limit in (1.0, 80.0))
    none = table["none", 80.0, FIRST_SEED]
    assert low.num_gated > STEPS // 10 and high.num_gated == none.num_gated == 0
    assert (high.episode_return, high.cost) == (none.episode_return, none.cost)
    assert low.episode_return != high.episode_return


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"cost_limits": (20.0, -1.0)}, "cost_limits: -1.0; each must be >= 0"),
        ({"cost_limits": (math.nan,)}, "cost_limits: nan"),
        ({"cost_limits": (math.inf,)}, "cost_limits: inf"),
        ({"cost_limits": ()}, "at least one threshold"),
        ({"cost_limits": (20.0, 20.0)}, "twice"),
        ({"num_workers": 0}, "num_workers must be >= 1, got 0"),
        ({"num_episodes": 0}, "num_episodes must be >= 1"),
        ({"variants": ()}, "expected a tuple of at least one name"),
        ({"variants": ("none", "none")}, "names one twice"),
        ({"target_return": math.inf}, "target_returns: inf"),
        ({"shift": "mess:2"}, "did you mean 'mass'"),
        ({"first_seed": -1}, "first_seed"),
        ({"first_seed": 2**32}, "first_seed"),
    ],
)
def test_bad_settings_are_one_line(settings, message):
    with pytest.raises(UserError) as error:
        EvaluationConfig(**settings)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_checkpoints_that_do_not_fit_are_named():
    with pytest.raises(UserError, match="'sass'; did you mean 'sas'"):
        evaluate(make_checkpoint(), EvaluationConfig(variants=("none", "sass")))
    with pytest.raises(UserError, match="train_seed: 2; the checkpoint holds 2"):
        evaluate(make_checkpoint(), EvaluationConfig(train_seed=2))
    with pytest.raises(UserError, match="59 observations.*the task has 60"):
        evaluate(make_checkpoint(obs_dim=59), EvaluationConfig())
    with pytest.raises(UserError, match="gate_sas needs a cost critic"):
        evaluate(make_checkpoint(), EvaluationConfig(variants=("none", "gate_sas")))
