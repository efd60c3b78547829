"""The controller of gymnasium's walkers; with gymnasium 1, that it does stand."""

import dataclasses
import os

import numpy as np
import pytest

from sas_jax.data import collect
from sas_jax.data.behaviours import standing
from sas_jax.envs.tasks import get_task
from sas_jax.errors import UserError
from sas_jax.files import results
from tests.helpers import small_flags
from tests.helpers.entry_points import succeeds

NAMES = ("Hopper", "Walker2d", "Humanoid")
WITH_GYMNASIUM_1 = pytest.mark.skipif(
    not os.environ.get("SAS_JAX_GYMNASIUM_PYTHON"),
    reason="needs gymnasium 1, in the Python that $SAS_JAX_GYMNASIUM_PYTHON names",
)
SMALL = (
    *small_flags.MODEL,
    *small_flags.PLAN,
    *small_flags.TRAINING,
    "--set=sas.num_first=2",
    "--set=sas.num_second=2",
    "--set=sas.horizon=8",
)
POLICY = "sas_jax.data.behaviours.standing:policy"


@pytest.mark.parametrize("name", NAMES)
def test_it_pulls_back_to_where_it_began(name, monkeypatch):
    task = get_task(name)
    body = dataclasses.replace(standing._BODIES[name], most_noise=0.0)
    monkeypatch.setitem(standing._BODIES, name, body)
    monkeypatch.setattr(standing, "_MOST_LEAN", 0.0)
    act = standing.policy(task, np.random.default_rng(0))
    still = np.zeros(task.obs_dim)
    np.testing.assert_array_equal(act(still), np.zeros(task.action_dim))
    for place in (body.angles, body.speeds):
        bent = still.copy()
        bent[place] = 0.1
        assert (act(bent) < 0).all() and act(bent).shape == (task.action_dim,)
    other = dataclasses.replace(task, name="Ant")
    with pytest.raises(UserError, match="Ant; expected one of Hopper"):
        standing.policy(other, np.random.default_rng(0))


@pytest.mark.slow
@WITH_GYMNASIUM_1
@pytest.mark.parametrize("name, least", [("Hopper", 200), ("Walker2d", 60)])
def test_it_stands_longer_than_chance(tmp_path, name, least):
    lengths = {}
    for policy in (POLICY, "random"):
        plan = collect.Plan(name, 8, seed=0, policy=policy)
        found = collect.collect(plan, tmp_path / f"{policy[:3]}.hdf5", workers=2)
        lengths[policy] = found.lengths.mean()
        np.testing.assert_array_equal(found.cost_returns(), found.terminated)
    assert lengths[POLICY] > max(least, 2 * lengths["random"])


@pytest.mark.slow
@WITH_GYMNASIUM_1
@pytest.mark.parametrize("name", NAMES)
def test_from_recording_to_a_table_with_all_variants(tmp_path, name):
    data, workdir, out = tmp_path / "d.hdf5", tmp_path / "run", tmp_path / "r.csv"
    succeeds(
        "collect", f"--task={name}", f"--policy={POLICY}", "--episodes=12",
        f"--out={data}",
    )  # fmt: skip
    succeeds("train", f"--data={data}", f"--workdir={workdir}", "--nocard", *SMALL)
    said = succeeds(
        "evaluate", f"--checkpoint={workdir}", "--variants=none,rand,sas,plan",
        "--episodes=3", f"--out={out}",
    )  # fmt: skip
    rows = results.read_results(out)
    assert len(rows) == 12 and "12 rows" in said
    assert {row.task for row in rows} == {name}
    # To fall is the only cost, and it ends the episode.
    assert all(row.failed == (row.cost > 0) == (row.length < 1000) for row in rows)
