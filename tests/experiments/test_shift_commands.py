"""Changed worlds through the entry points: levels, the worst one, the bandit."""

import pytest

from sas_jax.files import results
from tests.helpers import small_flags
from tests.helpers.entry_points import run, succeeds

SMALL = (*small_flags.MODEL, *small_flags.PLAN, *small_flags.TRAINING)
TASK = "jax:tests.helpers.tiny_jax:make,limits=1/2"


@pytest.mark.slow
def test_worlds_by_level_the_worst_of_a_box_and_the_bandit(tmp_path):
    """The data are recorded, and the policy evaluated, on the device as well."""
    data, workdir, out = tmp_path / "d.hdf5", tmp_path / "run", tmp_path / "s.csv"
    policy = "--policy=tests.helpers.tiny_jax:leaning"
    said = succeeds(
        "collect", f"--task={TASK}", "--episodes=20", policy, "--on_device=8",
        f"--out={data}",
    )  # fmt: skip
    assert "20 episodes" in said
    succeeds("train", f"--data={data}", f"--workdir={workdir}", "--nocard", *SMALL)
    here = succeeds(
        "evaluate", f"--checkpoint={workdir}", "--variants=none,plan", "--episodes=6",
        "--on_device=4", f"--out={tmp_path / 'e.csv'}",
    )  # fmt: skip
    assert "24 rows" in here
    flags = (
        f"--checkpoint={workdir}", "--variants=none,plan", "--episodes=4",
        "--axis=delay:1/2", "--axis=obs_noise:0.5", "--worst=delay:0/3,obs_noise:0/1",
        "--tries=3", "--search_episodes=3", "--workers=1", "--cost_limit=1",
        f"--out={out}",
    )  # fmt: skip
    said = succeeds("shifts", *flags)
    rows = results.read_results(out)
    assert {"", "delay:1", "delay:2", "obs_noise:0.5"} <= {row.shift for row in rows}
    assert "PointGoal" not in said and "the worst of" in said
    assert (tmp_path / "s.png").stat().st_size > 5000
    assert succeeds("shifts", *flags).splitlines()[-1] == f"{len(rows)} rows in {out}"
    said = succeeds("bandit", f"--results={out}", "--cost_limit=1", "--rounds=50")
    assert "turns" in said and "worst" in said
    wrong = run("shifts", f"--checkpoint={workdir}", "--axis=friction:0.5")
    assert wrong.returncode == 2 and "tiny_jax" in wrong.stderr
    same = run("shifts", *flags[:-1], "--search_seed=1000003")
    assert same.returncode == 2 and "its 3 layouts are partly those of" in same.stderr
    none = run("shifts", f"--checkpoint={workdir}")
    assert none.returncode == 2 and "--axis, --worst" in none.stderr
