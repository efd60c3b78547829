"""Paths of this machine, URLs of buckets, and a bucket in memory behind gs://."""

import os
import pathlib

import fsspec
import numpy as np
import pytest

from sas_jax.data import dsrl
from sas_jax.errors import UserError
from sas_jax.files import atomic, parts, places, results
from tests.helpers import bucket
from tests.helpers.dsrl_samples import assert_same, make
from tests.helpers.report_samples import make_row


@pytest.fixture
def content(monkeypatch):
    """An empty bucket that epath reaches; no HTTP."""
    monkeypatch.setitem(places.SCHEMES, "gs", ())
    for name in bucket.BucketFileSystem.protocol:
        fsspec.register_implementation(name, bucket.BucketFileSystem, clobber=True)
    bucket.CONTENT.clear()
    return bucket.CONTENT


def test_paths_of_this_machine(monkeypatch):
    monkeypatch.setenv("HOME", "/here")
    assert places.as_path("~/a") == pathlib.Path("/here/a")
    for path in ("a/b", "/a", "C:/a", "a:b", ""):
        assert not places.is_url(path)
        assert isinstance(places.as_path(path), pathlib.Path)


def test_urls(content):
    for path in ("gs://bucket/a/b", "GS://bucket/a/b", pathlib.Path("gs://bucket/a/b")):
        assert places.is_url(path)
        assert str(places.as_path(path)) == "gs://bucket/a/b"
    assert str(places.as_path("gs://bucket/a") / "b") == "gs://bucket/a/b"
    assert places.as_path(places.as_path("gs://bucket/a")) is not None


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "ftp://host/a",
            "^ftp://host/a: expected a path of this machine, or",
        ),
        ("memory://a", "a URL of gs://, s3://, az://, hf://$"),
        (
            "s3://bucket/a",
            "packages that are not installed; .* install none-such",
        ),
    ],
)
def test_urls_that_cannot_be_reached(monkeypatch, url, message):
    monkeypatch.setitem(places.SCHEMES, "s3", ("none.such", "json"))
    with pytest.raises(UserError, match=message):
        places.as_path(url)


def test_files_are_put_whole(content):
    url = "gs://bucket/runs/a.txt"
    assert str(atomic.write_text(url, "ü")) == url
    assert content["bucket/runs/a.txt"][0] == "ü".encode()
    with pytest.raises(ZeroDivisionError):
        with atomic.replacing(url) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError
    assert content["bucket/runs/a.txt"][0] == "ü".encode()
    with places.fetched(url) as copy:
        assert copy.read_text() == "ü"
    assert not copy.exists()


def test_a_bucket_that_refuses(content, monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("403: not\nfor you")

    with pytest.raises(UserError, match="//bucket/none: cannot be read .bucket/no"):
        with places.fetched("gs://bucket/none"):
            pass
    monkeypatch.setattr(bucket.BucketFileSystem, "_open", refuse)
    for write in (atomic.probe, lambda url: atomic.write_text(url, "")):
        with pytest.raises(UserError, match=r"cannot write .*\(403: not for you\)"):
            write("gs://bucket/a.txt")


def test_a_probe_leaves_no_trace(content):
    atomic.probe("gs://bucket/runs/a.txt")
    assert not any("probe" in key or key.endswith(".txt") for key in content)


def test_data_and_results_in_a_bucket(content, tmp_path):
    data, url = make(), "gs://bucket/data/pg1.hdf5"
    dsrl.write(url, data, columns={"risk": np.arange(3)})
    dsrl.write(tmp_path / "pg1.hdf5", data, columns={"risk": np.arange(3)})
    assert content["bucket/data/pg1.hdf5"][0] == (tmp_path / "pg1.hdf5").read_bytes()
    loaded = dsrl.load(url)
    assert_same(loaded, data)
    assert loaded.source == url
    np.testing.assert_array_equal(dsrl.read_columns(url)["risk"], np.arange(3))
    with pytest.raises(UserError, match="^gs://bucket/no.hdf5: cannot be read"):
        dsrl.load("gs://bucket/no.hdf5")
    bucket.put("bucket/bad.hdf5", b"text")
    with pytest.raises(UserError, match="bad.hdf5: not an HDF5 file"):
        dsrl.load("gs://bucket/bad.hdf5")

    rows = [make_row()]
    path = results.write_results("gs://bucket/runs/results.csv", rows)
    assert results.read_results(path) == rows
    with pytest.raises(UserError, match="does not exist"):
        results.read_results("gs://bucket/none.csv")


def test_parts_of_a_measurement_in_a_bucket(content):
    asked = []

    def measure(seeds, count):
        asked.append(count)
        return {"x": seeds * 2}

    for _ in range(2):
        found = parts.in_parts("gs://bucket/parts", {"a": 1}, np.arange(5), 3, measure)
        np.testing.assert_array_equal(found["x"], 2 * np.arange(5))
    assert asked == [3, 2]
    assert not [name for name in os.listdir() if name.startswith("gs:")]
