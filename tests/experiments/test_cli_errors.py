"""What a user sees who starts an entry point with bad input."""

import pytest

from tests.experiments.test_cli import run


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
