"""Rates: from the nearest kin, per episode that is run, borrowed where nothing is."""

import json
from pathlib import Path

from sas_jax.files.results import read_results
from sas_jax.sweeps import estimate
from sas_jax.sweeps.estimate import BuiltIn, Rates
from tests.helpers.sweep_cells import cells

NOTE = "none,rand"


def cell_of(task="PointGoal1", name="dt", layouts=4, limits=(20, 40), **settings):
    method = {"algo": "dt", "name": name, "settings": settings}
    return cells(
        tasks=[task],
        methods=[method],
        variants=NOTE.split(","),
        layouts=layouts,
        cost_limits=list(limits),
    )[0]


def record(cell, **measured):
    description = {"experiment": cell.description()["experiment"]}
    return {"place": list(cell.place), "description": description, "measured": measured}


def took(seconds, count, **more):
    return {"seconds": seconds, "count": count} | more


def test_the_nearest_kin_is_taken():
    """The same method and task; then the method; then its algorithm at that size."""
    own, other = cell_of(), cell_of("CarGoal1")
    records = [
        record(own, train=took(100, 100)),
        record(other, train=took(300, 100)),
    ]
    rates = Rates(records)
    assert rates.of(own, "train") == 1.0 and rates.of(other, "train") == 3.0
    assert rates.of(cell_of("PointPush1"), "train") == 2.0
    assert rates.of(cell_of("PointPush1", "dt_long"), "train") == 2.0
    large = {"model.decoder.width": 256}
    assert rates.of(cell_of("PointGoal1", "dt_large", **large), "train") is None
    assert not rates.borrowed


def test_an_evaluation_is_told_by_its_episodes():
    """8 layouts of 2 variants in 32 s; tables of before say no more than layouts."""
    cell = cell_of()
    for found in (took(32, 8, note=NOTE, episodes=16), took(32, 8, note=NOTE)):
        rates = Rates([record(cell, evaluate=found)])
        left = estimate.estimate(cell, rates, [], has_data=True, has_model=True)
        # Neither variant sees the threshold: 4 layouts are 8 episodes.
        assert left.seconds == {"evaluate": 16.0}
    # Other variants of the same model, for want of better.
    rates = Rates([record(cell, evaluate=took(32, 8, note="sas", episodes=8))])
    left = estimate.estimate(cell, rates, [], has_data=True, has_model=True)
    assert left.seconds == {"evaluate": 32.0}


def test_rates_are_borrowed_where_nothing_was_measured():
    cell = cell_of()
    size = estimate.size_of(json.loads(json.dumps(cell.description()["experiment"])))
    others = BuiltIn("another machine", {("train", "dt", size, ""): 7.0})
    rates = Rates([record(cell, collect=took(30, 10))], others)
    assert rates.of(cell, "collect") == 3.0 and not rates.borrowed
    assert rates.of(cell, "train") == 7.0 and rates.borrowed
    assert rates.of(cell, "evaluate", NOTE) is None


def test_the_rates_that_come_with_the_package():
    known = estimate.built_in()
    assert "Xeon" in known.machine
    assert all(isinstance(k, tuple) and v > 0 for k, v in known.rates.items())
    stages = {kin[0] for kin in known.rates}
    assert {"collect", "train", "evaluate"} <= stages
    # What the demo's preset trains and evaluates is among them.
    method = {"algo": "dt", "preset": "demo"}
    (cell,) = cells(tasks=["PointGoal1"], seeds=[0], methods=[method])
    left = estimate.estimate(
        cell, Rates([], known), [], has_data=False, has_model=False
    )
    assert left.total is not None and left.total > 60


def test_episodes_of_tables_of_before_are_counted_from_their_rows():
    for table, place, episodes in (
        # Two variants, 64 layouts, one threshold, which a CDT sees.
        ("cdt", ["PointCircle1", "cdt", 1], 128),
        # 32 layouts: three variants that do not see it, and plans at three thresholds.
        ("evidence", ["CarGoal2", "dt", 0], 192),
    ):
        path = Path(__file__).parents[2] / f"experiments/results/{table}.json"
        records = json.loads(path.read_text())["settings"]["cells"]
        own = next(r for r in records.values() if r["place"] == place)
        rows = read_results(path.with_suffix(".csv"))
        mine = [r for r in rows if [r.task, r.algo, r.train_seed] == place]
        counted = estimate.counted(own, mine)["measured"]["evaluate"]
        assert counted["episodes"] == episodes
        assert counted["seconds"] == own["measured"]["evaluate"]["seconds"]
