"""A sweep around an engine that trains nothing."""

import os
import sys
from pathlib import Path

import pytest

from sas_jax.errors import UserError
from sas_jax.files.results import read_results, write_results
from sas_jax.sweeps import pages, run_cell
from sas_jax.sweeps.engines import Resources, get, local
from sas_jax.sweeps.estimate import Rates, estimate
from sas_jax.sweeps.sweep import Sweep
from tests.helpers.sweep_cells import FakeEngine, cells, rows_of


def swept(folder, engine, found=None, table=None):
    sweep = Sweep(found or cells(), folder, table, command="typed")
    sweep.look()
    with sweep.alone():
        sweep.take_up()
        sweep.look()
        sweep.run(engine, Resources())
    return sweep


def test_all_cells_end_in_one_table_and_are_skipped_then(tmp_path):
    engine = FakeEngine()
    sweep = swept(tmp_path, engine)
    assert [s.state for s in sweep.standings] == ["done"] * 4
    assert len(read_results(tmp_path / "results.csv")) == 8
    again = swept(tmp_path, engine)
    assert engine.asked == [] and all(s.was_done for s in again.standings)


def test_a_table_is_enough_to_skip_its_cells_elsewhere(tmp_path):
    engine, table = FakeEngine(), tmp_path / "kept" / "table.csv"
    swept(tmp_path / "here", engine, cells(seeds=[0]), table)
    swept(tmp_path / "there", engine, cells(), table)
    assert [job.cell.seed for job in engine.asked] == [1, 1]
    assert len(read_results(table)) == 8


@pytest.mark.slow
def test_a_cell_that_fails_stops_no_other_and_is_tried_again(tmp_path):
    engine = FakeEngine(failing=[("CarGoal1", "bc", 0)])
    sweep = swept(tmp_path, engine)
    assert [s.state for s in sweep.standings] == ["done", "failed", "done", "done"]
    assert sweep.standings[1].error == "no luck"
    page = pages.write(sweep, "typed").read_text()
    assert "3 done, 1 failed" in page and "no luck" in page
    engine.failing = ()
    sweep = swept(tmp_path, engine)
    assert [job.cell.place for job in engine.asked] == [("CarGoal1", "bc", 0)]
    assert all(s.state == "done" for s in sweep.standings)


def test_rows_that_a_killed_sweep_left_come_into_the_table(tmp_path):
    sweep = Sweep(cells(), tmp_path)
    first = sweep.standings[0]
    rows = rows_of(first.cell, first.name)
    write_results(sweep.path_of(first) / run_cell.ROWS, rows)
    engine = FakeEngine()
    swept(tmp_path, engine)
    assert first.cell.place not in [job.cell.place for job in engine.asked]
    assert len(read_results(tmp_path / "results.csv")) == 8


def test_damaged_rows_of_a_cell_fail_that_cell(tmp_path):
    sweep = Sweep(cells(), tmp_path)
    folder = sweep.path_of(sweep.standings[0])
    folder.mkdir(parents=True)
    (folder / run_cell.ROWS).write_text("task,algo\nx\n")
    sweep = swept(tmp_path, FakeEngine())
    assert [s.state for s in sweep.standings] == ["failed", "done", "done", "done"]
    assert str(folder / run_cell.ROWS) in sweep.standings[0].error


def test_an_engine_that_forgets_rows_is_found_out(tmp_path):
    def forgetful(jobs, resources):
        yield from (get_ended(i) for i in range(len(jobs)))

    def get_ended(index):
        from sas_jax.sweeps.engines import Ended

        return Ended(index, "")

    sweep = swept(tmp_path, forgetful)
    assert all("without all of its rows" in s.error for s in sweep.standings)


def test_what_an_interrupted_cell_has_done_is_kept(tmp_path):
    class Stopped(Exception):
        pass

    def stops(jobs, resources):
        row = rows_of(jobs[0].cell, jobs[0].name)[:1]
        write_results(Path(jobs[0].folder) / run_cell.ROWS, row)
        yield None
        raise Stopped

    with pytest.raises(Stopped):
        swept(tmp_path, stops)
    assert len(read_results(tmp_path / "results.csv")) == 1


def test_two_sweeps_share_neither_folder_nor_table(tmp_path):
    table = tmp_path / "kept" / "table.csv"
    with Sweep(cells(), tmp_path / "a", table).alone():
        for place in ((tmp_path / "a",), (tmp_path / "b", table)):
            with pytest.raises(UserError, match="is going on there already"):
                with Sweep(cells(), *place).alone():
                    pass
    with Sweep(cells(), tmp_path / "b", table).alone():
        pass


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    sweep = Sweep(cells(), tmp_path / "file" / "sweep", tmp_path / "t.csv")
    with pytest.raises(UserError, match="can be written"):
        with sweep.alone():
            pass


def test_the_plan_shows_what_is_left_and_its_time_by_measured_rates(tmp_path):
    swept(tmp_path, FakeEngine(), cells(seeds=[0]))
    sweep = Sweep(cells(layouts=4), tmp_path)
    sweep.look()
    rates = Rates(sweep.table.records.values())
    cell = sweep.standings[0].cell
    rows = sweep.table.rows_of(sweep.standings[0].name)
    # Ten seconds for two layouts, and two more are missing.
    left = estimate(cell, rates, rows, has_data=True, has_model=True)
    assert left.seconds == {"evaluate": 10.0} and left.rows == 2
    unknown = estimate(cell, rates, rows, has_data=True, has_model=False)
    assert unknown.seconds["train"] is None and unknown.total is None
    text = pages.plan_table(sweep, rates, Resources(cells=2), "local").text()
    assert "PointGoal1/bc/1" in text and "4 cells to do" in text


@pytest.mark.parametrize(
    ("cores", "cells_", "expected"),
    [
        (0, 0, [[0], [1], [2], [3]]),
        (2, 0, [[0, 1], [2, 3]]),
        (0, 2, [[0, 1], [2, 3]]),
        (1, 2, [[0], [1]]),
        (3, 0, [[0, 1, 2]]),
        (9, 0, [[0, 1, 2, 3]]),
    ],
)
def test_cells_have_cores_of_their_own(cores, cells_, expected):
    found = local.places_of(range(4), Resources(cores=cores, cells=cells_))
    assert found == expected


def test_an_unknown_engine_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'local'"):
        get("locale")


@pytest.mark.parametrize(("name", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_an_engine_without_its_package_names_the_extra(
    name, package, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, package, None)
    sweep = Sweep(cells(), tmp_path)
    with pytest.raises(UserError, match=f"\\[{name}\\]"):
        sweep.run(get(name), Resources())


def test_a_process_that_dies_says_how(tmp_path, monkeypatch):
    sweep = Sweep(cells(), tmp_path)
    job = sweep._job(sweep.standings[0])
    dies = tmp_path / "dies"
    dies.write_text("#!/bin/sh\nkill -9 $$\n")
    os.chmod(dies, 0o755)
    monkeypatch.setattr(local.sys, "executable", str(dies))
    events = [e for e in local.run([job], Resources()) if e]
    assert len(events) == 1 and "SIGKILL" in events[0].error
