"""Files that claim what they do not hold, odd but valid ones, and failing disks."""

import errno
import fcntl

import h5py
import numpy as np
import pytest

from sas_jax.data import dsrl, hdf5
from sas_jax.errors import UserError
from tests.helpers.dsrl_samples import OBS, as_dsrl, assert_same, make, save


@pytest.mark.parametrize("storage", ["compressed", "chunked", "contiguous"])
def test_claimed_sizes_are_not_believed(tmp_path, storage):
    arrays = as_dsrl(make())
    path = save(tmp_path / "a.hdf5", arrays)
    huge = 10**12
    kwargs = {
        "compressed": {"compression": "gzip", "chunks": (1000, OBS)},
        "chunked": {"chunks": (1000, OBS)},
        "contiguous": {},
    }[storage]
    with h5py.File(path, "a") as file:
        del file["observations"]
        claim = file.create_dataset("observations", (huge, OBS), np.float32, **kwargs)
        if storage != "contiguous":
            claim[:50] = arrays["observations"]
    with pytest.raises(UserError, match="bytes are stored"):
        dsrl.load(path)


def test_a_decompression_bomb_is_refused(tmp_path):
    """One valid chunk of zeros, then a size that only a lie about chunks can hold."""
    path = save(tmp_path / "a.hdf5", as_dsrl(make()))
    with h5py.File(path, "a") as file:
        del file["rewards"]
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((1 << 28,))
        plist.set_deflate(9)
        space = h5py.h5s.create_simple((1 << 28,))
        dataset = h5py.h5d.create(
            file.id, b"rewards", h5py.h5t.NATIVE_FLOAT, space, plist
        )
        dataset.write_direct_chunk((0,), b"x\x9c\x03\x00\x00\x00\x00\x01")
    with pytest.raises(UserError, match="bytes are stored"):
        dsrl.load(path)


def test_values_in_other_files_are_not_followed(tmp_path):
    other = save(tmp_path / "other.hdf5", as_dsrl(make()))
    path = save(tmp_path / "a.hdf5", as_dsrl(make()))
    with h5py.File(path, "a") as file:
        del file["costs"]
        file["costs"] = h5py.ExternalLink(str(other), "costs")
    with pytest.raises(UserError, match="'costs' is a link"):
        dsrl.load(path)


ATTRIBUTES = {
    "fixed": (np.bytes_("PointGoal1"), "PointGoal1"),
    "bytes": (b"PointGoal1", "PointGoal1"),
    "text": ("PointGoal1", "PointGoal1"),  # h5py: a string of variable length
    "array of bytes": (np.array([b"PointGoal1"]), "PointGoal1"),
    "list of text": (["PointGoal1"], "PointGoal1"),
    "object": (np.array("PointGoal1", h5py.string_dtype("ascii")), "PointGoal1"),
    "number": (np.int64(-3), -3),
    "umlaut": (np.bytes_("Käfer".encode()), "Käfer"),
    "several": ([1, 2], None),
    "two names": (["a", "b"], None),
    "real": (0.5, None),
    "empty": (h5py.Empty("S10"), None),
}


@pytest.mark.parametrize("form", ATTRIBUTES)
def test_attributes_in_every_natural_form(tmp_path, form):
    value, expected = ATTRIBUTES[form]
    with h5py.File(tmp_path / "a.hdf5", "w", userblock_size=512) as file:
        file.attrs["x"] = value
    with hdf5.open_file(tmp_path / "a.hdf5") as file:
        assert hdf5.read_attribute(file, "x") == expected
        assert hdf5.read_attribute(file, "absent") is None


def test_a_task_in_a_string_of_variable_length(tmp_path):
    path = save(tmp_path / "mine.hdf5", as_dsrl(make()), task=None)
    with h5py.File(path, "a") as file:
        file.attrs["task"] = "PointGoal1"
    assert dsrl.load(path).task == "PointGoal1"


@pytest.mark.parametrize("damage", ["no size", "beyond the end", "version"])
def test_a_damaged_heap_of_strings_is_not_walked(tmp_path, damage):
    """With a free object of size 0 libhdf5 2.0.0 would loop for ever."""
    path = save(tmp_path / "mine.hdf5", as_dsrl(make()), task=None)
    with h5py.File(path, "a") as file:
        file.attrs["task"] = "PointGoal1"
    content = bytearray(path.read_bytes())
    start = content.index(b"GCOL")
    if damage == "no size":  # after the first object: 16 bytes each of head and text
        content[start + 48 : start + 80] = bytes(32)
    elif damage == "beyond the end":
        content[start + 24 : start + 32] = b"\xff" * 8
    else:
        content[start + 4] = 7
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match="'task': damaged HDF5 file .a heap of strings"):
        dsrl.load(path)


def test_soft_links_inside_the_file_are_followed(tmp_path):
    path = save(tmp_path / "a.hdf5", as_dsrl(make()))
    with h5py.File(path, "a") as file:
        file["data/step/obs"] = file["observations"]
        file["short"] = h5py.SoftLink("data/step")
        del file["observations"]
        file["observations"] = h5py.SoftLink("/short/obs")
    assert_same(dsrl.load(path), make())


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("/nowhere", "leads to nothing in this file"),
        ("/costs", "is a link"),  # to itself
        ("/outside/costs", "is a link, expected a data set in this file"),
        ("/infos", "is a group"),
    ],
)
def test_links_that_lead_astray(tmp_path, target, message):
    other = save(tmp_path / "other.hdf5", as_dsrl(make()))
    path = save(tmp_path / "a.hdf5", as_dsrl(make()))
    with h5py.File(path, "a") as file:
        del file["costs"]
        file.create_group("infos")
        file["outside"] = h5py.ExternalLink(str(other), "/")
        file["costs"] = h5py.SoftLink(target)
    with pytest.raises(UserError, match=message):
        dsrl.load(path)


@pytest.mark.parametrize("storage", [{}, {"chunks": (20,)}])
def test_values_never_written_are_the_fill_value(tmp_path, storage):
    """A flag that is never set need not be written."""
    data = make()
    data.terminated[:] = False
    path = save(tmp_path / "a.hdf5", as_dsrl(data))
    with h5py.File(path, "a") as file:
        del file["terminals"]
        file.create_dataset("terminals", (data.num_steps,), bool, **storage)
    with pytest.warns(dsrl.DataWarning, match="'terminals' was not written in full"):
        assert_same(dsrl.load(path), data)


def test_observations_must_be_written(tmp_path):
    path = save(tmp_path / "a.hdf5", as_dsrl(make()))
    with h5py.File(path, "a") as file:
        del file["observations"]
        file.create_dataset("observations", (50, OBS), np.float32, chunks=(10, OBS))
    with pytest.raises(UserError, match="only 0 bytes are stored"):
        dsrl.load(path)


def test_a_file_that_is_being_written_is_not_called_damaged(tmp_path):
    path = save(tmp_path / "a.hdf5", as_dsrl(make()))
    with open(path, "rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)  # as libhdf5 does for a writer
        with pytest.raises(UserError, match="another process writes to this") as error:
            dsrl.load(path)
    assert "damaged" not in str(error.value)
    dsrl.load(path)


@pytest.mark.parametrize("locking", [None, True, False, "best-effort"])
def test_a_file_that_this_process_has_open(tmp_path, locking):
    """libhdf5 refuses to open it again with another way of locking."""
    path = save(tmp_path / "a.hdf5", as_dsrl(make()))
    with h5py.File(path, "r", locking=locking):
        assert_same(dsrl.load(path), make())


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks(tmp_path, monkeypatch, code):
    """Network file systems answer so; libhdf5 reports it in its message only."""
    path = save(tmp_path / "a.hdf5", as_dsrl(make()))
    real = h5py.File

    def without_locks(name, mode="r", locking=None, **kwargs):
        if locking is not False:
            raise OSError(f"Unable to open file (unable to lock file, errno = {code})")
        return real(name, mode, locking=locking, **kwargs)

    monkeypatch.setattr(h5py, "File", without_locks)
    assert_same(dsrl.load(path), make())
    dsrl.write(tmp_path / "b.hdf5", make())
    assert_same(dsrl.load(tmp_path / "b.hdf5"), make())


def test_an_error_of_the_disk_is_not_called_damage(tmp_path, monkeypatch):
    path = save(tmp_path / "a.hdf5", as_dsrl(make()))

    def fails(*args, **kwargs):
        raise OSError("Unable to open file (file read failed: errno = 5, ...)")

    monkeypatch.setattr(h5py, "File", fails)
    with pytest.raises(UserError, match="cannot be read: Input/output error"):
        dsrl.load(path)


def test_a_missing_filter_is_named(tmp_path):
    path = save(tmp_path / "a.hdf5", as_dsrl(make()))
    with h5py.File(path, "a") as file:
        del file["rewards"]
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((50,))
        plist.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, ())  # blosc's number
        space = h5py.h5s.create_simple((50,))
        kind = h5py.h5t.NATIVE_FLOAT
        dataset = h5py.h5d.create(file.id, b"rewards", kind, space, plist)
        dataset.write_direct_chunk((0,), bytes(120))
    with pytest.raises(UserError, match="'rewards' is compressed by filter 32001"):
        dsrl.load(path)
