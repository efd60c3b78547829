"""The paper's protocol in calls of bounded length, at a small size."""

import os
import subprocess
import tomllib
from pathlib import Path

import pytest

from sas_jax.sweeps.plan import from_values

PLAN = """
tasks = ["PointGoal1"]
variants = ["none"]
cost_limits = [20]
layouts = 2

[data]
episodes = 4

[[methods]]
algo = "bc"
settings = {"train.num_steps" = 100, "train.checkpoint_every" = 100}
"""


@pytest.mark.parametrize(("name", "count"), [("evidence", 72), ("paper", 288)])
def test_plans_of_the_checkout_have_the_tasks_of_table_1(name, count):
    path = Path("experiments/plans") / f"{name}.toml"
    cells = from_values(tomllib.loads(path.read_text())).cells()
    assert len(cells) == count
    assert len({cell.task for cell in cells}) == 12
    assert all(cell.evaluation.cost_limits == (20, 40, 80) for cell in cells)


def call(folder, seconds):
    plan = folder / "plan.toml"
    plan.write_text(PLAN)
    done = subprocess.run(
        [
            "sh",
            "scripts/paper_protocol.sh",
            f"--plan={plan}",
            f"--out={folder / 'out'}",
        ],
        env=os.environ
        | {"JAX_PLATFORMS": "cpu", "SECONDS_A_CALL": str(seconds), "CELLS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    return done.returncode, done.stderr


@pytest.mark.slow
def test_a_call_ends_in_time_and_the_next_goes_on(tmp_path):
    code, said = call(tmp_path, 1)
    assert (code, said.splitlines()[-1]) == (3, "time is up; call again to go on")
    code, said = call(tmp_path, 500)
    assert code == 0, said
    assert "PointGoal1" in (tmp_path / "out" / "results.csv").read_text()
    assert list((tmp_path / "out" / "paper").glob("*1*.md"))
