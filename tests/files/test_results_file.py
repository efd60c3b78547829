"""A results table that grows, and the settings beside it."""

import dataclasses
import json

import pytest

from sas_jax.errors import UserError
from sas_jax.files.results import read_results, write_results
from sas_jax.files.results_file import ResultsFile
from tests.helpers.report_samples import results_of


def make_rows():
    """Three rows of one layout."""
    return results_of({"none": (0.0, 1.0)}, layouts=1)


SETTINGS = {"experiment": {"sas": {"horizon": 100}, "widths": (1, 2)}, "critic": None}


def opened(path, settings=None, command="python -m x", **options):
    return ResultsFile(path, settings or SETTINGS, command, **options)


def test_rows_come_back_with_their_settings_and_commands(tmp_path):
    path, rows = tmp_path / "new" / "r.csv", make_rows()
    first = opened(path)
    assert first.rows == []
    first.write(rows[:2])
    again = opened(path, command="python -m x --more")
    assert list(map(repr, again.rows)) == list(map(repr, rows[:2]))
    again.write(rows)
    assert list(map(repr, read_results(path))) == list(map(repr, rows))
    saved = json.loads((tmp_path / "new" / "r.json").read_text())
    assert saved["commands"] == ["python -m x", "python -m x --more"]
    assert saved["settings"]["experiment"]["sas"]["horizon"] == 100


def test_other_settings_are_refused_and_nothing_is_lost(tmp_path):
    path = tmp_path / "r.csv"
    opened(path).write(make_rows())
    before = path.read_bytes()
    other = {"experiment": {"sas": {"horizon": 50}, "widths": (1, 2)}, "critic": None}
    with pytest.raises(UserError) as error:
        opened(path, other)
    said = str(error.value)
    assert "first difference: experiment.sas.horizon" in said and "\n" not in said
    assert "expected another file" in said and path.read_bytes() == before


def test_a_setting_that_says_nothing_is_open(tmp_path):
    path, rows = tmp_path / "r.csv", make_rows()
    opened(path, optional=("critic",)).write(rows)
    opened(path, SETTINGS | {"critic": "a"}, optional=("critic",)).write(rows)
    opened(path, optional=("critic",)).write(rows)
    assert json.loads((tmp_path / "r.json").read_text())["settings"]["critic"] == "a"
    with pytest.raises(UserError, match="first difference: critic"):
        opened(path, SETTINGS | {"critic": "b"}, optional=("critic",))


@pytest.mark.parametrize("content", [None, "{", "[]", '{"settings": {}}'])
def test_rows_of_unknown_settings_are_not_written_over(tmp_path, content):
    path = write_results(tmp_path / "r.csv", make_rows())
    if content is not None:
        (tmp_path / "r.json").write_text(content)
    with pytest.raises(UserError, match="what its rows were made with is not known"):
        opened(path)


def test_places_that_cannot_be_written_are_told_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        opened(tmp_path / "file" / "r.csv")
    with pytest.raises(UserError, match="expected the ending .csv"):
        opened(tmp_path / "r.json")


def test_rows_survive_a_write_that_fails(tmp_path):
    path, rows = tmp_path / "r.csv", make_rows()
    file = opened(path)
    file.write(rows[:2])
    bad = dataclasses.replace(rows[2], episode_return=float("nan"))
    with pytest.raises(UserError):
        file.write([*rows[:2], bad])
    assert len(file.rows) == len(opened(path).rows) == 2
