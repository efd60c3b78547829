"""The study of the bound from pools to rows, on pools made up by hand."""

import numpy as np
import pytest

from sas_jax.studies import bound, bound_rows
from sas_jax.studies.bound_rows import study
from sas_jax.studies.probe import make_probe
from tests.evaluation.test_evaluate import make_checkpoint
from tests.helpers.model_fixtures import make_episodes

SEEDS = np.arange(100, 111)


@pytest.fixture
def made_up(monkeypatch):
    """Even seeds stay at energy 3, odd ones reach 20; data lie between 0 and 10."""
    parts = []

    def make_pools(probe, num_firsts, num_second, *, progress):
        def pools(seeds, obs):
            parts.append(len(seeds))
            np.testing.assert_array_equal(obs[:, 0], seeds)
            shape = (len(seeds), len(num_firsts), num_second)
            high = np.where(seeds % 2, 20.0, 3.0)
            return {
                "level": np.broadcast_to(high[:, None], shape[:2]),
                "peak": np.broadcast_to(high[:, None, None], shape),
                "low": np.full(shape, 1.0),
                "score": np.zeros(shape, int),
                "step": np.full(len(seeds), 2.0),
            }

        return pools

    def first_observations(task, seeds, *, num_workers=None):
        return np.repeat(np.float32(seeds)[:, None], 60, axis=1)

    energies = np.tile(np.linspace(0.0, 10.0, 11), (4, 1))
    monkeypatch.setattr(bound, "make_pools", make_pools)
    monkeypatch.setattr(bound_rows, "first_observations", first_observations)
    monkeypatch.setattr(bound_rows, "data_energies", lambda *_, **__: energies)
    return parts


def test_rows_measure_the_layouts_and_state_the_bound(made_up, tmp_path):
    probe, episodes = make_probe(make_checkpoint()), make_episodes((11,) * 4)
    found = study(
        probe,
        episodes,
        SEEDS,
        num_firsts=(3, 1),
        num_seconds=(1, 2, 4),
        folder=tmp_path,
    )
    assert made_up == [bound.LAYOUTS] * 2  # one shape, the last part filled up
    assert len(found.rows) == 3 * 2 * 3
    data = [row for row in found.rows if row.upper == "data"]
    assert [(r.num_first, r.num_second) for r in data[:4]] == [
        (1, 1),
        (1, 2),
        (1, 4),
        (3, 1),
    ]
    for row in data:  # c2 = 10: five odd seeds of eleven leave by the upper end
        assert row.leaves.mean == pytest.approx(5 / 11) == row.above
        assert row.below == 0 and row.leaves.num_clusters == 11
        horizon = probe.horizon
        assert row.markov == pytest.approx(0.5 ** (row.num_first * horizon))
        exponent = 2 * row.num_second * 10**2 / (horizon * 2.0**2)
        assert row.hoeffding == pytest.approx(np.exp(-exponent))
    paper = [row for row in found.rows if row.upper == "paper"]
    assert all(row.leaves.mean == 0 for row in paper)  # nothing lies above
    assert set(found.notes) >= {"E_D[E]", "c1", "L", "kappa", "T", "c2 paper"}
    study(probe, episodes, SEEDS, num_firsts=(1, 3), num_seconds=(4,), folder=tmp_path)
    assert len(made_up) == 2  # the same pools serve any M up to theirs
