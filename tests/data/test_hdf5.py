"""Files that claim what they do not hold, and attributes that are not to be read."""

import h5py
import numpy as np
import pytest

from sas_jax.data import dsrl, hdf5
from sas_jax.errors import UserError
from tests.helpers.dsrl_samples import OBS, as_dsrl, make, save


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


def test_attributes_of_fixed_size_are_read_and_others_passed_over(tmp_path):
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        hdf5.write_attribute(file, "text", "Käfer")
        hdf5.write_attribute(file, "number", np.int64(-3))
        file.attrs["variable"] = "X"
        file.attrs["several"] = [1, 2]
        file.attrs["real"] = 0.5
    with hdf5.open_file(path) as file:
        names = ("text", "number", "variable", "several", "real", "absent")
        found = [hdf5.read_attribute(file, name) for name in names]
    assert found == ["Käfer", -3, None, None, None, None]


def test_a_task_in_a_string_of_variable_length_is_not_read_and_this_is_said(tmp_path):
    path = save(tmp_path / "mine.hdf5", as_dsrl(make()), task=None)
    with h5py.File(path, "a") as file:
        file.attrs["task"] = "PointGoal1"  # h5py's default
    with pytest.raises(UserError, match="variable length are not read.*task=NAME"):
        dsrl.load(path)
    assert dsrl.load(path, task="PointGoal1").task == "PointGoal1"
