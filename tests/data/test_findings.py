"""What is found in data whose faults are known, and that sound data have none."""

import dataclasses
import os
import pathlib
import re

import numpy as np
import pytest

from sas_jax.data import columns, dsrl, findings
from tests.helpers.dsrl_samples import OBS, ROOT, make_sound

REAL = pathlib.Path(
    os.environ.get("SAS_JAX_DSRL_SUBSET", ROOT / "../shared/data/dsrl_bullet_subset")
)


def sound(**changes):
    """Two episodes of the task's length: nothing to say about them."""
    return make_sound(count=2, length=1000, **changes)


def put(name, index, value):
    def spoil(data):
        getattr(data, name)[index] = value
        return data

    return spoil


def cut(*ends, terminated=False):
    """The same steps as other episodes, which end after these steps."""

    def spoil(data):
        return dataclasses.replace(
            data,
            offsets=np.array([0, *ends]),
            final_observations=np.zeros((len(ends), OBS), np.float32),
            terminated=np.full(len(ends), terminated),
        )

    return spoil


def repeat(data):
    data = data.select([0, 1, 0])
    data.rewards[2500] = 7.0  # whatever their rewards
    return data


def jump(data):
    data.observations[1000] += 20.0
    return data


CASES = {
    "negative-costs": (put("costs", 4, -1.0), "1 of 2000 steps cost less than 0"),
    "large-costs": (put("costs", slice(0, 2000, 50), 7.5), "40 of 2000 .*.largest 7.5"),
    "fractional-costs": (put("costs", 4, 0.25), "between 0 and 1 .smallest 0.25.; the"),
    "outlying-values": (
        put("observations", (1007, 30), -1e6),
        "observations reach -1e.06 in episode 1, step 7, column 30; 99.9 % of that",
    ),
    "constant-columns": (
        put("observations", (..., 4), 2.0),
        r"observation 4 \(velocimeter\); nothing",
    ),
    "actions-outside-box": (put("actions", (7, 0), 1.3), "1 of 2000 actions .*1.3"),
    "repeated-episodes": (repeat, "1 of 3 episodes repeat an earlier one: 2"),
    "first-observations": (jump, "1 of 2 episodes jump .* start in .episodes 1"),
    "early-timeouts": (cut(900, 2000), "1 of 2 episodes time out before 1000 .*900"),
    "long-episodes": (cut(2000), "1 of 1 episodes are longer than 1000 .*longest 2000"),
    "short-episodes": (
        cut(*range(50, 2001, 50), terminated=True),
        "40 of 40 episodes terminate within a tenth of the 1000 steps",
    ),
    "terminals-at-limit": (
        cut(1000, 2000, terminated=True),
        "2 of 2 episodes terminate at exactly 1000 steps, the time limit",
    ),
    "one-reward": (put("rewards", ..., 0.5), "every step has the reward 0.5"),
    "all-episodes-safe": (
        put("costs", ..., 0.0),
        "the largest cost of an episode is 0",
    ),
    "no-episode-safe": (lambda data: data, "the smallest cost of an episode is 500"),
}


@pytest.mark.parametrize("name", CASES)
def test_each_is_found_by_name(name):
    spoil, message = CASES[name]
    found = {f.name: f.text for f in findings.look(spoil(sound()))}
    assert re.search(message, found[name]), found[name]
    assert "\n" not in found[name]


def test_every_finding_has_a_case():
    assert set(CASES) == set(findings.FINDINGS)


def test_the_page_about_data_names_all():
    text = (ROOT / "docs/howto/bring_your_data.md").read_text()
    assert not [name for name in findings.FINDINGS if f"`{name}`" not in text]


def test_sound_data_have_none():
    data = sound()
    data.costs[40:1000] = 0.0
    data.costs[1100:] = 0.0
    assert findings.look(data) == []


def test_long_lists_are_cut():
    many = make_sound().select(np.zeros(12, int))
    (found,) = [f for f in findings.look(many) if f.name == "repeated-episodes"]
    assert "1, 2, 3, 4, 5, 6, 7, 8 and 3 more" in found.text
    np.testing.assert_array_equal(findings.duplicate_episodes(many), np.arange(1, 12))


def test_what_a_task_cannot_change_is_no_news():
    """The point robot's vertical sensors: accelerometer z is column 2."""
    known = findings.known_constants("PointGoal1")
    assert known == {2, 5, 6, 7, 11}
    assert findings.known_constants("CarGoal1") == frozenset()
    data = sound()
    data.observations[:, sorted(known)] = 9.81
    assert not [f for f in findings.look(data) if f.name == "constant-columns"]


def test_rounding_is_not_variation():
    column = np.full((1000, 1), 9.81, np.float32)
    column[::2] = np.nextafter(np.float32(9.81), np.float32(10))
    assert columns.constant_columns(column).tolist() == [0]
    assert columns.constant_columns(column + 1e-3 * np.eye(1000, 1)).tolist() == []


def test_episodes_of_one_step_do_not_jump():
    assert len(findings.jumps(cut(*range(1, 2001))(sound()))) == 0


@pytest.mark.skipif(not REAL.is_dir(), reason="no real DSRL files at hand")
@pytest.mark.filterwarnings("ignore::sas_jax.data.dsrl.SubsetWarning")
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("SafetyAntRun-v0", 17),
        ("SafetyBallCircle-v0", 25),
        ("SafetyBallRun-v0", 0),
        ("SafetyCarCircle-v0", 24),
        ("SafetyCarRun-v0", 0),
        ("SafetyDroneCircle-v0", 17),
        ("SafetyDroneRun-v0", 28),
    ],
)
def test_what_real_data_show(name, count):
    """Counts taken by hand: the first step is 1.5 times any later one, or more."""
    data = dsrl.load(REAL / f"{name}.hdf5")
    step = np.abs(np.diff(data.observations, axis=0))
    is_first = np.zeros(len(step), bool)
    is_first[data.offsets[:-1]] = True
    inside = ~is_first
    inside[data.offsets[1:-1] - 1] = False
    largest = step[inside].max(0)
    assert (step[is_first] > 1.5 * largest).any(1).sum() == count
    assert len(findings.jumps(data)) == count
    found = {f.name for f in findings.look(data)}
    assert ("first-observations" in found) == (count > 0)
    # No column is constant but for what the task cannot change (BallRun's last).
    allowed = {"first-observations", "all-episodes-safe", "actions-outside-box"}
    assert found <= allowed
