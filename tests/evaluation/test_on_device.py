"""Whole episodes in one program: the rows of worker processes, but for rounding."""

import dataclasses

import jax
import numpy as np
import pytest

from sas_jax.alignment.config import PlanConfig
from sas_jax.checkpoint import Checkpoint
from sas_jax.data import spec as spec_lib
from sas_jax.errors import UserError
from sas_jax.evaluation import device_blocks
from sas_jax.evaluation.config import EvaluationConfig
from sas_jax.evaluation.evaluate import evaluate
from sas_jax.types import TrainState
from tests.helpers import tiny_jax
from tests.helpers.model_fixtures import make_config, make_episodes, make_variables

TINY = "jax:tests.helpers.tiny_jax:make,limits=2/4"
CONFIG = EvaluationConfig(
    variants=("none", "sas", "plan"),
    cost_limits=(2.0, 4.0),
    num_episodes=5,
    first_seed=40,
    num_workers=1,
)


@pytest.fixture(autouse=True)
def registries(monkeypatch):
    yield from tiny_jax.forgotten(monkeypatch)


def make_checkpoint(task=TINY):
    config = make_config(
        decoder={"depth": 1, "context": 4},
        model={"max_timestep": tiny_jax.STEPS},
        sas={
            "num_first": 2,
            "num_second": 2,
            "horizon": 6,
            "plan": PlanConfig(num_candidates=4, num_reference=2, horizon=4, execute=2),
        },
    )
    config = dataclasses.replace(config, task=task)
    data = make_episodes((12, 12), obs_dim=tiny_jax.OBS, action_dim=tiny_jax.ACTIONS)
    spec = spec_lib.from_episodes(data)
    variables = make_variables(config, spec)
    one = jax.tree.map(lambda x: np.asarray(x)[None], variables)
    state = TrainState(
        step=np.zeros(1, np.int32),
        key=np.zeros(1, np.uint32),
        params=one["params"],
        opt_state=(),
        extra=one["variances"],
    )
    return Checkpoint(config, spec, state, 0, None)


@pytest.mark.slow
def test_rows_are_those_of_worker_processes(monkeypatch):
    loaded, seen = make_checkpoint(), []
    there = evaluate(loaded, CONFIG)
    here = evaluate(loaded, CONFIG, on_device=2, on_step=seen.append)
    assert here.paths is None and len(here.results) == 3 * 2 * 5
    assert len({row.length for row in here.results}) > 1
    for own, other in zip(here.results, there.results, strict=True):
        assert own.variant == other.variant and own.episode_seed == other.episode_seed
        assert own.cost_limit == other.cost_limit and own.length == other.length
        assert own.episode_return == pytest.approx(other.episode_return, rel=1e-3)
        assert own.cost == other.cost and own.failed == other.failed
        assert own.prompt_start == other.prompt_start
        assert own.num_plans == other.num_plans
        assert own.level == pytest.approx(other.level, rel=1e-3, nan_ok=True)
    assert sum(seen) == sum(
        row.length
        for row in here.results
        if row.variant == "plan" or row.cost_limit == 2
    )
    # What is left runs in the program of the whole, however little it is.
    made, make = [], device_blocks.loop.make_evaluate

    def counting(*args, at_once, **others):
        made.append(at_once)
        return make(*args, at_once=at_once, **others)

    monkeypatch.setattr(device_blocks.loop, "make_evaluate", counting)
    resumed = evaluate(loaded, CONFIG, on_device=2, done=here.results[:-1])
    assert set(made) == {2}
    assert [row.cost for row in resumed.results] == [r.cost for r in here.results]


@pytest.mark.slow
def test_an_episode_that_is_no_number_is_named():
    few = dataclasses.replace(CONFIG, variants=("none",))
    lost = make_checkpoint(TINY.replace(":make", ":lost"))
    with pytest.raises(UserError, match="episode 4[0-4]: return nan; expected finite"):
        evaluate(lost, few, on_device=5)


def test_what_the_device_cannot_do_is_told():
    with pytest.raises(UserError, match="shift 'delay:1': changes the simulator's"):
        evaluate(
            make_checkpoint(), dataclasses.replace(CONFIG, shift="delay:1"), on_device=2
        )
