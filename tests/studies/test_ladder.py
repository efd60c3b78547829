"""Figures of a ladder's curves, on curves whose figures are known."""

import math

import numpy as np
import pytest

from sas_jax.jax_envs import point_mass
from sas_jax.studies import ladder


def test_the_limit_is_met_from_the_start_on_only():
    risk = np.array([0.0, 0.5, 0.3, 0.1, 0.4, 0.0])
    assert ladder.first_met(risk, 0.1, 1) == 3
    assert ladder.first_met(risk + 1, 0.1, 1) == 3  # never: the middle


def test_spread_of_a_triangle_and_of_a_constant():
    std, variation = ladder.spread(np.array([0.0, 2.0, 0.0, 2.0, 0.0]))
    assert variation == 4.0 and std == pytest.approx(np.sqrt(0.96))
    assert ladder.spread(np.ones(4)) == (0.0, 0.0)


def test_the_period_of_waves_on_a_slope():
    time = np.arange(60)
    waves = np.stack([np.sin(2 * np.pi * time / 12 + p) for p in (0, 1, 2)], 1)
    assert ladder.main_period(waves + 0.5 * time[:, None]) == 12
    assert math.isnan(ladder.main_period(np.ones((60, 2))))
    assert math.isnan(ladder.main_period(waves[:2]))


def test_costs_within_a_horizon_count_the_next_step():
    cost = np.array([[0, 0, 1, 0, 0, 0]]) > 0
    soon = ladder.costs_within(cost, 2)
    assert soon.tolist() == [[False, True, True, False]]


def test_probe_states_lie_on_the_map_and_stay_the_same():
    probes = ladder.probe_states()
    assert probes.shape == (256, point_mass.make().obs_dim)
    assert np.abs(probes).max() <= 1
    np.testing.assert_array_equal(probes, ladder.probe_states())
