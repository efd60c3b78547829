"""What a user sees who starts an entry point with bad input."""

import subprocess
import sys

import pytest

from tests.helpers.entry_points import ROOT, run


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, flags, culprit",
    [
        ("collect", ["--task=PointGaol1"], "did you mean 'PointGoal1'"),
        ("collect", ["--workers=0"], "workers"),
        ("train", ["--nosuchflag=1"], "nosuchflag"),
        ("train", ["--workdir=x", "--data=/dev/null"], "/dev/null"),
        ("evaluate", ["--checkpoint=/no/such/run"], "/no/such/run"),
        ("evaluate", ["stray"], "stray"),
        ("demo", ["--set=train.num_stpes=5"], "did you mean 'num_steps'"),
        ("demo", ["--variants=sass"], "did you mean 'sas'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(name, flags, culprit, tmp_path):
    done = run(name, *flags, *([f"--out={tmp_path}/x"] if name == "demo" else []))
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == 2, done.stderr[-2000:]
    assert len(lines) == 1 and culprit in lines[0]
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_process_of_its_own_says_the_same():
    flags = ["-m", "experiments.train", "--nosuchflag=1"]
    done = subprocess.run([sys.executable, *flags], cwd=ROOT, capture_output=True)
    forked = run("train", "--nosuchflag=1")
    assert done.returncode == forked.returncode == 2
    assert done.stderr.decode() == forked.stderr
    assert done.stdout.decode() == forked.stdout == ""
