"""The forest plot: every contrast has its bar, and resolved ones are filled."""

import pytest
from PIL import Image

from sas_jax.errors import UserError
from sas_jax.report import forest_figure, style, tables
from tests.helpers.report_samples import results_of


def test_one_row_a_contrast(tmp_path, monkeypatch):
    rows = results_of({"none": (0, 1), "rand": (-2, 1), "sas": (-6, 0.05)}, layouts=40)
    differences = tables.contrasts(rows, "none")
    figures = []
    save = style.save_png
    monkeypatch.setattr(
        style,
        "save_png",
        lambda figure, path: figures.append(figure) or save(figure, path),
    )
    path = forest_figure.forest_figure(tmp_path / "f.png", differences, title="T")
    assert Image.open(path).width > 300
    axes = figures[0].axes
    assert [ax.get_title(loc="left") for ax in axes] == [
        "cost",
        "return",
        "any cost, share",
    ]
    names = [label.get_text() for label in axes[0].get_yticklabels()]
    assert names == ["rand − none", "sas − none"]
    for ax, metric in zip(axes, ("cost", "return", "failed"), strict=True):
        points = [line for line in ax.lines if line.get_marker() == "o"]
        chosen = [d for d in differences if d.metric == metric]
        for point, d in zip(points, chosen, strict=True):
            assert point.get_xdata()[0] == d.difference.mean
            assert (point.get_markerfacecolor() != "white") == d.resolved


def test_nothing_to_draw(tmp_path):
    with pytest.raises(UserError, match="no paired differences"):
        forest_figure.forest_figure(tmp_path / "f.png", [])
    assert not list(tmp_path.iterdir())
