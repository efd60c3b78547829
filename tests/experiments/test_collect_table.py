"""The table of what behaviours reach: small, resumed, and refused in one line."""

import csv
import pathlib
import subprocess
import sys

import pytest

from sas_jax.data import dsrl

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(*flags):
    return subprocess.run(
        [sys.executable, "-m", "experiments.collect_table", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_table_of_two_tasks(tmp_path):
    out, data = tmp_path / "deep/table.csv", tmp_path / "data"
    flags = [f"--out={out}", f"--data={data}", "--episodes=1", "--workers=1"]
    done = run("--tasks=PointCircle1,CarCircle2", *flags)
    assert done.returncode == 0, done.stderr
    first, *rest = out.read_text().splitlines()
    assert first.startswith("# python -m experiments.collect_table --episodes=1 ")
    point, car = csv.DictReader(rest)
    assert (point["task"], car["task"]) == ("PointCircle1", "CarCircle2")
    episodes = dsrl.load(data / "PointCircle1.hdf5")
    (value,), (cost,) = episodes.returns(), episodes.cost_returns()
    for name in ("return_min", "return_mean", "return_max"):
        assert point[name] == f"{value:.2f}"
    assert point["cost_max"] == f"{cost:.2f}"
    assert point["dsrl_return_max"] == "61.73" and point["safe_limit"] == "20"
    assert int(point["safe_episodes"]) == (cost <= 20)
    assert (point["safe_return_max"] == "") == (cost > 20)

    # What is recorded is not recorded again, and the table is the same.
    before, text = (data / "PointCircle1.hdf5").stat(), out.read_text()
    assert run("--tasks=PointCircle1,CarCircle2", *flags).returncode == 0
    assert (data / "PointCircle1.hdf5").stat() == before and out.read_text() == text


@pytest.mark.slow
def test_bad_flags_are_one_line(tmp_path):
    for flag, culprit in [
        ("--tasks=PointGaol1", "PointGoal1"),
        ("--tasks=AntRun", "no scripted behaviour"),
        ("--tasks=", "--tasks is empty"),
        ("--episodes=0", "episodes 0"),
        ("--workers=0", "workers 0"),
    ]:
        done = run(flag, f"--data={tmp_path}/data", f"--out={tmp_path}/a.csv")
        assert done.returncode == 2, flag
        lines = [line for line in done.stderr.splitlines() if "error:" in line]
        assert len(lines) == 1 and culprit in lines[0], done.stderr
    assert not (tmp_path / "a.csv").exists()
