"""Minari's sets: what is written is what its own package and we read."""

import numpy as np
import pytest

from sas_jax import data as data_lib
from sas_jax.data import minari_sets
from sas_jax.errors import UserError
from tests.helpers.dsrl_samples import assert_same, make


def test_without_minari_the_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(UserError, match=r"expected the extra \[minari\]"):
        data_lib.load("minari:mine/x-v0", task="PointGoal1")
    with pytest.raises(UserError, match=r"expected the extra \[minari\]"):
        minari_sets.write("mine/x-v0", make())


def test_a_set_that_we_wrote_is_whole(tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    data = make()
    minari_sets.write("mine/pg1-v0", data)
    found = minari.load_dataset("mine/pg1-v0")
    assert found.total_episodes == 3 and found.total_steps == 50
    for e, episode in enumerate(found.iterate_episodes()):
        assert found.spec.observation_space.contains(episode.observations[0])
        assert found.spec.action_space.contains(episode.actions[0])
        rows = slice(data.offsets[e], data.offsets[e + 1])
        np.testing.assert_array_equal(episode.infos["cost"][1:], data.costs[rows])
        assert episode.terminations[-1] == data.terminated[e]
    again = data_lib.load("minari:mine/pg1-v0", task="PointGoal1")
    assert_same(again, data)
    with pytest.raises(UserError, match="no task here; pass task="):
        data_lib.load("minari:mine/pg1-v0")
    with pytest.raises(UserError, match="mine/pg1-v0: cannot be written"):
        minari_sets.write("mine/pg1-v0", data)
    with pytest.raises(UserError, match="minari:none/x-v0: cannot be read"):
        data_lib.load("minari:none/x-v0", task="PointGoal1")
