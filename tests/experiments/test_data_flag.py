"""--data says the task: a contradiction is one line at every entry point."""

import json
import subprocess
import sys

import pytest

from sas_jax.data import dsrl
from sas_jax.files import results
from tests.data.test_row_order import shuffled
from tests.experiments.test_cli import ROOT
from tests.helpers.dsrl_samples import as_dsrl, make, save
from tests.helpers.report_samples import make_row

OTHER = "expected data of PointGoal1, but these are of PointGoal2 by its attribute"
CALLS = {
    "train": (("--workdir=w", "--task=PointGoal1"), OTHER),
    "inspect": (("--task=PointGoal1",), OTHER),
    "card": (("--checkpoint=c",), OTHER),
    "critic": (("--checkpoint=c",), OTHER),
    "ceiling": (("--checkpoint=c",), OTHER),
    "plot": (
        ("--results=r.csv",),
        "data of PointGoal2; expected a task of the results",
    ),
}


def start_all(calls, folder):
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.entry_points", json.dumps(calls)],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What every entry point says to data of PointGoal2, and to shuffled rows."""
    folder = tmp_path_factory.mktemp("data_flag")
    save(folder / "two.hdf5", as_dsrl(make()), task="PointGoal2")
    save(folder / "odd.hdf5", shuffled(as_dsrl(make(lengths=(25, 25)))))
    results.write_results(folder / "r.csv", [make_row()])
    calls = [[name, ["--data=two.hdf5", *flags]] for name, (flags, _) in CALLS.items()]
    calls += [[name, ["--data=odd.hdf5", *flags]] for name, (flags, _) in CALLS.items()]
    answers = start_all(calls, folder)
    assert not (folder / "w").exists()
    names = [(name, "two") for name in CALLS] + [(name, "odd") for name in CALLS]
    return dict(zip(names, answers, strict=True))


@pytest.mark.parametrize("name", CALLS)
def test_data_of_another_task(said, name):
    status, text = said[name, "two"]
    errors = [line for line in text.splitlines() if line.startswith("error:")]
    assert status == 2 and len(errors) == 1, text
    assert CALLS[name][1] in errors[0] and "two.hdf5" in errors[0]


@pytest.mark.parametrize("name", CALLS)
def test_rows_out_of_order(said, name):
    status, text = said[name, "odd"]
    assert status == 2 and "steps inside episodes" in text.splitlines()[-1], text
    assert "Traceback" not in text and "allow_breaks" in text
    assert dsrl.RowOrderWarning.__name__ not in text
