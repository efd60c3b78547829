"""The whole way on a gymnasium environment that nobody here has heard of."""

import dataclasses

import jax
import numpy as np
import pytest

from sas_jax import checkpoint
from sas_jax.card import measure
from sas_jax.data import collect, dsrl, findings
from sas_jax.envs import gymnasium_tasks, tasks
from sas_jax.errors import UserError
from sas_jax.evaluation import blocks
from sas_jax.evaluation.config import EvaluationConfig
from sas_jax.evaluation.evaluate import evaluate
from sas_jax.report import data_page, page
from sas_jax.training import fit as training_fit
from tests.helpers.model_fixtures import make_config

MODULE = "tests.helpers.tiny_gymnasium"


@pytest.fixture(autouse=True)
def registries(monkeypatch):
    monkeypatch.setattr(tasks, "TASKS", dict(tasks.TASKS))
    monkeypatch.setattr(tasks, "LATER", {})
    gymnasium_tasks.register(
        "MyLine", f"{MODULE}:TinyLine-v0", cost_limits=(1.0, 4.0), max_step_cost=1.0
    )


FEW, MANY = ("none", "sas"), ("none", "rand", "null", "sas", "plan")


@pytest.mark.slow
@pytest.mark.parametrize("variants, has_card", [(FEW, False), (MANY, True)])
def test_collect_train_card_evaluate_report(tmp_path, monkeypatch, variants, has_card):
    monkeypatch.setattr(blocks, "BLOCK", 2)
    plan = collect.Plan("MyLine", 6, seed=1, policy=f"{MODULE}:pushing")
    episodes = collect.collect(plan, tmp_path / "data.hdf5", workers=1)
    assert episodes.task == "MyLine" and 0 < episodes.costs.mean() < 1
    assert "DSRL" not in collect.summary(episodes)
    again = dsrl.load(tmp_path / "data.hdf5")
    assert again.fingerprint() == episodes.fingerprint()
    text = data_page.write_page(
        tmp_path / "page", again, source="x", notes=findings.look(again)
    ).read_text()
    assert "nan" not in text and "DSRL" not in text

    config = dataclasses.replace(
        make_config(
            decoder={"depth": 1, "context": 4},
            train={"num_steps": 2, "chunk": 2, "checkpoint_every": 2, "warmup": 1},
            sas={"num_first": 2, "num_second": 2, "horizon": 6},
        ),
        task="MyLine",
    )
    made = []

    def make_card(*args):
        made.append(measure.make_card(*args, num_starts=4, num_candidates=2))
        return made[0]

    training_fit.fit(
        config, again, tmp_path / "run", make_card=make_card if has_card else None
    )
    loaded = checkpoint.load(tmp_path / "run")
    assert (loaded.card is None) != has_card
    if has_card:
        # Episodes shorter than its shortest horizon have one of their own.
        assert loaded.card["cost"]["horizons"] == [made[0]["settings"]["horizon"]]
    run = evaluate(
        loaded,
        EvaluationConfig(
            variants=variants,
            cost_limits=(1.0, 4.0),
            num_episodes=2,
            num_workers=1,
        ),
    )
    low, high = loaded.spec.return_range
    assert len(run.results) == len(variants) * 2 * 2
    for row in run.results:
        assert row.task == "MyLine" and row.length <= 12
        expected = (row.episode_return - low) / (high - low)
        assert row.normalized_return == pytest.approx(expected)
        assert row.failed == (row.cost > 0)
    assert not any(run.paths.layouts.values())
    report = page.write_report(
        tmp_path / "report.md",
        {"title": "mine", "results": run.results, "card": loaded.card},
    )
    assert "MyLine" in report.read_text()
    for values in jax.tree.leaves(loaded.state.params):
        assert np.isfinite(values).all()


@pytest.mark.slow
def test_a_random_policy_records_any_task(tmp_path):
    plan = collect.Plan("MyLine", 2, seed=0, policy="random")
    episodes = collect.collect(plan, tmp_path / "a.hdf5", workers=2)
    twice = collect.collect(plan, tmp_path / "b.hdf5", workers=1)
    assert episodes.fingerprint() == twice.fingerprint()
    assert np.abs(episodes.actions).max() <= 1 and episodes.actions.std() > 0.3
    assert list(dsrl.read_columns(tmp_path / "a.hdf5")) == ["seed"]


def test_what_cannot_act_is_told(tmp_path):
    with pytest.raises(UserError, match="no scripted behaviour.*--policy"):
        collect.Plan("MyLine", 2, seed=0)
    with pytest.raises(UserError, match="policy 'pushing': expected 'module:function'"):
        collect.Plan("MyLine", 2, seed=0, policy="pushing")
    plan = collect.Plan("MyLine", 2, seed=0, policy=f"{MODULE}:lost")
    with pytest.raises(UserError, match=r"lost': returned \[nan\]; expected finite"):
        collect.collect(plan, tmp_path / "c.hdf5", workers=1)
