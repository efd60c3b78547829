"""What is read off a data set: the lidars' common scales, and what they show."""

import json
import math

import numpy as np
import pytest

from sas_jax.data import spec as spec_lib
from sas_jax.data.episodes import Episodes
from sas_jax.envs.lean import lidar as lean_lidar
from sas_jax.envs.tasks import TASKS
from sas_jax.errors import UserError

STEPS = 400
LEVEL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def lidars(rng, objects):
    """Readings `[STEPS, 16]` of so many objects at random places."""
    rows = []
    for _ in range(STEPS):
        angle, distance = rng.uniform(0, 2 * math.pi, objects), rng.uniform(0.2, 3.5)
        points = [(distance * math.cos(a), distance * math.sin(a)) for a in angle]
        rows.append(lean_lidar.scan(points, (0.0, 0.0, 0.0), LEVEL, 3.0))
    return np.array(rows, np.float32)


@pytest.fixture(scope="module")
def spec():
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(STEPS, 60)).astype(np.float32)
    groups = TASKS["PointGoal1"].obs_groups
    for name, objects in (("goal", 1), ("hazards", 3), ("vases", 1)):
        obs[:, groups[f"{name}_lidar"]] = lidars(rng, objects)
    return spec_lib.from_episodes(episodes_of(obs)), obs


def episodes_of(obs):
    """One episode of these observations."""
    rng = np.random.default_rng(1)
    return Episodes(
        task="PointGoal1",
        observations=obs,
        actions=rng.uniform(-1, 1, (STEPS, 2)).astype(np.float32),
        rewards=rng.normal(size=STEPS).astype(np.float32),
        costs=np.zeros(STEPS, np.float32),
        offsets=np.array([0, STEPS], np.int64),
        final_observations=obs[-1:],
        terminated=np.zeros(1, bool),
    )


def test_lidars_have_one_scale_and_tell_whether_they_show_one_object(spec):
    spec, obs = spec
    assert spec.rings == ((12, 16), (28, 16), (44, 16))
    assert spec.ring_single == (True, False, True)
    for (first, size), (mean, std) in zip(spec.rings, spec.ring_scales, strict=True):
        bins = obs[:, first : first + size]
        np.testing.assert_allclose([mean, std], [bins.mean(), bins.std()], rtol=1e-4)
        assert (spec.obs_mean[first : first + size] == np.float32(mean)).all()


@pytest.mark.parametrize("constant", [[12], [13, 20], range(12, 28)])
def test_bins_that_never_vary_do_not_ruin_their_lidar_s_scale(spec, constant):
    """The first bin stood for all, with the 1 that constant columns have."""
    _, obs = spec
    obs = obs.copy()
    obs[:, list(constant)] = 0.0
    found = spec_lib.from_episodes(episodes_of(obs))
    first, size = found.rings[0]
    bins = obs[:, first : first + size]
    np.testing.assert_array_equal(
        found.obs_active[first : first + size], bins.std(0) > 0
    )
    std = bins.std() if bins.any() else 1.0
    np.testing.assert_allclose(found.ring_scales[0], [bins.mean(), std], rtol=1e-4)
    np.testing.assert_allclose(found.obs_std[first : first + size], std, rtol=1e-4)


def test_round_trip_and_what_older_files_lack(spec):
    values = json.loads(json.dumps(spec[0].to_json()))
    again = spec_lib.DataSpec.from_json(values)
    assert again.ring_single == (True, False, True)
    assert again.to_json() == spec[0].to_json()
    del values["ring_single"]
    assert spec_lib.DataSpec.from_json(values).ring_single == ()
    del values["rings"], values["task"]
    with pytest.raises(UserError, match="'task'"):
        spec_lib.DataSpec.from_json(values)
