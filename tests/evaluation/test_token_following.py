"""Token following on a task and a policy that can be worked out by hand."""

import dataclasses
import math
import warnings

import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax import learners
from sas_jax.envs.vector.env import StepBatch
from sas_jax.errors import UserError
from sas_jax.evaluation import blocks, token_following
from sas_jax.evaluation import evaluate as evaluate_lib
from sas_jax.evaluation.evaluate import EvaluationConfig, evaluate
from sas_jax.evaluation.targets import OutsideDataWarning, warn_outside
from sas_jax.evaluation.token_following import TokenConfig, follow_tokens
from sas_jax.report import tokens
from sas_jax.types import Policy
from tests.evaluation.test_evaluate import make_checkpoint
from tests.helpers.entry_points import run

STEPS = 5


class Counter:
    """Stands in for the vector environment: pays the action's first number as reward
    and its second as cost; an episode's rewards are scaled by its seed's last digit.
    """

    runs = []

    def __init__(self, task, num_envs, *, num_workers=None):
        self.num_envs, self.action_dim = num_envs, 2

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def layout(self, slot):
        return {}

    def reset(self, seeds, mask=None):
        mask = np.ones(self.num_envs, bool) if mask is None else mask
        type(self).runs.append(sorted(int(s) for s in np.asarray(seeds)[mask]))
        self.scale, self.t = 1 + np.asarray(seeds) % 10, 0
        zeros = np.zeros(self.num_envs)
        return self._batch(zeros, zeros)

    def step(self, actions):
        self.t += 1
        return self._batch(actions[:, 0] * self.scale, actions[:, 1])

    def _batch(self, reward, cost):
        count = self.num_envs
        return StepBatch(
            obs=np.zeros((count, 60)),
            reward=reward,
            cost=cost,
            is_first=np.full(count, self.t == 0),
            is_last=np.full(count, self.t == STEPS),
            terminated=np.zeros(count, bool),
            pose=np.zeros((count, 6)),
        )


@pytest.fixture
def obedient(monkeypatch):
    """Actions that spread both tokens evenly over the episode; traces are counted."""
    traces = {"begin": 0, "act": 0}

    def initial_carry(variables, rows, key):
        return {"target": rows.target_return, "limit": rows.cost_limit}

    def begin(variables, carry, ts, key):
        traces["begin"] += 1
        return carry

    def act(variables, carry, ts, key):
        traces["act"] += 1
        return jnp.stack([carry["target"], carry["limit"]], 1) / STEPS, carry

    get = learners.get

    def obeying(name):
        policy = Policy(initial_carry, begin, act)
        return dataclasses.replace(get(name), make_policy=lambda *_, **__: policy)

    monkeypatch.setattr(learners, "get", obeying)
    monkeypatch.setattr(token_following, "VectorEnv", Counter)
    monkeypatch.setattr(blocks, "BLOCK", 4)
    monkeypatch.setattr(Counter, "runs", [])
    return traces


CONFIG = TokenConfig(
    target_returns=(10.0, 20.0, 5.0),
    cost_limits=(80.0, 20.0),
    num_episodes=6,
    first_seed=100,
)


def test_every_pair_runs_on_every_layout_in_one_program(obedient):
    steps = []
    rows = follow_tokens(make_checkpoint("cdt"), CONFIG, on_step=steps.append)
    assert obedient == {"begin": 1, "act": 1}
    assert sum(steps) == 6 * 6 * STEPS
    assert [(r.episode_seed, *r.tokens) for r in rows] == [
        (seed, t, limit)
        for seed in range(100, 106)
        for t in (5.0, 10.0, 20.0)
        for limit in (20.0, 80.0)
    ]
    for row in rows:
        scale = 1 + row.episode_seed % 10
        np.testing.assert_allclose(row.episode_return, row.target_return * scale, 1e-6)
        np.testing.assert_allclose(row.cost, row.cost_limit, 1e-6)


def test_a_stopped_run_goes_on_with_what_is_missing(obedient, tmp_path):
    loaded, path = make_checkpoint("cdt"), tmp_path / "tokens.csv"
    saved = []
    whole = follow_tokens(loaded, CONFIG, on_rows=saved.append)
    assert [len(s) for s in saved] == [4 * n for n in range(1, 7)] + [
        24 + 2 * n for n in range(1, 7)
    ]
    # Without one row of the first block, and the second block's last pair.
    done = [
        r
        for r in whole
        if (r.episode_seed, *r.tokens) != (101, 10.0, 20.0)
        and not (r.episode_seed > 103 and r.tokens == (5.0, 20.0))
    ]
    tokens.write_tokens(path, done)
    Counter.runs.clear()
    again = follow_tokens(loaded, CONFIG, done=tokens.read_tokens(path))
    assert again == whole
    assert Counter.runs == [[101], [104, 105]]
    # Rows of a wider grid are kept in the file and left out of the answer.
    narrow = dataclasses.replace(CONFIG, target_returns=(5.0,), num_episodes=2)
    assert len(follow_tokens(loaded, narrow, done=whole)) == 4
    other = dataclasses.replace(CONFIG, seed=1)
    with pytest.raises(UserError, match="rows of run .* this checkpoint and these"):
        follow_tokens(loaded, other, done=whole)


def test_without_cost_tokens_the_limits_do_not_count(obedient, tmp_path):
    rows = follow_tokens(make_checkpoint("dt"), CONFIG)
    assert len(rows) == 3 * 6 and all(math.isnan(r.cost_limit) for r in rows)
    path = tokens.write_tokens(tmp_path / "tokens.csv", rows)
    back = tokens.read_tokens(path)
    assert repr(back) == repr(rows)
    assert follow_tokens(make_checkpoint("dt"), CONFIG, done=back) == back
    found = tokens.summarise(rows)
    assert found.cost_difference is found.limits is found.cost_within is None


@pytest.mark.slow
def test_targets_act_as_the_setting_of_one_does(monkeypatch):
    """The real environment: the same bits as `evaluate` with that target return."""
    monkeypatch.setattr(blocks, "BLOCK", 2)
    loaded = make_checkpoint("cdt")
    config = TokenConfig(
        target_returns=(3.0, 9.0),
        cost_limits=(5.0,),
        num_episodes=1,
        first_seed=500,
        num_workers=1,
    )
    rows = follow_tokens(loaded, config)
    assert rows[0].episode_return != rows[1].episode_return
    for row in rows:
        result = evaluate(
            loaded,
            EvaluationConfig(
                variants=("none",),
                cost_limits=(5.0,),
                target_return=row.target_return,
                num_episodes=1,
                first_seed=500,
                num_workers=1,
            ),
        ).results[0]
        assert (result.episode_return, result.cost) == (row.episode_return, row.cost)


def test_cost_targets_outside_the_data_are_told_once():
    loaded = make_checkpoint("cdt")
    low, high = loaded.spec.cost_range
    assert 0 <= low < high < 20
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_outside(loaded.spec, (low, high))
        warn_outside(dataclasses.replace(loaded.spec, cost_range=None), (500.0,))
        assert not caught
        warn_outside(loaded.spec, (400.0, high, 500.0))
    (told,) = caught
    assert told.category is OutsideDataWarning
    assert str(told.message).startswith("cost_limits 400, 500: outside the data's")
    assert "\n" not in str(told.message)


@pytest.mark.parametrize("algo, told", [("cdt", 1), ("dt", 0)])
def test_evaluation_warns_where_the_limit_is_a_token(algo, told, monkeypatch):
    calls = []
    monkeypatch.setattr(evaluate_lib, "warn_outside", lambda *a: calls.append(a))

    def stop(*args, **kwargs):
        raise StopIteration

    monkeypatch.setattr(evaluate_lib, "_in_workers", stop)
    with pytest.raises(StopIteration):
        evaluate(make_checkpoint(algo), EvaluationConfig(cost_limits=(500.0,)))
    assert len(calls) == told


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"target_returns": ()}, "target_returns: expected at least one"),
        ({"target_returns": (math.nan,)}, "target_returns: nan"),
        ({"target_returns": (1.0, 1.0)}, "twice"),
        ({"cost_limits": (-1.0,)}, "cost_limits: -1.0; each must be >= 0"),
        ({"cost_limits": (math.nan,)}, "cost_limits: nan"),
        ({"num_episodes": 0}, "num_episodes"),
        ({"num_workers": 0}, "num_workers"),
        ({"first_seed": -1}, "first_seed"),
    ],
)
def test_bad_settings_are_one_line(settings, message):
    with pytest.raises(UserError) as error:
        TokenConfig(**({"target_returns": (1.0,)} | settings))
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.slow
def test_the_entry_point_refuses_settings_of_the_training():
    flags = ("--checkpoint=runs/absent", "--set=train.seed=1")
    done = run("follow_tokens", *flags)
    assert done.returncode == 2
    assert done.stderr == (
        "error: --set=train.seed=1: only sas.* can change after training\n"
    )
