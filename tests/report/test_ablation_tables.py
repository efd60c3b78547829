"""Ablations from a sweep's cells, and the tables of data and settings."""

import dataclasses

import numpy as np
import pytest

from sas_jax.data.episodes import Episodes
from sas_jax.errors import UserError
from sas_jax.report.ablation_tables import ABLATIONS, ablation_table
from sas_jax.report.paper_facts import data_table, settings_table
from tests.helpers.sweep_cells import cells, rows_of

METHODS = [
    {"algo": "dt"},
    {"algo": "dt", "name": "n100", "acting": {"sas.num_first": 100}},
    {"algo": "dt", "name": "long", "acting": {"sas.prompt_length": 10}},
    {"algo": "dt", "name": "wide", "settings": {"model.decoder.width": 256}},
]


def swept():
    """Rows and records: with 100 trajectories every episode costs 4 more."""
    rows, records = [], {}
    for cell in cells(tasks=["PointGoal1"], methods=METHODS, variants=["none", "sas"]):
        more = 4.0 if cell.name == "n100" else 0.0
        for row in rows_of(cell, cell.id):
            cost = row.episode_seed % 2 + more
            rows.append(dataclasses.replace(row, normalized_cost=cost / 20))
        place = list(cell.place)
        records[cell.id] = {"place": place, "description": cell.description()}
    return rows, records


def test_cells_that_differ_in_the_setting_alone_are_compared():
    table = ablation_table("C1", *swept())
    assert [line[:4] for line in table.rows] == [
        ("PointGoal1, dt", "5, 5", "2", "2"),
        ("PointGoal1, n100", "100, 5", "2", "2"),
    ]
    assert table.rows[0][-1] == "" and table.rows[1][-1] == "+0.20 [+0.20, +0.20]"


@pytest.mark.parametrize(
    ("name", "values"), [("C3", ["5", "10"]), ("C5", ["128, 3", "256, 3"])]
)
def test_settings_of_acting_and_of_training_are_found_alike(name, values):
    assert sorted(line[1] for line in ablation_table(name, *swept()).rows) == sorted(
        values
    )


def test_what_was_not_run_says_so():
    for name in ("C2", "C4"):
        assert ablation_table(name, *swept()).rows[0][:2] == ("all", "not run")
    assert set(ABLATIONS) == {"C1", "C2", "C3", "C4", "C5"}
    with pytest.raises(UserError, match="expected one of C1"):
        ablation_table("C6", *swept())


def test_settings_stand_beside_the_papers():
    table = settings_table(swept()[1])
    assert table.header[1:] == ("DT, paper", "CDT, paper", "dt", "n100", "long", "wide")
    width = next(line for line in table.rows if line[0] == "embedding dimension")
    assert width[1:] == ("128", "128", "128", "128", "128", "256")
    assert settings_table({}).rows[0][-1] == "not run"


def test_data_stand_beside_the_papers():
    task, steps = "PointGoal1", np.zeros((5, 60), np.float32)
    data = Episodes(
        task=task,
        observations=steps,
        actions=steps[:, :2],
        rewards=steps[:, 0],
        costs=np.float32([1, 1, 0, 1, 0]),
        offsets=np.array([0, 3, 5]),
        final_observations=steps[:2],
        terminated=np.zeros(2, bool),
    )
    table = data_table([data])
    assert table.rows[0] == (task, "1000", "2", "60", "100", "2", "2022", "2")
    assert table.rows[1][-1] == "not run" and len(table.rows) == 12
