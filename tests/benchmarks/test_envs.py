"""The environment benchmark runs and writes what it measured."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(*flags):
    return subprocess.run(
        [sys.executable, "-m", "experiments.benchmarks.envs", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_two_steps(tmp_path):
    out = tmp_path / "deep" / "envs.json"
    done = run(
        "--tasks=PointCircle1",
        "--vector_tasks=PointCircle1",
        "--steps=2",
        "--repeats=1",
        "--workers=1",
        "--num_envs=2",
        f"--out={out}",
    )
    assert done.returncode == 0, done.stderr
    assert "PointCircle1" in done.stdout
    written = json.loads(out.read_text())
    (row,) = written["single"]
    assert 0 < row["physics"]["median"] and row["plain"]["n"] == 1
    assert row["speedup"] == row["plain"]["median"] / row["lean"]["median"]
    assert written["vector"][0]["workers"] == 1
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.slow
def test_bad_flags_are_one_line():
    for flag, culprit in [
        ("--tasks=PointGaol1", "PointGoal1"),
        ("--tasks=AntRun", "navigation"),
        ("--workers=0", "--workers"),
        ("--steps=0", "--steps"),
    ]:
        done = run(flag)
        assert done.returncode == 2
        assert culprit in done.stderr and done.stderr.count("\n") == 1
