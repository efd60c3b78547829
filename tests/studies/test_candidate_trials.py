"""Candidates that are tried out in the world: what they bring is what comes."""

import numpy as np
import pytest

from sas_jax.alignment.config import PlanConfig, SASConfig
from sas_jax.envs.branching.env import BranchingEnv
from sas_jax.envs.tasks import get_task
from sas_jax.files.log_table import read_log
from sas_jax.studies import branched_play, candidate_trials, trial_tables
from tests.evaluation.test_watching import EXECUTE, STEPS, _checkpoint
from tests.helpers import entry_points, short_goal
from tests.helpers.branched_runs import flags_of_a_run

LAYOUTS = range(500, 502)


@pytest.mark.slow
def test_what_is_executed_brings_what_was_tried():
    """Every plan is executed and tried out, but for those that reach past the end."""
    with short_goal.registered() as name:
        loaded = _checkpoint(name)
        given = {"cost_limit": 20.0, "seed": 0}
        tables = list(
            candidate_trials.trials(loaded, "plan", LAYOUTS, every=1, **given)
        )
        horizon = loaded.config.sas.plan.horizon
        brought, steps = {}, {}
        with BranchingEnv(name) as env:
            true_step = env.step

            def step(action):
                made = true_step(action)
                speed = np.hypot(
                    *made.obs[get_task(name).obs_groups["velocimeter"]][:2]
                )
                steps[len(steps)] = float(made.reward), float(made.cost), speed
                return made

            env.step = step
            for played in branched_play.play(loaded, "plan", env, LAYOUTS, **given):
                brought[played.layout] = (dict(steps), played)
                steps.clear()
    for layout, rows in zip(LAYOUTS, tables, strict=True):
        assert {row["episode_seed"] for row in rows} == {layout}
        assert {row["step"] for row in rows} == set(
            range(0, STEPS - horizon + 1, EXECUTE)
        )
        came, played = brought[layout]
        for row in rows:
            if not row["is_chosen"]:
                continue
            here = range(row["step"], row["step"] + EXECUTE)
            reward, cost, _ = np.sum([came[t] for t in here], axis=0)
            assert row[f"real_reward_{EXECUTE}"] == pytest.approx(reward, abs=1e-3)
            assert row[f"real_cost_{EXECUTE}"] == cost
            between = np.mean([came[t][2] for t in here[: max(EXECUTE - 1, 1)]])
            assert row[f"real_speed_{EXECUTE}"] == pytest.approx(between, abs=1e-3)
            assert row[f"imagined_speed_{EXECUTE}"] != row[f"real_speed_{EXECUTE}"]
        assert played.length == STEPS


def test_speeds_are_of_the_states_between_the_steps():
    obs = np.zeros((1, 4, 5))
    obs[0, :, 1:4] = [[3.0, 4.0, 9.0], [0.0, 1.0, 9.0], [6.0, 8.0, 9.0], [1.0, 0.0, 9]]
    sensor = slice(1, 4)
    found = [float(candidate_trials.speeds(obs, sensor, n)[0]) for n in (1, 2, 3, 4)]
    np.testing.assert_allclose(found, [5.0, 5.0, 3.0, 16 / 3])


def test_agreement_takes_the_plans_means_away():
    """Two plans that differ by ten: within them what is imagined is upside down."""
    real = np.array([[0.0, 1.0, 2.0], [10.0, 11.0, 12.0]])
    imagined = np.array([[2.0, 1.0, 0.0], [12.0, 11.0, 10.0]])
    found = candidate_trials.agreement(imagined, real)
    assert found.imagined == found.real == 6.0
    assert found.within == pytest.approx(-1.0) and found.correlation > 0.9
    same = candidate_trials.agreement(np.ones((2, 3)), real)
    assert np.isnan(same.correlation) and np.isnan(same.within)


def test_the_rule_chooses_again_by_what_it_is_told():
    """What exceeds the allowance weighs three times, and nothing below it counts."""
    config = SASConfig(plan=PlanConfig(cost_weight=3.0))
    reward = np.array([[1.0, 2.0, 4.0]] * 2)
    cost = np.array([[0.0, 1.0, 2.0]] * 2)
    allowed = np.array([1.0, 0.0])
    found = candidate_trials.rechosen("plan", config, reward, cost, allowed)
    # 1, 2, 4 - 3; and 1, 2 - 3, 4 - 6.
    np.testing.assert_array_equal(found, [1, 0])
    found = candidate_trials.rechosen("plan_weighted", config, reward, cost, allowed)
    np.testing.assert_array_equal(found, [0, 0])


def rows_of(sums):
    """Rows of one plan a list of candidates, as a file has them; sums of cost."""
    for step, costs in enumerate(sums):
        for candidate, (imagined, real) in enumerate(costs):
            row = {
                "task": "T", "variant": "plan", "cost_limit": "20", "step": step,
                "episode_seed": 7, "candidate": candidate, "allowed": 0.5,
                "is_reference": int(candidate == 0), "is_chosen": int(candidate == 1),
                "is_executed": 1,
            }  # fmt: skip
            for count in (1, 2, 4):
                row |= {f"imagined_cost_{count}": imagined, f"real_cost_{count}": real}
                row |= {f"{kind}_reward_{count}": 0.0 for kind in ("imagined", "real")}
            yield {name: str(value) for name, value in row.items()}


def test_tables_say_what_better_knowledge_would_have_brought():
    """Imagined costs are the wrong way round: known ones would save three."""
    rows = list(rows_of([[(4.0, 0.0), (1.0, 3.0)], [(4.0, 0.0), (1.0, 3.0)]]))
    config = SASConfig(plan=PlanConfig(horizon=4, execute=1))
    first, second = trial_tables.tables(rows, config)
    assert "2 plans of 1 layouts" in first.notes[0]
    cost = {row[0]: row[1:] for row in first.rows}["a plan was executed (2): cost, 4"]
    assert cost == ("2.50", "1.50", "-1.00", "-1.00")
    brought = {row[0].split(": ")[1]: row[2] for row in second.rows}
    assert brought["the policy's own"] == "0.00" == brought["costs known"]
    assert brought["as it was"] == "3.00" == brought["rewards known"]
    assert trial_tables.tables([], config) == []


def test_who_does_not_plan_is_refused():
    done = entry_points.run("candidates")
    assert done.returncode == 2 and "--checkpoint: expected a workdir" in done.stderr
    given = ("candidates", "--checkpoint=somewhere")
    done = entry_points.run(*given, "--every=0")
    assert done.returncode == 2 and "--every: expected at least 1" in done.stderr
    done = entry_points.run(*given, "--episodes=0")
    assert done.returncode == 2 and "--episodes: expected at least 1" in done.stderr
    done = entry_points.run(*given, "--variant=none")
    assert done.returncode == 2 and "'none' does not plan" in done.stderr


@pytest.mark.slow
def test_the_command_goes_on_and_refuses_another_run(tmp_path):
    out = tmp_path / "tried.csv"
    given = ["candidates", *flags_of_a_run(tmp_path / "model", out), "--every=100"]
    entry_points.succeeds(*given, "--episodes=1")
    before = read_log(out)
    assert len(before) == 3 * 4 and {row["episode_seed"] for row in before} == {
        "1000000"
    }
    said = entry_points.succeeds(*given, "--episodes=2")
    assert read_log(out)[:12] == before and len(read_log(out)) == 24
    assert "8 plans of 2 layouts" in said
    done = entry_points.run(*given, "--episodes=2", "--cost_limit=80")
    assert done.returncode == 2 and "expected another --out" in done.stderr
    assert len(read_log(out)) == 24
