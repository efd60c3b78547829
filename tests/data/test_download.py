"""Finding and downloading DSRL files, with a hub that lives in the test."""

import json
import os
import pathlib
import pwd
import subprocess
import sys

import numpy as np
import pytest

from sas_jax.data import download, dsrl
from sas_jax.data.episodes import Episodes
from sas_jax.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore::sas_jax.data.dsrl.SubsetWarning")
ROOT = pathlib.Path(__file__).resolve().parents[2]
NAME = "SafetyPointGoal1Gymnasium-v0-100-2022.hdf5"


def tiny() -> Episodes:
    return Episodes(
        task="PointGoal1",
        observations=np.zeros((3, 60), np.float32),
        actions=np.zeros((3, 2), np.float32),
        rewards=np.ones(3, np.float32),
        costs=np.zeros(3, np.float32),
        offsets=np.array([0, 3]),
        final_observations=np.zeros((1, 60), np.float32),
        terminated=np.zeros(1, bool),
    )


@pytest.fixture
def home(tmp_path, monkeypatch):
    """No data anywhere: a new home, and no folder named in the environment."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DSRL_DATASET_DIR", raising=False)
    return tmp_path


class Hub:
    """Serves one file; counts what it is asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, name, folder):
        self.asked.append((name, folder))
        dsrl.write(folder / name, tiny())


def offline(name, folder):
    raise ConnectionError("Name or\nservice not known")


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("PointGoal1", NAME),
        ("CarCircle2", "SafetyCarCircle2Gymnasium-v0-400-940.hdf5"),
        ("PointCircle2", "SafetyPointCircle2Gymnasium-v0-300-895.hdf5"),
        ("BallCircle", "SafetyBallCircle-v0-80-886.hdf5"),
        ("HopperVelocity", "SafetyHopperVelocityGymnasium-v1-250-2240.hdf5"),
    ],
)
def test_file_names_are_dsrls(task, name):
    assert download.file_name(task) == name


def test_downloads_once_into_dsrls_folder(home):
    hub = Hub()
    path = download.locate("PointGoal1", fetch=hub)
    assert path == home / "home/.dsrl/datasets" / NAME
    assert download.locate("PointGoal1", fetch=offline) == path
    assert hub.asked == [(NAME, path.parent)]
    assert dsrl.load("PointGoal1").num_steps == 3
    record = json.loads((path.parent / f"{NAME}.sha256.json").read_text())
    assert record["size"] == path.stat().st_size and len(record["sha256"]) == 64
    assert dsrl.load("PointGoal1").num_steps == 3


def test_the_named_folder_comes_first(home, monkeypatch):
    download.locate("PointGoal1", fetch=Hub())
    monkeypatch.setenv("DSRL_DATASET_DIR", str(home / "mine"))
    # Not in the named folder, so the default one serves.
    assert ".dsrl" in str(download.locate("PointGoal1", fetch=offline))
    dsrl.write(home / "mine" / "SafetyPointGoal1Gymnasium-v0.hdf5", tiny())
    assert download.locate("PointGoal1", fetch=offline).parent == home / "mine"
    hub = Hub()
    assert download.locate("CarGoal1", fetch=hub).parent == home / "mine"


def test_other_tasks_files_do_not_match(home):
    folder = home / "home/.dsrl/datasets"
    dsrl.write(folder / "SafetyPointGoal12Gymnasium-v0-100-5.hdf5", tiny())
    with pytest.raises(UserError, match="no file"):
        download.locate("PointGoal1", fetch=offline)


@pytest.mark.parametrize("damage", ["shorter", "other bytes"])
def test_a_file_that_changed_is_noticed(home, damage):
    path = download.locate("PointGoal1", fetch=Hub())
    download.remember(path)
    content = bytearray(path.read_bytes())
    if damage == "shorter":
        content = content[:-1]
    else:
        content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="changed since its first use") as error:
        download.locate("PointGoal1", fetch=offline)
    assert "\n" not in str(error.value)
    (path.parent / f"{NAME}.sha256.json").unlink()
    assert download.locate("PointGoal1", fetch=offline) == path


def test_a_file_that_cannot_be_read_is_not_remembered(home):
    """So the repaired one is taken; a record of the broken one would refuse it."""
    path = download.locate("PointGoal1", fetch=Hub())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="truncated"):
        dsrl.load("PointGoal1")
    path.write_bytes(whole)
    assert dsrl.load("PointGoal1").num_steps == 3
    assert sorted(os.listdir(path.parent)) == [NAME, f"{NAME}.sha256.json"]


def test_a_user_without_a_home(home, monkeypatch):
    """In containers: neither $HOME nor an entry in the list of users."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    with pytest.raises(UserError, match="no home folder .*DSRL_DATASET_DIR"):
        download.locate("PointGoal1", fetch=Hub())
    monkeypatch.setenv("DSRL_DATASET_DIR", str(home / "mine"))
    assert download.locate("PointGoal1", fetch=Hub()).parent == home / "mine"


def test_an_unreadable_record_is_named(home):
    path = download.locate("PointGoal1", fetch=Hub())
    (path.parent / f"{NAME}.sha256.json").write_text('{"size": 3}')
    with pytest.raises(UserError, match="sha256.json: not a record"):
        download.locate("PointGoal1", fetch=offline)


def test_offline_says_in_one_line_what_to_do(home):
    with pytest.raises(UserError) as error:
        download.locate("PointGoal1", fetch=offline)
    message = str(error.value)
    for part in (NAME, ".dsrl/datasets", "$DSRL_DATASET_DIR", "YYY-45/DSRL"):
        assert part in message
    assert "experiments.collect --task=PointGoal1" in message and "\n" not in message


def test_a_download_that_leaves_nothing_is_an_error(home):
    with pytest.raises(UserError, match="left no file"):
        download.locate("PointGoal1", fetch=lambda name, folder: None)


def test_the_real_client_is_asked_for_the_right_file(home, monkeypatch):
    """Everything but the network: the call that huggingface_hub gets."""
    import huggingface_hub

    calls, asked = [], []
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", asked.append)

    def hf_hub_download(**kwargs):
        calls.append(kwargs)
        dsrl.write(kwargs["local_dir"] / kwargs["filename"], tiny())

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    path = download.locate("PointGoal1")
    assert calls == [
        {
            "repo_id": "YYY-45/DSRL",
            "filename": NAME,
            "repo_type": "dataset",
            "local_dir": path.parent,
        }
    ]
    (url,) = asked
    assert url.endswith(f"/datasets/YYY-45/DSRL/resolve/main/{NAME}")


@pytest.mark.slow
def test_without_a_network_the_real_client_fails_at_once_and_says_so_once(home):
    """A closed port of this machine in place of the hub; nothing leaves the machine."""
    script = (
        "from sas_jax.data import dsrl; from sas_jax.errors import UserError\n"
        "try: dsrl.load('PointGoal1')\n"
        "except UserError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"},
        timeout=60,
    )
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.count("\n") == 1 and "cannot be downloaded" in done.stdout


def test_unknown_task(home):
    with pytest.raises(UserError, match="did you mean 'PointGoal1'"):
        download.locate("PointGoal11", fetch=offline)
