"""Rows that do not follow one another, in the ways that files come to hold them."""

import numpy as np
import pytest

from sas_jax.data import dsrl
from sas_jax.errors import UserError
from tests.helpers.dsrl_samples import OBS, as_dsrl, assert_same, make, save


def shuffled(arrays):
    """Every step once, in any order; the ends stay where they were."""
    order = np.random.default_rng(1).permutation(50)
    flags = ("terminals", "timeouts")
    return {k: v if k in flags else v[order] for k, v in arrays.items()}


def interleaved(arrays):
    """Two environments of 25 steps, written step by step as they came."""
    order = np.arange(50).reshape(2, 25).T.ravel()
    return {k: v[order] for k, v in arrays.items()}


@pytest.mark.parametrize("spoil", [shuffled, interleaved])
@pytest.mark.parametrize("block_bytes", [2000, 1 << 20])
def test_rows_out_of_order_are_refused(tmp_path, monkeypatch, spoil, block_bytes):
    monkeypatch.setattr(dsrl, "_BLOCK_BYTES", block_bytes)
    arrays = spoil(as_dsrl(make(lengths=(25, 25))))
    path = save(tmp_path / "a.hdf5", arrays)
    ends = np.flatnonzero(arrays["terminals"] | arrays["timeouts"])
    used = ends[-1] + 1
    gap = arrays["next_observations"][: used - 1] != arrays["observations"][1:used]
    broken = gap.any(1)
    broken[ends[:-1]] = False
    inside = used - len(ends)
    assert broken.sum() > 40
    with pytest.raises(UserError, match=f"in {broken.sum()} of {inside} steps") as e:
        dsrl.load(path)
    assert f"rows {np.flatnonzero(broken)[0]}, " in str(e.value)
    with pytest.warns(dsrl.RowOrderWarning, match=f"in {broken.sum()} of {inside}"):
        dsrl.load(path, allow_breaks=True)


def test_the_only_break_is_found_and_placed(tmp_path):
    arrays = as_dsrl(make())
    arrays["next_observations"] = arrays["next_observations"].copy()
    arrays["next_observations"][33, 7] += 0.5
    message = "in 1 of 47 steps inside episodes: rows 33 .row 33, column 7: 0.5 away"
    with pytest.raises(UserError, match=message):
        dsrl.load(save(tmp_path / "a.hdf5", arrays))


def test_what_follows_an_end_is_free(tmp_path):
    """A time-out's next observation may be the next episode's first, or its own."""
    arrays = as_dsrl(make())
    ends = np.flatnonzero(arrays["terminals"] | arrays["timeouts"])
    arrays["next_observations"][ends[:-1]] = arrays["observations"][ends[:-1] + 1]
    dsrl.load(save(tmp_path / "a.hdf5", arrays))


def test_digits_lost_to_a_filter_are_no_break(tmp_path):
    """HDF5's scale-offset filter rounds each array by its own offset."""
    arrays = as_dsrl(make())
    for key in ("observations", "next_observations"):
        noise = np.random.default_rng(len(key)).uniform(-1e-4, 1e-4, (50, OBS))
        arrays[key] = arrays[key] + noise.astype(np.float32)
    dsrl.load(save(tmp_path / "a.hdf5", arrays))


def test_episodes_of_one_step_have_no_order(tmp_path):
    data = make(lengths=(1,) * 5)
    assert_same(dsrl.load(save(tmp_path / "a.hdf5", as_dsrl(data))), data)
