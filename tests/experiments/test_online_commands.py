"""Learning while acting through the entry points: trained, resumed, evaluated."""

import pytest

from sas_jax.files import results
from tests.helpers.entry_points import run, succeeds

SMALL = (
    "--set=model.hidden=8",
    "--set=model.num_envs=4",
    "--set=model.start_steps=64",
    "--set=model.capacity=512",
    "--set=model.block_steps=4",
    "--set=train.batch_rows=16",
    "--set=train.chunk=20",
    "--set=train.checkpoint_every=20",
)


@pytest.mark.slow
def test_an_agent_that_learnt_in_jax_is_evaluated_in_workers(tmp_path):
    workdir, out = tmp_path / "alam", tmp_path / "r.csv"
    flags = ("--task=PlanePointGoal", "--algo=sac_alam", f"--workdir={workdir}")
    said = succeeds("train", *flags, *SMALL, "--set=train.num_steps=20")
    assert "step 20;" in said
    said = succeeds("train", *flags, *SMALL, "--set=train.num_steps=40")
    assert "step 40;" in said
    evaluation = (f"--checkpoint={workdir}", "--episodes=2", f"--out={out}")
    said = succeeds("evaluate", *evaluation, "--workers=1", "--cost_limits=20")
    rows = results.read_results(out)
    assert {(r.algo, r.variant, r.task) for r in rows} == {
        ("sac_alam", "none", "PlanePointGoal")
    }
    assert len(rows) == 2 and rows[0].episode_return != rows[1].episode_return
    refused = run("evaluate", *evaluation, "--variants=sas")
    assert refused.returncode == 2 and "'none' only" in refused.stderr
