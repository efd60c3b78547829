"""Tables, the card's marks and the findings: computed from rows, never hard-coded."""

import dataclasses
import math
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from sas_jax.card import verdict
from sas_jax.errors import UserError
from sas_jax.files import results
from sas_jax.report import card_table, findings, tables
from sas_jax.stats import intervals
from tests.helpers.report_samples import card, make_row, results_of

ROOT = Path(__file__).resolve().parents[2]


def constant_rows(costs, layouts=10, limits=(20.0, 40.0)):
    """variant -> cost; every episode of a variant has the same cost and return."""
    return [
        make_row(
            variant=variant,
            cost=cost,
            failed=cost > 0,
            episode_return=10.0,
            normalized_return=0.5,
            episode_seed=layout,
            cost_limit=limit,
            normalized_cost=cost / limit,
        )
        for variant, cost in costs.items()
        for layout in range(layouts)
        for limit in limits
    ]


def test_summary_of_constant_rows_is_exact():
    (table,) = tables.summary_tables(constant_rows({"sas": 30.0, "none": 0.0}))
    assert table.header == (
        "variant",
        "episodes",
        "layouts",
        "return",
        "cost",
        "norm. return",
        "any cost",
        "within limit",
    )
    ten, half = "10.0 [10.0, 10.0]", "0.50 [0.50, 0.50]"
    zero, one = "0.00 [0.00, 0.00]", "1.00 [1.00, 1.00]"
    assert table.rows == (
        ("none", "10", "10", ten, "0.0 [0.0, 0.0]", half, zero, one),
        # 30 exceeds the threshold 20 and not 40: half of the rows are within.
        ("sas", "10", "10", ten, "30.0 [30.0, 30.0]", half, one, half),
    )


def test_thresholds_are_judged_one_by_one():
    (table,) = tables.threshold_tables(constant_rows({"none": 30.0}))
    cost = "30.0 [30.0, 30.0]"
    assert [row[1:3] + row[4:] for row in table.rows] == [
        ("20", "10", cost, "1.50 [1.50, 1.50]", "0.00 [0.00, 0.00]", "no"),
        ("40", "same", "same", "0.75 [0.75, 0.75]", "1.00 [1.00, 1.00]", "yes"),
    ]
    assert table.notes[-1].startswith("same: as in the line above")
    rows = results_of({"none": (0, 1)}, layouts=8, limits=(20.0, 40.0), obeys=True)
    (table,) = tables.threshold_tables(rows)
    assert "same" not in {cell for row in table.rows for cell in row}


def test_contrasts_say_what_is_resolved():
    (table,) = tables.paired_tables(constant_rows({"none": 50.0, "sas": 30.0}))
    by_metric = {row[1]: row for row in table.rows}
    assert by_metric["cost"][4:7] == ("-20.0 [-20.0, -20.0]", "resolved", "0.0")
    # No difference at all, and no sign on a zero.
    assert by_metric["return"][4:6] == ("0.0 [0.0, 0.0]", "no")
    assert by_metric["cost"][7] == tables.NO_VALUE  # constant pairs do not correlate
    assert any("No multiplicity correction, 3 contrasts" in n for n in table.notes)


def test_one_layout_has_a_mean_and_no_interval():
    rows = constant_rows({"none": 50.0, "sas": 30.0}, layouts=1, limits=(20.0,))
    (table,) = tables.paired_tables(rows)
    assert table.rows[1][4:7] == ("-20.0", "no", tables.NO_VALUE)


def test_tasks_and_algorithms_do_not_mix():
    rows = constant_rows({"none": 50.0, "sas": 30.0})
    other = [dataclasses.replace(row, algo="cdt", cost=row.cost + 1) for row in rows]
    titles = [t.title for t in tables.summary_tables(rows + other)]
    assert titles == ["PointGoal1, cdt: episodes", "PointGoal1, dt: episodes"]
    cdt, dt = tables.paired_tables(rows + other)
    assert cdt.rows == dt.rows


def test_changed_worlds_have_tables_of_their_own():
    rows = [make_row(), make_row(shift="delay:1", cost=3.0)]
    own, changed = tables.threshold_tables(rows)
    assert own.title == "PointGoal1, dt: by cost threshold"
    assert changed.title == "PointGoal1 [delay:1], dt: by cost threshold"
    assert "3.0" in changed.text() and "41.0" in own.text()


def test_text_and_markdown_hold_the_same_cells():
    table = tables.Table("T", ("a", "b|c"), (("x", "1"), ("longer", "22")), ("note",))
    assert table.text().splitlines() == [
        "T",
        "a       b|c",
        "-----------",
        "x         1",
        "longer   22",
        "note",
    ]
    assert table.markdown().splitlines() == [
        "**T**",
        "",
        r"| a | b\|c |",
        "|:--|--:|",
        "| x | 1 |",
        "| longer | 22 |",
        "",
        "*note*",
    ]


def test_findings_follow_the_data():
    small = results_of({"none": (0, 1), "sas": (0, 1.0)})
    sentences = findings.contrast_sentences(tables.contrasts(small))
    d = intervals.paired_difference(small, "sas").difference
    assert "not resolved" in sentences[0] and f"±{d.half_width:.1f}" in sentences[0]
    assert f"These {d.num_clusters} layouts" in sentences[0]
    assert sentences[-1].startswith("No variant's effect on cost against `none` is res")
    large = results_of({"none": (0, 1), "sas": (-6, 0.1)})
    (sentence,) = findings.contrast_sentences(tables.contrasts(large))
    assert "lower (resolved); return" in sentence and "too small" not in sentence
    worse = results_of({"none": (0, 0.1), "sas": (0, 1)})
    (sentence,) = findings.contrast_sentences(tables.contrasts(worse))
    assert "cost +" in sentence and "higher (resolved)" in sentence


def test_pairs_are_pairs_of_episodes():
    """Judged at three thresholds, an episode that was run once is one."""
    for obeys, expected in ((False, "40"), (True, "120")):
        rows = results_of({"none": (0, 1), "sas": (-1, 0.5)}, obeys=obeys)
        (table,) = tables.paired_tables(rows)
        assert {row[2] for row in table.rows} == {expected}
        (table,) = tables.summary_tables(rows)
        assert {row[1] for row in table.rows} == {expected}


def test_caveats_count_seeds_layouts_and_failed_alignments():
    rows = results_of({"none": (0, 1), "sas": (0, 1)}, layouts=12, train_seeds=(3, 4))
    rows[-1] = dataclasses.replace(rows[-1], prompt_ok=False)
    few, seeds, empty = findings.caveats(rows)
    assert few.startswith("With 12 layouts (fewer than 20)")
    assert "average 2 training seeds (3, 4)" in seeds
    assert empty.startswith("1 of 144 rows") and "(variants: sas)" in empty
    assert len(findings.caveats(results_of({"none": (0, 1)}))) == 1


@pytest.mark.parametrize(
    ("line", "mark", "target"),
    [
        (verdict.CardLine("a", 0.7, 0.7), "ok", ">= 0.7"),
        (verdict.CardLine("a", 0.69, 0.7), "poor", ">= 0.7"),
        (verdict.CardLine("a", 1.3, 0.8, 1.25), "poor", "0.8 to 1.25"),
        (verdict.CardLine("a", 0.01, None, 0.02), "ok", "<= 0.02"),
        (verdict.CardLine("a", math.nan, 0.7), "poor", ">= 0.7"),
        (verdict.CardLine("a", -math.inf, None, 0.02), "poor", "<= 0.02"),
        (verdict.CardLine("a", math.nan), "", ""),
        (verdict.CardLine("a", math.nan, 0.7, is_defined=False), "", ">= 0.7"),
    ],
)
def test_card_marks(line, mark, target):
    assert (line.mark, line.target) == (mark, target)


def test_card_lines_come_from_the_parts():
    values = {line.name: line for line in verdict.card_lines(card())}
    # -2 - 15 against -2 + 0.3 sin(100 / 9): -14.7 nats, 1.63 of the real sd 9.
    density = values["log-density of imagined states at step 100, sd from real"]
    assert density.value == pytest.approx(-(15 + 0.3 * math.sin(100 / 9)) / 9)
    rate = values["cost rate over 100 steps, imagined / real"]
    assert rate.value == pytest.approx(0.08 / 0.05) and rate.mark == "poor"
    # 1.36 / sqrt(5000) = 0.0192.
    pit = values["transition calibration, distance of PIT from uniform"]
    assert pit.high == pytest.approx(0.01923, abs=1e-4) and pit.mark == "poor"
    assert values["active units of 16"].mark == "poor"
    assert values["spread ratio at step 99"].mark == "ok"  # a line of `metrics`
    poor = verdict.poor_lines(card())
    table = card_table.card_table(card())
    marks = [row[3] for row in table.rows]
    assert marks.count("poor") == len(poor) > 0
    assert table.notes[0] == f"{marks.count('ok')} of {12 - 2} targets met."


def test_a_card_without_real_cost_or_parts_is_not_judged():
    empty = {"cost": {"horizons": [10], "correlation": [0.8]}}
    empty["cost"] |= {"rate_real": [0.0], "rate_imagined": [0.1]}
    assert [line.mark for line in verdict.card_lines(empty)] == ["ok", ""]
    assert verdict.card_lines({}) == []


@pytest.mark.parametrize(
    ("real", "imagined", "correlation", "marks"),
    [
        (0.0, 0.1, math.nan, ["", ""]),  # nothing costs in the held-out data
        (0.0, math.nan, math.nan, ["", ""]),
        (1.0, 1.0, math.nan, ["", "ok"]),  # every step does
        (0.2, 0.0, math.nan, ["poor", "poor"]),  # the model foresees no cost at all
        (0.2, math.nan, math.nan, ["poor", "poor"]),  # the model broke
    ],
)
def test_what_the_data_do_not_define_is_not_missed(real, imagined, correlation, marks):
    part = {"horizons": [10], "correlation": [correlation]}
    part |= {"rate_real": [real], "rate_imagined": [imagined]}
    lines = verdict.card_lines({"cost": part})
    assert [line.mark for line in lines] == marks
    assert [line.text == "undefined" for line in lines] == [not m for m in marks]
    judged = sum(map(bool, marks))
    table = card_table.card_table({"cost": part})
    assert table.notes[0] == f"{marks.count('ok')} of {judged} targets met."


def test_a_held_out_set_of_one_class_has_no_auc():
    head = {"auc": math.nan, "bce": 0.1, "bce_of_base_rate": 0.0}
    lines = verdict.card_lines({"cost_head": head})
    assert [line.text for line in lines] == ["undefined", "undefined"]


def plot(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "experiments.plot", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_plot_remakes_tables_and_figure(tmp_path):
    rows = results_of({"none": (0, 1), "rand": (-2, 1), "sas": (-2, 1)}, layouts=8)
    path = results.write_results(tmp_path / "results.csv", rows)
    done = plot(f"--results={path}", f"--out={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert "variant minus none" in done.stdout
    written = {p.name for p in (tmp_path / "out").iterdir()}
    assert written == {"tables.md", "return_cost_PointGoal1_dt.png"}
    text = (tmp_path / "out" / "tables.md").read_text()
    assert "**PointGoal1, dt: paired differences, variant minus none**" in text


@pytest.mark.slow
def test_plot_refuses_bad_input_in_one_line(tmp_path):
    rows = results_of({"none": (0, 1)}, layouts=2)
    path = results.write_results(tmp_path / "results.csv", rows)
    for arguments, message in (
        ([f"--results={path}", "--reference=nona"], "no variant 'nona'; expected one"),
        ([], "--results: expected a CSV"),
    ):
        done = plot(*arguments)
        assert done.returncode == 2 and message in done.stderr
        assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")
    assert [p.name for p in tmp_path.iterdir()] == ["results.csv"]


def test_report_keeps_out_of_pyplot():
    # pyplot holds global state and wants a display's backend.
    for path in (ROOT / "sas_jax" / "report").glob("*.py"):
        assert "matplotlib.pyplot" not in path.read_text(), path.name


def test_contrasts_of_unpaired_rows_are_refused():
    rows = constant_rows({"none": 50.0, "sas": 30.0})
    with pytest.raises(UserError, match="variant 'none' has no 'sas' partner"):
        tables.paired_tables(rows[:-1])


WHOLE = {
    "horizon": 1000,
    "blown_up": 0.25,
    "cost_imagined": 30.0,
    "cost_real": 20.0,
    "return_imagined": 13.0,
    "return_real": 21.0,
    "speed": {"imagined": 0.5, "real": 0.7, "distance": 0.05},
}


def test_tables_say_how_often_the_policy_acted_instead_of_a_plan():
    rows = [
        make_row(variant=v, episode_seed=seed, plan_fallback=share)
        for v, share in (("none", math.nan), ("plan", 0.1), ("plan_rand", 0.75))
        for seed in range(4)
    ]
    for table in (*tables.summary_tables(rows), *tables.threshold_tables(rows)):
        text = " ".join(table.notes)
        assert "plan: the policy acted instead of a plan on 10% of the steps." in text
        assert "plan_rand: the policy acted instead of a plan on 75%" in text
        assert text.count("this is no plan") == 1 and "none:" not in text


@pytest.mark.parametrize(
    ("correlation", "reach"),
    [([0.9, 0.8, 0.5], 50), ([0.9, 0.8, 0.1], 25), ([0.9, 0.1, 0.9], 10)]
    + [([0.1, 0.9, 0.9], 0), ([math.nan, 0.9, 0.9], 0)],
)
def test_how_far_the_model_sees(correlation, reach):
    card = {"cost": {"horizons": [10, 25, 50], "correlation": correlation}}
    assert verdict.sight(card) == reach
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        verdict.warn_short_sight(card, reach)
        verdict.warn_short_sight(None, 100)
    if reach < 50:
        with pytest.warns(verdict.ShortSightWarning, match=f"over {reach} steps"):
            verdict.warn_short_sight(card, 100)


def test_card_lines_of_whole_episodes():
    marks = {
        line.name: (line.value, line.mark)
        for line in verdict.card_lines({"whole_episode": WHOLE})
    }
    assert marks == {
        "share of 1000-step imaginations that blow up": (0.25, "poor"),
        "cost of 1000 steps, imagined / real": (1.5, "poor"),
        "return of 1000 steps, imagined": (13.0, ""),
        "return of 1000 steps, real": (21.0, ""),
        "speed, distance of imagined from real distribution": (0.05, "ok"),
    }
    free = WHOLE | {"cost_real": 0.0, "blown_up": 0.0}
    free.pop("speed")
    lines = verdict.card_lines({"whole_episode": free})
    assert [line.mark for line in lines] == ["ok", "", ""]


def test_a_poor_card_warns_once_and_a_good_one_does_not():
    with pytest.warns(verdict.PoorCardWarning, match="2 of 3 targets") as caught:
        verdict.warn_poor({"whole_episode": WHOLE})
    assert len(caught) == 1 and "blow up 0.25" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        verdict.warn_poor(None)
        verdict.warn_poor(
            {"whole_episode": WHOLE | {"blown_up": 0, "cost_imagined": 20}}
        )
