"""Recordings that were made on the device, as files."""

import numpy as np
import pytest

from sas_jax.data import collect, dsrl
from sas_jax.errors import UserError
from sas_jax.jax_envs import named, recording
from tests.helpers import tiny_jax

TINY = "jax:tests.helpers.tiny_jax:make,limits=1/2"
LEANING = "tests.helpers.tiny_jax:leaning"


@pytest.fixture(autouse=True)
def registries(monkeypatch):
    yield from tiny_jax.forgotten(monkeypatch)


def test_a_recording_is_a_file_like_any_other(tmp_path):
    plan = collect.Plan(TINY, episodes=5, seed=2, policy=LEANING)
    made = recording.record(plan, tmp_path / "tiny.hdf5", at_once=2)
    read = dsrl.load(tmp_path / "tiny.hdf5", task=TINY)
    assert read.fingerprint() == made.fingerprint() and read.num_episodes == 5
    # Every episode leans to a side of its own.
    sides = [made.actions[a:b].mean(0) for a, b in zip(*_bounds(made), strict=True)]
    assert np.std(sides, axis=0).min() > 0.2
    before = (tmp_path / "tiny.hdf5").stat().st_mtime_ns
    again = recording.record(plan, tmp_path / "tiny.hdf5", at_once=2)
    assert again.fingerprint() == made.fingerprint()
    assert (tmp_path / "tiny.hdf5").stat().st_mtime_ns == before
    other = collect.Plan(TINY, episodes=5, seed=3, policy=LEANING)
    with pytest.raises(UserError, match="not this recording .*seed 2 where 3"):
        recording.record(other, tmp_path / "tiny.hdf5")
    with pytest.raises(UserError, match="on_device cpu where None"):
        collect.collect(plan, tmp_path / "tiny.hdf5", workers=1)


def _bounds(episodes):
    return episodes.offsets[:-1], episodes.offsets[1:]


def test_what_cannot_run_on_the_device_is_told(tmp_path):
    out = tmp_path / "x.hdf5"
    with pytest.raises(UserError, match="task PointGoal1: runs in processes"):
        recording.record(collect.Plan("PointGoal1", 1, 0, policy="random"), out)
    with pytest.raises(UserError, match="policy: expected random or module:function"):
        recording.behaviour_of(named.env_of(TINY), "")
    plan = collect.Plan(TINY, 1, 0, policy="tests.helpers.tiny_jax:narrow")
    with pytest.raises(UserError, match=r"TypeError .*narrow.*with \(env, key\)"):
        recording.record(plan, out)
    lost = TINY.replace(":make", ":lost")
    plan = collect.Plan(lost, 3, 0, policy=LEANING)
    with pytest.raises(UserError, match="nan.*recorded from jax.*nothing was written"):
        recording.record(plan, out)
    assert not out.exists()
