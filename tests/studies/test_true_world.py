"""Plans that are tried out in the world itself: what they promise comes true."""

import dataclasses

import pytest

from sas_jax.errors import UserError
from sas_jax.files import results
from sas_jax.studies import true_world
from tests.evaluation.test_watching import EXECUTE, STEPS, _checkpoint
from tests.helpers import entry_points, short_goal
from tests.helpers.branched_runs import flags_of_a_run

LAYOUTS = range(500, 502)


@pytest.fixture(scope="module")
def checkpoint():
    with short_goal.registered() as name:
        yield _checkpoint(name)


def play(checkpoint, variant, is_true):
    return list(
        true_world.episodes(
            checkpoint, variant, LAYOUTS, cost_limit=20.0, is_true=is_true
        )
    )


@pytest.mark.slow
def test_what_is_tried_out_comes_true(checkpoint):
    """Every plan is executed: expected and real cost are the same sum."""
    rows = play(checkpoint, "plan", is_true=True)
    assert [row.episode_seed for row in rows] == list(LAYOUTS)
    assert {row.algo for row in rows} == {"dt_true_world"}
    for row in rows:
        assert row.length == STEPS and row.num_plans == STEPS // EXECUTE
        assert row.plan_expected == row.plan_realised
        assert row.plan_error < 1e-6 and row.plan_fallback == 0
    # Its own model, untrained, foresees nothing of that kind.
    own = play(checkpoint, "plan", is_true=False)
    assert {row.algo for row in own} == {"dt"}
    assert all(row.plan_expected != row.plan_realised for row in own)
    assert all(row.plan_error > 1e-3 for row in own)


@pytest.mark.slow
def test_who_does_not_plan_asks_no_copies(checkpoint):
    alike = [play(checkpoint, "none", is_true=is_true) for is_true in (False, True)]
    for row, other in zip(*alike, strict=True):
        assert row.num_plans == 0
        assert (row.episode_return, row.cost) == (other.episode_return, other.cost)


def test_an_algorithm_without_a_world_model_is_refused(checkpoint):
    config = dataclasses.replace(checkpoint.config, algo="bc")
    with pytest.raises(UserError, match="does not plan; expected a sequence model"):
        play(checkpoint._replace(config=config), "none", is_true=False)


def test_the_command_names_what_is_missing():
    done = entry_points.run("true_world")
    assert done.returncode == 2 and "--checkpoint: expected a workdir" in done.stderr
    given = ("true_world", "--checkpoint=somewhere")
    done = entry_points.run(*given, "--episodes=0")
    assert done.returncode == 2 and "--episodes: expected at least 1" in done.stderr
    done = entry_points.run(*given, "--variant=none")
    assert done.returncode == 2 and "'none' does not plan" in done.stderr


@pytest.mark.slow
def test_the_command_plays_goes_on_and_refuses_another_run(tmp_path):
    """A table that has episodes is not played again, and takes no other run's rows."""
    out = tmp_path / "rows.csv"
    given = ["true_world", *flags_of_a_run(tmp_path / "model", out)]
    entry_points.succeeds(*given, "--episodes=1")
    rows = results.read_results(out)
    assert [(r.algo, r.variant) for r in rows] == [
        ("dt", "none"),
        ("dt", "plan"),
        ("dt_true_world", "plan"),
    ]
    before = out.read_bytes()
    entry_points.succeeds(*given, "--episodes=1")
    assert out.read_bytes() == before
    done = entry_points.run(*given, "--episodes=1", "--cost_limit=80")
    assert done.returncode == 2 and "expected another --out" in done.stderr
    assert out.read_bytes() == before
