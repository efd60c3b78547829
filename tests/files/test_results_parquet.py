"""Rows as Parquet: the same values, by name and type."""

import dataclasses

import pytest

from sas_jax.errors import UserError
from sas_jax.files.results_parquet import write_parquet
from tests.helpers.sweep_cells import cells, rows_of


def test_every_value_is_read_back(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = rows_of(cells()[0], "name")
    read = parquet.read_table(write_parquet(tmp_path / "rows.parquet", rows))
    assert read.num_rows == len(rows) == 2
    for row, found in zip(rows, read.to_pylist(), strict=True):
        for name, value in (dataclasses.asdict(row) | row.extra).items():
            if name != "extra":
                # NaN is no number that equals itself.
                assert found[name] == value or value != value, name
                assert type(found[name]) is type(value)


def test_without_pyarrow_it_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UserError, match="parquet"):
        write_parquet(tmp_path / "rows.parquet", rows_of(cells()[0], "name"))
