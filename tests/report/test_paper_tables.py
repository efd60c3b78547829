"""Ours beside the paper's: its numbers, the right rows, and what was not run."""

import dataclasses

import pytest

from sas_jax.errors import UserError
from sas_jax.report.latex import as_csv, latex
from sas_jax.report.paper_tables import METHODS, TITLES, paper_table, published
from sas_jax.report.tables import Table
from tests.helpers.sweep_cells import cells, rows_of


def rows():
    """DT on PointGoal1 under two variants, two training seeds, two layouts."""
    plan = {"methods": [{"algo": "dt"}], "variants": ["none", "sas"]}
    found = []
    for cell in cells(tasks=["PointGoal1"], **plan):
        for row in rows_of(cell, cell.id):
            value = 0.5 + 0.2 * row.train_seed + (row.variant == "sas")
            found.append(dataclasses.replace(row, normalized_return=value))
    return found


def test_what_the_paper_prints_is_there():
    counts = {number: len(published(number)) for number in TITLES}
    assert counts == {"1": 144, "2": 240, "3": 24, "6": 53, "7": 96, "8": 28}
    assert {x.method for n in TITLES for x in published(n)} == set(METHODS)
    first = published("1")[0]
    assert first[:4] == ("PointGoal1", "DT", "normalized_return", 0.66)


def test_ours_stand_beside_it_and_what_was_not_run_says_so():
    table = paper_table("1", rows())
    assert len(table.rows) == 48
    found = table.rows[[row[0] for row in table.rows].index("PointGoal1, DT+SAS")]
    assert found[1:3] == ("0.655", "1.60 [1.60, 1.60]")
    assert found[-2:] == ("2", "2")
    other = next(row for row in table.rows if row[0] == "PointGoal1, DT+rand")
    assert other[1:3] == ("0.665", "not run") and other[-1] == "0"
    only = paper_table("2", rows(), tasks=["PointGoal1"])
    assert len(only.rows) == 10
    assert next(r for r in only.rows if r[0].endswith("DCRL"))[2] == "not here"


def test_the_spread_is_over_training_seeds():
    table = paper_table("7", rows(), tasks=["PointGoal1"])
    found = next(row for row in table.rows if row[0] == "PointGoal1, DT")
    # 0.5 and 0.7: mean 0.6, sd 0.14.
    assert found[1:3] == ("0.66 ± 0.02", "0.60 ± 0.14")
    one = [row for row in rows() if row.train_seed == 0]
    table = paper_table("7", one, tasks=["PointGoal1"])
    assert next(r for r in table.rows if r[0] == "PointGoal1, DT")[2].endswith(
        "(one seed)"
    )


def test_a_method_may_have_another_name_and_changed_worlds_do_not_count():
    renamed = [dataclasses.replace(row, algo="dt_long") for row in rows()]
    shifted = [dataclasses.replace(row, shift="delay:1") for row in rows()]
    plain = paper_table("1", renamed + shifted, tasks=["PointGoal1"])
    assert {row[2] for row in plain.rows} == {"not run"}
    named = paper_table("1", renamed, tasks=["PointGoal1"], names={"dt": "dt_long"})
    assert sum(row[2] == "not run" for row in named.rows) == 2


def test_sets_of_d4rl_are_methods_of_their_task():
    own = [
        dataclasses.replace(row, task="Hopper", algo="dt-hopper-expert")
        for row in rows()
    ]
    table = paper_table("3", own, tasks=["hopper-expert"])
    found = next(row for row in table.rows if row[0] == "hopper-expert, DT")
    assert found[1] == "110.7" and found[2].startswith("60.00 [")


@pytest.mark.parametrize(
    ("number", "tasks", "words"),
    [("9", (), "expected one of 1, 2"), ("1", ("AntRun",), "table 1 has PointGoal1")],
)
def test_what_there_is_not_is_one_line(number, tasks, words):
    with pytest.raises(UserError, match=words):
        paper_table(number, rows(), tasks=tasks)


def test_nothing_is_a_command_in_latex():
    table = Table("A_b", ("x & y", "100%"), (("a_1 ± 2", "{}"),), ("p < 1",))
    text = latex(table)
    assert r"x \& y & 100\% \\" in text and r"a\_1 $\pm$ 2 & \{\} \\" in text
    assert r"\caption{A\_b. p $<$ 1}" in text
    assert as_csv(table) == "x & y,100%\na_1 ± 2,{}\n"
