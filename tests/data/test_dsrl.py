"""Reading and writing DSRL files: round trips, real files, and what bad input says."""

import os
import pathlib
import subprocess
import sys

import h5py
import numpy as np
import pytest

from sas_jax import data as data_lib
from sas_jax.data import dsrl
from sas_jax.errors import UserError
from tests.helpers.dsrl_samples import ROOT, as_dsrl, assert_same, make, save

REAL = pathlib.Path(
    os.environ.get("SAS_JAX_DSRL_SUBSET", ROOT / "../shared/data/dsrl_bullet_subset")
)


def test_write_then_load(tmp_path):
    data = make()
    dsrl.write(tmp_path / "deep/er/a.hdf5", data, {"seed": 3})
    assert_same(dsrl.load(tmp_path / "deep/er/a.hdf5"), data)
    assert os.listdir(tmp_path / "deep/er") == ["a.hdf5"]
    with h5py.File(tmp_path / "deep/er/a.hdf5") as file:
        assert file.attrs["seed"] == 3
        for key, value in as_dsrl(data).items():
            np.testing.assert_array_equal(file[key][()], value)


def test_written_bytes_depend_on_data_only(tmp_path):
    columns = {"risk": np.array([0.1, 0.2, 0.3]), "seed": np.arange(3)}
    for name in "ab":
        dsrl.write(tmp_path / name, make(), {"x": 1}, columns=columns)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    read = dsrl.read_columns(tmp_path / "a")
    assert list(read) == ["risk", "seed"]
    np.testing.assert_array_equal(read["risk"], columns["risk"])


def test_columns_need_a_row_per_episode(tmp_path):
    with pytest.raises(UserError, match="'risk' has 2 rows"):
        dsrl.write(tmp_path / "a.hdf5", make(), columns={"risk": np.zeros(2)})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("storage", [{}, {"compression": "gzip", "chunks": True}])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_any_float_type_and_layout(tmp_path, dtype, storage):
    arrays = as_dsrl(make())
    for key in ("observations", "next_observations", "actions", "rewards"):
        arrays[key] = arrays[key].astype(dtype)
    loaded = dsrl.load(save(tmp_path / "a.hdf5", arrays, **storage))
    expected = arrays["observations"].astype(np.float32)
    np.testing.assert_array_equal(loaded.observations, expected)
    assert loaded.observations.dtype == loaded.rewards.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_flags_and_costs_of_other_types(tmp_path, dtype):
    arrays = as_dsrl(make())
    for key in ("terminals", "timeouts", "costs"):
        arrays[key] = arrays[key].astype(dtype)
    assert_same(dsrl.load(save(tmp_path / "a.hdf5", arrays)), make())
    arrays["costs"] = arrays["costs"].astype(bool)
    assert_same(dsrl.load(save(tmp_path / "b.hdf5", arrays)), make())


def test_columns_for_vectors(tmp_path):
    arrays = {k: v[:, None] if v.ndim == 1 else v for k, v in as_dsrl(make()).items()}
    assert_same(dsrl.load(save(tmp_path / "a.hdf5", arrays)), make())


def test_blocks_smaller_than_the_data(tmp_path, monkeypatch):
    """Every block border must leave values, finals and error rows where they are."""
    data = make(lengths=(1, 1, 9, 40, 2))
    path = save(tmp_path / "a.hdf5", as_dsrl(data), chunks=True, compression="gzip")
    for block_bytes in (1, 1000, 5000):
        monkeypatch.setattr(dsrl, "_BLOCK_BYTES", block_bytes)
        assert_same(dsrl.load(path), data)


def test_trailing_incomplete_episode_is_dropped_with_a_warning(tmp_path):
    data = make()
    arrays = as_dsrl(data)
    arrays["timeouts"][-1] = False
    with pytest.warns(dsrl.IncompleteEpisodeWarning, match="last 13 of 50 steps"):
        loaded = dsrl.load(save(tmp_path / "a.hdf5", arrays))
    assert_same(loaded, data.select([0, 1]))


def test_task_from_file_name_or_argument(tmp_path):
    arrays = as_dsrl(make())
    name = "SafetyPointGoal1Gymnasium-v0-100-2022.hdf5"
    path = save(tmp_path / name, arrays, task=None)
    with pytest.warns(dsrl.SubsetWarning, match="3 episodes, a part of the 2022 in"):
        assert dsrl.load(path).task == "PointGoal1"
    path = save(tmp_path / "unnamed.hdf5", arrays, task=None)
    assert data_lib.load(path, task="SafetyPointGoal1-v0").task == "PointGoal1"
    with pytest.raises(UserError, match="pass task="):
        dsrl.load(path)
    with pytest.raises(UserError, match="expected 72 and 2 for CarGoal1"):
        dsrl.load(path, task="CarGoal1")


GOAL2 = "SafetyPointGoal2Gymnasium-v0-200-3442.hdf5"


@pytest.mark.parametrize(
    ("name", "attribute", "asked", "expected"),
    [
        ("a.hdf5", "PointGoal2", None, "PointGoal2"),
        ("a.hdf5", "PointGoal2", "PointGoal2", "PointGoal2"),
        ("a.hdf5", "SafetyPointGoal2-v0", "pointgoal2", "PointGoal2"),
        (GOAL2, None, None, "PointGoal2"),
        (GOAL2, "PointGoal1", "PointGoal1", "PointGoal1"),  # settles the difference
        ("a.hdf5", "my maze", "PointGoal1", "PointGoal1"),
        ("a.hdf5", "PointGoal2", "PointGoal1", "of PointGoal1, .* PointGoal2 by its a"),
        (GOAL2, None, "PointGoal1", "of PointGoal1, .* PointGoal2 by its file name"),
        (GOAL2, "PointGoal1", None, "PointGoal1 by its attribute .* and PointGoal2 by"),
        (GOAL2, "PointGoal1", "PointPush1", "expected data of PointPush1"),
        ("a.hdf5", "my maze", None, "attribute 'task': unknown task 'my maze'"),
    ],
)
@pytest.mark.filterwarnings("ignore::sas_jax.data.dsrl.SubsetWarning")
def test_the_task_is_what_the_data_say(tmp_path, name, attribute, asked, expected):
    """Both tasks have the same sizes, so nothing else could tell them apart."""
    path = save(tmp_path / name, as_dsrl(make()), task=attribute)
    if expected in ("PointGoal1", "PointGoal2"):
        assert dsrl.load(path, task=asked).task == expected
    else:
        with pytest.raises(UserError, match=expected) as error:
            dsrl.load(path, task=asked)
        assert "\n" not in str(error.value) and name in str(error.value)


def test_a_looked_up_task_and_another_argument():
    with pytest.raises(UserError, match="PointGoal2 were asked for, but task=PointG"):
        dsrl.load("PointGoal2", task="PointGoal1")


def test_flags_that_are_set_twice_are_named(tmp_path):
    arrays = as_dsrl(make())
    arrays["terminals"] = arrays["terminals"] | arrays["timeouts"]
    with pytest.warns(dsrl.DataWarning, match="2 of 3 episodes end by 'terminals' and"):
        dsrl.load(save(tmp_path / "a.hdf5", arrays))


def change(key, make_value):
    def apply(arrays):
        arrays[key] = make_value(arrays[key])

    return apply


def put(key, index, value):
    def apply(arrays):
        arrays[key] = arrays[key].copy()
        arrays[key][index] = value

    return apply


BAD = {
    "missing": (lambda a: a.pop("costs"), "'costs' is missing; keys present: actions"),
    "group": (change("costs", lambda v: None), "'costs' is a group"),
    "rank": (
        change("rewards", lambda v: np.stack([v, v], 1)),
        r"'rewards' has shape \(50, 2\)",
    ),
    "flat": (change("actions", np.ravel), r"'actions' has shape \(100,\)"),
    "no columns": (change("actions", lambda v: v[:, :0]), r"shape \(50, 0\)"),
    "short": (
        change("actions", lambda v: v[:-1]),
        "'actions' has 49 rows, expected 50",
    ),
    "width": (
        change("next_observations", lambda v: v[:, 1:]),
        "59 columns, expected 60",
    ),
    "other size": (
        lambda a: a.update(
            observations=a["observations"][:, :9],
            next_observations=a["observations"][:, :9],
        ),
        "size 9 .*expected 60 and 2 for PointGoal1",
    ),
    "scalar": (change("costs", lambda v: np.float32(1)), r"has shape \(\)"),
    "text": (
        change("rewards", lambda v: [b"x"] * len(v)),
        "'rewards' has type .*numbers",
    ),
    "complex": (change("rewards", lambda v: v + 0j), "type complex64"),
    "nan": (put("observations", (31, 7), np.nan), "nan in row 31, column 7"),
    "inf": (put("costs", 44, np.inf), "'costs' is inf in row 44;"),
    "nan next": (
        put("next_observations", (2, 0), np.nan),
        "'next_observations' is nan",
    ),
    "too large": (
        change("rewards", lambda v: v.astype(np.float64) * 1e300),
        "'rewards' is -?inf in row 0",
    ),
    "huge": (
        put("observations", (7, 30), 1e30),
        r"'observations' is 1e\+30 in row 7, column 30; expected finite",
    ),
    "negative and huge": (put("rewards", 7, -1e11), r"-1e\+11 in row 7;"),
    "flag": (change("terminals", lambda v: v * 3), "'terminals' is 3 in row 36"),
    "no end": (change("timeouts", np.zeros_like), "no complete episode"),
    "empty": (lambda a: a.update({k: v[:0] for k, v in a.items()}), "no complete"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_content_is_one_line(tmp_path, case):
    damage, message = BAD[case]
    data = make()
    if case == "no end":  # neither flag is ever set
        data.terminated[:] = False
    arrays = as_dsrl(data)
    damage(arrays)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.attrs["task"] = np.bytes_("PointGoal1")
        for key, value in arrays.items():
            if value is None:
                file.create_group(key)
            else:
                file.create_dataset(key, data=value)
    with pytest.raises(UserError, match=message) as error:
        dsrl.load(tmp_path / "a.hdf5")
    assert "\n" not in str(error.value) and "a.hdf5" in str(error.value)


def test_bad_files(tmp_path):
    good = save(tmp_path / "good.hdf5", as_dsrl(make()))
    content = good.read_bytes()
    (tmp_path / "text.hdf5").write_text("observations")
    (tmp_path / "empty.hdf5").write_bytes(b"")
    (tmp_path / "cut.hdf5").write_bytes(content[: len(content) // 2])
    for name, message in {
        "absent.hdf5": "no such file",
        "": "is a folder",
        "text.hdf5": "not an HDF5 file",
        "empty.hdf5": "not an HDF5 file",
        "cut.hdf5": "truncated",
    }.items():
        with pytest.raises(UserError, match=message) as error:
            dsrl.load(tmp_path / name)
        assert "\n" not in str(error.value)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.hdf5"
    dsrl.write(path, make())
    before = path.read_bytes()

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dsrl, "_next_observations", fail)
    with pytest.raises(UserError, match="No space left"):
        dsrl.write(path, make(seed=1))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.hdf5"]


def test_unknown_task_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'PointGoal1'"):
        dsrl.load("PointGaol1")


# VmHWM, not getrusage: that one remembers the parent's peak across fork and exec.
MEMORY = """
import sys
from sas_jax.data import dsrl
from sas_jax.envs import tasks
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(x for x in lines if x.startswith("VmHWM")).split()[1])
before = peak()
data = dsrl.load(sys.argv[1])
assert "jax" not in sys.modules
print((peak() - before) / data.nbytes)
"""


@pytest.mark.slow
def test_peak_memory_is_that_of_the_arrays(tmp_path):
    """Stored as float64 with next_observations: four times what is kept."""
    data = make(lengths=(1000,) * 200)
    arrays = as_dsrl(data)
    arrays = {
        k: v if v.dtype == bool else v.astype(np.float64) for k, v in arrays.items()
    }
    path = save(tmp_path / "a.hdf5", arrays)
    ratio = subprocess.run(
        [sys.executable, "-c", MEMORY, path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ratio.returncode == 0, ratio.stderr
    # 48 MB of arrays; two blocks and HDF5's own buffers are 8 MB more at this size.
    assert float(ratio.stdout) < 1.35


@pytest.mark.skipif(not REAL.is_dir(), reason="no real DSRL files at hand")
@pytest.mark.parametrize(
    ("name", "task", "episodes", "length"),
    [
        ("SafetyAntRun-v0", "AntRun", 26, 200),
        ("SafetyBallCircle-v0", "BallCircle", 27, 200),
        ("SafetyBallRun-v0", "BallRun", 25, 100),
        ("SafetyCarCircle-v0", "CarCircle", 28, 300),
        ("SafetyCarRun-v0", "CarRun", 33, 200),
        ("SafetyDroneCircle-v0", "DroneCircle", 32, 300),
        ("SafetyDroneRun-v0", "DroneRun", 29, 200),
    ],
)
def test_real_dsrl_files(name, task, episodes, length):
    with pytest.warns(dsrl.SubsetWarning, match=f"{episodes} episodes, a part of"):
        data = dsrl.load(REAL / f"{name}.hdf5")  # no break in the order of its rows
    assert data.task == task
    np.testing.assert_array_equal(data.lengths, np.full(episodes, length))
    assert not data.terminated.any()
    with h5py.File(REAL / f"{name}.hdf5") as file:
        for key in ("observations", "actions", "rewards", "costs"):
            np.testing.assert_array_equal(getattr(data, key), file[key][()])
        finals = file["next_observations"][length - 1 :: length]
    np.testing.assert_array_equal(data.final_observations, finals)
