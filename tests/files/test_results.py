"""The results CSV: exact round trips, and one line for whatever is wrong with it."""

import dataclasses
import math

import numpy as np
import pytest

from sas_jax.errors import UserError
from sas_jax.files import results
from tests.helpers.report_samples import make_row


def write_text(tmp_path, edit=lambda lines: lines):
    """A valid two-row file whose lines went through `edit`."""
    path = tmp_path / "results.csv"
    results.write_results(path, [make_row(), make_row(episode_seed=5001)])
    path.write_text("\n".join(edit(path.read_text().splitlines())) + "\n")
    return path


def replace_cell(column, text, line=1):
    def edit(lines):
        cells = lines[line].split(",")
        cells[results.COLUMNS.index(column)] = text
        return [*lines[:line], ",".join(cells), *lines[line + 1 :]]

    return edit


def test_columns_are_the_documented_ones():
    assert ",".join(results.COLUMNS) == (
        "task,algo,variant,cost_limit,train_seed,episode_seed,return,cost,length,failed,"
        "normalized_return,normalized_cost,align_seconds,level,mean_u,mean_v,"
        "invariant_share,prompt_start,prompt_ok"
    )


def test_round_trip_is_exact_and_keeps_unknown_columns(tmp_path):
    rows = [
        make_row(level=1e-17, mean_u=0.25, prompt_start=491, extra={"note": 'a,"b"'}),
        make_row(variant="sas", level=-math.inf, prompt_ok=False, failed=False),
    ]
    path = results.write_results(tmp_path / "deep" / "results.csv", rows)
    back = results.read_results(path)
    assert back[0].extra == {"note": 'a,"b"'}
    assert back[1].extra == {"note": ""}
    for row, read in zip(rows, back, strict=True):
        a, b = dataclasses.asdict(row), dataclasses.asdict(read)
        a.pop("extra"), b.pop("extra")
        np.testing.assert_equal(b, a)  # NaN equals NaN, types included
        assert [type(v) for v in b.values()] == [type(v) for v in a.values()]
    assert [p.name for p in path.parent.iterdir()] == ["results.csv"]


def test_later_columns_are_there_where_they_say_something(tmp_path):
    """Tables from before them read as they did, and are written as they were."""
    quiet = results.write_results(tmp_path / "quiet.csv", [make_row()])
    assert quiet.read_text().splitlines()[0] == ",".join(results.COLUMNS)
    rows = [make_row(drift=2.5, drift_alarm=17, num_realigned=3), make_row(variant="u")]
    path = results.write_results(tmp_path / "r.csv", rows)
    header = path.read_text().splitlines()[0]
    assert header == ",".join(results.COLUMNS) + ",num_realigned,drift,drift_alarm"
    back = results.read_results(path)
    assert [r.drift_alarm for r in back] == [17, -1]
    assert (back[0].drift, back[0].num_realigned) == (2.5, 3)
    assert math.isnan(back[1].drift) and math.isnan(back[0].drift_outside)
    with pytest.raises(UserError, match="extra column 'drift'"):
        results.write_results(path, [make_row(extra={"drift": "1"})])


def test_numpy_scalars_are_written_as_numbers(tmp_path):
    row = make_row(
        cost=np.float32(3.5),
        length=np.int64(7),
        failed=np.bool_(True),
        cost_limit=np.float64(20),
    )
    (read,) = results.read_results(results.write_results(tmp_path / "r.csv", [row]))
    assert (read.cost, read.length, read.failed, read.cost_limit) == (3.5, 7, True, 20)


def test_blank_diagnostics_become_their_defaults(tmp_path):
    def edit(lines):
        for column in ("align_seconds", "level", "prompt_start", "prompt_ok"):
            lines = replace_cell(column, "")(lines)
        return lines

    row = results.read_results(write_text(tmp_path, edit))[0]
    assert math.isnan(row.level) and row.prompt_start == -1 and row.prompt_ok


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            replace_cell("cost", "many"),
            "line 2: column 'cost' is 'many'; expected a num",
        ),
        (
            replace_cell("cost", "nan"),
            "column 'cost' is 'nan'; expected a finite number",
        ),
        (replace_cell("return", "inf", 2), "line 3: column 'return' is 'inf'"),
        (replace_cell("length", "9.5"), "column 'length' is '9.5'; expected a whole"),
        (replace_cell("failed", "2"), "column 'failed' is '2'; expected 0 or 1"),
        (
            replace_cell("cost_limit", "-20"),
            "'cost_limit' is '-20'; expected a number >=",
        ),
        (replace_cell("variant", ""), "column 'variant' is ''; expected a name"),
        (replace_cell("mean_u", "x"), "column 'mean_u' is 'x'; expected a number"),
        (
            replace_cell("return", "returns", 0),
            "no column 'return'; expected task,algo",
        ),
        (replace_cell("cost", "return", 0), "has column 'return' twice"),
        (lambda lines: lines[:1], "has a header but no rows"),
        (lambda lines: [lines[0], lines[1] + ",9"], "line 2: 20 values; expected 19"),
        (
            lambda lines: [*lines, lines[1]],
            "line 4 repeats line 2 (variant 'none', Poi",
        ),
    ],
)
def test_bad_tables_are_one_line(tmp_path, edit, message):
    path = write_text(tmp_path, edit)
    with pytest.raises(UserError) as error:
        results.read_results(path)
    assert message in str(error.value)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; expected a header"),
        (b"\n\n", "is empty; expected a header"),
        (b"\x89HDF\r\n\x1a\n\xff\xfe", "is not a CSV text file"),
        (b'"' + b"x" * 200_000, "is not a CSV text file"),
    ],
)
def test_not_a_table(tmp_path, content, message):
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        results.read_results(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        results.read_results(tmp_path / "none.csv")
    with pytest.raises(UserError, match="is a folder"):
        results.read_results(tmp_path)


def test_refused_rows_leave_the_old_file(tmp_path):
    path = results.write_results(tmp_path / "r.csv", [make_row()])
    before = path.read_bytes()
    with pytest.raises(
        UserError, match="row 2: column 'cost' is ''; expected a number"
    ):
        results.write_results(path, [make_row(), make_row(cost=math.nan)])
    with pytest.raises(UserError, match="no result rows"):
        results.write_results(path, [])
    with pytest.raises(UserError, match="extra column 'cost'"):
        results.write_results(path, [make_row(extra={"cost": "1"})])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["r.csv"]


def test_a_file_in_place_of_the_folder_is_a_user_error(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        results.write_results(tmp_path / "runs" / "r.csv", [make_row()])


def test_variants_are_listed_controls_first():
    rows = [make_row(variant=v) for v in ("gate", "sas", "rand", "critic", "none")]
    assert results.variants_of(rows) == ["none", "rand", "sas", "critic", "gate"]
