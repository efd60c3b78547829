"""A folder for one process at a time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sas_jax.errors import UserError
from sas_jax.files.lock import FolderLock

ROOT = Path(__file__).resolve().parents[2]
_HOLDER = """
import sys, time
from sas_jax.files.lock import FolderLock
lock = FolderLock(sys.argv[1], "training")
print("held", flush=True)
time.sleep(60)
"""


def test_another_process_is_named_and_its_death_frees_the_folder(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(UserError) as error:
                FolderLock(tmp_path, "training")
            FolderLock(tmp_path, "something else").release()
        finally:
            holder.kill()
    said = str(error.value)
    assert "training is going on there already" in said and "\n" not in said
    assert f"process {holder.pid} on " in said
    FolderLock(tmp_path, "training").release()


def test_release_frees_the_folder_and_may_be_repeated(tmp_path):
    first = FolderLock(tmp_path, "training")
    with pytest.raises(UserError, match=f"process {os.getpid()} on"):
        FolderLock(tmp_path, "training")
    first.release()
    first.release()
    second = FolderLock(tmp_path, "training")
    # A name that is longer than the one before is not what is left of that one.
    assert (tmp_path / ".training.lock").read_text().count("process") == 1
    second.release()


def test_a_place_without_locks_is_used_without(tmp_path, monkeypatch):
    from sas_jax.files import lock

    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    one, two = FolderLock(tmp_path, "training"), FolderLock(tmp_path, "training")
    one.release()
    two.release()


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="absent.*expected a writable folder"):
        FolderLock(tmp_path / "absent", "training")
