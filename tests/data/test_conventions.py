"""Data by other names than DSRL's: the same episodes whatever the convention."""

import dataclasses

import numpy as np
import pytest

from sas_jax import data as data_lib
from sas_jax.data import conventions, dsrl, npz
from sas_jax.data.episodes import Episodes
from sas_jax.envs import tasks
from sas_jax.errors import UserError
from tests.helpers.dsrl_samples import as_dsrl, assert_same, make, save

HOPPER = tasks.get_task("Hopper")


def hopper(lengths=(30, 7, 13), seed=0) -> Episodes:
    """Episodes of Hopper: the second one falls, which is what costs there."""
    rng = np.random.default_rng(seed)
    steps = sum(lengths)
    ended = np.arange(len(lengths)) % 2 == 1
    costs = np.zeros(steps, np.float32)
    costs[np.cumsum(lengths)[ended] - 1] = 1.0
    return Episodes(
        task="Hopper",
        observations=rng.normal(size=(steps, 11)).astype(np.float32),
        actions=rng.uniform(-1, 1, (steps, 3)).astype(np.float32),
        rewards=rng.normal(size=steps).astype(np.float32),
        costs=costs,
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        final_observations=rng.normal(size=(len(lengths), 11)).astype(np.float32),
        terminated=ended,
    )


def d4rl(data: Episodes) -> dict:
    """As D4RL's MuJoCo files have it: no costs, infos beside the steps."""
    arrays = as_dsrl(data)
    del arrays["costs"]
    return arrays | {"infos/qpos": np.zeros((data.num_steps, 6))}


def test_d4rls_files_cost_what_the_task_says(tmp_path):
    data = hopper()
    path = save(tmp_path / "hopper_medium-v2.hdf5", d4rl(data), task=None)
    assert_same(dsrl.load(path, task="Hopper"), data)
    with pytest.raises(UserError, match="pass task="):
        dsrl.load(path)
    with pytest.raises(UserError, match="size 11 and actions of size 3, expected 60"):
        dsrl.load(path, task="PointGoal1")


def test_without_next_observations_the_last_step_of_a_timeout_is_dropped(tmp_path):
    data, arrays = hopper(), d4rl(hopper())
    del arrays["next_observations"]
    path = save(tmp_path / "a.hdf5", arrays, task="Hopper")
    with pytest.warns(dsrl.DataWarning, match="last step of 2 episodes that timed out"):
        loaded = dsrl.load(path)
    assert loaded.lengths.tolist() == [29, 7, 12]
    last = data.offsets[1:] - 1
    np.testing.assert_array_equal(loaded.final_observations, data.observations[last])
    assert loaded.costs.sum() == 1 and loaded.costs[29 + 6] == 1


def test_costs_in_infos_and_other_names(tmp_path):
    data = make()
    arrays = as_dsrl(data)
    other = {
        "obs": arrays["observations"],
        "next_obs": arrays["next_observations"],
        "action": arrays["actions"],
        "reward": arrays["rewards"][:, None],
        "infos/cost": arrays["costs"],
        "terminations": arrays["terminals"],
        "truncations": arrays["timeouts"],
        "unknown": np.zeros(3),
    }
    assert_same(conventions.from_dict(other, task="PointGoal1"), data)
    nested = dict(other)
    nested["infos"] = {"cost": nested.pop("infos/cost"), "text": "anything"}
    assert_same(conventions.from_dict(nested, task="PointGoal1"), data)
    path = save(tmp_path / "a.hdf5", other, task=None)
    assert_same(dsrl.load(path, task="PointGoal1"), data)


def test_npz_round_trip_and_its_faults(tmp_path):
    data, path = make(), tmp_path / "a.npz"
    npz.write(path, data)
    assert_same(data_lib.load(path), data)
    with pytest.raises(UserError, match="expected data of CarGoal1, but these are of"):
        data_lib.load(path, task="CarGoal1")
    np.savez(tmp_path / "b.npz", observations=np.zeros(3, object))
    for name, content, message in [
        ("b.npz", None, "cannot be read as an NPZ archive of plain arrays"),
        ("c.npz", b"nonsense", "cannot be read as an NPZ archive"),
        ("d.npz", path.read_bytes()[:5000], "cannot be read as an NPZ archive"),
        ("none.npz", None, "no such file"),
    ]:
        if content:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=message):
            data_lib.load(tmp_path / name, task="PointGoal1")


def test_a_list_of_episodes():
    data = make()
    arrays = as_dsrl(data)
    cuts = zip(data.offsets[:-1], data.offsets[1:], strict=True)
    parts = [{k: v[a:b] for k, v in arrays.items()} for a, b in cuts]
    for part in parts:
        del part["timeouts"]
    assert_same(data_lib.from_dict(parts, task="PointGoal1"), data)
    with pytest.raises(UserError, match="no episodes"):
        data_lib.from_dict([], task="PointGoal1")
    del parts[1]["rewards"]
    with pytest.raises(UserError, match="'rewards' is not alike in all episodes"):
        data_lib.from_dict(parts, task="PointGoal1")


def test_dones_alone_are_cut_by_the_time_limit():
    data = hopper(lengths=(1000, 7, 1000))
    arrays = d4rl(data)
    arrays["dones"] = arrays.pop("terminals") | arrays.pop("timeouts")
    with pytest.warns(dsrl.DataWarning, match="does not say why an episode ended"):
        assert_same(conventions.from_dict(arrays, task="Hopper"), data)


def test_terminals_alone_are_cut_by_the_time_limit():
    data = hopper(lengths=(1000, 7, 1000))
    arrays = d4rl(data)
    del arrays["timeouts"]
    assert_same(conventions.from_dict(arrays, task="Hopper"), data)


def test_a_cost_function_is_asked_for_recorded_steps(monkeypatch):
    monkeypatch.setattr(tasks, "TASKS", dict(tasks.TASKS))
    low = dataclasses.replace(HOPPER, name="Low", cost=f"{__name__}:low")
    tasks.TASKS["Low"] = low
    data = hopper()
    found = conventions.from_dict(d4rl(data), task="Low")
    after = as_dsrl(data)["next_observations"]
    np.testing.assert_array_equal(found.costs, after[:, 0] < 0)
    # Actions in the environment's own box, as in an episode.
    wide = {"cost": f"{__name__}:pushed", "action_range": ((-2.0, 2.0), *[(0, 4)] * 2)}
    tasks.TASKS["Low"] = dataclasses.replace(low, **wide)
    found = conventions.from_dict(d4rl(data), task="Low")
    expected = 2 * data.actions[:, 0] + (2 + 2 * data.actions[:, 1])
    np.testing.assert_allclose(found.costs, expected + 2, rtol=1e-5)
    tasks.TASKS["Low"] = dataclasses.replace(low, cost=f"{__name__}:of_info")
    with pytest.raises(UserError, match="raised KeyError .*where info is empty"):
        conventions.from_dict(d4rl(data), task="Low")


def low(obs, action, new, terminated, info):
    return new[0] < 0


def pushed(obs, action, new, terminated, info):
    return action[0] + action[1] + 2


def of_info(obs, action, new, terminated, info):
    return info["cost"]


def changed(name, value):
    arrays = as_dsrl(make())
    arrays[name] = value(arrays)
    return arrays


def without(name):
    arrays = as_dsrl(make())
    del arrays[name]
    return arrays


def flipped(arrays):
    dones = arrays["terminals"] | arrays["timeouts"]
    dones[4] = True
    return dones


@pytest.mark.parametrize(
    "arrays, message",
    [
        (without("costs"), "'costs' is missing; .*PointGoal1 has no rule"),
        (without("actions"), "'actions' is missing; keys present: costs"),
        (changed("cost", lambda a: a["costs"] + 1), "'costs' and 'cost' differ"),
        (changed("dones", flipped), r"'dones' and 'terminals' or .*1 rows \(first: 4"),
        (changed("lengths", lambda a: [10, 10]), "'lengths' make 20 steps, .* 50"),
        (changed("lengths", lambda a: [20, 30]), "'lengths' and the marks of ends"),
        (changed("lengths", lambda a: [20.5, 29.5]), "expected whole numbers"),
        (changed("timeouts", lambda a: a["timeouts"] * 2), "'timeouts' is 2 in row"),
        (changed("rewards", lambda a: a["rewards"][:-1]), "has 49 rows, expected 50"),
        (changed("actions", lambda a: [["a"]] * 50), "has type <U1"),
        (changed("actions", lambda a: [[1, 2], [3]]), "expected an array of numbers"),
        (
            changed("rewards", lambda a: a["rewards"] * np.nan),
            "rewards has nan in",
        ),
        (
            changed("next_observations", lambda a: a["observations"] + 1),
            "is not the next row's",
        ),
    ],
)
def test_contradictions_are_one_line(arrays, message):
    with pytest.raises(UserError, match=message) as caught:
        conventions.from_dict(arrays, task="PointGoal1", source="mine")
    assert "\n" not in str(caught.value)


def test_breaks_can_be_allowed():
    arrays = changed("next_observations", lambda a: a["observations"] + 1)
    with pytest.warns(dsrl.RowOrderWarning):
        conventions.from_dict(arrays, task="PointGoal1", allow_breaks=True)
