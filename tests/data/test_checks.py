"""Data that cannot be trained on, and data that deserve a warning."""

import dataclasses
import warnings

import numpy as np
import pytest

from sas_jax.data import checks, device_rows
from sas_jax.errors import UserError
from tests.helpers.model_fixtures import make_episodes, make_spec


def spoiled(name, index, value):
    episodes = make_episodes()
    array = getattr(episodes, name).copy()
    array[index] = value
    return dataclasses.replace(episodes, **{name: array})


@pytest.mark.parametrize(
    "name, index, value, place",
    [
        ("observations", (41, 3), np.nan, "nan in episode 1, step 1, column 3;"),
        (
            "observations",
            (slice(None), 2),
            np.nan,
            "nan in episode 0, step 0, column 2",
        ),
        ("actions", (39, 1), -np.inf, "-inf in episode 0, step 39, column 1;"),
        ("rewards", 40, np.nan, "rewards has nan in episode 1, step 0;"),
        ("costs", 0, np.inf, "costs has inf in episode 0, step 0;"),
        ("final_observations", (1, 4), np.nan, "nan in episode 1, step 25, column 4;"),
    ],
)
def test_numbers_that_are_none_are_found(name, index, value, place):
    with pytest.raises(UserError) as error:
        checks.check_finite(spoiled(name, index, value))
    assert place in str(error.value) and name in str(error.value)
    assert "\n" not in str(error.value)


def test_finite_data_pass():
    checks.check_finite(make_episodes())


def test_a_late_block_is_looked_at(monkeypatch):
    monkeypatch.setattr(checks, "_BLOCK", 7)
    with pytest.raises(UserError, match="episode 5, step 39, column 0"):
        checks.check_finite(spoiled("observations", (187, 0), np.nan))


def test_data_of_another_size_are_refused():
    other = make_episodes(obs_dim=7)
    with pytest.raises(UserError, match="of size 7 .* size 2; expected 5 and 2 as in"):
        device_rows.to_device(other, make_spec())


def test_constant_columns_are_listed():
    """Column 4 is one, and no sensor that must be."""
    with pytest.warns(checks.ConstantColumnWarning, match="observation columns: 4;"):
        checks.warn(make_episodes(), context=5)
    with pytest.warns(checks.ConstantColumnWarning, match="action columns: 1;"):
        checks.warn(spoiled("actions", (slice(None), 1), 0.5), context=5)


def test_what_a_task_cannot_change_is_no_news():
    """The point robot's vertical sensors: accelerometer z is column 2."""
    assert checks.known_constants("PointGoal1") == {2, 5, 6, 7, 11}
    assert checks.known_constants("CarGoal1") == frozenset()
    episodes = make_episodes(obs_dim=4)
    columns = episodes.observations[:, [0, 1, 3, 2]]
    finals = episodes.final_observations[:, [0, 1, 3, 2]]
    episodes = dataclasses.replace(
        episodes, observations=columns, final_observations=finals
    )
    assert checks.constant_columns(columns).tolist() == [2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checks.warn(episodes, context=5)


def test_rounding_is_not_variation():
    column = np.full((1000, 1), 9.81, np.float32)
    column[::2] = np.nextafter(np.float32(9.81), np.float32(10))
    assert checks.constant_columns(column).tolist() == [0]
    assert checks.constant_columns(column + 1e-3 * np.eye(1000, 1)).tolist() == []


def test_short_episodes_are_counted():
    with pytest.warns(checks.ShortEpisodeWarning, match="2 of 6 .* context of 30 .*12"):
        checks.warn(make_episodes(), context=30)
