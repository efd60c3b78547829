"""The entry point: what it plans, and what is wrong in one line."""

import pytest

from tests.helpers.entry_points import run

PLAN = """
tasks = ["PointGoal1"]
seeds = [0, 1]
layouts = 3
[[methods]]
algo = "bc"
preset = "demo"
[[methods]]
name = "dt_n9"
algo = "dt"
acting = {"sas.num_first" = 9}
"""


@pytest.mark.slow
def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN)
    out = tmp_path / "out"
    flags = [f"--plan={plan}", f"--out={out}", "--seeds=5", "--set=train.warmup=7"]
    done = run("sweep", *flags, "--variants=none,sas", "--dry_run")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[3:5]] == [
        "PointGoal1/bc/5",
        "PointGoal1/dt_n9/5",
    ]
    # Two variants, three thresholds, three layouts.
    assert lines[4].split()[-5:] == ["3", "18", "18", "not", "measured"]
    assert "2 cells to do" in done.stdout and not out.exists()


@pytest.mark.slow
def test_what_is_wrong_is_one_line():
    done = run("sweep", "--tasks=PointGoal1", "--preset=dem", "--dry_run")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "did you mean 'demo'" in done.stderr.splitlines()[-1]
