"""What is made of token rows: sums by hand, CSV, table and picture."""

import math

import numpy as np
import pytest
from PIL import Image
from scipy import stats as scipy_stats

from sas_jax.errors import UserError
from sas_jax.report import tokens
from sas_jax.report.token_figure import token_figure
from sas_jax.report.tokens import TokenResult


def rows_of(achieved, targets=(5.0, 10.0), limits=(20.0, 40.0, 80.0), layouts=8):
    """achieved: (layout, target, limit) -> return, cost."""
    return [
        TokenResult(t, limit, seed, *achieved(seed, t, limit), "abc")
        for seed in range(layouts)
        for t in targets
        for limit in limits
    ]


OBEDIENT = rows_of(lambda seed, t, limit: (t + seed, limit / 2 + 3 * seed))


def test_sums_by_hand():
    found = tokens.summarise(OBEDIENT)
    assert list(found.cells) == [
        (t, k) for t in (5.0, 10.0) for k in (20.0, 40.0, 80.0)
    ]
    value, cost = found.cells[10.0, 40.0]
    assert (value.mean, cost.mean, cost.num_clusters) == (13.5, 30.5, 8)
    assert value.low < 13.5 < value.high
    assert found.limits == (20.0, 80.0)
    # A constant difference of 10 - 40 has no spread.
    difference = found.cost_difference
    assert (difference.mean, difference.low, difference.high) == (-30, -30, -30)
    assert difference.num_clusters == 8
    assert found.return_within.mean == found.cost_within.mean == 1.0
    x, y = zip(*((r.target_return, r.episode_return) for r in OBEDIENT), strict=True)
    expected = scipy_stats.spearmanr(x, y).statistic
    np.testing.assert_allclose(found.return_correlation, expected, rtol=1e-12)
    assert 0 < found.cost_correlation < 1


def test_a_policy_that_ignores_its_tokens():
    deaf = rows_of(lambda seed, t, limit: (seed, 7.0 * seed), limits=(30.0, 60.0))
    found = tokens.summarise(deaf)
    assert found.limits == (30.0, 60.0)  # no 20 and 80: the extremes
    assert found.cost_difference.mean == 0.0 and not found.cost_difference.excludes_zero
    assert found.return_correlation == pytest.approx(0.0)
    assert found.return_within is None and found.cost_within is None


def test_unfinished_grids_and_empty_ones_are_named():
    with pytest.raises(UserError, match="20 and 80 were not run on the same layouts"):
        tokens.summarise(OBEDIENT[:-1])
    with pytest.raises(UserError, match="at least one row"):
        tokens.summarise([])


def test_rows_round_trip(tmp_path):
    odd = TokenResult(0.1 + 0.2, math.nan, 2**32 - 1, -1e-17, 1 / 3, "x")
    path = tokens.write_tokens(tmp_path / "a" / "tokens.csv", [*OBEDIENT, odd])
    header = path.read_text().splitlines()[0]
    assert header == "target_return,cost_limit,episode_seed,return,cost,run"
    assert repr(tokens.read_tokens(path)) == repr([*OBEDIENT, odd])


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "expected the columns"),
        ("a,b\n", "expected the columns"),
        (",".join(tokens.COLUMNS) + "\n1,2,3,4,5\n", "line 2"),
        (",".join(tokens.COLUMNS) + "\n1,2,x,4,5,r\n", "line 2"),
    ],
)
def test_other_files_are_named(tmp_path, text, message):
    path = tmp_path / "tokens.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        tokens.read_tokens(path)
    with pytest.raises(UserError, match="cannot read"):
        tokens.read_tokens(tmp_path / "none.csv")


def test_the_table_says_what_was_found():
    text = tokens.token_table(OBEDIENT, title="PointGoal1").text()
    assert text.startswith("PointGoal1\n")
    assert "cost at limit 20 minus cost at limit 80, paired: -30.00" in text
    assert "within layouts" in text and text.count("\n") == 3 + 6 + 4
    dt = rows_of(lambda seed, t, limit: (t, 3.0), limits=(math.nan,))
    text = tokens.token_table(dt).text()
    assert "minus" not in text and "limit and achieved" not in text


@pytest.mark.parametrize("limits, panels", [((20.0, 80.0), 2), ((math.nan,), 1)])
def test_the_picture_has_a_panel_per_token(tmp_path, limits, panels):
    rows = rows_of(lambda seed, t, limit: (t + seed, 3.0 * seed), limits=limits)
    path = token_figure(tmp_path / "tokens.png", rows, title="x")
    with Image.open(path) as image:
        assert 300 * panels < image.width < 460 * panels
        assert len(set(image.convert("L").tobytes())) > 20
    assert path.stat().st_size < 150_000
