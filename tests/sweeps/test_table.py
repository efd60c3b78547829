"""The table: cells by their settings, rows of one checkpoint, nothing twice."""

import dataclasses
import json

import pytest

from sas_jax.errors import UserError
from sas_jax.files.results import read_results
from sas_jax.sweeps.table import SweepTable
from tests.helpers.sweep_cells import cells, rows_of


def filled(path, **values):
    """A table with the rows of the first cell, and that cell."""
    cell = cells(**values)[0]
    table = SweepTable(path, "a command")
    name = table.id_of(cell)
    table.note(cell, name, {"checkpoint": "aa", "measured": {"train": 1}})
    table.absorb(name, rows_of(cell, name), final=True)
    return table, cell, name


def test_what_was_put_in_is_read_back(tmp_path):
    table, cell, name = filled(tmp_path / "t.csv")
    again = SweepTable(tmp_path / "t.csv")
    assert again.rows == table.rows == read_results(tmp_path / "t.csv")
    assert again.id_of(cell) == name and cell.has_all(again.rows_of(name))
    assert again.records[name]["measured"] == {"train": 1}
    assert json.loads((tmp_path / "t.json").read_text())["commands"] == ["a command"]


def test_nothing_is_there_twice(tmp_path):
    table, cell, name = filled(tmp_path / "t.csv")
    more = cells(layouts=5)[0]
    for _ in range(2):
        table.absorb(name, rows_of(more, name), final=True)
    assert len(table.rows) == 5
    assert len(read_results(tmp_path / "t.csv")) == 5


def test_fewer_rows_of_the_same_checkpoint_take_nothing_away(tmp_path):
    table, cell, name = filled(tmp_path / "t.csv", layouts=5)
    table.absorb(name, rows_of(cells(layouts=1)[0], name), final=True)
    assert len(table.rows) == 5


def test_rows_of_another_checkpoint_wait_until_they_are_all(tmp_path):
    table, cell, name = filled(tmp_path / "t.csv", layouts=3)
    new = rows_of(cell, name, "bb", cost=9.0)
    assert table.absorb(name, new[:2], final=False) == 0
    assert {row.cost for row in table.rows} == {1.0}
    assert table.absorb(name, new, final=False) == 3
    assert {row.cost for row in table.rows} == {9.0} and len(table.rows) == 3


def test_one_cell_never_has_rows_of_two_checkpoints(tmp_path):
    table, cell, name = filled(tmp_path / "t.csv", layouts=3)
    mixed = rows_of(cell, name, "bb")[:1] + rows_of(cell, name, "cc")[1:]
    with pytest.raises(UserError, match="2 checkpoints"):
        table.absorb(name, mixed, final=True)


def test_other_settings_in_a_cells_place_are_named(tmp_path):
    table, _, _ = filled(tmp_path / "t.csv")
    other = cells(methods=[{"algo": "bc", "settings": {"train.warmup": 7}}])[0]
    with pytest.raises(UserError, match="experiment.train.warmup"):
        table.id_of(other)
    renamed = dataclasses.replace(other, name="warm")
    assert table.id_of(renamed) == renamed.id


def test_settings_that_came_later_leave_a_cell_its_name(tmp_path):
    table, cell, name = filled(tmp_path / "t.csv")
    del table.records[name]["description"]["experiment"]["train"]["stop_on"]
    table.save()
    assert SweepTable(tmp_path / "t.csv").id_of(cell) == name


@pytest.mark.parametrize("damage", ["json", "row", "cell"])
def test_a_damaged_table_is_refused_in_one_line(tmp_path, damage):
    filled(tmp_path / "t.csv")
    csv, beside = tmp_path / "t.csv", tmp_path / "t.json"
    text = csv.read_text()
    if damage == "json":
        beside.write_text("{")
    elif damage == "row":
        csv.write_text(text + "PointGoal1,bc,none,twenty\n")
    else:
        csv.write_text(text.replace(",aa", ",aa").replace(cells()[0].id, "0" * 12))
    words = {"json": "t.json", "row": "line 4", "cell": "names no cell"}
    with pytest.raises(UserError, match=words[damage]) as problem:
        SweepTable(csv)
    assert "\n" not in str(problem.value)
