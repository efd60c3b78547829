"""The entry point: bad input is one line, and one command ends with its files."""

from pathlib import Path

import pytest

from tests.helpers.entry_points import run

ROOT = Path(__file__).resolve().parents[2]


def test_missing_data_is_one_line():
    done = run("reproduce", "--figure=bound", "--checkpoint=nowhere")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: --data is missing")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--figure=signal", "--checkpoint=x"], "did you mean 'signals'"),
        (["--figure=signals"], "--checkpoint"),
        (["--figure=signals", "--checkpoint=x", "--repeats=1"], "--repeats: 1"),
        (["--figure=signals", "--checkpoint=x", "--num_first=0,1"], "--num_first"),
        (["--figure=signals", "--checkpoint=nowhere"], "nowhere"),
    ],
)
def test_bad_flags_are_one_line(flags, words):
    done = run("reproduce", *flags)
    assert done.returncode == 2 and words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
