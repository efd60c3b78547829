"""A baseline through the entry points as a user starts them: two training steps."""

import pytest

from experiments.benchmarks import model_cases
from sas_jax import learners
from sas_jax.files import results
from tests.helpers.entry_points import run, succeeds


@pytest.mark.slow
def test_bc_is_trained_and_evaluated_and_its_rows_are_added_to(tmp_path):
    """Two thresholds, one after the other; then settings that are not its own."""
    model, out = tmp_path / "bc_safe", tmp_path / "r.csv"
    data = tmp_path / "data.hdf5"
    model_cases.write_episodes(data, learners.default_config("PointGoal1", "bc"), 3)
    done = succeeds(
        "train",
        f"--data={data}",
        "--algo=bc_safe",
        f"--workdir={model}",
        "--set=model.hidden=8",
        "--set=train.num_steps=2",
        "--set=train.chunk=1",
        "--set=train.checkpoint_every=1",
        "--set=train.cost_limits=5000,6000",
    )
    assert "step 2;" in done
    flags = (f"--checkpoint={model}", "--episodes=2", "--workers=1", f"--out={out}")
    done = succeeds("evaluate", *flags, "--cost_limits=5000")
    assert "2 rows in" in done
    done = succeeds("evaluate", *flags, "--cost_limits=5000,6000")
    assert "4 rows in" in done
    rows = results.read_results(out)
    assert {(r.algo, r.variant, r.cost_limit) for r in rows} == {
        ("bc_safe", "none", 5000.0),
        ("bc_safe", "none", 6000.0),
    }
    assert "--cost_limits=5000,6000" in out.with_suffix(".json").read_text()
    for more, said in (
        ("--seed=1", "holds rows of other settings (first difference: seed)"),
        ("--variants=sas", "this policy has 'none' only"),
        ("--cost_limits=7", "cost_limits: 7; the checkpoint was trained for"),
        ("--set=sas.num_first=3", "algo 'bc_safe' has no such settings"),
    ):
        other = run("evaluate", *flags, "--cost_limits=5000", more)
        assert other.returncode == 2 and said in other.stderr, other.stderr
        assert other.stderr.strip().count("\n") == 0
    assert results.read_results(out) == rows
