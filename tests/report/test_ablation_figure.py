"""Figures 4 and 6: which bars are drawn, how high, and what is missing."""

import dataclasses

import numpy as np
import pytest

from sas_jax.errors import UserError
from sas_jax.report import ablation_figure as figures
from sas_jax.report import style
from tests.report.test_ablation_tables import swept


@pytest.fixture
def drawn(monkeypatch):
    """The panels of a figure, as (title, tick labels, bars' heights by colour)."""
    kept = []

    def save(figure, path):
        for ax in figure.axes:
            if not ax.axison:
                continue
            labels = [text.get_text() for text in ax.get_xticklabels()]
            heights = [[bar.get_height() for bar in c] for c in ax.containers[::2]]
            kept.append((ax.get_title("left"), labels, np.array(heights)))
        return path

    monkeypatch.setattr(style, "save", save)
    return kept


def test_numbers_of_trajectories(drawn, tmp_path):
    rows, records = swept()
    figures.ablation_figure(tmp_path / "figure6.png", "6", rows, records)
    ((title, labels, heights),) = drawn
    assert title == "PointGoal1, dt\nimagined trajectories"
    assert labels == ["5, 5", "100, 5"]
    cost = {n: [] for n in ("dt", "n100")}
    for row in rows:
        if row.variant == "sas" and row.algo in cost:
            cost[row.algo].append(row.normalized_cost)
    np.testing.assert_allclose(heights[1], [np.mean(cost["dt"]), np.mean(cost["n100"])])
    own = [[r for r in rows if (r.variant, r.algo) == ("sas", a)] for a in cost]
    for bars, field in ((heights[0], "normalized_return"), (heights[2], "failed")):
        expected = [np.mean([getattr(r, field) for r in part]) for part in own]
        np.testing.assert_allclose(bars, expected)


def test_loops_and_settings_have_panels_of_their_own(drawn, tmp_path):
    rows, records = swept()
    rows += [
        dataclasses.replace(row, variant="u") for row in rows if row.variant == "none"
    ]
    figures.ablation_figure(tmp_path / "figure4.png", "4", rows, records)
    titles = [title.partition("\n")[2] for title, _, _ in drawn]
    assert titles.count("loops") == 1  # of the method without a change
    assert {"length of the prompt", "size of the transformer"} <= set(titles)
    assert drawn[0][1] == ["none", "u", "sas"]


def test_nothing_to_draw_is_told(tmp_path):
    rows, records = swept()
    own = [row for row in rows if row.algo == "dt"]
    with pytest.raises(UserError, match="figure 6: no cells of this sweep differ in"):
        figures.ablation_figure(tmp_path / "figure6.png", "6", own, records)
    with pytest.raises(UserError, match="figure '5': expected one of 4, 6"):
        figures.ablation_figure(tmp_path / "figure5.png", "5", rows, records)
