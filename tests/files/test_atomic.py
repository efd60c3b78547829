"""Files are whole or not there, on disks that are full, read-only or in the way."""

import errno
import os

import pytest

from sas_jax.errors import UserError
from sas_jax.files import atomic


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.ENOSPC, "expected free space"),
        (errno.EDQUOT, "expected free space"),
        (errno.EROFS, "expected a writable folder"),
        (errno.EACCES, "expected a writable folder"),
        (errno.EIO, "expected a writable folder"),
    ],
)
def test_a_disk_that_fails_is_one_line_and_the_old_file_stays(tmp_path, code, expected):
    path = atomic.write_text(tmp_path / "a.txt", "old")
    with pytest.raises(UserError, match=f"cannot write .*a.txt.*{expected}") as error:
        with atomic.replacing(path) as temporary:
            temporary.write_text("half of the n")
            raise OSError(code, os.strerror(code))
    assert os.strerror(code) in str(error.value)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_what_the_body_does_wrong_is_not_blamed_on_the_disk(tmp_path):
    with pytest.raises(FileNotFoundError):
        with atomic.replacing(tmp_path / "a.txt"):
            open(tmp_path / "not there")
    with pytest.raises(ZeroDivisionError):
        with atomic.replacing(tmp_path / "a.txt"):
            raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "b").write_text("")
    for write in (atomic.probe, lambda path: atomic.write_text(path, "")):
        with pytest.raises(UserError, match="cannot write"):
            write(tmp_path / "b" / "a.txt")


def test_a_probe_leaves_no_trace(tmp_path):
    atomic.probe(tmp_path / "deep" / "er" / "a.txt")
    assert os.listdir(tmp_path) == []
    path = atomic.write_text(tmp_path / "a.txt", "old")
    atomic.probe(path)
    assert path.read_text() == "old"
    with pytest.raises(UserError, match="is a folder; expected a file"):
        atomic.probe(tmp_path)


def test_a_probe_finds_a_disk_that_cannot_be_written(tmp_path, monkeypatch):
    def fails(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("pathlib.Path.write_bytes", fails)
    with pytest.raises(UserError, match="Read-only file system"):
        atomic.probe(tmp_path / "new" / "a.txt")
    assert os.listdir(tmp_path) == []
