"""Tables and pictures of changed worlds."""

import dataclasses

import pytest

from sas_jax.errors import UserError
from sas_jax.report.shift_figure import shift_figure
from sas_jax.report.shift_tables import shift_table
from tests.helpers import report_samples


def rows(shift, cost):
    base = report_samples.make_row()
    return [
        dataclasses.replace(
            base,
            variant=variant,
            shift=shift,
            episode_seed=seed,
            cost=cost + seed + 5.0 * (variant == "plan"),
            episode_return=20.0 - seed,
        )
        for variant in ("none", "plan")
        for seed in range(4)
    ]


PLAIN, WEAK = rows("", 10.0), rows("actuator:0.8", 13.0)
LEVELS = {0.8: WEAK, 1.0: PLAIN}


def test_levels_are_paired_with_the_unchanged_world():
    table = shift_table("actuator", LEVELS, PLAIN, title="PointGoal1, dt")
    lines = {line[:2]: line for line in table.rows}
    assert list(lines) == [
        ("none", "0.8"), ("none", "1"), ("plan", "0.8"), ("plan", "1"),
    ]  # fmt: skip
    # Every pair differs by three, so that there is nothing to resample.
    assert lines["none", "0.8"][-1] == "+3.0 [+3.0, +3.0]"
    assert lines["none", "0.8"][-2] == "0.0 [0.0, 0.0]"
    assert lines["plan", "1"][-2:] == ("-", "-") and lines["plan", "1"][2] == "4"
    assert lines["plan", "1"][4].startswith("16.5")


def test_the_picture_is_drawn(tmp_path):
    path = shift_figure(tmp_path / "a.png", {"actuator": LEVELS, "delay": {0.0: PLAIN}})
    assert path.stat().st_size > 5000
    with pytest.raises(UserError, match="no levels to draw"):
        shift_figure(tmp_path / "b.png", {})
