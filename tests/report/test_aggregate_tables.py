"""Tables over tasks and of tails, on rows whose numbers are known."""

import dataclasses

import numpy as np
import pytest

from sas_jax.errors import UserError
from sas_jax.report import aggregate_tables
from sas_jax.report.frontier_figure import frontier_figure, kappa_figure
from sas_jax.report.profile_figure import profile_figure
from tests.helpers.sweep_cells import cells, rows_of


def some_rows():
    """Two tasks, two training seeds, four layouts: "sas" costs less on all of them."""
    plan = {"methods": [{"algo": "dt"}], "variants": ["none", "sas"], "layouts": 4}
    rows = []
    for cell in cells(**plan):
        for row in rows_of(cell, cell.id):
            cost = 10.0 * (row.episode_seed % 4) + (
                20.0 if row.variant == "none" else 0
            )
            scaled = cost / row.cost_limit
            rows.append(dataclasses.replace(row, cost=cost, normalized_cost=scaled))
    return rows


def line(table, start):
    return next(row for row in table.rows if row[0].startswith(start))


def test_runs_are_gathered_by_task():
    rows = [row for row in some_rows() if row.variant == "sas"]
    found = aggregate_tables.scores_of(rows, "cost")
    assert {k: v.shape for k, v in found.items()} == {
        "CarGoal1": (2, 4),
        "PointGoal1": (2, 4),
    }
    np.testing.assert_array_equal(found["CarGoal1"][0], [0.0, 10.0, 20.0, 30.0])
    # A layout that one training seed lacks counts for none.
    fewer = aggregate_tables.scores_of(rows[1:], "cost")
    assert fewer[rows[0].task].shape == (2, 3)


def test_the_better_variant_is_better_on_every_run():
    table = aggregate_tables.aggregate_table(some_rows())
    sas, none = line(table, "dt, sas"), line(table, "dt, none")
    assert sas[2:4] == ("2", "4") and none[-2:] == ("", "")
    assert sas[5].startswith("0.75 [") and none[5].startswith("1.75 [")
    assert sas[-1] == "1.00 [1.00, 1.00]" and sas[-2] == "0.50 [0.50, 0.50]"


def test_the_tail_is_the_worst_episodes():
    table = aggregate_tables.tail_table(some_rows())
    found = line(table, "PointGoal1, dt, sas")
    assert found[3].startswith("15.0 [") and found[4].startswith("30.0 [")
    # Three of four cost something as the rows say it; one is above the 20.
    assert found[6] == "1.500" and found[7].startswith("0.25 [")


def test_a_constant_difference_needs_no_layouts():
    table = aggregate_tables.power_table(some_rows())
    assert line(table, "CarGoal1, dt, sas")[2:] == ("4", "0.0", "-")
    uneven = [
        dataclasses.replace(row, cost=row.cost + row.episode_seed % 2 * 10.0)
        if row.variant == "sas"
        else row
        for row in some_rows()
    ]
    found = line(aggregate_tables.power_table(uneven), "CarGoal1, dt, sas")
    # Differences of -20 and -10 on two layouts each: sd 5.77, so (2.8 x 1.155)^2.
    assert found[3:] == ("5.8", "11")


def test_profiles_are_drawn_for_one_threshold(tmp_path):
    path = profile_figure(tmp_path / "profiles.png", some_rows(), title="x")
    assert path.read_bytes()[1:4] == b"PNG"
    other = [dataclasses.replace(row, cost_limit=40.0) for row in some_rows()]
    with pytest.raises(UserError, match="one threshold"):
        profile_figure(path, some_rows() + other)


@pytest.mark.slow
def test_a_figure_is_the_same_file_twice(tmp_path):
    rows = some_rows()[:16]
    rows += [dataclasses.replace(row, cost_limit=40.0) for row in rows]
    one, two = (kappa_figure(tmp_path / f"{n}.pdf", rows).read_bytes() for n in "ab")
    assert one[:4] == b"%PDF" and one == two
    assert frontier_figure(tmp_path / "c.pdf", rows).read_bytes() != one
    with pytest.raises(UserError, match="no result rows"):
        kappa_figure(tmp_path / "d.png", [])
