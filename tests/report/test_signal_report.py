"""Statistics of the signals on tables whose answers are known."""

import csv

import numpy as np
import pytest

from sas_jax.report import signal_report
from sas_jax.report.signal_figure import signal_figure
from sas_jax.report.signal_report import agreement, facts

LAYOUTS, N, M, HORIZON, STEPS = 150, 5, 6, 101, 120


def sample(seed=0):
    """A table in which nothing knows anything: V is a coin of bias 0.4."""
    rng = np.random.default_rng(seed)
    halves = rng.binomial(50, 0.4, (LAYOUTS, M, 2)).astype(float)
    peak = rng.normal(30.0, 2.0, (LAYOUTS, N))
    shift = np.full((LAYOUTS, 2, STEPS), 0.05)
    shift[:, 1, 0] = 0.2  # `sas` at the start
    return {
        "level": peak.min(axis=1),
        "peak_first": peak,
        "time_first": rng.uniform(size=(LAYOUTS, N)),
        "cost_first": rng.uniform(0, 9, (LAYOUTS, N)),
        "peak_second": rng.normal(28.0, 2.0, (LAYOUTS, M)),
        "time_second": 0.9 + 0.1 * rng.uniform(size=(LAYOUTS, M)),
        "score": halves.sum(axis=-1),
        "halves": halves,
        "repeated": rng.binomial(100, 0.4, (LAYOUTS, M, 8)).astype(float),
        "cost": rng.uniform(0, 90, (LAYOUTS, 3)),
        "cost_start": rng.uniform(0, 9, (LAYOUTS, 3)),
        "shift": shift,
        "scale": np.full((LAYOUTS, 2, STEPS), 0.25),
    }


def named(found, *words):
    hits = [f.value for f in found if all(word in f.name for word in words)]
    assert len(hits) == 1, words
    return hits[0]


def holds(interval, value):
    """Within one and a half half-widths: a single interval misses in 5 of 100."""
    return abs(interval.mean - value) < 1.5 * interval.half_width


def test_where_v_is_a_coin_line_14_tosses_it():
    found = facts(sample(), horizon=HORIZON)
    assert named(found, "sum V / (T - 1), mean").mean == pytest.approx(0.4, abs=0.01)
    assert holds(named(found, "against a coin's"), 1.0)
    assert holds(named(found, "the first, last half"), 0.0)
    assert holds(named(found, "new draws under its segment"), 0.0)
    assert holds(named(found, "odd and even draws) within"), 0.0)
    for words in ("either half", "segment by odd", "line 14's"):
        assert abs(named(found, words).mean - 1 / M) < 0.08


def test_where_candidates_differ_it_selects():
    table = sample()
    rng = np.random.default_rng(1)
    bias = rng.uniform(0.1, 0.9, (LAYOUTS, M, 1))
    table["halves"] = rng.binomial(50, bias, (LAYOUTS, M, 2)).astype(float)
    table["score"] = table["halves"].sum(axis=-1)
    table["repeated"] = rng.binomial(100, bias, (LAYOUTS, M, 8)).astype(float)
    found = facts(table, horizon=HORIZON)
    assert named(found, "against a coin's").low > 5
    assert named(found, "the first, last half").low > 0.8
    assert named(found, "new draws under its segment").low > 0.8
    assert named(found, "segment by odd").low > 0.7
    assert named(found, "line 14's").low > 0.6


def test_cost_that_follows_the_level_is_seen_and_no_other():
    table = sample()
    table["cost"][:, 2] = 3 * table["level"]  # of `sas`
    table["cost_first"] = -table["peak_first"] + 50 * table["level"][:, None]
    found = facts(table, horizon=HORIZON)
    assert named(found, "real cost), sas, whole").mean == pytest.approx(1.0)
    assert abs(named(found, "real cost), none, whole").mean) < 0.3
    assert named(found, "within a layout", "predicted cost").mean == pytest.approx(-1)


def test_second_loop_that_lowers_every_energy_by_two():
    table = sample()
    table["peak_second"] = table["peak_first"] - 2.0
    found = facts(table, horizon=HORIZON)
    change = named(found, "mean max E, second minus first")
    assert change.mean == pytest.approx(-2.0) and change.half_width < 1e-9
    assert named(found, "least max E").mean == pytest.approx(-2.0)


def test_shifts_by_time_and_by_the_policys_own_sd():
    found = facts(sample(), horizon=HORIZON)
    first = [f for f in found if f.name.endswith("sas, t = 0")]
    assert [f.value.mean for f in first] == pytest.approx([0.2, 0.8])
    later = named(found, "mean |d mu|, sas, t = 20 to 99")
    assert later.mean == pytest.approx(0.05)
    table = sample()
    table["shift"][..., 50:] = np.nan  # all episodes end there
    names = [f.name for f in facts(table, horizon=HORIZON)]
    assert not any("t = 100 to" in name for name in names)
    assert any("t = 20 to 99" in name for name in names)


def test_quartiles_of_the_peaks_place():
    found = facts(sample(), horizon=HORIZON)
    assert named(found, "50 %", "first loop").mean == pytest.approx(0.5, abs=0.05)
    assert named(found, "25 %", "second loop").mean == pytest.approx(0.925, abs=0.01)
    assert holds(named(found, "75 %", "first loop"), 0.75)


def test_disqualified_imaginations_and_layouts_are_left_out():
    table = sample()
    for name in ("score", "peak_second", "time_second"):
        table[name][:, 0] = np.nan
    table["halves"][:, 0] = table["repeated"][:, 0] = np.nan
    for name in ("level", "peak_first", "score", "halves"):
        table[name][0] = np.nan
    found = facts(table, horizon=HORIZON)
    assert holds(named(found, "against a coin's"), 1.0)
    assert named(found, "real cost), none, whole").num_clusters == LAYOUTS - 1


def test_agreement_counts_ties_alike():
    left = np.array([[1.0, 2.0, 0.0], [3.0, 3.0, 1.0], [1.0, np.nan, 0.0]])
    right = np.array([[0.0, 5.0, 1.0], [1.0, 2.0, 2.0], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(agreement(left, right), [1.0, 0.25, np.nan])


@pytest.mark.slow
def test_table_csv_and_figure(tmp_path):
    found = facts(sample(), horizon=HORIZON)
    text = signal_report.table(found, title="T", notes=["n"]).text()
    assert all(question in text for question in signal_report.QUESTIONS.values())
    path = signal_report.write_csv(tmp_path / "s.csv", found, command="python -m me")
    lines = path.read_text().splitlines()
    assert lines[0] == "# python -m me"
    rows = list(csv.DictReader(lines[1:]))
    assert len(rows) == len(found)
    assert float(rows[0]["low"]) <= float(rows[0]["value"]) <= float(rows[0]["high"])
    picture = signal_figure(tmp_path / "s.png", sample(), horizon=HORIZON, title="T")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_one_imagination_that_blows_up_moves_no_rank_and_no_median():
    table = sample()
    table["cost_first"] = table["peak_first"] ** 2  # the same order
    plain = facts(table, horizon=HORIZON)
    top = np.arange(LAYOUTS), table["peak_first"].argmax(axis=1)
    table["peak_first"][top] = 5000.0
    blown = facts(table, horizon=HORIZON)
    for found in (plain, blown):
        assert named(found, "by ranks").mean == pytest.approx(1.0)
    for words in ("median max E", "exceeds the first's"):
        left, right = (named(found, words).mean for found in (plain, blown))
        assert left == pytest.approx(right, abs=0.02)
    assert named(plain, "mean max E of").mean < 40 < named(blown, "mean max E of").mean
    # Second energies are lower by 2, one sd of theirs: P = Phi(-2 / sqrt(8)).
    assert named(plain, "exceeds the first's").mean == pytest.approx(0.24, abs=0.03)
