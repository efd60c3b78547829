"""--data says the task: a contradiction is one line at every entry point."""

import pytest

from sas_jax.data import dsrl
from sas_jax.files import results
from tests.data.test_row_order import shuffled
from tests.helpers.dsrl_samples import as_dsrl, make, save
from tests.helpers.entry_points import run
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


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What every entry point says to data of PointGoal2, and to shuffled rows."""
    folder = tmp_path_factory.mktemp("data_flag")
    save(folder / "two.hdf5", as_dsrl(make()), task="PointGoal2")
    save(folder / "odd.hdf5", shuffled(as_dsrl(make(lengths=(25, 25)))))
    results.write_results(folder / "r.csv", [make_row()])
    answers = {}
    for name, (flags, _) in CALLS.items():
        for data in ("two", "odd"):
            given = (f"--data={data}.hdf5", *flags)
            done = run(name, *given, cwd=folder, any_checkpoint=True)
            answers[name, data] = done.returncode, done.stderr
    assert not (folder / "w").exists()
    return answers


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
