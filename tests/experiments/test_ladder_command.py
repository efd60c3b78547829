"""The ladder's command: rows of every seed of every rung, one line for bad input."""

import csv

import pytest

from tests.helpers.entry_points import run, succeeds


@pytest.mark.slow
def test_rungs_write_rows_of_all_seeds(tmp_path):
    out = tmp_path / "new" / "ladder.csv"
    said = succeeds(
        "ladder",
        "--algos=sac,sac_alam,dcrl",
        "--seeds=2",
        "--updates=40",
        "--chunk=20",
        "--set=model.hidden=8",
        "--set=model.start_steps=200",
        "--set=model.capacity=1000",
        f"--out={out}",
    )
    assert f"6 rows in {out}" in said
    rows = list(csv.DictReader(out.open()))
    seeds = [(row["algo"], row["seed"]) for row in rows]
    assert seeds == [(a, s) for a in ("sac", "sac_alam", "dcrl") for s in "01"]
    # What prices foretell is told where states have prices of their own.
    assert all(0 <= float(row["auc_multiplier_20"]) <= 1 for row in rows[2:4])
    assert not any(row["auc_multiplier_20"] for row in rows[:2] + rows[4:])
    returns = {row["late_return"] for row in rows if row["algo"] == "sac"}
    assert len(returns) == 2, "two seeds lived the same life"


def test_bad_flags_are_one_line(tmp_path):
    for flag, said in (
        ("--algos=sack", "unknown 'sack'; expected some of sac, stac"),
        ("--set=model.penalti=2", "did you mean"),
    ):
        done = run("ladder", "--algos=sac", flag, f"--out={tmp_path / 'l.csv'}")
        assert done.returncode == 2 and said in done.stderr, done.stderr
        assert done.stderr.strip().count("\n") == 0
    assert not list(tmp_path.iterdir())
