"""Data that cannot be trained on, and data that deserve a warning."""

import dataclasses
import warnings

import numpy as np
import pytest

from sas_jax.data import checks, device_rows, dsrl
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
        ("observations", (7, 3), 1e30, "has 1e+30 in episode 0, step 7, column 3;"),
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


def test_data_of_another_task_are_refused_whatever_their_sizes():
    checks.check_task(make_episodes(), "PointGoal1", owner="x")
    with pytest.raises(UserError, match="PointGoal1: expected PointGoal2, the task of"):
        checks.check_task(make_episodes(), "PointGoal2", owner="the configuration")


def test_training_warns_of_every_finding_by_name():
    """Column 4 is constant; an action column, too, once it is spoiled."""
    with pytest.warns(dsrl.DataWarning) as caught:
        checks.warn(spoiled("actions", (slice(None), 1), 0.5), context=30)
    texts = [str(warning.message) for warning in caught]
    names = ["constant-columns", "early-timeouts", "all-episodes-safe"]
    names.append("shorter-than-context")
    assert [text.split(":")[0] for text in texts] == names
    assert "observation 4 (velocimeter), action 1; nothing can be learnt" in texts[0]
    assert "2 of 6 episodes are shorter than the context of 30 steps" in texts[-1]
    assert all("data of PointGoal1" in text and "\n" not in text for text in texts)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in names[:-1]:  # a name is enough to filter by
            warnings.filterwarnings("ignore", name)
        checks.warn(make_episodes(), context=5)
